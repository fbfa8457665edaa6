# SPDX-License-Identifier: Apache-2.0
"""What the allocator decided, per layer and cluster."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.compiler.figures import figures_of, percent
from headrace.mapping import Allocation, Option, Partition
from headrace.mapping.place import cluster_totals
from headrace.mapping.resources import RESOURCES, per_cluster
from headrace.reports.schedule import (
    BufferFigures,
    ClusterFigures,
    CompileDecision,
    NextBetter,
    OptionFigures,
    RowCycles,
    ScheduledLayer,
    ScheduleReport,
    Share,
)
from headrace.targets import Target


def schedule_of(plan: Partition, target: Target, decisions: Sequence[CompileDecision]) -> ScheduleReport:
    """The whole schedule; with several contexts every row says which."""
    clusters: list[ClusterFigures] = []
    layers: list[ScheduledLayer] = []
    for i, context in enumerate(plan.contexts):
        number = i if len(plan.contexts) > 1 else None
        clusters += _clusters(context.allocation, target, number)
        layers += _layers(context.allocation, number)
    return ScheduleReport(
        figures=figures_of(plan, target), clusters=tuple(clusters), layers=tuple(layers), decisions=tuple(decisions)
    )


def next_better(option: Option, alternatives: Sequence[Option]) -> NextBetter | None:
    """The slowest option that is faster, and what it costs more; ``None`` at the layer's floor."""
    faster = [o for o in alternatives if o.cycles < option.cycles]
    if not faster:
        return None
    best = max(faster, key=lambda o: (o.cycles, tuple(-u for u in o.use)))
    extra = {name: b - a for name, a, b in zip(RESOURCES, option.use, best.use, strict=True)}
    return NextBetter(option=_option(best), cycles=best.cycles, extra=extra)


def _option(option: Option) -> OptionFigures:
    return OptionFigures(
        column_slices=option.column_slices,
        feature_slices=option.feature_slices,
        subclusters_per_slice=option.subclusters_per_slice,
    )


def _layers(allocation: Allocation, context: int | None) -> list[ScheduledLayer]:
    stages = allocation.stages
    return [
        ScheduledLayer(
            context=context,
            name=stage.name,
            kind=stage.work.kind,
            cluster=stage.placed_on,
            option=_option(stage.option),
            **dict(zip(RESOURCES, stage.use, strict=True)),
            weight_units=stage.option.weight_units,
            buffer_units=stage.buffer_units,
            cycles=stage.option.cycles,
            utilization=percent(stage.option.cycles, allocation.period),
            bound=stage.option.bound,
            rows=stage.option.rows,
            row_cycles=RowCycles(
                engine=stage.option.engine_row,
                input_port=stage.option.input_row,
                output_port=stage.option.output_row,
                overhead=stage.option.overhead,
            ),
            macs=stage.work.macs,
            weight_bytes=stage.work.weight_bytes,
            next_better=next_better(stage.option, stage.alternatives),
            buffers=_buffers(allocation, stage.name),
            shares_controller_of=stages[stage.root].name if stage.root != i else None,
        )
        for i, stage in enumerate(stages)
    ]


def _buffers(allocation: Allocation, name: str) -> tuple[BufferFigures, ...]:
    """Line buffers of one stage: its operands', and the host's of what it produces."""
    heights = {p.tensor: p.height for w in allocation.graph.works for p in (*w.operands, w.output)}
    return tuple(
        BufferFigures(
            tensor=b.tensor,
            to=b.consumer or "host",
            operand=b.operand,
            rows=b.rows,
            bytes=b.size,
            frames=round(b.rows / heights[b.tensor], 3),
        )
        for b in allocation.buffers
        if b.consumer == name or (b.consumer is None and b.tensor == name)
    )


def _clusters(allocation: Allocation, target: Target, context: int | None) -> list[ClusterFigures]:
    full = per_cluster(target)
    names = ("control", "compute", "memory", "activation_units", "input_aligners")
    uses, clusters = [s.use for s in allocation.stages], [s.placed_on for s in allocation.stages]
    totals = cluster_totals(uses, clusters, len(allocation.graph.inputs), target)
    rows: list[ClusterFigures] = []
    for i, used in enumerate(totals):
        shares = {
            name: Share(used=u, of=f, percent=percent(u, f)) for name, u, f in zip(names, used, full, strict=True)
        }
        rows.append(ClusterFigures(context=context, cluster=i, **shares))
    return rows
