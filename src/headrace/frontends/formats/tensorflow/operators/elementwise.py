# SPDX-License-Identifier: Apache-2.0
"""Functions of two and more tensors of one shape, or that broadcast; comparisons and choices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.common_operators import aligned
from headrace.frontends.formats.tensorflow.build import ONNX_TYPES, Operation, converts
from headrace.frontends.formats.tensorflow.operators.spectrum import complex_product, has_complex
from headrace.frontends.graph import constant

_BINARY = {
    "Add": "Add", "AddV2": "Add", "Sub": "Sub", "RealDiv": "Div", "Maximum": "Max", "Minimum": "Min",
    "Pow": "Pow", "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less",
    "LessEqual": "LessOrEqual", "LogicalAnd": "And", "LogicalOr": "Or",
}  # fmt: skip


@converts(*_BINARY)
def binary(operation: Operation) -> None:
    operation.done(operation.emit(_BINARY[operation.name], aligned(operation)))


@converts("Mul")
def product(operation: Operation) -> None:
    if has_complex(operation):
        complex_product(operation)
    else:
        operation.done(operation.emit("Mul", aligned(operation)))


@converts("Div", "TruncateDiv")
def quotient(operation: Operation) -> None:
    operation.done(operation.emit("Div", aligned(operation)))


@converts("NotEqual")
def differ(operation: Operation) -> None:
    operation.done(operation.emit("Not", [operation.emit("Equal", aligned(operation))]))


@converts("LogicalXor")
def either(operation: Operation) -> None:
    operation.done(operation.emit("Xor", aligned(operation)))


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


@converts("FloorMod", "Mod")
def remainder(operation: Operation) -> None:
    operation.done(common.remainder(operation))


@converts("FloorDiv")
def whole_quotient(operation: Operation) -> None:
    operation.done(common.whole_quotient(operation))


@converts("SquaredDifference")
def squared_difference(operation: Operation) -> None:
    operation.done(common.squared_difference(operation))


@converts("Select", "SelectV2")
def select(operation: Operation) -> None:
    common.select(operation, operation.name == "Select")


@converts("ArgMax", "ArgMin")
def place_of_extreme(operation: Operation) -> None:
    kind = operation.attributes.type("output_type", "int64")
    common.place_of_extreme(operation, operation.name, ir.DataType(ONNX_TYPES.get(kind, ONNX_TYPES["int64"])))


@converts("Cumsum", "Cumprod")
def running_total(operation: Operation) -> None:
    exclusive, reverse = (operation.attributes.flag(key) for key in ("exclusive", "reverse"))
    common.running_total(operation, f"Cum{operation.name[3:].capitalize()}", exclusive, reverse)


@converts("OneHot")
def one_hot(operation: Operation) -> None:
    common.one_hot(operation, operation.attributes.integer("axis", -1))


@converts("TopKV2")
def largest(operation: Operation) -> None:
    common.largest(operation, operation.attributes.flag("sorted", True))


@converts("TruncateMod")
def truncated_remainder(operation: Operation) -> None:
    operation.done(operation.emit("Mod", aligned(operation), {"fmod": 1}))


@converts("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def of_bits(operation: Operation) -> None:
    operation.done(operation.emit(operation.name, aligned(operation)))


@converts("MulNoNan", "Xdivy", "Xlogy", "Xlog1py")
def zero_where_zero(operation: Operation) -> None:
    """0 where the operand that counts is 0, whatever the other one is."""
    a, b = aligned(operation)
    zero = operation.number(0)
    made = {"Xlogy": "Log", "Xlog1py": "Log"}.get(operation.name)
    other = operation.emit("Add", [b, operation.number(1)]) if operation.name == "Xlog1py" else b
    other = operation.emit(made, [other]) if made else other
    result = operation.emit("Div" if operation.name == "Xdivy" else "Mul", [a, other])
    counts = b if operation.name == "MulNoNan" else a
    operation.done(operation.emit("Where", [operation.emit("Equal", [counts, zero]), zero, result]))


@converts("IsFinite")
def finite(operation: Operation) -> None:
    value = operation.value(0)
    wrong = operation.emit("Or", [operation.emit("IsNaN", [value]), operation.emit("IsInf", [value])])
    operation.done(operation.emit("Not", [wrong]))


@converts("TopK")
def largest_of_a_known_number(operation: Operation) -> None:
    count = operation.list([operation.attributes.integer("k", 1)])
    ordered = {"axis": -1, "largest": 1, "sorted": int(operation.attributes.flag("sorted", True))}
    values, where = operation.emit_all("TopK", [operation.value(0), count], ordered, 2)
    operation.done(values, operation.cast(where, "int32"))
