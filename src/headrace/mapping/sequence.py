# SPDX-License-Identifier: Apache-2.0
"""The cheapest cyclic sequence of runs, by dynamic programming over pairs of neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.hn import Array

NEVER = np.int64(1) << 60
MOST = np.int64(1) << 52  # cycles of one cost: sums of hundreds stay below NEVER


@dataclass
class Costs:
    """Cycles of every run between two candidate cuts, int64 ``[cuts, cuts]``; a run that cannot be has run NEVER.

    Attributes:
        run: a batch through the run's pipeline.
        streams: the link's share of it.
        reload: the run's weights over the link.
        free: link cycles that fill the memory which the run leaves free.
        switch: one change of context.
        whole: cycles of a batch where everything is one run that stays loaded.
    """

    run: Array
    streams: Array
    reload: Array
    free: Array
    switch: int
    whole: int = int(NEVER)

    @staticmethod
    def empty(cuts: int, switch: int) -> Costs:
        def full(value: int) -> Array:
            return np.full((cuts, cuts), value, np.int64)

        return Costs(full(int(NEVER)), full(0), full(0), full(0), min(switch, int(MOST)))

    def set(self, at: tuple[int, int], run: int, streams: int, reload: int, free: int) -> None:
        """Enter one run; what is beyond any use costs the most there is."""
        self.run[at] = min(run, int(MOST))
        self.streams[at] = min(streams, int(MOST))
        self.reload[at] = min(reload, int(MOST))
        self.free[at] = min(free, int(MOST))

    def turns(self, before: Array, start: int, after: Array, end: int | None = None) -> Array:
        """Turn of each run that begins at ``before`` and ends at ``start``, followed by each that ends at ``after``.

        Args:
            before: cuts where the running contexts begin.
            start: cut where they end and, unless ``end`` tells otherwise, the next ones begin.
            after: cuts where the next contexts end.
            end: cut where the running contexts end, if it is another one.
        """
        ends = start if end is None else end
        first = np.where(self.run[before, ends] >= NEVER, NEVER, self.run[before, ends])[:, None]
        ahead = np.minimum(self.reload[start, after][None, :], self.free[before, ends][:, None])
        wait = self.reload[start, after][None, :] - ahead
        turn = np.maximum(first, self.streams[before, ends][:, None] + ahead) + wait + self.switch
        return np.where((first >= NEVER) | (self.run[start, after][None, :] >= NEVER), NEVER, turn)


def cheapest_sequence(costs: Costs) -> tuple[int, list[tuple[int, int]]] | None:
    """Cost per batch and runs (as pairs of cuts' indices) of the cheapest sequence from the first cut to the last."""
    n = costs.run.shape[0]
    last = n - 1
    valid = costs.run < NEVER
    # total[f, a, b]: cheapest way that begins with run (0, f), ends with run (a, b), without that run's own turn.
    starts = np.flatnonzero(valid[0])
    total = np.full((starts.size, n, n), NEVER, np.int64)
    came = np.zeros((starts.size, n, n), np.int32)
    for i, f in enumerate(starts):
        total[i, 0, f] = 0
    for middle in range(1, last):
        before, after = np.flatnonzero(valid[:, middle]), np.flatnonzero(valid[middle])
        if not before.size or not after.size:
            continue
        sums = total[:, before, middle][:, :, None] + costs.turns(before, middle, after)[None]
        at = sums.argmin(axis=1)
        best = np.take_along_axis(sums, at[:, None], axis=1)[:, 0]
        total[:, middle, after] = np.minimum(best, NEVER)
        came[:, middle, after] = before[at]
    # One run that is everything stays loaded: no sequence that follows itself.
    total[starts == last, 0, last] = NEVER
    closing = np.arange(int(costs.run.shape[0]))
    ends = total[:, :, last] + costs.turns(closing, 0, starts, end=last).T
    found = int(ends.min(initial=NEVER))
    alone = costs.whole if valid[0, last] else int(NEVER)
    if min(found, alone) >= NEVER:
        return None
    if alone <= found:
        return alone, [(0, last)]
    i, a = (int(v) for v in np.unravel_index(int(ends.argmin()), ends.shape))
    path = [(a, last)]
    while path[-1][0] != 0:
        first, end = path[-1]
        path.append((int(came[i, first, end]), first))
    return found, path[::-1]
