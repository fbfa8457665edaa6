# SPDX-License-Identifier: Apache-2.0
"""An activation that alone reads a computing layer becomes an attribute of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from headrace.hn import Array, Layer, Network
from headrace.layers import Activated, Activation
from headrace.passes.bypasses import Bypasses
from headrace.passes.rewriting import Facts, Pass


def take_activation(network: Network, target: Layer, source: Layer, channels: Array | None = None) -> None:
    """Give ``target`` the activation of ``source``, which is about to be removed, and its slopes by channel if any.

    Args:
        channels: for each output channel of ``target`` the channel of ``source``; ``None``: the same.
    """
    given, taken = source.operation, target.operation
    assert isinstance(given, Activated)
    assert isinstance(taken, Activated)
    target.operation = replace(taken, activation=given.activation, activation_params=given.activation_params)
    slope = network.params.get(f"{source.name}/slope")
    if slope is not None:
        network.params[f"{target.name}/slope"] = slope if channels is None else slope[channels]


@dataclass(frozen=True)
class FuseActivation(Pass):
    """Attach ``activation`` layers to the conv, dw, dense, batch_norm or element-wise layer they alone read."""

    name: ClassVar[str] = "fuse-activation"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        for layer in network.of(Activation):
            before = bypasses.source(layer)
            taken, given = before.operation, layer.operation
            assert isinstance(given, Activation)
            if not isinstance(taken, Activated) or isinstance(taken, Activation) or taken.activation != "linear":
                continue
            if bypasses.sole_user(before.name) is not layer:
                continue
            if given.activation == "prelu" and not taken.one_accumulator:
                continue
            take_activation(network, before, layer)
            records.append({"layer": before.name, "activation": given.activation,
                            "fused": list(layer.original_names)})  # fmt: skip
            bypasses.bypass(layer)
        bypasses.apply()
        return records
