# SPDX-License-Identifier: Apache-2.0
"""Stages onto clusters.

Rule: a stage lies in one cluster, helpers included. Only memory may spill: a stage whose memory units exceed a whole
cluster's lies where its controllers are and takes the units it lacks from the clusters that have most left after all
stages are placed.

Order: stages come in topological order and stay near their producers (a snake). Where that leaves holes that are too
small, clusters are filled one by one with the stages that match what is left, then largest first; last, stages that are
too much for their cluster change places with others as long as that brings the excess down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.hn import Array
from headrace.mapping.resources import MEMORY, RESOURCES, Use, per_cluster, total
from headrace.targets import Target
from headrace.timing.work import Flow

EXCHANGES = 200  # moves and swaps of one attempt
MOST_OF_A_STAGE = 65535  # what a stage record holds


@dataclass
class _Room:
    """What is left in each cluster, per resource."""

    left: list[list[int]]

    def fits(self, cluster: int, use: Sequence[int]) -> bool:
        return all(have >= need for have, need in zip(self.left[cluster], use, strict=True))

    def take(self, cluster: int, use: Sequence[int]) -> None:
        for i, need in enumerate(use):
            self.left[cluster][i] -= need


def _room(target: Target, inputs: int) -> _Room:
    room = _Room([list(per_cluster(target)) for _ in range(target.clusters)])
    # Network inputs take a controller each, near the first stages.
    for _ in range(inputs):
        cluster = next((c for c in range(target.clusters) if room.left[c][0] > 0), 0)
        room.left[cluster][0] -= 1
    return room


def _local(uses: Sequence[Use], target: Target) -> list[Use]:
    """Uses as far as one cluster can hold them."""
    most = target.memory_units_per_cluster
    return [(*use[:MEMORY], min(use[MEMORY], most), *use[MEMORY + 1 :]) for use in uses]


def _spilled(uses: Sequence[Use], room: _Room, target: Target) -> bool:
    """Whether the memory that exceeds single clusters finds room elsewhere."""
    excess = sum(max(0, use[MEMORY] - target.memory_units_per_cluster) for use in uses)
    return excess <= sum(left[MEMORY] for left in room.left)


def producers_of(flow: Flow) -> list[list[int]]:
    """For each work, the works that produce its operands."""
    owner = {w.output.tensor: i for i, w in enumerate(flow.works)}
    return [[owner[p.tensor] for p in w.operands if p.tensor in owner] for w in flow.works]


def place_stages(uses: Sequence[Use], flow: Flow, target: Target, roots: Sequence[int] = ()) -> list[int] | None:
    """A cluster for each stage, or ``None`` when the stages do not divide over the clusters.

    Args:
        uses: of each stage; a shared controller counts with its first stage.
        flow: the graph.
        target: the device.
        roots: the stage whose controller each stage runs on; such stages lie together. Empty: each has its own.
    """
    if any(value > MOST_OF_A_STAGE for use in uses for value in use):
        return None
    owner = list(roots) or list(range(len(uses)))
    firsts = sorted(set(owner))
    unit = {first: i for i, first in enumerate(firsts)}
    joined = [total([use for use, root in zip(uses, owner, strict=True) if root == first]) for first in firsts]
    near: list[list[int]] = [[] for _ in firsts]
    for i, producers in enumerate(producers_of(flow)):
        mine = unit[owner[i]]
        near[mine] += [unit[owner[p]] for p in producers if unit[owner[p]] < mine]
    local = _local(joined, target)
    for strategy in (_snake, _matching, _largest_first, _exchange):
        room = _room(target, len(flow.inputs))
        result = strategy(local, near, room, target)
        if result is not None and _spilled(joined, room, target):
            return [result[unit[root]] for root in owner]
    return None


def _snake(uses: Sequence[Use], near: Sequence[Sequence[int]], room: _Room, target: Target) -> list[int] | None:
    """In topological order, with a producer where there is room, else as near as possible."""
    result: list[int] = []
    current = 0
    for i, use in enumerate(uses):
        around = sorted(range(target.clusters), key=lambda c, at=current: (abs(c - at), c))
        wish = [*(result[p] for p in reversed(near[i])), *around]
        found = next((c for c in wish if room.fits(c, use)), None)
        if found is None:
            return None
        room.take(found, use)
        result.append(found)
        current = found
    return result


def _matching(uses: Sequence[Use], near: Sequence[Sequence[int]], room: _Room, target: Target) -> list[int] | None:
    """Cluster by cluster, always the stage most like what the cluster has left (vector packing by dot product)."""
    del near
    need = np.array(uses, np.int64).reshape(-1, len(RESOURCES))
    have = np.array(room.left, np.int64)
    # A resource counts by how scarce it is over the whole device; whole numbers, so that ties break alike everywhere.
    most = np.maximum(have.max(axis=0), 1)
    weight = np.rint(need.sum(axis=0) / np.maximum(have.sum(axis=0), 1) / most / most * 2.0**24).astype(np.int64)
    result = np.full(len(uses), -1)
    for cluster in range(target.clusters):
        while True:
            left = np.array(room.left[cluster], np.int64)
            fits = (result < 0) & (need <= left).all(axis=1)
            if not fits.any():
                break
            best = int(np.where(fits, (need * (weight * left)).sum(axis=1), -1).argmax())
            room.take(cluster, uses[best])
            result[best] = cluster
    return None if (result < 0).any() else [int(c) for c in result]


def _largest_first(uses: Sequence[Use], near: Sequence[Sequence[int]], room: _Room, target: Target) -> list[int] | None:
    """First fit of the stages by falling share of a cluster."""
    del near
    result = [-1] * len(uses)
    for i in sorted(range(len(uses)), key=lambda i: (-_share(uses[i], target), i)):
        found = next((c for c in range(target.clusters) if room.fits(c, uses[i])), None)
        if found is None:
            return None
        room.take(found, uses[i])
        result[i] = found
    return result


def _exchange(uses: Sequence[Use], near: Sequence[Sequence[int]], room: _Room, target: Target) -> list[int] | None:
    """Largest first where most memory is left, limits aside; then the move or swap that lowers the excess most."""
    del near, target
    need, left = np.array(uses, np.int64).reshape(-1, len(RESOURCES)), np.array(room.left, np.int64)
    # Resources count by their share of a cluster, in whole numbers so that ties break alike everywhere.
    weight = (1 << 20) // np.maximum(left.max(axis=0), 1)
    at = np.zeros(len(need), np.int64)
    for i in np.lexsort((np.arange(len(need)), -need[:, MEMORY])):
        at[i] = int(np.lexsort((np.arange(len(left)), -left[:, MEMORY]))[0])
        left[at[i]] -= need[i]
    for _ in range(EXCHANGES):
        excess = (np.maximum(-left, 0) * weight).sum(axis=1)
        if not excess.any():
            for i, cluster in enumerate(at):
                room.take(int(cluster), uses[i])
            return [int(c) for c in at]
        worst = int(excess.argmax())
        step = _best_step(need, left, weight, at, worst, excess)
        if step is None:
            return None
        i, cluster, j = step
        left[worst] += need[i]
        left[cluster] -= need[i]
        at[i] = cluster
        if j is not None:
            left[cluster] += need[j]
            left[worst] -= need[j]
            at[j] = worst
    return None


def _best_step(
    need: Array, left: Array, weight: Array, at: Array, worst: int, excess: Array
) -> tuple[int, int, int | None] | None:
    """(stage, its new cluster, stage that comes back or None) that lowers the excess of all clusters most."""
    inside, outside = np.flatnonzero(at == worst), np.flatnonzero(at != worst)
    clusters = np.array([c for c in range(len(left)) if c != worst], np.int64)

    def cost(room: Array) -> Array:
        return (np.maximum(-room, 0) * weight).sum(axis=-1)

    moves = cost(left[worst] + need[inside][:, None]) + cost(left[clusters][None] - need[inside][:, None])
    moves = moves - excess[clusters][None] - excess[worst]
    swapped = need[inside][:, None] - need[outside][None]
    swaps = cost(left[worst] + swapped) + cost(left[at[outside]][None] - swapped)
    swaps = swaps - excess[at[outside]][None] - excess[worst]
    best_move, best_swap = int(moves.min(initial=0)), int(swaps.min(initial=0))
    if min(best_move, best_swap) >= 0:
        return None
    if best_move <= best_swap:
        i, c = np.unravel_index(int(moves.argmin()), moves.shape)
        return int(inside[i]), int(clusters[c]), None
    i, j = np.unravel_index(int(swaps.argmin()), swaps.shape)
    return int(inside[i]), int(at[outside[j]]), int(outside[j])


def _share(use: Use, target: Target) -> float:
    return max(u / limit for u, limit in zip(use, per_cluster(target), strict=True))


def cluster_totals(uses: Sequence[Use], clusters: Sequence[int], inputs: int, target: Target) -> list[Use]:
    """What each cluster holds, network inputs and spilled memory included."""
    room = _room(target, inputs)
    for use, cluster in zip(_local(uses, target), clusters, strict=True):
        room.take(cluster, use)
    excess = sum(max(0, use[MEMORY] - target.memory_units_per_cluster) for use in uses)
    while excess > 0:
        widest = max(range(target.clusters), key=lambda c: (room.left[c][MEMORY], -c))
        taken = min(excess, room.left[widest][MEMORY])
        if taken <= 0:
            break
        room.left[widest][MEMORY] -= taken
        excess -= taken
    full = per_cluster(target)
    return [tuple(f - n for f, n in zip(full, left, strict=True)) for left in room.left]
