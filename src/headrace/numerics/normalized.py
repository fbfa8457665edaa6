# SPDX-License-Identifier: Apache-2.0
"""Normalized look-up on Python integers: reciprocal, reciprocal root, logarithm (docs/numerics.md, section 7)."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np

from headrace.numerics.array import Array
from headrace.numerics.tables import RECIPROCAL_BITS, RECIPROCAL_FRACTION, decimal_context

FRACTION = RECIPROCAL_FRACTION


def split(v: int, bits: int) -> tuple[int, int]:
    """(n, index) of a positive integer: exponent and the ``bits`` bits after the leading one."""
    v = max(1, v)
    n = v.bit_length() - 1
    return n, ((v - (1 << n)) << bits) >> n


def reciprocal_root_tables(bits: int = RECIPROCAL_BITS) -> Array:
    """uint16 ``[2, 2^bits]``: ``round(2^15 / sqrt((1 + (i + 1/2)/2^bits) · 2^p))`` for parity p."""
    size = 1 << bits
    rows: list[list[int]] = []
    for parity in (0, 1):
        row: list[int] = []
        for i in range(size):
            # y² = 2^30 · 2^(bits+1) / ((2^(bits+1) + 2i + 1) · 2^p); round(y) from isqrt(4y²), which is never a tie.
            quarter = (1 << (2 * FRACTION + 2 + bits + 1)) // ((2 * size + 2 * i + 1) << parity)
            row.append((math.isqrt(quarter) + 1) // 2)
        rows.append(row)
    return np.array(rows, np.uint16)


def logarithm_table(bits: int = RECIPROCAL_BITS) -> Array:
    """uint16 ``[2^bits]``: ``round(2^15 · log2(1 + (i + 1/2) / 2^bits))``."""
    size = 1 << bits
    with localcontext(decimal_context()):
        two = Decimal(2).ln()
        values = [
            int(
                ((Decimal(2 * size + 2 * i + 1) / (2 * size)).ln() / two * (1 << FRACTION)).to_integral_value(
                    ROUND_HALF_EVEN
                )
            )
            for i in range(size)
        ]
    return np.array(values, np.uint16)


def _round_shift(value: int, shift: int) -> int:
    return (value + (1 << (shift - 1))) >> shift


def reciprocal(v: int, table: Array, multiplier: int, shift: int, zero: int, low: int, high: int) -> int:
    """``clamp(zero + ((T[index]·M + 2^(s+n-1)) >> (s + n)), low, high)``."""
    n, index = split(v, int(table.size - 1).bit_length())
    return min(max(zero + _round_shift(int(table[index]) * multiplier, shift + n), low), high)


def reciprocal_root(v: int, tables: Array, multiplier: int, shift: int, zero: int, low: int, high: int) -> int:
    """As :func:`reciprocal` with the table of n's parity and exponent ⌊n/2⌋."""
    n, index = split(v, int(tables.shape[1] - 1).bit_length())
    return min(max(zero + _round_shift(int(tables[n & 1, index]) * multiplier, shift + n // 2), low), high)


def logarithm(v: int, table: Array) -> int:
    """``2^15 · log2 v`` as an integer: ``n·2^15 + T[index]``; requantize it as one term."""
    n, index = split(v, int(table.size - 1).bit_length())
    return (n << FRACTION) + int(table[index])
