# SPDX-License-Identifier: Apache-2.0
"""PReLU and LeakyReLU written as sums: one layer, equal to onnxruntime; what only looks like them stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

from frontend_oracle import run_network, session
from parsing import parse_onnx

RNG = np.random.default_rng(3)
SHAPE = [1, 4, 6, 6]
SLOPES = RNG.uniform(-0.4, 0.9, (4, 1, 1)).astype(np.float32)
HALF, ZERO, TENTH = np.float32(0.5), np.float32(0), np.float32(0.1)


def written(nodes):
    """A graph behind a convolution c; the last node's result is y."""
    constants = {"w": RNG.standard_normal((4, 4, 1, 1)).astype(np.float32), "a": SLOPES, "h": HALF, "z": ZERO,
                 "t": TENTH, "m": -SLOPES, "two": np.float32(2)}  # fmt: skip
    made = [helper.make_node(op, ins, [out], name=f"n_{out}") for op, ins, out in [("Conv", ["x", "w"], "c"), *nodes]]
    graph = helper.make_graph(
        made, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


PRELU = {
    "as TensorFlow's super-resolution has it": [
        ("Relu", ["c"], "r"), ("Abs", ["c"], "b"), ("Sub", ["c", "b"], "s"), ("Mul", ["a", "s"], "p"),
        ("Mul", ["p", "h"], "q"), ("Add", ["r", "q"], "y"),
    ],
    "as Keras writes it": [
        ("Relu", ["c"], "r"), ("Neg", ["c"], "n"), ("Relu", ["n"], "s"), ("Mul", ["m", "s"], "p"),
        ("Add", ["p", "r"], "y"),
    ],
    "by a difference": [
        ("Relu", ["c"], "r"), ("Neg", ["c"], "n"), ("Relu", ["n"], "s"), ("Mul", ["a", "s"], "p"),
        ("Sub", ["r", "p"], "y"),
    ],
    "by max and min": [
        ("Max", ["c", "z"], "r"), ("Min", ["z", "c"], "s"), ("Mul", ["s", "a"], "p"), ("Add", ["r", "p"], "y"),
    ],
    "by halves": [
        ("Add", ["c", "b"], "u"), ("Abs", ["c"], "b"), ("Div", ["u", "two"], "r"), ("Sub", ["c", "b"], "s"),
        ("Mul", ["s", "h"], "q"), ("Mul", ["q", "a"], "p"), ("Add", ["r", "p"], "y"),
    ],
}  # fmt: skip
PRELU["by halves"].sort(key=lambda node: node[0] != "Abs")
LEAKY = {
    "the larger": [("Mul", ["c", "t"], "s"), ("Max", ["s", "c"], "y")],
    "a sum": [("Relu", ["c"], "r"), ("Min", ["c", "z"], "s"), ("Mul", ["s", "t"], "p"), ("Add", ["r", "p"], "y")],
}  # fmt: skip
OTHERS = {
    "a residual sum": [("Relu", ["c"], "r"), ("Add", ["c", "r"], "y")],
    "of another tensor": [("Relu", ["c"], "r"), ("Abs", ["x"], "b"), ("Sub", ["x", "b"], "s"),
                          ("Add", ["r", "s"], "y")],
    "read elsewhere": [
        ("Relu", ["c"], "r"), ("Min", ["c", "z"], "s"), ("Mul", ["s", "a"], "p"), ("Add", ["r", "p"], "v"),
        ("Add", ["v", "r"], "y"),
    ],
    "the smaller": [("Mul", ["c", "t"], "s"), ("Min", ["s", "c"], "y")],
}  # fmt: skip


def kinds_of(nodes):
    data = written(nodes)
    frames = RNG.uniform(-2, 2, (2, *SHAPE[1:])).astype(np.float32)
    network = parse_onnx(data).network
    got = np.concatenate([run_network(network, {"x": frame[None]})["y"] for frame in frames])
    want = np.concatenate([session(data).run(None, {"x": frame[None]})[0] for frame in frames])
    assert np.allclose(np.asarray(got).reshape(want.shape), want, atol=2e-6)
    return [layer.kind for layer in network if not layer.operation.is_boundary], network


@pytest.mark.parametrize("form", PRELU)
def test_a_slope_for_each_channel(form):
    kinds, network = kinds_of(PRELU[form])
    assert kinds == ["conv"] and next(iter(network.of_kind("conv"))).operation.activation == "prelu"


@pytest.mark.parametrize("form", LEAKY)
def test_one_slope(form):
    assert kinds_of(LEAKY[form])[0] == ["conv"]


@pytest.mark.parametrize("form", OTHERS)
def test_what_only_looks_like_it_stays_right(form):
    kinds_of(OTHERS[form])
