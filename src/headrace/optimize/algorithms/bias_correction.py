# SPDX-License-Identifier: Apache-2.0
"""Bias correction: what quantization shifts per channel is taken off the bias, layer by layer.

Layers are frozen in topological order; each sees the codes that the frozen layers before it give on real frames.
The shift of a channel is the mean, over frames and pixels, of float less quantized in front of the activation. Even
and odd frames are kept apart: a channel is corrected only where the shift of one half predicts the other's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from headrace.emulator.exact import exact_arithmetic
from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.integer_ops import TorchIntegerOps, to_codes
from headrace.hn import Array, Layer, Network, quantized_view
from headrace.layers import Activated, InputLayer
from headrace.layers.mac import KERNEL_SCALE
from headrace.numerics.quantization import TensorQuantization, quantize_input
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, Role, State
from headrace.optimize.chunks import ChunkRunner, chunk_size
from headrace.optimize.freeze import Correction, FreezeContext, Steps
from headrace.optimize.freeze.mac import FrozenWeights
from headrace.optimize.statistics.collect import Moments, Request
from headrace.reports.optimize import Decision

#: A shift beyond this many times the channel's root mean square is a broken channel, not a rounding effect.
IMPLAUSIBLE = 2.0
R = TypeVar("R")


class BiasCorrection(Algorithm):
    """The mean shift per channel that quantization causes, taken off the biases."""

    name = "bias-correction"
    role = Role.CORRECTION
    switch = "bias_correction"

    def proposals(self, state: State) -> Proposals:
        bench, network = state.bench, state.prepared
        sums = request(network, bench.requests.alone(self.switch))
        if not sums.moments:
            return []
        moments = bench.measured_on_trial_frames(network, sums, "float means").moments
        correction = ShiftedBiases(moments, bench.judge.data, bench.runner)
        outcome = yield state.best.again("bias correction", corrections=[correction])
        otherwise = ": the outputs do not gain, so none is kept"
        return [
            *outcome.trial.decisions,
            outcome.decision(self.name, "all corrected layers together", otherwise),
        ]


def request(network: Network, alone: frozenset[str] = frozenset()) -> Request:
    """Sums per channel in front of the activation of every layer that has a bias to correct and is not ``alone``."""
    return Request(moments=frozenset(layer.name for layer in network if layer.operation.weights is not None) - alone)


@dataclass(frozen=True)
class ShiftedBiases(Correction):
    """Biases are corrected while layers are frozen, each by what those before it give.

    Attributes:
        moments: of the float network on the sample (:func:`request`).
        data: the sample; frame numbers are those of ``moments``.
        runner: computes chunks.
    """

    name = BiasCorrection.name
    progress = "correcting biases"

    moments: Mapping[str, Moments]
    data: Mapping[str, Array]
    runner: ChunkRunner

    def begin(self, context: FreezeContext) -> Steps:
        return _Walk(context, self)


class _Walk(Steps):
    """The frozen part of a network so far, and its codes on the sample."""

    def __init__(self, context: FreezeContext, correction: ShiftedBiases) -> None:
        self.context = context
        self._moments, self._data = correction.moments, correction.data
        self._runner = correction.runner.quiet
        self._size = max(1, chunk_size(context.network) // 2)
        self._integers, self._floats = TorchIntegerOps(), TorchFloatOps()
        self._last_use = {name: layer.name for layer in context.network for name in layer.inputs}
        self._codes: dict[str, list[torch.Tensor]] = {}  # by layer, per chunk

    def before(self, layer: Layer) -> list[Decision]:
        if layer.name not in self._moments:
            return []
        bias, decision = self._corrected(layer, self._moments[layer.name])
        self.context.network.params[f"{layer.name}/bias"] = bias.astype(np.float32)
        return [decision]

    def after(self, layer: Layer) -> None:
        if isinstance(layer.operation, InputLayer):
            self._codes[layer.name] = self._entered(layer)
        elif layer.name in self._last_use:
            self._codes[layer.name] = self._computed(layer)
        for name in layer.inputs:
            if self._last_use[name] == layer.name:
                self._codes.pop(name, None)

    def _chunks(self, work: Callable[[int, int], R]) -> list[R]:
        return self._runner.all(work, min(len(value) for value in self._data.values()), self._size)

    def _entered(self, layer: Layer) -> list[torch.Tensor]:
        output = self.context.tensors[layer.name]

        def work(start: int, stop: int) -> torch.Tensor:
            array = self._data[layer.name][start:stop]
            codes = array if array.dtype == output.dtype else quantize_input(array.astype(np.float32), output)
            return to_codes(np.ascontiguousarray(codes))

        return self._chunks(work)

    def _operands(self, layer: Layer, start: int) -> list[torch.Tensor]:
        return [self._codes[name][start // self._size] for name in layer.inputs]

    def _computed(self, layer: Layer) -> list[torch.Tensor]:
        view = quantized_view(self.context.network, layer)

        def work(start: int, stop: int) -> torch.Tensor:
            del stop
            with exact_arithmetic():
                return layer.operation.forward_integer(self._integers, view, self._operands(layer, start))

        return self._chunks(work)

    def _sums(self, layer: Layer, frozen: FrozenWeights) -> Moments:
        """Of what the frozen layer gives in front of its activation, as reals."""
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
                reals = [_real(x, s) for x, s in zip(self._operands(layer, start), scales, strict=True)]
                return Moments.of(linear.forward_float(self._floats, params, reals), start)

        return functools.reduce(Moments.added, self._chunks(work))

    def _corrected(self, layer: Layer, reference: Moments) -> tuple[Array, Decision]:
        """The bias to be frozen, float64 ``[channels]``, and what was decided."""
        context = self.context
        kernel = context.network.param(layer, "kernel")
        bias = layer.params.get("bias", np.zeros(kernel.shape[-1])).astype(np.float64)
        rounder = context.rounders.get(layer.name)
        steps = layer.params.get(KERNEL_SCALE)
        got = self._sums(layer, FrozenWeights(kernel, bias, context.inputs(layer)[0], rounder, steps))
        halves = np.maximum(reference.elements, 1.0)[:, None]
        shifts = (reference.sums - got.sums) / halves
        power = reference.squares.sum(axis=0) / max(float(reference.elements.sum()), 1.0)
        whole = (reference.sums - got.sums).sum(axis=0) / max(float(reference.elements.sum()), 1.0)
        usable: Array = np.isfinite(whole) & bool(np.all(reference.elements > 0))
        implausible = usable & (np.square(whole) > IMPLAUSIBLE**2 * power)
        # Each half is judged by the other: what is left of its shift after the other's has been taken off.
        remaining = np.square(shifts[0] - shifts[1])
        helps = usable & ~implausible & (2 * remaining < np.square(shifts).sum(axis=0))
        before = float(np.square(shifts[:, usable]).mean(axis=0).sum()) if usable.any() else 0.0
        left = np.asarray(np.where(helps, remaining, np.square(shifts).mean(axis=0)), np.float64)
        after = float(left[usable].sum()) if usable.any() else 0.0
        chosen = int(np.count_nonzero(helps))
        reason = f"{chosen} of {len(helps)} channels: one half of the frames predicts the other's shift"
        if implausible.any():
            reason += f"; {int(implausible.sum())} skipped, the shift exceeds {IMPLAUSIBLE:g} × the channel's size"
        decision = Decision(
            name=BiasCorrection.name,
            layer=layer.name,
            accepted=chosen > 0,
            measure="squared mean shift per channel, summed",
            before=before,
            after=after,
            reason=reason,
        )
        return bias + np.where(helps, whole, 0.0), decision


def _real(codes: torch.Tensor, quantization: TensorQuantization) -> torch.Tensor:
    return (codes.to(torch.float32) - quantization.zero_point) * quantization.scale


__all__ = ["BiasCorrection", "ShiftedBiases", "request"]
