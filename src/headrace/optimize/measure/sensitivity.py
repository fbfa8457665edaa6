# SPDX-License-Identifier: Apache-2.0
"""How much noise in each channel of each tensor moves the outputs: what quantization may lose, and where.

A small error e in a tensor changes the outputs by J·e. For errors without correlation the expected squared change is
Σ e²·Σ J², and Σ J² over the outputs is the expected squared gradient of the outputs' sum with random signs. One
backward pass per frame gives it for every tensor at once. With rounding errors of step²/12 this predicts each
tensor's share of the noise at the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.tensors import tensor_of
from headrace.hn import Array, Layer, Network
from headrace.layers import InputLayer, ScaleRule
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize.chunks import ChunkRunner, evenly_spread

FRAMES = 8
ROUNDING = 1.0 / 12.0  # variance of rounding to a step of one


@dataclass(frozen=True)
class Sensitivity:
    """Of the outputs to one tensor.

    Attributes:
        channels: float64 ``[C]``, by the tensor's last axis: added noise-to-signal ratio of the outputs (mean over
            outputs of the mean over their parts, signal about the mean) per unit of error variance in that channel.
    """

    channels: Array

    def noise(self, steps: Array | float) -> float:
        """Predicted noise-to-signal ratio when the channels are rounded to these steps."""
        return float((self.channels * np.square(steps)).sum() * ROUNDING)


def sensitivities(
    network: Network,
    data: Mapping[str, Array],
    runner: ChunkRunner,
    weights: Mapping[str, Array],
) -> dict[str, Sensitivity]:
    """Of every tensor that a layer computes (codes that only pass are not rounded again), by layer name.

    Args:
        network: float network with finite tensors.
        data: frames, of which at most :data:`FRAMES` evenly spread ones are looked at.
        weights: output layer → float32 in the shape of a frame: Σ (weight · error)² over outputs is a frame's
            noise-to-signal ratio (:attr:`headrace.optimize.measure.judge.Judge.weights`).
    """
    chosen = evenly_spread(min(len(value) for value in data.values()), FRAMES)
    walk = _Walk(network, weights)

    def work(start: int, stop: int) -> dict[str, Array]:
        number = chosen[start:stop]
        with torch.inference_mode(False), torch.enable_grad():
            return walk.run({name: value[number] for name, value in data.items()}, start)

    total = runner.sums(work, len(chosen), 1, "sensitivity")
    return {name: Sensitivity(value / len(chosen)) for name, value in total.items()}


class _Walk:
    """One network, prepared for forward and backward passes."""

    def __init__(self, network: Network, weights: Mapping[str, Array]) -> None:
        self.network = network
        self.weights = {name: tensor_of(value) for name, value in weights.items()}
        self.ops = TorchFloatOps()
        self.outputs = [layer.name for layer in network.output_layers]
        self.seen = [layer.name for layer in network if layer.operation.scale_rule is ScaleRule.OWN]

    def run(self, inputs: Mapping[str, Array], number: int) -> dict[str, Array]:
        """float64 ``[C]`` per tensor: squared gradients summed over frame and positions."""
        tensors: dict[str, torch.Tensor] = {}
        for layer in self.network:
            if isinstance(layer.operation, InputLayer):
                source = np.array(inputs[layer.name], np.float32)
                tensors[layer.name] = tensor_of(source).requires_grad_(True)
            else:
                tensors[layer.name] = self._forward(layer, [tensors[name] for name in layer.inputs])
        rng = np.random.default_rng(number)
        total = torch.zeros(())
        for name in self.outputs:
            value = tensors[name]
            signs = rng.choice(np.array([-1.0, 1.0], np.float32), tuple(value.shape))
            total = total + (value * tensor_of(signs) * self.weights[name]).sum()
        if not total.requires_grad:
            return {}
        names = [name for name in self.seen if tensors[name].requires_grad]
        seen = [tensors[name] for name in names]
        # The stub does not say that a tensor that the outputs do not use has none.
        grads = cast("tuple[torch.Tensor | None, ...]", torch.autograd.grad(total, seen, allow_unused=True))
        result: dict[str, Array] = {}
        for name, grad in zip(names, grads, strict=True):
            if grad is not None:
                flat = grad.reshape(-1, grad.shape[-1])
                result[name] = flat.square().sum(dim=0, dtype=torch.float64).numpy()
        return result

    def _forward(self, layer: Layer, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return layer.operation.forward_float(self.ops, layer.params, inputs)


def channel_noise(found: Sensitivity, tensor: TensorQuantization) -> Array:
    """float64 ``[C]``: predicted noise-to-signal ratio at the outputs from rounding each channel."""
    return found.channels * (np.square(tensor.steps.astype(np.float64)) * ROUNDING)


def predicted_noise(
    found: Mapping[str, Sensitivity], tensors: Mapping[str, TensorQuantization]
) -> list[tuple[str, float]]:
    """(layer name, predicted noise-to-signal ratio at the outputs from rounding its output), greatest first."""
    rows = [(name, value.noise(tensors[name].steps.astype(np.float64))) for name, value in found.items()]
    return sorted(rows, key=lambda row: -row[1])


__all__ = ["Sensitivity", "channel_noise", "predicted_noise", "sensitivities"]
