# SPDX-License-Identifier: Apache-2.0
"""Cut a network that is larger than the device into contexts that are loaded one after the other.

A context is a run of the topological order; what a sequence of them costs is told in :mod:`headrace.mapping.contexts`.
Dynamic programming over pairs of neighbouring runs finds the cheapest cyclic sequence. An exact allocation takes
milliseconds and there are hundreds of runs, so costs start as lower bounds and are made exact only on the path that is
cheapest so far, until that path is exact throughout: then nothing cheaper exists among the candidate cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from headrace.errors import Diagnostic, InternalError
from headrace.mapping.allocate import allocate
from headrace.mapping.contexts import ContextPlan, Partition, load_cycles, switch_cycles
from headrace.mapping.memory import least_buffer_units
from headrace.mapping.option_table import OptionTable
from headrace.mapping.resources import MEMORY
from headrace.mapping.sequence import MOST, Costs, cheapest_sequence
from headrace.mapping.stages import ALL, Allocation, Shares, Shortage, StageGraph, limits_of
from headrace.targets import Target
from headrace.timing.rows import latency_of, least_latencies, link_frame_cycles

ALL_CUTS = 40  # works up to which every boundary is a candidate
BINS, PER_BIN = 20, 2  # else the cheapest boundaries of each twentieth of the network's size
MOST_EVALUATIONS, MOST_WORKS = 64, 6000
MOST_STEPS = 1 << 30  # sums of one pass over pairs of runs: more take minutes, and gigabytes
GAPS = 8  # between candidates, in the longest context of a network with more than that


class Bound(NamedTuple):
    """Of all allocations of one run: least cycles of each kind, and the most of ``free``.

    Attributes:
        run: a batch through the pipeline.
        streams: the link's share of it.
        reload: the run's weights over the link.
        free: link cycles that fill the memory which the run leaves free.
        resident: a batch where the run is everything and stays loaded.
    """

    run: int
    streams: int
    reload: int
    free: int
    resident: int


class _Partitioner:
    def __init__(
        self,
        graph: StageGraph,
        target: Target,
        *,
        batch: int = 1,
        shares: Shares = ALL,
        table: OptionTable | None = None,
        placing: bool = False,
        least: int = 1,
    ) -> None:
        self.least = least
        self.graph, self.target, self.shares, self.batch, self.placing = graph, target, shares, batch, placing
        self.table = table or OptionTable.of(graph.works, target)
        unusable = self.table.cycles >= OptionTable.NEVER
        units = np.where(unusable, OptionTable.NEVER, self.table.use[:, :, MEMORY])
        self.least_units = units.min(axis=1, initial=OptionTable.NEVER)
        self.buffers = np.array([least_buffer_units(w, target) for w in graph.works], np.int64)
        self.weights = np.concatenate([[0], np.cumsum(np.array([s.loaded_bytes for s in graph.stages], np.int64))])
        self.switch = switch_cycles(target)
        #: Of a context without inputs, each of which takes a controller.
        self.limits = limits_of(target, StageGraph((), (), ()), shares).values
        self.exact: dict[tuple[int, int], ContextPlan | None] = {}
        self.estimates: dict[tuple[int, int], int] = {}
        self.latencies: dict[int, list[int]] = {}

    def weight_bytes(self, first: int, last: int) -> int:
        return int(self.weights[last] - self.weights[first])

    def reload(self, first: int, last: int) -> int:
        return load_cycles(self.weight_bytes(first, last), self.target)

    def free(self, used: int) -> int:
        """Cycles of the link to fill the memory that is left beside ``used`` units."""
        units = self.target.clusters * self.target.memory_units_per_cluster - used
        return load_cycles(max(0, units) * self.target.memory_unit_bytes, self.target)

    def bound(self, first: int, last: int) -> Bound | None:
        """What no allocation of a run betters, or ``None`` when none can exist; proof in docs/decisions/0024."""
        part = self.graph.part(first, last)
        values = (self.limits[0] - len(part.inputs), *self.limits[1:])
        period = self.table.part(first, last).floor(values, self.buffers[first:last])
        if period is None:
            return None
        link = link_frame_cycles(part.flow, self.target)
        used = int(np.maximum(1, self.least_units[first:last] + self.buffers[first:last]).sum())
        latency = max(period, link, self.least_latency(first, last))
        return Bound(
            (self.batch - 1) * max(period, link) + latency,
            self.batch * link,
            self.reload(first, last),
            self.free(used),
            self.batch * max(period, link),
        )

    def exceeds_any_context(self, first: int, last: int) -> bool:
        """Whether the works alone, however their tensors come and go, exceed a context; then so does any longer run."""
        return self.table.part(first, last).floor(self.limits, self.buffers[first:last]) is None

    def least_latency(self, first: int, last: int) -> int:
        """Cycles in which no allocation of a run has a frame through.

        Known for runs from ``first`` on as far as was asked for, and as far again: most end long before the graph.
        """
        known = self.latencies.get(first, [])
        if len(known) < last - first:
            end = first + max(last - first, 2 * len(known), 32)
            known = self.latencies[first] = least_latencies(self.graph.works[first:end], self.table.options[first:end])
        return known[last - first - 1]

    def estimate(self, first: int, last: int) -> int:
        """About how long a run will take, from sums alone: neither buffers' true sizes nor places are looked at."""
        key = (first, last)
        if key not in self.estimates:
            part, table = self.graph.part(first, last), self.table.part(first, last)
            limits = list(limits_of(self.target, part, self.shares).values)
            limits[MEMORY] -= int(self.buffers[first:last].sum())
            chosen = _choose_quickest(table, limits)
            self.estimates[key] = int(MOST)
            if chosen is not None:
                options = [row[i] for row, i in zip(table.options, chosen, strict=True)]
                period = max(*(o.cycles for o in options), link_frame_cycles(part.flow, self.target))
                self.estimates[key] = latency_of(part.flow, options, self.target) + (self.batch - 1) * period
        return self.estimates[key]

    def plan(self, first: int, last: int) -> ContextPlan | None:
        """The exact context of a run, or ``None`` when it does not fit."""
        key = (first, last)
        if key not in self.exact:
            part = self.graph.part(first, last)
            limits = limits_of(self.target, part, self.shares)
            table, cost = self.table.part(first, last), self.cost(first, last)
            result = allocate(part, self.target, limits, table, placing=self.placing, cost=cost)
            self.exact[key] = None if isinstance(result, Shortage) else self._context(first, last, result)
        return self.exact[key]

    def cost(self, first: int, last: int) -> Callable[[Allocation], int]:
        """What a pipeline of a run costs: its cycles, and the loading ahead that it takes the room from."""
        others = self.reload(0, first) + self.reload(last, len(self.graph.stages))

        def cycles(found: Allocation) -> int:
            run = found.latency + (self.batch - 1) * found.period
            return run + max(0, others - self.free(found.totals[MEMORY]))

        return cycles

    def _context(self, first: int, last: int, allocation: Allocation) -> ContextPlan:
        part = allocation.graph
        entering = sum(p.frame_bytes for p in part.inputs if p.tensor in part.cuts)
        leaving = sum(p.frame_bytes for p in part.outputs if p.tensor in part.cuts)
        return ContextPlan(
            first,
            last,
            allocation,
            self.weight_bytes(first, last),
            self.reload(first, last),
            self.free(allocation.totals[MEMORY]),
            entering,
            leaving,
        )

    def sequence(
        self, plans: Sequence[ContextPlan], bound: int = 0, cuts: int = 0, made: int = 0, optimal: bool = False
    ) -> Partition:
        return Partition(tuple(plans), self.batch, bound, cuts, made, optimal, self.switch)

    def candidates(self) -> list[int]:
        """Boundaries to consider, ends included, ascending."""
        n = len(self.graph.stages)
        if n <= ALL_CUTS:
            return list(range(n + 1))
        least = np.where((self.table.cycles < OptionTable.NEVER)[:, :, None], self.table.use, OptionTable.NEVER)
        size = least.min(axis=1).astype(np.float64)
        size[:, MEMORY] += self.buffers
        share = (size / np.maximum(size.sum(axis=0), 1)).max(axis=1)
        place = np.minimum((np.cumsum(share) / share.sum() * BINS).astype(np.int64), BINS - 1)
        cost = self._cut_bytes()
        chosen = {0, n}
        for index in range(BINS):
            inside = [i for i in range(1, n) if place[i - 1] == index]
            chosen.update(sorted(inside, key=lambda i: (cost[i], i))[:PER_BIN])
        return sorted(chosen)

    def ends(self) -> list[int]:
        """For each stage, the end of the longest run from it on whose works alone may fit a context."""
        n, end, found = len(self.graph.stages), 0, list[int]()
        for start in range(n):
            end = max(end, start + 1)
            while end < n and not self.exceeds_any_context(start, end + 1):
                end += 1
            found.append(end)
        return found

    def more_candidates(self, points: Sequence[int]) -> list[int]:
        """Candidates where those so far have no sequence: every boundary, or where these are too many, some more.

        Some more: gaps are halved until eight of them are as long as the longest context, and those that are no context
        once in any case. The points come back as they are where no boundary helps: a single stage is no context.
        """
        n, ends = len(self.graph.stages), self.ends()
        if steps_of(ends) <= MOST_STEPS:
            return list(range(n + 1))
        gaps = list(pairwise(points))
        failing = [run for run in gaps if self.bound(*run) is None or self.exact.get(run, run) is None]
        if not failing or any(last - first == 1 for first, last in failing):
            return list(points)
        most = max(1, max(end - start for start, end in enumerate(ends)) // GAPS)
        cost = self._cut_bytes()
        added: set[int] = set()
        while gaps:
            first, last = gaps.pop()
            if last - first > most or (last - first > 1 and (first, last) in failing):
                middle = _narrowest(cost, first, last)
                added.add(middle)
                gaps += [(first, middle), (middle, last)]
        return sorted({*points, *added})

    def _cut_bytes(self) -> list[int]:
        """Bytes that cross each boundary."""
        n = len(self.graph.stages)
        last_read = {p.tensor: i for i, w in enumerate(self.graph.works) for p in w.operands}
        delta: list[int] = [0] * (n + 2)
        for i, w in enumerate(self.graph.works):
            until = last_read.get(w.output.tensor, i)
            delta[i + 1] += w.output.frame_bytes
            delta[until + 1] -= w.output.frame_bytes
        return [int(v) for v in np.cumsum(delta)]


def steps_of(ends: Sequence[int]) -> int:
    """Most sums that one pass of :func:`cheapest_sequence` makes where every boundary is a candidate.

    Args:
        ends: for each stage, the end of the longest run from it on.
    """
    before, after = np.zeros(len(ends) + 1, np.int64), np.zeros(len(ends) + 1, np.int64)
    for start, end in enumerate(ends):
        after[start] = end - start
        before[start + 1 : end + 1] += 1
    return int(after[0]) * int((before * after)[1:].sum())


def _narrowest(cost: Sequence[int], first: int, last: int) -> int:
    """The boundary in the middle third of a gap that the fewest bytes cross; of several, the one nearest its middle."""
    third = (last - first) // 3
    middle = range(max(first + 1, first + third), min(last, last - third + 1))
    return min(middle, key=lambda i: (cost[i], abs(2 * i - first - last), i))


def _choose_quickest(table: OptionTable, limits: Sequence[int]) -> list[int] | None:
    """An option per work, all within about the fewest cycles for which the sums fit (or the fastest)."""
    steps = table.values
    least = table.floor(limits, None, steps) if min(limits) > 0 else None
    if least is None:
        return None
    low = at = steps.index(least)
    # The bound is most often reached; else look further and further on, then halve.
    chosen = table.choose(steps[at], limits)
    while chosen is None and at < len(steps) - 1:
        low, at = at + 1, min(2 * at - low + 2, len(steps) - 1)
        chosen = table.choose(steps[at], limits)
    while chosen is not None and low < at:
        middle = (low + at) // 2
        found = table.choose(steps[middle], limits)
        if found is None:
            low = middle + 1
        else:
            chosen, at = found, middle
    return chosen


class _Search:
    """Exact costs where they are known, bounds elsewhere, and the cheapest complete path so far."""

    def __init__(self, work: _Partitioner, points: Sequence[int]) -> None:
        self.work, self.points = work, points
        self.index = {point: i for i, point in enumerate(points)}
        self.bounds = self._bounds()
        self.best: tuple[int, list[ContextPlan]] | None = None
        self.blocked: tuple[int, int] | None = None

    def _bounds(self) -> dict[tuple[int, int], Bound]:
        bounds: dict[tuple[int, int], Bound] = {}
        for i, start in enumerate(self.points):
            for end in self.points[i + 1 :]:
                if self.work.least > 1 and (start, end) == (self.points[0], self.points[-1]):
                    continue
                value = self.work.bound(start, end)
                if value is not None:
                    bounds[start, end] = value
                # A longer run may have fewer inputs, which take controllers; all else only grows.
                elif self.work.exceeds_any_context(start, end):
                    break
        return bounds

    def costs(self, anticipate: bool) -> Costs:
        """Of all runs: exact where they are known; else estimates where there are any, and bounds."""
        costs = Costs.empty(len(self.points), self.work.switch)
        batch = self.work.batch
        for run, bound in self.bounds.items():
            at = self.index[run[0]], self.index[run[1]]
            plan = self.work.exact.get(run, "unknown")
            if plan is None:
                continue
            if isinstance(plan, ContextPlan):
                costs.set(at, plan.run_cycles(batch), plan.stream_cycles(batch), plan.reload_cycles, plan.free_cycles)
            elif anticipate and run in self.work.estimates:
                costs.set(at, max(bound.run, self.work.estimates[run]), *bound[1:4])
            else:
                costs.set(at, *bound[:4])
        whole = self.points[0], self.points[-1]
        if whole in self.bounds:
            plan = self.work.exact.get(whole)
            costs.whole = self.bounds[whole].resident if plan is None else batch * plan.allocation.period
        return costs

    def find_some_sequence(self) -> None:
        """A sequence that fits, of runs as long as halving finds them; or why there is none (:attr:`blocked`)."""
        plans: list[ContextPlan] = []
        start, last = 0, len(self.points) - 1
        while start < last:
            low, high = start + 1, last
            found = self.work.plan(self.points[start], self.points[low])
            if found is None:
                self.blocked = (self.points[start], self.points[low])
                return
            while low < high:
                middle = (low + high + 1) // 2
                run = self.points[start], self.points[middle]
                plan = self.work.plan(*run) if run in self.bounds else None
                if plan is None:
                    high = middle - 1
                else:
                    low, found = middle, plan
            plans.append(found)
            start = low
        self.best = self.work.sequence(plans).cycles, plans

    def make_exact(self, anticipate: bool, most: int) -> bool:
        """Make the cheapest path exact, again and again; whether it ended by itself within ``most`` allocations.

        Costs and bounds know little of what fits: where the cheapest runs do not, again and again, it settles for some
        sequence.
        """
        spent = 0
        while True:
            found = cheapest_sequence(self.costs(anticipate))
            if found is None:
                return True
            path = [(self.points[a], self.points[b]) for a, b in found[1]]
            unknown = [run for run in path if run not in self.work.exact]
            fresh = [run for run in unknown if run not in self.work.estimates] if anticipate else []
            for run in fresh:
                self.work.estimate(*run)
            if fresh:
                continue
            if unknown and spent >= most:
                if self.best is None:
                    self.find_some_sequence()
                return False
            for run in unknown:
                self.work.plan(*run)
            spent += len(unknown)
            plans = [p for p in (self.work.exact[run] for run in path) if p is not None]
            if len(plans) == len(path):
                total = self.work.sequence(plans).cycles
                if self.best is None or total < self.best[0]:
                    self.best = (total, plans)
            if not unknown:
                return True


def _search(work: _Partitioner, points: Sequence[int]) -> tuple[Partition | None, tuple[int, int] | None]:
    """The cheapest sequence with these cuts; if none was found, a run between neighbouring ones that does not fit."""
    before = len(work.exact)
    search = _Search(work, points)
    least = cheapest_sequence(search.costs(False))
    # First towards a good answer, with bounds stretched to what costs turn out to be; then the proof.
    most = max(16, min(MOST_EVALUATIONS, MOST_WORKS // len(work.graph.stages)))
    search.make_exact(True, most // 3)
    optimal = search.blocked is None and search.make_exact(False, most)
    if search.best is None or least is None:
        return None, search.blocked
    total, plans = search.best
    if total < least[0]:
        rule = "a sequence of contexts takes fewer cycles than its proven bound"
        runs = ", ".join(f"{p.first} … {p.last - 1}" for p in plans)
        raise InternalError(Diagnostic("E-TIMING-BOUND", f"stages {runs}", rule, str(total), f"at least {least[0]}"))
    return work.sequence(plans, least[0], len(points) - 2, len(work.exact) - before, optimal), None


def cut_into_contexts(
    graph: StageGraph,
    target: Target,
    *,
    batch: int = 1,
    shares: Shares = ALL,
    table: OptionTable | None = None,
    placing: bool = False,
    least: int = 1,
) -> Partition | None:
    """The cheapest sequence of contexts, or ``None`` when there is none (a single stage does not fit).

    Args:
        graph: the whole of it, in the order in which the contexts will run it.
        target: the device.
        batch: frames between two switches, at least 1.
        shares: ceilings of control, compute and memory of every context.
        table: the options of its stages, where they are known already.
        placing: every stage has to find a place on a cluster; else only sums are checked.
        least: fewest contexts, 1 or 2.
    """
    if len(graph.stages) < least:
        return None
    work = _Partitioner(graph, target, batch=batch, shares=shares, table=table, placing=placing, least=least)
    if any(not options for options in work.table.options):
        return None
    points = work.candidates()
    while True:
        found, blocked = _search(work, points)
        if found is not None or len(points) == len(graph.stages) + 1:
            return found
        if blocked is None:
            more = work.more_candidates(points)
            if more == points:
                return None
            points = more
        elif blocked[1] - blocked[0] > 1:
            points = sorted({*points, *range(*blocked)})
        else:
            return None
