# SPDX-License-Identifier: Apache-2.0
"""The options of all stages as arrays: many quick choices, and what no choice betters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from headrace.hn import Array
from headrace.mapping.options import Option, options_of
from headrace.mapping.resources import MEMORY, RESOURCES
from headrace.targets import Target
from headrace.timing.work import Work

ROUNDS = 24
PRICE_SCALE = 2.0**34
MOST_PRICED = 1 << 23
BOUND_SCALE = 1 << 20
# Each resource alone, and equally weighted sums of several.
MIXES = np.array([*np.eye(5), *([*m, 0, 0] for m in ((1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))), [1] * 5], np.int64)


class OptionTable:
    """All options of all stages as arrays, for many quick choices.

    Attributes:
        options: per stage, fastest first.
        cycles: int64 ``[stages, most options]``, padded with a value no limit reaches.
        use: int64 ``[stages, most options, resources]``.
    """

    NEVER = np.int64(1) << 60

    def __init__(self, options: Sequence[Sequence[Option]]) -> None:
        self.options = [list(o) for o in options]
        width = max((len(o) for o in self.options), default=0)
        self.cycles = np.full((len(self.options), width), self.NEVER, np.int64)
        self.use = np.zeros((len(self.options), width, len(RESOURCES)), np.int64)
        for i, row in enumerate(self.options):
            for j, option in enumerate(row):
                self.cycles[i, j] = option.cycles
                self.use[i, j] = option.use
        # What is larger than any device costs the same: prices times uses stay within 64 bits.
        self.priced = np.minimum(self.use, MOST_PRICED)

    @staticmethod
    def of(works: Sequence[Work], target: Target) -> OptionTable:
        """All Pareto options of works."""
        return OptionTable([options_of(work, target) for work in works])

    def part(self, first: int, last: int) -> OptionTable:
        """The table of works ``first`` … ``last - 1``, sharing this one's arrays."""
        part = object.__new__(OptionTable)
        part.options = self.options[first:last]
        part.cycles, part.use, part.priced = (a[first:last] for a in (self.cycles, self.use, self.priced))
        return part

    @cached_property
    def thresholds(self) -> tuple[int, ...]:
        """Every frame time at which the set of usable options changes and all stages have one, ascending."""
        if not self.options:
            return (1,)
        floor = int(self.cycles.min(axis=1).max())
        return tuple(v for v in self.values if v >= floor)

    @cached_property
    def values(self) -> tuple[int, ...]:
        """The cycles of all options, ascending."""
        return tuple(np.unique(self.cycles[self.cycles < self.NEVER]).tolist())

    def choose(self, period: int, limits: Sequence[int]) -> list[int] | None:
        """An option index per stage whose sums stay within ``limits``, or ``None``.

        Each has cycles ≤ ``period``; a stage that has no such option takes its fastest.
        """
        if not self.options:
            return []
        if min(limits) <= 0:
            return None
        usable = self.cycles <= np.maximum(period, self.cycles.min(axis=1))[:, None]
        ceiling = np.array(limits, np.float64)
        weights = np.ones(len(RESOURCES))
        rows = np.arange(len(self.options))
        for _ in range(ROUNDS):
            # Whole numbers, so that every machine breaks ties alike: sums of floats depend on the order of adding.
            price = np.rint(weights / ceiling * PRICE_SCALE).astype(np.int64)
            cost = np.where(usable, (self.priced * price).sum(axis=2), self.NEVER)
            chosen = cost.argmin(axis=1)
            if (cost[rows, chosen] >= self.NEVER).any():
                return None
            share = self.use[rows, chosen].sum(axis=0) / ceiling
            if share.max() <= 1:
                return [int(c) for c in chosen]
            squared = share * share
            weights = weights * np.maximum(squared * squared, 1e-24)
            weights = np.maximum(weights / weights.max(), 1e-9)
        return None

    def floor(self, limits: Sequence[int], buffers: Array | None = None, steps: Sequence[int] = ()) -> int | None:
        """No choice has a smaller frame time, or ``None``: no choice exists.

        Each resource alone, and every equally weighted sum of several, bounds the choices: if even the least sum of
        the stages' weighted uses exceeds the weighted limits, none fits.

        Args:
            limits: of all resources.
            buffers: int64 ``[stages]``, memory units that each stage needs whatever its option.
            steps: frame times to look at, ascending; below its fastest option a stage takes that. By default, those
                from which all stages have an option.
        """
        steps = steps or self.thresholds
        if min(limits) < 0 or not steps:
            return None
        use = self.priced
        if buffers is not None:
            use = use.copy()
            use[:, :, MEMORY] = np.clip(use[:, :, MEMORY] + buffers[:, None], 1, MOST_PRICED)
        # Whole prices: a bound that depended on rounding would not be one.
        unit = np.array([max(1, BOUND_SCALE // max(1, v)) for v in limits], np.int64)
        prices = MIXES * unit
        costs = use @ prices.T
        ceilings = prices @ np.array(limits, np.int64)

        fastest = self.cycles.min(axis=1)[:, None]

        def possible(period: int) -> bool:
            usable = (self.cycles <= np.maximum(period, fastest))[:, :, None]
            return bool((np.where(usable, costs, self.NEVER // 4096).min(axis=1).sum(axis=0) <= ceilings).all())

        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            if possible(steps[middle]):
                high = middle
            else:
                low = middle + 1
        return steps[low] if low < len(steps) else None

    def lower_bound(self, limits: Sequence[int]) -> int:
        """No choice has a smaller frame time."""
        found = self.floor(limits)
        return self.thresholds[-1] if found is None else found
