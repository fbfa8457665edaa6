# SPDX-License-Identifier: Apache-2.0
"""Operators of StableHLO that a converter leaves as they are: their shapes are static, and nothing broadcasts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.schema import NUMPY_TYPES
from headrace.frontends.graph import Unsupported

_PLAIN = {
    "ABS": "Abs", "ADD": "Add", "AND": "And", "COSINE": "Cos", "DIVIDE": "Div", "EXPONENTIAL": "Exp", "FLOOR": "Floor",
    "LOG": "Log", "LOGISTIC": "Sigmoid", "MAXIMUM": "Max", "MINIMUM": "Min", "MULTIPLY": "Mul", "NEGATE": "Neg",
    "OR": "Or", "POWER": "Pow", "SELECT": "Where", "SUBTRACT": "Sub", "TANH": "Tanh",
}  # fmt: skip
_DIRECTIONS = ("Equal", "NotEqual", "GreaterOrEqual", "Greater", "LessOrEqual", "Less")

converts("STABLEHLO_RSQRT")(common.reciprocal_root)


@converts(*(f"STABLEHLO_{name}" for name in _PLAIN))
def plain(operation: Operation) -> None:
    """And, Or of integers are of their bits."""
    name = _PLAIN[operation.name.removeprefix("STABLEHLO_")]
    bits = name in ("And", "Or") and operation.tensor(0).type != "bool"
    operation.done(operation.emit(f"Bitwise{name}" if bits else name, operation.values()))


@converts("STABLEHLO_REMAINDER")
def remainder(operation: Operation) -> None:
    """With the sign of the first."""
    operation.done(operation.emit("Mod", operation.values(), {"fmod": 1}))


@converts("STABLEHLO_CBRT")
def cube_root(operation: Operation) -> None:
    value = operation.value(0)
    root = operation.emit("Pow", [operation.emit("Abs", [value]), operation.number(1 / 3)])
    operation.done(operation.emit("Mul", [operation.emit("Sign", [value]), root]))


@converts("STABLEHLO_CLAMP")
def clamp(operation: Operation) -> None:
    """Least, operand, most."""
    low = operation.emit("Max", [operation.value(1), operation.value(0)])
    operation.done(operation.emit("Min", [low, operation.value(2)]))


@converts("STABLEHLO_COMPARE")
def compare(operation: Operation) -> None:
    number = operation.integer("direction")
    if not 0 <= number < len(_DIRECTIONS):
        raise Unsupported(f"comparison {number}", f"0 to {len(_DIRECTIONS) - 1}")
    if _DIRECTIONS[number] == "NotEqual":
        operation.done(operation.emit("Not", [operation.emit("Equal", operation.values())]))
        return
    operation.done(operation.emit(_DIRECTIONS[number], operation.values()))


@converts("STABLEHLO_CONVERT")
def convert(operation: Operation) -> None:
    made = operation.made(0).type
    kind = {"bfloat16": "float32", "float16": "float32"}.get(made, made)
    if kind not in NUMPY_TYPES:
        raise Unsupported(f"a conversion to {made}", "a numeric type")
    operation.done(operation.emit("Cast", [operation.value(0)], {"to": int(ir.DataType.from_numpy(NUMPY_TYPES[kind]))}))


@converts("STABLEHLO_RESHAPE")
def reshape(operation: Operation) -> None:
    sizes = [-1 if s < 0 else s for s in operation.made(0).shape]
    operation.done(
        operation.emit("Reshape", [operation.value(0), operation.list(sizes)], {"allowzero": int(-1 not in sizes)})
    )


@converts("STABLEHLO_TRANSPOSE")
def transpose(operation: Operation) -> None:
    operation.done(operation.emit("Transpose", [operation.value(0)], {"perm": operation.whole_numbers("order")}))


@converts("STABLEHLO_CONCATENATE")
def concatenation(operation: Operation) -> None:
    operation.done(operation.emit("Concat", operation.values(), {"axis": operation.integer("axis")}))


@converts("STABLEHLO_SLICE")
def cut(operation: Operation) -> None:
    begin, end, strides = (operation.whole_numbers(key) for key in ("begin", "end", "strides"))
    rank = operation.rank(0)
    strides = strides or [1] * rank
    if not len(begin) == len(end) == len(strides) == rank or min(strides, default=1) < 1:
        raise Unsupported(f"begin {begin}, end {end} and strides {strides}", f"{rank} of each")
    edges = [operation.list(e) for e in (begin, end, range(rank), strides)]
    operation.done(operation.emit("Slice", [operation.value(0), *edges]))


@converts("STABLEHLO_PAD")
def pad(operation: Operation) -> None:
    low, high, interior = (operation.whole_numbers(key) for key in ("low", "high", "interior"))
    if any(interior) or len(low) != operation.rank(0) or len(high) != len(low):
        raise Unsupported(f"padding {low}, {high} with {interior} between", "padding around the tensor")
    inputs = [operation.value(0), operation.list([*low, *high]), operation.value(1)]
    operation.done(operation.emit("Pad", inputs, {"mode": "constant"}))


@converts("STABLEHLO_BROADCAST_IN_DIM")
def broadcast(operation: Operation) -> None:
    """Each dimension of the operand is one of the result."""
    shape, places = operation.made(0).shape, operation.whole_numbers("dimensions")
    own = operation.shape(0)
    if len(places) != len(own) or sorted(set(places)) != places or any(not 0 <= p < len(shape) for p in places):
        raise Unsupported(f"dimensions {places} of a tensor of shape {own}", "rising dimensions of the result")
    if min(shape, default=1) < 0:
        raise Unsupported("the file leaves sizes of its result open", "known sizes")
    placed = [own[places.index(d)] if d in places else 1 for d in range(len(shape))]
    value = operation.emit("Reshape", [operation.value(0), operation.list(placed)], {"allowzero": 1})
    operation.done(operation.emit("Expand", [value, operation.list(shape)]))


@converts("STABLEHLO_IOTA")
def iota(operation: Operation) -> None:
    """Places along one dimension."""
    shape, axis, kind = operation.made(0).shape, operation.integer("axis"), operation.made(0).type
    if not 0 <= axis < len(shape) or min(shape) < 0 or kind not in NUMPY_TYPES:
        raise Unsupported(f"places along dimension {axis} of shape {list(shape)}", "known sizes")
    line = np.arange(shape[axis]).astype(NUMPY_TYPES[kind].newbyteorder("="))
    column = operation.make(line.reshape([-1 if d == axis else 1 for d in range(len(shape))]))
    operation.done(operation.emit("Expand", [column, operation.list(shape)]))


@converts("STABLEHLO_DOT_GENERAL")
def product(operation: Operation) -> None:
    """An Einsum: batch dimensions, those of the left, those of the right; contracted ones go."""
    keys = ("left_batch", "right_batch", "left_contracted", "right_contracted")
    batches, other_batches, left, right = (operation.whole_numbers(key) for key in keys)
    ranks = operation.rank(0), operation.rank(1)
    fits = len(batches) == len(other_batches) and len(left) == len(right) and sum(ranks) <= 26
    inside = all(0 <= d < ranks[0] for d in (*batches, *left)) and all(
        0 <= d < ranks[1] for d in (*other_batches, *right)
    )
    if not fits or not inside:
        raise Unsupported(f"a product over dimensions {left} and {right}, batch {batches} and {other_batches}")
    first = [chr(ord("a") + i) for i in range(ranks[0])]
    second = [chr(ord("a") + ranks[0] + i) for i in range(ranks[1])]
    for d, e in zip((*batches, *left), (*other_batches, *right), strict=True):
        second[e] = first[d]
    free = [first[d] for d in range(ranks[0]) if d not in batches and d not in left]
    rest = [second[d] for d in range(ranks[1]) if d not in other_batches and d not in right]
    result = "".join([*(first[d] for d in batches), *free, *rest])
    equation = f"{''.join(first)},{''.join(second)}->{result}"
    operation.done(operation.emit("Einsum", operation.values(0, 2), {"equation": equation}))
