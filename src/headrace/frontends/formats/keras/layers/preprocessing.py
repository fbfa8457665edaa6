# SPDX-License-Identifier: Apache-2.0
"""Rescaling, Normalization and Resizing."""

from __future__ import annotations

import numpy as np

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts
from headrace.frontends.graph import Unsupported
from headrace.hn import Array
from headrace.typeguards import is_number, is_sequence


def _numbers(call: LayerCall, name: str, default: float) -> Array:
    """An option of one number, or of one per channel."""
    value = call.option(name, default)
    values = value if is_sequence(value) else [value]
    if not values or len(values) > 1 << 16 or not all(is_number(v) for v in values):
        raise Unsupported(f"option {name!r} is {str(value)[:80]}", "a number, or one per channel")
    array = np.array(values, np.float32)
    return array if is_sequence(value) else array.reshape(())


@converts("Rescaling")
def rescaling(call: LayerCall) -> Tensor:
    x = call.x
    if call.channels_first and x.rank == 4:
        raise Unsupported("channels_first", "channels_last")
    value = call.emit("Mul", [x.value, call.make(_numbers(call, "scale", 1.0))])
    offset = _numbers(call, "offset", 0.0)
    return Tensor(call.emit("Add", [value, call.make(offset)]) if offset.any() else value, x.shape)


@converts("Normalization")
def normalization(call: LayerCall) -> Tensor:
    """By means and variances that are options, or that were found in data and stand among the arrays."""
    x = call.x
    axes = call.axes("axis", x.rank) if call.option("axis", -1) is not None else []
    shape = [x.size(a) if a in axes else 1 for a in range(1, x.rank)]
    call.no_arguments("mask")
    own = [x.size(a) for a in axes if a > 0]
    if call.option("mean") is not None:
        mean, variance = (np.asarray(_flat(call, name), np.float32) for name in ("mean", "variance"))
    else:
        mean, variance = call.weight(0, own, "mean"), call.weight(1, own, "variance")
    if any(a.size not in (1, int(np.prod(shape))) for a in (mean, variance)):
        raise Unsupported(f"{mean.size} means and {variance.size} variances", f"{int(np.prod(shape))}")
    sizes = [1] * len(shape)
    mean, variance = (a.reshape(shape if a.size > 1 else sizes) for a in (mean, variance))
    deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))
    if call.flag("invert"):
        value = call.emit("Mul", [x.value, call.make(deviation)])
        return Tensor(call.emit("Add", [value, call.make(mean)]), x.shape)
    value = call.emit("Sub", [x.value, call.make(mean)])
    return Tensor(call.emit("Div", [value, call.make(deviation)]), x.shape)


def _flat(call: LayerCall, name: str) -> list[float]:
    """An option of numbers in lists."""
    found: list[float] = []
    waiting = [call.option(name)]
    while waiting:
        value = waiting.pop()
        if is_sequence(value) and len(value) <= 1 << 16:
            waiting += reversed(value)
        elif is_number(value):
            found.append(float(value))
        else:
            raise Unsupported(f"option {name!r} holds {str(value)[:40]}", "numbers")
    return found


@converts("Resizing")
def resizing(call: LayerCall) -> Tensor:
    """By pixel centres; the nearest of two as near is the later one."""
    x = call.x
    if x.rank != 4:
        raise Unsupported(f"its input has rank {x.rank}", "rank 4")
    size = [call.integer("height"), call.integer("width")]
    mode = call.word("interpolation", "bilinear", "bilinear", "nearest")
    first = call.channels_first
    image = x.value if first else call.channels_second(x)
    kept = call.emit("Shape", [image], {"start": 0, "end": 2}, glue=True)
    sizes = call.emit("Concat", [kept, call.list(size)], {"axis": 0}, glue=True)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if mode == "nearest":
        attributes |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    call.ignore("fill_mode", "fill_value")  # of padding, which is refused where it is wanted
    value = call.emit("Resize", [image, None, None, sizes], attributes)
    shape = (None, x.shape[1], *size) if first else (None, *size, x.shape[3])
    return Tensor(value if first else call.channels_last(value, 4), shape)


@converts("CenterCrop")
def middle(call: LayerCall) -> Tensor:
    """The middle of an image at least as large."""
    x, size = call.x, [call.integer("height"), call.integer("width")]
    if x.rank != 4:
        raise Unsupported(f"its input has rank {x.rank}", "rank 4")
    axes = [2, 3] if call.channels_first else [1, 2]
    begins = [(x.size(a) - s) // 2 for a, s in zip(axes, size, strict=True)]
    if min(begins) < 0:
        raise Unsupported(f"the middle {size} of an image {[x.size(a) for a in axes]}", "an image at least as large")
    ends = [b + s for b, s in zip(begins, size, strict=True)]
    value = call.emit("Slice", [x.value, *(call.list(e) for e in (begins, ends, axes))])
    return Tensor(value, tuple(size[axes.index(i)] if i in axes else s for i, s in enumerate(x.shape)))
