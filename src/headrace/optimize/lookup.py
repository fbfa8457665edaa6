# SPDX-License-Identifier: Apache-2.0
"""Choosing the index of a look-up table (docs/numerics.md, section 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import lru_cache
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.layers.activation import FUNCTIONS
from headrace.numerics.quantization import TensorQuantization, from_range
from headrace.numerics.tables import build_table, decimal_context, exact

MIN_BITS, MAX_BITS = 9, 12
PROBES = 512


@dataclass(frozen=True)
class Grid:
    """The accumulator takes only the reals ``step · n`` with ``low ≤ n ≤ high``."""

    step: float
    low: int
    high: int


@dataclass(frozen=True)
class Lookup:
    """A chosen table: index quantisation (its ``bits`` are the index bits k) and ``2^k`` codes."""

    index: TensorQuantization
    table: Array


def choose_lookup(
    activation: str,
    params: dict[str, float],
    measured: tuple[float, float],
    output: TensorQuantization,
    grid: Grid | None,
) -> Lookup:
    """The index range and bits for one layer's activation.

    Where the accumulator lies on a grid of at most 2^12 values, the index is that grid and costs nothing. Otherwise
    the index spans the measured range, less the parts at its ends where the result is one constant code, with the
    fewest bits (9 to 12) for which one index step changes the result by less than half an output code.

    Args:
        activation: name of the function.
        params: its parameters.
        measured: range in front of the activation, from calibration.
        output: quantisation of the result.
        grid: possible values, if they are few.
    """
    return _choose(activation, tuple(sorted(params.items())), measured, output, grid)


@lru_cache(maxsize=256)
def _choose(
    activation: str,
    params: tuple[tuple[str, float], ...],
    measured: tuple[float, float],
    output: TensorQuantization,
    grid: Grid | None,
) -> Lookup:
    definition = FUNCTIONS[activation]
    values = {**definition.params, **dict(params)}

    def function(x: Decimal) -> Decimal:
        assert definition.decimal is not None
        return definition.decimal(values, x)

    index = _grid_index(grid) if grid is not None else None
    if index is None:
        index = _range_index(function, measured, output)
    table = build_table(function, index, index.bits, output)
    table.setflags(write=False)
    return Lookup(index, table)


def _grid_index(grid: Grid) -> TensorQuantization | None:
    count = max(grid.high, 0) - min(grid.low, 0) + 1
    if count > 1 << MAX_BITS:
        return None
    return TensorQuantization(grid.step, -min(grid.low, 0), max(MIN_BITS, (count - 1).bit_length()))


def _range_index(function: Any, measured: tuple[float, float], output: TensorQuantization) -> TensorQuantization:
    low, high = min(0.0, measured[0]), max(0.0, measured[1])
    if not high > low:
        low, high = -1.0, 1.0
    reals, codes = _probe(function, low, high, output)
    # Flat ends need no entries: an index beyond the table's end is clamped to it. One probe more keeps the corner.
    first = _flat(codes)
    last = PROBES - _flat(codes[::-1])
    step = (high - low) / PROBES
    low, high = low + step * max(0, first - 1), low + step * min(PROBES, last + 1)
    if not high > low:
        low, high = -1.0, 1.0
    reals, _ = _probe(function, low, high, output)
    steepest = float(np.max(np.abs(np.diff(reals)))) * PROBES  # change over the whole range at the steepest slope
    bits = MIN_BITS if steepest == 0 else math.floor(math.log2(steepest / 0.5)) + 1
    return from_range(low, high, min(max(bits, MIN_BITS), MAX_BITS))


def _flat(codes: Array) -> int:
    """How many of the first codes are equal, less one."""
    different = np.flatnonzero(codes != codes[0])
    return int(different[0]) - 1 if different.size else codes.size - 1


def _probe(function: Any, low: float, high: float, output: TensorQuantization) -> tuple[Array, Array]:
    """The function at 513 points of [low, high] in units of output codes: float64, and rounded and clamped."""
    reals: list[float] = []
    codes: list[int] = []
    with localcontext(decimal_context()):
        scale = exact(output.scale)
        start, step = exact(low), (exact(high) - exact(low)) / PROBES
        for i in range(PROBES + 1):
            y = function(start + step * i) / scale
            code = int(y.to_integral_value(rounding=ROUND_HALF_EVEN)) + output.zero_point
            codes.append(min(max(code, 0), output.high))
            reals.append(float(min(max(y, Decimal(-output.zero_point)), Decimal(output.high - output.zero_point))))
    return np.array(reals), np.array(codes)
