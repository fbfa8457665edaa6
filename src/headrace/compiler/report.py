# SPDX-License-Identifier: Apache-2.0
"""What the allocator decided, and why nothing fits: data first. Every figure here is the closed form's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from headrace.errors import CapacityError, Diagnostic
from headrace.mapping import Allocation, ContextPlan, Option, Partition, Shortage, Turn, bottleneck_of, clusters_needed
from headrace.mapping.bounds import bounds_of, hard_bound
from headrace.mapping.estimate import BASIS
from headrace.mapping.levers import ALL, levers_of
from headrace.mapping.options import MOST_CYCLES, MOST_ENGINE_CYCLES, least_needs
from headrace.mapping.place import cluster_totals
from headrace.mapping.resources import RESOURCES, per_cluster
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
BATCHES = (1, 2, 4, 8, 16)


def _percent(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 1) if whole else 0.0


def _option(option: Option) -> dict[str, int]:
    return {
        "column_slices": option.column_slices,
        "feature_slices": option.feature_slices,
        "subclusters_per_slice": option.subclusters_per_slice,
    }


def next_better(option: Option, alternatives: list[Option]) -> dict[str, Any] | None:
    """The slowest option that is faster, and what it costs more; ``None`` at the layer's floor."""
    faster = [o for o in alternatives if o.cycles < option.cycles]
    if not faster:
        return None
    best = max(faster, key=lambda o: (o.cycles, tuple(-u for u in o.use)))
    extra = {name: b - a for name, a, b in zip(RESOURCES, option.use, best.use, strict=True)}
    return {**_option(best), "cycles": best.cycles, "extra": extra}


def schedule_of(plan: Partition, target: Target) -> dict[str, Any]:
    """The whole schedule as JSON values; with several contexts every row says which."""
    clusters: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    for number, context in enumerate(plan.contexts):
        clusters += [{"context": number} | row for row in _clusters(context.allocation, target)]
        layers += [{"context": number} | row for row in _layers(context.allocation)]
    if len(plan.contexts) == 1:
        for row in (*clusters, *layers):
            del row["context"]
    return summary_of(plan, target) | {"clusters": clusters, "layers": layers}


def _layers(allocation: Allocation) -> list[dict[str, Any]]:
    uses, layers = allocation.uses, []
    for i, (work, option) in enumerate(zip(allocation.flow.works, allocation.options, strict=True)):
        layers.append(
            {
                "name": work.name,
                "kind": work.kind,
                "cluster": allocation.clusters[i],
                "option": _option(option),
                **dict(zip(RESOURCES, uses[i], strict=True)),
                "weight_units": option.weight_units,
                "buffer_units": allocation.buffer_units[i],
                "cycles": option.cycles,
                "utilization": _percent(option.cycles, allocation.period),
                "bound": option.bound,
                "rows": option.rows,
                "row_cycles": {
                    "engine": option.engine_row,
                    "input_port": option.input_row,
                    "output_port": option.output_row,
                    "overhead": option.overhead,
                },
                "macs": work.macs,
                "weight_bytes": work.weight_bytes,
                "next_better": next_better(option, allocation.alternatives[i]),
                "buffers": _buffers(allocation, work.name),
            }
        )
        if allocation.roots and allocation.roots[i] != i:
            layers[-1]["shares_controller_of"] = allocation.flow.works[allocation.roots[i]].name
    return layers


def _buffers(allocation: Allocation, name: str) -> list[dict[str, Any]]:
    """Line buffers of one stage: its operands', and the host's of what it produces."""
    flow = allocation.flow
    heights = {p.tensor: p.height for w in flow.works for p in (*w.operands, w.output)}
    return [
        {
            "tensor": b.tensor,
            "to": b.consumer or "host",
            "operand": b.operand,
            "rows": b.rows,
            "bytes": b.size,
            "frames": round(b.rows / heights[b.tensor], 3),
        }
        for b in allocation.rows.buffers
        if b.consumer == name or (b.consumer is None and b.tensor == name)
    ]


def summary_of(plan: Partition, target: Target) -> dict[str, Any]:
    """Figures of the whole network."""
    if len(plan.contexts) == 1:
        figures = _pipeline(plan.contexts[0].allocation, target)
        return {"basis": BASIS, "target": target.name, "contexts": 1} | figures | _bounds(plan, target, figures["fps"])
    cycles, bound, batch = plan.cycles, plan.lower_bound, plan.batch
    turns = plan.turns(batch)
    rows = [_context(i, c, turn, target) for i, (c, turn) in enumerate(zip(plan.contexts, turns, strict=True))]
    most = {n: max(r["totals"][n] for r in rows) for n in RESOURCES}
    loading = sum(c.reload_cycles + plan.switch for c in plan.contexts)
    streams = sum(c.stream_cycles(batch) for c in plan.contexts)
    slowest = max(plan.contexts, key=lambda c: c.allocation.period).allocation
    return {
        "basis": BASIS,
        "target": target.name,
        "contexts": len(plan.contexts),
        "batch": batch,
        "cycles_per_batch": cycles,
        "cycles_per_frame": ceil_div(cycles, batch),
        "fps": round(batch * target.clock_hz / cycles, 3),
        **_bounds(plan, target, batch * target.clock_hz / cycles),
        "fps_by_batch": {str(b): round(b * target.clock_hz / plan.cycles_of(b), 3) for b in BATCHES},
        "latency_ms": round(1e3 * plan.latency / target.clock_hz, 6),
        "latency_cycles": plan.latency,
        "bottleneck": "host link" if loading + streams > sum(t.run for t in turns) else bottleneck_of(slowest),
        "loading_cycles_per_batch": loading,
        "link_bytes_per_frame": sum(c.allocation.flow.link_bytes for c in plan.contexts),
        "weight_bytes": sum(c.weight_bytes for c in plan.contexts),
        "lower_bound_cycles": ceil_div(bound, batch),
        "gap_percent": round(100.0 * (cycles - bound) / bound, 2),
        "search": {"cuts": plan.candidates, "allocations": plan.evaluations, "optimal": plan.optimal},
        "totals": most,
        "limits": {n: max(r["limits"][n] for r in rows) for n in RESOURCES},
        "utilization": {n: max(r["utilization"][n] for r in rows) for n in RESOURCES},
        "parts": rows,
    }


def _bounds(plan: Partition, target: Target, fps: float) -> dict[str, Any]:
    """What each thing alone would allow, and how near to the hardest of them the network comes."""
    bounds = bounds_of(plan, target, sum(c.weight_bytes for c in plan.contexts))
    hardest = hard_bound(bounds)
    return {
        "bounds_fps": {name: round(value, 3) for name, value in sorted(bounds.items())},
        "bound_by": hardest,
        "efficiency_percent": round(100.0 * fps / bounds[hardest], 1),
        "proven_percent": round(100.0 * fps / bounds["proven"], 1),
    }


def _context(index: int, context: ContextPlan, turn: Turn, target: Target) -> dict[str, Any]:
    """One of several contexts."""
    flow = context.allocation.flow
    return {
        "context": index,
        "layers": len(flow.works),
        "first": flow.works[0].name,
        "last": flow.works[-1].name,
        "cycles_per_batch": turn.cycles,
        "reload_cycles": context.reload_cycles,
        "loaded_ahead_cycles": turn.loaded_ahead,
        "waited_cycles": turn.waited,
        "overrun_cycles": turn.overrun,
        "switch_cycles": turn.switch,
        "run_cycles": turn.run,
        "weight_bytes": context.weight_bytes,
        "cut_input_bytes": context.cut_input_bytes,
        "cut_output_bytes": context.cut_output_bytes,
    } | _pipeline(context.allocation, target)


def _pipeline(allocation: Allocation, target: Target) -> dict[str, Any]:
    """Figures of one context's pipeline on its own."""
    period, bound = allocation.period, allocation.lower_bound
    totals = dict(zip(RESOURCES, allocation.totals, strict=True))
    return {
        "cycles_per_frame": period,
        "fps": round(target.clock_hz / period, 3),
        "latency_ms": round(1e3 * allocation.rows.latency / target.clock_hz, 6),
        "latency_cycles": allocation.rows.latency,
        "bottleneck": bottleneck_of(allocation),
        "link_cycles_per_frame": allocation.link_cycles,
        "link_bytes_per_frame": allocation.flow.link_bytes,
        "lower_bound_cycles": bound,
        "gap_percent": round(100.0 * (period - bound) / bound, 2),
        "totals": totals | {"input_controllers": len(allocation.flow.inputs)},
        "limits": dict(zip(RESOURCES, allocation.limits.values, strict=True)),
        "utilization": {n: _percent(totals[n], v) for n, v in zip(RESOURCES, allocation.limits.values, strict=True)},
    }


def _clusters(allocation: Allocation, target: Target) -> list[dict[str, Any]]:
    full = per_cluster(target)
    names = ("control", "compute", "memory", "activation_units", "input_aligners")
    rows: list[dict[str, Any]] = []
    for i, used in enumerate(cluster_totals(allocation.uses, allocation.clusters, len(allocation.flow.inputs), target)):
        row: dict[str, Any] = {"cluster": i}
        for name, u, f in zip(names, used, full, strict=True):
            row[name] = {"used": u, "of": f, "percent": _percent(u, f)}
        rows.append(row)
    return rows


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
    clusters = clusters_needed(whole.need, target, len(flow.inputs))
    report: dict[str, Any] = {
        "basis": BASIS,
        "target": target.name,
        "network": name,
        "clusters_needed": clusters,
        "devices_needed": ceil_div(clusters, target.clusters),
        "resources": [
            {
                "resource": resource,
                "need": whole.need[i],
                "have": whole.have[i],
                "exceeded": whole.need[i] > whole.have[i],
                "terms": _terms(whole, flow, i),
            }
            for i, resource in enumerate(RESOURCES)
        ],
        "layers": [],
    }
    works = {w.name: w for w in flow.works}
    diagnostics: list[Diagnostic] = []
    levers: dict[str, None] = {}
    for number, (layer, shortage) in enumerate(failing.items()):
        tried = levers_of(works[layer], target, shares) if number < MOST_TRIED else []
        row, found = _failing(works[layer], shortage, target, tried)
        report["layers"].append(row)
        diagnostics += found
        levers |= dict.fromkeys(row["levers"])
    if not diagnostics:
        general = ("leave out the utilisation ceilings",) if shares != ALL else ()
        levers |= dict.fromkeys(general)
        rule = "every layer fits a context, but no sequence of contexts was found"
        diagnostics.append(
            Diagnostic("E-COMPILE-PLACE", f"{name} on {target.name}", rule, "none", "at least one", general)
        )
    report["levers"] = list(levers)
    return CapacityError(diagnostics, report)


def _failing(
    work: Work, shortage: Shortage, target: Target, levers: list[str]
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """A layer that fits no context: as data and as diagnostics."""
    where = f"{work.name} on {target.name}"
    row: dict[str, Any] = {"layer": work.name, "kind": work.kind, "resources": [], "terms": _layer_terms(work, target)}
    found: list[Diagnostic] = list(_impossible(work, target, row)) if shortage.impossible else []
    for resource, need, have in zip(RESOURCES, shortage.need, shortage.have, strict=True):
        if need <= have:
            continue
        row["resources"].append({"resource": resource, "need": need, "have": have})
        terms = ", ".join(f"{t['bytes']} bytes {t['for']}" for t in row["terms"][:4])
        rule = f"the layer needs more {RESOURCE_NAMES[resource]} than one context has, even in its smallest form"
        got = f"{need} ({terms})" if resource == "memory_units" else str(need)
        if resource == "controllers":  # each tensor that comes in takes one too
            inputs = len({p.tensor for p in work.operands})
            need, have = need + inputs, have + inputs
            got = f"{need}, {inputs} of them for tensors that come in"
        found.append(Diagnostic("E-COMPILE-CAPACITY", where, rule, got, f"at most {have}"))
    if not found:
        rule = "all sums fit, but the layer does not divide over the clusters"
        got = f"{shortage.uses[0] if shortage.uses else ()} ({', '.join(RESOURCE_NAMES.values())})"
        found.append(Diagnostic("E-COMPILE-PLACE", where, rule, got, "resources side by side in one cluster"))
    row["levers"] = levers
    return row, [replace(d, levers=tuple(levers)) for d in found]


def _impossible(work: Work, target: Target, row: dict[str, Any]) -> Iterator[Diagnostic]:
    """What no way to build a layer keeps within one cluster; ``row`` gets the resources."""
    where = f"{work.name} on {target.name}"
    needs, engine, cycles = least_needs(work, target)
    alone = False
    for resource, need, have in zip(RESOURCES, needs, per_cluster(target), strict=True):
        if need <= have or resource == "memory_units":
            continue
        alone = True
        row["resources"].append({"resource": resource, "need": need, "have": have})
        why = f" (one for each of {len(work.operands)} tensors that it reads)" if resource == "input_aligners" else ""
        rule = f"the layer needs more {RESOURCE_NAMES[resource]} than one cluster has, even in its smallest form"
        yield Diagnostic("E-COMPILE-CAPACITY", where, rule, f"{need}{why}", f"at most {have}")
    too_long = [
        (part, found, most)
        for part, found, most in (("row", engine, MOST_ENGINE_CYCLES), ("frame", cycles, MOST_CYCLES))
        if found > most
    ]
    for part, found, most in too_long:
        rule = f"a {part} of this layer takes more cycles than a stage can count, even in its fastest form"
        yield Diagnostic("E-COMPILE-CAPACITY", where, rule, str(found), f"at most {most}")
    if not (alone or too_long):
        got = ", ".join(f"{RESOURCE_NAMES[r]} ≥ {n}" for r, n in zip(RESOURCES, needs, strict=True))
        need = ", ".join(f"{RESOURCE_NAMES[r]} ≤ {n}" for r, n in zip(RESOURCES, per_cluster(target), strict=True))
        rule = "no way to build this layer keeps all limits of one cluster at once"
        yield Diagnostic("E-COMPILE-CAPACITY", where, rule, got, need)


def _layer_terms(work: Work, target: Target) -> list[dict[str, Any]]:
    """What a layer keeps in memory, largest first."""
    rows = [{"for": "of weights", "bytes": work.weight_bytes}]
    for plane, rule in zip(work.operands, work.rules, strict=True):
        held = min(plane.height, (rule.kernel - 1) * rule.dilation + 1)
        rows.append({"for": f"for {held} rows of {plane.tensor}", "bytes": held * plane.row_bytes})
    rows.append({"for": f"for a row of {work.output.tensor}", "bytes": work.output.row_bytes})
    return sorted((r for r in rows if r["bytes"]), key=lambda r: (-int(str(r["bytes"])), str(r["for"])))


def _terms(shortage: Shortage, flow: Flow, resource: int) -> list[dict[str, Any]]:
    pairs = [(use[resource], w.name) for use, w in zip(shortage.uses, flow.works, strict=False)]
    order = sorted(range(len(pairs)), key=lambda i: (-pairs[i][0], i))[:TERMS]
    return [{"layer": pairs[i][1], "need": pairs[i][0]} for i in order]
