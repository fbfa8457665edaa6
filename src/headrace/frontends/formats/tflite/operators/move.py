# SPDX-License-Identifier: Apache-2.0
"""CONCATENATION, SPLIT, SLICE, STRIDED_SLICE, PAD, DEPTH_TO_SPACE and SPACE_TO_DEPTH."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported

_FAR = int(np.iinfo(np.int64).max)


@converts("CONCATENATION")
def concatenation(operation: Operation) -> None:
    inputs = [operation.value(i) for i in range(len(operation.record.inputs))]
    operation.done(operation.activated(operation.emit("Concat", inputs, {"axis": operation.integer("axis")})))


def _split(operation: Operation, data: int, sizes: ir.Value | None, axis: int) -> None:
    count = len(operation.record.outputs)
    if count != operation.integer("num_splits") or count < 1:
        raise Unsupported(f"{count} outputs and num_splits {operation.integer('num_splits')}", "the same number")
    inputs = [operation.value(data)] if sizes is None else [operation.value(data), sizes]
    attributes = {"axis": axis} | ({"num_outputs": count} if sizes is None else {})
    operation.done(*operation.emit_all("Split", inputs, attributes, count))


def _axis(operation: Operation, index: int) -> int:
    axes = operation.integers(index, "the axis")
    if len(axes) != 1:
        raise Unsupported(f"axes {axes}", "one axis")
    return axes[0]


@converts("SPLIT")
def split(operation: Operation) -> None:
    _split(operation, 1, None, _axis(operation, 0))


@converts("SPLIT_V")
def split_sizes(operation: Operation) -> None:
    sizes, axis = operation.integers(1, "the sizes"), _axis(operation, 2)
    if sizes.count(-1) == 1:
        shape = operation.tensor(0).shape
        if not -len(shape) <= axis < len(shape) or shape[axis] < 0:
            raise Unsupported(f"sizes {sizes} of a tensor whose size the file leaves open", "known sizes")
        sizes[sizes.index(-1)] = shape[axis] - sum(s for s in sizes if s != -1)
    _split(operation, 0, operation.list(sizes), axis)


@converts("SLICE")
def slice_(operation: Operation) -> None:
    begin, size = operation.integers(1, "begin"), operation.integers(2, "size")
    if len(begin) != len(size) or any(b < 0 for b in begin) or any(s < -1 for s in size):
        raise Unsupported(f"begin {begin} and size {size}", "one of each per dimension, none below 0 but a size of -1")
    ends = [_FAR if s == -1 else b + s for b, s in zip(begin, size, strict=True)]
    inputs = [operation.value(0), operation.list(begin), operation.list(ends), operation.list(range(len(begin)))]
    operation.done(operation.emit("Slice", inputs))


@converts("STRIDED_SLICE")
def strided_slice(operation: Operation) -> None:
    """Per dimension a range, whose ends a mask may leave open, or one index, whose dimension then goes."""
    begin, end, step = (operation.integers(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(step) or 0 in step:
        raise Unsupported(f"begin {begin}, end {end} and strides {step}", "one of each per dimension, strides not 0")
    if operation.integer("ellipsis_mask") or operation.integer("new_axis_mask") or operation.flag("offset"):
        raise Unsupported("STRIDED_SLICE with an ellipsis, new axes or offsets", "a range or an index per dimension")
    open_begin, open_end, index = (operation.integer(f"{m}_mask") for m in ("begin", "end", "shrink_axis"))
    gone: list[int] = []
    for axis in range(len(begin)):
        if index >> axis & 1:
            end[axis], step[axis] = (begin[axis] + 1 if begin[axis] != -1 else _FAR), 1
            gone.append(axis)
            continue
        if open_begin >> axis & 1:
            begin[axis] = 0 if step[axis] > 0 else _FAR
        if open_end >> axis & 1:
            end[axis] = _FAR if step[axis] > 0 else -_FAR
    axes = operation.list(range(len(begin)))
    inputs = [operation.value(0), operation.list(begin), operation.list(end), axes, operation.list(step)]
    value = operation.emit("Slice", inputs)
    operation.done(operation.emit("Squeeze", [value, operation.list(gone)]) if gone else value)


def _paddings(operation: Operation) -> list[int]:
    """All paddings before, then all after."""
    array = operation.array(1, "the paddings")
    if array.ndim != 2 or array.shape[1] != 2 or array.shape[0] > 16 or array.dtype.kind != "i":
        raise Unsupported(f"paddings of shape {list(array.shape)}", "[rank, 2] integers")
    return [int(v) for v in array.T.reshape(-1)]


@converts("PAD", "PADV2")
def pad(operation: Operation) -> None:
    inputs = [operation.value(0), operation.list(_paddings(operation))]
    if operation.name == "PADV2":
        inputs.append(operation.value(2))
    operation.done(operation.emit("Pad", inputs, {"mode": "constant"}))


@converts("MIRROR_PAD")
def mirror_pad(operation: Operation) -> None:
    mode = "reflect" if operation.integer("mode") == 0 else "symmetric"
    operation.done(operation.emit("Pad", [operation.value(0), operation.list(_paddings(operation))], {"mode": mode}))


@converts("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def blocks(operation: Operation) -> None:
    size = operation.integer("block_size")
    if size < 1:
        raise Unsupported(f"block_size {size}", "a positive integer")
    if operation.name == "DEPTH_TO_SPACE":
        made = operation.emit("DepthToSpace", [operation.image(0)], {"blocksize": size, "mode": "DCR"})
    else:
        made = operation.emit("SpaceToDepth", [operation.image(0)], {"blocksize": size})
    operation.done_image(made)
