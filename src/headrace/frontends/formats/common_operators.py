# SPDX-License-Identifier: Apache-2.0
"""Operators that mean the same in TensorFlow and TFLite, in ONNX's words; how files state options differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import broadcast
from headrace.frontends.formats.operation import Operation as AnyOperation
from headrace.frontends.graph import Unsupported, constant
from headrace.hn import Array

Operation = AnyOperation[Any]
FAR = int(np.iinfo(np.int64).max)
MAX_PARTS = 1 << 12
_MAX_RANK = 16

# --- cutting and joining ----------------------------------------------------------------------------------------------


def cut(operation: Operation) -> None:
    """A slice by where it begins and its sizes, -1 for all that is left."""
    begin, size = operation.integers(1, "begin"), operation.integers(2, "size")
    if len(begin) != len(size) or any(b < 0 for b in begin) or any(s < -1 for s in size):
        raise Unsupported(f"begin {begin} and size {size}", "one of each per dimension, none below 0 but a size of -1")
    own = operation.sizes(0)
    if own is not None and len(own) == len(size):
        left = [
            s if s != -1 else None if n is None else max(n - b, 0) for b, s, n in zip(begin, size, own, strict=True)
        ]
        if 0 in left and None not in left and operation.is_float(0):  # as loops cut in front of their first element
            operation.done(operation.make(np.zeros([int(n or 0) for n in left], np.float32)))
            return
    ends = [FAR if s == -1 else b + s for b, s in zip(begin, size, strict=True)]
    inputs = [operation.value(0), operation.list(begin), operation.list(ends), operation.list(range(len(begin)))]
    operation.done(operation.emit("Slice", inputs))


def concatenated(operation: Operation, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """Tensors one behind the other; those without elements are left out."""
    arrays = [constant(value) for value in values]
    kept = [v for v, array in zip(values, arrays, strict=True) if array is None or array.size] or values
    return operation.emit("Concat", kept, {"axis": axis}) if len(kept) > 1 else operation.emit("Identity", kept)


def strided_cut(operation: Operation, masks: Mapping[str, int], offset: bool = False) -> None:
    """Per entry a range, whose ends a mask may leave open, an index, whose dimension then goes, a new dimension, or an
    ellipsis for all that is not named.

    Args:
        operation: data, begins, ends, strides.
        masks: bits by entry: ``begin``, ``end``, ``ellipsis``, ``new_axis``, ``shrink_axis``.
        offset: ends count from the begins.
    """
    begin, end, step = (operation.integers(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(step) or 0 in step:
        raise Unsupported(f"begin {begin}, end {end} and strides {step}", "one of each per dimension, strides not 0")
    if offset:
        end = [b + e for b, e in zip(begin, end, strict=True)]
    ranges: list[tuple[int, int, int, int]] = []  # axis, begin, end, step
    gone: list[int] = []  # axes of the sliced tensor
    fresh: list[int] = []  # axes of the result
    axis = place = 0
    for entry in range(len(begin)):
        bit = {word: mask >> entry & 1 for word, mask in masks.items()}
        if bit["ellipsis"]:
            over = _left_to_ellipsis(operation, masks, len(begin))
            axis, place = axis + over, place + over
        elif bit["new_axis"]:
            fresh.append(place)
            place += 1
        else:
            first, last, by = begin[entry], end[entry], step[entry]
            if bit["shrink_axis"]:
                first, last, by = first, (first + 1 if first != -1 else FAR), 1
                gone.append(axis)
            else:
                first = (0 if by > 0 else FAR) if bit["begin"] else first
                last = (FAR if by > 0 else -FAR) if bit["end"] else last
                place += 1
            ranges.append((axis, first, last, by))
            axis += 1
    operation.done(_ranged(operation, ranges, gone, fresh))


def _left_to_ellipsis(operation: Operation, masks: Mapping[str, int], entries: int) -> int:
    """How many dimensions the ellipsis stands for."""
    new = sum(masks["new_axis"] >> i & 1 for i in range(entries) if not masks["ellipsis"] >> i & 1)
    over = operation.rank(0) - (entries - 1 - new)
    if over < 0 or masks["ellipsis"].bit_count() > 1:
        raise Unsupported(f"an ellipsis among {entries} entries for rank {operation.rank(0)}")
    return over


def _ranged(
    operation: Operation, ranges: list[tuple[int, int, int, int]], gone: list[int], fresh: list[int]
) -> ir.Value:
    value = operation.value(0)
    kept = [r for r in ranges if r[1:] != (0, FAR, 1)]
    if kept:
        columns = [operation.list([r[i] for r in kept]) for i in (1, 2, 0, 3)]
        value = operation.emit("Slice", [value, *columns])
    if gone:
        value = operation.emit("Squeeze", [value, operation.list(gone)])
    if fresh:
        value = operation.emit("Unsqueeze", [value, operation.list(fresh)])
    return value if kept or gone or fresh else operation.emit("Identity", [value])


def reverse(operation: Operation) -> None:
    axes = operation.integers(1, "the axes")
    edges = ([-1] * len(axes), [-FAR] * len(axes), axes, [-1] * len(axes))
    operation.done(operation.emit("Slice", [operation.value(0), *(operation.list(e) for e in edges)]))


def parts(count: int) -> int:
    """A number of parts that a file asks for, checked."""
    if not 1 <= count <= MAX_PARTS:
        raise Unsupported(f"{count} parts", f"1 to {MAX_PARTS}")
    return count


def split(operation: Operation, count: int) -> None:
    """Into equal parts: the axis, then the data."""
    attributes = {"axis": operation.axis(0), "num_outputs": parts(count)}
    operation.done(*operation.emit_all("Split", [operation.value(1)], attributes, count))


def split_sizes(operation: Operation) -> None:
    """By sizes, one of which may be -1: data, sizes, axis."""
    sizes, axis = operation.integers(1, "the sizes"), operation.axis(2)
    if sizes.count(-1) == 1:
        shape = operation.sizes(0)
        if shape is None or not -len(shape) <= axis < len(shape):
            raise Unsupported(f"axis {axis} of a tensor of shape {shape}", "an axis of the tensor")
        size = shape[axis]
        if size is None:
            raise operation.unknown(f"sizes {sizes} of a tensor whose size the file leaves open", "known sizes")
        sizes[sizes.index(-1)] = size - sum(s for s in sizes if s != -1)
    inputs = [operation.value(0), operation.list(sizes)]
    operation.done(*operation.emit_all("Split", inputs, {"axis": axis}, parts(len(sizes))))


def pack(operation: Operation, axis: int) -> None:
    """Tensors joined along a new axis."""
    axes = operation.list([axis])
    made = [operation.emit("Unsqueeze", [value, axes], glue=True) for value in operation.values()]
    operation.done(operation.emit("Concat", made, {"axis": axis}))


def unpack(operation: Operation, axis: int, count: int) -> None:
    """The positions along an axis, each a tensor without it."""
    sizes, axes = operation.list([1] * parts(count)), operation.list([axis])
    made = operation.emit_all("Split", [operation.value(0), sizes], {"axis": axis}, count)
    operation.done(*(operation.emit("Squeeze", [part, axes]) for part in made))


def depth_to_space(operation: Operation, size: int) -> None:
    if size < 1:
        raise Unsupported(f"block_size {size}", "a positive integer")
    operation.done_image(operation.emit("DepthToSpace", [operation.image(0)], {"blocksize": size, "mode": "DCR"}))


def space_to_depth(operation: Operation, size: int) -> None:
    if size < 1:
        raise Unsupported(f"block_size {size}", "a positive integer")
    operation.done_image(operation.emit("SpaceToDepth", [operation.image(0)], {"blocksize": size}))


# --- padding ----------------------------------------------------------------------------------------------------------


def paddings(operation: Operation) -> list[int]:
    """All paddings before, then all after."""
    array = operation.array(1, "the paddings")
    if array.ndim != 2 or array.shape[1] != 2 or array.shape[0] > _MAX_RANK or array.dtype.kind not in "iu":
        raise Unsupported(f"paddings of shape {list(array.shape)}", "[rank, 2] integers")
    return [int(v) for v in array.T.reshape(-1)]


def pad(operation: Operation) -> None:
    """With the third operand where it is given, else with zeros."""
    value = [operation.value(2)] if operation.has(2) else []
    inputs = [operation.value(0), operation.list(paddings(operation)), *value]
    operation.done(operation.emit("Pad", inputs, {"mode": "constant"}))


def mirror_pad(operation: Operation, symmetric: bool) -> None:
    """``symmetric`` repeats the edge itself too, which joining what is at the edge, turned round, does."""
    around = paddings(operation)
    if not symmetric:
        operation.done(operation.emit("Pad", [operation.value(0), operation.list(around)], {"mode": "reflect"}))
        return
    shape, value = operation.shape(0), operation.value(0)
    rank = len(shape)
    for axis, (before, after) in enumerate(zip(around[:rank], around[rank:], strict=False)):
        if not 0 <= before <= shape[axis] or not 0 <= after <= shape[axis]:
            raise Unsupported(f"paddings {around} of a tensor of shape {shape}", "no more than what is mirrored")
        joined = [value]
        if before:
            joined.insert(0, _turned_round(operation, value, axis, before - 1, -FAR))
        if after:
            joined.append(_turned_round(operation, value, axis, shape[axis] - 1, shape[axis] - 1 - after - shape[axis]))
        value = operation.emit("Concat", joined, {"axis": axis}) if len(joined) > 1 else value
    operation.done(value if value is not operation.value(0) else operation.emit("Identity", [value]))


def _turned_round(operation: Operation, value: ir.Value, axis: int, first: int, end: int) -> ir.Value:
    """Positions from ``first`` back to behind ``end`` (counted from the last)."""
    edges = [operation.list([n]) for n in (first, end, axis, -1)]
    return operation.emit("Slice", [value, *edges])


# --- functions of two tensors -----------------------------------------------------------------------------------------


def aligned(operation: Operation) -> list[ir.Value]:
    """Two operands of one rank: as in numpy, dimensions are counted from the last, and here the batch stays first."""
    inputs = operation.values(0, 2)
    shapes = [operation.sizes(i) for i in range(2)]
    rank = max((len(s) for s in shapes if s is not None), default=0)
    for index, shape in enumerate(shapes):
        if shape is None or not 1 < len(shape) < rank or operation.is_constant(index):
            continue
        if shape[0] not in (1, None) or shape.count(None) > 1:
            continue
        first, *rest = [-1 if s is None else s for s in shape]
        sizes = operation.list([first, *[1] * (rank - len(shape)), *rest])
        inputs[index] = operation.emit("Reshape", [inputs[index], sizes], glue=True)
    return inputs


def remainder(operation: Operation) -> ir.Value:
    """The remainder, with the sign of the second: of floats a - floor(a / b) · b."""
    a, b = aligned(operation)
    if not (operation.is_float(0) or operation.is_float(1)):
        return operation.emit("Mod", [a, b])
    whole = operation.emit("Floor", [operation.emit("Div", [a, b])])
    return operation.emit("Sub", [a, operation.emit("Mul", [whole, b])])


def whole_quotient(operation: Operation) -> ir.Value:
    """The floor of the quotient: (a - a mod b) / b of integers, which is a whole number."""
    a, b = aligned(operation)
    if operation.is_float(0) or operation.is_float(1):
        return operation.emit("Floor", [operation.emit("Div", [a, b])])
    return operation.emit("Div", [operation.emit("Sub", [a, operation.emit("Mod", [a, b])]), b])


def squared_difference(operation: Operation) -> ir.Value:
    difference = operation.emit("Sub", aligned(operation))
    return operation.emit("Mul", [difference, difference])


# --- functions of one tensor ------------------------------------------------------------------------------------------


def reciprocal_root(operation: Operation) -> None:
    operation.done(operation.emit("Reciprocal", [operation.emit("Sqrt", [operation.value(0)])]))


def square(operation: Operation) -> None:
    operation.done(operation.emit("Mul", [operation.value(0), operation.value(0)]))


def local_response(operation: Operation, radius: int, alpha: float, beta: float, bias: float) -> None:
    """TensorFlow's alpha is for each neighbour, ONNX's for all of them."""
    if not 0 <= radius <= 1 << 16:
        raise Unsupported(f"radius {radius}", "0 to 65536")
    size = 2 * radius + 1
    attributes = {"size": size, "alpha": alpha * size, "beta": beta, "bias": bias}
    operation.done_image(operation.emit("LRN", [operation.image(0)], attributes))


def transposed_last(operation: Operation, index: int) -> ir.Value:
    """Operand ``index``, matrices, each of them transposed."""
    rank = operation.rank(index)
    if rank < 2:
        raise Unsupported(f"operand {index} has rank {rank}", "rank 2 or more")
    order = [*range(rank - 2), rank - 1, rank - 2]
    return operation.emit("Transpose", [operation.value(index)], {"perm": order}, glue=True)


def fake_quantized(operation: Operation, low: Array, high: Array, bits: int, narrow: bool) -> None:
    """Quantization that was trained with: scale and zero point as TensorFlow nudges them, said in ONNX's words.

    Args:
        operation: whose first operand is quantized.
        low, high: ends of the range, one of each, or one per channel, the last dimension.
        bits: of the codes.
        narrow: the least code is not used.
    """
    if bits != 8:
        raise Unsupported(f"num_bits {bits}", "8")
    least = 1 if narrow else 0
    if low.shape != high.shape or not np.isfinite([low, high]).all() or not (low < high).all():
        raise Unsupported("its range is not one", "min below max")
    scale = (high - low) / (255 - least)
    zero = np.clip(np.rint(least - low / scale), least, 255).astype(np.uint8)
    single = len(scale) == 1
    numbers = [scale.astype(np.float32), zero]
    parameters = [operation.make(p.reshape(()) if single else p) for p in numbers]
    attributes = {} if single else {"axis": operation.rank(0) - 1}
    codes = operation.emit("QuantizeLinear", [operation.value(0), *parameters], attributes)
    operation.done(operation.emit("DequantizeLinear", [codes, *parameters], attributes))


def truth(operation: Operation, kind: str, keep: bool) -> None:
    """``kind``: ReduceMin for all of some truth values, ReduceMax for any."""
    numbers = operation.emit("Cast", [operation.value(0)], {"to": int(ir.DataType.INT32)}, glue=True)
    axes = operation.list(operation.integers(1, "the axes"))
    attributes = {"keepdims": int(keep), "noop_with_empty_axes": 1}
    made = operation.emit(kind, [numbers, axes], attributes)
    operation.done(operation.emit("Cast", [made], {"to": int(ir.DataType.BOOL)}, glue=True))


# --- shapes -----------------------------------------------------------------------------------------------------------


def transpose(operation: Operation) -> None:
    operation.done(operation.emit("Transpose", [operation.value(0)], {"perm": operation.integers(1, "the order")}))


def rank(operation: Operation) -> None:
    operation.done(operation.make(np.array(operation.rank(0), np.int32)))


def broadcast_to(operation: Operation) -> None:
    operation.done(operation.emit("Expand", [operation.value(0), operation.shape_value(1)]))


def tile(operation: Operation) -> None:
    operation.done(operation.emit("Tile", [operation.value(0), operation.shape_value(1)]))


def fill(operation: Operation) -> None:
    operation.done(operation.emit("Expand", [operation.value(1), operation.shape_value(0)]))


def range_(operation: Operation) -> None:
    operation.done(operation.emit("Range", operation.values(0, 3)))


def broadcast_shapes(operation: Operation) -> None:
    shapes = [operation.integers(i, "a shape") for i in range(2)]
    operation.done(operation.make(np.array(broadcast(*shapes), np.int32)))


# --- places -----------------------------------------------------------------------------------------------------------


def place_of_extreme(operation: Operation, kind: str, dtype: ir.DataType) -> None:
    """``kind``: ArgMax or ArgMin."""
    axis = operation.axis(1) if operation.has(1) else 0
    made = operation.emit(kind, [operation.value(0)], {"axis": axis, "keepdims": 0})
    wide = dtype == ir.DataType.INT64
    operation.done(made if wide else operation.emit("Cast", [made], {"to": int(dtype)}, glue=True))


def running_total(operation: Operation, kind: str, exclusive: bool, reverse: bool) -> None:
    """``kind``: CumSum or CumProd."""
    axis = operation.make(np.array(operation.axis(1), np.int64))
    attributes = {"exclusive": int(exclusive), "reverse": int(reverse)}
    operation.done(operation.emit(kind, [operation.value(0), axis], attributes))


def one_hot(operation: Operation, axis: int) -> None:
    """Places, depth, the value at the place, that of the others."""
    indices, depth, on, off = operation.values(0, 4)
    both = [operation.emit("Unsqueeze", [v, operation.list([0])], glue=True) for v in (off, on)]
    values = operation.emit("Concat", both, {"axis": 0}, glue=True)
    operation.done(operation.emit("OneHot", [indices, depth, values], {"axis": axis}))


def largest(operation: Operation, in_order: bool = True) -> None:
    """The largest elements along the last axis, and their places."""
    count = operation.list([operation.integer_operand(1, "k")])
    attributes = {"axis": -1, "largest": 1, "sorted": int(in_order)}
    values, places = operation.emit_all("TopK", [operation.value(0), count], attributes, 2)
    operation.done(values, operation.emit("Cast", [places], {"to": int(ir.DataType.INT32)}, glue=True))


def gather(operation: Operation, axis: int, batch: int) -> None:
    """Positions along an axis; ``batch`` first dimensions are those of both operands."""
    batch = batch + operation.rank(1) if batch < 0 else batch
    if batch:
        _gather_batched(operation, axis, batch)
        return
    operation.done(operation.emit("Gather", operation.values(0, 2), {"axis": axis}))


def _gather_batched(operation: Operation, axis: int, batch: int) -> None:
    """As GatherND, whose positions are along the first dimension behind the batch."""
    rank = operation.rank(0)
    axis = axis + rank if axis < 0 else axis
    if not 0 <= batch <= axis < rank or batch > operation.rank(1):
        raise Unsupported(f"a gather along axis {axis} with batch_dims {batch}", "batch_dims up to the axis")
    if axis != batch:
        raise Unsupported(f"a gather along axis {axis} with batch_dims {batch}", f"axis {batch}")
    places = operation.emit("Unsqueeze", [operation.value(1), operation.list([-1])], glue=True)
    places = operation.emit("Cast", [places], {"to": int(ir.DataType.INT64)}, glue=True)
    operation.done(operation.emit("GatherND", [operation.value(0), places], {"batch_dims": batch}))


def gather_nd(operation: Operation) -> None:
    indices = operation.emit("Cast", [operation.value(1)], {"to": int(ir.DataType.INT64)}, glue=True)
    operation.done(operation.emit("GatherND", [operation.value(0), indices]))


def select(operation: Operation, by_rows: bool) -> None:
    """``by_rows``: a condition of rank 1 chooses rows; one of the same rank, or a number, elements."""
    inputs = operation.values(0, 3)
    if by_rows and operation.rank(0) == 1 and operation.rank(1) > 1:
        axes = operation.list(range(1, operation.rank(1)))
        inputs[0] = operation.emit("Unsqueeze", [inputs[0], axes], glue=True)
    operation.done(operation.emit("Where", inputs))


def logarithm_of_softmax(operation: Operation) -> None:
    operation.done(operation.emit("LogSoftmax", [operation.value(0)], {"axis": -1}))


# --- spectra ----------------------------------------------------------------------------------------------------------


def row_spectrum(operation: Operation, length: int) -> ir.Value:
    """Of the last dimension of input 0, cut or filled with zeros to a length: ``[…, length // 2 + 1, 2]``."""
    shape = operation.shape(0)
    value, axis = operation.value(0), len(shape) - 1
    if shape[-1] > length:
        value = operation.emit("Slice", [value, *(operation.list([n]) for n in (0, length, axis))])
    elif shape[-1] < length:
        edges = [0] * (2 * len(shape))
        edges[-1] = length - shape[-1]
        value = operation.emit("Pad", [value, operation.list(edges)], {"mode": "constant"})
    value = operation.emit("Unsqueeze", [value, operation.list([-1])], glue=True)
    inputs = [value, operation.make(np.array(length, np.int64)), operation.make(np.array(axis, np.int64))]
    return operation.emit("DFT", inputs, {"onesided": 1})


def magnitude(operation: Operation, complexes: ir.Value) -> None:
    """The absolute values of complex numbers ``[…, 2]``."""
    operation.done(operation.emit("ReduceL2", [complexes, operation.list([-1])], {"keepdims": 0}))


def component(operation: Operation, complexes: ir.Value, imaginary: bool) -> None:
    """The real or the imaginary parts of complex numbers ``[…, 2]``."""
    edges = [1, FAR] if imaginary else [0, 1]
    part = operation.emit("Slice", [complexes, *(operation.list([n]) for n in (*edges, -1))])
    operation.done(operation.emit("Squeeze", [part, operation.list([-1])]))
