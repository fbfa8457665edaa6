# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools over depth, height and width, and those of pictures that are parts of one frame.

The device has height, width and channels, so the depth of a clip lies in the channels: [H, W, depth × channels], which
one 2-D convolution reads at all depths at once. Three exact forms, and the cheapest is taken:

- of a kernel without height and width, a convolution along the depths of every pixel, [H·W, depth, channels];
- a convolution whose weights are zero where a depth is out of the window, where that is little more work;
- a grouped convolution, one group per depth of the result, of the depths that its window reads, copied one behind
  the other. Every group has a copy of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import View, lift_batch, permute, regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.transposed_convolution import TransposedAxis, transposed
from headrace.frontends.to_hn.compositions.window import Padding, absorb_excess, output_size, same_padding
from headrace.frontends.to_hn.operands import SourceNode
from headrace.hn import Array
from headrace.layers import AveragePool, Concat, Convolution, DepthwiseConvolution, MaxPool, Pad, Slice
from headrace.numerics.geometry import window_output

Pair = tuple[int, int]
#: Depths of the result that are computed one by one, and the multiply-adds of zeros that are cheaper than copies.
MAX_DEPTHS = 256
_SPARE = 1.5
_MAX_SIZE = 1 << 20


@dataclass(frozen=True)
class Window:
    """A window over depth, height and width.

    Attributes:
        kernel, strides, dilations: per axis.
        before, after: padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, node: SourceNode, size: Sequence[int], kernel: Sequence[int]) -> Window:
        """The window that a node states over an input of ``size``."""
        count = len(size)
        strides, dilations = (node.integers(name, [1] * count) for name in ("strides", "dilations"))
        for what, values in (("kernel_shape", kernel), ("strides", strides), ("dilations", dilations)):
            if len(values) != count or any(not 0 < v < _MAX_SIZE for v in values):
                raise Unsupported(f"{what} {list(values)}", f"{count} positive integers")
        mode = node.text("auto_pad", "NOTSET")
        pads = node.integers("pads", [0] * 2 * count) if mode == "NOTSET" else [0] * 2 * count
        if len(pads) != 2 * count or any(not 0 <= p < _MAX_SIZE for p in pads):
            raise Unsupported(f"pads {pads}", f"{2 * count} sizes that are not negative")
        before, after = pads[:count], pads[count:]
        if mode not in ("NOTSET", "VALID"):
            before, after = same_padding(mode, size, kernel, strides, dilations)
        return cls(tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(after))

    def with_depth(self) -> Window:
        """A window over height and width as one over a depth of 1."""
        kernel, strides, dilations = ((1, *part) for part in (self.kernel, self.strides, self.dilations))
        return Window(kernel, strides, dilations, (0, *self.before), (0, *self.after))

    @classmethod
    def whole(cls, size: Sequence[int]) -> Window:
        """One window over everything."""
        return cls(tuple(size), (1,) * len(size), (1,) * len(size), (0,) * len(size), (0,) * len(size))

    def extent(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def depths(self, size: int) -> int:
        """Depths of the result."""
        count = window_output(size, self.kernel[0], self.strides[0], self.before[0], self.after[0], self.dilations[0])
        if not 1 <= count <= MAX_DEPTHS:
            raise Unsupported(f"a result of {count} depths", f"1 to {MAX_DEPTHS}")
        return count

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Of height and width: top, left, bottom, right."""
        return self.before[-2], self.before[-1], self.after[-2], self.after[-1]


def _convolve(builder: Builder, layer: str, weight: Array, bias: Array, window: Window, groups: int) -> str:
    """A 2-D convolution of the last two axes of a window; ``weight`` is [kh, kw, inputs per group, outputs]."""
    extents = [window.extent(axis) for axis in (-2, -1)]
    layer, padding = absorb_excess(builder, builder.as_image(layer), window.padding, extents)
    kernel_shape = (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3])
    kind = DepthwiseConvolution if groups > 1 and kernel_shape[2:] == (1, groups) else Convolution
    strides, dilations = window.strides[-2:], window.dilations[-2:]
    operation = kind(
        kernel_shape=kernel_shape, strides=(strides[0], strides[1]), dilations=(dilations[0], dilations[1]),
        padding=padding, groups=groups,
    )  # fmt: skip
    return builder.emit(operation, [layer], {"kernel": np.ascontiguousarray(weight), "bias": bias}).name


def _banded(weight: Array, pairs: Sequence[tuple[int, int, int]], size: int, depths: int) -> Array:
    """[groups, outputs, inputs, kd, kh, kw] as [kh, kw, size × inputs, groups × depths × outputs].

    Args:
        weight: per group of channels.
        pairs: depth of the input, depth of the result and the tap between them; all others are zero.
        size: depths of the input.
        depths: of the result.
    """
    groups, outputs, inputs, _, height, width = weight.shape
    band = np.zeros((height, width, size, inputs, groups, depths, outputs))
    for at, depth, tap in pairs:
        band[:, :, at, :, :, depth] = weight[:, :, :, tap].transpose(3, 4, 2, 0, 1)
    return band.reshape(height, width, size * inputs, groups * depths * outputs)


def _over_all_depths(builder: Builder, view: View, weight: Array, bias: Array, window: Window, groups: int) -> str:
    """One convolution whose weights are zero where a depth is out of the window: [H, W, groups × depths × outputs]."""
    size, depths = view.shape[1], window.depths(view.shape[1])
    inputs = view.shape[2] // groups
    pairs = [
        (at, depth, tap)
        for depth in range(depths)
        for tap in range(window.kernel[0])
        if 0 <= (at := depth * window.strides[0] - window.before[0] + tap * window.dilations[0]) < size
    ]
    layer = grouped_channels(builder, view, groups)
    stacked = weight.reshape(groups, -1, inputs, *weight.shape[2:])
    return _convolve(
        builder, layer, _banded(stacked, pairs, size, depths), spread_bias(bias, groups, depths), window, groups
    )


def grouped_channels(builder: Builder, view: View, groups: int) -> str:
    """[N, D, C, H, W] as a layer [H, W, groups × D × channels per group]."""
    n, size, channels, height, width = view.shape
    apart = regroup(view, [n, size, groups, channels // groups, height, width])
    return builder.place(apart, ([4], [5], [2, 1, 3]), vector=False)


def spread_bias(bias: Array, groups: int, depths: int) -> Array:
    """[outputs] as [groups × depths × outputs per group]."""
    per_group = bias.reshape(groups, 1, -1)
    return np.broadcast_to(per_group, (groups, depths, per_group.shape[2])).reshape(-1)


def from_channels(builder: Builder, layer: str, groups: int, depths: int, outputs: int) -> View:
    """A layer [H, W, groups × D × channels per group] as [N, D, C, H, W]."""
    height, width, _ = builder.extent(layer)
    sizes = [1, depths, groups, outputs // groups, height, width]
    return regroup(builder.grouped(layer, ([4], [5], [2, 1, 3]), sizes), [1, depths, outputs, height, width])


def _along_depth(builder: Builder, view: View, weight: Array, bias: Array, window: Window) -> str:
    """A kernel without height and width: along the depths of every pixel."""
    size, inputs, height, width = view.shape[1:]
    layer = builder.place(view, ([3], [4], [1, 2]), vector=False)
    layer = builder.reshape(layer, (height * width, size, inputs), False)
    line = Window(
        (1, window.kernel[0]), (1, window.strides[0]), (1, window.dilations[0]), (0, window.before[0]),
        (0, window.after[0]),
    )  # fmt: skip
    made = _convolve(builder, layer, weight[:, :, :, 0, 0].transpose(2, 1, 0)[None], bias, line, 1)
    return builder.reshape(made, (height, width, window.depths(size) * len(bias)), False)


def _depth_by_depth(builder: Builder, view: View, weight: Array, bias: Array, window: Window) -> str:
    """A grouped convolution, one group per depth of the result, of the depths that its window reads."""
    depths = window.depths(view.shape[1])
    outputs, inputs, taps, height, width = weight.shape
    layer = builder.place(view, ([3], [4], [1, 2]), vector=False)
    layer = _gathered(builder, layer, window, inputs, depths)
    kernel = weight.transpose(3, 4, 2, 1, 0).reshape(height, width, taps * inputs, outputs)
    return _convolve(builder, layer, np.tile(kernel, (1, 1, 1, depths)), np.tile(bias, depths), window, depths)


def _gathered(builder: Builder, layer: str, window: Window, inputs: int, depths: int) -> str:
    """The depths that each depth of the result reads, one behind the other; [H, W, depth × inputs] before."""
    taps, stride, dilation = window.kernel[0], window.strides[0], window.dilations[0]
    if window.before[0] or window.after[0]:
        pad = Pad((0, 0, window.before[0] * inputs), (0, 0, window.after[0] * inputs))
        layer = builder.emit(pad, [layer]).name
    height, width, channels = builder.extent(layer)
    if taps == stride and depths * taps * inputs == channels:
        return layer
    parts: list[str] = []
    for depth in range(depths):
        runs = [(depth * stride, taps)] if dilation == 1 else [(depth * stride + t * dilation, 1) for t in range(taps)]
        for start, count in runs:
            cut = Slice((0, 0, start * inputs), (1, 1, 1), (height, width, count * inputs))
            parts.append(builder.emit(cut, [layer]).name)
    return parts[0] if len(parts) == 1 else builder.emit(Concat(2), parts).name


def convolved(builder: Builder, view: View, weight: Array, bias: Array, window: Window, groups: int) -> View:
    """A convolution over depth, height and width.

    Args:
        builder: the network.
        view: [N, D, C, H, W].
        weight: [outputs, inputs per group, kd, kh, kw].
        bias: [outputs].
        window: over depth, height and width.
        groups: of channels.
    """
    size, taps = view.shape[1], window.kernel[0]
    plain = window.kernel[1:] == window.strides[1:] == (1, 1) and not any(window.padding)
    if groups > 1 or size <= _SPARE * taps:
        made = _over_all_depths(builder, view, weight, bias, window, groups)
    elif plain:
        made = _along_depth(builder, view, weight, bias, window)
    else:
        made = _depth_by_depth(builder, view, weight, bias, window)
    return from_channels(builder, made, groups, window.depths(size), len(bias))


# --- transposed -------------------------------------------------------------------------------------------------------


def transposed_convolved(
    builder: Builder, view: View, weight: Array, bias: Array, axes: Sequence[TransposedAxis], groups: int,
    depth: tuple[int, int, int, int],
) -> View:  # fmt: skip
    """A transposed convolution over depth, height and width.

    Args:
        builder: the network.
        view: [N, D, C, H, W].
        weight: [inputs, outputs per group, kd, kh, kw].
        bias: [outputs].
        axes: height and width.
        groups: of channels.
        depth: stride, dilation, padding before and size of the result.
    """
    stride, dilation, before, depths = depth
    if depths > MAX_DEPTHS:
        raise Unsupported(f"a result of {depths} depths", f"1 to {MAX_DEPTHS}")
    size, inputs, taps = view.shape[1], weight.shape[0] // groups, weight.shape[2]
    if groups == 1 and taps == stride and not before and depths == size * stride:  # each depth makes its own
        layer = builder.place(view, ([3], [4], [1, 2]), vector=False)
        kernel = weight.transpose(3, 4, 0, 2, 1).reshape(*weight.shape[3:], inputs, -1)
        kernel, lanes = np.tile(kernel, (1, 1, 1, size)), size
    else:
        pairs = [
            (at, out, tap)
            for at in range(size)
            for tap in range(taps)
            if 0 <= (out := at * stride - before + tap * dilation) < depths
        ]
        layer = grouped_channels(builder, view, groups)
        stacked = weight.reshape(groups, inputs, *weight.shape[1:]).swapaxes(1, 2)
        kernel, lanes = _banded(stacked, pairs, size, depths), groups
    made = transposed(builder, layer, kernel, spread_bias(bias, groups, depths), axes, lanes)
    return from_channels(builder, made, groups, depths, len(bias))


# --- pools ------------------------------------------------------------------------------------------------------------


def pooled(builder: Builder, view: View, window: Window, average: bool, count_padding: bool, ceil: bool) -> View:
    """A pool of [N, D, C, H, W], over height and width and then over depth; both are exact.

    The mean over a box is the mean over its depths of the means over height and width, padding counted or not.
    """
    if max(window.dilations) > 1:
        raise Unsupported(f"a pool with dilations {list(window.dilations)} over a volume", "dilations of 1")
    size, channels, height, width = view.shape[1:]
    after = list(window.after)
    for axis, length in enumerate((size, height, width)):
        _, reach = output_size(
            length, window.kernel[axis], window.strides[axis], window.before[axis], after[axis], ceil
        )
        if reach and average and count_padding and any((*window.before, *window.after)):
            raise Unsupported(
                "ceil_mode with count_include_pad where the last window leaves the padding", "one of the two"
            )
        after[axis] += reach
    layer = builder.place(view, ([3], [4], [1, 2]), vector=False)

    def pool(layer: str, kernel: Pair, strides: Pair, padding: Padding) -> str:
        if kernel == strides == (1, 1) and not any(padding):
            return layer
        operation = (
            AveragePool(kernel, strides, padding, count_padding) if average else MaxPool(kernel, strides, padding)
        )
        return builder.emit(operation, [layer]).name

    k, s, b = window.kernel, window.strides, window.before
    layer = pool(layer, (k[1], k[2]), (s[1], s[2]), (b[1], b[2], after[1], after[2]))
    height, width, _ = builder.extent(layer)
    if k[0] > 1 or s[0] > 1:
        layer = builder.reshape(layer, (height * width, size, channels), False)
        layer = pool(layer, (1, k[0]), (1, s[0]), (0, b[0], 0, after[0]))
        size = builder.extent(layer)[1]
        layer = builder.reshape(layer, (height, width, size * channels), False)
    return from_channels(builder, layer, 1, size, channels)


def pooled_whole(builder: Builder, view: View, average: bool) -> View:
    """[N, D, C, H, W] over depth, height and width: [N, 1, C, 1, 1]."""
    size, channels, height, width = view.shape[1:]
    layer = builder.place(view, ([3], [4], [1, 2]), vector=False)
    layer = builder.reshape(layer, (height * width, size, channels), False)
    kernel = (height * width, size)
    made = builder.emit(AveragePool(kernel) if average else MaxPool(kernel), [layer])
    return from_channels(builder, made.name, 1, 1, channels)


# --- pictures that are parts of one frame -----------------------------------------------------------------------------

Put = Callable[[View], View]


def check_frames(builder: Builder, view: View) -> None:
    """The frames of a batch are pictures of their own.

    Raises:
        MixesFrames: the batch is where channels or a place should be.
    """
    if builder.mixes_frames(view, range(1, view.rank)):
        raise MixesFrames("the batch is where channels, height or width should be", "the batch first")


def as_volume(view: View) -> tuple[View, Put]:
    """[N, C, D, H, W], or pictures [N with others, C, H, W] that are parts of one frame, as [N, D, C, H, W]; and what
    makes of a result of that form one of the first.
    """
    if view.rank == 5:
        order = (0, 2, 1, 3, 4)
        return permute(view, order), lambda result: permute(result, order)
    return lift_batch(view)
