# SPDX-License-Identifier: Apache-2.0
"""The figures of a compiled network: speed, bounds, what it uses of the device. Every one is the closed form's."""

from __future__ import annotations

from headrace.mapping import Allocation, ContextPlan, Partition, Turn, bottleneck_of
from headrace.mapping.bounds import bounds_of, hard_bound
from headrace.mapping.estimate import BASIS
from headrace.mapping.resources import RESOURCES
from headrace.reports.schedule import (
    BoundFigures,
    ContextFigures,
    NetworkFigures,
    OneContext,
    PipelineFigures,
    SearchFigures,
    SeveralContexts,
)
from headrace.targets import Target
from headrace.timing import ceil_div

BATCHES = (1, 2, 4, 8, 16)


def percent(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 1) if whole else 0.0


def figures_of(plan: Partition, target: Target) -> NetworkFigures:
    """Figures of the whole network."""
    if len(plan.contexts) == 1:
        pipeline = _pipeline(plan.contexts[0].allocation, target)
        bounds = _bounds(plan, target, pipeline.fps)
        return OneContext(basis=BASIS, target=target.name, contexts=1, pipeline=pipeline, bounds=bounds)
    cycles, bound, batch = plan.cycles, plan.lower_bound, plan.batch
    turns = plan.turns(batch)
    parts = [_context(i, c, turn, target) for i, (c, turn) in enumerate(zip(plan.contexts, turns, strict=True))]
    loading = sum(c.reload_cycles + plan.switch for c in plan.contexts)
    streams = sum(c.stream_cycles(batch) for c in plan.contexts)
    slowest = max(plan.contexts, key=lambda c: c.allocation.period).allocation
    return SeveralContexts(
        basis=BASIS,
        target=target.name,
        contexts=len(plan.contexts),
        batch=batch,
        cycles_per_batch=cycles,
        cycles_per_frame=ceil_div(cycles, batch),
        fps=round(batch * target.clock_hz / cycles, 3),
        bounds=_bounds(plan, target, batch * target.clock_hz / cycles),
        fps_by_batch={str(b): round(b * target.clock_hz / plan.cycles_of(b), 3) for b in BATCHES},
        latency_ms=round(1e3 * plan.latency / target.clock_hz, 6),
        latency_cycles=plan.latency,
        bottleneck="host link" if loading + streams > sum(t.run for t in turns) else bottleneck_of(slowest),
        loading_cycles_per_batch=loading,
        link_bytes_per_frame=sum(c.allocation.graph.flow.link_bytes for c in plan.contexts),
        weight_bytes=sum(c.weight_bytes for c in plan.contexts),
        lower_bound_cycles=ceil_div(bound, batch),
        gap_percent=round(100.0 * (cycles - bound) / bound, 2),
        search=SearchFigures(cuts=plan.candidates, allocations=plan.evaluations, optimal=plan.optimal),
        totals={n: max(part.pipeline.totals[n] for part in parts) for n in RESOURCES},
        limits={n: max(part.pipeline.limits[n] for part in parts) for n in RESOURCES},
        utilization={n: max(part.pipeline.utilization[n] for part in parts) for n in RESOURCES},
        parts=tuple(parts),
    )


def _bounds(plan: Partition, target: Target, fps: float) -> BoundFigures:
    """What each thing alone would allow, and how near to the hardest of them the network comes."""
    bounds = bounds_of(plan, target, sum(c.weight_bytes for c in plan.contexts))
    hardest = hard_bound(bounds)
    return BoundFigures(
        bounds_fps={name: round(value, 3) for name, value in sorted(bounds.items())},
        bound_by=hardest,
        efficiency_percent=round(100.0 * fps / bounds[hardest], 1),
        proven_percent=round(100.0 * fps / bounds["proven"], 1),
    )


def _context(index: int, context: ContextPlan, turn: Turn, target: Target) -> ContextFigures:
    """One of several contexts."""
    stages = context.allocation.stages
    return ContextFigures(
        context=index,
        layers=len(stages),
        first=stages[0].name,
        last=stages[-1].name,
        cycles_per_batch=turn.cycles,
        reload_cycles=context.reload_cycles,
        loaded_ahead_cycles=turn.loaded_ahead,
        waited_cycles=turn.waited,
        overrun_cycles=turn.overrun,
        switch_cycles=turn.switch,
        run_cycles=turn.run,
        weight_bytes=context.weight_bytes,
        cut_input_bytes=context.cut_input_bytes,
        cut_output_bytes=context.cut_output_bytes,
        pipeline=_pipeline(context.allocation, target),
    )


def _pipeline(allocation: Allocation, target: Target) -> PipelineFigures:
    """Figures of one context's pipeline on its own."""
    period, bound = allocation.period, allocation.lower_bound
    totals = dict(zip(RESOURCES, allocation.totals, strict=True))
    limits = dict(zip(RESOURCES, allocation.limits.values, strict=True))
    return PipelineFigures(
        cycles_per_frame=period,
        fps=round(target.clock_hz / period, 3),
        latency_ms=round(1e3 * allocation.latency / target.clock_hz, 6),
        latency_cycles=allocation.latency,
        bottleneck=bottleneck_of(allocation),
        link_cycles_per_frame=allocation.link_cycles,
        link_bytes_per_frame=allocation.graph.flow.link_bytes,
        lower_bound_cycles=bound,
        gap_percent=round(100.0 * (period - bound) / bound, 2),
        totals=totals | {"input_controllers": len(allocation.graph.inputs)},
        limits=limits,
        utilization={name: percent(totals[name], limit) for name, limit in limits.items()},
    )
