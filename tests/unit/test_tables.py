# SPDX-License-Identifier: Apache-2.0
"""Look-up tables of every function over every range a float can have: right values, few digits, few steps."""

from __future__ import annotations

import math
import sys
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from headrace.layers.activation import FUNCTIONS, Activated
from headrace.numerics import tables
from headrace.numerics.quantization import TensorQuantization, from_range
from headrace.optimize.freeze.context import clamp_codes
from headrace.optimize.freeze.lookup import MAX_BITS, PROBES, Grid, choose_lookup, choose_lookups

TABLES = [name for name, function in FUNCTIONS.items() if function.decimal is not None]
FLOAT_MAX = float(np.finfo(np.float32).max)
SIZES = [0.0, 5e-324, 1e-45, 1.2e-38, 1e-30, 1e-9, 0.3, 1.0, 40.0, 1e3, 65504.0, 1e5, 8.8e5, 1e9, 1e30, FLOAT_MAX, 1e42]
SCALES = [1.2e-38, 1e-30, 1e-5, 0.004, 1.0, 1e9, 1.3e36, FLOAT_MAX]
#: Parameters at their ends, beside the defaults.
PARAMS: dict[str, list[dict[str, float]]] = {
    "elu": [{"alpha": 1e30}, {"alpha": 1e-38}],
    "celu": [{"alpha": 1e-38}, {"alpha": FLOAT_MAX}, {"alpha": -2.0}],
    "selu": [{"alpha": 1e30, "gamma": 1e30}],
    "power": [{"exponent": e, "offset": o} for e in (-FLOAT_MAX, -2.0, 0.5, 70.0, FLOAT_MAX) for o in (0.0, 1e-38)],
    "hard_sigmoid": [{"alpha": FLOAT_MAX, "beta": -1e38}],
    "leaky_relu": [{"alpha": 1e30}],
    "exp": [{"output_scale": FLOAT_MAX, "output_offset": -FLOAT_MAX}],
    "thresholded_relu": [{"alpha": 1e30}],
}
#: Lines of Python that a value may take (measured: 1,385, of gelu at the end of its series); endless ones take more.
MOST_LINES = 2000
#: Exponents beyond this overflow in the sweep: numbers of more digits are never computed.
MOST_DIGITS = 2700


def _steps(function: Any, x: Decimal) -> tuple[Decimal, int]:
    """The value, and the lines of Python that it took."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        assert count < MOST_LINES, f"{x!r} takes more than {MOST_LINES} lines"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return function(x), count
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", TABLES)
def test_no_argument_needs_many_digits_or_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Context(prec=tables.DIGITS, rounding=ROUND_HALF_EVEN, Emin=-MOST_DIGITS, Emax=MOST_DIGITS)
    monkeypatch.setattr(tables, "decimal_context", lambda: narrow)
    with localcontext(narrow):
        for size in SIZES:
            tables.cos(Decimal(size))  # π to so many digits is computed once
    for params in [{}, *PARAMS.get(name, [])]:
        function = Activated(activation=name, activation_params=params).decimal
        with localcontext(narrow):
            for size in SIZES:
                for x in (Decimal(size), -Decimal(size)):
                    value, _ = _steps(function, x)
                    assert value.is_finite() and abs(value.adjusted()) <= MOST_DIGITS
                    for scale in SCALES:
                        code = tables.nearest_code(value / Decimal(scale), TensorQuantization(scale, 7, 16))
                        assert 0 <= code <= 65535


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_table_of_any_range_takes_a_few_probes(name: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing a table evaluates the function a bounded number of times, whatever was measured."""
    function, calls = FUNCTIONS[name], 0

    def counted(params: Any, x: Decimal) -> Decimal:
        nonlocal calls
        calls += 1
        return Decimal(1) if x > 0 else Decimal(-1)

    # The worst case of narrowing is a step at zero: each look finds one changing probe.
    monkeypatch.setitem(FUNCTIONS, name, type(function)(function.evaluate, counted, params=function.params))
    for params in ({}, {"output_scale": 1.0} if "output_scale" in function.params else {}):
        for low, high in [(-FLOAT_MAX, FLOAT_MAX), (-1e-38, 1e-38), (0.0, 1e30), (-8.8e5, 0.0), (0.0, 0.0)]:
            calls = 0
            output = from_range(-1.0 - len(params) * 1e-3, 1.0, bits)
            measured = (low * (1 + 1e-6 * len(name)), high * (1 + 1e-7 * TABLES.index(name)))
            choose_lookup(name, params, (max(measured[0], -FLOAT_MAX), min(measured[1], FLOAT_MAX)), output, None)
            assert calls <= (1 << MAX_BITS) + 60 * (PROBES + 1)


@pytest.mark.parametrize("name", TABLES)
def test_choosing_tables_for_extreme_ranges(name: str) -> None:
    for low, high, output in [
        (-8.8e5, 8.8e5, from_range(-1.0, 1.0)),
        (-FLOAT_MAX, FLOAT_MAX, TensorQuantization(1.3e36, 0, 16)),
        (-1e-45, 1e-45, TensorQuantization(1.2e-38, 128)),
    ]:
        found = choose_lookup(name, {}, (low, high), output, None)
        assert found.table.size == 1 << found.index.bits
    assert choose_lookup(name, {}, (-1e30, 1e30), from_range(-1.0, 1.0), Grid(1e30, -255, 255)).index.scale == 1e30
    assert choose_lookups(name, {}, (-1e5, 1e30), from_range(-1.0, 1.0), (1.0, 128.0)).tables.shape[0] == 2


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("exp", np.exp),
        ("softplus", lambda x: np.logaddexp(0, x)),
        ("elu", lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x)),
        ("gelu", lambda x: np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x])),
        ("mish", lambda x: x * np.tanh(np.logaddexp(0, x))),
        ("sin", np.sin),
        ("cos", np.cos),
        ("atan", np.arctan),
        ("asin", lambda x: np.arcsin(np.clip(x, -1, 1))),
        ("sqrt", lambda x: np.sqrt(np.maximum(x, 0))),
        ("reciprocal", lambda x: 1 / x),
        ("softsign", lambda x: x / (1 + abs(x))),
    ],
)
def test_values_equal_float64_at_every_size(name: str, oracle: Any) -> None:
    """Outside oracle: numpy in float64, relative to the value itself, from denormals to where float64 ends."""
    function = Activated(activation=name).decimal
    magnitudes = np.array(
        [5e-324, 1e-300, 1e-45, 1e-38, 1e-20, 1e-14, 1e-9, 1e-3, 0.7, 3.0, 11.0, 37.0, 600.0, 1e5, 1e15]
    )
    xs = np.concatenate([-magnitudes, magnitudes])
    with np.errstate(all="ignore"):
        wants = oracle(xs)
    with localcontext(tables.decimal_context()):
        for x, want in zip(xs, wants, strict=True):
            got = function(Decimal(float(x)))
            if not math.isfinite(want):
                assert abs(got) > Decimal("1e300")
            elif abs(want) >= 1e-290:
                assert abs(got / Decimal(float(want)) - 1) < Decimal("1e-9"), (x, got, want)
            else:
                assert abs(got) < Decimal("1e-280")


def test_sines_of_large_angles_are_those_of_float64() -> None:
    with localcontext(tables.decimal_context()):
        for x in (1e3, 1e15, 1e22, 1e30):
            assert abs(tables.sin(Decimal(x)) - Decimal(math.sin(x))) < Decimal("1e-14")
            assert abs(tables.cos(Decimal(x)) - Decimal(math.cos(x))) < Decimal("1e-14")


def test_a_range_far_longer_than_the_function_keeps_its_steps_fine() -> None:
    """Logits of ±440,000 in front of a sigmoid, or below their maximum: one step is below half a code all the same."""
    for name, measured, output in [
        ("sigmoid", (-4.4e5, 4.4e5), from_range(0.0, 1.0)),
        ("tanh", (-FLOAT_MAX, FLOAT_MAX), from_range(-1.0, 1.0)),
    ]:
        found = choose_lookup(name, {}, measured, output, None)
        assert np.abs(np.diff(found.table.astype(int))).max() <= 1
    exponential = choose_lookup("exp", {}, (-8.8e5, 0.0), from_range(0.0, 1.0, 16), None)
    assert exponential.index.scale * (1 << exponential.index.bits) < 25


def test_clamp_bounds_beyond_float32() -> None:
    q = TensorQuantization(1.2e-38, 100)
    assert clamp_codes(q, -1e308, 1e308) == (0, 255)
    assert clamp_codes(q, 1e308, 1e308) == (255, 255)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "exp"])
@pytest.mark.parametrize("bits", [8, 16])
def test_float64_changes_no_code(activation, bits):
    """What float64 settles is what the decimals give, at zero points and scales of every size."""
    from headrace.optimize.freeze import lookup

    rng = np.random.default_rng(bits)
    function, quick = lookup._exact(activation, ()), lookup._quick(activation, ())
    assert quick is not None
    for _ in range(12):
        index = TensorQuantization(float(np.float32(10.0 ** rng.uniform(-6, 1.5))), int(rng.integers(0, 512)), 9)
        top = (1 << bits) - 1
        scale = float(np.float32(10.0 ** rng.uniform(-9, 0)))
        output = TensorQuantization(scale, int(rng.integers(-top, top)), bits)
        want = tables.build_table(function, index, 9, output)
        np.testing.assert_array_equal(tables.build_table(function, index, 9, output, quick=quick), want)
        codes, sure = tables.settled(quick, float(index.scale) * (np.arange(512) - index.zero_point), output)
        assert (codes[sure] == want[sure]).all()


def test_float64_leaves_a_tie_to_the_decimals():
    output = TensorQuantization(1.0, 0, 8)
    codes, sure = tables.settled(
        lambda x: x, np.array([0.5, 1.5, 2.5, 2.4999999999, 3.0, np.nan, np.inf, 254.5, 300.0]), output
    )
    assert sure.tolist() == [False, False, False, False, True, False, True, False, True]
    assert codes[sure].tolist() == [3, 255, 255]


def test_an_activation_with_a_factor_is_left_to_the_decimals():
    from headrace.optimize.freeze import lookup

    assert lookup._quick("tanh", (("output_scale", 2.0),)) is None
    assert lookup._quick("gelu", ()) is None
