# SPDX-License-Identifier: Apache-2.0
"""Look-up tables, computed by correctly rounded decimal arithmetic so that every machine makes the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import numpy as np

from headrace.numerics.quantization import TensorQuantization

Array = np.ndarray[Any, np.dtype[Any]]
DIGITS = 40


def decimal_context() -> Context:
    """Enough digits that rounding to 16 bits is right for every function used here."""
    return Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999)


def exact(value: float) -> Decimal:
    """A binary float as the decimal it is."""
    return Decimal(value)


def sigmoid(x: Decimal) -> Decimal:
    if x >= 0:
        return 1 / (1 + (-x).exp())
    e = x.exp()
    return e / (1 + e)


def tanh(x: Decimal) -> Decimal:
    e = (-2 * abs(x)).exp()
    t = (1 - e) / (1 + e)
    return t if x >= 0 else -t


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def erf(x: Decimal) -> Decimal:
    """The error function: ``2x/√π · exp(-x²) · Σ (2x²)^n / (1·3·…·(2n+1))``, whose terms are all positive."""
    if abs(x) > 10:
        return Decimal(1).copy_sign(x)  # differs from 1 by less than 10^-44
    square = x * x
    term = total = Decimal(1)
    n = 0
    while term > total * _NEGLIGIBLE:
        n += 1
        term = term * 2 * square / (2 * n + 1)
        total += term
    return 2 * x * (-square).exp() * total / PI.sqrt()


_NEGLIGIBLE = Decimal("1e-32")


def sin(x: Decimal) -> Decimal:
    """The sine: the argument brought to -π … π, then its series."""
    turn = 2 * PI
    x -= (x / turn).to_integral_value(rounding=ROUND_HALF_EVEN) * turn
    term = total = x
    n = 1
    while abs(term) > _TINY:
        term = -term * x * x / ((n + 1) * (n + 2))
        n += 2
        total += term
    return total


#: Below what the roundings of DIGITS digits leave uncertain.
_TINY = Decimal("1e-38")


def build_table(
    function: Callable[[Decimal], Decimal],
    index: TensorQuantization,
    index_bits: int,
    output: TensorQuantization,
    low: int | None = None,
    high: int | None = None,
) -> Array:
    """``table[i] = clamp(zero_out + round_half_even(f(scale_in·(i - zero_in)) / scale_out), low, high)``.

    Args:
        function: the activation on decimals.
        index: scale and zero point of the index (``bits`` is ignored: an index has ``index_bits``).
        index_bits: k; the table has 2^k entries.
        output: quantisation of the result; its bits choose uint8 or uint16.
        low, high: code clamp; the whole range by default.
    """
    bottom = 0 if low is None else low
    top = output.high if high is None else high
    with localcontext(decimal_context()):
        scale_in, scale_out = exact(index.scale), exact(output.scale)
        values: list[int] = []
        for i in range(1 << index_bits):
            y = function(scale_in * (i - index.zero_point)) / scale_out
            code = int(y.to_integral_value(rounding=ROUND_HALF_EVEN)) + output.zero_point
            values.append(min(max(code, bottom), top))
    return np.array(values, output.dtype)


RECIPROCAL_BITS = 10
RECIPROCAL_FRACTION = 15


def reciprocal_table(bits: int = RECIPROCAL_BITS) -> Array:
    """uint16 ``[2^bits]``: ``round(2^15 / (1 + (i + 1/2) / 2^bits))``, the mantissa of 1/v (docs/numerics.md, 7)."""
    size = 1 << bits
    # 2^15 / (1 + (2i+1)/2^(bits+1)) = 2^(15+bits+1) / (2^(bits+1) + 2i + 1); the divisor is odd, so no tie exists.
    numerator = 1 << (RECIPROCAL_FRACTION + bits + 1)
    values = [(2 * numerator // (2 * size + 2 * i + 1) + 1) // 2 for i in range(size)]
    return np.array(values, np.uint16)
