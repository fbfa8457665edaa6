# SPDX-License-Identifier: Apache-2.0
"""Weights rounded for the sums they make: against nearest rounding, brute force and plain definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from headrace.emulator import Executor
from headrace.optimize import OptimizeOptions, optimize
from headrace.optimize.algorithms.weight_rounding import Rounder, _places, rounded, second_moments
from headrace.optimize.chunks import ChunkRunner
from random_graphs import GraphBuilder, random_frames

RUNNER = ChunkRunner(threads=1)


def correlated(rng: np.random.Generator, samples: int, size: int) -> np.ndarray:
    """Inputs as behind a ReLU: positive, with a common part."""
    return np.maximum(rng.normal(1, 1, (samples, 1)) + rng.normal(0, 0.5, (samples, size)), 0)


def error(x: np.ndarray, wanted: np.ndarray, got: np.ndarray) -> np.ndarray:
    return np.square(x @ (wanted - got)).mean(axis=0)


@pytest.mark.parametrize("size", [9, 64, 200])
def test_sums_come_nearer_than_with_nearest_weights(size: int) -> None:
    rng = np.random.default_rng(size)
    x, kernel = correlated(rng, 4000, size), rng.normal(0, 1, (1, 1, size, 12)).astype(np.float32)
    scale = np.abs(kernel).max(axis=(0, 1, 2)).astype(np.float64) / 127
    got = rounded(kernel, scale, (x.T @ x)[None])
    assert got.shape == kernel.shape
    assert np.abs(got).max() <= 127
    wanted = kernel.astype(np.float64)[0, 0] / scale
    fresh = correlated(np.random.default_rng(99), 4000, size)  # not what it was chosen on
    nearest = error(fresh, wanted, np.rint(wanted))
    assert error(fresh, wanted, got[0, 0]).mean() < 0.5 * nearest.mean()
    assert np.abs(got[0, 0] - wanted).max() < 3  # weights move by few codes


def test_few_weights_against_every_choice() -> None:
    """The order is fixed, so it need not be the best of all 2^5 choices, but near it."""
    rng = np.random.default_rng(1)
    x = correlated(rng, 500, 5)
    kernel = rng.normal(0, 1, (5, 40)).astype(np.float32)
    scale = np.full(40, 0.05)
    wanted = kernel.astype(np.float64) / scale
    got = error(x, wanted, rounded(kernel, scale, (x.T @ x)[None]))
    choices = np.stack([error(x, wanted, np.floor(wanted) + np.array(c)[:, None])
                        for c in itertools.product((0, 1), repeat=5)])  # fmt: skip
    assert np.all(got <= choices.max(axis=0))
    assert got.mean() <= 2.5 * choices.min(axis=0).mean()
    assert got.mean() < error(x, wanted, np.rint(wanted)).mean()


def test_groups_are_rounded_each_with_its_own_inputs() -> None:
    rng = np.random.default_rng(2)
    kernel = rng.normal(0, 1, (3, 3, 1, 6)).astype(np.float32)
    scale = np.abs(kernel).max(axis=(0, 1, 2)).astype(np.float64) / 127
    grams = np.stack([(lambda x: x.T @ x)(correlated(rng, 300, 9)) for _ in range(6)])
    whole = rounded(kernel, scale, grams)
    for c in range(6):
        one = rounded(kernel[..., c : c + 1], scale[c : c + 1], grams[c : c + 1])
        np.testing.assert_array_equal(whole[..., c : c + 1], one)


def test_an_input_that_never_occurs_is_rounded_to_nearest() -> None:
    rng = np.random.default_rng(3)
    kernel = rng.normal(0, 1, (6, 4)).astype(np.float32)
    scale = np.full(4, 0.02)
    want = np.clip(np.rint(kernel.astype(np.float64) / scale), -127, 127)
    np.testing.assert_array_equal(rounded(kernel, scale, np.zeros((1, 6, 6))), want)


@pytest.mark.parametrize(
    ("kind", "groups", "stride", "dilation"), [("conv", 1, 1, 1), ("conv", 2, 2, 1), ("conv", 1, 1, 2), ("dw", 6, 2, 1)]
)
def test_second_moments_are_those_of_the_patches(kind: str, groups: int, stride: int, dilation: int) -> None:
    b = GraphBuilder(5)
    x = b.input((9, 7, 6))
    outputs, per_group = 6, 6 // groups
    attributes = {
        "kernel_shape": [3, 3, per_group, outputs],
        "strides": [stride, stride],
        "dilations": [dilation, dilation],
        "padding": [1, 0, 1, 2],
        "groups": groups,
    }
    y = b.add(kind, [x], attributes, {"kernel": b.weights(3, 3, per_group, outputs)})
    b.output(y)
    frames = random_frames(b.net, 24, 0)
    found = second_moments(b.net, frames, RUNNER)[y]
    # The sum over patches of (patch · w)² is wᵀ H w, and the layer computes patch · w.
    kernel = b.net.params[f"{y}/kernel"].astype(np.float64)
    sums = Executor(b.net).run(frames, [y])[y].astype(np.float64)
    for c in range(outputs):
        w = kernel[..., c].reshape(-1)
        group = c // (outputs // groups)
        assert w @ found[group] @ w == pytest.approx(np.square(sums[..., c]).sum(), rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (80, 80), (13, 64), (200, 3), (9, 256)])
def test_the_places_looked_at_lie_all_over_the_map(height: int, width: int) -> None:
    """No column, row or border has more than its share: 64 of 64 × 64, row by row, were the left edge alone."""
    row, column = _places(height, width, 64)
    assert len(row) == 64 and int(row.min()) >= 0 and int(column.min()) >= 0
    for place, size in ((row.numpy(), height), (column.numpy(), width)):
        assert place.max() < size
        parts = min(size, 8)
        shares = np.bincount(place * parts // size, minlength=parts)
        assert shares.min() >= 64 // parts // 2 and shares.max() <= 2 * 64 // parts + 2


def test_all_of_a_small_map_is_looked_at_once() -> None:
    row, column = _places(5, 7, 35)
    assert sorted(zip(row.tolist(), column.tolist(), strict=True)) == [(r, c) for r in range(5) for c in range(7)]


def test_layers_with_too_few_samples_are_left_out() -> None:
    b = GraphBuilder(6)
    x = b.add("global_avgpool", [b.input((4, 4, 40))], {})
    y = b.convolution(x, 8, 1, same=True)
    b.output(y)
    frames = random_frames(b.net, 24, 0)
    assert second_moments(b.net, frames, RUNNER) == {}


def network() -> GraphBuilder:
    b = GraphBuilder(7)
    x = b.input((12, 12, 8))
    for outputs in (24, 24, 10):
        attributes = {"kernel_shape": [3, 3, b.shape(x)[3], outputs], "padding": [1] * 4, "activation": "relu"}
        x = b.add("conv", [x], attributes, {"kernel": b.weights(3, 3, b.shape(x)[3], outputs)})
    b.output(x)
    return b


def test_it_is_kept_where_the_outputs_gain_and_recorded() -> None:
    """Whatever the noise: nothing is left out because the outputs are good already."""
    b = network()
    frames = {k: np.abs(v) for k, v in random_frames(b.net, 32, 0).items()}
    plain = OptimizeOptions(min_snr=0, equalization=False, weight_rounding=False)
    off, on = (optimize(b.net, frames, o) for o in (plain, OptimizeOptions(min_snr=0, equalization=False)))
    records = [d for d in on.report.algorithms if d.name == "weight-rounding"]
    assert len(records) == 1
    assert off.report.outputs["net/output_layer1"].snr_db > 25.0
    different = any(not np.array_equal(off.network.params[k], v) for k, v in on.network.params.items() if "kernel" in k)
    assert records[0].accepted == different
    name = "net/output_layer1"
    assert on.report.outputs[name].snr_db >= off.report.outputs[name].snr_db - 0.1
    assert not any(d.name == "weight-rounding" for d in off.report.algorithms)


def test_the_last_result_is_remembered_for_the_same_weights_only() -> None:
    rng = np.random.default_rng(8)
    rounder = Rounder(np.eye(4)[None])
    kernel, scale = rng.normal(0, 1, (4, 3)).astype(np.float32), np.full(3, 0.03)
    first = rounder(kernel, scale)
    assert rounder(kernel, scale) is first
    np.testing.assert_array_equal(rounder(2 * kernel, scale), np.clip(np.rint(2 * kernel / scale), -127, 127))


def test_the_same_integers_for_any_number_of_threads() -> None:
    b = network()
    frames = random_frames(b.net, 32, 0)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(optimize(b.net, frames, OptimizeOptions(min_snr=0, threads=threads)).network)
    torch.set_num_threads(2)
    assert list(results[0].params) == list(results[1].params)
    for key, value in results[0].params.items():
        np.testing.assert_array_equal(value, results[1].params[key])


def test_sums_that_overflowed_leave_rounding_to_the_nearest() -> None:
    """Weights of 1e30 make values that are no numbers any more; the network fails its gate, not with a traceback."""
    kernel = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for value in (np.nan, np.inf, -1.0):
        moments = np.full((1, 3, 3), value)
        assert np.array_equal(rounded(kernel, np.full(4, 0.01), moments), np.clip(np.rint(kernel / 0.01), -127, 127))
