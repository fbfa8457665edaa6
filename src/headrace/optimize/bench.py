# SPDX-License-Identifier: Apache-2.0
"""What an optimization works with: calibration data, what was asked, and the means to measure, freeze and judge."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from headrace.emulator.executor import Executor
from headrace.errors import Diagnostic, InternalError
from headrace.hn import Array, Network, check_network
from headrace.optimize.chunks import ChunkRunner
from headrace.optimize.freeze import FreezeContext, freeze_network
from headrace.optimize.measure.judge import Judge
from headrace.optimize.measure.sensitivity import Sensitivity, sensitivities
from headrace.optimize.measure.snr import float_snr_db
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.requests import Requests
from headrace.optimize.scales.ranges import ScaleGroups
from headrace.optimize.statistics.collect import Request, Statistics, collect
from headrace.optimize.trial import Proposal, Trial

EQUAL_DB = 60.0  # a rewrite rounds in float32, which deep networks amplify (93 dB seen); a wrong one gives below 40
CHECK_FRAMES = 4


class Bench:
    """What stays the same while ways to quantize are tried.

    Args:
        network: prepared float network, by whose outputs every trial is judged.
        data: calibration data.
        frames: how many of them count.
        groups: tensors that share a scale.
        raw: input layers that take raw bytes.
        requests: what was asked of single layers.
        options: the user's.
        runner: computes chunks.

    Attributes:
        judge: of the trials, and the frames on which they are judged.
    """

    def __init__(
        self,
        network: Network,
        data: Mapping[str, Array],
        frames: int,
        groups: ScaleGroups,
        raw: Mapping[str, bool],
        requests: Requests,
        options: OptimizeOptions,
        runner: ChunkRunner,
    ) -> None:
        self.data, self.frames = data, frames
        self.groups, self.raw = groups, raw
        self.requests, self.options = requests, options
        self.runner = runner
        self.judge = Judge(network, data, frames, runner)
        self._sensitivities: tuple[Network, dict[str, Sensitivity]] | None = None

    def freeze(self, proposal: Proposal) -> Trial:
        """Freeze a float network as proposed, and measure it."""
        quantized = proposal.prepared.clone()
        context = FreezeContext(quantized, proposal.tensors, proposal.statistics.ranges.before)
        decisions = freeze_network(context, self.runner.progress, proposal.corrections)
        quantized.net_params["stage"] = "quantized"
        check_network(quantized)
        outputs = self.judge.compare(quantized, f"trying {proposal.label}")
        return Trial(proposal, quantized, outputs, context.notes, decisions)

    def sensitivities(self, network: Network) -> dict[str, Sensitivity]:
        """Of a float network; those of the last one are kept."""
        if self._sensitivities is None or self._sensitivities[0] is not network:
            found = sensitivities(network, self.judge.data, self.runner, self.judge.weights)
            self._sensitivities = network, found
        return self._sensitivities[1]

    def measured(self, network: Network, request: Request, text: str) -> Statistics:
        """Statistics of a float network over the calibration data."""
        return collect(network, self.data, self.frames, self.runner, request, text)

    def measured_on_trial_frames(self, network: Network, request: Request, text: str) -> Statistics:
        """Statistics of a float network over the frames of trials."""
        return collect(network, self.judge.data, len(self.judge.frames), self.runner, request, text)

    def check_same_meaning(self, before: Network, after: Network, rule: str) -> None:
        """Check a rewritten network on the first few frames; raises InternalError."""
        head = {name: value[: min(self.frames, CHECK_FRAMES)] for name, value in self.data.items()}
        check_same_meaning(before, after, head, rule)


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


__all__ = ["CHECK_FRAMES", "Bench", "check_same_meaning"]
