# SPDX-License-Identifier: Apache-2.0
"""A per-channel multiply-add or an activation behind moves goes into the convolutions in front of them.

Batch normalization and relu behind a transposed convolution or a pixel shuffle are where this counts: what moves
values neither changes them nor mixes channels, so computing before or after it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import Activation, BatchNorm, Concat, DepthToSpace, Reshape, Slice, Transpose
from headrace.passes.fold_batch_norm import WEIGHTED, multiply_add, scale_offset
from headrace.passes.fuse_activation import take_activation
from headrace.passes.rewriting import Facts, Pass, sole_user

#: A convolution, and for each of its output channels the channel of the tensor behind the moves.
Target = tuple[Layer, Array]


def _targets(network: Network, name: str, channels: Array) -> list[Target] | None:
    """The convolutions whose values a tensor consists of, or None where there is something else."""
    layer = network[name]
    if sole_user(network, name) is None:
        return None
    if isinstance(layer.operation, WEIGHTED):
        return [(layer, channels)] if layer.operation.is_linear else None
    sources = _channels_of_inputs(network, layer, channels)
    if sources is None:
        return None
    found: list[Target] = []
    for source, part in zip(layer.inputs, sources, strict=True):
        targets = _targets(network, source, part)
        if targets is None:
            return None
        found += targets
    return found


def _channels_of_inputs(network: Network, layer: Layer, channels: Array) -> list[Array] | None:
    """For each input of a move, which of ``channels`` each of the input's channels becomes; None if it is no move."""
    widths = [network[name].output_shape[-1] for name in layer.inputs]
    count = layer.output_shape[-1]
    rank = len(layer.output_shape) - 1
    match layer.operation:
        case DepthToSpace(block=block, mode=mode):
            place = np.arange(widths[0])
            return [channels[place % count if mode == "DCR" else place // block**2]]
        case Slice(sizes=sizes) if sizes[-1] == widths[0]:
            return [channels]
        case Transpose(permutation=permutation) if permutation[-1] == rank - 1:
            return [channels]
        case Reshape() if widths[0] % count == 0:  # the last axis is cut into whole runs of channels
            return [channels[np.arange(widths[0]) % count]]
        case Concat(axis=axis) if axis == rank - 1:
            return np.split(channels, np.cumsum(widths)[:-1])
        case Concat():
            return [channels] * len(widths)
        case _:
            return None


@dataclass(frozen=True)
class FoldThroughMoves(Pass):
    """Fold ``batch_norm`` and ``activation`` layers into the convolutions whose moved values they alone read."""

    name: ClassVar[str] = "fold-through-moves"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for layer in network.of(BatchNorm, Activation):
            before = network[layer.inputs[0]]
            if isinstance(before.operation, WEIGHTED):
                continue
            targets = _targets(network, before.name, np.arange(layer.output_shape[-1]))
            if not targets or len({target.name for target, _ in targets}) < len(targets):
                continue
            for target, channels in targets:
                if isinstance(layer.operation, BatchNorm):
                    scale, offset = scale_offset(network, layer)
                    multiply_add(network, target, scale[channels], offset[channels])
                take_activation(network, target, layer, channels)
                names = target.original_names
                names += [o for o in layer.original_names if o not in names]
            records.append({"layer": targets[0][0].name, "folded": list(layer.original_names)})
            network.redirect(layer.name, before.name)
            network.remove(layer.name)
        return records
