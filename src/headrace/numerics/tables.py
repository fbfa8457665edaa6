# SPDX-License-Identifier: Apache-2.0
"""Look-up tables, computed by correctly rounded decimal arithmetic so that every machine makes the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache

import numpy as np

from headrace.numerics.array import Array
from headrace.numerics.quantization import TensorQuantization

DIGITS = 40


def decimal_context() -> Context:
    """Enough digits that rounding to 16 bits is right for every function used here; no exponent beyond 4 digits."""
    return Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emin=-9999, Emax=9999)


def exact(value: float) -> Decimal:
    """A binary float as the decimal it is."""
    return Decimal(value)


#: Arguments of exp end here. Its value is then 10^±869: with a factor of float64 in front and over a scale of float32,
#: that is beyond every code, or half of none. So no table computes numbers of more digits than it shows.
EXP_LIMIT = Decimal(2000)
#: Where a function of a small argument is the first terms of its series, to all of DIGITS digits.
_SMALL = Decimal("1e-14")
#: Stands for infinity: beyond float64 over the least scale, and far from where decimals overflow.
HUGE = Decimal("1e400")


def exp(x: Decimal) -> Decimal:
    """The exponential of an argument that is first brought to ±:data:`EXP_LIMIT`."""
    return min(max(x, -EXP_LIMIT), EXP_LIMIT).exp()


def expm1(x: Decimal) -> Decimal:
    """``exp(x) - 1`` without the digits that cancel."""
    return x + x * x / 2 + x * x * x / 6 if abs(x) < _SMALL else exp(x) - 1


def log1p(x: Decimal) -> Decimal:
    """``ln(1 + x)`` of ``x ≥ 0``, without the digits that cancel."""
    return x - x * x / 2 + x * x * x / 3 if x < _SMALL else (1 + x).ln()


def sigmoid(x: Decimal) -> Decimal:
    if x >= 0:
        return 1 / (1 + exp(-x))
    e = exp(x)
    return e / (1 + e)


def tanh(x: Decimal) -> Decimal:
    e = expm1(-2 * abs(x))
    t = -e / (2 + e)
    return t if x >= 0 else -t


def softplus(x: Decimal) -> Decimal:
    """``ln(1 + exp(x))``."""
    return max(x, Decimal(0)) + log1p(exp(-abs(x)))


def power(base: Decimal, exponent: Decimal) -> Decimal:
    """``base ** exponent`` of a base that is not negative, at most :data:`HUGE`."""
    if base <= 0:
        return Decimal(0) if exponent > 0 else HUGE
    return exp(base.ln() * exponent)


def reciprocal(x: Decimal) -> Decimal:
    """``1 / x``, and :data:`HUGE` for zero."""
    return 1 / x if abs(x) * HUGE > 1 else HUGE.copy_sign(x)


def logarithm(x: Decimal) -> Decimal:
    """``ln x``, and ``-``:data:`HUGE` where there is none."""
    return x.ln() if x > 0 else -HUGE


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


@lru_cache(maxsize=64)
def _pi(digits: int) -> Decimal:
    """π to at least so many digits: 16·atan(1/5) - 4·atan(1/239) in integers."""
    unit = 10 ** (digits + 10)

    def inverse_tangent(n: int) -> int:
        term, total, k = unit // n, 0, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term //= n * n
            k += 2
        return total

    return Decimal(16 * inverse_tangent(5) - 4 * inverse_tangent(239)).scaleb(-(digits + 10), Context(prec=digits + 20))


def erf(x: Decimal) -> Decimal:
    """The error function: ``2x/√π · exp(-x²) · Σ (2x²)^n / (1·3·…·(2n+1))``, whose terms are all positive."""
    return _error_function(x, _NEGLIGIBLE)


def erfc(x: Decimal) -> Decimal:
    """``1 - erf(x)``, computed with as many digits more as cancel."""
    if x < 1:
        return 1 - erf(x)
    with localcontext(decimal_context()) as context:
        context.prec = 2 * DIGITS + 10
        rest = 1 - _error_function(x, _NEGLIGIBLE * _NEGLIGIBLE)
    return +rest


def _error_function(x: Decimal, negligible: Decimal) -> Decimal:
    if abs(x) > 10:
        return Decimal(1).copy_sign(x)  # differs from 1 by less than 10^-44
    square = x * x
    term = total = Decimal(1)
    n = 0
    while term > total * negligible:
        n += 1
        term = term * 2 * square / (2 * n + 1)
        total += term
    return 2 * x * (-square).exp() * total / _pi(DIGITS if negligible == _NEGLIGIBLE else 2 * DIGITS + 10).sqrt()


_NEGLIGIBLE = Decimal("1e-38")


def sin(x: Decimal) -> Decimal:
    return _sine(_turned(x))


def cos(x: Decimal) -> Decimal:
    return _sine(_turned(x) + PI / 2)


def atan(x: Decimal) -> Decimal:
    """The inverse tangent: the angle halved until its series is short."""
    if abs(x) > 1:
        return (PI / 2 - atan(1 / abs(x))).copy_sign(x)
    for _ in range(_HALVED):
        x = x / (1 + (1 + x * x).sqrt())
    power, total, n = x, x, 1
    least = abs(x) * _TINY
    while abs(power) > least:
        power, n = -power * x * x, n + 2
        total += power / n
    return total * (1 << _HALVED)


def asin(x: Decimal) -> Decimal:
    """The inverse sine of an argument that is first brought to ±1."""
    x = min(max(x, Decimal(-1)), Decimal(1))
    return 2 * atan(x / (1 + (1 - x * x).sqrt()))


_HALVED = 6


def _turned(x: Decimal) -> Decimal:
    """The angle in -π … π, found with as many digits more as it has before the point."""
    extra = max(0, x.adjusted() + 1)
    if extra > _LONGEST:
        return Decimal(0)  # not a number that a float holds
    with localcontext(decimal_context()) as context:
        context.prec = DIGITS + extra + 10
        turn = 2 * _pi(context.prec)
        x -= (x / turn).to_integral_value(rounding=ROUND_HALF_EVEN) * turn
    return +x


def _sine(x: Decimal) -> Decimal:
    """The series, of an angle of at most 3/2 π."""
    term = total = x
    least = abs(x) * _TINY
    n = 1
    while abs(term) > least:
        term = -term * x * x / ((n + 1) * (n + 2))
        n += 2
        total += term
    return total


#: Below what the roundings of DIGITS digits leave uncertain.
_TINY = Decimal("1e-38")
#: Digits before the point of the longest argument of a sine: a float64 has 309, a table's index reaches 4 more.
_LONGEST = 320


def nearest_code(steps: Decimal, output: TensorQuantization) -> int:
    """The code of a real, given in steps of the output: clamped first, so that no integer has more digits than it."""
    inside = min(max(steps, Decimal(-output.zero_point)), Decimal(output.high - output.zero_point))
    return int(inside.to_integral_value(rounding=ROUND_HALF_EVEN)) + output.zero_point


#: A function in float64, right to some units in its last place on every machine.
Quick = Callable[[Array], Array]
#: Nearer than this to half way between two codes, float64 does not settle which it is. A code has at most 16 bits, so
#: what float64 leaves uncertain of it is far less.
_UNSETTLED = 2.0**-20


def settled(quick: Quick, reals: Array, output: TensorQuantization) -> tuple[Array, Array]:
    """Codes of a function of float64 reals, and which of them are those of :func:`nearest_code` for certain."""
    with np.errstate(all="ignore"):
        steps = np.clip(quick(reals) / float(output.scale), -output.zero_point, output.high - output.zero_point)
    nearest = np.rint(steps)
    sure = np.abs(steps - nearest) < 0.5 - _UNSETTLED  # false for what is no number
    return np.where(sure, nearest, 0.0).astype(np.int64) + output.zero_point, sure


def build_table(
    function: Callable[[Decimal], Decimal],
    index: TensorQuantization,
    index_bits: int,
    output: TensorQuantization,
    low: int | None = None,
    high: int | None = None,
    quick: Quick | None = None,
) -> Array:
    """``table[i] = clamp(zero_out + round_half_even(f(scale_in·(i - zero_in)) / scale_out), low, high)``.

    Args:
        function: the activation on decimals.
        index: scale and zero point of the index (``bits`` is ignored: an index has ``index_bits``).
        index_bits: k; the table has 2^k entries.
        output: quantization of the result; its bits choose uint8 or uint16.
        low, high: code clamp; the whole range by default.
        quick: the same function in float64, which saves the decimals where it leaves no doubt.
    """
    bottom = 0 if low is None else low
    top = output.high if high is None else high
    codes = np.zeros(1 << index_bits, np.int64)
    unsure = np.ones(1 << index_bits, bool)
    if quick is not None:
        reals = float(index.scale) * (np.arange(1 << index_bits) - index.zero_point).astype(np.float64)
        codes, sure = settled(quick, reals, output)
        unsure = ~sure
    with localcontext(decimal_context()):
        scale_in, scale_out = exact(index.scale), exact(output.scale)
        for i in np.flatnonzero(unsure).tolist():
            codes[i] = nearest_code(function(scale_in * (i - index.zero_point)) / scale_out, output)
    return np.clip(codes, bottom, top).astype(output.dtype)


RECIPROCAL_BITS = 10
RECIPROCAL_FRACTION = 15


def reciprocal_table(bits: int = RECIPROCAL_BITS) -> Array:
    """uint16 ``[2^bits]``: ``round(2^15 / (1 + (i + 1/2) / 2^bits))``, the mantissa of 1/v (docs/numerics.md, 7)."""
    size = 1 << bits
    # 2^15 / (1 + (2i+1)/2^(bits+1)) = 2^(15+bits+1) / (2^(bits+1) + 2i + 1); the divisor is odd, so no tie exists.
    numerator = 1 << (RECIPROCAL_FRACTION + bits + 1)
    values = [(2 * numerator // (2 * size + 2 * i + 1) + 1) // 2 for i in range(size)]
    return np.array(values, np.uint16)
