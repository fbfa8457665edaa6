# SPDX-License-Identifier: Apache-2.0
"""The promise about a quantized network: numpy reference, emulator and every kernel set of the device agree."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from headrace.compiler import CompileOptions, compile_network
from headrace.emulator import Executor
from headrace.hn import Network, output_quantization
from headrace.numerics.quantization import quantize_input
from headrace.targets import load_target
from interpreters import integer_values
from random_graphs import random_frames


def assert_same_bytes(quantized: Network) -> None:
    """Compare every layer on five random frames; skips where the native library is not built."""
    native = pytest.importorskip("headrace.runtime._native")
    frames = random_frames(quantized, 5, 9)
    codes = {name: quantize_input(x, output_quantization(quantized[name])) for name, x in frames.items()}
    want = integer_values(quantized, codes)
    names = [layer.name for layer in quantized if layer.kind not in ("input_layer", "output_layer")]
    emulated = Executor(quantized, "quantized").run(codes, names, batch_size=2)
    hef = compile_network(quantized, load_target("hailo8"), CompileOptions()).hef
    shaped = {name: x.reshape(x.shape[0], *quantized[name].frame_shape) for name, x in codes.items()}
    for kernels in native.kernel_sets():
        run = native.Device(None, threads=2, kernels=kernels).load(hef).infer_all(shaped)
        for name in names:
            np.testing.assert_array_equal(emulated[name], want[name], err_msg=name)
            np.testing.assert_array_equal(np.asarray(run[name]).reshape(want[name].shape), want[name], name)


def params_digest(network: Network) -> str:
    """SHA-256 of every parameter, names and bytes."""
    whole = hashlib.sha256()
    for key in sorted(network.params):
        whole.update(key.encode() + network.params[key].tobytes())
    return whole.hexdigest()
