# SPDX-License-Identifier: Apache-2.0
"""Trying several ways to quantise a network, and judging each by its outputs on calibration frames."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from headrace.emulator.executor import Executor
from headrace.hn import Array, Network, check_network, output_quantization
from headrace.layers import InputLayer
from headrace.numerics.quantization import TensorQuantization, dequantize
from headrace.optimize.algorithms import bias_correction
from headrace.optimize.algorithms.weight_rounding import Rounder
from headrace.optimize.freeze import FreezeContext, freeze_network
from headrace.optimize.freeze.context import check_freezable
from headrace.optimize.measure.noise import OutputNoise, PartNoise, Sums, parts_by_output, worst_of
from headrace.optimize.measure.output_parts import all_cells
from headrace.optimize.options import OptimizeOptions, Progress
from headrace.optimize.statistics.collect import Moments, Statistics, chunk_size, evenly_spread, in_chunks

#: Multiply-accumulates (and as many element operations) that one trial may take, which bounds its frames.
TRIAL_WORK = 6e9
FEWEST_FRAMES, MOST_FRAMES = 8, 64
#: The outputs must gain this many dB; less is chance, and the simpler way stays.
LEAST_GAIN_DB = 0.1
#: dB by which the worst part of an output may fall where others gain, beside what its frames leave uncertain.
TOLERATED_DB = 0.2
#: dB by which any other part may fall for the others' gain, beside that gain itself; above ``FAIR_DB`` it may freely.
TOLERATED_PART_DB, FAIR_DB = 1.0, 30.0
#: A part this near to float is good: it may fall to here.
GOOD_DB = 40.0
#: A part counts as no worse than this: its error is ten times what it should show.
LEAST_DB = -20.0


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
        outputs: output layer → its parts against float on the trial frames.
        decisions: of the freezing (bias correction).
        moments: that biases were corrected by, if they were.
    """

    label: str
    prepared: Network
    statistics: Statistics
    tensors: dict[str, TensorQuantization]
    quantized: Network
    notes: dict[str, dict[str, Any]]
    outputs: dict[str, list[PartNoise]] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    moments: Mapping[str, Moments] | None = None

    @property
    def parts(self) -> list[PartNoise]:
        return [part for parts in self.outputs.values() for part in parts]

    @cached_property
    def score(self) -> float:
        """The mean relative error, as dB: mean over outputs of the mean over their parts.

        A part at 14 dB weighs as much as twenty at 40: what is bad decides, and what is good can still gain.
        """
        errors = [
            sum(10.0 ** (-max(part.judged_db, LEAST_DB) / 20.0) for part in parts) / len(parts)
            for parts in self.outputs.values()
        ]
        return -20.0 * math.log10(sum(errors) / len(errors)) if errors else 0.0

    @property
    def worst(self) -> PartNoise:
        """The part with the least dB."""
        return worst_of(self.parts)

    def better_than(self, other: Trial, least: float = LEAST_GAIN_DB) -> bool:
        """Whether the outputs gain at least that many dB, and no part pays for it: neither the worst falls, nor any by
        much more than is gained, nor does one die.
        """
        gain = self.score - other.score
        if gain <= least:
            return False
        before = {_key(part): part for part in other.parts}
        for part in self.parts:
            was = before[_key(part)]
            # A part that was further from float than a constant would be (0 dB) has no life to lose.
            if part.dead and not was.dead and was.judged_db > 0.0:
                return False
            if min(part.judged_db, FAIR_DB) < min(was.judged_db, FAIR_DB) - gain - TOLERATED_PART_DB:
                return False
        worst = self.worst
        tolerated = TOLERATED_DB + worst.uncertainty_db
        return min(worst.judged_db, GOOD_DB) >= min(other.worst.judged_db, GOOD_DB) - tolerated


def _key(part: PartNoise) -> tuple[str, str]:
    return part.output, part.part.name


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
        self.cells = all_cells(network)
        sums = {name: self._sums(name) for name in self._names}
        self.parts = parts_by_output(self.cells, sums)
        self.weights = {name: self._weights(name, sums[name]) for name in self._names}

    def _sums(self, name: str) -> Sums:
        """Of an output's float values."""
        found = [Sums.of_map(self.cells[name], chunk[name].astype(np.float64)) for chunk in self._wanted]
        return functools.reduce(Sums.added, found)

    def _weights(self, name: str, sums: Sums) -> Array:
        """float32 in the shape of a frame: one over the root of what each part varies by in a frame, and of how many
        parts and outputs there are; 0 where nothing varies. Σ (weight · error)² is the noise-to-signal ratio, mean over
        outputs of the mean over parts.
        """
        weights = np.zeros(len(self.cells[name].cells))
        for part in self.parts[name]:
            whole = sums.whole(part.cells)
            if whole.basis != "constant":
                share = len(self.parts[name]) * len(self._names) / len(self.frames)
                weights[part.index] = (whole.signal * share) ** -0.5
        return weights.astype(np.float32).reshape(self.cells[name].shape)

    def _run(self, executor: Executor, text: str) -> list[dict[str, Array]]:
        def work(start: int, stop: int) -> dict[str, Array]:
            part = {name: np.ascontiguousarray(value[start:stop]) for name, value in self.data.items()}
            return executor.run(part, self._names, batch_size=stop - start)

        parts = in_chunks(work, len(self.frames), self.size, self._options, self._progress, text)
        with closing(parts):
            return list(parts)

    def compare(self, quantized: Network, text: str) -> dict[str, list[PartNoise]]:
        """The parts of every output against float; sums in float64, chunk by chunk in order."""
        results = self._run(Executor(quantized, "quantized"), text)
        found: dict[str, list[PartNoise]] = {}
        for name in self._names:
            scale = output_quantization(quantized[name])
            total: OutputNoise | None = None
            for wanted, codes in zip(self._wanted, results, strict=True):
                got = dequantize(codes[name], scale)
                one = OutputNoise.of(name, self.cells[name], self.parts[name], wanted[name], got, codes[name])
                if total is None:
                    total = one
                else:
                    total.add(one)
            assert total is not None
            found[name] = total.measured()
        return found

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
        trial.outputs = self.compare(quantized, f"trying {label}")
        return trial


def trial_frames(network: Network) -> int:
    """Frames per trial: a function of the network alone."""
    work = 0
    for layer in network:
        if not isinstance(layer.operation, InputLayer):
            counts = layer.operation.counts(network.input_shapes(layer), layer.output_shape)
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
        "measure": "dB at the outputs on calibration frames, mean error of their parts",
        "before": round(before.score, 3),
        "after": round(after.score, 3),
        "worst_before": round(before.worst.judged_db, 3),
        "worst_after": round(after.worst.judged_db, 3),
        "reason": reason,
    }
