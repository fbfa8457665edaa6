# SPDX-License-Identifier: Apache-2.0
"""A per-channel multiply-add behind a concatenation moves into the concatenation's inputs.

A detector joins centres and sizes of boxes in grid units and scales all of them to pixels. Behind the join the sizes
would have the codes of the centres, ten times as wide; in front of it each input has codes of its own. Done where
nothing but moves is between the multiply-add and the network's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.hn import Layer, Network
from headrace.layers import BatchNorm, Concat, ScaleRule
from headrace.passes.fold_batch_norm import scale_offset
from headrace.passes.rewriting import Facts, Pass, fresh_name, sole_user


@dataclass(frozen=True)
class SplitAffine(Pass):
    """``batch_norm(concat(a, b))`` becomes ``concat(batch_norm(a), batch_norm(b))`` at outputs."""

    name: ClassVar[str] = "split-affine"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for layer in network.of(BatchNorm):
            concat = network[layer.inputs[0]]
            if self._fits(network, layer, concat):
                made = self._split(network, layer, concat)
                records.append({"layer": layer.name, "concat": concat.name, "into": made})
        return records

    @staticmethod
    def _fits(network: Network, layer: Layer, concat: Layer) -> bool:
        last = len(concat.output_shape) - 2
        return (
            isinstance(concat.operation, Concat)
            and concat.operation.axis == last
            and sole_user(network, concat.name) is layer
            and layer.operation.is_linear
            and layer.wish.codes is None
            and concat.wish.codes is None
            and _at_outputs(network, layer.name)
        )

    @staticmethod
    def _split(network: Network, layer: Layer, concat: Layer) -> list[str]:
        scale, offset = scale_offset(network, layer)
        widths = [network[name].output_shape[-1] for name in concat.inputs]
        cuts = np.cumsum(widths)[:-1]
        made: list[str] = []
        parts = zip(np.split(scale, cuts), np.split(offset, cuts), strict=True)
        for position, (name, (factor, addend)) in enumerate(zip(list(concat.inputs), parts, strict=True)):
            if bool((factor == 1).all() and (addend == 0).all()):
                continue
            shape = network[name].output_shape
            own = Layer(fresh_name(network, BatchNorm), BatchNorm(), [name], shape, list(layer.original_names))
            params = {"scale": factor.astype(np.float32), "offset": addend.astype(np.float32)}
            network.insert_after(name, own, params)
            network.set_operand(concat, position, own.output)
            made.append(own.name)
        network.redirect(layer.name, concat.name)
        network.remove(layer.name)
        return made


def _at_outputs(network: Network, name: str) -> bool:
    """Whether all that reads a tensor moves it to outputs."""
    waiting, seen = [name], {name}
    while waiting:
        for user in network.users(waiting.pop()):
            if user.operation.scale_rule not in (ScaleRule.PASSES, ScaleRule.CONCAT):
                return False
            if user.name not in seen:
                seen.add(user.name)
                waiting.append(user.name)
    return True
