# SPDX-License-Identifier: Apache-2.0
"""Bias correction: what quantisation shifts per channel is taken off the bias, layer by layer.

Layers are frozen in topological order; each sees the codes that the frozen layers before it give on real frames.
The shift of a channel is the mean, over frames and pixels, of float less quantised in front of the activation. Even
and odd frames are kept apart: a channel is corrected only where the shift of one half predicts the other's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from headrace.emulator.exact import exact_arithmetic
from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.integer_ops import TorchIntegerOps, to_codes
from headrace.hn import Array, Layer, Network, quantized_view
from headrace.layers import Activated, Convolving, Dense
from headrace.numerics.quantization import TensorQuantization, quantize_input
from headrace.optimize.freeze import FreezeContext
from headrace.optimize.freeze.context import freeze_layer
from headrace.optimize.freeze.mac import FrozenWeights
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.statistics.collect import Moments, Request, chunk_size, in_chunks

NAME = "bias-correction"
KINDS = (Convolving, Dense)
#: A shift beyond this many times the channel's root mean square is a broken channel, not a rounding effect.
IMPLAUSIBLE = 2.0
Decision = dict[str, Any]


def request(network: Network, alone: frozenset[str] = frozenset()) -> Request:
    """Sums per channel in front of the activation of every layer that has a bias to correct and is not ``alone``."""
    return Request(moments=frozenset(layer.name for layer in network.of(*KINDS)) - alone)


@dataclass
class Correction:
    """What a correction decided for one layer.

    Attributes:
        bias: float64 ``[channels]`` to be frozen.
        decision: plain data for the report.
    """

    bias: Array
    decision: Decision


@dataclass
class _Walk:
    """The frozen part of the network so far, and its codes on the sample, per chunk."""

    context: FreezeContext
    data: Mapping[str, Array]
    options: OptimizeOptions
    integers: TorchIntegerOps = field(default_factory=TorchIntegerOps)
    floats: TorchFloatOps = field(default_factory=TorchFloatOps)
    codes: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    def chunks(self, work: Callable[[int, int], Any]) -> list[Any]:
        frames = len(next(iter(self.data.values())))
        size = max(1, chunk_size(self.context.network) // 2)
        return list(in_chunks(work, frames, size, self.options, None, ""))

    def start(self, layer: Layer) -> None:
        def work(start: int, stop: int) -> None:
            array, output = self.data[layer.name][start:stop], self.context.tensors[layer.name]
            codes = array if array.dtype == output.dtype else quantize_input(array.astype(np.float32), output)
            self.codes.setdefault(start, {})[layer.name] = to_codes(np.ascontiguousarray(codes))

        self.chunks(work)

    def advance(self, layer: Layer) -> None:
        view = quantized_view(self.context.network, layer)

        def work(start: int, stop: int) -> None:
            del stop
            with exact_arithmetic():
                codes = self.codes[start]
                inputs = [codes[name] for name in layer.inputs]
                codes[layer.name] = layer.operation.forward_integer(self.integers, view, inputs)

        self.chunks(work)

    def moments(self, layer: Layer, frozen: FrozenWeights) -> Moments:
        """Sums of what the frozen layer gives in front of its activation, as reals."""
        operation = layer.operation
        assert isinstance(operation, Activated)
        linear = replace(operation, activation="linear", activation_params={})
        scales = self.context.inputs(layer)
        params = {
            "kernel": (frozen.kernel * (frozen.units / scales[0].scale)).astype(np.float32),
            "bias": (frozen.bias * frozen.units).astype(np.float32),
        }

        def work(start: int, stop: int) -> Moments:
            del stop
            with exact_arithmetic():
                reals = [_real(self.codes[start][n], s) for n, s in zip(layer.inputs, scales, strict=True)]
                return Moments.of(linear.forward_float(self.floats, params, reals), start)

        parts = self.chunks(work)
        total = parts[0]
        for part in parts[1:]:
            total = total.added(part)
        return total

    def forget(self, names: list[str]) -> None:
        for part in self.codes.values():
            for name in names:
                part.pop(name, None)


def _real(codes: torch.Tensor, quantization: TensorQuantization) -> torch.Tensor:
    return (codes.to(torch.float32) - quantization.zero_point) * quantization.scale


def freeze_corrected(
    context: FreezeContext,
    data: Mapping[str, Array],
    moments: Mapping[str, Moments],
    options: OptimizeOptions,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Decision]:
    """Freeze a network layer by layer with corrected biases.

    Args:
        context: the float network (becomes quantised) and its tensors' quantisations.
        data: a sample of the calibration data; frame numbers must be those of ``moments``.
        moments: of the float network on the same sample (:func:`request`).

    Returns:
        One decision per layer that has a bias.
    """
    walk, decisions = _Walk(context, data, options), []
    layers = list(context.network)
    last_use = {name: layer.name for layer in layers for name in layer.inputs}
    for done, layer in enumerate(layers, start=1):
        if layer.name in moments:
            correction = _correct(walk, layer, moments[layer.name])
            context.network.params[f"{layer.name}/bias"] = correction.bias.astype(np.float32)
            decisions.append(correction.decision)
        freeze_layer(context, layer)
        if layer.kind == "input_layer":
            walk.start(layer)
        elif layer.name in last_use:
            walk.advance(layer)
        walk.forget([name for name in layer.inputs if last_use[name] == layer.name])
        if progress is not None:
            progress(done, len(layers), "correcting biases")
    return decisions


def _correct(walk: _Walk, layer: Layer, reference: Moments) -> Correction:
    context = walk.context
    kernel = context.network.param(layer, "kernel")
    bias = layer.params.get("bias", np.zeros(kernel.shape[-1])).astype(np.float64)
    rounder = context.rounders.get(layer.name)
    got = walk.moments(layer, FrozenWeights(kernel, bias, context.inputs(layer)[0], rounder))
    halves = np.maximum(reference.elements, 1.0)[:, None]
    shifts = (reference.sums - got.sums) / halves
    power = reference.squares.sum(axis=0) / max(float(reference.elements.sum()), 1.0)
    whole = (reference.sums - got.sums).sum(axis=0) / max(float(reference.elements.sum()), 1.0)
    usable = np.isfinite(whole) & bool(np.all(reference.elements > 0))
    implausible = usable & (np.square(whole) > IMPLAUSIBLE**2 * power)
    # Each half is judged by the other: what is left of its shift after the other's has been taken off.
    remaining = np.square(shifts[0] - shifts[1])
    helps = usable & ~implausible & (2 * remaining < np.square(shifts).sum(axis=0))
    before = float(np.square(shifts[:, usable]).mean(axis=0).sum()) if usable.any() else 0.0
    after = float(np.where(helps, remaining, np.square(shifts).mean(axis=0))[usable].sum()) if usable.any() else 0.0
    chosen = int(helps.sum())
    reason = f"{chosen} of {len(helps)} channels: one half of the frames predicts the other's shift"
    if implausible.any():
        reason += f"; {int(implausible.sum())} skipped, the shift exceeds {IMPLAUSIBLE:g} × the channel's size"
    decision: Decision = {
        "name": NAME,
        "layer": layer.name,
        "accepted": chosen > 0,
        "measure": "squared mean shift per channel, summed",
        "before": before,
        "after": after,
        "reason": reason,
    }
    return Correction(bias + np.where(helps, whole, 0.0), decision)
