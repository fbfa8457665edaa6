# SPDX-License-Identifier: Apache-2.0
"""The bounds of the search for contexts against every choice there is: all cuts, all options, several frame times.

The oracle knows the cost of a sequence from :mod:`headrace.mapping.contexts` and what a pipeline takes from
:mod:`headrace.timing.rows`; of the search, its bounds and its allocator it uses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler_support import random_network
from headrace.mapping import (
    Allocation,
    ContextPlan,
    Option,
    Partition,
    Stage,
    StageGraph,
    allocate_one_context,
    cut_into_contexts,
    limits_of,
    stages_of,
)
from headrace.mapping.allocate import stage_uses
from headrace.mapping.bounds import least_cycles
from headrace.mapping.contexts import load_cycles, switch_cycles
from headrace.mapping.memory import buffer_units
from headrace.mapping.option_table import OptionTable
from headrace.mapping.options import options_of
from headrace.mapping.resources import total
from headrace.targets import Target, load_target
from headrace.timing.rows import latency_of, least_latencies, line_buffers, link_frame_cycles

BASE = load_target("hailo8l")
LOOSE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


# Eighths of the slowest option: frame times that only make buffers smaller.
SLOWER = (9, 10, 11, 12, 14, 16, 20, 24, 32, 48, 64, 128, 512, 2048)


@dataclass(frozen=True)
class Case:
    """A flow with a few options per work on a small target."""

    flow: StageGraph
    target: Target
    batch: int
    weights: tuple[int, ...]
    options: tuple[tuple[Option, ...], ...]


def random_case(seed: int) -> Case | None:
    """Up to five works of a random network (branches, gates, pools, sums of frames) with up to three options each."""
    rng = random.Random(seed)
    flow = stages_of(random_network(rng.randrange(1 << 30), rng.randint(1, 4)))
    last = min(len(flow.works), rng.randint(2, 5))
    first = rng.randint(0, len(flow.works) - last)
    flow = replace(flow.part(first, first + last), cuts=())
    target = replace(
        BASE,
        clusters=1,
        controllers_per_cluster=rng.randint(3, 12),
        memory_units_per_cluster=rng.choice((8, 24, 60)),
        memory_unit_bytes=rng.choice((64, 128, 512)),
        input_aligners_per_cluster=rng.randint(6, 32),
        row_overhead_cycles=rng.choice((0, 5, 64)),
        context_switch_ns=rng.choice((0, 1000, 50_000)),
        link_bytes_per_second=rng.choice((20_000_000, 400_000_000)),
        cut_bytes_per_second=rng.choice((20_000_000, 400_000_000)),
    )
    rows = [options_of(w, target) for w in flow.works]
    if not all(rows):
        return None
    few = tuple(tuple(row[i] for i in sorted(rng.sample(range(len(row)), min(len(row), 3)))) for row in rows)
    weights = tuple(w.weight_bytes * rng.choice((1, 1, 30)) + rng.choice((0, 2000)) for w in flow.works)
    # What is loaded with a stage need not be what its options were made for.
    loaded = (Stage(replace(w, weight_bytes=size)) for w, size in zip(flow.works, weights, strict=True))
    return Case(replace(flow, stages=tuple(loaded)), target, rng.choice((1, 1, 2, 5)), weights, few)


@dataclass(frozen=True)
class Cost:
    """One way to run works ``first`` … ``last - 1``: what a turn is made of."""

    run: int
    streams: int
    reload: int
    free: int
    resident: int


def ways(case: Case, first: int, last: int) -> list[Cost]:
    """Every choice of options that fits, at its own speed and at slower ones; those that another betters left out."""
    part = case.flow.part(first, last)
    limits = limits_of(case.target, part).values
    link = link_frame_cycles(part.flow, case.target)
    reload = load_cycles(sum(case.weights[first:last]), case.target)
    units = case.target.clusters * case.target.memory_units_per_cluster
    slowest = max(o.cycles for row in case.options[first:last] for o in row)
    found: set[Cost] = set()
    for options in product(*case.options[first:last]):
        quickest = max(link, 1, *(o.cycles for o in options))
        latency = latency_of(part.flow, options, case.target)
        slower = {p for p in (slowest * factor // 8 for factor in SLOWER) if p > quickest}
        for period in (quickest, *sorted(slower)):
            buffers = buffer_units(part.flow, line_buffers(part.flow, options, period, case.target), case.target)
            need = total(stage_uses(options, buffers))
            if any(n > have for n, have in zip(need, limits, strict=True)):
                continue
            free = load_cycles(max(0, units - need[2]) * case.target.memory_unit_bytes, case.target)
            run = latency + (case.batch - 1) * period
            found.add(Cost(run, case.batch * link, reload, free, case.batch * period))
    return [c for c in found if not any(_betters(d, c) for d in found)]


def _betters(a: Cost, b: Cost) -> bool:
    good = a.run <= b.run and a.free >= b.free and a.resident <= b.resident
    return good and a != b


def turns(contexts: Sequence[Cost], switch: int) -> int:
    """Cycles of a batch through several contexts that follow each other for ever."""
    cycles = 0
    for now, after in zip(contexts, [*contexts[1:], contexts[0]], strict=True):
        ahead = min(after.reload, now.free)
        cycles += max(now.run, now.streams + ahead) + after.reload - ahead + switch
    return cycles


def cheapest(case: Case) -> int | None:
    """Of all sequences, all choices and the whole flow resident."""
    n = len(case.flow.works)
    costs = {run: ways(case, *run) for run in combinations(range(n + 1), 2)}
    best = [c.resident for c in costs[0, n]]
    switch = switch_cycles(case.target)
    for count in range(1, n):
        for cuts in combinations(range(1, n), count):
            runs = [costs[run] for run in pairwise((0, *cuts, n))]
            # A way that is no quicker only matters where it leaves more memory free; few are left of each run.
            best += [turns(chosen, switch) for chosen in product(*runs)]
    return min(best, default=None)


def compare(seed: int) -> tuple[int, int, int] | None:
    """(best there is, what the search found, in how many contexts) of a case that can be built."""
    case = random_case(seed)
    if case is None:
        return None
    best = cheapest(case)
    found = cut_into_contexts(case.flow, case.target, batch=case.batch, table=OptionTable(case.options))
    if best is None or found is None:
        assert found is None, "contexts that no choice gives"
        return None
    assert found.lower_bound <= best, f"seed {seed}: the bound is above what can be reached"
    assert best <= found.cycles, f"seed {seed}: the oracle misses something"
    # What the report calls proven: one context, shared controllers included, and several.
    single = allocate_one_context(
        case.flow, case.target, limits_of(case.target, case.flow), table=OptionTable(case.options)
    )
    resident = [case.batch * single.period] if isinstance(single, Allocation) else []
    if len(found.contexts) > 1:
        assert least_cycles(found, case.target) <= min([best, *resident]), f"seed {seed}: proven is above it"
    if isinstance(single, Allocation):
        only = ContextPlan(0, len(case.flow.works), single, sum(case.weights), 0, 0, 0, 0)
        alone = Partition((only,), case.batch, single.lower_bound, 0, 1, False)
        assert case.batch * least_cycles(alone, case.target) <= min([best, *resident]), f"seed {seed}, one context"
        assert single.lower_bound <= single.period
    return best, found.cycles, len(found.contexts)


@settings(LOOSE, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_nothing_betters_the_bounds(seed: int) -> None:
    compare(seed)


@pytest.mark.slow
def test_nothing_betters_the_bounds_and_most_searches_find_the_best() -> None:
    results = [r for r in (compare(seed) for seed in range(600)) if r is not None]
    exact = sum(best == found for best, found, _ in results)
    worst = max(found / best for best, found, _ in results)
    print(f"{len(results)} flows: {exact} the best there is, worst {worst:.2f} times it")
    assert len(results) > 300
    assert exact > 0.8 * len(results)


@settings(LOOSE, max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_no_frame_is_through_before_the_least_latency(seed: int) -> None:
    """Whatever option each work takes; all of them, so that stages that sum up a frame vary most."""
    rng = random.Random(seed)
    flow = stages_of(random_network(rng.randrange(1 << 30), rng.randint(1, 8)))
    target = replace(BASE, row_overhead_cycles=rng.choice((0, 64)), port_bytes_per_cycle=rng.choice((1, 8, 64)))
    rows = [options_of(w, target) for w in flow.works]
    if not all(rows):
        return
    least = least_latencies(flow.works, rows)
    for _ in range(12):
        options = [rng.choice(row) for row in rows]
        assert latency_of(flow.flow, options, target) >= least[-1]
        assert all(a <= b for a, b in zip(least, least_latencies(flow.works, [[o] for o in options]), strict=True))


@settings(LOOSE, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_no_buffers_are_below_the_least(seed: int) -> None:
    """At any speed and with any options, windows in the padding and strides past the end included."""
    from headrace.mapping.memory import least_buffer_units

    rng = random.Random(seed)
    flow = stages_of(random_network(rng.randrange(1 << 30), rng.randint(1, 8)))
    target = replace(BASE, memory_unit_bytes=rng.choice((1, 16, 256)))
    rows = [options_of(w, target) for w in flow.works]
    if not all(rows):
        return
    least = np.array([least_buffer_units(w, target) for w in flow.works])
    for _ in range(6):
        options = [rng.choice(row) for row in rows]
        period = max(o.cycles for o in options) * rng.choice((1, 1, 3, 50))
        found = buffer_units(flow.flow, line_buffers(flow.flow, options, period, target), target)
        assert (least <= np.array(found)).all()
