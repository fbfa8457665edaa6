# SPDX-License-Identifier: Apache-2.0
"""What a network of any state would need of a target, without compiling it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.mapping.allocate import allocate_one_context, shortage_of
from headrace.mapping.resources import RESOURCES, Use, usable
from headrace.mapping.sharing import controller_loads
from headrace.mapping.stages import Allocation, Shortage, StageGraph, limits_of
from headrace.targets import Target
from headrace.timing.rates import ceil_div

BASIS = "closed form"


@dataclass(frozen=True)
class Estimate:
    """Closed-form figures for one target.

    Attributes:
        fits: the sums of all resources stay within one context of the device.
        fps: frames per second, 0 when it does not fit.
        clusters: least clusters whose sums hold the most frugal choice in one context.
        devices: the same in whole devices.
        need, have: per resource: of the chosen pipeline, or of the most frugal one when it does not fit.
    """

    target: str
    fits: bool
    fps: float
    latency_ms: float
    bottleneck: str
    clusters: int
    devices: int
    need: dict[str, int]
    have: dict[str, int]


def clusters_needed(need: Use, target: Target, inputs: int) -> int:
    """Least clusters whose resources hold these sums, network inputs included."""
    sums = (need[0] + inputs, *need[1:])
    return max(1, *(ceil_div(n * target.clusters, max(1, have)) for n, have in zip(sums, usable(target), strict=True)))


def bottleneck_of(allocation: Allocation) -> str:
    """The stage (or ``"host link"``) that decides the frame time."""
    stages = allocation.stages
    loads = controller_loads(allocation.options, allocation.roots)
    cycles = [stage.option.cycles for stage in stages]
    slowest = max(range(len(loads)), key=lambda i: (loads[i], cycles[i], -i), default=None)
    if slowest is None or allocation.link_cycles > loads[slowest]:
        return "host link"
    return stages[slowest].name


def estimate(graph: StageGraph, target: Target) -> Estimate:
    """Closed-form speed and size of a network on a target; sums only, nothing is placed."""
    limits = limits_of(target, graph)
    result = allocate_one_context(graph, target, limits)
    have = dict(zip(RESOURCES, limits.values, strict=True))
    if isinstance(result, Shortage):
        clusters = clusters_needed(result.need, target, len(graph.inputs))
        need = dict(zip(RESOURCES, result.need, strict=True))
        return Estimate(target.name, False, 0.0, 0.0, "", clusters, ceil_div(clusters, target.clusters), need, have)
    from_sums = shortage_of(graph, target, limits).need
    clusters = min(clusters_needed(from_sums, target, len(graph.inputs)), target.clusters)
    latency = 1e3 * result.latency / target.clock_hz
    need = dict(zip(RESOURCES, result.totals, strict=True))
    fps = target.clock_hz / result.period
    return Estimate(target.name, True, fps, latency, bottleneck_of(result), clusters, 1, need, have)
