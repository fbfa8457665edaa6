# SPDX-License-Identifier: Apache-2.0
"""Functions that a model defines itself: put in place, and never more of them than there is room for."""

from __future__ import annotations

import time

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, kinds, model  # noqa: E402
from headrace.errors import InputFileError, UnsupportedModelError  # noqa: E402
from parsing import parse_onnx  # noqa: E402

OPSETS = [helper.make_opsetid("", 13), helper.make_opsetid("my", 1)]


def function(name, nodes, inputs=("a",), outputs=("b",), attributes=()):
    return helper.make_function("my", name, list(inputs), list(outputs), nodes, OPSETS, list(attributes))


def call(name, inputs, output, **attributes):
    return helper.make_node(name, inputs, [output], output, domain="my", **attributes)


def network(nodes, functions, constants=(), shape=("N", 3, 6, 6)):
    built = model(nodes, [("x", list(shape))], [("y", None)], constants, functions=functions)
    if not any(o.domain == "my" for o in built.opset_import):
        built.opset_import.append(helper.make_opsetid("my", 1))
    return built.SerializeToString()


def test_calls_within_calls_with_attributes():
    """A block of a convolution and an activation whose slope the caller says."""
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    inner = function("act", [leaky], attributes=["slope"])
    block = function(
        "block",
        [helper.make_node("Conv", ["a", "w"], ["c"]), call("act", ["c"], "b", slope=0.25)],
        inputs=("a", "w"),
    )
    weights = {"w": np.random.default_rng(0).normal(0, 1, (3, 3, 3, 3)).astype(np.float32)}
    data = network([call("block", ["x", "w"], "m"), call("block", ["m", "w"], "y")], [inner, block], weights)
    result = compare(data, batch=2)
    assert kinds(result) == ["conv", "conv"]
    assert result.network["model/conv1"].attributes["activation_params"] == {"alpha": 0.25}


def doubling(depth):
    """Each function calls the one before it twice."""
    made = [function("f0", [helper.make_node("Relu", ["a"], ["b"])])]
    for i in range(1, depth):
        made.append(function(f"f{i}", [call(f"f{i - 1}", ["a"], "m"), call(f"f{i - 1}", ["m"], "b")]))
    return made


def test_functions_that_double_are_stopped_before_they_are_put_in_place():
    assert kinds(parse_onnx(network([call("f3", ["x"], "y")], doubling(4)))).count("activation") == 8
    begin = time.perf_counter()
    with pytest.raises(InputFileError, match="too large"):
        parse_onnx(network([call("f40", ["x"], "y")], doubling(41)))
    assert time.perf_counter() - begin < 5


def test_large_bodies_called_often_are_stopped():
    big = helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(np.zeros(1 << 20, np.float32)))
    body = function("big", [big, helper.make_node("Relu", ["a"], ["b"])])
    nodes = [call("big", ["x" if i == 0 else f"t{i - 1}"], f"t{i}") for i in range(80)]
    with pytest.raises(InputFileError, match="MiB"):
        parse_onnx(network([*nodes, helper.make_node("Relu", ["t79"], ["y"])], [body]))


def test_a_subgraph_counts_too():
    """The calls of an If are calls."""
    branch = helper.make_graph([call("f40", ["x"], "z")], "g", [], [helper.make_empty_tensor_value_info("z")])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    with pytest.raises(InputFileError, match="too large"):
        parse_onnx(network(nodes, doubling(41), {"c": np.array(True)}))


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b")])
def test_functions_that_call_themselves(names):
    first, second = names
    functions = [function(first, [call(second, ["a"], "b")])]
    if first != second:
        functions.append(function(second, [call(first, ["a"], "b")]))
    with pytest.raises((InputFileError, UnsupportedModelError), match="call themselves"):
        parse_onnx(network([call("a", ["x"], "y")], functions))
