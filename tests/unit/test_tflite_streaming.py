# SPDX-License-Identifier: Apache-2.0
"""TFLite operators that keep a state, that make complex numbers, and those of StableHLO, against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest

interpreters = pytest.importorskip("ai_edge_litert.interpreter")
pytest.importorskip("flatbuffers")
pytest.importorskip("onnxruntime")

from frontend_oracle import run_network  # noqa: E402
from headrace.frontends.formats.tflite.graph import read_tflite  # noqa: E402
from headrace.frontends.reader import Source  # noqa: E402
from parsing import parse_tflite  # noqa: E402
from small_tflite import SmallModel, litert_outputs, run_source, uniform_feeds, worst_difference  # noqa: E402


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def same_over_frames(model, y, states):
    """Frame after frame, each from what the one before left."""
    data = model.bytes(y)
    interpreter = interpreters.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    held = {name: np.zeros(shape, np.float32) for name, shape in states.items()}
    network = parse_tflite(data).network
    size = model.tensors[0]["shape"]
    for frame in np.random.default_rng(0).normal(size=(4, *size)).astype(np.float32):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
        interpreter.invoke()
        want = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        for run in (
            run_source(read_tflite(Source.of(data)), {"t0": frame, **held}),
            run_network(network, {"t0": frame, **held}),
        ):
            np.testing.assert_allclose(run.pop(model.tensors[y]["name"]).reshape(want.shape), want, atol=1e-5)
        run = run_source(read_tflite(Source.of(data)), {"t0": frame, **held})
        held = {name: run[f"{name}/next"] for name in held}


@pytest.mark.parametrize(("rank", "memory"), [(1, 5), (2, 3), (2, 1)])
def test_filters_over_time(rank, memory):
    m = SmallModel()
    x = m.input(1, 6)
    state = m.tensor([1, 8 * memory], name="state", variable=True)
    constants = [m.constant(weights(8, 6)), m.constant(weights(8, memory)), m.constant(weights(8 // rank))]
    y = m.op("SVDF", [x, *constants, state], [1, 8 // rank], rank=rank, activation="RELU")
    same_over_frames(m, y, {"state": [1, 8 * memory]})


def test_a_recurrent_step():
    m = SmallModel()
    x = m.input(1, 6)
    state = m.tensor([1, 4], name="state", variable=True)
    constants = [m.constant(weights(4, 6)), m.constant(weights(4, 4)), m.constant(weights(4))]
    y = m.op("RNN", [x, *constants, state], [1, 4], activation="TANH")
    same_over_frames(m, y, {"state": [1, 4]})


@pytest.mark.parametrize("peepholes", [False, True])
def test_a_long_step(peepholes):
    m = SmallModel()
    x = m.input(1, 6)
    w = [m.constant(weights(4, 6, seed=i)) for i in range(4)] + [
        m.constant(weights(4, 4, seed=9 + i)) for i in range(4)
    ]
    p = [m.constant(weights(4, seed=20 + i)) if peepholes else -1 for i in range(3)]
    b = [m.constant(weights(4, seed=30 + i)) for i in range(4)]
    states = [m.tensor([1, 4], name=name, variable=True) for name in ("hidden", "cell")]
    y = m.op("LSTM", [x, *w, *p, *b, -1, -1, *states], [1, 4], activation="TANH")
    same_over_frames(m, y, {"hidden": [1, 4], "cell": [1, 4]})


# --- complex numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 16, 4])
@pytest.mark.parametrize("part", ["COMPLEX_ABS", "REAL", "IMAG"])
def test_spectrum(length, part):
    m = SmallModel()
    x = m.input(1, 3, 1, 8)
    bins = length // 2 + 1
    spectrum = m.op("RFFT2D", [x, m.ints([1, length])], [1, 3, 1, bins], "complex64")
    lines = m.op("RESHAPE", [spectrum, m.ints([1, 3, bins])], [1, 3, bins], "complex64", new_shape=[1, 3, bins])
    data = m.bytes(m.op(part, [lines], [1, 3, bins]))
    network = parse_tflite(data).network
    assert worst_difference(network, data, uniform_feeds(data), run_network) < 1e-5


# --- StableHLO --------------------------------------------------------------------------------------------------------


def check(m, y, frames=2):
    data = m.bytes(y)
    feeds = uniform_feeds(data, frames=frames)
    want, got = litert_outputs(data, feeds), run_source(read_tflite(Source.of(data)), feeds)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, atol=1e-6)


def test_stablehlo_functions_that_litert_runs():
    m = SmallModel()
    x = m.input(1, 4, 6)
    y = m.op("STABLEHLO_MULTIPLY", [m.op("STABLEHLO_ADD", [x, x], [1, 4, 6]), x], [1, 4, 6])
    y = m.op("STABLEHLO_MAXIMUM", [y, m.op("STABLEHLO_MINIMUM", [x, y], [1, 4, 6])], [1, 4, 6])
    check(m, y)


def shapes_of(m, y):
    return {v.name: list(v.shape) for v in read_tflite(Source.of(m.bytes(y))).graph.outputs}


def test_stablehlo_functions_that_litert_only_reads():
    """LiteRT has no kernels for these: numpy says what they mean."""
    m = SmallModel()
    x = m.input(1, 4, 6)
    y = m.op("STABLEHLO_TRANSPOSE", [x], [1, 6, 4], order=[0, 2, 1])
    y = m.op("STABLEHLO_SLICE", [y], [1, 3, 4], begin=[0, 1, 0], end=[1, 6, 4], strides=[1, 2, 1])
    y = m.op("STABLEHLO_PAD", [y, m.constant(np.float32(0.5))], [1, 5, 4], low=[0, 1, 0], high=[0, 1, 0])
    line = m.op("STABLEHLO_BROADCAST_IN_DIM", [m.constant(np.arange(4, dtype=np.float32))], [1, 5, 4], dimensions=[2])
    y = m.op("STABLEHLO_SUBTRACT", [y, line], [1, 5, 4])
    y = m.op("STABLEHLO_CONCATENATE", [y, y], [1, 10, 4], axis=1)
    places = m.op("STABLEHLO_IOTA", [], [1, 10, 4], axis=1)
    above = m.op("STABLEHLO_COMPARE", [y, places], [1, 10, 4], "bool", direction=3)
    y = m.op("STABLEHLO_SELECT", [above, y, places], [1, 10, 4])
    one = [m.constant(np.float32(v)) for v in (0.0, 4.0)]
    y = m.op("STABLEHLO_CLAMP", [one[0], y, one[1]], [1, 10, 4])
    kernel = weights(1, 4, 3)
    y = m.op("STABLEHLO_DOT_GENERAL", [y, m.constant(kernel)], [1, 10, 3], left_batch=[0], right_batch=[0],
             left_contracted=[2], right_contracted=[1])  # fmt: skip
    y = m.op("STABLEHLO_RESHAPE", [m.op("STABLEHLO_LOGISTIC", [y], [1, 10, 3])], [1, 30])
    given = np.random.default_rng(0).uniform(-1, 1, (1, 4, 6)).astype(np.float32)
    want = np.pad(given.transpose(0, 2, 1)[:, 1:6:2], [(0, 0), (1, 1), (0, 0)], constant_values=0.5) - np.arange(4)
    want = np.concatenate([want, want], 1)
    places = np.arange(10.0).reshape(1, 10, 1)
    want = np.clip(np.where(want > places, want, places), 0, 4) @ kernel
    want = 1 / (1 + np.exp(-want.reshape(1, 30)))
    for run in (
        run_source(read_tflite(Source.of(m.bytes(y))), {"t0": given}),
        run_network(parse_tflite(m.bytes(y)).network, {"t0": given}),
    ):
        np.testing.assert_allclose(next(iter(run.values())).reshape(want.shape), want, atol=1e-5)
