# SPDX-License-Identifier: Apache-2.0
"""Start and end nodes: any node or tensor of the file by name; what is none says what it became, or what was meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from headrace.errors import Diagnostic, UsageError
from headrace.hn import Network
from parsing import parse_onnx


def model() -> bytes:
    """Named and nameless nodes, names in TensorFlow's way, and a weight that nodes compute."""
    kernel = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    weights = [numpy_helper.from_array(kernel, "w"), numpy_helper.from_array(np.float32(2), "two")]
    nodes = [
        helper.make_node("Mul", ["w", "two"], ["w2"], "scaling"),
        helper.make_node("Conv", ["x", "w2"], ["first:0"], "first"),
        helper.make_node("Relu", ["first:0"], ["act"]),
        helper.make_node("Split", ["act"], ["a", "b"], "halves", axis=1, num_outputs=2),
        helper.make_node("Sigmoid", ["a"], ["sig:0"], ""),
        helper.make_node("Add", ["sig:0", "b"], ["y"], "sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def ends(*names: str) -> list[str]:
    network = parse_onnx(model(), end_node_names=list(names)).network
    return [layer.boundary.source_name for layer in network.output_layers]


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("first", ["first:0"]),
        ("first:0", ["first:0"]),
        ("act", ["act"]),
        ("act:0", ["act"]),
        ("halves", ["a", "b"]),
        ("halves:1", ["b"]),
        ("b", ["b"]),
        ("sig", ["sig:0"]),
        ("sig:0", ["sig:0"]),
        ("sum", ["y"]),
    ],
)
def test_any_node_or_tensor_is_an_end(name: str, tensors: list[str]) -> None:
    assert ends(name) == tensors


@pytest.mark.parametrize(
    ("name", "tensor"), [("act", "first:0"), ("halves", "act"), ("first:0", "first:0"), ("act:0", "act")]
)
def test_any_node_or_tensor_is_a_start(name: str, tensor: str) -> None:
    network: Network = parse_onnx(model(), start_node_names=[name], input_shapes={tensor: [1, 4, 4, 4]}).network
    assert [layer.boundary.source_name for layer in network.input_layers] == [tensor]
    assert [layer.boundary.source_name for layer in network.output_layers] == ["y"]


def problems(**options: Any) -> tuple[Diagnostic, ...]:
    with pytest.raises(UsageError) as caught:
        parse_onnx(model(), **options)
    assert all(d.code == "E-PARSE-NODE" for d in caught.value.diagnostics)
    return tuple(caught.value.diagnostics)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("w", "it is a constant of the file"),
        ("two", "it is a constant of the file"),
        ("w2", "it depends on no input, so it was computed when the file was read"),
        ("scaling", "it depends on no input, so it was computed when the file was read"),
    ],
)
def test_what_became_a_constant_says_so(name: str, why: str) -> None:
    (found,) = problems(end_node_names=[name])
    assert why in found.rule and "'first'" in found.rule and name in found.got


def test_all_misspelt_names_are_mended_at_once() -> None:
    found = problems(end_node_names=["frist", "act", "halvs"], start_node_names=["summ"])
    assert len(found) == 3
    assert "--end-node-names first act halves" in found[1].levers
    assert any("did you mean 'sum'" in lever for lever in found[2].levers)
    assert ends("first", "act", "halves") == ["first:0", "act", "a", "b"]  # the lever works


@pytest.mark.parametrize("name", ["halves:2", "halves:-1", "halves:", ":0", "halves:99999999999", "halves:x", ""])
def test_results_that_a_node_does_not_have(name: str) -> None:
    assert len(problems(end_node_names=[name])) == 1
