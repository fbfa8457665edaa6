# SPDX-License-Identifier: Apache-2.0
"""Histograms of tensors that merge exactly, and the ranges that follow from them.

Bins are ``[i·2^e, (i+1)·2^e)`` for integers i, and counts are integers. The exponent is the smallest for which the
bins from the least to the greatest value (zero included) are at most 2,048; widening by one power of two joins
neighbouring pairs of bins, which is exact. So the histogram of all data does not depend on how they were divided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from headrace.hn import Array
from headrace.numerics.quantization import from_range

BINS = 2048
LEAST_EXPONENT, GREATEST_EXPONENT = -120, 120
_SHRINKS = np.concatenate([np.linspace(1.0, 0.5, 41), np.linspace(0.48, 0.02, 24)])
_ROUNDS = 3


@dataclass(frozen=True)
class Histogram:
    """Counts of values.

    Attributes:
        exponent: bins are ``2^exponent`` wide.
        first: index of the first bin, ≤ 0: it starts at ``first · 2^exponent``.
        counts: int64, at most 2,048 of them.
    """

    exponent: int
    first: int
    counts: Array

    @classmethod
    def of(cls, values: torch.Tensor, low: float, high: float) -> Histogram:
        """Count a float32 tensor whose least and greatest values are ``low`` and ``high`` (finite)."""
        exponent, first, bins = _layout(low, high)
        # In float64 the scaling is exact; in float32 a tiny negative value would underflow to 0, another bin.
        index = values.double().mul_(2.0**-exponent).floor_().sub_(first)
        counts = torch.bincount(index.to(torch.int32).flatten(), minlength=bins)
        return cls(exponent, first, counts.numpy().astype(np.int64))

    @property
    def width(self) -> float:
        return 2.0**self.exponent

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def widened(self, exponent: int) -> Histogram:
        """The same values in bins of ``2^exponent``, which must not be narrower."""
        first, counts = self.first, self.counts
        for _ in range(exponent - self.exponent):
            if first % 2:
                first, counts = first - 1, np.concatenate([[0], counts])
            if len(counts) % 2:
                counts = np.concatenate([counts, [0]])
            first, counts = first // 2, counts.reshape(-1, 2).sum(axis=1)
        return Histogram(exponent, first, counts)

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of both sets of values; exact, commutative, associative."""
        exponent = max(self.exponent, other.exponent)
        while True:
            a, b = self.widened(exponent), other.widened(exponent)
            first, end = min(a.first, b.first), max(a.first + len(a.counts), b.first + len(b.counts))
            if end - first <= BINS:
                break
            exponent += 1
        counts = np.zeros(end - first, np.int64)
        for part in (a, b):
            counts[part.first - first : part.first - first + len(part.counts)] += part.counts
        return Histogram(exponent, first, counts)

    def percentile(self, low: float, high: float) -> tuple[float, float]:
        """Range that leaves at most ``low`` per cent of the values below it and ``100 - high`` above it."""
        running = np.cumsum(self.counts)
        total = int(running[-1])
        # A share that is a whole number of values but for float rounding is that number.
        below = int(np.searchsorted(running, math.floor(total * low / 100.0 + 1e-6), side="right"))
        above = int(np.searchsorted(running, math.ceil(total * high / 100.0 - 1e-6), side="left"))
        return (self.first + below) * self.width, (self.first + min(above, len(self.counts) - 1) + 1) * self.width

    def error(self, low: float, high: float, bits: int) -> float:
        """Σ (value - nearest code)² if the tensor were quantized to this range."""
        return float(self._errors(np.array([[low, high]]), bits)[0])

    def least_error(self, low: float, high: float, bits: int) -> tuple[float, float]:
        """The range inside [low, high] with the smallest sum of squared errors.

        Both ends are moved towards zero in turn, over a fixed list of fractions, from the full range on.
        """
        low, high = min(0.0, low), max(0.0, high)
        best = (low, high)
        for _ in range(_ROUNDS):
            before = best
            if high > 0:
                best = self._best(np.stack([np.full(_SHRINKS.size, best[0]), high * _SHRINKS], 1), bits)
            if low < 0:
                best = self._best(np.stack([low * _SHRINKS, np.full(_SHRINKS.size, best[1])], 1), bits)
            if best == before or low == 0 or high == 0:
                break
        return best

    def _best(self, candidates: Array, bits: int) -> tuple[float, float]:
        # The widest of equals: argmin takes the first, and shrinks go from 1 down.
        low, high = candidates[int(np.argmin(self._errors(candidates, bits)))]
        return float(low), float(high)

    def _errors(self, candidates: Array, bits: int) -> Array:
        used = np.flatnonzero(self.counts)
        counts = self.counts[used].astype(np.float64)
        centres = (self.first + used + 0.5) * self.width
        result = np.empty(len(candidates))
        for k, (low, high) in enumerate(candidates):
            q = from_range(float(low), float(high), bits)
            codes = np.clip(np.rint(centres / q.scale), -q.zero_point, q.high - q.zero_point)
            # Uniform inside a bin: E[(c + u - q)²] = (c - q)² + width²/12.
            result[k] = np.dot(counts, np.square(centres - codes * q.scale)) + counts.sum() * self.width**2 / 12.0
        return result


def _layout(low: float, high: float) -> tuple[int, int, int]:
    """(exponent, first bin, number of bins) for values in [low, high] and zero."""
    low, high = min(0.0, low), max(0.0, high)
    span = high - low
    exponent = LEAST_EXPONENT if span <= 0 else math.frexp(span / BINS)[1] - 1
    exponent = min(max(exponent, LEAST_EXPONENT), GREATEST_EXPONENT)
    while True:
        first, last = math.floor(low * 2.0**-exponent), math.floor(high * 2.0**-exponent)
        if last - first + 1 <= BINS:
            return exponent, first, last - first + 1
        exponent += 1
