# SPDX-License-Identifier: Apache-2.0
"""How fast a network could be on a target if one thing alone decided."""

from __future__ import annotations

from headrace.targets import Target
from headrace.timing.contexts import Partition


def bounds_of(plan: Partition, target: Target, weight_bytes: int) -> dict[str, float]:
    """Frames per second that each bound alone allows.

    Args:
        plan: the contexts; their flows say what has to be computed and moved.
        target: the device.
        weight_bytes: loaded once per batch, where there are several contexts.

    Returns:
        ``macs``: every multiplier of the device busy in every cycle. ``link``: the network's own inputs and outputs
        over the host link. ``weights``: loading all of them once per batch (several contexts only). ``layer``: the
        slowest layer in the fastest form that a cluster holds. ``allocation``: the allocator's lower bound.
    """
    allocations = [c.allocation for c in plan.contexts]
    macs = sum(w.macs for a in allocations for w in a.flow.works)
    boundary = {
        p.tensor: p for a in allocations for p in (*a.flow.inputs, *a.flow.outputs) if p.tensor not in a.flow.cuts
    }
    moved = sum(p.frame_bytes for p in boundary.values())
    units = target.clusters * target.subclusters_per_cluster * target.macs_per_subcluster
    slowest = max((row[0].cycles for a in allocations for row in a.alternatives), default=1)
    several = len(plan.contexts) > 1
    bounds = {
        "macs": units * target.clock_hz / max(1, macs),
        "link": target.link_bytes_per_second / max(1, moved),
        "layer": target.clock_hz / slowest,
        "allocation": target.clock_hz * (plan.batch if several else 1) / max(1, plan.lower_bound),
    }
    if several:
        bounds["weights"] = plan.batch * target.link_bytes_per_second / max(1, weight_bytes)
    return bounds


def hard_bound(bounds: dict[str, float]) -> str:
    """The lowest of the bounds that no allocation could change: multipliers, weights, link."""
    return min((name for name in ("macs", "weights", "link") if name in bounds), key=lambda name: bounds[name])
