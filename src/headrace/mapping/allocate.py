# SPDX-License-Identifier: Apache-2.0
"""Balance a pipeline: the smallest frame time for which every stage has an option and all of them fit.

Given a frame time T the stages are independent, so the search over T is a threshold search over the distinct cycle
counts of all options; for one T, choosing an option per stage under three limits is a multiple-choice packing, solved
by a weighted sum whose weights follow the fullest resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import floor

import numpy as np

from headrace.hn import Array
from headrace.mapping.memory import buffer_units, least_buffer_units
from headrace.mapping.options import Option, options_of
from headrace.mapping.resources import MEMORY, RESOURCES, Use, per_cluster, total, usable
from headrace.mapping.sharing import IN_TURN, controller_loads, share, shared_uses
from headrace.targets import Target
from headrace.timing.rows import RowSchedule, latency_of, link_frame_cycles, schedule
from headrace.timing.work import Flow

ROUNDS = 24
PRICE_SCALE = 2.0**34
MOST_PRICED = 1 << 23
BOUND_SCALE = 1 << 20
# Each resource alone, and equally weighted sums of several.
MIXES = np.array([*np.eye(5), *([*m, 0, 0] for m in ((1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))), [1] * 5], np.int64)
UNLIMITED = 1 << 40  # more than all stages together can need
JUMPS = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # frame times tried below the best so far
OVERDRAFTS = (125, 150, 200, 400)  # % of the controllers that there are, before sharing
# Eighths of the slowest option: longer periods, which only make buffers smaller (or leave more time to share).
SLOWER = (9, 10, 11, 12, 14, 16, 20, 24, 32, 48, 64, 128, 512, 2048)

Placer = Callable[[Sequence[Use], Sequence[int]], list[int] | None]  # uses, and whose controller each runs on


Cost = Callable[["Allocation"], int]


@dataclass(frozen=True)
class Limits:
    """What a context may use of the whole device; the host's side already taken off."""

    controllers: int
    subclusters: int
    memory_units: int
    activation_units: int = UNLIMITED
    input_aligners: int = UNLIMITED

    @property
    def values(self) -> Use:
        return self.controllers, self.subclusters, self.memory_units, self.activation_units, self.input_aligners


def limits_of(target: Target, flow: Flow, shares: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Limits:
    """Limits of a device; each network input takes one controller.

    ``shares`` lower the ceilings of control, compute and memory.
    """
    totals = [target.clusters * n for n in per_cluster(target)]
    # The decimal that was written counts, so that 0.9 of 10 is 9.
    ceilings = [floor(t * Fraction(str(s))) for t, s in zip(totals, (*shares, 1, 1), strict=True)]
    allowed = [min(pair) for pair in zip(usable(target), ceilings, strict=True)]
    return Limits(allowed[0] - len(flow.inputs), *allowed[1:])


class OptionTable:
    """All options of all stages as arrays, for many quick choices.

    Attributes:
        options: per stage, fastest first.
        cycles: int64 ``[stages, most options]``, padded with a value no limit reaches.
        use: int64 ``[stages, most options, resources]``.
    """

    NEVER = np.int64(1) << 60

    def __init__(self, options: Sequence[Sequence[Option]]) -> None:
        self.options = [list(o) for o in options]
        width = max((len(o) for o in self.options), default=0)
        self.cycles = np.full((len(self.options), width), self.NEVER, np.int64)
        self.use = np.zeros((len(self.options), width, len(RESOURCES)), np.int64)
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

    @cached_property
    def thresholds(self) -> tuple[int, ...]:
        """Every frame time at which the set of usable options changes and all stages have one, ascending."""
        if not self.options:
            return (1,)
        floor = int(self.cycles.min(axis=1).max())
        return tuple(v for v in self.values if v >= floor)

    @cached_property
    def values(self) -> tuple[int, ...]:
        """The cycles of all options, ascending."""
        return tuple(np.unique(self.cycles[self.cycles < self.NEVER]).tolist())

    def choose(self, period: int, limits: Sequence[int]) -> list[int] | None:
        """An option index per stage whose sums stay within ``limits``, or ``None``.

        Each has cycles ≤ ``period``; a stage that has no such option takes its fastest.
        """
        if not self.options:
            return []
        if min(limits) <= 0:
            return None
        usable = self.cycles <= np.maximum(period, self.cycles.min(axis=1))[:, None]
        ceiling = np.array(limits, np.float64)
        weights = np.ones(len(RESOURCES))
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

    def floor(self, limits: Sequence[int], buffers: Array | None = None, steps: Sequence[int] = ()) -> int | None:
        """No choice has a smaller frame time, or ``None``: no choice exists.

        Each resource alone, and every equally weighted sum of several, bounds the choices: if even the least sum of
        the stages' weighted uses exceeds the weighted limits, none fits.

        Args:
            limits: of all resources.
            buffers: int64 ``[stages]``, memory units that each stage needs whatever its option.
            steps: frame times to look at, ascending; below its fastest option a stage takes that. By default, those
                from which all stages have an option.
        """
        steps = steps or self.thresholds
        if min(limits) < 0 or not steps:
            return None
        use = self.priced
        if buffers is not None:
            use = use.copy()
            use[:, :, MEMORY] = np.clip(use[:, :, MEMORY] + buffers[:, None], 1, MOST_PRICED)
        # Whole prices: a bound that depended on rounding would not be one.
        unit = np.array([max(1, BOUND_SCALE // max(1, v)) for v in limits], np.int64)
        prices = MIXES * unit
        costs = use @ prices.T
        ceilings = prices @ np.array(limits, np.int64)

        fastest = self.cycles.min(axis=1)[:, None]

        def possible(period: int) -> bool:
            usable = (self.cycles <= np.maximum(period, fastest))[:, :, None]
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
        roots: the work whose controller each work runs on; empty: each has its own.
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
    roots: list[int] = field(default_factory=list)

    @property
    def uses(self) -> list[Use]:
        """What each work takes, buffers included; a shared controller counts with the first of its works."""
        return shared_uses(stage_uses(self.options, self.buffer_units), self.roots)

    @property
    def totals(self) -> Use:
        return total(self.uses)


def stage_uses(options: Sequence[Option], buffers: Sequence[int]) -> list[Use]:
    """What each stage takes with its buffers; every stage has at least one memory unit."""
    return [
        (*o.use[:MEMORY], max(1, o.weight_units + b), *o.use[MEMORY + 1 :])
        for o, b in zip(options, buffers, strict=True)
    ]


@dataclass
class Shortage:
    """Why nothing fits: the most frugal choice and what it still needs.

    Attributes:
        need, have: per resource.
        uses: per work, of the most frugal choice with the smallest buffers.
        unplaceable: all sums fit, but the stages do not divide over the clusters.
    """

    need: Use
    have: Use
    uses: list[Use]
    unplaceable: bool
    impossible: list[str] = field(default_factory=list)


class _Search:
    def __init__(
        self,
        flow: Flow,
        target: Target,
        limits: Limits,
        place: Placer | None,
        table: OptionTable | None = None,
        sharing: bool = False,
    ) -> None:
        self.flow, self.target, self.limits, self.place, self.sharing = flow, target, limits, place, sharing
        self.table = table or OptionTable([options_of(w, target) for w in flow.works])
        self.link = link_frame_cycles(flow, target)
        self._bounds: dict[bool, int] = {}

    def pick(self, chosen: Sequence[int]) -> list[Option]:
        return [row[i] for row, i in zip(self.table.options, chosen, strict=True)]

    def bounding(self, shared: bool) -> Use:
        """Limits of the lower bound: what is shared bounds nothing."""
        if not shared:
            return self.limits.values
        return tuple(UNLIMITED if i in IN_TURN else n for i, n in enumerate(self.limits.values))

    def lower_bound(self, shared: bool) -> int:
        """No choice has a smaller frame time, buffers left aside."""
        if shared not in self._bounds:
            self._bounds[shared] = max(self.table.lower_bound(self.bounding(shared)), self.link)
        return self._bounds[shared]

    @cached_property
    def buffers(self) -> Array:
        """Memory units that each work's buffers need at any speed, int64."""
        return np.array([least_buffer_units(w, self.target) for w in self.flow.works], np.int64)

    @cached_property
    def least(self) -> int:
        """No pipeline with its buffers has a smaller frame time."""
        found = self.table.floor(self.bounding(self.sharing), self.buffers)
        return self.table.thresholds[-1] + 1 if found is None else found

    def choose(self, threshold: int, limits: Sequence[int]) -> tuple[list[Option], list[int]] | None:
        """Options within the limits and whose controllers they run on (empty: their own)."""
        chosen = self.table.choose(threshold, limits)
        if chosen is not None or not self.sharing:
            return None if chosen is None else (self.pick(chosen), [])
        # With more controllers than there are, as few more as do; the surplus has to be shared away.
        for percent in OVERDRAFTS:
            drawn = [max(1, n * percent // 100) if i in IN_TURN else n for i, n in enumerate(limits)]
            chosen = self.table.choose(threshold, drawn)
            if chosen is None:
                continue
            options = self.pick(chosen)
            roots = share(self.flow.works, options, threshold, self.target, limits)
            if roots is not None:
                return options, roots
        return None

    def attempt(self, threshold: int) -> Allocation | None:
        """A pipeline with its buffers, every stage within ``threshold``, or ``None``."""
        return None if threshold < self.least else self.balance(threshold)

    def balance(self, threshold: int) -> Allocation | None:
        """The same, but a stage that has no option within ``threshold`` takes its fastest."""
        reserve = memory = 0
        for _ in range(4):
            limits = list(self.limits.values)
            limits[MEMORY] -= reserve
            found = self.choose(threshold, limits)
            if found is None:
                return None
            options, roots = found
            slowest = max(controller_loads(options, roots), default=1)
            # Past the slowest option, a larger threshold means: run slower so that less is buffered (or more shared).
            beyond = threshold > self.table.thresholds[-1]
            for period in ([slowest] if roots or not beyond else []) + ([threshold] if beyond else []):
                made = self.complete(options, roots, max(period, self.link, 1))
                memory = made.totals[MEMORY]
                if memory <= self.limits.memory_units:
                    clusters = self.place(made.uses, roots) if self.place else []
                    return None if clusters is None else replace(made, clusters=clusters)
            reserve = max(reserve + 1, memory - sum(o.weight_units for o in options))
        return None

    def complete(self, options: list[Option], roots: list[int], period: int) -> Allocation:
        """The pipeline of these options with its buffers, not placed, its latency not known."""
        rows = RowSchedule(schedule(self.flow, options, period, self.target, roots), 0)
        buffers = buffer_units(self.flow, rows.buffers, self.target)
        bound, alternatives = self.lower_bound(bool(roots)), self.table.options
        return Allocation(
            self.flow, options, alternatives, period, rows, buffers, [], bound, self.limits, self.link, roots
        )

    def finish(self, found: Allocation) -> Allocation:
        """With its latency, which no choice depends on."""
        latency = latency_of(self.flow, found.options, self.target, found.roots)
        return replace(found, rows=replace(found.rows, latency=latency))

    def shortage(self) -> Shortage:
        """What the most frugal choice lacks."""
        impossible = [w.name for w, row in zip(self.flow.works, self.table.options, strict=True) if not row]
        if impossible:
            return Shortage((0,) * len(RESOURCES), self.limits.values, [], False, impossible)
        never = int(OptionTable.NEVER) - 1
        generous = [max(1, v) * 4096 for v in self.limits.values]
        options = self.pick(self.table.choose(never, generous) or [0] * len(self.flow.works))
        period = max((o.cycles for o in options), default=1) * SLOWER[-1] // 8
        buffers = buffer_units(self.flow, schedule(self.flow, options, period, self.target), self.target)
        uses = stage_uses(options, buffers)
        need = total(uses)
        fits = all(n <= h for n, h in zip(need, self.limits.values, strict=True))
        return Shortage(need, self.limits.values, uses, fits)


def most_frugal(flow: Flow, target: Target, limits: Limits) -> Shortage:
    """The choice that takes least, whatever its speed; its ``need`` is what staying in one context takes."""
    return _Search(flow, target, limits, None).shortage()


def allocate_one_context(
    flow: Flow, target: Target, limits: Limits, place: Placer | None = None, table: OptionTable | None = None
) -> Allocation | Shortage:
    """The whole flow as one context; controllers are shared where that makes it fit, or faster."""
    table = table or OptionTable([options_of(w, target) for w in flow.works])
    result = allocate(flow, target, limits, place, table, thorough=True)
    shared = allocate(flow, target, limits, place, table, sharing=True, thorough=True)
    if isinstance(shared, Allocation) and (isinstance(result, Shortage) or shared.period < result.period):
        return shared
    return result


def allocate_frugally(
    flow: Flow, target: Target, limits: Limits, place: Placer | None = None, table: OptionTable | None = None
) -> Allocation | Shortage:
    """Some pipeline that fits, or why there is none."""
    search = _Search(flow, target, limits, place, table)
    found = search.attempt(search.table.thresholds[-1]) if all(search.table.options) else None
    return allocate(flow, target, limits, place, table) if found is None else search.finish(found)


def allocate(
    flow: Flow,
    target: Target,
    limits: Limits,
    place: Placer | None = None,
    table: OptionTable | None = None,
    sharing: bool = False,
    thorough: bool = False,
    cost: Cost | None = None,
) -> Allocation | Shortage:
    """The fastest pipeline that fits, or why there is none.

    Args:
        flow: the graph.
        target: the device.
        limits: ceilings over the whole device.
        place: puts stages with given uses on clusters, or says ``None``; without it, only sums are checked.
        table: the options of the flow's works, where they are known already.
        sharing: small stages may share a controller where there are too few.
        thorough: look on below the frame time that halving finds.
        cost: of pipelines of one frame time, the one for which this is least; without it, the most frugal.
    """
    search = _Search(flow, target, limits, place, table, sharing)
    if any(not row for row in search.table.options):
        return search.shortage()
    steps = list(search.table.thresholds)
    steps += [steps[-1] * factor // 8 for factor in SLOWER]
    best: Allocation | None = None
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        found = search.attempt(steps[middle])
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    if best is None:
        return search.shortage()
    best = search.finish(_faster(search, steps, high, best) if thorough else best)
    return best if cost is None else _quicker(search, best, cost)


def _quicker(search: _Search, best: Allocation, cost: Cost) -> Allocation:
    """What is left over spent on the stages beside the slowest: the frame time stays, a frame is through earlier.

    Halving over the cycles that all other stages may take; of what fits, the cheapest by ``cost``.
    """
    steps = [t for t in search.table.values if t < best.period]
    hopeless = search.table.floor(search.limits.values, search.buffers, steps) if steps else None
    if hopeless is None:
        return best
    least = cost(best)
    low, high = steps.index(hopeless), len(steps)
    while low < high:
        middle = (low + high) // 2
        found = search.balance(steps[middle])
        if found is None or found.period > best.period:
            low = middle + 1
            continue
        high = middle
        found = search.finish(found)
        if cost(found) < least:
            best, least = found, cost(found)
    return best


def _faster(search: _Search, steps: Sequence[int], index: int, best: Allocation) -> Allocation:
    """Frame times below the one that halving found: placing and buffers do not get easier with every longer one."""
    for jump in JUMPS:
        at = index - jump
        if at < 0 or steps[at] < best.lower_bound:
            break
        found = search.attempt(steps[at])
        if found is not None and found.period < best.period:
            return _faster(search, steps, at, found)
    return best
