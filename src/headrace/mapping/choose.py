# SPDX-License-Identifier: Apache-2.0
"""All stages onto a device: one context, or the fastest sequence of several."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.mapping.allocate import allocate_alone, allocate_one_context
from headrace.mapping.contexts import ContextPlan, Partition
from headrace.mapping.join import narrow_joins
from headrace.mapping.option_table import OptionTable
from headrace.mapping.partition import cut_into_contexts
from headrace.mapping.split import Scales, split_oversized
from headrace.mapping.stages import ALL, Allocation, Shares, Shortage, StageGraph, limits_of
from headrace.reports.schedule import CompileDecision
from headrace.targets import Target

CONTEXTS = (None, "one", "several")
CROWDED = 2  # times its lower bound: a context so slow is compared with several


@dataclass(frozen=True)
class MappingOptions:
    """How stages may be put on a device.

    Attributes:
        shares: ceilings of one context as shares of the whole device (0 … 1]; the target's own shares hold too.
        batch: frames between two switches of context.
        contexts: ``"one"``: no more; ``"several"``: at least two; None: as few as it takes, or several where these are
            faster.
    """

    shares: Shares = ALL
    batch: int = 1
    contexts: str | None = None


@dataclass(frozen=True)
class Mapped:
    """A network on a device.

    Attributes:
        graph: its stages as they run, split and joined where that was needed.
        plan: its contexts.
        decisions: what was split and joined.
    """

    graph: StageGraph
    plan: Partition
    decisions: tuple[CompileDecision, ...]


@dataclass(frozen=True)
class StagesTooLarge:
    """Some stages fit no context (or no sequence was found, though all do).

    Attributes:
        graph: the stages, split where that helps.
        whole: what one context for everything lacks.
        failing: per stage that fits no context of its own, what it lacks.
    """

    graph: StageGraph
    whole: Shortage
    failing: dict[str, Shortage]


@dataclass(frozen=True)
class NeedsSeveral:
    """One context was asked for.

    Attributes:
        graph: the stages that were to stay in it.
        whole: what it lacks.
        contexts: how many it would take.
    """

    graph: StageGraph
    whole: Shortage
    contexts: int


@dataclass(frozen=True)
class NotCut:
    """Several contexts were asked for, and no cut gives them."""

    graph: StageGraph


def choose_contexts(
    graph: StageGraph, scales: Scales, target: Target, options: MappingOptions
) -> Mapped | StagesTooLarge | NeedsSeveral | NotCut:
    """Allocate and place in as few contexts as it takes, or tell why that cannot be.

    Args:
        graph: all stages, with their kernels.
        scales: quantization of the network's inputs.
        target: the device.
        options: ceilings and contexts.
    """
    graph, joins = narrow_joins(graph, target)
    table = OptionTable.of(graph.works, target)
    if options.contexts == "several":
        whole = None
    else:
        limits = limits_of(target, graph, options.shares)
        found = allocate_one_context(graph, target, limits, table, placing=True)
        if isinstance(found, Allocation):
            return Mapped(graph, _one_or_faster(graph, found, target, options, table), tuple(joins))
        whole = found
    split, splits = split_oversized(graph, scales, target, options.shares, table)
    split, more_joins = narrow_joins(split, target)  # of more parts than one concatenation takes
    plan = cut_into_contexts(
        split,
        target,
        batch=options.batch,
        shares=options.shares,
        table=None if splits else table,
        placing=True,
        least=2 if whole is None else 1,
    )
    if plan is not None:
        if whole is not None and options.contexts == "one":
            return NeedsSeveral(graph, whole, len(plan.contexts))
        return Mapped(split, plan, (*joins, *splits, *more_joins))
    if whole is None:
        return NotCut(split)
    failing: dict[str, Shortage] = {}
    for i, stage in enumerate(split.stages):
        single = allocate_alone(split, i, target, options.shares, placing=True)
        if isinstance(single, Shortage):
            failing[stage.name] = single
    return StagesTooLarge(split, whole, failing)


def fits_one_context(graph: StageGraph, target: Target, shares: Shares) -> bool:
    """Whether a target takes all stages in one context."""
    limits = limits_of(target, graph, shares)
    return isinstance(allocate_one_context(graph, target, limits, placing=True), Allocation)


def _one_or_faster(
    graph: StageGraph, single: Allocation, target: Target, options: MappingOptions, table: OptionTable
) -> Partition:
    """One context, unless it has to share controllers, or to save memory, so much that several are faster."""
    size = sum(stage.loaded_bytes for stage in graph.stages)
    only = ContextPlan(0, len(graph.stages), single, size, 0, 0, 0, 0)
    one = Partition((only,), options.batch, single.lower_bound, 0, 1, False)
    if options.contexts == "one" or single.period <= CROWDED * single.lower_bound:
        return one
    several = cut_into_contexts(graph, target, batch=options.batch, shares=options.shares, table=table, placing=True)
    return one if several is None or several.cycles >= options.batch * single.period else several
