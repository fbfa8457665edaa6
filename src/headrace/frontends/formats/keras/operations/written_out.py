# SPDX-License-Identifier: Apache-2.0
"""Functions of ``keras.ops`` that are written out in a few operators: logarithms, spreads, places, totals, moves."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts_operation, flat
from headrace.frontends.formats.keras.layers.merge import broadcast, joined
from headrace.frontends.formats.keras.operations.elementwise import operand, reduced_shape
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_integer, is_list, is_number

_UNARY = {
    "Arccos": "Acos", "Arccosh": "Acosh", "Arcsin": "Asin", "Arcsinh": "Asinh", "Arctan": "Atan", "Arctanh": "Atanh",
    "Cosh": "Cosh", "Fabs": "Abs", "Isinf": "IsInf", "Isnan": "IsNaN", "Sinh": "Sinh", "Tan": "Tan", "Copy": "Identity",
}  # fmt: skip
#: The operand times or through a number: e.g. log₂ x = ln x / ln 2.
_SCALED = {
    "Log2": ("Log", 1 / math.log(2)), "Log10": ("Log", 1 / math.log(10)), "Deg2rad": ("", math.pi / 180),
    "Rad2deg": ("", 180 / math.pi),
}  # fmt: skip


@converts_operation(*_UNARY)
def unary(call: LayerCall) -> Tensor:
    return Tensor(call.emit(_UNARY[call.kind], [call.x.value]), call.x.shape)


@converts_operation(*_SCALED)
def scaled(call: LayerCall) -> Tensor:
    function, factor = _SCALED[call.kind]
    value = call.emit(function, [call.x.value]) if function else call.x.value
    return Tensor(call.emit("Mul", [value, call.number(factor)]), call.x.shape)


@converts_operation("Exp2")
def power_of_two(call: LayerCall) -> Tensor:
    return Tensor(call.emit("Exp", [call.emit("Mul", [call.x.value, call.number(math.log(2))])]), call.x.shape)


@converts_operation("Erfc")
def complement(call: LayerCall) -> Tensor:
    return Tensor(call.emit("Sub", [call.number(1.0), call.emit("Erf", [call.x.value])]), call.x.shape)


@converts_operation("FloorDivide")
def whole_quotient(call: LayerCall) -> Tensor:
    a, b = _two(call)
    return Tensor(call.emit("Floor", [call.emit("Div", [a.value, b.value])]), broadcast([a.shape, b.shape]))


@converts_operation("Fmax", "Fmin")
def extreme(call: LayerCall) -> Tensor:
    a, b = _two(call)
    return Tensor(call.emit(call.kind[1:].capitalize(), [a.value, b.value]), broadcast([a.shape, b.shape]))


@converts_operation("NotEqual", "LogicalXor")
def unlike(call: LayerCall) -> Tensor:
    a, b = _two(call)
    kind = "Equal" if call.kind == "NotEqual" else "Xor"
    value = call.emit(kind, [a.value, b.value])
    return Tensor(call.emit("Not", [value]) if kind == "Equal" else value, broadcast([a.shape, b.shape]))


@converts_operation("Hypot")
def length_of_two(call: LayerCall) -> Tensor:
    a, b = _two(call)
    squares = [call.emit("Mul", [t.value, t.value]) for t in (a, b)]
    return Tensor(call.emit("Sqrt", [call.emit("Add", squares)]), broadcast([a.shape, b.shape]))


def _two(call: LayerCall) -> tuple[Tensor, Tensor]:
    return operand(call, call.argument(0, "x1")), operand(call, call.argument(1, "x2"))


@converts_operation("HardShrink", "SoftShrink", "Threshold")
def small_to_zero(call: LayerCall) -> Tensor:
    """Between the bounds 0; beyond them the operand, moved towards 0 by the bound where the change is soft."""
    x, zero = call.x.value, call.number(0.0)
    if call.kind == "Threshold":
        bound, other = (
            call.argument(i, name, default) for i, name, default in ((1, "threshold", 0.0), (2, "default_value", 0.0))
        )
        if not is_number(bound) or not is_number(other):
            raise Unsupported(f"a threshold of {str(bound)[:40]}", "a number")
        above = call.emit("Greater", [x, call.number(float(bound))])
        return Tensor(call.emit("Where", [above, x, call.number(float(other))]), call.x.shape)
    bound = call.argument(1, "threshold", 0.5)
    if not is_number(bound) or bound < 0:
        raise Unsupported(f"a threshold of {str(bound)[:40]}", "a number of at least 0")
    if call.kind == "HardShrink":
        above = call.emit("Greater", [call.emit("Abs", [x]), call.number(float(bound))])
        return Tensor(call.emit("Where", [above, x, zero]), call.x.shape)
    kept = call.emit("Relu", [call.emit("Sub", [x, call.number(float(bound))])])
    below = call.emit("Relu", [call.emit("Sub", [call.emit("Neg", [x]), call.number(float(bound))])])
    return Tensor(call.emit("Sub", [kept, below]), call.x.shape)


@converts_operation("Glu")
def gated(call: LayerCall) -> Tensor:
    x, axis = call.x, _axis(call, 1, "axis", -1)
    size = x.size(axis)
    if size % 2:
        raise Unsupported(f"{size} elements along the gated dimension", "an even number")
    a, b = call.emit_all("Split", [x.value], {"axis": axis, "num_outputs": 2}, 2)
    shape = tuple(size // 2 if i == axis else s for i, s in enumerate(x.shape))
    return Tensor(call.emit("Mul", [a, call.emit("Sigmoid", [b])]), shape)


# --- reductions -------------------------------------------------------------------------------------------------------


def _axis(call: LayerCall, index: int, name: str, default: int | None) -> int:
    found = call.argument(index, name, default)
    if not is_integer(found) or not -call.x.rank <= found < call.x.rank:
        raise Unsupported(f"{name} is {str(found)[:40]}", f"one dimension of {call.x.rank}")
    return found % call.x.rank


def _reduced(call: LayerCall) -> tuple[list[int], bool]:
    x, given = call.x, call.argument(1, "axis")
    axes = list(range(x.rank)) if given is None else [given] if is_integer(given) else given
    if not is_list(axes) or not all(is_integer(a) and -x.rank <= a < x.rank for a in axes):
        raise Unsupported(f"axis {str(given)[:40]}", "dimensions of the tensor")
    return sorted({a % x.rank for a in axes}), bool(call.argument(2, "keepdims", False))


@converts_operation("Amax", "Amin")
def reduction(call: LayerCall) -> Tensor:
    axes, keep = _reduced(call)
    kind = f"Reduce{call.kind[1:].capitalize()}"
    value = call.emit(kind, [call.x.value, call.list(axes)], {"keepdims": int(keep)})
    return Tensor(value, reduced_shape(call.x.shape, axes, keep))


@converts_operation("Logsumexp")
def log_of_sum(call: LayerCall) -> Tensor:
    """The logarithm of Σ exp(x), with the largest element taken out of the sum."""
    axes, keep = _reduced(call)
    x, over = call.x.value, call.list(axes)
    top = call.emit("ReduceMax", [x, over], {"keepdims": 1})
    total = call.emit("ReduceSum", [call.emit("Exp", [call.emit("Sub", [x, top])]), over], {"keepdims": 1})
    value = call.emit("Add", [call.emit("Log", [total]), top])
    value = value if keep else call.emit("Squeeze", [value, over])
    return Tensor(value, reduced_shape(call.x.shape, axes, keep))


@converts_operation("Var", "Std")
def spread(call: LayerCall) -> Tensor:
    axes, keep = _reduced(call)
    x, over = call.x.value, call.list(axes)
    centred = call.emit("Sub", [x, call.emit("ReduceMean", [x, over], {"keepdims": 1})])
    value = call.emit("ReduceMean", [call.emit("Mul", [centred, centred]), over], {"keepdims": int(keep)})
    value = call.emit("Sqrt", [value]) if call.kind == "Std" else value
    return Tensor(value, reduced_shape(call.x.shape, axes, keep))


@converts_operation("Argmax", "Argmin")
def place_of_extreme(call: LayerCall) -> Tensor:
    axis, keep = _axis(call, 1, "axis", None), bool(call.argument(2, "keepdims", False))
    value = call.emit(f"Arg{call.kind[3:].capitalize()}", [call.x.value], {"axis": axis, "keepdims": int(keep)})
    value = call.emit("Cast", [value], {"to": int(ir.DataType.INT32)}, glue=True)
    return Tensor(value, reduced_shape(call.x.shape, [axis], keep))


@converts_operation("Cumsum", "Cumprod")
def running(call: LayerCall) -> Tensor:
    axis = call.make(np.array(_axis(call, 1, "axis", None), np.int64))
    return Tensor(call.emit(f"Cum{call.kind[3:].capitalize()}", [call.x.value, axis]), call.x.shape)


@converts_operation("Normalize")
def unit_length(call: LayerCall) -> Tensor:
    axis, order = _axis(call, 1, "axis", -1), call.argument(2, "order", 2)
    least = call.argument(3, "epsilon")
    if order not in (1, 2) or not (least is None or is_number(least)):
        raise Unsupported(f"a norm of order {str(order)[:40]}", "1 or 2")
    length = call.emit(f"ReduceL{order}", [call.x.value, call.list([axis])], {"keepdims": 1})
    length = call.emit("Max", [length, call.number(1e-7 if least is None else float(least))])
    return Tensor(call.emit("Div", [call.x.value, length]), call.x.shape)


# --- moves ------------------------------------------------------------------------------------------------------------


@converts_operation("Roll")
def rolled(call: LayerCall) -> Tensor:
    x, shift = call.x, call.argument(1, "shift")
    axis = _axis(call, 2, "axis", None)
    if not is_integer(shift):
        raise Unsupported(f"a shift of {str(shift)[:40]}", "one number")
    by = shift % x.size(axis)
    if not by:
        return Tensor(call.emit("Identity", [x.value]), x.shape)
    first, second = call.emit_all("Split", [x.value, call.list([x.size(axis) - by, by])], {"axis": axis}, 2)
    return Tensor(call.emit("Concat", [second, first], {"axis": axis}), x.shape)


@converts_operation("Repeat")
def repeated(call: LayerCall) -> Tensor:
    """Each position so many times, one behind the other."""
    x, count, axis = call.x, call.argument(1, "repeats"), _axis(call, 2, "axis", None)
    if not is_integer(count) or not 1 <= count <= 1 << 12:
        raise Unsupported(f"{str(count)[:40]} repeats", "1 to 4096")
    places = np.repeat(np.arange(x.size(axis)), count)
    value = call.emit("Gather", [x.value, call.make(places.astype(np.int64))], {"axis": axis})
    return Tensor(value, _with(x.shape, axis, len(places)))


@converts_operation("Take")
def taken(call: LayerCall) -> Tensor:
    x, axis = call.x, _axis(call, 2, "axis", None)
    given = call.argument(1, "indices")
    if isinstance(given, Tensor):
        indices, shape = given.value, given.shape
    else:
        array = np.array(given)
        if array.dtype.kind not in "iu" or array.size > 1 << 20:
            raise Unsupported(f"indices {str(given)[:40]}", "integers")
        indices, shape = call.make(array.astype(np.int64)), array.shape
    return Tensor(
        call.emit("Gather", [x.value, indices], {"axis": axis}), (*x.shape[:axis], *shape, *x.shape[axis + 1 :])
    )


@converts_operation("Triu", "Tril")
def triangle(call: LayerCall) -> Tensor:
    k = call.argument(1, "k", 0)
    if not is_integer(k) or call.x.rank < 2:
        raise Unsupported(f"diagonal {str(k)[:40]} of a tensor of rank {call.x.rank}", "matrices")
    inputs = [call.x.value, call.make(np.array(k, np.int64))]
    return Tensor(call.emit("Trilu", inputs, {"upper": int(call.kind == "Triu")}), call.x.shape)


@converts_operation("Hstack")
def stacked(call: LayerCall) -> Tensor:
    if not call.tensors or call.tensors[0].rank < 2:
        raise Unsupported(f"{len(call.tensors)} tensors", "tensors of rank 2 or more")
    return joined(call, 1)


@converts_operation("Einsum")
def einsum(call: LayerCall) -> Tensor:
    equation = call.option("subscripts")
    tensors = flat(call.arguments)
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        raise Unsupported(f"the equation {str(equation)[:80]}", "letters, with '->'")
    left, right = equation.replace(" ", "").split("->", 1)
    terms = left.split(",")
    if [len(term) for term in terms] != [t.rank for t in tensors]:
        raise Unsupported(
            f"the equation {equation[:80]} of ranks {[t.rank for t in tensors]}", "a letter per dimension"
        )
    sizes = {
        letter: size for term, t in zip(terms, tensors, strict=True) for letter, size in zip(term, t.shape, strict=True)
    }
    if not set(right) <= set(sizes):
        raise Unsupported(f"the equation {equation[:80]}", "letters of the operands")
    value = call.emit("Einsum", [t.value for t in tensors], {"equation": f"{left}->{right}"})
    return Tensor(value, tuple(sizes[letter] for letter in right))


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return tuple(size if i == axis else s for i, s in enumerate(shape))
