# SPDX-License-Identifier: Apache-2.0
"""Cut a network that is larger than the device into contexts that are loaded one after the other.

A context is a run of the topological order. For a batch of B frames it costs

    weights / link rate + switch time + latency of its pipeline + (B − 1) · its frame time

where cut tensors (and network inputs and outputs) keep the host link busy, so that the frame time is at least theirs.
Dynamic programming over the cuts finds the cheapest sequence. An exact allocation takes milliseconds and there are
hundreds of runs, so costs start as lower bounds and are made exact only on the path that is cheapest so far, until that
path is exact throughout: then nothing cheaper exists among the candidate cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.targets import Target
from headrace.timing.allocate import Allocation, OptionTable, Placer, Shortage, allocate, limits_of
from headrace.timing.options import ceil_div, options_of
from headrace.timing.rows import link_frame_cycles
from headrace.timing.work import Flow, Plane, RowKind, Work, accumulates

ALL_CUTS = 40  # works up to which every boundary is a candidate
BINS, PER_BIN = 20, 2  # else the cheapest boundaries of each twentieth of the network's size
MOST_EVALUATIONS = 64  # exact allocations of one partition
NANOSECONDS = 1_000_000_000

FlowPlacer = Callable[[Flow], Placer | None]


@dataclass(frozen=True)
class ContextPlan:
    """One context.

    Attributes:
        first, last: works ``first`` … ``last - 1`` of the whole flow.
        allocation: its pipeline.
        weight_bytes: loaded when it starts.
        reload_cycles, switch_cycles: once per batch.
        cut_input_bytes, cut_output_bytes: per frame, from and for other contexts.
    """

    first: int
    last: int
    allocation: Allocation
    weight_bytes: int
    reload_cycles: int
    switch_cycles: int
    cut_input_bytes: int
    cut_output_bytes: int

    def run_cycles(self, batch: int) -> int:
        """Cycles from the batch's first row leaving the host to its last one being back."""
        return self.allocation.rows.latency + (batch - 1) * self.allocation.period

    def cycles(self, batch: int) -> int:
        return self.reload_cycles + self.switch_cycles + self.run_cycles(batch)


@dataclass(frozen=True)
class Partition:
    """Contexts in order.

    Attributes:
        batch: frames between two switches.
        lower_bound: no sequence of the candidate cuts takes fewer cycles per batch.
        candidates: cuts that were considered.
        evaluations: exact allocations that were made.
        optimal: the search ended by itself: nothing cheaper exists among the candidates.
    """

    contexts: tuple[ContextPlan, ...]
    batch: int
    lower_bound: int
    candidates: int
    evaluations: int
    optimal: bool

    @property
    def cycles(self) -> int:
        """Cycles of one batch through all contexts."""
        return sum(c.cycles(self.batch) for c in self.contexts)

    @property
    def latency(self) -> int:
        """Cycles of a frame that is alone, all weights loaded on the way."""
        return sum(c.cycles(1) for c in self.contexts)


def segment(flow: Flow, first: int, last: int) -> Flow:
    """The part of a flow with works ``first`` … ``last - 1``; tensors that cross its ends become inputs and outputs."""
    works = flow.works[first:last]
    written = {w.output.tensor for w in works}
    later = {p.tensor for w in flow.works[last:] for p in w.operands}
    ends = {p.tensor for p in flow.outputs}
    host = {p.tensor for p in flow.inputs} | ends
    inputs: dict[str, Plane] = {p.tensor: p for w in works for p in w.operands if p.tensor not in written}
    if first == 0:
        read = {p.tensor for w in flow.works for p in w.operands}
        inputs |= {p.tensor: p for p in flow.inputs if p.tensor not in read}
    outputs = [w.output for w in works if w.output.tensor in ends or w.output.tensor in later]
    crossing = (*inputs.values(), *outputs)
    return Flow(
        works, tuple(inputs.values()), tuple(outputs), tuple(p.tensor for p in crossing if p.tensor not in host)
    )


def least_buffer_units(work: Work, target: Target) -> int:
    """Memory units that the work's line buffers need at any speed."""
    size = 0
    for i, (plane, rule) in enumerate(zip(work.operands, work.rules, strict=True)):
        rows = 1
        if rule.kind is RowKind.WINDOW:
            rows = min(plane.height, (rule.kernel - 1) * rule.dilation + 1)
        elif rule.kind in (RowKind.GATHER, RowKind.WHOLE):
            rows = plane.height
        size += plane.row_bytes * (1 if i == 0 and accumulates(work) else rows)
    return ceil_div(size, target.memory_unit_bytes)


class _Partitioner:
    def __init__(
        self,
        flow: Flow,
        target: Target,
        shares: tuple[float, float, float],
        batch: int,
        weights: Sequence[int],
        place: FlowPlacer | None,
    ) -> None:
        self.flow, self.target, self.shares, self.batch, self.place = flow, target, shares, batch, place
        self.table = OptionTable([options_of(w, target) for w in flow.works])
        self.buffers = np.array([least_buffer_units(w, target) for w in flow.works], np.int64)
        self.weights = np.concatenate([[0], np.cumsum(np.array(weights, np.int64))])
        self.switch = ceil_div(target.context_switch_ns * target.clock_hz, NANOSECONDS)
        self.exact: dict[tuple[int, int], ContextPlan | None] = {}

    def weight_bytes(self, first: int, last: int) -> int:
        return int(self.weights[last] - self.weights[first])

    def reload(self, first: int, last: int) -> int:
        return ceil_div(self.weight_bytes(first, last) * self.target.clock_hz, self.target.link_bytes_per_second)

    def bound(self, first: int, last: int) -> int | None:
        """Cycles that no allocation of a run undercuts; ``None`` when none can exist."""
        part = segment(self.flow, first, last)
        values = limits_of(self.target, part, self.shares).values
        period = self.table.part(first, last).floor(values, self.buffers[first:last])
        if period is None:
            return None
        period = max(period, link_frame_cycles(part, self.target))
        return self.reload(first, last) + self.switch + self.batch * period

    def plan(self, first: int, last: int) -> ContextPlan | None:
        """The exact context of a run, or ``None`` when it does not fit."""
        key = (first, last)
        if key not in self.exact:
            part = segment(self.flow, first, last)
            limits = limits_of(self.target, part, self.shares)
            placer = self.place(part) if self.place else None
            result = allocate(part, self.target, limits, placer, self.table.part(first, last))
            self.exact[key] = None if isinstance(result, Shortage) else self._context(first, last, result)
        return self.exact[key]

    def _context(self, first: int, last: int, allocation: Allocation) -> ContextPlan:
        part = allocation.flow
        entering = sum(p.frame_bytes for p in part.inputs if p.tensor in part.cuts)
        leaving = sum(p.frame_bytes for p in part.outputs if p.tensor in part.cuts)
        return ContextPlan(
            first,
            last,
            allocation,
            self.weight_bytes(first, last),
            self.reload(first, last),
            self.switch,
            entering,
            leaving,
        )

    def candidates(self) -> list[int]:
        """Boundaries to consider, ends included, ascending."""
        n = len(self.flow.works)
        if n <= ALL_CUTS:
            return list(range(n + 1))
        least = np.where((self.table.cycles < OptionTable.NEVER)[:, :, None], self.table.use, OptionTable.NEVER)
        size = least.min(axis=1).astype(np.float64)
        size[:, 2] += self.buffers
        share = (size / np.maximum(size.sum(axis=0), 1)).max(axis=1)
        place = np.minimum((np.cumsum(share) / share.sum() * BINS).astype(np.int64), BINS - 1)
        cost = self._cut_bytes()
        chosen = {0, n}
        for index in range(BINS):
            inside = [i for i in range(1, n) if place[i - 1] == index]
            chosen.update(sorted(inside, key=lambda i: (cost[i], i))[:PER_BIN])
        return sorted(chosen)

    def _cut_bytes(self) -> list[int]:
        """Bytes that cross each boundary."""
        n = len(self.flow.works)
        last_read = {p.tensor: i for i, w in enumerate(self.flow.works) for p in w.operands}
        delta: list[int] = [0] * (n + 2)
        for i, w in enumerate(self.flow.works):
            until = last_read.get(w.output.tensor, i)
            delta[i + 1] += w.output.frame_bytes
            delta[until + 1] -= w.output.frame_bytes
        return [int(v) for v in np.cumsum(delta)]


def _cheapest(points: Sequence[int], cost: dict[tuple[int, int], int]) -> tuple[int, list[tuple[int, int]]] | None:
    """Cost and runs of the cheapest path from the first point to the last."""
    best: dict[int, tuple[int, int]] = {points[0]: (0, -1)}
    for j, end in enumerate(points[1:], 1):
        found = [(best[s][0] + cost[s, end], s) for s in points[:j] if s in best and (s, end) in cost]
        if found:
            best[end] = min(found)
    if points[-1] not in best:
        return None
    path: list[tuple[int, int]] = []
    at = points[-1]
    while at != points[0]:
        before = best[at][1]
        path.append((before, at))
        at = before
    return best[points[-1]][0], path[::-1]


def _bounds(work: _Partitioner, points: Sequence[int]) -> dict[tuple[int, int], int]:
    cost: dict[tuple[int, int], int] = {}
    for i, start in enumerate(points):
        misses = 0
        for end in points[i + 1 :]:
            value = work.bound(start, end)
            if value is not None:
                cost[start, end] = value
                misses = 0
            else:
                # A longer run may need fewer inputs, but not many fewer.
                misses += 1
                if misses == 3:
                    break
    return cost


class _Search:
    """Exact costs where they are known, bounds elsewhere, and the cheapest complete path so far."""

    def __init__(self, work: _Partitioner, points: Sequence[int]) -> None:
        self.work, self.points = work, points
        self.bounds = _bounds(work, points)
        self.exact: dict[tuple[int, int], int] = {}
        self.best: tuple[int, list[ContextPlan]] | None = None

    def stretch(self) -> int:
        """Median of exact run time over its bound, in 1/1024; the filling of pipelines is what it makes up for."""
        ratios = sorted(self.exact[r] * 1024 // max(1, self.bounds[r]) for r in self.exact)
        return max(1024, ratios[len(ratios) // 2]) if ratios else 1024

    def costs(self, stretch: int) -> dict[tuple[int, int], int]:
        dead = {run for run, plan in self.work.exact.items() if plan is None}
        return {r: self.exact.get(r, v * stretch // 1024) for r, v in self.bounds.items() if r not in dead}

    def explore(self, anticipate: bool, most: int) -> bool:
        """Make the cheapest path exact, again and again; whether it ended by itself within ``most`` allocations."""
        spent = 0
        while True:
            found = _cheapest(self.points, self.costs(self.stretch() if anticipate else 1024))
            if found is None:
                return True
            unknown = [run for run in found[1] if run not in self.work.exact]
            if unknown and spent >= most and (self.best is not None or spent >= 4 * most):
                return False
            for run in unknown:
                plan = self.work.plan(*run)
                if plan is not None:
                    self.exact[run] = plan.cycles(self.work.batch)
            spent += len(unknown)
            plans = [p for p in (self.work.exact[run] for run in found[1]) if p is not None]
            total = sum(p.cycles(self.work.batch) for p in plans)
            if len(plans) == len(found[1]) and (self.best is None or total < self.best[0]):
                self.best = (total, plans)
            if not unknown:
                return True


def _search(work: _Partitioner, points: Sequence[int]) -> Partition | None:
    before = len(work.exact)
    search = _Search(work, points)
    least = _cheapest(points, search.bounds)
    # First towards a good answer, with bounds stretched to what costs turn out to be; then the proof.
    search.explore(True, MOST_EVALUATIONS // 3)
    optimal = search.explore(False, MOST_EVALUATIONS)
    if search.best is None or least is None:
        return None
    total, plans = search.best
    assert total >= least[0]
    return Partition(tuple(plans), work.batch, least[0], len(points) - 2, len(work.exact) - before, optimal)


def partition(
    flow: Flow,
    target: Target,
    *,
    batch: int = 1,
    shares: tuple[float, float, float] = (1.0, 1.0, 1.0),
    weights: Sequence[int] | None = None,
    place: FlowPlacer | None = None,
) -> Partition | None:
    """The cheapest sequence of contexts, or ``None`` when there is none (a single work does not fit).

    Args:
        flow: the whole graph, in the order in which the contexts will run it.
        target: the device.
        batch: frames between two switches, at least 1.
        shares: ceilings of control, compute and memory of every context.
        weights: bytes loaded with each work; by default its parameters.
        place: gives the placer of a part of the flow.
    """
    sizes = [w.weight_bytes for w in flow.works] if weights is None else weights
    work = _Partitioner(flow, target, shares, batch, sizes, place)
    if any(not options for options in work.table.options):
        return None
    points = work.candidates()
    found = _search(work, points)
    if found is None and len(points) < len(flow.works) + 1:
        found = _search(work, list(range(len(flow.works) + 1)))
    return found


def alone(
    flow: Flow, index: int, target: Target, shares: tuple[float, float, float], place: FlowPlacer | None = None
) -> Allocation | Shortage:
    """One work as a context of its own."""
    part = segment(flow, index, index + 1)
    return allocate(part, target, limits_of(target, part, shares), place(part) if place else None)


__all__ = ["ContextPlan", "Partition", "alone", "least_buffer_units", "partition", "segment"]
