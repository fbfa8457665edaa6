# SPDX-License-Identifier: Apache-2.0
"""Resize, Upsample, DepthToSpace and SpaceToDepth."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, integer, text
from headrace.frontends.layout import View
from headrace.frontends.to_hn.base import IMAGE, Builder, Result, handles
from headrace.layers.resize import COORDINATES, ROUNDINGS


def _factors(builder: Builder, node: ir.Node, view: View) -> tuple[list[int], list[float]]:
    """(output height and width, scales per axis or 0 where the sizes decide)."""
    # Upsample and the first Resize have scales as input 1; later ones a region of interest there.
    old = node.op_type == "Upsample" or len(node.inputs) == 2
    scales = builder.optional(node, 1 if old else 2, "scales")
    sizes = None if old else builder.optional(node, 3, "sizes")
    if sizes is not None and sizes.size:
        values = [int(v) for v in sizes.reshape(-1)]
        factors = [0.0] * len(values)
        if (
            integer(node, "keep_aspect_ratio_policy", 0)
            or text(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
        ):
            raise Unsupported("a Resize that keeps the aspect ratio", "keep_aspect_ratio_policy 'stretch'")
    elif scales is not None and scales.size:
        factors = [float(v) for v in scales.reshape(-1)]
        if not all(math.isfinite(v) and 0 < v <= 65536 for v in factors):
            raise Unsupported(f"scales {factors}", "positive finite numbers")
        values = [math.floor(s * f) for s, f in zip(view.shape, factors, strict=False)]
    else:
        raise Unsupported("it has neither scales nor sizes", "one of them as a constant")
    if len(values) != 4 or values[1] != view.shape[1]:
        raise Unsupported(f"output sizes {values} of an input {list(view.shape)}", "only height and width change")
    return values[2:], factors[2:]


@handles("Resize", "Upsample")
def resize(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    if view.rank != 4:
        raise Unsupported(f"a resize of rank {view.rank}", "rank 4")
    axes = node.attributes.get("axes")
    if axes is not None:
        raise Unsupported("a Resize with axes", "sizes or scales for every dimension")
    mode = text(node, "mode", "nearest") or "nearest"
    if mode not in ("nearest", "linear", "bilinear"):
        raise Unsupported(f"mode {mode!r}", "nearest or linear")
    if integer(node, "antialias", 0):
        raise Unsupported("antialias", "antialias 0")
    old = node.op_type == "Upsample" or len(node.inputs) == 2
    coordinates = "asymmetric" if old else text(node, "coordinate_transformation_mode", "half_pixel") or "half_pixel"
    rounding = "floor" if old else text(node, "nearest_mode", "round_prefer_floor") or "round_prefer_floor"
    if coordinates not in COORDINATES:
        raise Unsupported(f"coordinate_transformation_mode {coordinates!r}", ", ".join(COORDINATES))
    if rounding not in ROUNDINGS:
        raise Unsupported(f"nearest_mode {rounding!r}", ", ".join(ROUNDINGS))
    sizes, scales = _factors(builder, node, view)
    if all(size == have for size, have in zip(sizes, view.shape[2:], strict=True)) and not np.any(
        [f not in (0.0, 1.0) for f in scales]
    ):
        return [view]
    attributes = {"sizes": sizes, "scales": scales, "coordinates": coordinates}
    kind = "resize_bilinear"
    if mode == "nearest":
        kind, attributes["rounding"] = "resize_nearest", rounding
    return [builder.output(builder.emit(kind, [builder.image(view)], attributes), IMAGE)]


@handles("DepthToSpace", "SpaceToDepth")
def blocks(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    if view.rank != 4:
        raise Unsupported(f"rank {view.rank}", "rank 4")
    kind = "depth_to_space" if node.op_type == "DepthToSpace" else "space_to_depth"
    mode = text(node, "mode", "DCR") or "DCR"
    attributes = {"block": integer(node, "blocksize", 0), "mode": mode}
    return [builder.output(builder.emit(kind, [builder.image(view)], attributes), IMAGE)]
