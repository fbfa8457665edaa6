# SPDX-License-Identifier: Apache-2.0
"""Histograms, calibrators, equalization, bias correction, and that each is kept only where it helps."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.emulator import Executor
from headrace.errors import UsageError
from headrace.hn import Network, json_format, output_quantization
from headrace.numerics.quantization import dequantize, from_range, quantize_input
from headrace.optimize import Clipping, OptimizeOptions, optimize
from headrace.optimize.algorithms.equalization import find_chains, rescaled
from headrace.optimize.statistics.collect import Moments
from headrace.optimize.statistics.histogram import BINS, Histogram
from random_graphs import GraphBuilder, random_frames, weighted

PLAIN = OptimizeOptions(
    min_snr=0, calibrator="minmax", equalization=False, bias_correction=False, weight_rounding=False
)


def histogram(values: np.ndarray) -> Histogram:
    tensor = torch.from_numpy(values.astype(np.float32))
    return Histogram.of(tensor, float(tensor.min()), float(tensor.max()))


def digest(network: Network) -> str:
    h = hashlib.sha256(json_format.dumps(network))
    for key in sorted(network.params):
        h.update(key.encode() + np.ascontiguousarray(network.params[key]).tobytes())
    return h.hexdigest()


# --- histograms ------------------------------------------------------------------------------------------------------

floats = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)


@given(st.lists(st.lists(floats, min_size=1, max_size=20), min_size=1, max_size=6), st.randoms())
@settings(max_examples=150, deadline=None)
def test_merging_is_exact_in_any_order(parts: list[list[float]], random: object) -> None:
    whole = histogram(np.array([x for part in parts for x in part]))
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    merged = histogram(np.array(shuffled[0]))
    for part in shuffled[1:]:
        merged = merged.merged(histogram(np.array(part)))
    assert (merged.exponent, merged.first) == (whole.exponent, whole.first)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    assert len(whole.counts) <= BINS
    assert whole.total == sum(map(len, parts))


@given(st.lists(floats, min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_every_value_lies_in_its_bin(values: list[float]) -> None:
    h = histogram(np.array(values))
    want = np.zeros(len(h.counts), np.int64)
    for x in np.array(values, np.float32):
        want[int(np.floor(np.float64(x) / h.width)) - h.first] += 1
    np.testing.assert_array_equal(h.counts, want)


def test_percentiles_and_least_error_against_brute_force() -> None:
    rng = np.random.default_rng(3)
    x = np.maximum(rng.laplace(0, 1, 50_000), 0).astype(np.float32)
    h = histogram(x)
    low, high = h.percentile(0.01, 99.9)
    assert low == 0
    assert abs(high - np.percentile(x, 99.9)) <= 2 * h.width
    assert h.percentile(0, 100)[1] >= x.max()
    best = h.least_error(0.0, float(x.max()), 8)

    def error(top: float) -> float:
        q = from_range(0.0, top)
        return float(np.square(x - dequantize(quantize_input(x, q), q).astype(np.float64)).sum())

    tried = [error(float(x.max()) * f) for f in np.linspace(0.02, 1.0, 99)]
    assert error(best[1]) <= 1.03 * min(tried)
    assert error(best[1]) < error(float(x.max()))
    np.testing.assert_allclose(h.error(0.0, best[1], 8), error(best[1]), rtol=0.2)


# --- equalization ----------------------------------------------------------------------------------------------------


def uneven_network(groups: bool = False) -> GraphBuilder:
    """conv → dw → conv → conv whose inner channels differ in size by 4096."""
    b = GraphBuilder(11)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "relu")
    x = weighted(b, x, 8, 3, "relu", dw=True) if groups else x
    x = weighted(b, x, 8, 1, "relu")
    b.output(weighted(b, x, 5, 1, "linear"))
    first = b.net.layers["net/conv1"]
    spread = (2.0 ** np.linspace(-6, 6, 8)).astype(np.float32)
    names = [layer.name for layer in b.net.of_kind("conv", "dw")]
    b.net.params[f"{first.name}/kernel"] = b.net.params[f"{first.name}/kernel"] * spread
    b.net.params[f"{first.name}/bias"] = b.net.params[f"{first.name}/bias"] * spread
    reader = b.net[names[1]]
    kernel = b.net.params[f"{reader.name}/kernel"]
    shape = (1, 1, 1, 8) if reader.kind == "dw" or kernel.shape[2] == 1 else (1, 1, 8, 1)
    b.net.params[f"{reader.name}/kernel"] = (kernel / spread.reshape(shape)).astype(np.float32)
    return b


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("strength", [0.5, 0.8, 1.0])
def test_equalized_chains_mean_the_same(groups: bool, strength: float) -> None:
    b = uneven_network(groups)
    (chain,) = find_chains(b.net)
    assert len(chain.links) == (3 if groups else 2)
    sizes: dict[str, np.ndarray] = {}
    frames = random_frames(b.net, 4, 0)

    def see(layer: object, before: object, output: object) -> None:
        sizes[layer.name] = output.abs().amax((0, 1, 2)).numpy().astype(np.float64)  # type: ignore[attr-defined]

    Executor(b.net, "fp_optimized").visit(frames, see)
    changed = b.net.clone()
    changed.params.update(rescaled(b.net, chain, sizes, strength))
    for name, value in Executor(changed).run(frames).items():
        want = Executor(b.net).run(frames)[name]
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    inner = {k: v.copy() for k, v in sizes.items()}
    Executor(changed, "fp_optimized").visit(frames, see)
    first = chain.links[0].first
    live = inner[first] > 0
    assert np.ptp(np.log(sizes[first][live])) <= np.ptp(np.log(inner[first][live])) + 1e-6


def test_equalization_is_taken_where_it_helps_and_recorded() -> None:
    b = uneven_network()
    frames = random_frames(b.net, 32, 0)
    off = optimize(b.net, frames, OptimizeOptions(min_snr=0, equalization=False))
    on = optimize(b.net, frames, OptimizeOptions(min_snr=0))
    assert on.report.outputs["net/output_layer1"].snr_db > off.report.outputs["net/output_layer1"].snr_db + 3
    records = [d for d in on.report.algorithms if d.name == "equalization"]
    assert all(d.accepted for d in records)
    assert records[0].chain == ("net/conv1", "net/conv2", "net/conv3")
    assert records[0].after < records[0].before


@pytest.mark.parametrize("reason", ["relu6", "read twice", "silu"])
def test_what_is_not_homogeneous_or_read_twice_is_no_chain(reason: str) -> None:
    b = GraphBuilder(2)
    x = b.input((8, 8, 4))
    x = weighted(b, x, 4, 3, reason if reason != "read twice" else "relu")
    b.output(weighted(b, x, 4, 3, "linear"))
    if reason == "read twice":
        b.output(x)
    assert find_chains(b.net) == []


# --- bias correction -------------------------------------------------------------------------------------------------


def test_moments_do_not_depend_on_chunks() -> None:
    x = torch.arange(7 * 6, dtype=torch.float32).reshape(7, 3, 2)
    whole = Moments.of(x, 0)
    parts = Moments.of(x[:3], 0).added(Moments.of(x[3:], 3))
    np.testing.assert_array_equal(whole.sums, parts.sums)
    np.testing.assert_array_equal(whole.elements, [12.0, 9.0])
    np.testing.assert_array_equal(whole.sums[1], x[1::2].sum((0, 1)).numpy())


def test_bias_correction_takes_the_mean_shift_away() -> None:
    b = GraphBuilder(4)
    x = weighted(b, b.input((8, 8, 16)), 16, 3, "relu", dw=True)
    last = weighted(b, x, 8, 1, "linear") + "/kernel"
    b.output(last.rpartition("/")[0])
    # All weights but one of each channel lie between two codes and are rounded in one direction: the mean shifts.
    weights = np.full_like(b.net.params[last], 1.3 / 127)
    weights[..., 0, :] = 1.0
    b.net.params[last] = weights
    frames = {k: np.abs(v) for k, v in random_frames(b.net, 32, 0).items()}
    off = optimize(b.net, frames, PLAIN)
    on = optimize(b.net, frames, OptimizeOptions(min_snr=0, equalization=False, weight_rounding=False))

    def shift(result: object) -> float:
        want = next(iter(Executor(b.net).run(frames).values()))
        got = next(iter(Executor(result.network, "quantized").run(frames, dequantize=True).values()))  # type: ignore[attr-defined]
        return float(np.abs((want - got).mean(axis=(0, 1, 2))).max())

    assert shift(on) < 0.2 * shift(off)
    whole = next(d for d in on.report.algorithms if d.name == "bias-correction" and d.layer is None)
    assert whole.accepted
    assert whole.after > whole.before
    per_layer = [d for d in on.report.algorithms if d.name == "bias-correction" and d.layer]
    assert {d.layer for d in per_layer} == {x.name for x in b.net.of_kind("conv", "dw")}
    assert all(d.after <= d.before for d in per_layer)


# --- the whole -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_default_is_never_worse_than_plain_on_the_trial_frames(seed: int) -> None:
    b = uneven_network(bool(seed % 2))
    rng = np.random.default_rng(seed)
    for key, value in b.net.params.items():
        b.net.params[key] = (value * rng.uniform(0.5, 2.0, value.shape)).astype(np.float32)
    frames = random_frames(b.net, 24, seed)
    plain = optimize(b.net, frames, PLAIN).report.outputs["net/output_layer1"].snr_db
    for calibrator in ("minmax", "auto"):
        report = optimize(b.net, frames, OptimizeOptions(min_snr=0, calibrator=calibrator)).report
        assert report.outputs["net/output_layer1"].snr_db >= plain
        assert {d.name for d in report.algorithms} >= {"activation-ranges", "bias-correction", "equalization"}
        assert all(d.measure and d.reason for d in report.algorithms)


def test_clipping_that_the_user_asks_for_is_used() -> None:
    b = uneven_network()
    frames = random_frames(b.net, 8, 0)

    def limits(*clippings: Clipping) -> tuple[float, float]:
        options = OptimizeOptions(min_snr=0, equalization=False, bias_correction=False, clippings=clippings)
        layer = optimize(b.net, frames, options).network["net/conv1"]
        q = output_quantization(layer)
        return -q.scale * q.zero_point, q.scale * (255 - q.zero_point)

    full = limits()
    assert limits(Clipping(("conv1",), "manual", (0.0, 3.0)))[1] == pytest.approx(3.0, rel=1e-6)
    assert limits(Clipping(("conv*",), "percentile", (0.0, 90.0)))[1] < 0.8 * full[1]
    assert limits(Clipping(("*",), "percentile", (0.0, 90.0)), Clipping(("conv1",), "disabled")) == full
    with pytest.raises(UsageError, match="conv1"):
        limits(Clipping(("conv11",), "disabled"))
    for bad in (Clipping(("*",), "percentil"), Clipping(("*",), "manual", (2.0, 1.0))):
        with pytest.raises(UsageError):
            limits(bad)


@pytest.mark.parametrize("calibrator", ["minmax", "auto"])
def test_the_same_bytes_for_any_thread_count_and_batch(calibrator: str) -> None:
    b = uneven_network(True)
    frames = random_frames(b.net, 41, 0)
    results = [
        optimize(b.net, frames, OptimizeOptions(min_snr=0, calibrator=calibrator, threads=threads, batch=batch))
        for threads, batch in ((1, 64), (2, 16), (3, 64))
    ]
    assert len({digest(r.network) for r in results}) == 1
    assert all(r.report.algorithms == results[0].report.algorithms for r in results)


def test_the_same_bytes_for_any_hash_seed() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_optimize_algorithms import digest, uneven_network, random_frames\n"
        "from headrace.optimize import OptimizeOptions, optimize\n"
        "b = uneven_network(True)\n"
        "r = optimize(b.net, random_frames(b.net, 8, 0), OptimizeOptions(min_snr=0, calibrator='auto'))\n"
        "print(digest(r.network), r.report.algorithms)\n"
    )
    here = Path(__file__).resolve().parent
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, str(here), str(here.parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
