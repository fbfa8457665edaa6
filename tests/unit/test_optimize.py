# SPDX-License-Identifier: Apache-2.0
"""Optimize: preparation, scale groups, freezing, accuracy, determinism."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from headrace.emulator import Executor
from headrace.errors import AccuracyError, DataError, InputFileError, UsageError
from headrace.hn import Network, check_network, json_format, output_quantization, passed_quantization, quantized_view
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize import OptimizeOptions, optimize, optimize_full_precision
from headrace.optimize.freeze.context import clamp_codes
from headrace.optimize.freeze.lookup import Grid, choose_lookup
from headrace.optimize.freeze.mac import FrozenWeights
from headrace.passes import run_passes
from headrace.passes.decompose_softmax import DecomposeSoftmax
from headrace.passes.fuse_elementwise_add import FuseElementwiseAdd
from headrace.passes.insert_normalization import InsertNormalization
from random_graphs import GraphBuilder, random_frames, random_network

LOOSE = OptimizeOptions(min_snr=0)


def digest(network: Network) -> str:
    h = hashlib.sha256(json_format.dumps(network))
    for key in sorted(network.params):
        value = network.params[key]
        h.update(f"{key}{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    return h.hexdigest()


def residual_network(activation: str = "relu") -> GraphBuilder:
    b = GraphBuilder(2)
    x = b.convolution(b.input((8, 8, 3)), 4, 3, same=True, activation="relu")
    y = b.convolution(x, 4, 3, same=True, activation="relu")
    z = b.convolution(y, 4, 3, same=True, activation="linear")
    b.output(b.add("ew_add", [x, z], {"activation": activation}))
    return b


# --- preparation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["linear", "relu", "hard_swish"])
def test_a_sum_joins_the_convolution_before_it(activation: str) -> None:
    b = residual_network(activation)
    frames = random_frames(b.net, 3, 0)
    want = Executor(b.net).run(frames)
    source = [layer.original_names[0] for layer in b.net.of_kind("ew_add")]
    records = run_passes(b.net, [FuseElementwiseAdd()])
    assert records == [{"pass": "fuse-elementwise-add", "layer": "net/ew_add1", "into": "net/conv3"}]
    assert b.net["net/conv3"].inputs == ("net/conv2", "net/conv1")
    assert b.net["net/conv3"].attributes["activation"] == activation
    assert b.net.find(source[0]).name == "net/conv3"
    for name, value in Executor(b.net).run(frames).items():
        np.testing.assert_array_equal(value, want[name])


@pytest.mark.parametrize("reason", ["read twice", "activation", "same operand", "broadcast"])
def test_a_sum_stays_where_joining_would_change_the_meaning(reason: str) -> None:
    b = GraphBuilder(2)
    x = b.input((8, 8, 4))
    y = b.convolution(x, 4, 3, same=True, activation="relu" if reason == "activation" else "linear")
    other = b.add("global_avgpool", [x], {}) if reason == "broadcast" else x
    s = b.add("ew_add", [y, y if reason == "same operand" else other], {})
    b.output(s)
    if reason == "read twice":
        b.output(y)
    assert run_passes(b.net, [FuseElementwiseAdd()]) == []


def test_softmax_is_accurate_after_decomposition() -> None:
    b = GraphBuilder(5)
    x = b.input((40,))
    b.output(b.add("softmax", [x], {}))
    rng = np.random.default_rng(0)
    frames = {x: rng.normal(0, 4, (64, 40)).astype(np.float32)}
    want = Executor(b.net).run(frames)
    prepared = b.net.clone()
    run_passes(prepared, [DecomposeSoftmax()])
    assert [layer.kind for layer in prepared][1:5] == ["reduce_max", "ew_sub", "reciprocal_sum", "ew_mult"]
    np.testing.assert_allclose(
        *(next(iter(v.values())) for v in (Executor(prepared).run(frames), want)), rtol=1e-5, atol=1e-7
    )
    q = optimize(b.net, frames, LOOSE).network
    # The input's own rounding is taken out of the comparison: float softmax of the dequantized codes.
    executor = Executor(q, "quantized")
    real = executor.run(frames, [x], dequantize=True)[x]
    ideal = next(iter(Executor(b.net).run({x: real}).values()))
    got = next(iter(executor.run(frames, dequantize=True).values()))
    # Half a code of rounding, and the reciprocal's 2^-11 of relative error.
    assert np.abs(got - ideal).max() <= 0.5 / 255 + 2.0**-11 + 1e-4
    assert (got.argmax(1) == ideal.argmax(1)).mean() >= 0.98


def test_normalization_is_inserted_for_one_or_every_input() -> None:
    b = GraphBuilder(1)
    first, second = b.input((4, 4, 3)), b.input((4, 4, 3))
    b.output(b.add("ew_add", [first, second], {}))

    mean, std = (1.0, 2.0, 3.0), (2.0, 4.0, 8.0)
    changed, records = optimize_full_precision(b.net, [InsertNormalization(mean, std, x) for x in (first, second)])
    assert [r["input"] for r in records] == [first, second]
    assert len(b.net.of_kind("normalization")) == 0
    check_network(changed)
    x = {k: np.full((1, 4, 4, 3), 5.0, np.float32) for k in (first, second)}
    value = next(iter(Executor(changed).run(x).values()))
    np.testing.assert_allclose(value[0, 0, 0], [4.0, 1.5, 0.5], rtol=1e-6)
    for bad, text in (
        (InsertNormalization((1.0,), (0.0,), first), "zero"),
        (InsertNormalization((1.0, 2.0), (1.0,), first), "one finite value per channel"),
        (InsertNormalization((1.0,), (1.0,)), "several inputs"),
        (InsertNormalization((1.0,), (1.0,), "input_layer3"), "did you mean"),
        (InsertNormalization((float("nan"),), (1.0,), first), "finite"),
    ):
        with pytest.raises(UsageError, match=text):
            bad.run(b.net.clone())


# --- scales ----------------------------------------------------------------------------------------------------------


def test_layers_that_pass_codes_share_one_scale() -> None:
    for seed in range(20):
        network = random_network(seed, 7)
        q = optimize(network, random_frames(network, 8, seed), LOOSE).network
        for layer in q:
            if layer.kind in (
                "maxpool",
                "slice",
                "external_pad",
                "reshape",
                "transpose",
                "concat",
                "output_layer",
                "reduce_max",
            ):
                view = quantized_view(q, layer)
                if all(x.uniform for x in view.inputs) and view.output.uniform:
                    assert all(x == view.output for x in view.inputs), (seed, layer.name)
                else:  # parts of an output
                    passed = passed_quantization(layer, q.input_shapes(layer), view.inputs)
                    assert passed == view.output, (seed, layer.name)


def test_a_concat_input_that_others_read_is_requantized() -> None:
    b = GraphBuilder(3)
    x = b.convolution(b.input((6, 6, 2)), 3, 1, same=True, activation="relu")
    y = b.convolution(x, 4, 1, same=True, activation="sigmoid")
    z = b.add("concat", [x, y], {"axis": 2})
    b.output(b.add("ew_mult", [z, z], {}))
    frames = random_frames(b.net, 16, 0)
    result = optimize(b.net, frames, LOOSE)
    q = result.network
    assert [r.pass_ for r in result.report.passes] == ["rescale-concat-input"]
    concat = q[z]
    assert q[concat.inputs[0]].kind == "activation"
    assert concat.inputs[1] == y
    assert output_quantization(q[y]) == output_quantization(concat)
    assert output_quantization(q[x]) != output_quantization(concat) or result.report.layers[concat.inputs[0]]
    check_network(q)


def test_raw_images_keep_their_codes() -> None:
    b = GraphBuilder(3)
    x = b.input((6, 6, 3))
    b.output(b.convolution(x, 4, 3, same=True, activation="relu"))
    network, _ = optimize_full_precision(b.net, [InsertNormalization((120.0,), (60.0,))])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (16, 6, 6, 3))
    for data in (images.astype(np.uint8), images.astype(np.float32)):
        q = optimize(network, {x: data}, LOOSE).network
        assert output_quantization(q[x]) == TensorQuantization(1.0, 0, 8)
    q = optimize(network, {x: images.astype(np.float32) + 0.5}, LOOSE).network
    assert output_quantization(q[x]).scale != 1.0
    with pytest.raises(DataError, match="already normalized"):
        optimize(network, {x: ((images - 120.0) / 60.0).astype(np.float32)}, LOOSE)


def test_sigmoid_and_tanh_have_the_range_of_their_meaning() -> None:
    b = GraphBuilder(3)
    x = b.input((6, 6, 3))
    y = b.convolution(x, 4, 1, same=True, activation="sigmoid")
    z = b.convolution(x, 4, 1, same=True, activation="tanh")
    b.output(b.add("ew_mult", [y, z], {}))
    q = optimize(b.net, random_frames(b.net, 8, 0), LOOSE).network
    assert output_quantization(q[y]) == TensorQuantization(float(np.float32(1 / 255)), 0, 8)
    low, high = output_quantization(q[z]).limits
    assert low == pytest.approx(-1, abs=0.005)
    assert high == pytest.approx(1, abs=0.005)


# --- integers --------------------------------------------------------------------------------------------------------


def test_weights_are_nearest_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 1, (3, 3, 4, 5)).astype(np.float32)
    bias = rng.normal(0, 1, 5).astype(np.float32)
    x = TensorQuantization(0.02, 128)
    frozen = FrozenWeights(kernel, bias, x)
    assert np.abs(frozen.kernel.astype(int)).reshape(-1, 5).max(axis=0).tolist() == [127] * 5
    units = frozen.units / x.scale
    assert np.abs(frozen.kernel * units - kernel).max() <= units.max() * 0.501
    assert np.abs(frozen.bias * frozen.units - bias).max() <= frozen.units.max() * 0.501
    assert not frozen.widened.size
    assert not frozen.constant.any()


def test_huge_biases_widen_the_channel_and_dead_channels_become_constants() -> None:
    kernel = np.zeros((1, 1, 2, 5), np.float32)
    kernel[..., 0] = 1e-12  # cannot be told from zero beside its bias
    kernel[..., 1] = 1e-3
    kernel[..., 2] = 0.0
    kernel[..., 3] = 0.0
    kernel[..., 4] = np.float32(1e-44)  # subnormal
    bias = np.array([5.0, 2e4, -3.0, 0.0, 0.0], np.float32)
    x = TensorQuantization(0.01, 0)
    frozen = FrozenWeights(kernel, bias, x)
    assert np.all(np.abs(frozen.bias.astype(np.int64)) <= 2**30)
    assert frozen.constant.tolist() == [True, False, True, True, False]
    assert frozen.widened.tolist() == [1]
    np.testing.assert_allclose(frozen.bias * frozen.units, bias, rtol=1e-6)
    assert np.all(frozen.bounds < 2**31)


def test_accumulators_always_fit_32_bits() -> None:
    kernel = np.full((3, 3, 20000, 1), 1.0, np.float32)
    frozen = FrozenWeights(kernel, np.array([0.9e3], np.float32), TensorQuantization(1.0, 0))
    assert int(frozen.bounds[0]) < 2**31
    assert np.unique(frozen.kernel).size == 1


@pytest.mark.parametrize(
    ("clamp", "want"),
    [
        ((None, None), (0, 255)),
        ((0.0, None), (100, 255)),
        ((0.0, 6.0), (100, 112)),
        ((-1e30, 1e30), (0, 255)),
        ((9e9, 9e9), (255, 255)),
    ],
)
def test_clamp_bounds_as_codes(clamp: Any, want: tuple[int, int]) -> None:
    assert clamp_codes(TensorQuantization(0.5, 100), *clamp) == want


@pytest.mark.parametrize("activation", ["sigmoid", "hard_swish", "silu", "tanh", "elu", "leaky_relu", "hard_sigmoid"])
def test_one_index_step_costs_less_than_half_a_code_where_12_bits_allow(activation: str) -> None:
    output = TensorQuantization(0.03, 30)
    found = choose_lookup(activation, {}, (-7.0, 6.5), output, None)
    assert 9 <= found.index.bits <= 12
    steps = np.abs(np.diff(found.table.astype(int)))
    if found.index.bits < 12:
        assert steps.max() <= 1
    # Outside oracle: the float function at the index points.
    x = found.index.scale * (np.arange(found.table.size) - found.index.zero_point)
    functions = {
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh, "silu": lambda v: v / (1 + np.exp(-v)),
        "hard_swish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1), "elu": lambda v: np.where(v < 0, np.expm1(v), v),
        "leaky_relu": lambda v: np.where(v < 0, 0.01 * v, v), "hard_sigmoid": lambda v: np.clip(0.2 * v + 0.5, 0, 1),
    }  # fmt: skip
    want = np.clip(functions[activation](x) / output.scale + output.zero_point, 0, 255)
    assert np.abs(found.table - want).max() <= 0.5 + 1e-6


def test_a_table_on_the_grid_of_its_input_costs_nothing() -> None:
    x, output = TensorQuantization(0.05, 77), TensorQuantization(0.02, 3)
    found = choose_lookup("silu", {}, (-1.0, 1.0), output, Grid(x.scale, -x.zero_point, 255 - x.zero_point))
    assert (found.index.bits, found.index.scale, found.index.zero_point) == (9, x.scale, 77)


def test_integers_replace_every_float_parameter() -> None:
    for seed in range(12):
        network = random_network(seed, 6)
        before = digest(network)
        q = optimize(network, random_frames(network, 8, seed), LOOSE).network
        assert digest(network) == before, "the float network was changed"
        assert not [k for k, v in q.params.items() if v.dtype.kind == "f"]
        assert q.net_params["stage"] == "quantized"
        for layer in q:
            quantized_view(q, layer)
        with pytest.raises(UsageError, match="quantized already"):
            optimize(q, random_frames(network, 8, seed), LOOSE)


# --- accuracy and determinism ----------------------------------------------------------------------------------------


def test_low_snr_is_an_error_that_carries_the_result() -> None:
    b = residual_network()
    with pytest.raises(AccuracyError, match="E-OPTIMIZE-SNR") as caught:
        optimize(b.net, random_frames(b.net, 8, 0), OptimizeOptions(min_snr=90))
    result = caught.value.result  # type: ignore[attr-defined]
    assert result.network.net_params["stage"] == "quantized"
    assert 20 < result.report.outputs["net/output_layer1"].snr_db < 90
    assert set(result.report.layers) == set(result.network.layers)


def test_results_do_not_depend_on_threads_or_batch() -> None:
    network = random_network(21, 8)
    frames = random_frames(network, 70, 5)
    reports, digests = [], []
    for threads, batch in ((1, 16), (2, 16), (5, 16)):
        result = optimize(network, frames, OptimizeOptions(min_snr=0, threads=threads, batch=batch))
        digests.append(digest(result.network))
        reports.append(result.report)
    assert len(set(digests)) == 1
    assert reports[0] == reports[1] == reports[2]
    assert digest(optimize(network, frames, OptimizeOptions(min_snr=0, batch=3)).network) == digests[0]


def test_results_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/unit']\n"
        "from test_optimize import digest, LOOSE\n"
        "from random_graphs import random_frames, random_network\n"
        "from headrace.optimize import optimize\n"
        "n = random_network(30, 8); print(digest(optimize(n, random_frames(n, 20, 1), LOOSE).network))\n"
    )
    root = Path(__file__).resolve().parents[2]
    outputs = set()
    for seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=root,
            timeout=120,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_bad_networks_and_options_are_explained() -> None:
    b = residual_network()
    frames = random_frames(b.net, 8, 0)
    with pytest.raises(UsageError) as caught:
        optimize(b.net, frames, OptimizeOptions(min_snr=-1, batch=0, activation_bits=4))
    assert len(caught.value.diagnostics) == 3
    broken = b.net.clone()
    broken.params["net/conv1/kernel"] = np.full_like(b.net.params["net/conv1/kernel"], np.nan)
    with pytest.raises(InputFileError, match="conv1/kernel"):
        optimize(broken, frames, LOOSE)
    huge = b.net.clone()
    for i in (1, 2, 3):
        huge.params[f"net/conv{i}/kernel"] = np.full_like(b.net.params[f"net/conv{i}/kernel"], 1e30)
    threads = torch.get_num_threads()
    with pytest.raises(DataError, match="NaN or infinity"):
        optimize(huge, frames, LOOSE)
    assert torch.get_num_threads() == threads, "the pool's one-thread setting was left behind"


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e15])
def test_extreme_weights_still_freeze(scale: float) -> None:
    b = residual_network()
    for key, value in list(b.net.params.items()):
        if key.startswith(("net/conv2", "net/conv3")):
            b.net.params[key] = (value * np.float32(scale)).astype(np.float32)
    result = optimize(b.net, random_frames(b.net, 8, 0), LOOSE)
    for layer in result.network:
        quantized_view(result.network, layer)
