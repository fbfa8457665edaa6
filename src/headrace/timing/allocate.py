# SPDX-License-Identifier: Apache-2.0
"""Balance a pipeline: the smallest frame time for which every stage has an option and all of them fit.

Given a frame time T the stages are independent, so the search over T is a threshold search over the distinct cycle
counts of all options; for one T, choosing an option per stage under three limits is a multiple-choice packing, solved
by a weighted sum whose weights follow the fullest resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

import numpy as np

from headrace.hn import Array
from headrace.targets import Target
from headrace.timing.options import Option, options_of
from headrace.timing.rows import RowSchedule, buffer_units, link_frame_cycles, schedule
from headrace.timing.work import Flow

ROUNDS = 24
PRICE_SCALE = 2.0**34
MOST_PRICED = 1 << 23
BOUND_SCALE = 1 << 20
MIXES = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)], np.int64)
RESOURCES: tuple[str, ...] = ("controllers", "subclusters", "memory_units")
SLOWER = (2, 4, 16, 256)  # periods beyond the slowest option, which only make buffers smaller

Placer = Callable[[Sequence[tuple[int, int, int]]], list[int] | None]


@dataclass(frozen=True)
class Limits:
    """What a context may use of the whole device; the host's side already taken off."""

    controllers: int
    subclusters: int
    memory_units: int

    @property
    def values(self) -> tuple[int, int, int]:
        return self.controllers, self.subclusters, self.memory_units


def limits_of(target: Target, flow: Flow, shares: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Limits:
    """Limits of a device; each network input takes one controller.

    ``shares`` lower the ceilings of control, compute and memory.
    """
    c = target.clusters
    totals = (
        target.controllers_per_cluster * c,
        target.subclusters_per_cluster * c,
        target.memory_units_per_cluster * c,
    )
    usable = (target.controllers, target.subclusters, target.memory_units)
    # The decimal that was written counts, so that 0.9 of 10 is 9.
    allowed = [min(u, floor(t * Fraction(str(s)))) for u, t, s in zip(usable, totals, shares, strict=True)]
    return Limits(allowed[0] - len(flow.inputs), allowed[1], allowed[2])


class OptionTable:
    """All options of all stages as arrays, for many quick choices.

    Attributes:
        options: per stage, fastest first.
        cycles: int64 ``[stages, most options]``, padded with a value no limit reaches.
        use: int64 ``[stages, most options, 3]``.
    """

    NEVER = np.int64(1) << 60

    def __init__(self, options: Sequence[Sequence[Option]]) -> None:
        self.options = [list(o) for o in options]
        width = max((len(o) for o in self.options), default=0)
        self.cycles = np.full((len(self.options), width), self.NEVER, np.int64)
        self.use = np.zeros((len(self.options), width, 3), np.int64)
        for i, row in enumerate(self.options):
            for j, option in enumerate(row):
                self.cycles[i, j] = option.cycles
                self.use[i, j] = option.use
        # What is larger than any device costs the same: prices times uses stay within 64 bits.
        self.priced = np.minimum(self.use, MOST_PRICED)

    def part(self, first: int, last: int) -> OptionTable:
        """The table of works ``first`` … ``last - 1``, sharing this one's arrays."""
        part = object.__new__(OptionTable)
        part.options = self.options[first:last]
        part.cycles, part.use, part.priced = (a[first:last] for a in (self.cycles, self.use, self.priced))
        return part

    @property
    def thresholds(self) -> list[int]:
        """Every frame time at which the set of usable options changes and all stages have one, ascending."""
        if not self.options:
            return [1]
        floor = int(self.cycles.min(axis=1).max())
        values = np.unique(self.cycles[self.cycles < self.NEVER])
        return [int(v) for v in values if v >= floor]

    def choose(self, period: int, limits: Sequence[int]) -> list[int] | None:
        """An option index per stage with cycles ≤ ``period`` whose sums stay within ``limits``, or ``None``."""
        if not self.options:
            return []
        if min(limits) <= 0:
            return None
        usable = self.cycles <= period
        ceiling = np.array(limits, np.float64)
        weights = np.ones(3)
        rows = np.arange(len(self.options))
        for _ in range(ROUNDS):
            # Whole numbers, so that every machine breaks ties alike: sums of floats depend on the order of adding.
            price = np.rint(weights / ceiling * PRICE_SCALE).astype(np.int64)
            cost = np.where(usable, (self.priced * price).sum(axis=2), self.NEVER)
            chosen = cost.argmin(axis=1)
            if (cost[rows, chosen] >= self.NEVER).any():
                return None
            share = self.use[rows, chosen].sum(axis=0) / ceiling
            if share.max() <= 1:
                return [int(c) for c in chosen]
            squared = share * share
            weights = weights * np.maximum(squared * squared, 1e-24)
            weights = np.maximum(weights / weights.max(), 1e-9)
        return None

    def floor(self, limits: Sequence[int], buffers: Array | None = None) -> int | None:
        """No choice has a smaller frame time, or ``None``: no choice exists.

        Each resource alone, and every equally weighted sum of several, bounds the choices: if even the least sum of
        the stages' weighted uses exceeds the weighted limits, none fits.

        Args:
            limits: of the three resources.
            buffers: int64 ``[stages]``, memory units that each stage needs whatever its option.
        """
        steps = self.thresholds
        if min(limits) < 0 or not steps:
            return None
        use = self.priced
        if buffers is not None:
            use = use + np.stack([np.zeros_like(buffers), np.zeros_like(buffers), buffers], axis=1)[:, None, :]
            use[:, :, 2] = np.minimum(np.maximum(use[:, :, 2], 1), MOST_PRICED)
        # Whole prices: a bound that depended on rounding would not be one.
        unit = np.array([max(1, BOUND_SCALE // max(1, v)) for v in limits], np.int64)
        prices = MIXES * unit
        costs = use @ prices.T
        ceilings = prices @ np.array(limits, np.int64)

        def possible(period: int) -> bool:
            usable = (self.cycles <= period)[:, :, None]
            return bool((np.where(usable, costs, self.NEVER // 4096).min(axis=1).sum(axis=0) <= ceilings).all())

        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            if possible(steps[middle]):
                high = middle
            else:
                low = middle + 1
        return steps[low] if low < len(steps) else None

    def lower_bound(self, limits: Sequence[int]) -> int:
        """No choice has a smaller frame time."""
        found = self.floor(limits)
        return self.thresholds[-1] if found is None else found


@dataclass
class Allocation:
    """A pipeline that fits.

    Attributes:
        flow: the graph.
        options: chosen per work.
        alternatives: all Pareto options per work, fastest first.
        period: cycles per frame the pipeline sustains (slowest stage, or the link).
        rows: row schedule with buffers.
        buffer_units: per work.
        clusters: per work, where it was placed (empty when nobody placed).
        lower_bound: no choice of these options has a smaller frame time.
        limits: the device's.
    """

    flow: Flow
    options: list[Option]
    alternatives: list[list[Option]]
    period: int
    rows: RowSchedule
    buffer_units: list[int]
    clusters: list[int]
    lower_bound: int
    limits: Limits
    link_cycles: int = 0

    @property
    def uses(self) -> list[tuple[int, int, int]]:
        """(controllers, sub-clusters, memory units) of each work, buffers included."""
        return stage_uses(self.options, self.buffer_units)

    @property
    def totals(self) -> tuple[int, int, int]:
        sums = np.array(self.uses, np.int64).reshape(-1, 3).sum(axis=0)
        return int(sums[0]), int(sums[1]), int(sums[2])


def stage_uses(options: Sequence[Option], buffers: Sequence[int]) -> list[tuple[int, int, int]]:
    """(controllers, sub-clusters, memory units) of each stage; every stage has at least one unit."""
    return [(o.controllers, o.subclusters, max(1, o.weight_units + b)) for o, b in zip(options, buffers, strict=True)]


@dataclass
class Shortage:
    """Why nothing fits: the most frugal choice and what it still needs.

    Attributes:
        need, have: per resource.
        uses: per work, of the most frugal choice with the smallest buffers.
        unplaceable: all sums fit, but the stages do not divide over the clusters.
    """

    need: tuple[int, int, int]
    have: tuple[int, int, int]
    uses: list[tuple[int, int, int]]
    unplaceable: bool
    impossible: list[str] = field(default_factory=list)


class _Search:
    def __init__(
        self, flow: Flow, target: Target, limits: Limits, place: Placer | None, table: OptionTable | None = None
    ) -> None:
        self.flow, self.target, self.limits, self.place = flow, target, limits, place
        self.table = table or OptionTable([options_of(w, target) for w in flow.works])
        self.link = link_frame_cycles(flow, target)

    def pick(self, chosen: Sequence[int]) -> list[Option]:
        return [row[i] for row, i in zip(self.table.options, chosen, strict=True)]

    def attempt(self, threshold: int) -> Allocation | None:
        """A complete allocation with every stage within ``threshold``, or ``None``."""
        reserve = 0
        for _ in range(4):
            limits = (self.limits.controllers, self.limits.subclusters, self.limits.memory_units - reserve)
            chosen = self.table.choose(threshold, limits)
            if chosen is None:
                return None
            options = self.pick(chosen)
            slowest = max((o.cycles for o in options), default=1)
            # Past the slowest option, a larger threshold means: run slower so that less is buffered.
            beyond = threshold > self.table.thresholds[-1]
            period = max(threshold if beyond else slowest, self.link, 1)
            rows = schedule(self.flow, options, period, self.target)
            buffers = buffer_units(self.flow, rows.buffers, self.target)
            uses = stage_uses(options, buffers)
            memory = sum(u[2] for u in uses)
            if memory <= self.limits.memory_units:
                clusters = self.place(uses) if self.place else []
                if clusters is None:
                    return None
                return Allocation(
                    self.flow,
                    options,
                    self.table.options,
                    period,
                    rows,
                    buffers,
                    clusters,
                    max(self.table.lower_bound(self.limits.values), self.link),
                    self.limits,
                    self.link,
                )
            reserve = max(reserve + 1, memory - sum(o.weight_units for o in options))
        return None

    def shortage(self) -> Shortage:
        """What the most frugal choice lacks."""
        impossible = [w.name for w, row in zip(self.flow.works, self.table.options, strict=True) if not row]
        if impossible:
            return Shortage((0, 0, 0), self.limits.values, [], False, impossible)
        never = int(OptionTable.NEVER) - 1
        generous = [max(1, v) * 4096 for v in self.limits.values]
        options = self.pick(self.table.choose(never, generous) or [0] * len(self.flow.works))
        period = max((o.cycles for o in options), default=1) * SLOWER[-1]
        buffers = buffer_units(self.flow, schedule(self.flow, options, period, self.target).buffers, self.target)
        uses = stage_uses(options, buffers)
        need = tuple(sum(u[i] for u in uses) for i in range(3))
        fits = all(n <= h for n, h in zip(need, self.limits.values, strict=True))
        return Shortage((need[0], need[1], need[2]), self.limits.values, uses, fits)


def most_frugal(flow: Flow, target: Target, limits: Limits) -> Shortage:
    """The choice that takes least, whatever its speed; its ``need`` is what staying in one context takes."""
    return _Search(flow, target, limits, None).shortage()


def allocate(
    flow: Flow, target: Target, limits: Limits, place: Placer | None = None, table: OptionTable | None = None
) -> Allocation | Shortage:
    """The fastest pipeline that fits, or why there is none.

    Args:
        flow: the graph.
        target: the device.
        limits: ceilings over the whole device.
        place: puts stages with given uses on clusters, or says ``None``; without it, only sums are checked.
        table: the options of the flow's works, where they are known already.
    """
    search = _Search(flow, target, limits, place, table)
    if any(not row for row in search.table.options):
        return search.shortage()
    steps = search.table.thresholds
    steps += [steps[-1] * factor for factor in SLOWER]
    best: Allocation | None = None
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        found = search.attempt(steps[middle])
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return best if best is not None else search.shortage()
