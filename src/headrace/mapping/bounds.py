# SPDX-License-Identifier: Apache-2.0
"""How fast a network could be on a target if one thing alone decided."""

from __future__ import annotations

import numpy as np

from headrace.mapping.contexts import Partition, load_cycles
from headrace.mapping.memory import least_buffer_units
from headrace.mapping.option_table import OptionTable
from headrace.mapping.resources import RESOURCES, usable
from headrace.mapping.sharing import IN_TURN, least_controllers
from headrace.mapping.stages import UNLIMITED
from headrace.targets import Target
from headrace.timing.rates import ceil_div
from headrace.timing.rows import least_latencies


def bounds_of(plan: Partition, target: Target, weight_bytes: int) -> dict[str, float]:
    """Frames per second that each bound alone allows.

    Args:
        plan: the contexts; their flows say what has to be computed and moved.
        target: the device.
        weight_bytes: loaded once per batch, where there are several contexts.

    Returns:
        ``macs``: every multiplier of the device busy in every cycle. ``link``: the network's own inputs and outputs
        over the host link. ``weights``: loading all of them once per batch (several contexts only). ``layer``: the
        slowest layer in the fastest form that a cluster holds. ``allocation``: the allocator's lower bound for these
        candidate cuts. ``proven``: see :func:`least_cycles`.
    """
    allocations = [c.allocation for c in plan.contexts]
    macs = sum(s.work.macs for a in allocations for s in a.stages)
    graphs = [a.graph for a in allocations]
    boundary = {p.tensor: p for g in graphs for p in (*g.inputs, *g.outputs) if p.tensor not in g.cuts}
    moved = sum(p.frame_bytes for p in boundary.values())
    units = target.clusters * target.subclusters_per_cluster * target.macs_per_subcluster
    slowest = max((s.alternatives[0].cycles for a in allocations for s in a.stages), default=1)
    several = len(plan.contexts) > 1
    bounds = {
        "macs": units * target.clock_hz / max(1, macs),
        "link": target.link_bytes_per_second / max(1, moved),
        "layer": target.clock_hz / slowest,
        "allocation": target.clock_hz * (plan.batch if several else 1) / max(1, plan.lower_bound),
        "proven": target.clock_hz * (plan.batch if several else 1) / max(1, least_cycles(plan, target)),
    }
    if several:
        bounds["weights"] = plan.batch * target.link_bytes_per_second / max(1, weight_bytes)
    return bounds


def least_cycles(plan: Partition, target: Target) -> int:
    """Cycles per batch (of one context: per frame) that no choice of options, cuts and places betters.

    A stage holds its share of a resource for at least its own cycles of every frame time, so the least product of use
    and cycles, summed over all stages, fills the device for at least that long; cutting does not change it, nor do
    controllers that are shared. No frame time is shorter than the slowest layer's fastest form or the frame's own
    tensors over the link; no frame is through before the fastest form of everything lets it; the weights have to come
    once per batch; and several contexts are at least two, with a switch each. Where it is not certain that one context
    cannot hold everything, only what binds one context too counts. Each term is proven in docs/decisions/0024.
    """
    allocations = [c.allocation for c in plan.contexts]
    tables = [s.alternatives for a in allocations for s in a.stages]
    filled = max(
        ceil_div(sum(min(o.use[i] * o.cycles for o in row) for row in tables), have)
        for i, have in enumerate(usable(target))
        if RESOURCES[i] != "memory_units"  # weights stay from frame to frame
    )
    boundary = {p.tensor: (p, a.graph.flow) for a in allocations for p in (*a.graph.inputs, *a.graph.outputs)}
    link = sum(f.link_cycles(p, p.frame_bytes, target) for p, f in boundary.values() if p.tensor not in f.cuts)
    period = max(filled, link, max((row[0].cycles for row in tables), default=1))
    if len(plan.contexts) == 1:
        return period
    works = [s.work for a in allocations for s in a.stages]
    first = max(filled, link, least_latencies(works, tables)[-1])
    loads = load_cycles(sum(c.weight_bytes for c in plan.contexts), target) + plan.batch * link
    several = max(first + (plan.batch - 1) * period, loads) + 2 * plan.switch
    return several if _exceeds_one_context(plan, target) else min(several, plan.batch * period)


def _exceeds_one_context(plan: Partition, target: Target) -> bool:
    """Whether no choice of options, with controllers shared as far as rules allow, holds everything at once."""
    allocations = [c.allocation for c in plan.contexts]
    works = [s.work for a in allocations for s in a.stages]
    table = OptionTable([s.alternatives for a in allocations for s in a.stages])
    first = allocations[0]
    limits = list(first.limits.values)
    # The limits of any context, less a controller for each input of the network.
    limits[0] += len(first.graph.inputs)
    limits[0] -= len({p.tensor for a in allocations for p in a.graph.inputs if p.tensor not in a.graph.cuts})
    if least_controllers(works, table.options) > limits[0]:
        return True
    buffers = np.array([least_buffer_units(w, target) for w in works], np.int64)
    return table.floor([UNLIMITED if i in IN_TURN else n for i, n in enumerate(limits)], buffers) is None


def hard_bound(bounds: dict[str, float]) -> str:
    """The lowest of the bounds that no allocation could change: multipliers, weights, link."""
    return min((name for name in ("macs", "weights", "link") if name in bounds), key=lambda name: bounds[name])
