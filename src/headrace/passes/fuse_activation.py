# SPDX-License-Identifier: Apache-2.0
"""An activation that alone reads a computing layer becomes an attribute of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.hn import Network
from headrace.passes.base import Pass
from headrace.passes.bypasses import Bypasses

_PRODUCERS = ("conv", "dw", "dense", "batch_norm", "normalization", "ew_add", "ew_sub", "ew_mult")


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
            before.attributes.update(layer.attributes)
            records.append({"layer": before.name, "activation": layer.attributes.get("activation", "linear"),
                            "fused": list(layer.original_names)})  # fmt: skip
            bypasses.bypass(layer)
        bypasses.apply()
        return records
