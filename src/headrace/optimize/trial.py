# SPDX-License-Identifier: Apache-2.0
"""Trying several ways to quantise a network, and judging each by its outputs on calibration frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.emulator.executor import Executor
from headrace.hn import Array, Network
from headrace.layers import check_network, definition_of
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize import bias_correction
from headrace.optimize.freeze import FreezeContext, freeze_network
from headrace.optimize.freeze.base import check_freezable
from headrace.optimize.options import OptimizeOptions, Progress
from headrace.optimize.rounding import Rounder
from headrace.optimize.statistics import Moments, Statistics, chunk_size, evenly_spread, in_chunks

#: Multiply-accumulates (and as many element operations) that one trial may take, which bounds its frames.
TRIAL_WORK = 6e9
FEWEST_FRAMES, MOST_FRAMES = 8, 64
#: An exact output counts as this many dB.
EXACT_DB = 120.0
#: Outputs must gain this many dB on average; less is chance, and the simpler way stays.
LEAST_GAIN_DB = 0.1
#: dB by which one output may fall, beyond the average gain, times the root of the number of outputs: the worst of many
#: fluctuates more on few frames.
TOLERATED_DB = 0.5


@dataclass
class Trial:
    """One way to quantise the network.

    Attributes:
        label: what it is, for the report.
        prepared: float network it stands for.
        statistics: of that network.
        tensors: quantisation of every tensor.
        quantized: the frozen network.
        notes: of the freezing, per layer.
        snr_db: output layer → dB against float on the trial frames.
        decisions: of the freezing (bias correction).
        moments: that biases were corrected by, if they were.
    """

    label: str
    prepared: Network
    statistics: Statistics
    tensors: dict[str, TensorQuantization]
    quantized: Network
    notes: dict[str, dict[str, Any]]
    snr_db: dict[str, float] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    moments: Mapping[str, Moments] | None = None

    @property
    def score(self) -> float:
        """Mean over outputs, dB."""
        return sum(self.snr_db.values()) / max(len(self.snr_db), 1)

    def better_than(self, other: Trial, least: float = LEAST_GAIN_DB) -> bool:
        """Whether the outputs gain at least that many dB on average and none of them loses much."""
        falls = [other.snr_db[name] - value for name, value in self.snr_db.items()]
        gain = self.score - other.score
        return gain > least and max(falls, default=0.0) <= gain + TOLERATED_DB * math.sqrt(len(falls))


class Judge:
    """Compares quantised networks with one float network on frames spread over the calibration data."""

    def __init__(
        self,
        network: Network,
        data: Mapping[str, Array],
        frames: int,
        options: OptimizeOptions,
        progress: Progress | None,
    ) -> None:
        self.frames = list(evenly_spread(frames, trial_frames(network)))
        self.data = {name: np.ascontiguousarray(value[self.frames]) for name, value in data.items()}
        self.size = chunk_size(network)
        self._options, self._progress = options, progress
        self._names = [layer.name for layer in network.output_layers]
        self._wanted = self._run(Executor(network, "fp_optimized"), "trying")

    def _run(self, executor: Executor, text: str) -> list[dict[str, Array]]:
        def work(start: int, stop: int) -> dict[str, Array]:
            part = {name: np.ascontiguousarray(value[start:stop]) for name, value in self.data.items()}
            return executor.run(part, self._names, batch_size=stop - start, dequantize=executor.quantized)

        parts = in_chunks(work, len(self.frames), self.size, self._options, self._progress, text)
        with closing(parts):
            return list(parts)

    def outputs_snr(self, quantized: Network, text: str) -> dict[str, float]:
        """DB of every output; sums in float64, chunk by chunk in order."""
        signal, noise = dict.fromkeys(self._names, 0.0), dict.fromkeys(self._names, 0.0)
        results = self._run(Executor(quantized, "quantized"), text)
        for wanted, got in zip(self._wanted, results, strict=True):
            for name in self._names:
                real = wanted[name].astype(np.float64)
                signal[name] += float(np.square(real).sum())
                noise[name] += float(np.square(real - got[name]).sum())
        return {name: _decibels(signal[name], noise[name]) for name in self._names}

    def freeze(
        self,
        label: str,
        prepared: Network,
        statistics: Statistics,
        tensors: dict[str, TensorQuantization],
        moments: Mapping[str, Moments] | None = None,
        rounders: Mapping[str, Rounder] | None = None,
    ) -> Trial:
        """Freeze a float network and measure it.

        With ``moments``, biases are corrected on the way; with ``rounders``, these round the weights of their layers.
        """
        quantized = prepared.clone()
        context = FreezeContext(quantized, tensors, statistics.ranges.before, rounders or {})
        decisions: list[dict[str, Any]] = []
        if moments is None:
            freeze_network(context, self._progress)
        else:
            check_freezable(quantized)
            decisions = bias_correction.freeze_corrected(context, self.data, moments, self._options, self._progress)
        quantized.net_params["stage"] = "quantized"
        check_network(quantized)
        trial = Trial(
            label, prepared, statistics, tensors, quantized, context.notes, decisions=decisions, moments=moments
        )
        trial.snr_db = self.outputs_snr(quantized, f"trying {label}")
        return trial


def trial_frames(network: Network) -> int:
    """Frames per trial: a function of the network alone."""
    work = 0
    for layer in network:
        if layer.kind != "input_layer":
            definition = definition_of(layer.kind)
            counts = definition.counts(definition.read(layer), network.input_shapes(layer), layer.output_shape)
            work += counts.macs + 8 * counts.output_elements
    return int(min(max(TRIAL_WORK / max(work, 1), FEWEST_FRAMES), MOST_FRAMES))


def best_of(trials: Sequence[Trial]) -> Trial:
    """The first trial, unless a later one is better; ties keep the earlier."""
    best = trials[0]
    for trial in trials[1:]:
        if trial.better_than(best):
            best = trial
    return best


def decision(name: str, accepted: bool, before: Trial, after: Trial, reason: str) -> dict[str, Any]:
    """A decision about the whole network as plain data, judged by its outputs."""
    return {
        "name": name,
        "layer": None,
        "accepted": accepted,
        "measure": "dB at the outputs on calibration frames, mean",
        "before": round(before.score, 3),
        "after": round(after.score, 3),
        "reason": reason,
    }


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return EXACT_DB
    if signal == 0.0:
        return -EXACT_DB
    return max(-EXACT_DB, min(EXACT_DB, 10.0 * math.log10(signal / noise)))
