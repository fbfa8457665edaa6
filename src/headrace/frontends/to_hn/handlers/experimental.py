# SPDX-License-Identifier: Apache-2.0
"""Operators that ONNX had as experiments and gave up, which files of those days hold and onnxruntime still runs."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported, reals
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.compositions.parts import cut
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles


@handles("Affine")
def affine(builder: Builder, node: SourceNode) -> list[Result]:
    """As ``alpha · x + beta``."""
    scale, offset = node.real("alpha", 1.0), node.real("beta", 0.0)
    return [per_channel(builder, node.view(0), scale, np.asarray(offset))]


@handles("ImageScaler")
def image_scaler(builder: Builder, node: SourceNode) -> list[Result]:
    """As ``scale · x + bias`` of the channel."""
    view = node.view(0)
    bias = reals(node.node, "bias") or [0.0]
    if view.rank != 4 or len(bias) not in (1, view.shape[1]):
        raise Unsupported(f"a bias of {len(bias)} numbers for a tensor of shape {list(view.shape)}", "one per channel")
    return [per_channel(builder, view, node.real("scale", 1.0), np.array(bias).reshape(-1, 1, 1))]


@handles("Crop")
def crop(builder: Builder, node: SourceNode) -> list[Result]:
    """Rows and columns off a picture.

    ``border`` is left, top, right, bottom; ``scale`` the height and width that are kept.
    """
    view = node.view(0)
    border, size = node.optional_integers("border"), node.optional_integers("scale")
    if view.rank != 4 or border is None or len(border) != 4 or min(border) < 0 or (size and len(size) != 2):
        raise Unsupported(
            f"the border {border} of a tensor of rank {view.rank}", "left, top, right, bottom of a picture"
        )
    left, top, right, bottom = border
    height, width = view.shape[2] - top - bottom, view.shape[3] - left - right
    if size:
        height, width = size
    if not (0 < height <= view.shape[2] - top and 0 < width <= view.shape[3] - left):
        raise Unsupported(f"the border {border} leaves nothing of {list(view.shape)}", "a part of the picture")
    whole = [(0, view.shape[0], 1), (0, view.shape[1], 1)]
    return [cut(builder, view, [*whole, (top, height, 1), (left, width, 1)])]
