# SPDX-License-Identifier: Apache-2.0
"""A multiply-add by one number each that follows an activation goes into the activation.

Networks with a learned scale and offset behind each activation have one per layer (the "learnable affine block" of
PP-LCNetV3, and so of PP-OCRv4). As a layer of its own each would take a controller, time and one more rounding.

With s > 0: ``s·clip(x, l, h) + o = clip(s·x + o, s·l + o, s·h + o)``. So a clamp takes it into weights and bounds,
where s may differ between channels. A table takes it into its entries, whatever the signs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import BatchNorm, Convolving
from headrace.layers.activation import OUTPUT_OFFSET, OUTPUT_SCALE, Activated
from headrace.passes.bypasses import Bypasses
from headrace.passes.fold_batch_norm import WEIGHTED, fold_into
from headrace.passes.rewriting import Facts, Pass


def _one(values: Array) -> float | None:
    """The number that all elements are, exactly in float32, or None."""
    flat = np.asarray(values, np.float64).reshape(-1)
    return float(flat[0]) if np.all(flat == flat[0]) else None


@dataclass(frozen=True)
class FoldAffine(Pass):
    """Fold a linear ``batch_norm`` into the activation of the one layer before it, where that is the same function."""

    name: ClassVar[str] = "fold-affine"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        for layer in network.of(BatchNorm):
            before = bypasses.source(layer)
            if not layer.operation.is_linear:
                continue
            if bypasses.sole_user(before.name) is not layer or not _fold(network, before, layer):
                continue
            records.append({"layer": before.name, "folded": list(layer.original_names)})
            bypasses.bypass(layer)
        bypasses.apply()
        return records


def _fold(network: Network, before: Layer, layer: Layer) -> bool:
    """Fold if possible; whether it was."""
    attributes = before.operation
    if not isinstance(attributes, Activated) or attributes.activation == "linear":
        return False
    scales, offset = network.param(layer, "scale"), _one(network.param(layer, "offset"))
    if offset is None or not np.all(np.isfinite(scales)):
        return False
    if attributes.clamp is not None:
        return _fold_clamp(network, before, layer, attributes, scales, offset)
    scale = _one(scales)
    old = attributes.function_params
    if scale is None or scale == 0 or OUTPUT_SCALE not in old:  # what its sign decides has no table
        return False
    output = {OUTPUT_SCALE: old[OUTPUT_SCALE] * scale, OUTPUT_OFFSET: old[OUTPUT_OFFSET] * scale + offset}
    before.operation = replace(attributes, activation_params={**attributes.activation_params, **output})
    return True


def _fold_clamp(
    network: Network, before: Layer, layer: Layer, attributes: Activated, scales: Array, offset: float
) -> bool:
    assert attributes.clamp is not None
    bounded = [v for v in attributes.clamp if v is not None and abs(v) < float(np.finfo(np.float32).max)]
    scale = _one(scales)
    # A bound at zero stays at the offset for every scale; any other needs one scale.
    if not np.all(scales > 0) or (scale is None and any(v != 0 for v in bounded)):
        return False
    if not isinstance(attributes, (*WEIGHTED, BatchNorm)) or (
        isinstance(attributes, Convolving) and attributes.elementwise_add
    ):
        return False
    fold_into(network, before, layer)
    limit = float(np.finfo(np.float32).max)
    low, high = (
        side * limit if v is None or abs(v) >= limit else (v * scale if scale is not None else 0.0) + offset
        for side, v in zip((-1.0, 1.0), attributes.clamp, strict=True)
    )
    if (low, high) == (0.0, limit):
        before.operation = replace(attributes, activation="relu", activation_params={})
    else:
        before.operation = replace(attributes, activation="clip", activation_params={"min": low, "max": high})
    return True
