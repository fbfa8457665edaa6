# SPDX-License-Identifier: Apache-2.0
"""Which part of a tensor's measured values its codes span: all of it, percentiles, or the least squared error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.hn import Layer, Network
from headrace.layers import ScaleRule
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, Role, State
from headrace.optimize.options import Clipping, OptimizeOptions
from headrace.optimize.requests import Requests
from headrace.optimize.scales.ranges import has_meant_range, tensor_quantizations
from headrace.optimize.statistics.collect import Request
from headrace.optimize.statistics.histogram import Histogram
from headrace.optimize.trial import Outcome, Proposal, whole_network

#: Tried by ``calibrator="auto"``, in this order; the first wins ties.
TRIED = ("minmax", "mse", "percentile")


@dataclass(frozen=True)
class Calibrator:
    """Chooses the range of one group of tensors that share a scale.

    Attributes:
        mode: ``"minmax"``, ``"percentile"`` or ``"mse"``, for tensors without a clipping of their own.
        percentiles: per cent of values (low, high) for ``"percentile"``.
        clippings: layer name → what the user asked for; wins over everything measured.
        histograms: layer name → histogram of its output.
    """

    mode: str
    percentiles: tuple[float, float]
    clippings: Mapping[str, Clipping]
    histograms: Mapping[str, Histogram]

    def choose(self, network: Network, names: Sequence[str], low: float, high: float, bits: int) -> tuple[float, float]:
        """The range for the tensors ``names``, whose union of measured (or meant) ranges is [low, high]."""
        asked = [self.clippings[name] for name in names if name in self.clippings]
        if asked and asked[-1].mode == "manual":
            return asked[-1].values
        histogram = self._joined(network, names)
        if histogram is None or (asked and asked[-1].mode == "disabled"):
            return low, high
        if asked:
            return _inside(histogram.percentile(*asked[-1].values), low, high)
        if self.mode == "minmax" or not all(clippable(network, network[name]) for name in names):
            return low, high
        if self.mode == "percentile":
            return _inside(histogram.percentile(*self.percentiles), low, high)
        return histogram.least_error(low, high, bits)

    def asks(self, names: Sequence[str]) -> bool:
        """Whether the user gave one of these tensors a range."""
        return any(name in self.clippings for name in names)

    def _joined(self, network: Network, names: Sequence[str]) -> Histogram | None:
        """Of the group's computed tensors; views and copies of them do not count twice."""
        joined: Histogram | None = None
        for name in names:
            if network[name].operation.scale_rule is ScaleRule.OWN and name in self.histograms:
                histogram = self.histograms[name]
                joined = histogram if joined is None else joined.merged(histogram)
        return joined


class ActivationRanges(Algorithm):
    """The range of every tensor, from what was measured: the first trial."""

    name = "activation-ranges"
    role = Role.RANGES

    def wants(self, network: Network, requests: Requests, options: OptimizeOptions) -> Request:
        """Histograms, where the mode or a clipping reads them."""
        if options.calibrator == "minmax" and not requests.clippings:
            return Request()
        return Request(histograms=frozenset(network.layers))

    def proposals(self, state: State) -> Proposals:
        bench, options = state.bench, state.bench.options
        network, statistics = state.prepared, state.statistics
        outcomes: list[Outcome] = []
        for mode in TRIED if options.calibrator == "auto" else (options.calibrator,):
            calibrator = Calibrator(mode, options.percentiles, bench.requests.clippings, statistics.histograms)
            tensors = tensor_quantizations(
                network,
                bench.groups,
                statistics.ranges,
                bench.raw,
                options.activation_bits,
                calibrator,
                statistics.spans,
            )
            outcomes.append((yield Proposal(mode, network, statistics, tensors)))
        first, best = outcomes[0].trial, [one.trial for one in outcomes if one.taken][-1]
        return [
            whole_network(
                self.name,
                one.trial is best,
                first,
                one.trial,
                f"{one.trial.label}: " + ("taken" if one.trial is best else f"{best.label} is nearer to float"),
            )
            for one in outcomes
        ]


def clippable(network: Network, layer: Layer) -> bool:
    """Whether values of a layer may be cut off unasked: not at network inputs and outputs, nor where the meaning
    fixes the range.
    """
    return not layer.operation.is_boundary and not has_meant_range(network, layer)


def _inside(chosen: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """The chosen range, cut to what was measured, zero included."""
    return max(min(chosen[0], 0.0), low), min(max(chosen[1], 0.0), high)
