# SPDX-License-Identifier: Apache-2.0
"""GridSample by a known grid: every output pixel is a sum of known pixels with known weights."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.rows import along
from headrace.frontends.to_hn.compositions.taps import (
    MAX_WEIGHTS,
    Taps,
    around,
    mirrored,
    outside_mirrored,
    outside_nothing,
    outside_repeated,
)
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array

_MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}
_CUBIC = -0.75


def _taps(places: Array, size: int, mode: str, padding: str, aligned: bool) -> Taps:
    """Of one axis: ``places`` from -1 to 1 are its ends."""
    ends = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
    real = (places + 1) / 2 * (size - 1) if aligned else ((places + 1) * size - 1) / 2
    if mode == "nearest":
        real = np.rint(real)
    if mode != "cubic" and padding == "border":
        real = np.clip(real, 0, size - 1)
    elif mode != "cubic" and padding == "reflection":
        real = mirrored(real, ends)
    indices, weights = around(np.clip(real, -(2.0**31), 2.0**31), mode, _CUBIC)
    if padding == "zeros":
        return outside_nothing(indices, weights, size)
    if padding == "border":
        return outside_repeated(indices, weights, size)
    return outside_mirrored(indices, weights, size, ends)


@handles("GridSample")
def grid_sample(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    if node.known(1) is None:
        raise Unsupported("its grid is computed: it chooses elements by their values", "a constant grid")
    grid = divided(builder, view, node.weights(1, "the grid"))
    mode, padding = _MODES.get(node.text("mode", "linear")), node.text("padding_mode", "zeros")
    aligned = node.integer("align_corners", 0) != 0
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise Unsupported(f"mode {node.text('mode', 'linear')!r}, padding {padding!r}", "modes that the standard has")
    if view.rank != 4 or grid.ndim != 4 or grid.shape[0] != 1 or grid.shape[3] != 2:
        got = f"{list(view.shape)} by a grid {list(grid.shape)}"
        raise Unsupported(got, "N,C,H,W, and a grid [1, height, width, 2] for all frames")
    _, _, height, width = view.shape
    rows, columns = grid.shape[1:3]
    x, y = grid[0, :, :, 0], grid[0, :, :, 1]
    if (x == x[:1]).all() and (y == y[:, :1]).all():  # straight: rows and columns by themselves
        made = along(builder, view, 2, _taps(y[:, 0], height, mode, padding, aligned).matrix(height))
        return [along(builder, made, 3, _taps(x[0], width, mode, padding, aligned).matrix(width))]
    if height * width * rows * columns > MAX_WEIGHTS:
        raise Unsupported(
            f"a grid of {rows} × {columns} on {height} × {width} pixels",
            f"at most {MAX_WEIGHTS} weights, or a grid whose rows and columns are straight",
        )
    vertical = _taps(y.reshape(-1), height, mode, padding, aligned)
    horizontal = _taps(x.reshape(-1), width, mode, padding, aligned)
    indices = vertical.indices[:, :, None] * width + horizontal.indices[:, None, :]
    weights = vertical.weights[:, :, None] * horizontal.weights[:, None, :]
    count = rows * columns
    taps = Taps(indices.reshape(count, -1), weights.reshape(count, -1))
    flat = View(view.layer, view.extent, (*view.dims[:2], (*view.dims[2], *view.dims[3])))
    made = along(builder, flat, 2, taps.matrix(height * width))
    shape = builder.full_shape(made)
    return [builder.regroup(made, [*shape[:2], rows, columns])]
