# SPDX-License-Identifier: Apache-2.0
"""Layers that change nothing, and layers that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headrace.hn import Layer, Network
from headrace.layers import Activation, Concat, InputLayer, OutputLayer, Pad, Reshape, Slice, Transpose
from headrace.passes.bypasses import Bypasses
from headrace.passes.rewriting import Facts, Pass


def _changes_nothing(network: Network, layer: Layer) -> bool:
    same_shape = len(layer.inputs) == 1 and network[layer.inputs[0]].output_shape == layer.output_shape
    if not same_shape:
        return False
    match layer.operation:
        case Reshape() | Slice() | Pad() | Concat():
            # Slices and pads that keep every size start at 0 and step by 1, or are empty.
            return True
        case Transpose() as transpose:
            moved = [i for i, p in enumerate(transpose.permutation) if i != p]
            return all(layer.output_shape[1 + i] == 1 for i in moved)
        case Activation() as activation:
            return activation.is_linear
        case _:
            return False


@dataclass(frozen=True)
class RemoveNoOps(Pass):
    """Remove reshape, transpose, slice, pad, concat and activation layers that change nothing."""

    name: ClassVar[str] = "remove-no-ops"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        for layer in network:
            if _changes_nothing(network, layer):
                records.append({"layer": bypasses.source(layer).name, "removed": layer.kind})
                bypasses.bypass(layer)
        bypasses.apply()
        return records


@dataclass(frozen=True)
class MergeReshapes(Pass):
    """A reshape of a reshape reads the first one's input."""

    name: ClassVar[str] = "merge-reshapes"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for layer in network.of(Reshape):
            before = network[layer.inputs[0]]
            if isinstance(before.operation, Reshape):
                network.set_operands(layer, before.operands or ())
                records.append({"layer": layer.name, "skipped": before.name})
        return records


@dataclass(frozen=True)
class RemoveDeadLayers(Pass):
    """Remove layers that no output layer depends on; input layers stay."""

    name: ClassVar[str] = "remove-dead-layers"

    def run(self, network: Network) -> list[Facts]:
        needed = {layer.name for layer in network.of(OutputLayer, InputLayer)}
        for layer in reversed(list(network)):
            if layer.name in needed:
                needed.update(layer.inputs)
        records: list[Facts] = []
        dead = [layer for layer in network if layer.name not in needed]
        if dead:
            records = [{"removed": layer.name, "originals": list(layer.original_names)} for layer in dead]
            network.remove(*(layer.name for layer in dead))
        return records
