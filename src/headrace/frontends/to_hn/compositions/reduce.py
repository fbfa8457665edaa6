# SPDX-License-Identifier: Apache-2.0
"""Means, sums and largest elements over any dimensions but the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from headrace.frontends.graph import MixesFrames
from headrace.frontends.layout import CHANNELS, HEIGHT, WIDTH, View, lift_batch, regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.layers import AveragePool, BatchNorm, Convolution, ReduceMax, Reshape

Reduction = Callable[[Builder, str, set[int]], str]


def _weighted(builder: Builder, layer: str, weight: float) -> str:
    """``weight · Σ`` over the channels: a convolution with one output."""
    channels = builder.extent(layer)[CHANNELS]
    params = {"kernel": np.full((1, 1, channels, 1), weight), "bias": np.zeros(1)}
    return builder.emit(Convolution(kernel_shape=(1, 1, channels, 1)), [layer], params).name


def spatial_mean(builder: Builder, layer: str, axes: set[int]) -> str:
    """The mean over height, width or both."""
    extent = builder.extent(layer)
    spatial = [axis for axis in (HEIGHT, WIDTH) if extent[axis] > 1]
    if not axes & {HEIGHT, WIDTH}:
        return layer
    if set(spatial) <= axes:
        return builder.emit(AveragePool(extent[:2]), [layer]).name
    window = (extent[HEIGHT] if HEIGHT in axes else 1, extent[WIDTH] if WIDTH in axes else 1)
    return builder.emit(AveragePool(window), [layer]).name


def mean(builder: Builder, layer: str, axes: set[int]) -> str:
    layer = spatial_mean(builder, layer, axes)
    return _weighted(builder, layer, 1.0 / builder.extent(layer)[CHANNELS]) if CHANNELS in axes else layer


def total(builder: Builder, layer: str, axes: set[int]) -> str:
    extent = builder.extent(layer)
    count = math.prod(extent[a] for a in axes if a != CHANNELS)
    layer = spatial_mean(builder, layer, axes)
    if CHANNELS in axes:
        return _weighted(builder, layer, float(count))
    if count == 1:
        return layer
    params = {"scale": np.full(extent[CHANNELS], float(count)), "offset": np.zeros(extent[CHANNELS])}
    return builder.emit(BatchNorm(), [layer], params).name


def largest(builder: Builder, layer: str, axes: set[int]) -> str:
    return builder.emit(ReduceMax(tuple(sorted(axes))), [layer]).name


def pooled_mean(builder: Builder, layer: str, axes: set[int]) -> str:
    """The mean by pools alone, which take 16 bits: channels become columns for it."""
    layer = spatial_mean(builder, layer, axes)
    if CHANNELS not in axes:
        return layer
    height, width, channels = builder.extent(layer)
    columns = builder.emit(Reshape((height * width, channels, 1)), [layer]).name
    mean = builder.emit(AveragePool((1, channels)), [columns]).name
    return builder.emit(Reshape((height, width, 1)), [mean]).name


def reduce_over(builder: Builder, view: View, axes: list[int], keep: bool, reduction: Reduction) -> View:
    """A reduction over source dimensions other than the batch."""
    if builder.mixes_frames(view, axes):
        raise MixesFrames("a reduction over the batch mixes its frames", "other axes")
    if not view.batch_first or view.batch_dim in axes:
        lifted, put_back = lift_batch(view)
        result = put_back(reduce_over(builder, lifted, [a + 1 for a in axes], True, reduction))
        if keep:
            return result
        return regroup(result, [s for i, s in enumerate(result.shape) if i not in axes], movable=builder.one_frame)
    sizes = [1 if i in axes else s for i, s in enumerate(view.shape)]
    active = [a for a in axes if view.shape[a] > 1]
    result = view
    if active:
        layer, groups = builder.apart(view, active, together=True)
        over = {axis for axis, group in enumerate(groups) if any(d in active for d in group)}
        layer = builder.as_image(layer)
        result = builder.grouped(reduction(builder, layer, over), groups, sizes)
    return result if keep else regroup(result, [s for i, s in enumerate(sizes) if i not in axes])
