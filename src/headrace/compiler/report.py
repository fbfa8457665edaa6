# SPDX-License-Identifier: Apache-2.0
"""What the allocator decided, and why nothing fits: data first. Every figure here is the closed form's."""

from __future__ import annotations

from typing import Any

from headrace.compiler.place import cluster_totals
from headrace.errors import CapacityError, Diagnostic
from headrace.targets import Target
from headrace.timing import Allocation, Flow, Option, Shortage, bottleneck_of, clusters_needed
from headrace.timing.allocate import RESOURCES
from headrace.timing.estimate import BASIS
from headrace.timing.options import ceil_div

RESOURCE_NAMES = {
    "controllers": "layer controllers (control)",
    "subclusters": "sub-clusters (compute)",
    "memory_units": "memory units (memory)",
}
TERMS = 8


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


def schedule_of(allocation: Allocation, target: Target) -> dict[str, Any]:
    """The whole schedule as JSON values."""
    uses = allocation.uses
    layers: list[dict[str, Any]] = []
    for i, (work, option) in enumerate(zip(allocation.flow.works, allocation.options, strict=True)):
        buffers = [
            b
            for b in allocation.rows.buffers
            if b.consumer == work.name or (b.consumer is None and b.tensor == work.name)
        ]
        heights = {p.tensor: p.height for p in (*work.operands, work.output)}
        layers.append(
            {
                "name": work.name,
                "kind": work.kind,
                "cluster": allocation.clusters[i],
                "option": _option(option),
                "controllers": uses[i][0],
                "subclusters": uses[i][1],
                "memory_units": uses[i][2],
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
                "buffers": [
                    {
                        "tensor": b.tensor,
                        "to": b.consumer or "host",
                        "operand": b.operand,
                        "rows": b.rows,
                        "bytes": b.size,
                        "frames": round(b.rows / heights[b.tensor], 3),
                    }
                    for b in buffers
                ],
            }
        )
    return summary_of(allocation, target) | {"clusters": _clusters(allocation, target), "layers": layers}


def summary_of(allocation: Allocation, target: Target) -> dict[str, Any]:
    """Figures of the whole pipeline."""
    period, bound = allocation.period, allocation.lower_bound
    totals = dict(zip(RESOURCES, allocation.totals, strict=True))
    return {
        "basis": BASIS,
        "target": target.name,
        "contexts": 1,
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
    full = (target.controllers_per_cluster, target.subclusters_per_cluster, target.memory_units_per_cluster)
    names = ("control", "compute", "memory")
    rows: list[dict[str, Any]] = []
    for i, used in enumerate(cluster_totals(allocation.uses, allocation.clusters, len(allocation.flow.inputs), target)):
        row: dict[str, Any] = {"cluster": i}
        for name, u, f in zip(names, used, full, strict=True):
            row[name] = {"used": u, "of": f, "percent": _percent(u, f)}
        rows.append(row)
    return rows


def capacity_error(shortage: Shortage, flow: Flow, target: Target, name: str) -> CapacityError:
    """The answer when no pipeline of one context fits: resource, need, have, terms, levers."""
    have = shortage.have
    clusters = clusters_needed(shortage.need, target, len(flow.inputs))
    devices = ceil_div(clusters, target.clusters)
    report: dict[str, Any] = {
        "basis": BASIS,
        "target": target.name,
        "network": name,
        "contexts": 1,
        "clusters_needed": clusters,
        "devices_needed": devices,
        "resources": [],
    }
    levers = _levers(target, devices, shortage)
    diagnostics: list[Diagnostic] = []
    for i, resource in enumerate(RESOURCES):
        terms = _terms(shortage, flow, i)
        over = shortage.need[i] > have[i]
        report["resources"].append(
            {"resource": resource, "need": shortage.need[i], "have": have[i], "exceeded": over, "terms": terms}
        )
        if over:
            largest = ", ".join(f"{t['layer']} {t['need']}" for t in terms[:3])
            diagnostics.append(
                Diagnostic(
                    "E-COMPILE-CAPACITY",
                    f"{name} on {target.name}",
                    f"the network needs more {RESOURCE_NAMES[resource]} than one "
                    "context has, even in its slowest, smallest form",
                    f"{shortage.need[i]} (largest: {largest})",
                    f"at most {have[i]}",
                    levers,
                )
            )
    for layer in shortage.impossible:
        rule = "no way to build this layer fits one cluster"
        diagnostics.append(
            Diagnostic("E-COMPILE-CAPACITY", layer, rule, "every option is larger", "one cluster's resources", levers)
        )
    if shortage.unplaceable and not diagnostics:
        largest = ", ".join(f"{t['layer']} {t['need']}" for t in _terms(shortage, flow, 2)[:3])
        diagnostics.append(
            Diagnostic(
                "E-COMPILE-PLACE",
                f"{name} on {target.name}",
                "all sums fit the device, but the stages do not divide over its clusters",
                f"largest memory: {largest}",
                f"stages of at most {target.memory_units_per_cluster} memory units side by side",
                levers,
            )
        )
    report["levers"] = list(levers)
    return CapacityError(diagnostics, report)


def _terms(shortage: Shortage, flow: Flow, resource: int) -> list[dict[str, Any]]:
    pairs = [(use[resource], w.name) for use, w in zip(shortage.uses, flow.works, strict=False)]
    order = sorted(range(len(pairs)), key=lambda i: (-pairs[i][0], i))[:TERMS]
    return [{"layer": pairs[i][1], "need": pairs[i][0]} for i in order]


def _levers(target: Target, devices: int, shortage: Shortage) -> tuple[str, ...]:
    levers = ["use a smaller input resolution, or a network with fewer layers or weights"]
    if devices > 1:
        levers.append(
            f"stay in one context with {devices} devices' worth of {target.name}, or a larger target (headrace devices)"
        )
    if shortage.need[2] > shortage.have[2]:
        levers.append("cut the network behind its last convolutions and run large fully connected layers on the host")
    levers.append("several contexts are not built yet (they are planned): until then a network must fit one context")
    return tuple(levers)
