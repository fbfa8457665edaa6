# SPDX-License-Identifier: Apache-2.0
"""A transposed convolution, put together exactly from a plain convolution per output phase and a move that interleaves.

Equal strides make it one convolution and a depth_to_space. Others interleave by layers that pass codes: in row-major
H×W×C order a concatenation along channels followed by a reshape interleaves columns, one along columns rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.to_hn.builder import Builder
from headrace.hn import Array
from headrace.layers import Concat, Convolution, DepthToSpace, DepthwiseConvolution, Pad, Reshape, Slice


def _cut(builder: Builder, layer: str, axis: int, start: int, size: int, step: int = 1) -> str:
    """Part of one axis; the layer itself where that is all of it."""
    extent = list(builder.extent(layer))
    if (start, size) == (0, extent[axis]):
        return layer
    starts, steps, sizes = [0, 0, 0], [1, 1, 1], extent
    starts[axis], steps[axis], sizes[axis] = start, step, size
    return builder.emit(Slice(tuple(starts), tuple(steps), tuple(sizes)), [layer]).name


def _join(builder: Builder, layers: Sequence[str], axis: int) -> str:
    return layers[0] if len(layers) == 1 else builder.emit(Concat(axis), layers).name


def _shaped(builder: Builder, layer: str, shape: Sequence[int]) -> str:
    if builder.extent(layer) == tuple(shape):
        return layer
    return builder.emit(Reshape(tuple(shape)), [layer]).name


def _interleave_rows(builder: Builder, rows: Sequence[str], width_block: int) -> str:
    """The same, each row of phases joined along channels already."""
    height, width, channels = builder.extent(rows[0])
    outputs = channels // width_block
    wide = [_shaped(builder, row, (height, width * width_block, outputs)) for row in rows]
    return _shaped(builder, _join(builder, wide, 1), (height * len(rows), width * width_block, outputs))


def _phase_kernel(weight: Array, dim: int, axis: TransposedAxis, phase: int) -> Array:
    """The taps of one output phase along one axis, as a plain convolution's, padded with zeros.

    Output position ``stride·m + phase`` reads input ``m - (t·dilation - phase) / stride`` for every tap t that divides.
    """
    shape = list(weight.shape)
    shape[dim] = axis.taps
    kernel = np.zeros(shape)
    taken, made = np.moveaxis(weight, dim, 0), np.moveaxis(kernel, dim, 0)
    for t in range(weight.shape[dim]):
        distance = t * axis.dilation - phase
        if distance % axis.stride == 0 and distance >= 0:
            made[axis.taps - 1 - distance // axis.stride] = taken[t]
    return kernel


@dataclass(frozen=True)
class TransposedAxis:
    """How one axis of a transposed convolution is computed.

    Attributes:
        stride, dilation: of the transposed convolution.
        output: positions that are wanted.
        taps: of the plain convolution of each phase.
        top, bottom: its padding.
        crop: positions in front of those that are wanted.
        shrink: positions at the end of the input that nothing wanted depends on.
    """

    stride: int
    dilation: int
    output: int
    taps: int
    top: int
    bottom: int
    crop: int
    shrink: int

    @classmethod
    def of(cls, size: int, extent: int, stride: int, dilation: int, before: int, output: int) -> TransposedAxis:
        """From the input's size, the dilated kernel's extent, the padding before and the output's size."""
        taps = -(-extent // stride)
        skipped = min(before // stride, taps - 1)  # whole positions before the first that is wanted
        positions = -(-(before + output) // stride) - skipped
        # positions = size + top + bottom - taps + 1
        bottom = positions - size - (taps - 1 - skipped) + taps - 1
        crop = before - skipped * stride
        return cls(stride, dilation, output, taps, taps - 1 - skipped, max(bottom, 0), crop, max(-bottom, 0))


def transposed(
    builder: Builder, layer: str, kernel: Array, bias: Array, axes: Sequence[TransposedAxis], groups: int
) -> str:
    """A transposed convolution of a layer [-1, H, W, C].

    Args:
        builder: the network.
        layer: what is read.
        kernel: ``[height, width, inputs per group, outputs]``, outputs group by group; float64.
        bias: ``[outputs]``.
        axes: height and width.
        groups: of channels.
    """
    for index, axis in enumerate(axes):
        layer = _cut(builder, layer, index, 0, builder.extent(layer)[index] - axis.shrink)
    layer = _phased(builder, layer, kernel, bias, axes, groups)
    for index, axis in enumerate(axes):
        layer = _cut(builder, layer, index, axis.crop, axis.output)
    return layer


def _phased(
    builder: Builder, layer: str, kernel: Array, bias: Array, axes: Sequence[TransposedAxis], groups: int
) -> str:
    taps, strides = (axes[0].taps, axes[1].taps), (axes[0].stride, axes[1].stride)
    after = [max(a.bottom - a.taps + 1, 0) for a in axes]  # a convolution's padding stays below its kernel's extent
    if any(after):
        layer = builder.emit(Pad((0, 0, 0), (*after, 0)), [layer]).name
    padding = (axes[0].top, axes[1].top, axes[0].bottom - after[0], axes[1].bottom - after[1])
    inputs, outputs = kernel.shape[2:]

    def convolve(weights: list[Array]) -> list[str]:
        if groups == 1:  # one convolution gives all of them
            weights = [np.concatenate(weights, axis=3)]
        names: list[str] = []
        for weight in weights:
            count = weight.shape[3]
            depthwise = groups > 1 and inputs == 1 and outputs == groups
            kind = DepthwiseConvolution if depthwise else Convolution
            operation = kind(kernel_shape=(*taps, inputs, count), padding=padding, groups=groups)
            params = {"kernel": weight, "bias": np.tile(bias, count // outputs)}
            names.append(builder.emit(operation, [layer], params).name)
        return names

    phases = [
        [_phase_kernel(_phase_kernel(kernel, 0, axes[0], i), 1, axes[1], j) for j in range(strides[1])]
        for i in range(strides[0])
    ]
    if strides[0] == strides[1]:
        deep = _join(builder, convolve([phase for row in phases for phase in row]), 2)
        return builder.emit(DepthToSpace(strides[0]), [deep]).name if strides[0] > 1 else deep
    rows = [_join(builder, convolve(row), 2) for row in phases]
    return _interleave_rows(builder, rows, strides[1])
