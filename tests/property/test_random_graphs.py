# SPDX-License-Identifier: Apache-2.0
"""Random layers and random graphs: numpy reference = torch emulator = device, every layer, every byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.compiler import CompileOptions, compile_network
from headrace.emulator import Executor
from headrace.hn import check_network, output_quantization
from headrace.numerics.quantization import quantize_input
from headrace.optimize import OptimizeOptions, optimize
from headrace.targets import load_target
from interpreters import integer_values
from random_graphs import RARE_STEPS, STEPS, random_frames, random_network

native = pytest.importorskip("headrace.runtime._native")
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


def compare(seed: int, layers: int, steps: tuple[str, ...]) -> None:
    network = random_network(seed, layers, steps)
    check_network(network)
    quantized = optimize(network, random_frames(network, 8, seed), OptimizeOptions(min_snr=0)).network
    frames = random_frames(network, 5, seed + 1)
    codes = {name: quantize_input(x, output_quantization(quantized[name])) for name, x in frames.items()}
    want = integer_values(quantized, codes)
    names = [layer.name for layer in quantized if layer.kind not in ("input_layer", "output_layer")]
    emulated = Executor(quantized, "quantized").run(codes, names, batch_size=2, dequantize=False)
    hef = compile_network(quantized, load_target("hailo8"), CompileOptions()).hef
    device = native.Device(None, threads=2, kernels=native.kernel_sets()[seed % len(native.kernel_sets())])
    loaded = device.load(hef)
    run = loaded.infer_all(codes)
    for name in names:
        np.testing.assert_array_equal(emulated[name], want[name], err_msg=f"emulator, {name}, seed {seed}")
        np.testing.assert_array_equal(
            np.asarray(run[name]).reshape(want[name].shape), want[name], err_msg=f"device, {name}, seed {seed}"
        )
    timing = loaded.timing()
    assert timing["fps"] > 0


@pytest.mark.parametrize("step", sorted({*STEPS, *RARE_STEPS}))
@settings(max_examples=6, **COMMON)
@given(seed=st.integers(0, 2**31))
def test_one_layer(step: str, seed: int) -> None:
    compare(seed, 1, (step,))


@settings(max_examples=40, **COMMON)
@given(seed=st.integers(0, 2**31), layers=st.integers(2, 9))
@example(seed=479, layers=2)  # a copy with 8 bits in front of a convolution made its source a candidate for gains
def test_graphs(seed: int, layers: int) -> None:
    compare(seed, layers, STEPS)


@settings(max_examples=10, **COMMON)
@given(seed=st.integers(0, 2**31), layers=st.integers(2, 4))
def test_graphs_with_attention(seed: int, layers: int) -> None:
    compare(seed, layers, (*RARE_STEPS, "convolution", "pool", "residual"))
