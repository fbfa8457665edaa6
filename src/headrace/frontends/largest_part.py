# SPDX-License-Identifier: Apache-2.0
"""The part of a graph that is worth most, when some nodes cannot be in it and no path may leave it and come back.

Every node is before the part, in it, or behind it, and no edge leads back. A node that cannot be in it is before or
behind; these choices settle all others. They are made so that the weight of what is neither is greatest, which is a
minimum cut: a node is lost when something that leads to it is behind, or something that it leads to is before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Side(IntEnum):
    """Where a node is."""

    BEFORE = 0
    INSIDE = 1
    BEHIND = 2


#: Edges of the cut above which prefixes of the excluded nodes are tried in place of all choices.
_MOST_EDGES = 200_000


@dataclass(frozen=True)
class _Reach:
    """Excluded nodes that lead to each node, and that it leads to, as sets of bits; of an excluded one itself too."""

    above: list[int]
    below: list[int]


def largest_part(reads: Sequence[Sequence[int]], weights: Sequence[int], excluded: Sequence[bool]) -> list[Side]:
    """The side of every node.

    Args:
        reads: of each node the nodes that it reads, all of smaller number.
        weights: of each node, at least 0.
        excluded: nodes that cannot be inside.
    """
    outside = [i for i, bad in enumerate(excluded) if bad]
    if not outside:
        return [Side.INSIDE] * len(reads)
    reach = _reach(reads, outside)
    before = _chosen(reach, weights, excluded, outside)
    sides: list[Side] = []
    for above, below in zip(reach.above, reach.below, strict=True):
        if below & before:
            sides.append(Side.BEFORE)
        elif above & ~before:
            sides.append(Side.BEHIND)
        else:
            sides.append(Side.INSIDE)
    return sides


def _reach(reads: Sequence[Sequence[int]], outside: Sequence[int]) -> _Reach:
    above, below = [0] * len(reads), [0] * len(reads)
    for bit, node in enumerate(outside):
        above[node] |= 1 << bit
        below[node] |= 1 << bit
    for node, makers in enumerate(reads):
        for maker in makers:
            above[node] |= above[maker]
    for node in range(len(reads) - 1, -1, -1):
        for maker in reads[node]:
            below[maker] |= below[node]
    return _Reach(above, below)


def _chosen(reach: _Reach, weights: Sequence[int], excluded: Sequence[bool], outside: Sequence[int]) -> int:
    """The excluded nodes that are before the part, as bits."""
    groups: dict[tuple[int, int], int] = {}
    for i, weight in enumerate(weights):
        if not excluded[i] and weight:
            key = reach.above[i], reach.below[i]
            groups[key] = groups.get(key, 0) + weight
    edges = sum(above.bit_count() + below.bit_count() for above, below in groups)
    edges += sum(reach.above[node].bit_count() for node in outside)
    if edges > _MOST_EDGES:
        return _best_prefix(groups, len(outside))
    return _minimum_cut(groups, [reach.above[node] for node in outside])


def _best_prefix(groups: dict[tuple[int, int], int], count: int) -> int:
    """The first so many excluded nodes, in the order of the graph, with which most is gained."""
    gains = [0] * (count + 2)
    for (above, below), weight in groups.items():
        least = above.bit_length()  # as many at least have to be before
        most = (below & -below).bit_length() - 1 if below else count  # and no more than these
        if least <= most:
            gains[least] += weight
            gains[most + 1] -= weight
    best = total = chosen = 0
    for size in range(count + 1):
        total += gains[size]
        if total > best:
            best, chosen = total, size
    return (1 << chosen) - 1


def _minimum_cut(groups: dict[tuple[int, int], int], order: Sequence[int]) -> int:
    """As bits, the excluded nodes on the near side of a minimum cut.

    Vertices: one for each excluded node (reached: it is behind), two for each group (reached: it is not before; it is
    behind). ``order[i]`` are the excluded nodes that lead to the i-th.
    """
    count = len(order)
    flow = _Flow(count + 2 * len(groups) + 2)
    source, sink = count + 2 * len(groups), count + 2 * len(groups) + 1
    endless = sum(groups.values()) + 1
    for node, above in enumerate(order):
        for other in _bits(above):
            if other != node:
                flow.edge(other, node, endless)
    for i, ((above, below), weight) in enumerate(groups.items()):
        late, last = count + 2 * i, count + 2 * i + 1
        flow.edge(source, late, weight)
        flow.edge(last, sink, weight)
        flow.edge(last, late, endless)
        for node in _bits(below):
            flow.edge(late, node, endless)
        for node in _bits(above):
            flow.edge(node, last, endless)
    behind = flow.near_side(source, sink)
    return sum(1 << node for node in range(count) if not behind[node])


def _bits(value: int) -> list[int]:
    found: list[int] = []
    while value:
        low = value & -value
        found.append(low.bit_length() - 1)
        value ^= low
    return found


class _Flow:
    """Maximum flow by shortest paths in levels (Dinic)."""

    def __init__(self, vertices: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(vertices)]
        self._to: list[int] = []
        self._left: list[int] = []

    def edge(self, start: int, end: int, capacity: int) -> None:
        for a, b, room in ((start, end, capacity), (end, start, 0)):
            self._edges[a].append(len(self._to))
            self._to.append(b)
            self._left.append(room)

    def near_side(self, source: int, sink: int) -> list[bool]:
        """The vertices that a minimum cut leaves with the source."""
        while True:
            level = self._levels(source)
            if level[sink] < 0:
                return [depth >= 0 for depth in level]
            place = [0] * len(self._edges)
            while self._push(source, sink, level, place):
                pass

    def _levels(self, source: int) -> list[int]:
        level = [-1] * len(self._edges)
        level[source] = 0
        queue = [source]
        for vertex in queue:
            for edge in self._edges[vertex]:
                if self._left[edge] and level[self._to[edge]] < 0:
                    level[self._to[edge]] = level[vertex] + 1
                    queue.append(self._to[edge])
        return level

    def _push(self, source: int, sink: int, level: list[int], place: list[int]) -> bool:
        """Send flow along one path of the levels; False where there is none."""
        path: list[int] = []
        vertex = source
        while vertex != sink:
            edges = self._edges[vertex]
            while place[vertex] < len(edges):
                edge = edges[place[vertex]]
                if self._left[edge] and level[self._to[edge]] == level[vertex] + 1:
                    break
                place[vertex] += 1
            if place[vertex] < len(edges):
                path.append(edges[place[vertex]])
                vertex = self._to[path[-1]]
            elif path:
                back = path.pop()
                vertex = self._to[back ^ 1]
                place[vertex] += 1
            else:
                return False
        amount = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= amount
            self._left[edge ^ 1] += amount
        return True


__all__ = ["Side", "largest_part"]
