# SPDX-License-Identifier: Apache-2.0
"""Reference of the forms that the first kernels refuse: two zero points, 16 bits; bilinear."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.numerics.array import Array

BILINEAR_BITS = 11


def dot(x: Array, x_zero: int, w: Array, w_zero: int, bias: Array) -> Array:
    """``bias + Σ (x - x_zero)(w - w_zero)``; x ``[N, K]`` and w ``[K, C]`` of integers, int64 ``[N, C]`` out."""
    return np.matmul(x.astype(np.int64) - x_zero, w.astype(np.int64) - w_zero) + bias.astype(np.int64)


def dot_expanded(x: Array, x_zero: int, w: Array, w_zero: int, bias: Array) -> Array:
    """The same integer from ``Σxw - zx Σw - zw Σx + K·zx·zw``."""
    wide_x, wide_w = x.astype(np.int64), w.astype(np.int64)
    correction = (
        x_zero * wide_w.sum(axis=0)[None, :] + w_zero * wide_x.sum(axis=1)[:, None] - x.shape[1] * x_zero * w_zero
    )
    return np.matmul(wide_x, wide_w) - correction + bias.astype(np.int64)


def dot_two_passes(x: Array, x_zero: int, w: Array, bias: Array) -> Array:
    """The same integer for 16-bit x from two 8-bit passes: ``2^8·Σ x_hi·w + Σ x_lo·w - zx Σ w``."""
    high, low = x.astype(np.int64) >> 8, x.astype(np.int64) & 255
    wide = w.astype(np.int64)
    return (np.matmul(high, wide) << 8) + np.matmul(low, wide) - x_zero * wide.sum(axis=0) + bias.astype(np.int64)


def bilinear_coefficients(size: int, output: int, positions: Sequence[float]) -> tuple[Array, Array]:
    """Neighbour indices int64 ``[output, 2]`` and coefficients int64 ``[output, 2]`` that sum to 2^11.

    Args:
        size: input elements along the axis.
        output: output elements; ``positions[i]`` is the real input coordinate of output i (clamped to the input).
    """
    indices = np.zeros((output, 2), np.int64)
    coefficients = np.zeros((output, 2), np.int64)
    for i, position in enumerate(positions):
        place = min(max(float(position), 0.0), float(size - 1))
        first = min(int(place), size - 1)
        second = min(first + 1, size - 1)
        weight = round((place - first) * (1 << BILINEAR_BITS))
        indices[i] = (first, second)
        coefficients[i] = ((1 << BILINEAR_BITS) - weight, weight)
    return indices, coefficients


def bilinear(x: Array, x_zero: int, rows: tuple[Array, Array], columns: tuple[Array, Array]) -> Array:
    """``Σ (x - x_zero)·c_h·c_w`` of the four neighbours; x ``[N, H, W, C]``, int64 out, coefficients sum to 2^22."""
    centered = x.astype(np.int64) - x_zero
    total = np.zeros((x.shape[0], rows[0].shape[0], columns[0].shape[0], x.shape[3]), np.int64)
    for i in range(2):
        for j in range(2):
            part = centered[:, rows[0][:, i]][:, :, columns[0][:, j]]
            total += part * rows[1][None, :, i, None, None] * columns[1][None, None, :, j, None]
    return total
