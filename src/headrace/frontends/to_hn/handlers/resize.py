# SPDX-License-Identifier: Apache-2.0
"""Resize, DepthToSpace and SpaceToDepth (Upsample becomes Resize when operator sets are normalized)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported, integer_list
from headrace.frontends.layout import CHANNELS_LAST, Arrangement, View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.cubic import cubic
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import DepthToSpace, ResizeBilinear, ResizeNearest, SpaceToDepth
from headrace.layers.resize import COORDINATES, ROUNDINGS

_MAX_OUTPUT = 1 << 16


def _target(builder: Builder, node: SourceNode, view: View) -> tuple[list[int], list[float]]:
    """Output sizes and scales per source dimension."""
    scales, sizes = node.optional(2, "the scales"), node.optional(3, "the sizes")
    axes = [axis_in(a, view.rank) for a in node.integers("axes", range(view.rank))]
    factor, out = [1.0] * view.rank, list(view.shape)
    if sizes is not None and sizes.size:
        given = integer_list(sizes, "the sizes")
        if len(given) != len(axes) or node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise Unsupported("Resize that keeps the aspect ratio, or has not one size per axis", "policy 'stretch'")
        for axis, size in zip(axes, given, strict=True):
            if axis == view.batch_dim:
                continue  # the frames of the batch, whatever their number
            out[axis], factor[axis] = size, size / max(view.shape[axis], 1)
    elif scales is not None and scales.size == len(axes) and scales.dtype.kind == "f":
        for axis, value in zip(axes, scales.reshape(-1).tolist(), strict=True):
            if not 0 < value < _MAX_OUTPUT or (axis == view.batch_dim and value != 1):
                raise Unsupported(f"Resize by {value}", "positive scales, 1 for the batch")
            factor[axis], out[axis] = float(value), int(np.floor(np.float32(view.shape[axis]) * np.float32(value)))
    else:
        raise Unsupported("Resize without scales or sizes", "one of them, constant")
    if any(not 1 <= s <= _MAX_OUTPUT for s in out):
        raise Unsupported(f"Resize to {out}", f"sizes 1 to {_MAX_OUTPUT}")
    return out, factor


def _modes(node: SourceNode) -> tuple[str, str, str]:
    """(mode, coordinates, rounding), each one that the device has."""
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic") or node.integer("antialias", 0):
        raise Unsupported(
            f"Resize with mode {mode!r}, antialias {node.integer('antialias', 0)}",
            "nearest, linear or cubic without antialias",
        )
    if mode == "cubic" and node.integer("exclude_outside", 0):
        raise Unsupported("cubic Resize that leaves out what is outside", "exclude_outside 0")
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    rounding = node.text("nearest_mode", "round_prefer_floor") if mode == "nearest" else "floor"
    if coordinates not in COORDINATES:
        raise Unsupported(f"Resize with coordinates {coordinates!r}", ", ".join(COORDINATES))
    if rounding not in ROUNDINGS:
        raise Unsupported(f"Resize with nearest_mode {rounding!r}", ", ".join(ROUNDINGS))
    return mode, coordinates, rounding


def _check_scales(
    view: View, spatial: Sequence[int], out: Sequence[int], scales: Sequence[float], mode: str, coordinates: str
) -> None:
    if mode != "linear" or coordinates != "align_corners":
        return
    if any(out[d] != np.float32(scales[d]) * np.float32(view.shape[d]) for d in spatial):
        raise Unsupported(
            f"aligned corners with scales {[scales[d] for d in spatial]}",
            "scales that give whole sizes: runtimes disagree on others",
        )


def _volume(
    builder: Builder, view: View, mode: str, coordinates: str, rounding: str, sizes: Sequence[int],
    scales: Sequence[float],
) -> View:  # fmt: skip
    """[N, C, D, H, W]: height and width, then depth; both modes are one axis after the other."""
    kind = ResizeNearest if mode == "nearest" else ResizeBilinear
    (depth, channels), (height, width) = (view.shape[2], view.shape[1]), sizes[1:]
    layer = builder.place(view, ([3], [4], [2, 1]), vector=False)
    if (height, width) != view.shape[3:] or max(scales[1:]) != 1.0 or min(scales[1:]) != 1.0:
        operation = kind((height, width), (scales[1], scales[2]), coordinates, rounding)
        layer = builder.emit(operation, [layer]).name
    if sizes[0] != depth or scales[0] != 1.0:
        layer = builder.reshape(layer, (height * width, depth, channels), False)
        operation = kind((height * width, sizes[0]), (1.0, scales[0]), coordinates, rounding)
        layer = builder.emit(operation, [layer]).name
        layer = builder.reshape(layer, (height, width, sizes[0] * channels), False)
    return builder.grouped(layer, ([3], [4], [2, 1]), [1, channels, sizes[0], height, width])


@handles("Resize")
def resize(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    mode, coordinates, rounding = _modes(node)
    out, scales = _target(builder, node, view)
    changed = [i for i in range(view.rank) if out[i] != view.shape[i] or scales[i] != 1.0]
    if not changed:
        return [view]
    arrangement: Arrangement
    spatial: tuple[int, ...]
    if view.rank == 4 and set(changed) <= {2, 3}:
        arrangement, spatial = IMAGE, (2, 3)
    elif view.rank == 4 and set(changed) <= {1, 2}:
        arrangement, spatial = CHANNELS_LAST, (1, 2)
    elif view.rank == 3 and changed == [2]:
        arrangement, spatial = (None, 2, 1), (2,)
    elif view.rank == 5 and set(changed) <= {2, 3, 4}:
        _check_scales(view, (2, 3, 4), out, scales, mode, coordinates)
        if mode == "cubic":
            raise Unsupported("cubic Resize of three dimensions", "nearest or linear")
        return [_volume(builder, view, mode, coordinates, rounding, out[2:], scales[2:])]
    else:
        raise Unsupported(f"Resize from {list(view.shape)} to {out}", "height and width of N,C,H,W or N,H,W,C")
    sizes, factors = [out[d] for d in spatial], [scales[d] for d in spatial]
    _check_scales(view, spatial, out, scales, mode, coordinates)
    if mode == "cubic":
        if len(spatial) == 1:
            raise Unsupported("cubic Resize of one dimension", "height and width")
        return [cubic(builder, view, arrangement, spatial, factors, coordinates, node.real("cubic_coeff_a", -0.75))]
    layer = builder.arrange(view, arrangement, vector=False)
    if len(spatial) == 1:
        sizes, factors = [1, *sizes], [1.0, *factors]
    kind = ResizeNearest if mode == "nearest" else ResizeBilinear
    operation = kind((sizes[0], sizes[1]), (factors[0], factors[1]), coordinates, rounding)
    return [builder.output(builder.emit(operation, [layer]), arrangement)]


@handles("DepthToSpace", "SpaceToDepth")
def blocks(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    if view.rank != 4:
        raise Unsupported(f"rank {view.rank}", "rank 4")
    kind = DepthToSpace if node.op_type == "DepthToSpace" else SpaceToDepth
    operation = kind(node.integer("blocksize", 0), node.text("mode", "DCR"))
    return [builder.output(builder.emit(operation, [builder.image(view)]), IMAGE)]
