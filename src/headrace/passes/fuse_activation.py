# SPDX-License-Identifier: Apache-2.0
"""An activation that alone reads a computing layer becomes an attribute of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.hn import Array, Layer, Network
from headrace.passes.base import Pass
from headrace.passes.bypasses import Bypasses

ONE_ACCUMULATOR = ("conv", "dw", "dense", "batch_norm", "normalization")
_PRODUCERS = (*ONE_ACCUMULATOR, "ew_add", "ew_sub", "ew_mult")


def take_activation(network: Network, target: Layer, source: Layer, channels: Array | None = None) -> None:
    """Give ``target`` the activation of ``source``, which is about to be removed, and its slopes by channel if any.

    Args:
        channels: for each output channel of ``target`` the channel of ``source``; ``None``: the same.
    """
    for key in ("activation", "activation_params"):
        if key in source.attributes:
            target.attributes[key] = source.attributes[key]
    slope = network.params.get(f"{source.name}/slope")
    if slope is not None:
        network.params[f"{target.name}/slope"] = slope if channels is None else slope[channels]


@dataclass(frozen=True)
class FuseActivation(Pass):
    """Attach ``activation`` layers to the conv, dw, dense, batch_norm or element-wise layer they alone read."""

    name: ClassVar[str] = "fuse-activation"

    def run(self, network: Network) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        bypasses = Bypasses(network)
        for layer in network.of_kind("activation"):
            before = bypasses.source(layer)
            if before.kind not in _PRODUCERS or before.attributes.get("activation", "linear") != "linear":
                continue
            if bypasses.sole_user(before.name) is not layer:
                continue
            if layer.attributes.get("activation") == "prelu" and before.kind not in ONE_ACCUMULATOR:
                continue
            take_activation(network, before, layer)
            records.append({"layer": before.name, "activation": layer.attributes.get("activation", "linear"),
                            "fused": list(layer.original_names)})  # fmt: skip
            bypasses.bypass(layer)
        bypasses.apply()
        return records
