# SPDX-License-Identifier: Apache-2.0
"""Functions of two and more tensors of one shape, or that broadcast; comparisons and choices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.graph import constant

_BINARY = {
    "Add": "Add", "AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div", "Maximum": "Max", "Minimum": "Min",
    "Pow": "Pow", "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less",
    "LessEqual": "LessOrEqual", "LogicalAnd": "And", "LogicalOr": "Or",
}  # fmt: skip


def aligned(operation: Operation) -> list[ir.Value]:
    """Two operands of one rank: as in numpy, dimensions are counted from the last, and here the batch stays first."""
    inputs = operation.values(0, 2)
    shapes = [operation.builder.shape_of(v) for v in inputs]
    rank = max((len(s) for s in shapes if s is not None), default=0)
    for index, shape in enumerate(shapes):
        if shape is None or not 1 < len(shape) < rank or shape[0] != 1 or operation.is_constant(index):
            continue
        if None in shape:
            continue
        sizes = operation.list([1] * (rank - len(shape)) + [int(s or 0) for s in shape])
        inputs[index] = operation.emit("Reshape", [inputs[index], sizes], glue=True)
    return inputs


@converts(*_BINARY)
def binary(operation: Operation) -> None:
    operation.done(operation.emit(_BINARY[operation.name], aligned(operation)))


@converts("Div", "TruncateDiv")
def quotient(operation: Operation) -> None:
    operation.done(operation.emit("Div", aligned(operation)))


@converts("NotEqual")
def differ(operation: Operation) -> None:
    operation.done(operation.emit("Not", [operation.emit("Equal", aligned(operation))]))


@converts("LogicalXor")
def either(operation: Operation) -> None:
    operation.done(operation.emit("Xor", aligned(operation)))


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (None, ir.DataType.FLOAT, ir.DataType.DOUBLE) and value.const_value is None


@converts("FloorMod", "Mod")
def remainder(operation: Operation) -> None:
    a, b = aligned(operation)
    if _is_float(a) or _is_float(b):  # a - floor(a / b) · b
        whole = operation.emit("Floor", [operation.emit("Div", [a, b])])
        operation.done(operation.emit("Sub", [a, operation.emit("Mul", [whole, b])]))
        return
    operation.done(operation.emit("Mod", [a, b]))


@converts("FloorDiv")
def whole_quotient(operation: Operation) -> None:
    """The floor of the quotient; (a - a mod b) / b, which is a whole number, of constants and integers."""
    a, b = aligned(operation)
    if _is_float(a) or _is_float(b):
        operation.done(operation.emit("Floor", [operation.emit("Div", [a, b])]))
        return
    operation.done(operation.emit("Div", [operation.emit("Sub", [a, operation.emit("Mod", [a, b])]), b]))


@converts("DivNoNan")
def safe_quotient(operation: Operation) -> None:
    """By a constant without zeros a plain quotient; else zeros are chosen where the divisor is zero, as TFLite does."""
    a, b = aligned(operation)
    quotient = operation.emit("Div", [a, b])
    divisor = constant(b)
    if divisor is None or not divisor.all():
        zero = operation.make(np.zeros((), np.float32))
        quotient = operation.emit("Where", [operation.emit("Equal", [b, zero]), zero, quotient])
    operation.done(quotient)


@converts("AddN")
def add_n(operation: Operation) -> None:
    operation.done(operation.emit("Sum", operation.values()))


@converts("AccumulateNV2")
def accumulate(operation: Operation) -> None:
    operation.done(operation.emit("Sum", operation.values()))


@converts("SquaredDifference")
def squared_difference(operation: Operation) -> None:
    difference = operation.emit("Sub", aligned(operation))
    operation.done(operation.emit("Mul", [difference, difference]))


@converts("SelectV2")
def select(operation: Operation) -> None:
    operation.done(operation.emit("Where", operation.values(0, 3)))


@converts("Select")
def select_rows(operation: Operation) -> None:
    """A condition of rank 1 chooses rows; one of the same rank, or a number, elements."""
    inputs = operation.values(0, 3)
    rank = operation.rank(1)
    if operation.rank(0) == 1 and rank > 1:
        axes = operation.list(range(1, rank))
        inputs[0] = operation.emit("Unsqueeze", [inputs[0], axes], glue=True)
    operation.done(operation.emit("Where", inputs))


@converts("ArgMax", "ArgMin")
def extreme_index(operation: Operation) -> None:
    axis = operation.axis(1) if operation.has(1) else 0
    made = operation.emit(operation.name, [operation.value(0)], {"axis": axis, "keepdims": 0})
    kind = operation.attributes.type("output_type", "int64")
    operation.done(made if kind == "int64" else operation.cast(made, kind))


@converts("Cumsum")
def cumulate(operation: Operation) -> None:
    attributes = {key: int(operation.attributes.flag(key)) for key in ("exclusive", "reverse")}
    axis = operation.make(operation.array(1, "the axis").reshape(()))
    operation.done(operation.emit("CumSum", [operation.value(0), axis], attributes))


@converts("OneHot")
def one_hot(operation: Operation) -> None:
    indices, depth, on, off = operation.values(0, 4)
    both = [operation.emit("Unsqueeze", [v, operation.list([0])], glue=True) for v in (off, on)]
    values = operation.emit("Concat", both, {"axis": 0}, glue=True)
    operation.done(
        operation.emit("OneHot", [indices, depth, values], {"axis": operation.attributes.integer("axis", -1)})
    )


@converts("TopKV2")
def largest(operation: Operation) -> None:
    count = operation.list(operation.integers(1, "k")[:1])
    ordered = {"axis": -1, "largest": 1, "sorted": int(operation.attributes.flag("sorted", True))}
    values, indices = operation.emit_all("TopK", [operation.value(0), count], ordered, 2)
    operation.done(values, operation.cast(indices, "int32"))
