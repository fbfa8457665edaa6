# SPDX-License-Identifier: Apache-2.0
"""Resize, DepthToSpace and SpaceToDepth (Upsample becomes Resize when operator sets are normalized)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported, integer_list
from headrace.frontends.layout import CHANNELS_LAST, Arrangement, View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.cubic import cubic, repeats
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.compositions.parts import pick
from headrace.frontends.to_hn.compositions.rows import along
from headrace.frontends.to_hn.compositions.taps import (
    Taps,
    around,
    filtered,
    outside_nothing,
    outside_repeated,
)
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
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
        if len(given) != len(axes):
            raise Unsupported("Resize that has not one size per axis", "a size for each")
        pairs = {axis: size for axis, size in zip(axes, given, strict=True) if axis != view.batch_dim}
        pairs = _proportional(node.text("keep_aspect_ratio_policy", "stretch"), view, pairs)
        for axis, (size, scale) in pairs.items():
            out[axis], factor[axis] = size, scale
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


def _proportional(policy: str, view: View, sizes: dict[int, int]) -> dict[int, tuple[int, float]]:
    """Sizes and scales, all axes by one scale where the policy says so."""
    scales = {axis: size / max(view.shape[axis], 1) for axis, size in sizes.items()}
    if policy == "stretch" or not scales:
        return {axis: (size, scales[axis]) for axis, size in sizes.items()}
    if policy not in ("not_larger", "not_smaller"):
        raise Unsupported(f"Resize with policy {policy!r}", "stretch, not_larger or not_smaller")
    one = (min if policy == "not_larger" else max)(scales.values())
    return {axis: (math.floor(view.shape[axis] * one + 0.5), one) for axis in sizes}


@dataclass(frozen=True)
class _Sampling:
    """How a Resize samples, every attribute one that the standard has."""

    mode: str
    coordinates: str
    rounding: str
    antialias: bool
    exclude_outside: bool
    coefficient: float
    extrapolation: float
    region: tuple[float, ...]

    @classmethod
    def of(cls, node: SourceNode, view: View) -> _Sampling:
        mode = node.text("mode", "nearest")
        coordinates = node.text("coordinate_transformation_mode", "half_pixel")
        rounding = node.text("nearest_mode", "round_prefer_floor") if mode == "nearest" else "floor"
        antialias = node.integer("antialias", 0) != 0
        if mode not in ("nearest", "linear", "cubic") or (antialias and mode == "nearest"):
            raise Unsupported(f"Resize with mode {mode!r}, antialias {int(antialias)}", "nearest, linear or cubic")
        if coordinates not in (*COORDINATES, *_BY_PRODUCTS):
            raise Unsupported(f"Resize with coordinates {coordinates!r}", ", ".join((*COORDINATES, *_BY_PRODUCTS)))
        if rounding not in ROUNDINGS:
            raise Unsupported(f"Resize with nearest_mode {rounding!r}", ", ".join(ROUNDINGS))
        axes = [axis_in(a, view.rank) for a in node.integers("axes", range(view.rank))]
        region = [*[0.0] * view.rank, *[1.0] * view.rank]
        if coordinates == "tf_crop_and_resize":
            given = node.weights(1, "the region").reshape(-1)
            if given.size != 2 * len(axes):
                raise Unsupported(f"a region of {given.size} numbers", f"{2 * len(axes)}: begin and end of each axis")
            for i, axis in enumerate(axes):
                region[axis], region[view.rank + axis] = float(given[i]), float(given[len(axes) + i])
        return cls(
            mode, coordinates, rounding, antialias, mode == "cubic" and node.integer("exclude_outside", 0) != 0,
            node.real("cubic_coeff_a", -0.75), node.real("extrapolation_value", 0.0), tuple(region),
        )  # fmt: skip

    @property
    def has_layers(self) -> bool:
        """Whether layers of resizing do it; else products do."""
        return self.coordinates in COORDINATES and not self.antialias and not self.exclude_outside

    def positions(self, axis: int, size: int, out: int, scale: float) -> Array:
        """Where each output element lies on the axis, float64."""
        x = np.arange(out, dtype=np.float64)
        begin, end = self.region[axis], self.region[len(self.region) // 2 + axis]
        match self.coordinates:
            case "align_corners":
                return x * (size - 1) / (out - 1) if out > 1 else np.zeros(1)
            case "asymmetric":
                return x / scale
            case "tf_half_pixel_for_nn":
                return (x + 0.5) / scale
            case "pytorch_half_pixel" if out == 1:
                return np.zeros(1)
            case "tf_crop_and_resize":
                if out == 1:
                    return np.full(1, 0.5 * (begin + end) * (size - 1))
                return begin * (size - 1) + x * (end - begin) * (size - 1) / (out - 1)
            case "half_pixel_symmetric":
                return size / 2 * (1 - out / (scale * size)) + (x + 0.5) / scale - 0.5
            case _:
                return (x + 0.5) / scale - 0.5

    def nearest(self, places: Array, scale: float) -> Array:
        match self.rounding:
            case "floor":
                return np.floor(places)
            case "ceil":
                return np.ceil(places)
            case "simple":
                return np.floor(places) if scale >= 1 else np.ceil(places)
            case "round_prefer_ceil":
                return np.floor(places + 0.5)
            case _:
                return np.ceil(places - 0.5)

    def taps(self, places: Array, size: int, scale: float) -> Taps:
        """Of one axis."""
        if self.mode == "nearest":
            return outside_repeated(
                self.nearest(places, scale).astype(np.int64)[:, None], np.ones((len(places), 1)), size
            )
        if self.antialias and scale < 1:
            return filtered(places, scale, self.mode, self.coefficient, size)
        indices, weights = around(places, self.mode, self.coefficient)
        if self.exclude_outside:
            kept = outside_nothing(indices, weights, size)
            return Taps(kept.indices, kept.weights / kept.weights.sum(1, keepdims=True))
        return outside_repeated(indices, weights, size)


#: Coordinates that layers of resizing do not have.
_BY_PRODUCTS = ("tf_crop_and_resize", "half_pixel_symmetric")


def _by_products(
    builder: Builder, view: View, sampling: _Sampling, out: Sequence[int], scales: Sequence[float]
) -> View:
    """Axis by axis, by a constant matrix each (or by choosing elements, for the nearest)."""
    inside = np.ones((1,) * view.rank)
    crops = sampling.coordinates == "tf_crop_and_resize"
    sizes = view.shape
    for axis, size in enumerate(sizes):
        if axis == view.batch_dim or (out[axis] == size and scales[axis] == 1.0 and not crops):
            continue
        places = sampling.positions(axis, size, out[axis], scales[axis])
        taps = sampling.taps(places, size, scales[axis])
        within = (places >= 0) & (places <= size - 1) if crops else np.ones(len(places), bool)
        inside = inside * within.reshape([-1 if d == axis else 1 for d in range(view.rank)])
        if sampling.mode == "nearest":
            view = pick(builder, view, axis, [int(i) for i in taps.indices[:, 0]])
        else:
            view = along(builder, view, axis, taps.matrix(size))
    if inside.all():
        return view
    return per_channel(builder, view, inside, (1.0 - inside) * sampling.extrapolation)


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
    sampling = _Sampling.of(node, view)
    out, scales = _target(builder, node, view)
    mode, coordinates = sampling.mode, sampling.coordinates
    changed = [i for i in range(view.rank) if out[i] != view.shape[i] or scales[i] != 1.0]
    if not changed and coordinates != "tf_crop_and_resize":
        return [view]
    arrangement: Arrangement | None = None
    spatial: tuple[int, ...] = ()
    if view.rank == 4 and set(changed) <= {2, 3}:
        arrangement, spatial = IMAGE, (2, 3)
    elif view.rank == 4 and set(changed) <= {1, 2}:
        arrangement, spatial = CHANNELS_LAST, (1, 2)
    elif view.rank == 3 and changed == [2]:
        arrangement, spatial = (None, 2, 1), (2,)
    sizes, factors = [out[d] for d in spatial], [scales[d] for d in spatial]
    whole = all(out[d] == np.float32(scales[d]) * np.float32(view.shape[d]) for d in changed)
    if mode != "nearest" and coordinates == "align_corners" and not whole:
        raise Unsupported(
            f"aligned corners with scales {factors}", "scales that give whole sizes: runtimes disagree on others"
        )
    clip = view.rank == 5 and view.batch_first and set(changed) <= {2, 3, 4}
    if clip and sampling.has_layers and mode != "cubic":
        return [_volume(builder, view, mode, coordinates, sampling.rounding, out[2:], scales[2:])]
    if arrangement is None or not view.batch_first or not sampling.has_layers:
        return [_by_products(builder, view, sampling, out, scales)]
    if mode == "cubic":
        if len(spatial) == 2 and repeats(view, spatial, factors, coordinates):
            return [cubic(builder, view, arrangement, spatial, factors, coordinates, sampling.coefficient)]
        return [_by_products(builder, view, sampling, out, scales)]
    layer = builder.arrange(view, arrangement, vector=False)
    if len(spatial) == 1:
        sizes, factors = [1, *sizes], [1.0, *factors]
    kind = ResizeNearest if mode == "nearest" else ResizeBilinear
    operation = kind((sizes[0], sizes[1]), (factors[0], factors[1]), coordinates, sampling.rounding)
    return [builder.output(builder.emit(operation, [layer]), arrangement)]


@handles("DepthToSpace", "SpaceToDepth")
def blocks(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    if view.rank != 4:
        raise Unsupported(f"rank {view.rank}", "rank 4")
    kind = DepthToSpace if node.op_type == "DepthToSpace" else SpaceToDepth
    operation = kind(node.integer("blocksize", 0), node.text("mode", "DCR"))
    return [builder.output(builder.emit(operation, [builder.image(view)]), IMAGE)]
