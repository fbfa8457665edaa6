# SPDX-License-Identifier: Apache-2.0
"""Means, sums, largest elements and norms over any axes but the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import MixesFrames, Unsupported, integer, integer_list
from headrace.frontends.layout import CHANNELS, HEIGHT, WIDTH, View, lift_batch, regroup
from headrace.frontends.to_hn.base import Builder, Result, handles
from headrace.frontends.to_hn.elementwise import combine, per_channel

Reduction = Callable[[Builder, str, set[int]], str]


def _weighted(builder: Builder, layer: str, weight: float) -> str:
    """``weight · Σ`` over the channels: a convolution with one output."""
    channels = builder.extent(layer)[CHANNELS]
    params = {"kernel": np.full((1, 1, channels, 1), weight), "bias": np.zeros(1)}
    return builder.emit("conv", [layer], {"kernel_shape": [1, 1, channels, 1]}, params).name


def spatial_mean(builder: Builder, layer: str, axes: set[int]) -> str:
    """The mean over height, width or both."""
    extent = builder.extent(layer)
    spatial = [axis for axis in (HEIGHT, WIDTH) if extent[axis] > 1]
    if not axes & {HEIGHT, WIDTH}:
        return layer
    if set(spatial) <= axes:
        return builder.emit("global_avgpool", [layer]).name
    window = [extent[axis] if axis in axes else 1 for axis in (HEIGHT, WIDTH)]
    return builder.emit("avgpool", [layer], {"kernel_shape": window}).name


def _mean(builder: Builder, layer: str, axes: set[int]) -> str:
    layer = spatial_mean(builder, layer, axes)
    return _weighted(builder, layer, 1.0 / builder.extent(layer)[CHANNELS]) if CHANNELS in axes else layer


def _sum(builder: Builder, layer: str, axes: set[int]) -> str:
    extent = builder.extent(layer)
    count = math.prod(extent[a] for a in axes if a != CHANNELS)
    layer = spatial_mean(builder, layer, axes)
    if CHANNELS in axes:
        return _weighted(builder, layer, float(count))
    if count == 1:
        return layer
    params = {"scale": np.full(extent[CHANNELS], float(count)), "offset": np.zeros(extent[CHANNELS])}
    return builder.emit("batch_norm", [layer], {}, params).name


def _max(builder: Builder, layer: str, axes: set[int]) -> str:
    return builder.emit("reduce_max", [layer], {"axes": sorted(axes)}).name


def reduce_over(builder: Builder, view: View, axes: list[int], keep: bool, reduction: Reduction) -> View:
    """A reduction over source dimensions other than the batch."""
    if view.batch_dim in axes:
        raise MixesFrames("a reduction over the batch mixes its frames", "other axes")
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        result = put_back(reduce_over(builder, lifted, [a + 1 for a in axes], True, reduction))
        return result if keep else regroup(result, [s for i, s in enumerate(result.shape) if i not in axes])
    sizes = [1 if i in axes else s for i, s in enumerate(view.shape)]
    active = [a for a in axes if view.shape[a] > 1]
    result = view
    if active:
        layer, groups = builder.apart(view, active, together=True)
        over = {axis for axis, group in enumerate(groups) if any(d in active for d in group)}
        layer = builder.as_image(layer)
        result = builder.grouped(reduction(builder, layer, over), groups, sizes)
    return result if keep else regroup(result, [s for i, s in enumerate(sizes) if i not in axes])


def _axes(builder: Builder, node: ir.Node, view: View) -> list[int] | None:
    """The dimensions to reduce, or None where an empty list means nothing is to be done."""
    given = builder.optional(node, 1, "axes")
    if given is not None and given.size:
        return sorted({axis_in(a, view.rank) for a in integer_list(given, "axes")})
    if integer(node, "noop_with_empty_axes", 0):
        return None
    if builder.batch != 1:
        raise MixesFrames(f"{node.op_type} over all axes mixes the frames of a batch", "axes other than 0")
    raise Unsupported(f"{node.op_type} over all axes, the batch included", "axes other than 0")


def _squared(builder: Builder, view: View) -> View:
    return combine(builder, "ew_mult", view, view)


def _activated(builder: Builder, view: View, name: str) -> View:
    return builder.same_layout(builder.emit("activation", [view.layer], {"activation": name}), view)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": _mean, "ReduceSum": _sum, "ReduceMax": _max, "ReduceMin": _max, "ReduceL1": _sum, "ReduceL2": _sum,
    "ReduceSumSquare": _sum,
}  # fmt: skip


@handles(*_REDUCTIONS)
def reduce(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    axes = _axes(builder, node, view)
    kind = node.op_type
    if kind in ("ReduceL2", "ReduceSumSquare"):
        view = _squared(builder, view)
    elif kind == "ReduceL1":
        view = _activated(builder, view, "abs")
    elif kind == "ReduceMin":
        view = per_channel(builder, view, np.full((), -1.0), np.zeros(()))
    if axes is not None:
        view = reduce_over(builder, view, axes, integer(node, "keepdims", 1) != 0, _REDUCTIONS[kind])
    if kind == "ReduceL2":
        view = _activated(builder, view, "sqrt")
    elif kind == "ReduceMin":
        view = per_channel(builder, view, np.full((), -1.0), np.zeros(()))
    return [view]
