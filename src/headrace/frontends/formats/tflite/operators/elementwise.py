# SPDX-License-Identifier: Apache-2.0
"""Functions of two and more tensors of one shape, or that broadcast."""

from __future__ import annotations

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.common_operators import aligned
from headrace.frontends.formats.tflite.build import Operation, converts

_BINARY = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow",
    "EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or",
}  # fmt: skip


@converts(*_BINARY)
def binary(operation: Operation) -> None:
    inputs = aligned(operation)
    operation.done(operation.activated(operation.emit(_BINARY[operation.name], inputs)))


@converts("NOT_EQUAL")
def differ(operation: Operation) -> None:
    operation.done(operation.emit("Not", [operation.emit("Equal", aligned(operation))]))


@converts("ZEROS_LIKE")
def zeros(operation: Operation) -> None:
    operation.done(operation.emit("Sub", [operation.value(0), operation.value(0)]))


@converts("ADD_N")
def add_n(operation: Operation) -> None:
    operation.done(operation.emit("Sum", [operation.value(i) for i in range(len(operation.record.inputs))]))


@converts("FLOOR_MOD")
def remainder(operation: Operation) -> None:
    operation.done(common.remainder(operation))


@converts("FLOOR_DIV")
def whole_quotient(operation: Operation) -> None:
    operation.done(common.whole_quotient(operation))


@converts("SQUARED_DIFFERENCE")
def squared_difference(operation: Operation) -> None:
    operation.done(common.squared_difference(operation))


@converts("SELECT", "SELECT_V2")
def select(operation: Operation) -> None:
    common.select(operation, operation.name == "SELECT")


@converts("BITWISE_XOR")
def bits_unlike(operation: Operation) -> None:
    operation.done(operation.emit("BitwiseXor", aligned(operation)))
