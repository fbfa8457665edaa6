# SPDX-License-Identifier: Apache-2.0
"""torch integer primitives = numpy int64 reference, on random shapes and at the extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.emulator import scaling
from headrace.emulator.exact import exact_arithmetic
from headrace.emulator.integer_ops import TorchIntegerOps, from_codes, to_codes
from headrace.emulator.scaling import Accumulator
from headrace.numerics.reference import ReferenceOps
from headrace.numerics.requantize import Requantization, choose_multipliers
from headrace.numerics.tables import reciprocal_table

BATCHES = st.sampled_from([1, 2, 16, 33])
ZEROS = st.sampled_from([0, 1, 127, 128, 254, 255])
QUICK = settings(max_examples=40, deadline=None)
REFERENCE = ReferenceOps()


def codes(rng: np.random.Generator, shape: tuple[int, ...], extreme: str, bits: int = 8) -> np.ndarray[Any, Any]:
    high = (1 << bits) - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    if extreme == "low":
        return np.zeros(shape, dtype)
    if extreme == "high":
        return np.full(shape, high, dtype)
    return rng.integers(0, high + 1, shape).astype(dtype)


def requantization(
    rng: np.random.Generator, bounds: Any, bits: int, table_bits: int = 0, wide: bool = False
) -> Requantization:
    """Random frozen integers for accumulators of these magnitudes ``[terms, channels]``."""
    bounds = np.maximum(np.asarray(bounds, dtype=np.int64), 1)
    span = 2.0 ** (table_bits or bits)
    factors = rng.choice([-1.0, 1.0], bounds.shape) * rng.uniform(0.1, 2.0, bounds.shape) * span / bounds
    if wide:
        factors = factors * 2.0**12
    multipliers, shifts = choose_multipliers(factors, bounds)
    high = int(span) - 1
    table = None
    if table_bits:
        table = rng.integers(0, 1 << bits, 1 << table_bits).astype(np.uint8 if bits == 8 else np.uint16)
    numbers = None
    if table_bits and bits == 8 and rng.integers(0, 2):  # channels have tables of their own
        count = int(rng.integers(1, 5))
        table = rng.integers(0, 256, (count, 1 << table_bits)).astype(np.uint8)
        numbers = rng.integers(0, count, bounds.shape[1]).astype(np.uint8)
    low = int(rng.integers(0, 3))
    return Requantization(
        multipliers, shifts, int(rng.integers(0, high + 1)), low, high - int(rng.integers(0, 3)), table, numbers
    )


def value(accumulator: Accumulator) -> np.ndarray[Any, Any]:
    return accumulator.raw.to(dtype=__import__("torch").int64).numpy() + accumulator.offset


@QUICK
@given(
    seed=st.integers(0, 2**31),
    batch=BATCHES,
    zero=ZEROS,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 1, 2, 3]),
    per_group=st.integers(1, 5),
    outputs=st.integers(1, 4),
    extreme=st.sampled_from(["random", "low", "high"]),
    backend=st.sampled_from([None, "matmul"]),
    bits=st.sampled_from([8, 8, 8, 16]),
    table=st.sampled_from([0, 0, 9]),
    wide=st.booleans(),
)
def test_convolve_and_requantize(
    seed: int,
    batch: int,
    zero: int,
    kernel: Any,
    strides: Any,
    dilations: Any,
    groups: int,
    per_group: int,
    outputs: int,
    extreme: str,
    backend: str | None,
    bits: int,
    table: int,
    wide: bool,
) -> None:
    rng = np.random.default_rng(seed)
    padding = tuple(int(rng.integers(0, (kernel[i % 2] - 1) * dilations[i % 2] + 1)) for i in range(4))
    height = (kernel[0] - 1) * dilations[0] + 1 + int(rng.integers(0, 5))
    width = (kernel[1] - 1) * dilations[1] + 1 + int(rng.integers(0, 5))
    x = codes(rng, (batch, height, width, per_group * groups), extreme, bits)
    weights = rng.integers(-128, 128, (*kernel, per_group, outputs * groups)).astype(np.int8)
    if extreme != "random":
        weights[:] = -128 if seed % 2 else 127
    bias = rng.integers(-(2**30), 2**30, outputs * groups).astype(np.int32)
    options = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
    ops = TorchIntegerOps(backend)
    want = REFERENCE.convolve(x, zero, weights, bias, **options)
    bounds = np.abs(bias.astype(np.int64)) + np.abs(weights.astype(np.int64)).sum((0, 1, 2)) * 65535
    rq = requantization(rng, bounds[None], bits, table, wide)
    with exact_arithmetic():
        got = ops.convolve(to_codes(x), zero, weights, bias, **options)
        np.testing.assert_array_equal(value(got), want)
        result = from_codes(ops.requantize([got], rq, bits))
    np.testing.assert_array_equal(result, REFERENCE.requantize([want], rq, bits))


@QUICK
@given(
    seed=st.integers(0, 2**31),
    batch=BATCHES,
    zero=ZEROS,
    bits=st.sampled_from([8, 16]),
    table=st.sampled_from([0, 0, 10]),
)
def test_dense(seed: int, batch: int, zero: int, bits: int, table: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = int(rng.integers(1, 300)), int(rng.integers(1, 20))
    x = codes(rng, (batch, inputs), "random", bits)
    weights = rng.integers(-128, 128, (inputs, outputs)).astype(np.int8)
    bias = rng.integers(-(2**30), 2**30, outputs).astype(np.int32)
    want = REFERENCE.dense(x, zero, weights, bias)
    rq = requantization(rng, np.full((1, outputs), 2**31 - 1), bits, table)
    ops = TorchIntegerOps()
    with exact_arithmetic():
        result = from_codes(ops.requantize([ops.dense(to_codes(x), zero, weights, bias)], rq, bits))
    np.testing.assert_array_equal(result, REFERENCE.requantize([want], rq, bits))


@QUICK
@given(
    seed=st.integers(0, 2**31),
    batch=BATCHES,
    zeros=st.tuples(ZEROS, ZEROS),
    bits=st.tuples(st.sampled_from([8, 16]), st.sampled_from([8, 16])),
    broadcast=st.sampled_from(["none", "space", "channels", "height"]),
    multiply=st.booleans(),
    table=st.sampled_from([0, 0, 9]),
    per_channel=st.booleans(),
)
def test_elementwise(
    seed: int, batch: int, zeros: Any, bits: Any, broadcast: str, multiply: bool, table: int, per_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    height, width, channels = (int(v) for v in rng.integers(1, 7, 3))
    channels = channels * 40 if seed % 4 == 0 else channels  # few and many channels take different ways
    second = {
        "none": (height, width, channels),
        "space": (1, 1, channels),
        "channels": (height, width, 1),
        "height": (1, width, channels),
    }
    x = codes(rng, (batch, height, width, channels), "random", bits[0])
    y = codes(rng, (batch, *second[broadcast]), "random", bits[1])
    reach = [max(z, (1 << b) - 1 - z) for z, b in zip(zeros, bits, strict=True)]
    columns = channels if per_channel else 1
    ops = TorchIntegerOps()
    if multiply:
        rq = requantization(rng, np.full((1, columns), reach[0] * reach[1]), bits[0], table)
        want = REFERENCE.requantize(
            [REFERENCE.multiply(REFERENCE.center(x, zeros[0]), REFERENCE.center(y, zeros[1]))], rq, bits[0]
        )
    else:
        rq = requantization(rng, np.repeat(np.array(reach)[:, None], columns, 1), bits[0], table)
        want = REFERENCE.requantize([REFERENCE.center(x, zeros[0]), REFERENCE.center(y, zeros[1])], rq, bits[0])
    with exact_arithmetic():
        a, b = ops.center(to_codes(x), zeros[0]), ops.center(to_codes(y), zeros[1])
        got = from_codes(ops.requantize([ops.multiply(a, b)] if multiply else [a, b], rq, bits[0]))
    np.testing.assert_array_equal(got, want)


@QUICK
@given(seed=st.integers(0, 2**31), batch=BATCHES, zero=ZEROS, bits=st.sampled_from([8, 16]), whole=st.booleans())
def test_pooling(seed: int, batch: int, zero: int, bits: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width, channels = (int(v) for v in rng.integers(3, 9, 3))
    channels = channels * 40 if seed % 4 == 0 else channels
    window = (height, width) if whole else tuple(int(v) for v in rng.integers(1, 4, 2))
    strides = tuple(int(v) for v in rng.integers(1, 4, 2))
    padding = (0, 0, 0, 0) if whole else tuple(int(rng.integers(0, window[i % 2])) for i in range(4))
    x = codes(rng, (batch, height, width, channels), "random", bits)
    ops = TorchIntegerOps()
    with exact_arithmetic():
        top = from_codes(ops.window_max(to_codes(x), window=window, strides=strides, padding=padding))
        total = ops.window_sum(to_codes(x), zero, window=window, strides=strides, padding=padding)
        np.testing.assert_array_equal(top, REFERENCE.window_max(x, window=window, strides=strides, padding=padding))
        want = REFERENCE.window_sum(x, zero, window=window, strides=strides, padding=padding)
        np.testing.assert_array_equal(value(total), want)
        choice = rng.integers(0, 3, want.shape[1:3])
        rq = requantization(rng, np.full((1, 3), 65535 * window[0] * window[1]), bits)
        got = from_codes(ops.requantize_by_position(total, choice, rq, bits))
    np.testing.assert_array_equal(got, REFERENCE.requantize_by_position(want, choice, rq, bits))


@QUICK
@given(seed=st.integers(0, 2**31), batch=BATCHES, zero=ZEROS, extreme=st.sampled_from(["random", "low", "high"]))
def test_reductions_and_reciprocal(seed: int, batch: int, zero: int, extreme: str) -> None:
    rng = np.random.default_rng(seed)
    x = codes(rng, (batch, int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 60))), extreme, 16)
    axes = [[3], [1, 2], [1, 2, 3]][seed % 3]
    table = reciprocal_table()
    shift = int(rng.integers(1, 30))
    rq = Requantization(np.array([[int(rng.integers(1, 2**31))]], np.int32), np.array([shift], np.uint8), 5, 0, 65535)
    ops = TorchIntegerOps()
    with exact_arithmetic():
        np.testing.assert_array_equal(from_codes(ops.reduce_max(to_codes(x), axes)), REFERENCE.reduce_max(x, axes))
        total = ops.reduce_sum(to_codes(x), zero, axes)
        want = REFERENCE.reduce_sum(x, zero, axes)
        np.testing.assert_array_equal(value(total), want)
        got = from_codes(ops.reciprocal(total, table, rq, 16))
    np.testing.assert_array_equal(got, REFERENCE.reciprocal(want, table, rq, 16))


@QUICK
@given(seed=st.integers(0, 2**31), batch=BATCHES, bits=st.sampled_from([8, 16]))
def test_moves(seed: int, batch: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(v) for v in rng.integers(2, 7, 3)]
    x = codes(rng, (batch, *sizes), "random", bits)
    t, ops = to_codes(x), TorchIntegerOps()
    starts = [int(rng.integers(0, s)) for s in sizes]
    steps = [int(v) for v in rng.integers(1, 3, 3)]
    counts = [(s - b - 1) // d + 1 for s, b, d in zip(sizes, starts, steps, strict=True)]
    before, after = ([int(v) for v in rng.integers(0, 3, 3)] for _ in range(2))
    order = [int(v) for v in rng.permutation(3)]
    pairs = [
        (ops.slice(t, starts, steps, counts), REFERENCE.slice(x, starts, steps, counts)),
        (ops.pad(t, before, after, 77), REFERENCE.pad(x, before, after, 77)),
        (ops.transpose(t, order), REFERENCE.transpose(x, order)),
        (
            ops.reshape(ops.transpose(t, order), (x[0].size,)),
            REFERENCE.reshape(REFERENCE.transpose(x, order), (x[0].size,)),
        ),
        (
            ops.concat([t, ops.pad(t, (0, 0, 0), (0, 0, 1), 3)], 3),
            REFERENCE.concat([x, REFERENCE.pad(x, (0, 0, 0), (0, 0, 1), 3)], 3),
        ),
    ]
    for got, want in pairs:
        np.testing.assert_array_equal(from_codes(got), want)


@pytest.mark.parametrize("shape", [(3, 90, 64, 32), (33, 16, 16, 8)])
def test_large_frames_are_cut_without_a_seam(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "CHUNK_ELEMENTS", 5000)
    rng = np.random.default_rng(5)
    x, y = codes(rng, shape, "random"), codes(rng, (shape[0], 1, 1, shape[3]), "random")
    rq = requantization(rng, np.full((2, shape[3]), 200), 8, 9)
    ops = TorchIntegerOps()
    with exact_arithmetic():
        got = from_codes(ops.requantize([ops.center(to_codes(x), 7), ops.center(to_codes(y), 200)], rq, 8))
    np.testing.assert_array_equal(got, REFERENCE.requantize([REFERENCE.center(x, 7), REFERENCE.center(y, 200)], rq, 8))


def test_layers_that_share_a_kernel_keep_their_biases() -> None:
    rng = np.random.default_rng(0)
    x, kernel = codes(rng, (2, 4, 4, 3), "random"), rng.integers(-128, 128, (1, 1, 3, 2)).astype(np.int8)
    options = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    ops = TorchIntegerOps()
    for bias in (np.array([1, 2], np.int32), np.array([-500, 70], np.int32)):
        with exact_arithmetic():
            got = ops.convolve(to_codes(x), 7, kernel, bias, **options)
        np.testing.assert_array_equal(value(got), REFERENCE.convolve(x, 7, kernel, bias, **options))
