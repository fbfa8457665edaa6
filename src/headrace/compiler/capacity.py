# SPDX-License-Identifier: Apache-2.0
"""Why nothing fits: data first, then the diagnostics that they come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from headrace.errors import CapacityError, Diagnostic
from headrace.mapping import Shortage, clusters_needed
from headrace.mapping.estimate import BASIS
from headrace.mapping.levers import ALL, levers_of
from headrace.mapping.options import MOST_CYCLES, MOST_ENGINE_CYCLES, least_needs
from headrace.mapping.resources import RESOURCES, per_cluster
from headrace.reports.infeasibility import (
    Exceeded,
    FailingLayer,
    InfeasibilityReport,
    MemoryTerm,
    NeedOfLayer,
    ResourceNeed,
)
from headrace.targets import Target
from headrace.timing import Flow, Work, ceil_div

RESOURCE_NAMES = {
    "controllers": "layer controllers (control)",
    "subclusters": "sub-clusters (compute)",
    "memory_units": "memory units (memory)",
    "activation_units": "activation units",
    "input_aligners": "input aligners",
}
TERMS = 8
MOST_TRIED = 8  # layers for which levers are tried; others are most often of the same kind


def shortage_report(whole: Shortage, flow: Flow, target: Target, name: str) -> InfeasibilityReport:
    """What one context for everything lacks; no layers and no levers yet."""
    clusters = clusters_needed(whole.need, target, len(flow.inputs))
    return InfeasibilityReport(
        basis=BASIS,
        target=target.name,
        network=name,
        clusters_needed=clusters,
        devices_needed=ceil_div(clusters, target.clusters),
        resources=tuple(
            ResourceNeed(
                resource=resource,
                need=whole.need[i],
                have=whole.have[i],
                exceeded=whole.need[i] > whole.have[i],
                terms=_terms(whole, flow, i),
            )
            for i, resource in enumerate(RESOURCES)
        ),
        layers=(),
        levers=(),
    )


def capacity_error(
    whole: Shortage,
    failing: dict[str, Shortage],
    flow: Flow,
    target: Target,
    name: str,
    shares: tuple[float, float, float] = ALL,
) -> CapacityError:
    """The answer when some layers fit no context: resource, need, have, terms, levers that were tried.

    Args:
        whole: what one context for everything lacks.
        failing: per layer that fits no context of its own, what it lacks.
        flow, target, name, shares: what was to be compiled, and the ceilings of one context.
    """
    works = {w.name: w for w in flow.works}
    layers: list[FailingLayer] = []
    diagnostics: list[Diagnostic] = []
    levers: dict[str, None] = {}
    for number, (layer, shortage) in enumerate(failing.items()):
        tried = levers_of(works[layer], target, shares) if number < MOST_TRIED else []
        row, found = _failing(works[layer], shortage, target, tried)
        layers.append(row)
        diagnostics += found
        levers |= dict.fromkeys(row.levers)
    if not diagnostics:
        general = ("leave out the utilization ceilings",) if shares != ALL else ()
        levers |= dict.fromkeys(general)
        rule = "every layer fits a context, but no sequence of contexts was found"
        diagnostics.append(
            Diagnostic("E-COMPILE-PLACE", f"{name} on {target.name}", rule, "none", "at least one", general)
        )
    report = shortage_report(whole, flow, target, name)
    return CapacityError(diagnostics, replace(report, layers=tuple(layers), levers=tuple(levers)).as_dict())


def _failing(
    work: Work, shortage: Shortage, target: Target, levers: list[str]
) -> tuple[FailingLayer, list[Diagnostic]]:
    """A layer that fits no context: as data and as diagnostics."""
    where = f"{work.name} on {target.name}"
    terms = _layer_terms(work, target)
    exceeded: list[Exceeded] = []
    found: list[Diagnostic] = []
    if shortage.impossible:
        exceeded = _exceeded_in_cluster(work, target)
        found += _impossible(work, target, exceeded)
    for resource, need, have in zip(RESOURCES, shortage.need, shortage.have, strict=True):
        if need <= have:
            continue
        exceeded.append(Exceeded(resource=resource, need=need, have=have))
        rule = f"the layer needs more {RESOURCE_NAMES[resource]} than one context has, even in its smallest form"
        listed = ", ".join(f"{term.bytes} bytes {term.for_}" for term in terms[:4])
        got = f"{need} ({listed})" if resource == "memory_units" else str(need)
        if resource == "controllers":  # each tensor that comes in takes one too
            inputs = len({p.tensor for p in work.operands})
            need, have = need + inputs, have + inputs
            got = f"{need}, {inputs} of them for tensors that come in"
        found.append(Diagnostic("E-COMPILE-CAPACITY", where, rule, got, f"at most {have}"))
    if not found:
        rule = "all sums fit, but the layer does not divide over the clusters"
        got = f"{shortage.uses[0] if shortage.uses else ()} ({', '.join(RESOURCE_NAMES.values())})"
        found.append(Diagnostic("E-COMPILE-PLACE", where, rule, got, "resources side by side in one cluster"))
    row = FailingLayer(layer=work.name, kind=work.kind, resources=tuple(exceeded), terms=terms, levers=tuple(levers))
    return row, [replace(d, levers=tuple(levers)) for d in found]


def _exceeded_in_cluster(work: Work, target: Target) -> list[Exceeded]:
    """The resources of one cluster that no way to build a layer keeps within; memory apart."""
    needs, _, _ = least_needs(work, target)
    return [
        Exceeded(resource=resource, need=need, have=have)
        for resource, need, have in zip(RESOURCES, needs, per_cluster(target), strict=True)
        if need > have and resource != "memory_units"
    ]


def _impossible(work: Work, target: Target, exceeded: list[Exceeded]) -> Iterator[Diagnostic]:
    """What no way to build a layer keeps within one cluster."""
    where = f"{work.name} on {target.name}"
    needs, engine, cycles = least_needs(work, target)
    for row in exceeded:
        of_inputs = row.resource == "input_aligners"
        why = f" (one for each of {len(work.operands)} tensors that it reads)" if of_inputs else ""
        rule = f"the layer needs more {RESOURCE_NAMES[row.resource]} than one cluster has, even in its smallest form"
        yield Diagnostic("E-COMPILE-CAPACITY", where, rule, f"{row.need}{why}", f"at most {row.have}")
    too_long = [
        (part, found, most)
        for part, found, most in (("row", engine, MOST_ENGINE_CYCLES), ("frame", cycles, MOST_CYCLES))
        if found > most
    ]
    for part, found, most in too_long:
        rule = f"a {part} of this layer takes more cycles than a stage can count, even in its fastest form"
        yield Diagnostic("E-COMPILE-CAPACITY", where, rule, str(found), f"at most {most}")
    if not (exceeded or too_long):
        got = ", ".join(f"{RESOURCE_NAMES[r]} ≥ {n}" for r, n in zip(RESOURCES, needs, strict=True))
        need = ", ".join(f"{RESOURCE_NAMES[r]} ≤ {n}" for r, n in zip(RESOURCES, per_cluster(target), strict=True))
        rule = "no way to build this layer keeps all limits of one cluster at once"
        yield Diagnostic("E-COMPILE-CAPACITY", where, rule, got, need)


def _layer_terms(work: Work, target: Target) -> tuple[MemoryTerm, ...]:
    """What a layer keeps in memory, largest first."""
    rows = [MemoryTerm(for_="of weights", bytes=work.weight_bytes)]
    for plane, rule in zip(work.operands, work.rules, strict=True):
        held = min(plane.height, (rule.kernel - 1) * rule.dilation + 1)
        rows.append(MemoryTerm(for_=f"for {held} rows of {plane.tensor}", bytes=held * plane.row_bytes))
    rows.append(MemoryTerm(for_=f"for a row of {work.output.tensor}", bytes=work.output.row_bytes))
    return tuple(sorted((row for row in rows if row.bytes), key=lambda row: (-row.bytes, row.for_)))


def _terms(shortage: Shortage, flow: Flow, resource: int) -> tuple[NeedOfLayer, ...]:
    pairs = [(use[resource], w.name) for use, w in zip(shortage.uses, flow.works, strict=False)]
    order = sorted(range(len(pairs)), key=lambda i: (-pairs[i][0], i))[:TERMS]
    return tuple(NeedOfLayer(layer=pairs[i][1], need=pairs[i][0]) for i in order)
