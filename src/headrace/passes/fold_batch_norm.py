# SPDX-License-Identifier: Apache-2.0
"""Per-channel multiply-adds go into the layer before them, where the arithmetic stays the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.passes.base import Pass
from headrace.passes.bypasses import Bypasses
from headrace.passes.fuse_activation import take_slope

_MAC_KINDS = ("conv", "dw", "dense")


def _linear(layer: Layer) -> bool:
    return layer.attributes.get("activation", "linear") == "linear"


def _take_activation(network: Network, target: Layer, source: Layer) -> None:
    take_slope(network, target, source)
    for key in ("activation", "activation_params"):
        if key in source.attributes:
            target.attributes[key] = source.attributes[key]


def _scale_offset(network: Network, layer: Layer) -> tuple[Array, Array]:
    return network.param(layer, "scale").astype(np.float64), network.param(layer, "offset").astype(np.float64)


def fold_into(network: Network, before: Layer, layer: Layer) -> None:
    """Multiply the weights of ``before`` by the scale of ``layer``, and add its offset; activations are left alone."""
    scale, offset = _scale_offset(network, layer)
    if before.kind == "batch_norm":
        first_scale, first_offset = _scale_offset(network, before)
        network.params[f"{before.name}/scale"] = first_scale * scale
        network.params[f"{before.name}/offset"] = first_offset * scale + offset
        return
    kernel = network.param(before, "kernel").astype(np.float64)
    bias = network.params.get(f"{before.name}/bias", np.zeros(kernel.shape[-1])).astype(np.float64)
    network.params[f"{before.name}/kernel"] = kernel * scale
    network.params[f"{before.name}/bias"] = bias * scale + offset


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold ``batch_norm`` into the conv, dw, dense or batch_norm before it, if that has no other user or activation.

    Computed in float64; a convolution whose second input is added before the activation is left alone.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, network: Network) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        bypasses = Bypasses(network)
        for layer in network.of_kind("batch_norm"):
            before = bypasses.source(layer)
            foldable = before.kind in (*_MAC_KINDS, "batch_norm") and _linear(before)
            if not foldable or before.attributes.get("elementwise_add"):
                continue
            if bypasses.sole_user(before.name) is not layer:
                continue
            fold_into(network, before, layer)
            _take_activation(network, before, layer)
            records.append({"layer": before.name, "folded": list(layer.original_names)})
            bypasses.bypass(layer)
        bypasses.apply()
        return records


@dataclass(frozen=True)
class DropIdentityBatchNorm(Pass):
    """Remove a ``batch_norm`` that multiplies by one, adds zero and has no activation."""

    name: ClassVar[str] = "drop-identity-batch-norm"

    def run(self, network: Network) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        bypasses = Bypasses(network)
        for layer in network.of_kind("batch_norm"):
            scale, offset = _scale_offset(network, layer)
            if _linear(layer) and np.all(scale == 1.0) and np.all(offset == 0.0):
                records.append({"layer": bypasses.source(layer).name, "dropped": list(layer.original_names)})
                bypasses.bypass(layer)
        bypasses.apply()
        return records
