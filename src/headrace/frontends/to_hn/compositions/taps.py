# SPDX-License-Identifier: Apache-2.0
"""Resampling as sums with known weights: which elements of an axis an output reads, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.hn import Array

#: Weights of one resampling matrix.
MAX_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class Taps:
    """``[outputs, taps]`` elements of an axis and their weights; a weight of 0 reads nothing."""

    indices: Array
    weights: Array

    def matrix(self, size: int) -> Array:
        """``[size, outputs]``."""
        outputs = len(self.indices)
        if size * outputs > MAX_WEIGHTS:
            raise Unsupported(f"a product of {size} elements by {outputs}", f"at most {MAX_WEIGHTS} weights")
        made = np.zeros((size, outputs))
        for tap in range(self.indices.shape[1]):
            np.add.at(made, (self.indices[:, tap], np.arange(outputs)), self.weights[:, tap])
        return made


def cubic_weight(distance: Array, coefficient: float) -> Array:
    """Keys' kernel at distances of any sign."""
    a, x = coefficient, np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def outside_repeated(indices: Array, weights: Array, size: int) -> Taps:
    """Beyond its ends the axis continues with its outermost elements."""
    return Taps(np.clip(indices, 0, size - 1), weights)


def outside_nothing(indices: Array, weights: Array, size: int) -> Taps:
    """Beyond its ends the axis is 0."""
    inside = (indices >= 0) & (indices < size)
    return Taps(np.clip(indices, 0, size - 1), weights * inside)


def outside_mirrored(indices: Array, weights: Array, size: int, ends: tuple[float, float]) -> Taps:
    """Beyond its ends the axis is mirrored at ``ends``."""
    return Taps(np.clip(np.rint(mirrored(indices.astype(np.float64), ends)).astype(np.int64), 0, size - 1), weights)


def mirrored(places: Array, ends: tuple[float, float]) -> Array:
    """Places beyond the ends, mirrored at them until they are inside."""
    low, high = ends
    span = high - low
    if span <= 0:
        return np.full_like(places, low)
    folded = np.mod(places - low, 2 * span)
    return low + np.where(folded > span, 2 * span - folded, folded)


def around(places: Array, mode: str, coefficient: float) -> tuple[Array, Array]:
    """``[outputs, taps]`` elements (perhaps outside) and weights: the nearest, two, or four."""
    base = np.floor(places)
    part = (places - base)[:, None]
    match mode:
        case "nearest":
            return np.rint(places).astype(np.int64)[:, None], np.ones((len(places), 1))
        case "linear":
            return base.astype(np.int64)[:, None] + np.arange(2), np.concatenate([1 - part, part], 1)
        case _:
            offsets = np.arange(-1, 3)
            return base.astype(np.int64)[:, None] + offsets, cubic_weight(part - offsets, coefficient)


def filtered(places: Array, scale: float, mode: str, coefficient: float, size: int) -> Taps:
    """Of shrinking by ``scale`` with a kernel as much wider, so that nothing is left out; weights add up to 1."""
    stretch = min(scale, 1.0)
    reach = (1.0 if mode == "linear" else 2.0) / stretch
    count = int(np.ceil(2 * reach)) + 1
    indices = np.floor(places - reach).astype(np.int64)[:, None] + 1 + np.arange(count)
    distance = (indices - places[:, None]) * stretch
    weights = np.maximum(1 - np.abs(distance), 0) if mode == "linear" else cubic_weight(distance, coefficient)
    weights = np.where(np.abs(distance) < reach * stretch, weights, 0.0)
    return outside_repeated(indices, weights / weights.sum(1, keepdims=True), size)
