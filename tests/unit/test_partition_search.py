# SPDX-License-Identifier: Apache-2.0
"""What the search for contexts goes by: bounds that nothing betters, estimates that come near, resources left over
that make frames earlier."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
import pytest

from compiler_support import random_network, resnet
from headrace.errors import InternalError
from headrace.mapping import Allocation, StageGraph, allocate, limits_of, stages_of
from headrace.mapping.sequence import NEVER
from headrace.targets import load_target
from headrace.timing.rows import latency_of, least_latencies
from random_graphs import GraphBuilder

HAILO8L = load_target("hailo8l")
SMALL = replace(HAILO8L, name="small", clusters=1, memory_unit_bytes=1024)
search: Any = import_module("headrace.mapping.partition")


def partitioner(flow: StageGraph, batch: int) -> Any:
    return search._Partitioner(flow, SMALL, batch=batch)


@pytest.mark.parametrize("seed", range(8))
def test_no_run_betters_its_bound(seed: int) -> None:
    """Every run of works of random networks: time, streams, weights and free memory."""
    work = partitioner(stages_of(random_network(seed, 10)), 1 + 3 * (seed % 2))
    ratios: list[float] = []
    for run in combinations(range(len(work.graph.works) + 1), 2):
        plan, bound = work.plan(*run), work.bound(*run)
        if plan is None:
            continue
        assert bound is not None
        assert bound.run <= plan.run_cycles(work.batch)
        assert bound[1:3] == (plan.stream_cycles(work.batch), plan.reload_cycles)
        assert bound.free >= plan.free_cycles
        assert bound.resident <= work.batch * plan.allocation.period
        ratios.append(work.estimate(*run) / plan.run_cycles(work.batch))
    assert len(ratios) > 10
    assert median(ratios) == pytest.approx(1, rel=0.02)
    assert all(0.5 < r < 2 for r in ratios)


def test_slower_options_never_bring_a_frame_through_earlier() -> None:
    flow = stages_of(resnet(2, 8, 16))
    table = [list(row) for row in partitioner(flow, 1).table.options]
    rng = np.random.default_rng(0)
    least = least_latencies(flow.works, table)
    assert least == sorted(least)
    for _ in range(20):
        options = [row[int(rng.integers(len(row)))] for row in table]
        assert latency_of(flow.flow, options, HAILO8L) >= least[-1]
        assert all(a <= b for a, b in zip(least, least_latencies(flow.works, [[o] for o in options]), strict=True))


def test_what_is_left_over_brings_frames_through_earlier() -> None:
    """The frame time stays what it is; the latency falls; everything still fits; without a cost nothing changes."""
    flow = stages_of(resnet(1))
    hailo8 = load_target("hailo8")
    limits = limits_of(hailo8, flow)
    frugal = allocate(flow, hailo8, limits)
    quick = allocate(flow, hailo8, limits, cost=lambda a: a.latency)
    assert isinstance(frugal, Allocation) and isinstance(quick, Allocation)
    assert quick.period == frugal.period
    assert quick.latency < 0.95 * frugal.latency
    assert all(need <= have for need, have in zip(quick.totals, limits.values, strict=True))
    # A cost that counts memory only finds nothing better than the frugal choice.
    same = allocate(flow, hailo8, limits, cost=lambda a: a.totals[2])
    assert isinstance(same, Allocation) and same.options == frugal.options


def test_where_the_cheapest_runs_never_fit_the_search_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that take every run for possible and long runs for cheap: the search ends, with runs that fit."""
    flow = stages_of(resnet(3, 16, 16))
    work = partitioner(flow, 1)
    monkeypatch.setattr(work, "bound", lambda first, last: search.Bound(100 - (last - first), 0, 0, 0, 1))
    monkeypatch.setattr(work, "estimate", lambda first, last: work.estimates.setdefault((first, last), 1))
    found, blocked = search._search(work, list(range(len(flow.works) + 1)))
    assert blocked is None and found is not None and len(found.contexts) > 2
    ends = [c.last for c in found.contexts]
    assert [c.first for c in found.contexts] == [0, *ends[:-1]] and ends[-1] == len(flow.works)
    assert not found.optimal


def test_a_part_without_cuts_that_does_not_fit_gets_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = stages_of(resnet(3, 16, 16))
    n = len(flow.works)
    monkeypatch.setattr(search._Partitioner, "candidates", lambda self: [0, 1, n])
    found = search.cut_into_contexts(flow, SMALL)
    assert found is not None and len(found.contexts) > 2


def count_work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Runs that are bounded, and sums that passes over pairs of runs make, counted as the search goes."""
    work = {"bounds": 0, "sums": 0}
    bound, passed = search._Partitioner.bound, search.cheapest_sequence

    def counted_bound(self: Any, first: int, last: int) -> Any:
        work["bounds"] += 1
        return bound(self, first, last)

    def counted_pass(costs: Any) -> Any:
        valid = (costs.run < NEVER).astype(np.int64)
        work["sums"] += int(valid[0].sum() * (valid.sum(axis=0) * valid.sum(axis=1))[1:-1].sum())
        return passed(costs)

    monkeypatch.setattr(search._Partitioner, "bound", counted_bound)
    monkeypatch.setattr(search, "cheapest_sequence", counted_pass)
    return work


def test_a_network_of_many_small_layers_is_not_cut_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,300 layers, more than a hundred to a context (100 steps of an LSTM): seconds, where every boundary took hours.

    Counted, not timed: each bound takes some 0.3 ms, each sum some 5 ns. Every boundary: 150,000 bounds, and 2.5
    thousand million sums for each of some dozens of passes.
    """
    b = GraphBuilder(0, "long")
    x = b.input((1, 1, 8))
    for _ in range(1300):
        x = b.add("activation", [x], {"activation": "relu"})
    b.output(x)
    flow, hailo8 = stages_of(b.net), load_target("hailo8")
    n = len(flow.works)
    work = search._Partitioner(flow, hailo8)
    assert search.steps_of(work.ends()) > search.MOST_STEPS
    monkeypatch.setattr(search._Partitioner, "candidates", lambda self: [0, 1, n // 2, n])
    counted = count_work(monkeypatch)
    found = search.cut_into_contexts(flow, hailo8)
    assert found is not None
    ends = [c.last for c in found.contexts]
    assert [c.first for c in found.contexts] == [0, *ends[:-1]] and ends[-1] == n
    most = max(end - start for start, end in enumerate(work.ends()))
    assert len(found.contexts) <= 1.25 * -(-n // most)
    assert counted["bounds"] < 3000 and counted["sums"] < 50_000_000


@pytest.mark.parametrize("most", [0, search.MOST_STEPS])
def test_fewer_candidates_cost_little(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every boundary is within reach, all are looked at; some of them give a sequence that is nearly as good."""
    flow = stages_of(resnet(4, 16, 16))
    n = len(flow.works)
    best = search.cut_into_contexts(flow, SMALL)
    monkeypatch.setattr(search._Partitioner, "candidates", lambda self: [0, n])
    monkeypatch.setattr(search, "MOST_STEPS", most)
    found = search.cut_into_contexts(flow, SMALL)
    assert best is not None and found is not None
    assert best.candidates == n - 1
    assert found.candidates == n - 1 if most else found.candidates < n - 1
    assert best.cycles <= found.cycles <= (1 if most else 1.25) * best.cycles


def test_a_stage_that_fits_no_context_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few boundaries are looked at: gaps are halved until the stage stands alone, then no more."""
    flow = stages_of(resnet(3, 16, 16))
    n, real = len(flow.works), search._Partitioner.bound
    bound = lambda self, first, last: None if first <= n // 2 < last else real(self, first, last)  # noqa: E731
    monkeypatch.setattr(search._Partitioner, "bound", bound)
    monkeypatch.setattr(search._Partitioner, "candidates", lambda self: [0, n])
    monkeypatch.setattr(search, "MOST_STEPS", 0)
    counted = count_work(monkeypatch)
    assert search.cut_into_contexts(flow, SMALL) is None
    assert counted["bounds"] < 1000


@pytest.mark.parametrize("batch", [1, 3])
def test_what_fits_one_context_is_bounded_by_its_frame_time(batch: int) -> None:
    """It stays loaded, so neither its latency nor its weights count (EfficientNet-Lite4 on hailo8 ended here)."""
    flow = stages_of(resnet(1))
    found = search.cut_into_contexts(flow, load_target("hailo8"), batch=batch)
    assert found is not None and len(found.contexts) == 1 and found.optimal
    (only,) = found.contexts
    assert only.run_cycles(batch) > found.cycles == batch * only.allocation.period >= found.lower_bound


def test_a_bound_above_a_sequence_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = stages_of(resnet(3, 16, 16))
    real = search._Partitioner.bound
    bound = lambda self, *run: (b := real(self, *run)) and b._replace(run=b.run * 100, resident=b.resident * 100)  # noqa: E731
    monkeypatch.setattr(search._Partitioner, "bound", bound)
    with pytest.raises(InternalError) as caught:
        search.cut_into_contexts(flow, SMALL)
    (problem,) = caught.value.diagnostics
    assert problem.code == "E-TIMING-BOUND" and int(problem.got) < int(problem.need.removeprefix("at least "))
