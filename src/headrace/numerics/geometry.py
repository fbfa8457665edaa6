# SPDX-License-Identifier: Apache-2.0
"""Window geometry shared by shapes, arithmetic, timing and code generation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.numerics.array import Array


def window_output(size: int, window: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    """Output positions of a window along one axis: ``⌊(size + before + after - extent) / stride⌋ + 1`` (≤ 0: none)."""
    return (size + before + after - ((window - 1) * dilation + 1)) // stride + 1


def covered(size: int, window: int, stride: int, before: int, output: int) -> list[int]:
    """For each output position, how many window positions lie inside the input."""
    counts: list[int] = []
    for i in range(output):
        first = i * stride - before
        counts.append(max(0, min(first + window, size) - max(first, 0)))
    return counts


def covered_counts(
    shape: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Sequence[int], output: Sequence[int]
) -> Array:
    """int64 ``[H, W]``: covered positions of each output position of a 2-D window (all shapes are height, width)."""
    rows = covered(shape[0], window[0], strides[0], padding[0], output[0])
    columns = covered(shape[1], window[1], strides[1], padding[1], output[1])
    return np.outer(np.array(rows, np.int64), np.array(columns, np.int64))
