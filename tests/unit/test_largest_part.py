# SPDX-License-Identifier: Apache-2.0
"""The largest part of a graph, against every choice."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from headrace.frontends import largest_part as module
from headrace.frontends.largest_part import Side, largest_part


def gain(reads: list[list[int]], weights: list[int], sides: list[Side]) -> int:
    """The weight inside; fails where an edge leads back."""
    for node, makers in enumerate(reads):
        assert all(sides[maker] <= sides[node] for maker in makers)
    return sum(w for w, s in zip(weights, sides, strict=True) if s is Side.INSIDE)


def best(reads: list[list[int]], weights: list[int], excluded: list[bool]) -> int:
    found = 0
    for sides in itertools.product(Side, repeat=len(reads)):
        if any(bad and s is Side.INSIDE for bad, s in zip(excluded, sides, strict=True)):
            continue
        if all(sides[m] <= sides[n] for n, makers in enumerate(reads) for m in makers):
            found = max(found, sum(w for w, s in zip(weights, sides, strict=True) if s is Side.INSIDE))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_no_choice_is_better(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 8)
    reads = [[m for m in range(n) if rng.random() < 0.35] for n in range(count)]
    weights = [rng.randint(0, 9) for _ in range(count)]
    excluded = [rng.random() < 0.4 for _ in range(count)]
    sides = largest_part(reads, weights, excluded)
    assert not any(bad and s is Side.INSIDE for bad, s in zip(excluded, sides, strict=True))
    assert gain(reads, weights, sides) == best(reads, weights, excluded)


def test_two_streams_are_cut_on_both_sides() -> None:
    # Two networks beside one another, each between a step that cannot be inside: 0 → 1 → 2, 3 → 4 → 5.
    reads = [[], [0], [1], [], [3], [4]]
    sides = largest_part(reads, [1, 9, 1, 1, 9, 1], [True, False, True, True, False, True])
    assert sides == [Side.BEFORE, Side.INSIDE, Side.BEHIND] * 2


def test_many_excluded_nodes_take_no_long_time(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 6000
    reads = [[n - 1] if n else [] for n in range(count)]
    excluded = [n % 3 == 0 and n != 3000 for n in range(count)]
    start = time.perf_counter()
    sides = largest_part(reads, [1 + n % 7 for n in range(count)], excluded)
    assert time.perf_counter() - start < 20
    assert gain(reads, [1 + n % 7 for n in range(count)], sides) > 0
    monkeypatch.setattr(module, "_MOST_EDGES", 0)
    few = [[0] * 0, [0], [1], [2], [3]]
    assert largest_part(few, [5, 1, 4, 1, 9], [False, True, False, True, False])[4] is Side.INSIDE
