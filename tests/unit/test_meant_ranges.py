# SPDX-License-Identifier: Apache-2.0
"""Ranges that a meaning fixes, and data that use a small part of them: softmax over long rows, sigmoids near zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.emulator import Executor
from headrace.hn import Network, output_quantization
from headrace.optimize import OptimizeOptions, optimize
from random_graphs import GraphBuilder, weighted
from same_bytes import assert_same_bytes

Array = np.ndarray[Any, Any]


def optimized(network: Network, frames: dict[str, Array], **changes: Any) -> Network:
    return optimize(network, frames, OptimizeOptions(min_snr=0, threads=1, **changes)).network


def snr(want: Array, got: Array) -> float:
    """About the mean, dB."""
    noise = float(np.square(want - got).sum())
    return 10 * np.log10(float(np.square(want - want.mean()).sum()) / max(noise, 1e-300))


def softmax64(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rows(kind: str, entries: int, count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.7, (count, entries))
    if kind == "peaked":
        x[np.arange(count), rng.integers(0, entries, count)] += 4 + np.log(entries)
    if kind == "large":
        x *= 1e5 / np.abs(x).max()
    return x.astype(np.float32)


@pytest.mark.parametrize("entries", [8, 200, 2048, 10000])
@pytest.mark.parametrize("kind", ["flat", "peaked", "large"])
def test_softmax_over_rows_of_any_length(kind: str, entries: int) -> None:
    """Outside oracle: numpy in float64, of the logits as the input's 8 bits have them."""
    b = GraphBuilder(1)
    x = b.input((entries,))
    b.output(b.add("softmax", [x], {}))
    q = optimized(b.net, {x: rows(kind, entries, 24, 3)})
    executor, test = Executor(q, "quantized"), {x: rows(kind, entries, 6, 4)}
    got = next(iter(executor.run(test, dequantize=True).values()))
    want = softmax64(executor.run(test, [x], dequantize=True)[x].astype(np.float64))
    assert snr(want, got) >= (38.0 if entries < 10000 else 34.0)  # the tail's own rounding
    # Beside a peak, entries below half an 8-bit code are lost, 10,000 of them together.
    assert np.abs(got.sum(axis=1) - 1).max() <= (0.06 if kind == "peaked" else 0.02)


def test_a_peak_that_calibration_did_not_show_stays_the_largest() -> None:
    b = GraphBuilder(1)
    x = b.input((8400,))
    scaled = b.add("batch_norm", [x], {}, {"scale": np.full(8400, 2, np.float32), "offset": np.zeros(8400, np.float32)})
    b.output(b.add("softmax", [scaled], {}))
    frames = rows("flat", 8400, 16, 3)
    q = optimized(b.net, {x: frames})
    test = frames[:4].copy()
    test[:, 17] = frames.max()  # the most that the input can say
    got = next(iter(Executor(q, "quantized").run({x: test}, dequantize=True).values()))
    assert (got.argmax(axis=1) == 17).all()
    output = output_quantization(next(layer for layer in q if layer.kind == "output_layer"))
    assert output.bits == 16 and output.limits[1] >= 30 * softmax64(2.0 * frames).max()


def scores(reader: bool = False, activation: str = "sigmoid") -> Network:
    b = GraphBuilder(4)
    x = b.input((4, 4, 8))
    kernel = np.eye(8, dtype=np.float32).reshape(1, 1, 8, 8)
    attributes = {"kernel_shape": [1, 1, 8, 8], "activation": activation}
    score = b.add("conv", [x], attributes, {"kernel": kernel, "bias": np.zeros(8, np.float32)})
    b.output(score)
    if reader:
        b.output(weighted(b, score, 5, 1))
    return b.net


@pytest.mark.parametrize("top", [0.1, 0.01, 0.001])
def test_scores_of_frames_without_objects(top: float) -> None:
    """What was measured is fine, and a score that only use shows still reads as one."""
    rng = np.random.default_rng(5)
    net = scores()
    name = net.input_layers[0].name
    logit = np.log(top / (1 - top))
    frames = rng.uniform(logit - 3, logit, (32, 4, 4, 8)).astype(np.float32)
    q = optimized(net, {name: frames})
    executor = Executor(q, "quantized")
    real = executor.run({name: frames}, [name], dequantize=True)[name].astype(np.float64)
    got = next(iter(executor.run({name: frames}, dequantize=True).values()))
    assert snr(1 / (1 + np.exp(-real)), got) >= 24.0
    output = output_quantization(q.output_layers[0])
    assert output.bits == 16 and output.limits[1] >= 0.9999


def test_scores_far_below_anything_keep_codes_and_clamp() -> None:
    rng = np.random.default_rng(5)
    net = scores()
    name = net.input_layers[0].name
    frames = rng.uniform(-15, -12, (32, 4, 4, 8)).astype(np.float32)
    q = optimized(net, {name: frames})
    got = next(iter(Executor(q, "quantized").run({name: frames}, dequantize=True).values()))
    assert snr(1 / (1 + np.exp(-frames.astype(np.float64))), got) >= 15.0
    limits = output_quantization(q.output_layers[0]).limits
    assert 1000 * 6e-6 <= limits[1] < 0.1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("other", "kept"), [(0.0, 0.0), (0.04, 0.16), (0.3, 1.0)])
def test_a_side_of_tanh_that_data_hardly_use_is_cut(sign: int, other: float, kept: float) -> None:
    """Pixels from 0 to 1: the codes of what is below would be half of all. It keeps four times what was measured."""
    rng = np.random.default_rng(5)
    net = scores(activation="tanh")
    name = net.input_layers[0].name
    x = rng.uniform(0, 2.5, (32, 4, 4, 8))
    x[:, 0, 0] = -np.arctanh(other)
    frames = (sign * x).astype(np.float32)
    q = optimized(net, {name: frames}, output_bits=8)
    output = output_quantization(q.output_layers[0])
    low, high = output.limits if sign > 0 else tuple(-end for end in output.limits[::-1])
    assert high == pytest.approx(1.0, abs=2 * output.scale)
    assert low == pytest.approx(-kept, abs=2 * output.scale)


def test_a_range_whose_data_use_a_quarter_of_it_stays() -> None:
    rng = np.random.default_rng(5)
    net = scores()
    name = net.input_layers[0].name
    q = optimized(net, {name: rng.uniform(-6, -1, (32, 4, 4, 8)).astype(np.float32)}, output_bits=8)
    output = output_quantization(q.output_layers[0])
    assert output.bits == 8 and output.limits == pytest.approx((0.0, 1.0))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_readers_of_8_bits_get_a_copy_with_8(activation: str) -> None:
    rng = np.random.default_rng(6)
    net = scores(reader=True, activation=activation)
    name = net.input_layers[0].name
    span = (-7.0, -5.0) if activation == "sigmoid" else (-0.02, 0.02)
    frames = rng.uniform(*span, (48, 4, 4, 8)).astype(np.float32)
    q = optimized(net, {name: frames})
    score, copy = next(layer for layer in q.of_kind("conv")), q.of_kind("activation")[0]
    assert output_quantization(score).bits == 16 and output_quantization(copy).bits == 8
    assert copy.inputs == (score.name,)
    want = Executor(net).run({name: frames})
    got = Executor(q, "quantized").run({name: frames}, dequantize=True)
    for layer in q.output_layers:
        assert snr(want[layer.name].astype(np.float64), got[layer.name]) >= 20.0
    assert_same_bytes(q)


def test_bytes_at_outputs_are_kept_where_asked() -> None:
    rng = np.random.default_rng(5)
    net = scores()
    name = net.input_layers[0].name
    frames = rng.uniform(-8, -5, (32, 4, 4, 8)).astype(np.float32)
    q = optimized(net, {name: frames}, output_bits=8)
    output = output_quantization(q.output_layers[0])
    top = 1 / (1 + np.exp(5.0))
    assert output.bits == 8 and output.limits[1] == pytest.approx(4 * top, rel=0.02)


@pytest.mark.parametrize("through", ["clip", "sigmoid", "hard_sigmoid", "exp", "concat", "maxpool"])
def test_what_readers_make_equal_sets_no_scale(through: str) -> None:
    """A computed tensor of ±3,000 whose readers all end at a few units."""
    b = GraphBuilder(7)
    x, y = b.input((6, 6, 4)), b.input((6, 6, 4))
    total = b.add("ew_add", [x, y], {})
    if through == "concat":
        total = b.add("concat", [total, b.add("ew_sub", [x, y], {})], {"axis": 2})
    if through == "maxpool":
        total = b.add("maxpool", [total], {"kernel_shape": [1, 2], "strides": [1, 1], "padding": [0, 0, 0, 0]})
    activation = through if through not in ("concat", "maxpool") else "sigmoid"
    params = {"activation_params": {"min": -1.0, "max": 1.5}} if through == "clip" else {}
    if through == "exp":
        total = b.add("ew_sub", [b.add("batch_norm", [total], {"activation": "relu"}, {
            "scale": np.ones(4, np.float32), "offset": np.full(4, 2, np.float32)}), x], {})  # fmt: skip
        activation = "clip"
        params = {"activation_params": {"min": -4.0, "max": 3.0}}
    b.output(b.add("activation", [total], {"activation": activation, **params}))
    if through == "clip":
        b.output(b.add("activation", [b.add("reshape", [total], {"shape": [36, 4, 1]})], {"activation": "tanh"}))
    rng = np.random.default_rng(8)
    frames = {x: rng.normal(0, 1, (48, 6, 6, 4)).astype(np.float32), y: np.zeros((48, 6, 6, 4), np.float32)}
    frames[y][rng.random(frames[y].shape) < 0.2] = -3000.0
    frames[y][rng.random(frames[y].shape) < 0.1] = 3000.0
    q = optimized(b.net, frames)
    want, got = Executor(b.net).run(frames), Executor(q, "quantized").run(frames, dequantize=True)
    for layer in q.output_layers:
        assert snr(want[layer.name].astype(np.float64), got[layer.name]) >= 30.0
    assert_same_bytes(q)


def test_a_tensor_that_an_output_shows_keeps_its_range() -> None:
    b = GraphBuilder(7)
    x, y = b.input((6, 6, 4)), b.input((6, 6, 4))
    total = b.add("ew_add", [x, y], {})
    b.output(b.add("activation", [total], {"activation": "sigmoid"}))
    b.output(total)
    rng = np.random.default_rng(8)
    frames = {n: rng.normal(0, 100, (32, 6, 6, 4)).astype(np.float32) for n in (x, y)}
    q = optimized(b.net, frames)
    limits = output_quantization(q.output_layers[1]).limits
    assert limits[0] <= -250 and limits[1] >= 250
