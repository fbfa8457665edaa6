# SPDX-License-Identifier: Apache-2.0
"""Layers through which codes pass unchanged: they only get their tensor's quantization."""

from __future__ import annotations

from headrace.hn import Layer
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import freezes


@freezes(
    "input_layer",
    "output_layer",
    "maxpool",
    "slice",
    "external_pad",
    "concat",
    "reshape",
    "transpose",
    "reduce_max",
    "resize_nearest",
    "depth_to_space",
    "space_to_depth",
)
def freeze_passing(context: FreezeContext, layer: Layer) -> None:
    context.store(layer, None)
