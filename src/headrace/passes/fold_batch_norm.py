# SPDX-License-Identifier: Apache-2.0
"""Per-channel multiply-adds go into the layer before them, where the arithmetic stays the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import BatchNorm, Convolving, Dense
from headrace.layers.mac import KERNEL_SCALE
from headrace.passes.bypasses import Bypasses
from headrace.passes.fuse_activation import take_activation
from headrace.passes.rewriting import Facts, Pass

WEIGHTED = (Convolving, Dense)


def scale_offset(network: Network, layer: Layer) -> tuple[Array, Array]:
    """The multiply-add of a ``batch_norm``: float64 ``[channels]`` each."""
    return network.param(layer, "scale").astype(np.float64), network.param(layer, "offset").astype(np.float64)


def multiply_add(network: Network, layer: Layer, scale: Array, offset: Array) -> None:
    """Make a convolution or dense layer give ``scale · sum + offset``; both float64 ``[output channels]``."""
    kernel = network.param(layer, "kernel").astype(np.float64)
    bias = network.params.get(f"{layer.name}/bias", np.zeros(kernel.shape[-1])).astype(np.float64)
    network.params[f"{layer.name}/kernel"] = kernel * scale
    steps = layer.params.pop(KERNEL_SCALE, None)
    if steps is not None and np.all(scale):
        layer.params[KERNEL_SCALE] = steps * np.abs(scale)
    network.params[f"{layer.name}/bias"] = bias * scale + offset


def fold_into(network: Network, before: Layer, layer: Layer) -> None:
    """Multiply the weights of ``before`` by the scale of ``layer``, and add its offset; activations are left alone."""
    scale, offset = scale_offset(network, layer)
    if isinstance(before.operation, BatchNorm):
        first_scale, first_offset = scale_offset(network, before)
        network.params[f"{before.name}/scale"] = first_scale * scale
        network.params[f"{before.name}/offset"] = first_offset * scale + offset
        return
    multiply_add(network, before, scale, offset)


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold ``batch_norm`` into the conv, dw, dense or batch_norm before it, if that has no other user or activation.

    Computed in float64; a convolution whose second input is added before the activation is left alone.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        for layer in network.of(BatchNorm):
            before = bypasses.source(layer)
            if not isinstance(before.operation, (*WEIGHTED, BatchNorm)) or not before.operation.is_linear:
                continue
            if bypasses.sole_user(before.name) is not layer:
                continue
            fold_into(network, before, layer)
            take_activation(network, before, layer)
            records.append({"layer": before.name, "folded": list(layer.original_names)})
            bypasses.bypass(layer)
        bypasses.apply()
        return records


@dataclass(frozen=True)
class DropIdentityBatchNorm(Pass):
    """Remove a ``batch_norm`` that multiplies by one, adds zero and has no activation."""

    name: ClassVar[str] = "drop-identity-batch-norm"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        for layer in network.of(BatchNorm):
            scale, offset = scale_offset(network, layer)
            if layer.operation.is_linear and np.all(scale == 1.0) and np.all(offset == 0.0):
                records.append({"layer": bypasses.source(layer).name, "dropped": list(layer.original_names)})
                bypasses.bypass(layer)
        bypasses.apply()
        return records
