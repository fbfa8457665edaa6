# SPDX-License-Identifier: Apache-2.0
"""Functions of two and more tensors of one shape, or that broadcast."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts

_BINARY = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow",
    "EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or",
}  # fmt: skip


def _aligned(operation: Operation) -> list[ir.Value]:
    """Two operands of one rank: as in numpy, dimensions are counted from the last, and here the batch stays first."""
    inputs = [operation.value(0), operation.value(1)]
    shapes = [operation.tensor(i).shape for i in range(2)]
    rank = max(len(shape) for shape in shapes)
    for index, shape in enumerate(shapes):
        if 1 < len(shape) < rank and shape[0] in (1, -1) and not operation.is_constant(index):
            sizes = operation.list([shape[0], *[1] * (rank - len(shape)), *shape[1:]])
            inputs[index] = operation.emit("Reshape", [inputs[index], sizes], glue=True)
    return inputs


@converts(*_BINARY)
def binary(operation: Operation) -> None:
    inputs = _aligned(operation)
    operation.done(operation.activated(operation.emit(_BINARY[operation.name], inputs)))


@converts("NOT_EQUAL")
def differ(operation: Operation) -> None:
    operation.done(operation.emit("Not", [operation.emit("Equal", _aligned(operation))]))


@converts("FLOOR_MOD")
def remainder(operation: Operation) -> None:
    operation.done(operation.emit("Mod", _aligned(operation)))


@converts("FLOOR_DIV")
def whole_quotient(operation: Operation) -> None:
    """(a - a mod b) / b, which is a whole number for integers and floats alike."""
    a, b = _aligned(operation)
    operation.done(operation.emit("Div", [operation.emit("Sub", [a, operation.emit("Mod", [a, b])]), b]))


@converts("ZEROS_LIKE")
def zeros(operation: Operation) -> None:
    operation.done(operation.emit("Sub", [operation.value(0), operation.value(0)]))


@converts("ADD_N")
def add_n(operation: Operation) -> None:
    operation.done(operation.emit("Sum", [operation.value(i) for i in range(len(operation.record.inputs))]))


@converts("SQUARED_DIFFERENCE")
def squared_difference(operation: Operation) -> None:
    difference = operation.emit("Sub", [operation.value(0), operation.value(1)])
    operation.done(operation.emit("Mul", [difference, difference]))


@converts("SELECT", "SELECT_V2")
def select(operation: Operation) -> None:
    operation.done(operation.emit("Where", [operation.value(i) for i in range(3)]))
