# SPDX-License-Identifier: Apache-2.0
"""Joining, cutting, choosing by index, padding, blocks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.graph import Unsupported

_FAR = int(np.iinfo(np.int64).max)


@converts("ConcatV2")
def concatenation(operation: Operation) -> None:
    last = len(operation.inputs) - 1
    operation.done(operation.emit("Concat", operation.values(0, last), {"axis": operation.axis(last)}))


@converts("Concat")
def concatenation_axis_first(operation: Operation) -> None:
    operation.done(operation.emit("Concat", operation.values(1), {"axis": operation.axis(0)}))


def _parts(operation: Operation, count: int) -> int:
    if not 1 <= count <= 1 << 12:
        raise Unsupported(f"num_split {count}", "1 to 4096")
    return count


@converts("Split")
def split(operation: Operation) -> None:
    count, axis = _parts(operation, operation.attributes.integer("num_split", 0)), operation.axis(0)
    operation.done(*operation.emit_all("Split", [operation.value(1)], {"axis": axis, "num_outputs": count}, count))


@converts("SplitV")
def split_sizes(operation: Operation) -> None:
    sizes, axis = operation.integers(1, "the sizes"), operation.axis(2)
    if sizes.count(-1) == 1:
        shape = operation.shape(0)
        if not -len(shape) <= axis < len(shape):
            raise Unsupported(f"axis {axis} of a tensor of shape {shape}")
        sizes[sizes.index(-1)] = shape[axis] - sum(s for s in sizes if s != -1)
    _parts(operation, len(sizes))
    operation.done(
        *operation.emit_all("Split", [operation.value(0), operation.list(sizes)], {"axis": axis}, len(sizes))
    )


@converts("Slice")
def slice_(operation: Operation) -> None:
    begin, size = operation.integers(1, "begin"), operation.integers(2, "size")
    if len(begin) != len(size) or any(b < 0 for b in begin) or any(s < -1 for s in size):
        raise Unsupported(f"begin {begin} and size {size}", "one of each per dimension, none below 0 but a size of -1")
    ends = [_FAR if s == -1 else b + s for b, s in zip(begin, size, strict=True)]
    inputs = [operation.value(0), operation.list(begin), operation.list(ends), operation.list(range(len(begin)))]
    operation.done(operation.emit("Slice", inputs))


@converts("StridedSlice")
def strided_slice(operation: Operation) -> None:
    """Per entry a range, whose ends a mask may leave open, an index, whose dimension then goes, a new dimension, or an
    ellipsis for all that is not named.
    """
    begin, end, step = (operation.integers(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(step) or 0 in step:
        raise Unsupported(f"begin {begin}, end {end} and strides {step}", "one of each per dimension, strides not 0")
    masks = {
        word: operation.attributes.integer(f"{word}_mask", 0)
        for word in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    ranges: list[tuple[int, int, int, int]] = []  # axis, begin, end, step
    gone: list[int] = []  # axes of the sliced tensor
    fresh: list[int] = []  # axes of the result
    axis = place = 0
    for entry in range(len(begin)):
        bit = {word: mask >> entry & 1 for word, mask in masks.items()}
        if bit["ellipsis"]:
            new = sum(masks["new_axis"] >> i & 1 for i in range(len(begin)) if not masks["ellipsis"] >> i & 1)
            over = operation.rank(0) - (len(begin) - 1 - new)
            if over < 0 or masks["ellipsis"].bit_count() > 1:
                raise Unsupported(f"an ellipsis among {len(begin)} entries for rank {operation.rank(0)}")
            axis, place = axis + over, place + over
        elif bit["new_axis"]:
            fresh.append(place)
            place += 1
        else:
            first, last, by = begin[entry], end[entry], step[entry]
            if bit["shrink_axis"]:
                first, last, by = first, (first + 1 if first != -1 else _FAR), 1
                gone.append(axis)
            else:
                first = (0 if by > 0 else _FAR) if bit["begin"] else first
                last = (_FAR if by > 0 else -_FAR) if bit["end"] else last
                place += 1
            ranges.append((axis, first, last, by))
            axis += 1
    operation.done(_ranged(operation, ranges, gone, fresh))


def _ranged(
    operation: Operation, ranges: list[tuple[int, int, int, int]], gone: list[int], fresh: list[int]
) -> ir.Value:
    value = operation.value(0)
    kept = [r for r in ranges if r[1:] != (0, _FAR, 1)]
    if kept:
        columns = [operation.list([r[i] for r in kept]) for i in (1, 2, 0, 3)]
        value = operation.emit("Slice", [value, *columns])
    if gone:
        value = operation.emit("Squeeze", [value, operation.list(gone)])
    if fresh:
        value = operation.emit("Unsqueeze", [value, operation.list(fresh)])
    return value if kept or gone or fresh else operation.emit("Identity", [value])


@converts("ReverseV2")
def reverse(operation: Operation) -> None:
    axes = operation.integers(1, "the axes")
    edges = ([-1] * len(axes), [-_FAR] * len(axes), axes, [-1] * len(axes))
    operation.done(operation.emit("Slice", [operation.value(0), *(operation.list(e) for e in edges)]))


@converts("Gather", "GatherV2", "ResourceGather")
def gather(operation: Operation) -> None:
    if operation.attributes.integer("batch_dims", 0):
        raise Unsupported(f"{operation.name} with batch_dims", "batch_dims 0")
    axis = operation.axis(2) if operation.name == "GatherV2" else 0
    operation.done(operation.emit("Gather", operation.values(0, 2), {"axis": axis}))


@converts("GatherNd", "ResourceGatherNd")
def gather_nd(operation: Operation) -> None:
    indices = operation.value(1)
    if not operation.is_constant(1) or indices.dtype != ir.DataType.INT64:
        indices = operation.cast(indices, "int64")
    operation.done(operation.emit("GatherND", [operation.value(0), indices]))


def _paddings(operation: Operation) -> list[int]:
    """All paddings before, then all after."""
    array = operation.array(1, "the paddings")
    if array.ndim != 2 or array.shape[1] != 2 or array.shape[0] > 16 or array.dtype.kind not in "iu":
        raise Unsupported(f"paddings of shape {list(array.shape)}", "[rank, 2] integers")
    return [int(v) for v in array.T.reshape(-1)]


@converts("Pad", "PadV2")
def pad(operation: Operation) -> None:
    inputs = [operation.value(0), operation.list(_paddings(operation))]
    if operation.name == "PadV2":
        inputs.append(operation.value(2))
    operation.done(operation.emit("Pad", inputs, {"mode": "constant"}))


@converts("MirrorPad")
def mirror_pad(operation: Operation) -> None:
    """SYMMETRIC repeats the edge itself too, which joining what is at the edge, turned round, does."""
    paddings = _paddings(operation)
    if operation.attributes.text("mode", "REFLECT") == "REFLECT":
        operation.done(operation.emit("Pad", [operation.value(0), operation.list(paddings)], {"mode": "reflect"}))
        return
    shape, value = operation.shape(0), operation.value(0)
    rank = len(shape)
    for axis, (before, after) in enumerate(zip(paddings[:rank], paddings[rank:], strict=False)):
        if not 0 <= before <= shape[axis] or not 0 <= after <= shape[axis]:
            raise Unsupported(f"paddings {paddings} of a tensor of shape {shape}", "no more than what is mirrored")
        parts = [value]
        if before:
            parts.insert(0, _turned_round(operation, value, axis, before - 1, -_FAR))
        if after:
            parts.append(_turned_round(operation, value, axis, shape[axis] - 1, shape[axis] - 1 - after - shape[axis]))
        value = operation.emit("Concat", parts, {"axis": axis}) if len(parts) > 1 else value
    operation.done(value)


def _turned_round(operation: Operation, value: ir.Value, axis: int, first: int, end: int) -> ir.Value:
    """Positions from ``first`` back to behind ``end`` (counted from the last)."""
    edges = [operation.list([n]) for n in (first, end, axis, -1)]
    return operation.emit("Slice", [value, *edges])


@converts("DepthToSpace", "SpaceToDepth")
def blocks(operation: Operation) -> None:
    size = operation.attributes.integer("block_size", 0)
    if size < 1:
        raise Unsupported(f"block_size {size}", "a positive integer")
    attributes: dict[str, int | str] = {"blocksize": size}
    if operation.name == "DepthToSpace":
        attributes["mode"] = "DCR"
    operation.done_image(operation.emit(operation.name, [operation.image(0)], attributes))


@converts("Roll")
def roll(operation: Operation) -> None:
    """Each axis cut in two, and the parts exchanged."""
    shifts, axes, shape = operation.integers(1, "the shifts"), operation.integers(2, "the axes"), operation.shape(0)
    if len(shifts) != len(axes) or any(not -len(shape) <= a < len(shape) or not shape[a] for a in axes):
        raise Unsupported(f"shifts {shifts} of axes {axes} of a tensor of shape {shape}")
    value = operation.value(0)
    for shift, axis in zip(shifts, axes, strict=True):
        by = shift % shape[axis]
        if not by:
            continue
        sizes = operation.list([shape[axis] - by, by])
        first, second = operation.emit_all("Split", [value, sizes], {"axis": axis}, 2)
        value = operation.emit("Concat", [second, first], {"axis": axis})
    operation.done(value if value is not operation.value(0) else operation.emit("Identity", [value]))
