# SPDX-License-Identifier: Apache-2.0
"""Which algorithms to apply: each is tried, and kept where the outputs come nearer to float on calibration frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.emulator.executor import Executor
from headrace.errors import Diagnostic, InternalError
from headrace.hn import Array, Network
from headrace.optimize.algorithms import (
    activation_ranges,
    bias_correction,
    channel_copies,
    channel_scales,
    equalization,
    output_precision,
    weight_rounding,
)
from headrace.optimize.algorithms.activation_ranges import Calibrator
from headrace.optimize.algorithms.weight_rounding import Rounder, second_moments
from headrace.optimize.measure.sensitivity import Sensitivity, sensitivities
from headrace.optimize.measure.snr import float_snr_db
from headrace.optimize.options import OptimizeOptions, Progress
from headrace.optimize.requests import Requests, wide_groups
from headrace.optimize.scales.precision import WIDE
from headrace.optimize.scales.ranges import ScaleGroups, tensor_quantizations
from headrace.optimize.statistics.collect import Statistics, collect
from headrace.optimize.trial import Judge, Trial, best_of, decision

EQUAL_DB = 60.0  # a rewrite rounds in float32, which deep networks amplify (93 dB seen); a wrong one gives below 40
#: Tried by ``calibrator="auto"``, in this order; the first wins ties.
TRIED = ("minmax", "mse", "percentile")
CHECK_FRAMES = 4
Decisions = list[dict[str, Any]]


@dataclass
class Search:
    """State of one search.

    Attributes:
        prepared: float network with an integer form for every layer.
        statistics: of it, with what the algorithms asked for.
        data: calibration data.
        frames: how many of them count.
        groups: tensors that share a scale.
        raw: input layers that take raw bytes.
        requests: what was asked of single layers.
        options: the user's.
        progress: called with (done, total, text).
    """

    prepared: Network
    statistics: Statistics
    data: Mapping[str, Array]
    frames: int
    groups: ScaleGroups
    raw: Mapping[str, bool]
    requests: Requests
    options: OptimizeOptions
    progress: Progress | None

    def __post_init__(self) -> None:
        self.judge = Judge(self.prepared, self.data, self.frames, self.options, self.progress)
        self._found: tuple[Network, dict[str, Sensitivity]] | None = None

    def run(self) -> tuple[Trial, Decisions]:
        """The best way found, and every decision on the way."""
        decisions: Decisions = []
        modes = TRIED if self.options.calibrator == "auto" else (self.options.calibrator,)
        best, trials = self._calibrate(self.prepared, self.statistics, modes)
        decisions += self._calibration_decisions(trials, best)
        if self.options.equalization:
            best = self._scale_channels(best, modes, decisions)
        best = self._correct(best, decisions)
        if self.options.equalization:
            best = self._equalize(best, modes, decisions)
        best = self._widen(best, decisions)
        if self.options.equalization:
            best = self._copy_channels(best, decisions)
        if self.options.weight_rounding:
            best = self._round(best, decisions)
        return best, decisions

    def _freeze(self, network: Network, statistics: Statistics, mode: str, label: str) -> Trial:
        calibrator = Calibrator(mode, self.options.percentiles, self.requests.clippings, statistics.histograms)
        bits = self.options.activation_bits
        tensors = tensor_quantizations(
            network, self.groups, statistics.ranges, self.raw, bits, calibrator, statistics.spans
        )
        return self.judge.freeze(label, network, statistics, tensors)

    def _calibrate(self, network: Network, statistics: Statistics, modes: Sequence[str]) -> tuple[Trial, list[Trial]]:
        trials = [self._freeze(network, statistics, mode, mode) for mode in modes]
        return best_of(trials), trials

    def _calibration_decisions(self, trials: Sequence[Trial], best: Trial) -> Decisions:
        return [
            decision(
                "activation-ranges",
                trial is best,
                trials[0],
                trial,
                f"{trial.label}: " + ("taken" if trial is best else f"{best.label} is nearer to float"),
            )
            for trial in trials
        ]

    def sensitivities(self, network: Network) -> dict[str, Sensitivity]:
        """Of a float network; those of the last one are kept."""
        if self._found is None or self._found[0] is not network:
            numbers = range(len(self.judge.frames))
            self._found = (
                network,
                sensitivities(network, self.judge.data, numbers, self.options, self.progress, self.judge.weights),
            )
        return self._found[1]

    def _widen(self, best: Trial, decisions: Decisions) -> Trial:
        """Sixteen bits for operands of sums, then for outputs and logits."""
        asked = self.options.output_bits
        best = self._widen_as_asked(best, decisions)
        if asked == 8:
            return best
        narrow = self.requests.narrow
        inner = output_precision.candidates(best.prepared, self.groups, best.tensors, inner=True, narrow=narrow)
        if inner:
            inner = output_precision.worthwhile(self.sensitivities(best.prepared), best.tensors, inner)
        if inner:
            best = self._try_wide(best, inner, decisions)
        chosen = output_precision.candidates(best.prepared, self.groups, best.tensors, narrow=narrow)
        return self._try_wide(best, chosen, decisions) if chosen else best

    def _try_wide(self, best: Trial, chosen: list[list[str]], decisions: Decisions) -> Trial:
        """These groups of tensors in 16 bits, where the outputs gain, or the user asks for it."""
        asked = self.options.output_bits
        names = {name for group in chosen for name in group}
        part = output_precision.share(self.sensitivities(best.prepared), best.tensors, names)
        if asked is None and part < output_precision.LEAST_SHARE:
            return best
        tensors = output_precision.apply(best.prepared, self.groups, best.tensors, chosen)
        trial = self.judge.freeze(output_precision.NAME, best.prepared, best.statistics, tensors, best.moments)
        taken = asked == WIDE or trial.better_than(best, output_precision.LEAST_GAIN_DB)
        reason = f"{len(chosen)} groups of tensors, {100 * part:.0f} % of the predicted noise from rounding activations"
        decisions.append(
            decision(output_precision.NAME, taken, best, trial, reason + ("" if taken else ": the outputs do not gain"))
        )
        return trial if taken else best

    def _widen_as_asked(self, best: Trial, decisions: Decisions) -> Trial:
        """Sixteen bits where the user wants them, whatever they bring."""
        wanted = wide_groups(best.prepared, self.groups, self.requests)
        narrow = [names for names in wanted if best.tensors[names[0]].bits == 8]
        if not narrow:
            return best
        tensors = output_precision.apply(best.prepared, self.groups, best.tensors, narrow)
        label = "precision asked for"
        trial = self.judge.freeze(label, best.prepared, best.statistics, tensors, best.moments)
        decisions.append(
            decision(output_precision.NAME, True, best, trial, f"{len(narrow)} groups of tensors: {label}")
        )
        return trial

    def _scale_channels(self, best: Trial, modes: Sequence[str], decisions: Decisions) -> Trial:
        """Gains for channels: all plans, or those without weight noise."""
        alone = self.requests.not_scaled
        if not channel_scales.candidates(self.prepared, alone):
            return best
        found = self.sensitivities(self.prepared)
        plans = channel_scales.plans(self.prepared, self.statistics, best.tensors, found, alone)
        kept: tuple[Trial, list[channel_scales.Plan]] = (best, [])
        for chosen in _sets(plans):
            if kept[1]:
                break
            network, statistics = channel_scales.apply(self.prepared, self.statistics, chosen)
            self._same_meaning(self.prepared, network, "channel scales changed the network's result")
            statistics = self._with_histograms(network, statistics)
            trial, _ = self._calibrate(network, statistics, modes)
            taken = trial.better_than(kept[0])
            reason = f"{len(chosen)} layers" + ("" if taken else ": the outputs do not gain")
            decisions.append(decision(channel_scales.NAME, taken, kept[0], trial, reason))
            kept = (trial, chosen) if taken else kept
        decisions += channel_scales.decisions(plans, kept[1], "judged at the outputs together")
        self.prepared, self.statistics = kept[0].prepared, kept[0].statistics
        return kept[0]

    def _same_meaning(self, before: Network, after: Network, rule: str) -> None:
        """Check a rewritten network on the first few frames."""
        head = {name: value[: min(self.frames, CHECK_FRAMES)] for name, value in self.data.items()}
        check_same_meaning(before, after, head, rule)

    def _with_histograms(self, network: Network, statistics: Statistics) -> Statistics:
        """Statistics derived for a rescaled network; histograms, where there are any, are taken anew."""
        if not statistics.histograms:
            return statistics
        wanted = activation_ranges.request(network, self.options.calibrator, self.requests.clippings)
        seen = collect(network, self.data, self.frames, self.options, self.progress, wanted, "rescaled")
        statistics.ranges, statistics.histograms = seen.ranges, seen.histograms
        return statistics

    def _equalize(self, best: Trial, modes: Sequence[str], decisions: Decisions) -> Trial:
        network, statistics, chains = equalization.equalize(
            self.prepared, self.statistics, self.data, self.judge.frames, self.requests.not_scaled
        )
        decisions += chains
        if not any(chain["accepted"] for chain in chains):
            return best
        self._same_meaning(self.prepared, network, "equalization changed the network's result")
        statistics = self._with_histograms(network, statistics)
        trial, _ = self._calibrate(network, statistics, modes)
        corrections: Decisions = []
        trial = self._correct(trial, corrections)
        taken = trial.better_than(best)
        reason = f"all accepted chains together ({trial.label})" + ("" if taken else ": the outputs do not gain")
        decisions.append(decision(equalization.NAME, taken, best, trial, reason))
        if not taken:
            for chain in chains:
                if chain["accepted"]:
                    chain["accepted"] = False
                    chain["reason"] += "; given up with all others, because the outputs do not gain"
        else:
            # The corrections that stand are those of the equalised network.
            decisions[:] = [d for d in decisions if d["name"] != bias_correction.NAME] + corrections
        return trial if taken else best

    def _copy_channels(self, best: Trial, decisions: Decisions) -> Trial:
        """Copies of the channels whose rounding decides noisy outputs."""
        alone = self.requests.not_scaled
        if best.score >= channel_copies.NOISY_DB or not channel_copies.sites(best.prepared, alone):
            return best
        plans = channel_copies.plans(best.prepared, best.tensors, self.sensitivities(best.prepared), alone)
        if not plans:
            return best
        network, statistics = channel_copies.apply(best.prepared, best.statistics, plans)
        self._same_meaning(best.prepared, network, "copies of channels changed the network's result")
        trial = self.judge.freeze(channel_copies.NAME, network, statistics, best.tensors)
        corrections: Decisions = []
        trial = self._correct(trial, corrections)
        taken = trial.better_than(best, channel_copies.LEAST_GAIN_DB)
        reason = f"{len(plans)} sites together" + ("" if taken else ": the outputs do not gain enough for the work")
        decisions.append(decision(channel_copies.NAME, taken, best, trial, reason))
        decisions += channel_copies.decisions(plans, taken)
        if taken:
            # The corrections that stand are those of the network with copies.
            decisions[:] = [d for d in decisions if d["name"] != bias_correction.NAME] + corrections
        return trial if taken else best

    def _correct(self, best: Trial, decisions: Decisions) -> Trial:
        wanted = bias_correction.request(best.prepared, self.requests.left_alone["bias_correction"])
        if not self.options.bias_correction or not wanted.moments:
            return best
        data, frames = self.judge.data, len(self.judge.frames)
        moments = collect(best.prepared, data, frames, self.options, self.progress, wanted, "float means").moments
        trial = self.judge.freeze("bias correction", best.prepared, best.statistics, best.tensors, moments)
        taken = trial.better_than(best)
        decisions += trial.decisions
        reason = "all corrected layers together" + ("" if taken else ": the outputs do not gain, so none is kept")
        decisions.append(decision(bias_correction.NAME, taken, best, trial, reason))
        return trial if taken else best

    def _round(self, best: Trial, decisions: Decisions) -> Trial:
        """Weights rounded for the sums they make, and the biases corrected once more where they were."""
        if best.score >= weight_rounding.NOISY_DB:
            return best
        network, numbers = best.prepared, range(len(self.judge.frames))
        moments = second_moments(network, self.judge.data, numbers, self.options, self.progress)
        if not moments:
            return best
        alone = self.requests.left_alone["weight_rounding"]
        rounders = {name: Rounder(value) for name, value in moments.items() if name not in alone}
        label = "weight rounding"
        trial = self.judge.freeze(label, network, best.statistics, best.tensors, best.moments, rounders)
        taken = trial.better_than(best, weight_rounding.LEAST_GAIN_DB)
        reason = f"{len(rounders)} layers together" + ("" if taken else ": the outputs do not gain enough")
        decisions.append(decision(weight_rounding.NAME, taken, best, trial, reason))
        if taken:
            # The corrections that stand are those that follow the weight_rounding.
            layers = [d for d in decisions if d["name"] == bias_correction.NAME and d["layer"] is not None]
            decisions[:] = [d for d in decisions if d not in layers] + trial.decisions
        return trial if taken else best


def _sets(plans: list[channel_scales.Plan]) -> list[list[channel_scales.Plan]]:
    """Sets of plans to try in turn until one is kept: all, then those whose readers lose no precision of weights."""
    free = [plan for plan in plans if not plan.dense]
    return [chosen for chosen in (plans, free) if chosen and (chosen is plans or len(free) < len(plans))]


def check_same_meaning(before: Network, after: Network, frames: Mapping[str, Array], rule: str) -> None:
    """Prove on real frames that two float networks give the same outputs.

    Raises:
        InternalError: an output changed by more than rounding (below 60 dB).
    """
    got = Executor(after, "fp_optimized").run(frames)
    for name, value in Executor(before, "native").run(frames).items():
        # Outputs with NaN or infinity are reported by the statistics, which name the layer they start at.
        snr = float_snr_db(value, got[name]) if np.all(np.isfinite(value)) else math.inf
        if snr < EQUAL_DB:
            where, need = name, f"≥ {EQUAL_DB:.0f} dB"
            raise InternalError(Diagnostic("E-OPTIMIZE-PREPARE", where, rule, f"{snr:.1f} dB", need))
