# SPDX-License-Identifier: Apache-2.0
"""The numpy reference against Python's unbounded integers, fractions and correctly rounded decimals."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import HeadraceError
from headrace.numerics import forms, normalized, tables
from headrace.numerics.quantization import TensorQuantization, dequantize, from_range, quantize_input
from headrace.numerics.reference import ReferenceOps
from headrace.numerics.requantize import (
    FLOAT64_LIMIT,
    INT64_LIMIT,
    Requantization,
    choose_multipliers,
    requantize_exact,
)

OPS = ReferenceOps()
factors = st.floats(min_value=-(2.0**20), max_value=2.0**20, allow_subnormal=False).filter(
    lambda v: v == 0 or abs(v) > 1e-15
)
seeds = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(factors, st.integers(0, 2**31)), min_size=1, max_size=2))
def test_chosen_multipliers_meet_every_bound(terms: list[tuple[float, int]]) -> None:
    real = np.array([[f] for f, _ in terms])
    bounds = np.array([[b] for _, b in terms], dtype=object)
    try:
        m, s = choose_multipliers(real, bounds)
    except HeadraceError:
        assert sum(abs(f) * b for f, b in terms) * 2 + 1 >= 2**55, "refused although a shift of 1 exists"
        return
    shift = int(s[0])
    total = sum(abs(int(m[i, 0])) * terms[i][1] for i in range(len(terms))) + (1 << (shift - 1))
    assert 1 <= shift <= 62 and total < INT64_LIMIT
    bits = max(abs(int(v)) for v in m[:, 0]).bit_length()
    if total >= FLOAT64_LIMIT:
        assert bits >= 1  # taken only because 2^52 left fewer than 20 bits
    for i, (f, _) in enumerate(terms):
        assert abs(Fraction(f) * (1 << shift) - int(m[i, 0])) <= Fraction(1, 2)


@given(
    st.lists(st.tuples(st.integers(-(2**30), 2**30), st.integers(-(2**31) + 1, 2**31 - 1)), min_size=1, max_size=2),
    st.integers(1, 62),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
)
def test_requantize_equals_python_integers(terms, shift, zero, a, b) -> None:
    low, high = sorted((a, b))
    exact = requantize_exact([t[0] for t in terms], [t[1] for t in terms], shift, zero, low, high)
    total = Fraction(sum(x * y for x, y in terms), 1 << shift) + Fraction(1, 2)
    assert exact == min(max(zero + total.__floor__(), low), high)
    rq = Requantization(np.array([[t[1]] for t in terms], np.int32), np.array([shift], np.uint8), zero, low, high)
    got = OPS.requantize([np.array([[t[0]]], np.int64) for t in terms], rq, 8)
    assert int(got[0, 0]) == exact


@given(
    seeds,
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.integers(0, 255),
)
def test_convolution_equals_nested_loops(seed, kh, kw, stride, dilation, groups, zero) -> None:
    r = np.random.default_rng(seed)
    h, w, cin, cout = int(r.integers(5, 8)), int(r.integers(5, 8)), 2 * groups, 2 * groups
    pad = [int(v) for v in r.integers(0, 2, 4)]
    x = r.integers(0, 256, (2, h, w, cin)).astype(np.uint8)
    k = r.integers(-128, 128, (kh, kw, cin // groups, cout)).astype(np.int8)
    b = r.integers(-(2**30), 2**30, cout).astype(np.int32)
    y = OPS.convolve(
        x, zero, k, b, strides=(stride, stride), padding=pad, dilations=(dilation, dilation), groups=groups
    )
    n, i, j, c = (int(r.integers(0, s)) for s in y.shape)
    total = int(b[c])
    for di in range(kh):
        for dj in range(kw):
            row, col = i * stride - pad[0] + di * dilation, j * stride - pad[1] + dj * dilation
            if 0 <= row < h and 0 <= col < w:
                for e in range(cin // groups):
                    g = c // (cout // groups)
                    total += (int(x[n, row, col, g * (cin // groups) + e]) - zero) * int(k[di, dj, e, c])
    assert int(y[n, i, j, c]) == total


@given(seeds, st.integers(0, 65535), st.integers(0, 255))
def test_two_zero_points_and_16_bit_forms_are_one_integer(seed, zx, zw) -> None:
    r = np.random.default_rng(seed)
    x = r.integers(0, 65536, (3, 17)).astype(np.uint16)
    w = r.integers(0, 256, (17, 4)).astype(np.uint8)
    b = r.integers(-(2**31), 2**31, 4)
    want = [
        [int(b[c]) + sum((int(x[n, k]) - zx) * (int(w[k, c]) - zw) for k in range(17)) for c in range(4)]
        for n in range(3)
    ]
    assert forms.dot(x, zx, w, zw, b).tolist() == want == forms.dot_expanded(x, zx, w, zw, b).tolist()
    signed = w.view(np.int8)
    assert forms.dot_two_passes(x, zx, signed, b).tolist() == forms.dot(x, zx, signed, 0, b).tolist()


@given(st.integers(1, 2**40), st.integers(1, 22))
def test_reciprocal_equals_python_and_is_close(v, shift) -> None:
    table = tables.reciprocal_table()
    got = OPS.reciprocal(
        np.array([[v]]),
        table,
        Requantization(np.array([[2**30]], np.int32), np.array([shift], np.uint8), 0, 0, 65535),
        16,
    )
    assert int(got[0, 0]) == normalized.reciprocal(v, table, 2**30, shift, 0, 0, 65535)
    n, index = normalized.split(v, 10)
    assert abs(Fraction(int(table[index]), 1 << 15) / (1 << n) * v - 1) < Fraction(1, 1000)


def test_normalized_tables_are_correctly_rounded() -> None:
    size = 1024
    reciprocal, roots, logs = (
        tables.reciprocal_table(),
        normalized.reciprocal_root_tables(),
        normalized.logarithm_table(),
    )
    with localcontext(tables.decimal_context()):
        for i in range(size):
            m = 1 + (Decimal(i) + Decimal("0.5")) / size
            assert abs(Decimal(int(reciprocal[i])) - 32768 / m) <= Decimal("0.5")
            assert abs(Decimal(int(logs[i])) - m.ln() / Decimal(2).ln() * 32768) <= Decimal("0.5")
            for p in (0, 1):
                assert abs(Decimal(int(roots[p, i])) - 32768 / (m * 2**p).sqrt()) <= Decimal("0.5")


@given(st.integers(1, 2**40), st.integers(1, 20))
def test_root_and_logarithm_are_close(v, shift) -> None:
    roots = normalized.reciprocal_root_tables()
    y = normalized.reciprocal_root(v, roots, 2**30, shift, 0, 0, 2**62)
    real = 32768 * 2**30 / 2**shift / v**0.5
    assert abs(y - real) <= 0.001 * real + 1
    assert abs(normalized.logarithm(v, normalized.logarithm_table()) / 32768 - np.log2(float(v))) < 0.001


@given(
    st.integers(-(2**24), 2**24),
    st.integers(1, 40),
    st.integers(-(2**30) + 1, 2**30 - 1),
    st.integers(-(2**30) + 1, 2**30 - 1),
)
def test_sign_dependent(a, s, positive, negative) -> None:
    """A second term min(a, 0) with the difference of the two factors is one factor for each sign."""
    rq = Requantization(np.array([[positive], [negative - positive]], np.int32), np.array([s], np.uint8), 100, 0, 255)
    ops = ReferenceOps()
    got = ops.requantize([np.array([[a]]), ops.negative_part(np.array([[a]]))], rq, 8)
    assert int(got[0, 0]) == requantize_exact([a], [positive if a >= 0 else negative], s, 100, 0, 255)


@given(seeds, st.integers(1, 6), st.integers(1, 9))
def test_bilinear_coefficients_sum_and_interpolate(seed, size, output) -> None:
    r = np.random.default_rng(seed)
    positions = [(i + 0.5) * size / output - 0.5 for i in range(output)]
    axis = forms.bilinear_coefficients(size, output, positions)
    assert (axis[1].sum(axis=1) == 2048).all() and (axis[1] >= 0).all()
    x = r.integers(0, 256, (1, size, size, 2)).astype(np.uint8)
    y = forms.bilinear(x, 7, axis, axis)
    i, j = (int(v) for v in r.integers(0, output, 2))
    want = sum(
        (int(x[0, axis[0][i, a], axis[0][j, b], 1]) - 7) * int(axis[1][i, a]) * int(axis[1][j, b])
        for a in (0, 1)
        for b in (0, 1)
    )
    assert int(y[0, i, j, 1]) == want


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from([8, 16]))
def test_range_represents_zero_exactly_and_covers(a, b, bits) -> None:
    q = from_range(min(a, b), max(a, b), bits)
    assert float(np.float32(q.scale)) == q.scale > 0 and 0 <= q.zero_point <= q.high
    assert dequantize(np.array([q.zero_point]), q)[0] == 0.0
    low, high = q.limits
    assert low <= min(a, b, 0.0) + q.scale and high >= max(a, b, 0.0) - q.scale


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=8), st.floats(2.0**-20, 2.0**20, width=32), st.integers(0, 255)
)
def test_host_quantization_by_the_book(values, scale, zero) -> None:
    q = TensorQuantization(float(np.float32(scale)), zero)
    got = quantize_input(np.array(values, np.float32), q)
    for value, code in zip(values, got, strict=True):
        if np.isnan(value):
            assert code == zero
        elif np.isinf(value):
            assert code == (255 if value > 0 else 0)
        else:
            with np.errstate(over="ignore"):
                ratio = np.float32(value) / np.float32(q.scale)
            want = (255 if ratio > 0 else 0) if np.isinf(ratio) else min(max(round(float(ratio)) + zero, 0), 255)
            assert int(code) == want


def _every_table() -> list[str]:
    from headrace.layers.activation import FUNCTIONS

    return [name for name, function in FUNCTIONS.items() if function.decimal is not None]


@pytest.mark.parametrize("name", _every_table())
def test_tables_match_float_meaning(name: str) -> None:
    import math

    from headrace.layers.activation import Activated

    plain = {
        "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
        "tanh": math.tanh,
        "silu": lambda x: x / (1 + math.exp(-x)),
        "hard_swish": lambda x: x * min(max(x / 6 + 0.5, 0), 1),
        "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0), 1),
        "leaky_relu": lambda x: x if x >= 0 else 0.01 * x,
        "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
        "exp": math.exp,
        "abs": abs,
        "cos": math.cos,
        "erf": math.erf,
        "sin": math.sin,
        "asin": lambda x: math.asin(min(max(x, -1), 1)),
        "atan": math.atan,
        "celu": lambda x: max(x, 0) + min(0, math.expm1(x)),
        "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        "log": lambda x: math.log(x) if x > 0 else -math.inf,
        "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
        "power": lambda x: max(x, 0),
        "reciprocal": lambda x: 1 / x if x else math.inf,
        "selu": lambda x: 1.0507010221481323 * (x if x > 0 else 1.6732631921768188 * math.expm1(x)),
        "softplus": lambda x: math.log1p(math.exp(x)),
        "softsign": lambda x: x / (1 + abs(x)),
        "positive": lambda x: float(x > 0),
        "is_zero": lambda x: float(x == 0),
        "sign": lambda x: float(x > 0) - float(x < 0),
        "floor": math.floor,
        "ceil": math.ceil,
        "round": round,
        "trunc": math.trunc,
        "sqrt": lambda x: math.sqrt(max(x, 0)),
        "thresholded_relu": lambda x: x if x > 1 else 0,
    }[name]
    index, output = from_range(-8, 8, 16), from_range(-1.2, 9.0)
    index = TensorQuantization(float(np.float32(16 / 1023)), 512)
    table = tables.build_table(Activated(activation=name).decimal, index, 10, output)
    for i in range(1024):
        real = plain(index.scale * (i - 512)) / output.scale + output.zero_point
        if math.isinf(real):
            assert int(table[i]) == (255 if real > 0 else 0)
            continue
        assert abs(int(table[i]) - min(max(real, 0), 255)) <= 0.5 + 1e-6
