# SPDX-License-Identifier: Apache-2.0
"""Choosing the index of a look-up table (docs/numerics.md, section 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from headrace.hn import Array
from headrace.layers.activation import FUNCTIONS, OUTPUT_OFFSET, OUTPUT_SCALE
from headrace.numerics.quantization import TensorQuantization, from_range
from headrace.numerics.tables import Quick, build_table, decimal_context, exact, nearest_code, settled

Function = Callable[[Decimal], Decimal]
MIN_BITS, MAX_BITS = 9, 12
PROBES = 512
#: A range whose changing part is at most this much of it is probed again.
MUCH_SHORTER = 0.125
#: Nor is one that float32 cannot divide into steps.
LEAST_SPAN = 4096 * float(np.finfo(np.float32).tiny)
#: The least part of a range that shows where a function jumps: beyond it every range would be shorter still.
JUMP_PART = 2.0**-10


@dataclass(frozen=True)
class Grid:
    """The accumulator takes only the reals ``step · n`` with ``low ≤ n ≤ high``."""

    step: float
    low: int
    high: int


@dataclass(frozen=True)
class Lookup:
    """A chosen table: index quantization (its ``bits`` are the index bits k) and ``2^k`` codes."""

    index: TensorQuantization
    table: Array


@dataclass(frozen=True)
class Lookups:
    """Tables of one layer for several gains: ``[gains, 2^k]`` codes; the indices share k and the zero point."""

    indices: tuple[TensorQuantization, ...]
    tables: Array


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
        output: quantization of the result.
        grid: possible values, if they are few.
    """
    return _choose(activation, tuple(sorted(params.items())), measured, output, grid)


def _least_part(activation: str) -> float:
    """Of the measured range, the least part that an index spans."""
    return JUMP_PART if FUNCTIONS[activation].jumps else 0.0


def _exact(activation: str, params: tuple[tuple[str, float], ...]) -> Callable[[Decimal], Decimal]:
    """The activation on decimals, parameters that are not given at their defaults."""
    definition = FUNCTIONS[activation]
    evaluate, values = definition.decimal, {**definition.params, **dict(params)}
    assert evaluate is not None
    return lambda x: evaluate(values, x)


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


#: The functions of gates and softmax, of which a network of many steps has many tables.
_QUICK: dict[str, Quick] = {"sigmoid": _sigmoid, "tanh": np.tanh, "exp": np.exp}
#: Ends of a range whose points float64 tells apart well enough for those.
_QUICK_RANGE = 1e4


def _quick(activation: str, params: tuple[tuple[str, float], ...]) -> Quick | None:
    """The activation in float64, where that is as good as settled."""
    given = dict(params)
    plain = (given.get(OUTPUT_SCALE, 1.0), given.get(OUTPUT_OFFSET, 0.0)) == (1.0, 0.0)
    return _QUICK.get(activation) if plain else None


def reaches(
    activation: str,
    params: dict[str, float],
    ends: tuple[float, float],
    bounds: tuple[float, float],
    output: TensorQuantization,
) -> bool:
    """Whether the function is within a step of its lower bound at the first end, of its upper bound at the second."""
    function = _exact(activation, tuple(sorted(params.items())))
    with localcontext(decimal_context()):
        gaps = [abs(function(exact(end)) - exact(bound)) for end, bound in zip(ends, bounds, strict=True)]
        return max(gaps) <= exact(output.scale)


@lru_cache(maxsize=4096)
def _changing(
    activation: str,
    params: tuple[tuple[str, float], ...],
    measured: tuple[float, float],
    output: TensorQuantization,
) -> tuple[float, float]:
    span = _narrowed(_exact(activation, params), measured, output, _least_part(activation))
    return span.low, span.high


def changing_range(
    activation: str, params: dict[str, float], measured: tuple[float, float], output: TensorQuantization
) -> tuple[float, float]:
    """The part of the measured range, with zero, at whose ends the result's codes still change."""
    return _changing(activation, tuple(sorted(params.items())), measured, output)


@lru_cache(maxsize=4096)
def _choose(
    activation: str,
    params: tuple[tuple[str, float], ...],
    measured: tuple[float, float],
    output: TensorQuantization,
    grid: Grid | None,
) -> Lookup:
    function = _exact(activation, params)
    index = _grid_index(grid) if grid is not None else None
    if index is None:
        index = _range_index(function, measured, output, _least_part(activation), _quick(activation, params))
    table = build_table(function, index, index.bits, output, quick=_quick(activation, params))
    table.setflags(write=False)
    return Lookup(index, table)


def choose_lookups(
    activation: str,
    params: dict[str, float],
    measured: tuple[float, float],
    output: TensorQuantization,
    gains: Sequence[float],
) -> Lookups:
    """Tables of ``gain · act(x)`` for each gain.

    The indices have scales of their own, each spanning the part of the measured range where its table changes. Their
    common zero point is the one with which the coarsest index, in codes per step, is as fine as it can be; k is the
    fewest bits (9 to 12) for which one step changes no result by more than half a code.
    """
    return _choose_several(activation, tuple(sorted(params.items())), measured, output, tuple(gains))


@lru_cache(maxsize=64)
def _choose_several(
    activation: str,
    params: tuple[tuple[str, float], ...],
    measured: tuple[float, float],
    output: TensorQuantization,
    gains: tuple[float, ...],
) -> Lookups:
    function = _exact(activation, params)

    def times(gain: float) -> Callable[[Decimal], Decimal]:
        factor = exact(gain)
        return lambda x: factor * function(x)

    spans = [_narrowed(times(gain), measured, output, _least_part(activation)) for gain in gains]
    cost, part = min((max(_step(span, i / 64.0) for span in spans), i / 64.0) for i in range(65))
    bits = min(max(MIN_BITS, math.ceil(math.log2(max(cost, 1.0) / 0.5))), MAX_BITS)
    top = (1 << bits) - 1
    zero = round(part * top)
    indices = tuple(_index(span, zero, bits) for span in spans)
    tables = [build_table(times(gain), index, bits, output) for gain, index in zip(gains, indices, strict=True)]
    stacked = np.stack(tables)
    stacked.setflags(write=False)
    return Lookups(indices, stacked)


@dataclass(frozen=True)
class _Span:
    """Where a table changes: reals [low, high] with zero inside, and the steepest slope in codes per real."""

    low: float
    high: float
    slope: float


def _narrowed(
    function: Function, measured: tuple[float, float], output: TensorQuantization, least_part: float
) -> _Span:
    """The part of the measured range where the result changes, probed again until it stays."""
    low, high = min(0.0, measured[0]), max(0.0, measured[1])
    if not high > low:
        low, high = -1.0, 1.0
    least = least_part * (high - low)
    while True:
        reals, codes = _probe(function, low, high, output)
        step = (high - low) / PROBES
        first, last = max(0, _flat(codes) - 1), min(PROBES, PROBES - _flat(codes[::-1]) + 1)
        narrow = min(0.0, low + step * first), max(0.0, low + step * last)
        shorter = narrow[1] - narrow[0]
        if shorter > 0.5 * (high - low) or not shorter > least:
            return _Span(low, high, float(np.max(np.abs(np.diff(reals)))) / step)
        low, high = narrow


def _step(span: _Span, part: float) -> float:
    """Codes per step of the result, times the number of steps, where ``part`` of the index lies below zero."""
    below = -span.low / part if part > 0 else math.inf if span.low < 0 else 0.0
    above = span.high / (1.0 - part) if part < 1 else math.inf if span.high > 0 else 0.0
    return max(below, above) * span.slope


def _index(span: _Span, zero: int, bits: int) -> TensorQuantization:
    top = (1 << bits) - 1
    below = -span.low / zero if zero > 0 else 0.0
    above = span.high / (top - zero) if zero < top else 0.0
    scale = max(float(np.float32(max(below, above))), float(np.finfo(np.float32).tiny))
    return TensorQuantization(scale, zero, bits)


def _grid_index(grid: Grid) -> TensorQuantization | None:
    count = max(grid.high, 0) - min(grid.low, 0) + 1
    if count > 1 << MAX_BITS:
        return None
    return TensorQuantization(grid.step, -min(grid.low, 0), max(MIN_BITS, (count - 1).bit_length()))


def _range_index(
    function: Function,
    measured: tuple[float, float],
    output: TensorQuantization,
    least_part: float,
    quick: Quick | None = None,
) -> TensorQuantization:
    low, high = min(0.0, measured[0]), max(0.0, measured[1])
    if not high > low:
        low, high = -1.0, 1.0
    # Flat ends need no entries: an index beyond the table's end is clamped to it. One probe more keeps the corner. A
    # range much longer than where the function changes shows little of that at first, so look again.
    least = max(LEAST_SPAN, least_part * (high - low))
    while high - low > least:
        codes = _probe_codes(function, low, high, output, quick)
        step = (high - low) / PROBES
        first, last = max(0, _flat(codes) - 1), min(PROBES, PROBES - _flat(codes[::-1]) + 1)
        narrow = low + step * first, low + step * last
        if not narrow[1] > narrow[0]:
            low, high = -1.0, 1.0
            break
        again = max(0.0, narrow[1]) - min(0.0, narrow[0]) <= MUCH_SHORTER * (high - low)
        low, high = narrow
        if not again:
            break
        low, high = min(0.0, low), max(0.0, high)
    reals, _ = _probe(function, low, high, output)
    steepest = float(np.max(np.abs(np.diff(reals)))) * PROBES  # change over the whole range at the steepest slope
    bits = MIN_BITS if steepest == 0 else math.floor(math.log2(steepest / 0.5)) + 1
    return from_range(low, high, min(max(bits, MIN_BITS), MAX_BITS))


def _flat(codes: Array) -> int:
    """How many of the first codes are equal, less one."""
    different = np.flatnonzero(codes != codes[0])
    return int(different[0]) - 1 if different.size else codes.size - 1


def _probe_codes(function: Function, low: float, high: float, output: TensorQuantization, quick: Quick | None) -> Array:
    """The codes of :func:`_probe`, in float64 where that settles all of them."""
    if quick is not None and max(abs(low), abs(high)) <= _QUICK_RANGE:
        codes, sure = settled(quick, low + (high - low) / PROBES * np.arange(PROBES + 1), output)
        if sure.all():
            return codes
    return _probe(function, low, high, output)[1]


def _probe(function: Function, low: float, high: float, output: TensorQuantization) -> tuple[Array, Array]:
    """The function at 513 points of [low, high] in units of output codes: float64, and rounded and clamped."""
    reals: list[float] = []
    codes: list[int] = []
    with localcontext(decimal_context()):
        scale = exact(output.scale)
        start, step = exact(low), (exact(high) - exact(low)) / PROBES
        for i in range(PROBES + 1):
            y = function(start + step * i) / scale
            codes.append(nearest_code(y, output))
            reals.append(float(min(max(y, Decimal(-output.zero_point)), Decimal(output.high - output.zero_point))))
    return np.array(reals), np.array(codes)
