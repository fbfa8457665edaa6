# SPDX-License-Identifier: Apache-2.0
"""A batch that the file fixes is divided out; frames that depend on each other are named at the node."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, model, run_network, session  # noqa: E402
from headrace.errors import UnsupportedModelError  # noqa: E402
from parsing import parse_onnx, parse_tflite  # noqa: E402

RNG = np.random.default_rng(17)
BATCH = 8


def f(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def per_frame(*shape):
    """The same for each frame of the batch."""
    return np.repeat(f(1, *shape), BATCH, axis=0)


N = helper.make_node
CASES = {
    "reshape": ([N("Reshape", ["x", "s"], ["y"])], {"s": i64(8, 48)}),
    "reshape and back": (
        [N("Reshape", ["x", "s"], ["r"]), N("Relu", ["r"], ["a"]), N("Reshape", ["a", "t"], ["y"])],
        {"s": i64(32, 12), "t": i64(8, 4, -1, 4)},
    ),
    "rows of all frames": (
        [N("Reshape", ["x", "s"], ["r"]), N("MatMul", ["r", "w"], ["m"]), N("Reshape", ["m", "t"], ["y"])],
        {"s": i64(96, 4), "w": f(4, 5), "t": i64(8, 12, 5)},
    ),
    "rows of all frames, with a bias": (
        [N("Reshape", ["x", "s"], ["r"]), N("Gemm", ["r", "w", "b"], ["m"], transB=1), N("Reshape", ["m", "t"], ["y"])],
        {"s": i64(96, 4), "w": f(5, 4), "b": f(5), "t": i64(8, 12, 5)},
    ),
    "batch behind": (
        [N("Transpose", ["x"], ["p"], perm=[1, 0, 2, 3]), N("Reshape", ["p", "s"], ["r"]), N("Mul", ["r", "k"], ["m"]),
         N("Transpose", ["m"], ["y"], perm=[1, 0, 2])],
        {"s": i64(4, 8, 12), "k": f(12)},
    ),
    "shapes computed": (
        [N("Shape", ["x"], ["h"], start=0, end=1), N("Concat", ["h", "rest"], ["s"], axis=0),
         N("Reshape", ["x", "s"], ["y"])],
        {"rest": i64(4, 12)},
    ),
    "token of each frame": (
        [N("Reshape", ["x", "s"], ["r"]), N("Expand", ["token", "e"], ["c"]), N("Concat", ["c", "r"], ["y"], axis=1)],
        {"s": i64(8, 4, 12), "token": f(1, 1, 12), "e": i64(8, 1, 12)},
    ),
    "constants of each frame": ([N("Add", ["x", "k"], ["a"]), N("Mul", ["a", "l"], ["y"])],
                                {"k": per_frame(4, 1, 1), "l": per_frame(4, 3, 4)}),
    "matrices of each frame": (
        [N("Reshape", ["x", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])], {"s": i64(8, 4, 12), "w": per_frame(12, 5)},
    ),
    "slice of all frames": ([N("Slice", ["x", "a", "b", "c"], ["y"])],
                            {"a": i64(0, 1), "b": i64(8, 3), "c": i64(0, 1)}),
    "softmax": ([N("Reshape", ["x", "s"], ["r"]), N("Softmax", ["r"], ["y"], axis=1)], {"s": i64(8, 48)}),
    "heads": (
        [N("Reshape", ["x", "s"], ["r"]), N("Transpose", ["r"], ["k"], perm=[0, 2, 1]), N("MatMul", ["r", "k"], ["m"]),
         N("Softmax", ["m"], ["p"], axis=-1), N("MatMul", ["p", "r"], ["o"]), N("Reshape", ["o", "t"], ["y"])],
        {"s": i64(16, 6, 4), "t": i64(8, 48)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_frames_of_a_fixed_batch_are_computed_one_by_one(name):
    nodes, constants = CASES[name]
    built = model(nodes, [("x", [BATCH, 4, 3, 4])], [("y", None)], constants, 17)
    result = compare(built.SerializeToString(), batch=BATCH)
    assert f"batch {BATCH}" in result.report.warnings[0]
    network, x = result.network, f(BATCH, 4, 3, 4)
    whole = session(built.SerializeToString()).run(None, {"x": x})[0]
    apart = [run_network(network, {"x": x[i : i + 1]})["y"] for i in range(BATCH)]  # one frame at a time
    assert np.allclose(np.concatenate(apart), whole, atol=1e-4 * max(float(np.ptp(whole)), 1e-3))


MIXED = {
    "mean over the batch": ([N("ReduceMean", ["x"], ["y"], name="mixes", axes=[0])], {}),
    "batch cut": ([N("Reshape", ["x", "s"], ["y"], name="mixes")], {"s": i64(2, 4, 48)}),
    "frames as channels": ([N("Reshape", ["x", "s"], ["r"]), N("Conv", ["r", "w"], ["y"], name="mixes")],
                           {"s": i64(1, 32, 3, 4), "w": f(2, 32, 1, 1)}),
    "softmax over the batch": ([N("Softmax", ["x"], ["y"], name="mixes", axis=0)], {}),
    "a part of the batch": ([N("Slice", ["x", "a", "b", "c"], ["y"], name="mixes")],
                            {"a": i64(0), "b": i64(4), "c": i64(0)}),
    "a constant that differs": ([N("Add", ["x", "k"], ["y"], name="mixes")], {"k": f(8, 1, 1, 1)}),
    "one of them": ([N("Gather", ["x", "i"], ["y"], name="mixes", axis=0)], {"i": i64(3)}),
    "turned": ([N("Concat", ["x", "x"], ["y"], name="mixes", axis=0)], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_frames_that_mix_are_one_frame_and_the_node_is_named(name):
    nodes, constants = MIXED[name]
    first = N("Relu", ["in"], ["x"], name="before")
    built = model([first, *nodes], [("in", [BATCH, 4, 3, 4])], [("y", None)], constants, 17)
    result = compare(built.SerializeToString())
    told = result.report.warnings[-1]
    assert "'mixes'" in told
    assert "one frame of the network" in told
    assert result.network.input_layers[0].attributes["source_shape"] == [-1, BATCH, 4, 3, 4]


def test_where_one_frame_does_not_translate_either_the_node_is_named_with_the_batch():
    first = N("Relu", ["in"], ["x"], name="before")
    last = N("ReduceMean", ["x"], ["m"], name="mixes", axes=[0])
    built = model([first, last, N("Unique", ["m"], ["y"])], [("in", [BATCH, 4, 3, 4])], [("y", None)], {}, 17)
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(built.SerializeToString())
    told = caught.value.diagnostics[0]
    assert "'mixes'" in told.where
    assert "exported with batch 8" in told.rule
    assert "export with batch 1, or with an open batch" in told.levers
    assert caught.value.recommended_end_nodes
    parse_onnx(built.SerializeToString(), end_node_names=caught.value.recommended_end_nodes)


def test_inputs_of_unlike_batches_are_one_frame():
    nodes = [N("Reshape", ["x", "s"], ["r"]), N("Add", ["r", "m"], ["y"])]
    built = model(nodes, [("x", [8, 4, 3]), ("m", [1, 12])], [("y", None)], {"s": i64(8, 12)}, 17)
    told = compare(built.SerializeToString()).report.warnings[-1]
    assert "batches 8 (x), 1 (m)" in told


def test_a_given_shape_does_not_hide_the_batch_of_the_file():
    built = model([N("Reshape", ["x", "s"], ["y"])], [("x", [8, 4, 3])], [("y", None)], {"s": i64(8, 12)}, 17)
    network = parse_onnx(built.SerializeToString(), input_shapes={"x": [1, 4, 3]}).network
    assert network.output_layers[0].attributes["source_shape"] == [-1, 12]


def test_a_fixed_batch_of_tflite():
    pytest.importorskip("ai_edge_litert")
    from small_tflite import SmallModel

    m = SmallModel()
    x = m.input(BATCH, 4, 3, 4)
    y = m.op("RESHAPE", [m.op("RELU", [x], [BATCH, 4, 3, 4]), m.ints([BATCH, 12, 4])], [BATCH, 12, 4])
    data = m.bytes(m.op("TRANSPOSE", [y, m.ints([0, 2, 1])], [BATCH, 4, 12]))
    network = parse_tflite(data, "net").network
    name = network.input_layers[0].attributes["source_name"]
    x = f(BATCH, 4, 3, 4)
    got = next(iter(run_network(network, {name: x}).values()))
    assert np.array_equal(np.asarray(got, np.float32), np.maximum(x, 0).reshape(BATCH, 12, 4).transpose(0, 2, 1))


WINDOWS = {
    "convolution": [N("Conv", ["d", "w", "b"], ["y"], group=2, pads=[1, 1, 1, 1])],
    "transposed convolution": [N("ConvTranspose", ["d", "t"], ["y"], strides=[2, 2])],
    "pool": [N("MaxPool", ["d"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
    "whole": [N("GlobalAveragePool", ["d"], ["y"])],
    "instances": [N("InstanceNormalization", ["d", "b4", "b4"], ["y"])],
}


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_of_a_picture_as_frames(name, batch):
    """They are pictures beside each other: groups of channels."""
    cut = [
        N("Reshape", ["x", "cut"], ["c"]), N("Transpose", ["c"], ["p"], perm=[0, 2, 1, 3, 4]),
        N("Reshape", ["p", "frames"], ["d"]),
    ]  # fmt: skip
    constants = {"cut": i64(1, 4, 2, 4, 8), "frames": i64(2, 4, 4, 8), "w": f(6, 2, 3, 3), "b": f(6), "b4": f(4),
                 "t": f(4, 3, 2, 2)}  # fmt: skip
    compare(model([*cut, *WINDOWS[name]], [("x", [batch, 4, 8, 8])], [("y", None)], constants).SerializeToString())
