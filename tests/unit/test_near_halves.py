# SPDX-License-Identifier: Apache-2.0
"""Multipliers of layers with a file's codes: XNNPACK's and MLAS's float32 product, rounded to even, is the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization, choose_multipliers
from headrace.optimize.freeze.near_halves import float32_ratio, on_the_runtimes_side


def frozen(ratio, bound, zero=0):
    multipliers, shifts = choose_multipliers(np.array([[float(ratio)]]), np.array([[bound]]))
    return Requantization(multipliers, shifts, zero, 0, 255)


def results(rq, accumulators):
    m, shift = int(rq.multipliers[0, 0]), int(rq.shifts[0])
    return np.clip(rq.zero + ((accumulators * m + (1 << (shift - 1))) >> shift), rq.low, rq.high)


def runtimes(ratio, accumulators, zero):
    return np.clip(zero + np.rint(accumulators.astype(np.float32) * ratio).astype(np.int64), 0, 255)


def chosen(ratio, bound, zero, exact=None):
    ratios, bounds = np.array([ratio], np.float32), np.array([bound])
    return on_the_runtimes_side(frozen(exact or ratio, bound, zero), ratios, bounds, np.array([True]))


def test_the_case_of_mobilenet():
    """161.49999441 is a half in 24 bits, and goes to the even 162; four layers of that file have such borders."""
    codes = TensorQuantization(0.023528477177023888, 0, 8)
    steps = np.array([0.0229436], np.float32)
    (ratio,) = float32_ratio(codes, steps, codes)
    accumulators = np.arange(-20_000, 20_000)
    before, after = frozen(steps[0], 2**20), chosen(ratio, 2**20, 0, steps[0])
    want = runtimes(ratio, accumulators, 0)
    assert results(before, np.array([7039])) == 161 and results(after, np.array([7039])) == 162
    assert np.array_equal(results(after, accumulators), want)


@pytest.mark.parametrize("seed", range(40))
def test_no_accumulator_is_rounded_worse(seed):
    random = np.random.default_rng(seed)
    bound, zero = int(2 ** random.uniform(10, 22)), int(random.integers(0, 256))
    ratio = np.float32(2 ** random.uniform(-13, -1))
    accumulators = np.unique(random.integers(-bound, bound + 1, 200_000))
    want = runtimes(ratio, accumulators, zero)
    before = np.count_nonzero(results(frozen(ratio, bound, zero), accumulators) != want)
    after = np.count_nonzero(results(chosen(ratio, bound, zero), accumulators) != want)
    assert after <= before and after <= 2, (before, after)


def test_halves_that_no_multiplier_can_part():
    """A ratio of ½: every odd accumulator is a half, and even results want the other side than odd ones."""
    ratio, accumulators = np.float32(0.5), np.arange(0, 500)
    want = runtimes(ratio, accumulators, 0)
    rq = chosen(ratio, 600, 0)
    off = results(rq, accumulators) - want
    assert np.abs(off).max() <= 1
    assert np.count_nonzero(off) <= np.count_nonzero(results(frozen(ratio, 600), accumulators) != want)


def test_what_may_not_change_stays():
    rq = frozen(np.float32(0.0229436), 2**20)
    ratios, bounds = np.array([0.0229436], np.float32), np.array([2**20])
    assert on_the_runtimes_side(rq, ratios, bounds, np.array([False])) is rq
    for ratio in (np.nan, np.inf, 0.0, -1.0):
        assert on_the_runtimes_side(rq, np.array([ratio], np.float32), bounds, np.array([True])) is rq
