# SPDX-License-Identifier: Apache-2.0
"""Requantization: the only rounding in the device (docs/numerics.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headrace.errors import Diagnostic, InternalError
from headrace.numerics.array import Array

MAX_MULTIPLIER = 2**31 - 1
MAX_SHIFT = 62
FLOAT64_LIMIT = 2**52  # sums below this are exact in float64 too
INT64_LIMIT = 2**62
MIN_MULTIPLIER_BITS = 20
MAX_TABLES = 256  # of one layer


class Clamp(NamedTuple):
    """The numbers of a frozen requantization that are no arrays: what is added after the shift, and the two ends."""

    zero: int
    low: int
    high: int


ARRAYS = ("multipliers", "shifts", "table", "channel_tables")


@dataclass(frozen=True)
class Requantization:
    """Integers of ``y = clamp(zero + ((Σ_i a_i·M_i + 2^(s-1)) >> s), low, high)``.

    Attributes:
        multipliers: int32 ``[terms, channels]`` (``channels`` 1 when all channels share them).
        shifts: uint8 ``[channels]``, 1 … 62.
        zero: added after the shift.
        low, high: clamp bounds (inclusive), after ``zero``.
        table: uint8 or uint16 ``[2^k]``; when present the clamped value is an index into it. ``None`` otherwise.
            With ``channel_tables`` uint8 ``[tables, 2^k]``.
        channel_tables: uint8 ``[channels]``, which row of ``table`` each output channel uses; ``None``: there is one.
    """

    multipliers: Array
    shifts: Array
    zero: int
    low: int
    high: int
    table: Array | None = None
    channel_tables: Array | None = None

    @staticmethod
    def stored(numbers: Clamp, arrays: Mapping[str, Array]) -> Requantization:
        """From :attr:`numbers` and, among others, :attr:`arrays`."""
        return Requantization(**{k: arrays[k] for k in ARRAYS if k in arrays}, **numbers._asdict())

    @property
    def numbers(self) -> Clamp:
        """All that is no array."""
        return Clamp(*(getattr(self, name) for name in Clamp._fields))

    @property
    def arrays(self) -> dict[str, Array]:
        """Those that there are."""
        return {name: value for name in ARRAYS if (value := getattr(self, name)) is not None}

    @property
    def table_bits(self) -> int:
        return 0 if self.table is None else int(self.table.shape[-1] - 1).bit_length()

    def __post_init__(self) -> None:
        ok = (
            self.multipliers.ndim == 2
            and self.shifts.ndim == 1
            and self.multipliers.shape[1] == self.shifts.shape[0]
            and self.multipliers.dtype == np.int32
            and self.shifts.dtype == np.uint8
            and self.shifts.size > 0
            and 1 <= int(self.shifts.min()) <= int(self.shifts.max()) <= MAX_SHIFT
            and self.low <= self.high
        )
        if ok and self.table is not None:
            size = self.table.shape[-1] if self.table.ndim else 0
            ok = size > 0 and size & (size - 1) == 0 and self.low >= 0 and self.high < size
        if ok:
            ok = self._one_table() if self.channel_tables is None else self._many_tables(self.channel_tables)
        if not ok:
            raise InternalError(
                Diagnostic(
                    "E-NUM-REQUANTIZE",
                    "requantization",
                    "its integers are not valid",
                    repr(self)[:300],
                    "docs/numerics.md",
                )
            )

    def _one_table(self) -> bool:
        return self.table is None or self.table.ndim == 1

    def _many_tables(self, numbers: Array) -> bool:
        table = self.table
        return (
            table is not None
            and table.ndim == 2
            and table.dtype == np.uint8
            and 1 <= table.shape[0] <= MAX_TABLES
            and numbers.ndim == 1
            and numbers.dtype == np.uint8
            and numbers.size > 0
            and int(numbers.max()) < table.shape[0]
        )

    def codes(self, value: Array, bits: int) -> Array:
        """Codes of clamped values."""
        return value.astype(np.uint8 if bits == 8 else np.uint16) if self.table is None else self.look_up(value)

    def look_up(self, index: Array) -> Array:
        """Table entries of an index array whose last axis is channels."""
        assert self.table is not None
        return self.table[index] if self.channel_tables is None else self.table[self.channel_tables, index]


def choose_multipliers(factors: Array, magnitudes: Array) -> tuple[Array, Array]:
    """Fixed-point multipliers and shifts for real factors.

    Per channel, the shift is the largest for which every multiplier has at most 31 bits and
    ``Σ_i magnitude_i·|M_i| + 2^(s-1)`` stays below 2^52; where that leaves the largest multiplier fewer than 20 bits,
    the bound is 2^62 instead.

    Args:
        factors: float64 ``[terms, channels]``, real factors (any sign).
        magnitudes: ``[terms, channels]``, the largest \\|a_i\\| that can occur (Python ints or int64).

    Returns:
        int32 ``[terms, channels]`` multipliers and uint8 ``[channels]`` shifts.

    Raises:
        InternalError: a factor is not finite, or so large that no shift of at least 1 exists.
    """
    terms, channels = factors.shape
    multipliers = np.zeros((terms, channels), np.int32)
    shifts = np.zeros(channels, np.uint8)
    for c in range(channels):
        reals = [float(factors[i, c]) for i in range(terms)]
        bounds = [int(magnitudes[i, c]) for i in range(terms)]
        values, shift = _choose(reals, bounds)
        multipliers[:, c] = values
        shifts[c] = shift
    return multipliers, shifts


def _choose(reals: Sequence[float], bounds: Sequence[int]) -> tuple[list[int], int]:
    if not all(math.isfinite(r) for r in reals):
        raise InternalError(
            Diagnostic("E-NUM-FACTOR", "requantization", "a scale ratio is not finite", repr(reals), "finite numbers")
        )
    for limit in (FLOAT64_LIMIT, INT64_LIMIT):
        found = _largest_shift(reals, bounds, limit)
        if found is None:
            continue
        values, shift = found
        enough = max(abs(v) for v in values).bit_length() >= MIN_MULTIPLIER_BITS
        if enough or limit == INT64_LIMIT or shift == MAX_SHIFT or all(r == 0 for r in reals):
            return values, shift
    raise InternalError(
        Diagnostic(
            "E-NUM-FACTOR",
            "requantization",
            "no shift represents the scale ratio",
            f"ratios {list(reals)}, accumulators {list(bounds)}",
            "a ratio below 2^30 and a smaller accumulator",
        )
    )


def _largest_shift(reals: Sequence[float], bounds: Sequence[int], limit: int) -> tuple[list[int], int] | None:
    largest = max(abs(r) for r in reals)
    # ldexp(largest, s) < 2^31 gives the first guess; the loop then meets the exact bounds.
    start = MAX_SHIFT if largest == 0 else min(MAX_SHIFT, 31 - math.frexp(largest)[1])
    for shift in range(start, 0, -1):
        values = [round(math.ldexp(r, shift)) for r in reals]
        total = sum(b * abs(v) for b, v in zip(bounds, values, strict=True)) + (1 << (shift - 1))
        if max(abs(v) for v in values) <= MAX_MULTIPLIER and total < limit:
            return values, shift
    return None


def requantize_exact(
    terms: Sequence[int], multipliers: Sequence[int], shift: int, zero: int, low: int, high: int
) -> int:
    """The formula on Python integers: what every implementation is held to."""
    total = sum(a * m for a, m in zip(terms, multipliers, strict=True)) + (1 << (shift - 1))
    return min(max(zero + (total >> shift), low), high)


def accumulator_bits(bound: int) -> int:
    """32 when every value of magnitude ≤ ``bound`` fits int32, else 64.

    Raises:
        InternalError: ``bound`` does not fit int64.
    """
    if bound < 2**31:
        return 32
    if bound < 2**63:
        return 64
    raise InternalError(Diagnostic("E-NUM-ACCUMULATOR", "accumulator", "it does not fit 64 bits", str(bound), "< 2^63"))
