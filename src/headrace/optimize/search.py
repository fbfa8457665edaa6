# SPDX-License-Identifier: Apache-2.0
"""The search: algorithms propose in turn, and what brings the outputs nearer to float on calibration frames stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from headrace.hn import Network
from headrace.optimize.algorithms.algorithm import Algorithm, Role, State
from headrace.optimize.bench import Bench
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.requests import Requests
from headrace.optimize.statistics.collect import Request, Statistics
from headrace.optimize.trial import Outcome, Proposal, Rewrite, Trial
from headrace.reports.optimize import Decision


def switched_on(algorithms: Iterable[Algorithm], options: OptimizeOptions) -> list[Algorithm]:
    """The algorithms that no option turns off."""
    return [one for one in algorithms if not one.switch or options.enabled(one.switch)]


def wanted(algorithms: Iterable[Algorithm], network: Network, requests: Requests, options: OptimizeOptions) -> Request:
    """All statistics of a network that some algorithms want."""
    union = Request()
    for algorithm in algorithms:
        union |= algorithm.wants(network, requests, options)
    return union


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        bench: data and means.
        algorithms: in the order of their turns.
    """

    bench: Bench
    algorithms: Sequence[Algorithm]

    def run(self, network: Network, statistics: Statistics) -> tuple[Trial, list[Decision]]:
        """The best way found to quantize a prepared float network, and every decision on the way."""
        state = State(self.bench, network, statistics)
        decisions = self._run(self.algorithms, state)
        return state.best, decisions

    def _run(self, algorithms: Sequence[Algorithm], state: State) -> list[Decision]:
        """Give each its turn; ``state`` ends at the best trial."""
        decisions: list[Decision] = []
        for number, algorithm in enumerate(algorithms):
            decisions = self._turn(algorithm, algorithms[:number], state, decisions)
        return decisions

    def _turn(
        self, algorithm: Algorithm, before: Sequence[Algorithm], state: State, decisions: list[Decision]
    ) -> list[Decision]:
        """One algorithm's turn: the decisions so far with its own.

        Decisions of corrections are those of the network that stands: a rewritten one brings its own, and a further
        correction freezes layers anew, on which the earlier ones decide again.
        """
        corrections = [one for one in before if one.role is Role.CORRECTION]
        names = {one.name for one in corrections}
        anew: list[Decision] = []
        proposals = algorithm.proposals(state)
        answer: Outcome | None = None
        while True:
            try:
                proposed = next(proposals) if answer is None else proposals.send(answer)
            except StopIteration as end:
                return [*decisions, *end.value, *anew]
            found: list[Decision] = []
            if isinstance(proposed, Rewrite):
                trial, found = self._rewritten(proposed, before, state)
            else:
                trial = self.bench.freeze(proposed)
            asked = isinstance(proposed, Proposal) and proposed.wanted
            taken = not state.begun or asked or trial.better_than(state.best, algorithm.least_gain)
            answer = Outcome(state.best if state.begun else trial, trial, taken)
            if not taken:
                continue
            state.take(trial)
            if isinstance(proposed, Rewrite):
                decisions = [one for one in decisions if one.name not in names]
                anew = [one for one in found if one.name in names]
            elif algorithm.role is Role.CORRECTION:
                decisions = [one for one in decisions if one.name not in names or one.layer is None]

    def _rewritten(self, rewrite: Rewrite, before: Sequence[Algorithm], state: State) -> tuple[Trial, list[Decision]]:
        """A rewritten network's best trial, with the corrections tried so far, and the decisions on the way."""
        self.bench.check_same_meaning(state.prepared, rewrite.prepared, rewrite.rule)
        again = {Role.CORRECTION} if rewrite.tensors is not None else {Role.RANGES, Role.CORRECTION}
        algorithms = [one for one in before if one.role in again]
        inside = State(self.bench, rewrite.prepared, rewrite.statistics)
        if rewrite.tensors is None:
            inside.statistics = self._with_histograms(rewrite, algorithms)
        else:
            proposal = Proposal(rewrite.label, rewrite.prepared, rewrite.statistics, rewrite.tensors)
            inside.take(self.bench.freeze(proposal))
        decisions = self._run(algorithms, inside)
        return inside.best, decisions

    def _with_histograms(self, rewrite: Rewrite, algorithms: Sequence[Algorithm]) -> Statistics:
        """Statistics derived for a rewritten network; histograms, where ranges follow from them, are taken anew."""
        ranges = [one for one in algorithms if one.role is Role.RANGES]
        request = wanted(ranges, rewrite.prepared, self.bench.requests, self.bench.options)
        if not request.histograms:
            return rewrite.statistics
        seen = self.bench.measured(rewrite.prepared, request, "rescaled")
        return replace(rewrite.statistics, ranges=seen.ranges, histograms=seen.histograms)


__all__ = ["Search", "switched_on", "wanted"]
