# SPDX-License-Identifier: Apache-2.0
"""A convolution whose kernel is computed too: the correlation of a picture with a template, as trackers have it.

The pixels under the kernel, tap by tap, are slices of the picture, one behind the other. What is left is a product of
two computed matrices (decision 17), or, of one channel each, a product of elements and a sum over the taps.
"""

from __future__ import annotations

from dataclasses import replace

from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import BATCH, Atom, View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.volume import Window
from headrace.hn.value import Wish
from headrace.layers import AveragePool, Concat, Matmul, Multiply, Pad, Slice
from headrace.layers.matmul import MAX_PRODUCTS
from headrace.numerics.geometry import window_output

#: Positions of a kernel, each of which is a slice of the picture.
MAX_TAPS = 1024


def one_frame(builder: Builder, view: View) -> View:
    """The tensor with the batch, 1 in this file, as a dimension of its own in front."""
    if builder.batch != 1:
        raise MixesFrames(
            "a kernel that is computed from a frame meets every frame of the batch", "batch 1",
            ("export with batch 1",),
        )  # fmt: skip
    dims = tuple(tuple(a for a in dim if a.axis != BATCH) for dim in view.dims)
    return replace(view, dims=((Atom(BATCH, 1),), *dims))


def _positions(builder: Builder, layer: str, window: Window, height: int, width: int) -> str:
    """Every tap of the window at every position of the result, [H·W, taps, C], of a layer [H, W, C]."""
    if any((*window.before, *window.after)):
        layer = builder.emit(Pad((*window.before, 0), (*window.after, 0)), [layer]).name
    channels = builder.extent(layer)[2]
    parts: list[str] = []
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            start = (row * window.dilations[0], column * window.dilations[1], 0)
            cut = Slice(start, (*window.strides, 1), (height, width, channels))
            parts.append(builder.emit(cut, [layer]).name)
    joined = parts[0] if len(parts) == 1 else builder.emit(Concat(2), parts).name
    return builder.reshape(joined, (height * width, len(parts), channels), False)


def correlated(builder: Builder, picture: View, kernel: View, window: Window, groups: int) -> View:
    """A convolution by a computed kernel.

    Args:
        builder: the network.
        picture: [1, C, H, W].
        kernel: [outputs, inputs per group, kh, kw].
        window: over height and width.
        groups: of channels.

    Returns:
        [N, outputs, H, W].
    """
    picture, kernel = one_frame(builder, picture), one_frame(builder, kernel)
    if picture.rank != 5 or picture.shape[1] != 1 or kernel.rank != 5:
        raise Unsupported(
            f"a computed kernel of shape {list(kernel.shape[1:])} on {list(picture.shape[1:])}",
            "one picture [1, C, H, W], a kernel [outputs, inputs, height, width]",
        )
    channels, outputs, inputs = picture.shape[2], kernel.shape[1], kernel.shape[2]
    if (
        groups < 1
        or channels != inputs * groups
        or outputs % groups
        or (groups > 1 and (inputs, outputs) != (1, groups))
    ):
        raise Unsupported(
            f"{channels} input channels, {groups} groups and a computed kernel {list(kernel.shape[1:])}",
            "one group, or as many as channels and outputs",
        )
    height, width = (
        window_output(n, window.kernel[i], window.strides[i], window.before[i], window.after[i], window.dilations[i])
        for i, n in enumerate(picture.shape[3:])
    )
    taps = window.kernel[0] * window.kernel[1]
    products = max(height, 1) * max(width, 1) * taps * channels * (1 if groups > 1 else outputs)
    if min(height, width) < 1 or taps > MAX_TAPS or products > MAX_PRODUCTS:
        raise Unsupported(
            f"a computed kernel of {taps} positions that makes {height} × {width} results of {products} products",
            f"at most {MAX_TAPS} positions, {MAX_PRODUCTS} products",
        )
    layer = builder.place(picture, ([3], [4], [2]), vector=False)
    rows = _positions(builder, layer, window, height, width)
    if groups == 1:
        left = builder.reshape(rows, (1, height * width, taps * channels), False)
        right = builder.place(kernel, ([], [3, 4, 2], [1]), vector=False)
        made = builder.emit(Matmul(), [left, right]).name
    else:
        right = builder.place(kernel, ([], [3, 4], [1, 2]), vector=False)
        product = builder.emit(Multiply(), [rows, right])
        product.output.wish = Wish(bits=16)
        made = builder.emit(AveragePool((1, taps), total=True), [product.name]).name
    made = builder.reshape(made, (height, width, outputs), False)
    return builder.output(builder.network[made], IMAGE)
