# SPDX-License-Identifier: Apache-2.0
"""Computing nodes whose inputs are all known: shape glue, reshaped weights, constants under any name.

A hostile file may ask for constants of any size, so every operation that can grow its operands states the size of its
result before computing it, and one file may only grow so much in total.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from headrace.frontends.graph import (
    OPSET,
    Unsupported,
    integer,
    integer_list,
    integers,
    real,
    tensor,
)
from headrace.frontends.layout import MAX_RANK
from headrace.hn import Array
from headrace.hn.registering import entering
from headrace.typeguards import is_number, is_tuple

#: One constant that is made: enough for the largest dense layer of VGG (25,088 × 4,096 floats, 392 MiB).
MAX_BYTES = 512 << 20
#: All of one file together.
MAX_TOTAL_BYTES = 768 << 20
#: Elementary steps of all that one file computes: some seconds.
MAX_WORK = 1 << 32
#: Layers, and weights of states, that recurrent operators of one file may become when they are written out.
MAX_REPEATED_LAYERS, MAX_REPEATED_WEIGHTS = 1 << 16, 1 << 27
Operands = Sequence["Array | None"]
Evaluator = Callable[[ir.Node, Operands, "Budget"], list[Array]]
EVALUATORS: dict[str, Evaluator] = {}


class Budget:
    """How many bytes may still be created by growing operations, and how much may still be computed.

    Attributes:
        opset: the operator set that the file states.
    """

    def __init__(self, opset: int = OPSET) -> None:
        self.left = MAX_TOTAL_BYTES
        self.work = MAX_WORK
        self.layers, self.weights = MAX_REPEATED_LAYERS, MAX_REPEATED_WEIGHTS
        self.opset = opset

    @property
    def mostly_left(self) -> bool:
        """Whether what the file asks for may well be done several times over."""
        return self.left > MAX_TOTAL_BYTES // 2 and self.work > MAX_WORK // 2

    def spend(self, steps: int) -> None:
        """Announce a computation of so many elementary steps; refuses what would take too long."""
        if steps > self.work:
            raise Unsupported(
                f"the constant would need {steps:.1e} steps to compute",
                f"at most {MAX_WORK:.1e} for all that the file makes",
                ("export with the constants stored as weights (initializers)",),
            )
        self.work -= steps

    def repeat(self, layers: int, weights: int) -> None:
        """Announce layers that one operator becomes, step by step; refuses what would make too large a network."""
        if layers > self.layers or weights > self.weights:
            raise Unsupported(
                f"written out step by step it would be up to {layers} layers more with {weights} weights of the state",
                f"≤ {MAX_REPEATED_LAYERS} layers, ≤ {MAX_REPEATED_WEIGHTS} weights for all such operators of the file",
                ("export with a shorter sequence, or fewer of these layers",),
            )
        self.layers, self.weights = self.layers - layers, self.weights - weights

    def take(self, shape: Sequence[int], dtype: np.dtype[Any] | None = None) -> None:
        """Announce a result, of 8 bytes an element where its type is not known; refuses what is too large."""
        if any(int(d) < 0 for d in shape):
            raise Unsupported("the constant would have a negative size")
        each = 8 if dtype is None else dtype.itemsize
        size = math.prod(int(d) for d in shape) * each
        spread = math.prod(max(int(d), 1) for d in shape) * each  # numpy holds no empty array of any size either
        if max(size, spread) > MAX_BYTES or size > self.left:
            raise Unsupported(
                f"the constant of shape {[int(d) for d in shape]} would need {max(size, spread) >> 20} MiB",
                f"at most {MAX_BYTES >> 20} MiB, and {MAX_TOTAL_BYTES >> 20} MiB for all that the file makes",
                ("export with the constants stored as weights (initializers)",),
            )
        self.left -= size


def evaluates(*names: str) -> Callable[[Evaluator], Evaluator]:
    return entering(EVALUATORS, names)


def operand(operands: Operands, index: int) -> Array:
    if index >= len(operands) or operands[index] is None:
        raise Unsupported(f"input {index} is absent")
    found = operands[index]
    assert found is not None
    return found


def optional(operands: Operands, index: int) -> Array | None:
    return operands[index] if index < len(operands) else None


def axis_in(axis: int, rank: int) -> int:
    """An axis counted from the first, of those that a tensor of this rank has."""
    if not rank:
        raise Unsupported(f"axis {axis} of a number", "a tensor with axes")
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} does not exist", f"{-rank} … {rank - 1}")
    return axis % rank


def broadcast(*shapes: Sequence[int]) -> list[int]:
    """The shape that tensors of these shapes broadcast to, as numpy and ONNX do it."""
    out: list[int] = []
    for index in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {shape[-index] for shape in shapes if len(shape) >= index} - {1}
        if len(sizes) > 1 or min(sizes, default=1) < 0:
            raise Unsupported(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
        out.insert(0, sizes.pop() if sizes else 1)
    return out


def only_number(array: Array, what: str) -> Any:
    """The one element of a constant, a numpy scalar."""
    if array.size != 1:
        raise Unsupported(f"{what} has shape {list(array.shape)}", "one number")
    return array.reshape(-1)[0]


def reshaped(shape: Sequence[int], wanted: Sequence[int], allow_zero: bool) -> list[int]:
    """The shape a Reshape gives: 0 copies a size, one -1 takes what is left."""
    out = [shape[i] if s == 0 and not allow_zero and i < len(shape) else s for i, s in enumerate(wanted)]
    if out.count(-1) > 1 or any(s < -1 for s in out):
        raise Unsupported(f"{list(wanted)} is not a shape")
    total = math.prod(shape)
    if -1 in out:
        rest = math.prod(s for s in out if s != -1)
        if rest == 0 or total % rest:
            raise Unsupported(f"shape {list(shape)} cannot become {list(wanted)}")
        out[out.index(-1)] = total // rest
    if math.prod(out) != total:
        raise Unsupported(f"shape {list(shape)} cannot become {list(wanted)}", "the same number of elements")
    return out


def squeezed(shape: Sequence[int], axes: Sequence[int] | None) -> list[int]:
    if axes is None:
        return [s for s in shape if s != 1]
    drop = {axis_in(a, len(shape)) for a in axes}
    if any(shape[a] != 1 for a in drop):
        raise Unsupported(f"Squeeze of axes {list(axes)} whose size is not 1", "size 1")
    return [s for i, s in enumerate(shape) if i not in drop]


def unsqueezed(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    rank = len(shape) + len(axes)
    if rank > MAX_RANK:
        raise Unsupported(f"Unsqueeze to rank {rank}", f"at most {MAX_RANK}")
    places = {axis_in(a, rank) for a in axes}
    if len(places) != len(axes):
        raise Unsupported("Unsqueeze names an axis twice")
    rest = iter(shape)
    return [1 if i in places else next(rest) for i in range(rank)]


def slice_ranges(shape: Sequence[int], operands: Operands) -> list[tuple[int, int, int]]:
    """Per axis (start, stop, step) of a Slice whose operands 1 to 4 are constants; stop as in Python's range."""
    starts, ends = integer_list(operand(operands, 1), "starts"), integer_list(operand(operands, 2), "ends")
    axes_in, steps_in = optional(operands, 3), optional(operands, 4)
    axes = integer_list(axes_in, "axes") if axes_in is not None else list(range(len(starts)))
    steps = integer_list(steps_in, "steps") if steps_in is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Unsupported("starts, ends, axes and steps of Slice do not belong together")
    out = [(0, s, 1) for s in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = axis_in(axis, len(shape))
        out[at] = slice(start, end if not (step < 0 and end < -shape[at]) else None, step).indices(shape[at])
    return out


@evaluates("Constant")
def _constant(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, attribute in node.attributes.items():
        value: object = attribute.value
        if name == "value" and isinstance(value, ir.Tensor):
            return [value.numpy()]
        if name in dtypes and (is_number(value) or is_tuple(value)):
            return [np.array(value, dtypes[name])]
    raise Unsupported("the constant holds no numeric tensor (strings and sparse tensors are not read)")


@evaluates("Identity", "Dropout")
def _identity(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    return [operand(operands, 0)]


@evaluates("Cast")
def _cast(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    to = integer(node, "to", 0)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(to))
    except KeyError:
        dtype = np.dtype(object)
    if to == onnx.TensorProto.BFLOAT16:  # which numpy does not have: its numbers, as float32
        data = operand(operands, 0)
        budget.take(data.shape, np.dtype(np.float32))
        return [data.astype(dtype).astype(np.float32)]
    if dtype.kind not in "biuf":
        raise Unsupported(f"Cast to type {to}", "a numeric type")
    return [operand(operands, 0).astype(dtype)]


@evaluates("Shape")
def _shape(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    return [shape_of(node, operand(operands, 0).shape)]


def shape_of(node: ir.Node, shape: Sequence[int]) -> Array:
    """The result of Shape on a tensor of this shape."""
    begin, end = integer(node, "start", 0), integer(node, "end", len(shape))
    return np.array(list(shape)[slice(begin, end)], np.int64)


@evaluates("Size")
def _size(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    return [np.array(operand(operands, 0).size, np.int64)]


@evaluates("Gather")
def _gather(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, indices = operand(operands, 0), operand(operands, 1)
    axis = axis_in(integer(node, "axis", 0), data.ndim)
    if not data.ndim or indices.dtype.kind not in "iu":
        raise Unsupported("Gather from a number, or by indices that are not integers")
    size = data.shape[axis]
    if indices.size and not -size <= int(indices.min()) <= int(indices.max()) < size:
        raise Unsupported(f"an index beyond an axis of {size}", f"{-size} … {size - 1}")
    budget.take([*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]], data.dtype)
    return [np.take(data, indices.astype(np.int64), axis=axis)]


@evaluates("GatherElements")
def _gather_elements(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, indices = operand(operands, 0), operand(operands, 1)
    axis = axis_in(integer(node, "axis", 0), data.ndim)
    others = [i for i in range(data.ndim) if i != axis]
    if indices.ndim != data.ndim or not data.ndim or any(indices.shape[i] > data.shape[i] for i in others):
        raise Unsupported(f"GatherElements of shape {list(data.shape)} by indices of shape {list(indices.shape)}")
    size = data.shape[axis]
    if indices.dtype.kind not in "iu" or (indices.size and not -size <= indices.min() <= indices.max() < size):
        raise Unsupported(f"an index beyond an axis of {size}", f"{-size} … {size - 1}")
    part = data[tuple(slice(None) if i == axis else slice(indices.shape[i]) for i in range(data.ndim))]
    budget.take(indices.shape, data.dtype)
    return [np.take_along_axis(part, indices.astype(np.int64) % max(size, 1), axis)]


@evaluates("Slice")
def _slice(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    pieces = [np.arange(*r, dtype=np.int64) if r[2] < 0 else slice(*r) for r in slice_ranges(data.shape, operands)]
    for axis, piece in enumerate(pieces):
        data = data[(slice(None),) * axis + (piece,)]
    return [data]


@evaluates("Split")
def _split(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    axis = axis_in(integer(node, "axis", 0), data.ndim)
    sizes = split_sizes(node, data.shape[axis], optional(operands, 1))
    return list(np.split(data, np.cumsum(sizes)[:-1], axis=axis))


def split_sizes(node: ir.Node, size: int, given: Array | None) -> list[int]:
    """Sizes of a Split's parts along its axis."""
    count = len(node.outputs)
    if integer(node, "num_outputs", count) != count:
        raise Unsupported(f"Split with num_outputs {integer(node, 'num_outputs', count)} has {count} outputs")
    if given is not None:
        sizes = integer_list(given, "split")
    else:
        part = -(-size // count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        raise Unsupported(f"Split of {size} into {sizes}", f"{count} sizes that add up to {size}")
    return sizes


@evaluates("Concat")
def _concat(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    arrays = [operand(operands, i) for i in range(len(operands))]
    if not arrays or len({a.dtype for a in arrays}) > 1:
        raise Unsupported("Concat of nothing, or of unlike types")
    axis = axis_in(integer(node, "axis", 0), arrays[0].ndim)
    if len({(*a.shape[:axis], *a.shape[axis + 1 :]) for a in arrays}) > 1 or len({a.ndim for a in arrays}) > 1:
        raise Unsupported(f"Concat of shapes {[list(a.shape) for a in arrays][:6]}", "equal sizes but along the axis")
    budget.take([sum(a.size for a in arrays)], max((a.dtype for a in arrays), key=lambda d: d.itemsize))
    return [np.concatenate(arrays, axis=axis)]


@evaluates("Reshape")
def _reshape(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    wanted = integer_list(operand(operands, 1), "the shape")
    return [data.reshape(reshaped(data.shape, wanted, integer(node, "allowzero", 0) == 1))]


@evaluates("Flatten")
def _flatten(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    axis = integer(node, "axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    if not 0 <= axis <= data.ndim:
        raise Unsupported(f"Flatten at axis {axis} of a tensor of rank {data.ndim}")
    return [data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))]


@evaluates("Squeeze")
def _squeeze(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, axes = operand(operands, 0), optional(operands, 1)
    return [data.reshape(squeezed(data.shape, None if axes is None else integer_list(axes, "axes")))]


@evaluates("Unsqueeze")
def _unsqueeze(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    return [data.reshape(unsqueezed(data.shape, integer_list(operand(operands, 1), "axes")))]


@evaluates("Transpose")
def _transpose(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    order = integers(node, "perm", range(data.ndim)[::-1]) or []
    if sorted(order) != list(range(data.ndim)):
        raise Unsupported(f"{order} is not a permutation of {data.ndim} dimensions")
    return [data.transpose(order)]


@evaluates("ConstantOfShape")
def _constant_of_shape(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    shape = integer_list(operand(operands, 0), "the shape")
    given = tensor(node, "value")
    value = np.zeros(1, np.float32) if given is None else given.reshape(-1)
    if value.size != 1:
        raise Unsupported("the value of ConstantOfShape is not one number")
    budget.take(shape, value.dtype)
    return [np.full(shape, value[0], value.dtype)]


@evaluates("Expand")
def _expand(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    shape = broadcast(data.shape, integer_list(operand(operands, 1), "the shape"))
    budget.take(shape, data.dtype)
    return [np.broadcast_to(data, shape)]


@evaluates("Tile")
def _tile(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, repeats = operand(operands, 0), integer_list(operand(operands, 1), "repeats")
    if len(repeats) != data.ndim or any(r < 0 for r in repeats):
        raise Unsupported(f"Tile of rank {data.ndim} by repeats {repeats}", "one per axis, none below 0")
    budget.take([s * r for s, r in zip(data.shape, repeats, strict=True)], data.dtype)
    return [np.tile(data, repeats)]


@evaluates("Range")
def _range(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    first, limit, delta = (only_number(operand(operands, i), "a bound of Range") for i in range(3))
    if delta == 0 or not all(math.isfinite(float(v)) for v in (first, limit, delta)):
        raise Unsupported("Range with a step of 0 or a bound that is not finite")
    count = max(math.ceil((float(limit) - float(first)) / float(delta)), 0)
    budget.take([count])
    return [(first + np.arange(count) * delta).astype(operand(operands, 0).dtype)]


@evaluates("Where")
def _where(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    arrays = [operand(operands, i) for i in range(3)]
    budget.take(broadcast(*(a.shape for a in arrays)))
    return [np.where(*arrays)]


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    if not np.all(b):
        raise Unsupported("an integer constant is divided by zero")
    quotient = np.abs(a) // np.abs(b)
    return (np.sign(a) * np.sign(b) * quotient).astype(a.dtype)


_BINARY: dict[str, Callable[[Array, Array], Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide, "Equal": np.equal, "Greater": np.greater,
    "Less": np.less, "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal, "And": np.logical_and,
    "Or": np.logical_or, "Max": np.maximum, "Min": np.minimum, "Mod": np.mod, "Pow": np.power,
    "Sum": np.add, "Xor": np.logical_xor,
}  # fmt: skip


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


_OF_BOOLS = frozenset({"Equal", "And", "Or", "Xor"})
_UNARY: dict[str, Callable[[Array], Any]] = {
    "Neg": np.negative, "Sqrt": np.sqrt, "Tan": np.tan, "Sigmoid": _sigmoid,
    "Atan": np.arctan, "Erf": _erf, "Reciprocal": np.reciprocal, "Abs": np.abs, "Floor": np.floor, "Ceil": np.ceil,
    "Not": np.logical_not, "Round": np.rint, "Sin": np.sin, "Cos": np.cos, "Tanh": np.tanh,
    "Exp": np.exp, "Log": np.log, "Relu": lambda x: np.maximum(x, 0), "Sign": np.sign,
}  # fmt: skip


@evaluates(*_BINARY)
def _binary(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    result = operand(operands, 0)
    for index in range(1, len(operands)):
        other = operand(operands, index)
        if "b" in (result.dtype.kind, other.dtype.kind) and node.op_type not in _OF_BOOLS:
            raise Unsupported(f"{node.op_type} of type bool", "numbers")
        budget.take(broadcast(result.shape, other.shape))
        dtype = result.dtype
        if node.op_type == "Pow" and dtype.kind in "iu" and other.dtype.kind in "iu" and (other < 0).any():
            raise Unsupported("an integer to a negative power", "an exponent that is not negative")
        if node.op_type == "Pow" and dtype.kind == "f":
            result, other = result.astype(np.float64), other.astype(np.float64)
        remainder = node.op_type == "Mod" and integer(node, "fmod", 0)
        result = np.asarray(np.fmod(result, other) if remainder else _BINARY[node.op_type](result, other))
        result = result.astype(dtype) if result.dtype.kind != "b" else result
    return [result]


@evaluates(*_UNARY)
def _unary(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    x = operand(operands, 0)
    # Libraries differ in the last bit of float32 functions from processor to processor; in float64, rounded once, that
    # is out of sight.
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    if x.dtype.kind == "b" and node.op_type != "Not":
        raise Unsupported(f"{node.op_type} of type bool", "numbers")
    return [np.asarray(_UNARY[node.op_type](wide)).astype(x.dtype)]


@evaluates("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean")
def _reduce(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    reduce = {
        "ReduceProd": np.prod,
        "ReduceSum": np.sum,
        "ReduceMax": np.max,
        "ReduceMin": np.min,
        "ReduceMean": np.mean,
    }
    data, axes = operand(operands, 0), optional(operands, 1)
    given = [] if axes is None else integer_list(axes, "axes")
    over = tuple(sorted({axis_in(a, data.ndim) for a in given})) if given else None
    if over is None and integer(node, "noop_with_empty_axes", 0):
        return [data]
    if not data.size and node.op_type not in ("ReduceSum", "ReduceProd"):
        raise Unsupported(f"{node.op_type} of no elements")
    wide = data.astype(np.float64) if data.dtype.kind == "f" else data
    keep = integer(node, "keepdims", 1) == 1
    return [np.asarray(reduce[node.op_type](wide, axis=over, keepdims=keep)).astype(data.dtype)]


@evaluates("IsNaN", "IsInf")
def _is_finite(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data = operand(operands, 0)
    if node.op_type == "IsNaN":
        return [np.isnan(data)]
    negative, positive = integer(node, "detect_negative", 1), integer(node, "detect_positive", 1)
    return [(np.isposinf(data) & bool(positive)) | (np.isneginf(data) & bool(negative))]


@evaluates("CastLike")
def _cast_like(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    return [operand(operands, 0).astype(operand(operands, 1).dtype)]


@evaluates("Clip")
def _clip(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, low, high = operand(operands, 0), optional(operands, 1), optional(operands, 2)
    data = data if low is None else np.maximum(data, only_number(low, "a bound"))
    return [data if high is None else np.minimum(data, only_number(high, "a bound"))]


@evaluates("CumSum")
def _cumulate(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, given = operand(operands, 0), integer_list(operand(operands, 1), "the axis")
    if len(given) != 1 or not data.ndim:
        raise Unsupported(f"CumSum along {given} of rank {data.ndim}", "one axis")
    axis = axis_in(given[0], data.ndim)
    wide = data.astype(np.float64) if data.dtype.kind == "f" else data
    if integer(node, "reverse", 0):
        wide = np.flip(wide, axis)
    total = np.cumsum(wide, axis=axis)
    if integer(node, "exclusive", 0) and total.size:
        total = np.roll(total, 1, axis)
        total[(slice(None),) * axis + (0,)] = 0
    return [(np.flip(total, axis) if integer(node, "reverse", 0) else total).astype(data.dtype)]


@evaluates("Trilu")
def _triangle(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    data, offset = operand(operands, 0), optional(operands, 1)
    if data.ndim < 2 or (offset is not None and offset.dtype.kind not in "iu"):
        raise Unsupported(f"Trilu of a tensor of rank {data.ndim}", "a matrix, and a whole number of diagonals")
    k = 0 if offset is None else int(only_number(offset, "k"))
    furthest = max(data.shape[-2:]) + 1
    return [(np.triu if integer(node, "upper", 1) else np.tril)(data, min(max(k, -furthest), furthest))]


@evaluates("BatchNormalization")
def _batch_normalization(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """Of constants: exporters standardize weights with it, in training mode."""
    x, gamma, beta = (operand(operands, i).astype(np.float64) for i in range(3))
    if x.ndim < 2 or any(operand(operands, i).shape != x.shape[1:2] for i in range(1, 5)):
        raise Unsupported(f"parameters that do not go with a constant of shape {list(x.shape)}", "N,C,…")
    axes = tuple(i for i in range(x.ndim) if i != 1)
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    if integer(node, "training_mode", 0):
        mean, variance = x.mean(axes), x.var(axes)
    else:
        mean, variance = (operand(operands, i).astype(np.float64) for i in (3, 4))
    factor = gamma / np.sqrt(variance + real(node, "epsilon", 1e-5))
    result = (x - mean.reshape(shape)) * factor.reshape(shape) + beta.reshape(shape)
    return [result.astype(operand(operands, 0).dtype)]
