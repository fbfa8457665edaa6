# SPDX-License-Identifier: Apache-2.0
"""Balance a pipeline: the smallest frame time for which every stage has an option and all of them fit.

Given a frame time T the stages are independent, so the search over T is a threshold search over the distinct cycle
counts of all options; for one T, choosing an option per stage under three limits is a multiple-choice packing, solved
by a weighted sum whose weights follow the fullest resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from headrace.hn import Array
from headrace.mapping.memory import buffer_units, least_buffer_units
from headrace.mapping.option_table import OptionTable
from headrace.mapping.options import Option
from headrace.mapping.place import place_stages
from headrace.mapping.resources import MEMORY, RESOURCES, Use, total
from headrace.mapping.sharing import IN_TURN, controller_loads, share_controllers, shared_uses
from headrace.mapping.stages import (
    UNLIMITED,
    AllocatedStage,
    Allocation,
    Limits,
    Shares,
    Shortage,
    StageGraph,
    limits_of,
)
from headrace.targets import Target
from headrace.timing.rows import Buffer, latency_of, line_buffers, link_frame_cycles

JUMPS = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # frame times tried below the best so far
OVERDRAFTS = (125, 150, 200, 400)  # % of the controllers that there are, before sharing
# Eighths of the slowest option: longer periods, which only make buffers smaller (or leave more time to share).
SLOWER = (9, 10, 11, 12, 14, 16, 20, 24, 32, 48, 64, 128, 512, 2048)

Cost = Callable[[Allocation], int]


@dataclass(frozen=True)
class _Draft:
    """A pipeline that fits, without its latency.

    Attributes:
        options: per stage.
        roots: per stage, the stage whose controller it runs on; empty: each has its own.
        period: cycles per frame.
        buffers: line buffers.
        buffer_units: per stage.
        uses: per stage, buffers included; a shared controller counts with the first of its stages.
        clusters: per stage, where it was placed; None: nothing was.
    """

    options: list[Option]
    roots: list[int]
    period: int
    buffers: tuple[Buffer, ...]
    buffer_units: list[int]
    uses: list[Use]
    clusters: list[int] | None


def stage_uses(options: Sequence[Option], buffers: Sequence[int]) -> list[Use]:
    """What each stage takes with its buffers; every stage has at least one memory unit."""
    return [
        (*o.use[:MEMORY], max(1, o.weight_units + b), *o.use[MEMORY + 1 :])
        for o, b in zip(options, buffers, strict=True)
    ]


class _Search:
    """Pipelines of one graph, tried one frame time after the other.

    Attributes:
        placing: whether stages have to find places on clusters; else only sums count.
        sharing: small stages may share a controller.
    """

    def __init__(
        self,
        graph: StageGraph,
        target: Target,
        limits: Limits,
        table: OptionTable | None = None,
        *,
        placing: bool = False,
        sharing: bool = False,
    ) -> None:
        self.graph, self.target, self.limits, self.placing, self.sharing = graph, target, limits, placing, sharing
        self.table = table or OptionTable.of(graph.works, target)
        self.link = link_frame_cycles(graph.flow, target)
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
        """Memory units that each stage's buffers need at any speed, int64."""
        return np.array([least_buffer_units(w, self.target) for w in self.graph.works], np.int64)

    @cached_property
    def least(self) -> int:
        """No pipeline with its buffers has a smaller frame time."""
        found = self.table.floor(self.bounding(self.sharing), self.buffers)
        return self.table.thresholds[-1] + 1 if found is None else found

    def choose(self, threshold: int, limits: Sequence[int]) -> tuple[list[Option], list[int]] | None:
        """Options within the limits, and the stage whose controller each runs on (empty: its own)."""
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
            roots = share_controllers(self.graph.works, options, threshold, self.target, limits)
            if roots is not None:
                return options, roots
        return None

    def attempt(self, threshold: int) -> _Draft | None:
        """A pipeline with its buffers, every stage within ``threshold``, or ``None``."""
        return None if threshold < self.least else self.balance(threshold)

    def balance(self, threshold: int) -> _Draft | None:
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
                memory = total(made.uses)[MEMORY]
                if memory <= self.limits.memory_units:
                    return self.placed(made)
            reserve = max(reserve + 1, memory - sum(o.weight_units for o in options))
        return None

    def complete(self, options: list[Option], roots: list[int], period: int) -> _Draft:
        """The pipeline of these options with its buffers, not placed."""
        buffers = line_buffers(self.graph.flow, options, period, self.target, roots)
        units = buffer_units(self.graph.flow, buffers, self.target)
        uses = shared_uses(stage_uses(options, units), roots)
        return _Draft(options, roots, period, buffers, units, uses, None)

    def placed(self, made: _Draft) -> _Draft | None:
        if not self.placing:
            return made
        clusters = place_stages(made.uses, self.graph.flow, self.target, made.roots)
        return None if clusters is None else replace(made, clusters=clusters)

    def finish(self, found: _Draft) -> Allocation:
        """With its latency, which no choice depends on."""
        count = len(found.options)
        stages = tuple(
            AllocatedStage(*row)
            for row in zip(
                self.graph.stages,
                found.options,
                self.table.options,
                found.buffer_units,
                found.uses,
                found.roots or range(count),
                found.clusters or [None] * count,
                strict=True,
            )
        )
        return Allocation(
            self.graph,
            stages,
            found.period,
            found.buffers,
            latency_of(self.graph.flow, found.options, self.target, found.roots),
            self.lower_bound(bool(found.roots)),
            self.limits,
            self.link,
        )

    def shortage(self) -> Shortage:
        """What the most frugal choice lacks."""
        impossible = [s.name for s, row in zip(self.graph.stages, self.table.options, strict=True) if not row]
        if impossible:
            return Shortage((0,) * len(RESOURCES), self.limits.values, [], False, impossible)
        never = int(OptionTable.NEVER) - 1
        generous = [max(1, v) * 4096 for v in self.limits.values]
        options = self.pick(self.table.choose(never, generous) or [0] * len(self.graph.stages))
        period = max((o.cycles for o in options), default=1) * SLOWER[-1] // 8
        flow = self.graph.flow
        uses = stage_uses(options, buffer_units(flow, line_buffers(flow, options, period, self.target), self.target))
        need = total(uses)
        fits = all(n <= h for n, h in zip(need, self.limits.values, strict=True))
        return Shortage(need, self.limits.values, uses, fits, [])


def shortage_of(graph: StageGraph, target: Target, limits: Limits) -> Shortage:
    """The choice that takes least, whatever its speed; its ``need`` is what staying in one context takes."""
    return _Search(graph, target, limits).shortage()


def allocate_one_context(
    graph: StageGraph, target: Target, limits: Limits, table: OptionTable | None = None, *, placing: bool = False
) -> Allocation | Shortage:
    """The whole graph as one context; controllers are shared where that makes it fit, or faster."""
    table = table or OptionTable.of(graph.works, target)
    result = allocate(graph, target, limits, table, placing=placing, thorough=True)
    shared = allocate(graph, target, limits, table, placing=placing, sharing=True, thorough=True)
    if isinstance(shared, Allocation) and (isinstance(result, Shortage) or shared.period < result.period):
        return shared
    return result


def allocate_frugally(
    graph: StageGraph, target: Target, limits: Limits, table: OptionTable | None = None, *, placing: bool = False
) -> Allocation | Shortage:
    """Some pipeline that fits, or why there is none."""
    search = _Search(graph, target, limits, table, placing=placing)
    found = search.attempt(search.table.thresholds[-1]) if all(search.table.options) else None
    return allocate(graph, target, limits, table, placing=placing) if found is None else search.finish(found)


def allocate_alone(
    graph: StageGraph,
    index: int,
    target: Target,
    shares: Shares,
    table: OptionTable | None = None,
    *,
    placing: bool = False,
) -> Allocation | Shortage:
    """Some pipeline of one stage as a context of its own, or why there is none; ``table`` is the whole graph's."""
    part = graph.part(index, index + 1)
    mine = table.part(index, index + 1) if table else None
    return allocate_frugally(part, target, limits_of(target, part, shares), mine, placing=placing)


def allocate(
    graph: StageGraph,
    target: Target,
    limits: Limits,
    table: OptionTable | None = None,
    *,
    placing: bool = False,
    sharing: bool = False,
    thorough: bool = False,
    cost: Cost | None = None,
) -> Allocation | Shortage:
    """The fastest pipeline that fits, or why there is none.

    Args:
        graph: the stages.
        target: the device.
        limits: ceilings over the whole device.
        table: the options of the stages, where they are known already.
        placing: every stage has to find a place on a cluster; else only sums are checked.
        sharing: small stages may share a controller where there are too few.
        thorough: look on below the frame time that halving finds.
        cost: of pipelines of one frame time, the one for which this is least; without it, the most frugal.
    """
    search = _Search(graph, target, limits, table, placing=placing, sharing=sharing)
    if any(not row for row in search.table.options):
        return search.shortage()
    steps = list(search.table.thresholds)
    steps += [steps[-1] * factor // 8 for factor in SLOWER]
    best: _Draft | None = None
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
    best = _shorten_period(search, steps, high, best) if thorough else best
    return search.finish(best) if cost is None else _shorten_latency(search, search.finish(best), cost)


def _shorten_latency(search: _Search, best: Allocation, cost: Cost) -> Allocation:
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
        made = search.finish(found)
        if cost(made) < least:
            best, least = made, cost(made)
    return best


def _shorten_period(search: _Search, steps: Sequence[int], index: int, best: _Draft) -> _Draft:
    """Frame times below the one that halving found: placing and buffers do not get easier with every longer one."""
    for jump in JUMPS:
        at = index - jump
        if at < 0 or steps[at] < search.lower_bound(bool(best.roots)):
            break
        found = search.attempt(steps[at])
        if found is not None and found.period < best.period:
            return _shorten_period(search, steps, at, found)
    return best
