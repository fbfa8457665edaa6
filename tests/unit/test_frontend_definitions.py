# SPDX-License-Identifier: Apache-2.0
"""Operators that the standard defines by others are translated by that definition, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, model, run_network  # noqa: E402
from headrace.errors import UnsupportedModelError  # noqa: E402
from parsing import parse_onnx  # noqa: E402

RNG = np.random.default_rng(5)


def f(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def attention(q=(1, 4, 6, 8), k=(1, 4, 10, 8), constants=None, extra=(), **attributes):
    nodes = [helper.make_node("Attention", ["q", "k", "v", *extra], ["y"], name="att", **attributes)]
    inputs = [("q", list(q)), ("k", list(k)), ("v", list(k))]
    return model(nodes, inputs, [("y", None)], constants or {}, 23, ir_version=11).SerializeToString()


@pytest.mark.parametrize(
    ("shapes", "attributes"),
    [
        ({}, {}),
        ({}, {"scale": 0.3}),
        ({}, {"softcap": 2.0}),
        ({"k": (1, 4, 6, 8)}, {"is_causal": 1}),
        ({"q": (1, 6, 32), "k": (1, 10, 32)}, {"q_num_heads": 4, "kv_num_heads": 4}),
        ({"q": (1, 6, 32), "k": (1, 6, 16)}, {"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1}),
        ({"k": (1, 2, 10, 8)}, {}),
    ],
    ids=str,
)
def test_attention(shapes, attributes):
    result = compare(attention(**shapes, **attributes), tolerance=1e-4)
    assert any("att" in layer.original_names for layer in result.network)
    assert result.report.source_nodes == 1


def test_attention_with_a_mask_that_is_known():
    mask = np.where(RNG.uniform(size=(6, 10)) < 0.3, -np.inf, 0).astype(np.float32)
    mask[:, 0] = 0
    compare(attention(constants={"m": mask}, extra=["m"]))
    compare(attention(constants={"m": np.isfinite(mask)}, extra=["m"]))


def test_a_mask_that_is_an_input():
    nodes = [helper.make_node("Attention", ["q", "k", "k", "m"], ["y"], name="att")]
    inputs = [("q", [1, 4, 6, 8]), ("k", [1, 4, 10, 8]), ("m", [1, 4, 6, 10])]
    compare(model(nodes, inputs, [("y", None)], {}, 23, ir_version=11).SerializeToString())


def single(op, shape, opset, constants=(), outputs=("y",), **attributes):
    names = [f"c{i}" for i in range(len(constants))]
    nodes = [helper.make_node(op, ["x", *names], list(outputs), name="the_node", **attributes)]
    built = model(
        nodes, [("x", shape)], [("y", None)], dict(zip(names, constants, strict=True)), opset, ir_version=11
    )  # fmt: skip
    return built.SerializeToString()


@pytest.mark.parametrize(
    ("op", "shape", "opset", "constants", "attributes"),
    [
        ("RMSNormalization", [1, 5, 12], 23, [f(12)], {"epsilon": 1e-3}),
        ("RMSNormalization", [1, 3, 4, 6], 23, [f(4, 6)], {"axis": 2}),
        ("RotaryEmbedding", [1, 2, 6, 8], 23, [f(1, 6, 4), f(1, 6, 4)], {}),
        ("RotaryEmbedding", [1, 6, 16], 23, [f(1, 6, 4), f(1, 6, 4)], {"num_heads": 2, "interleaved": 1}),
        ("MeanVarianceNormalization", [1, 3, 4, 5], 13, [], {"axes": [2, 3]}),
        ("ReduceLogSumExp", [1, 3, 7], 18, [np.array([2])], {"keepdims": 1}),
        ("Celu", [1, 4, 3], 12, [], {"alpha": 0.7}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_other_definitions(op, shape, opset, constants, attributes):
    compare(single(op, shape, opset, constants, **attributes), tolerance=2e-3 if op.startswith("Mean") else 2e-4)


def test_swish_with_another_alpha():
    nodes = [helper.make_node("Swish", ["x"], ["y"], alpha=1.7)]
    data = model(nodes, [("x", [1, 4, 3])], [("y", None)], {}, 24, ir_version=11).SerializeToString()
    network = parse_onnx(data).network
    x = f(2, 4, 3)
    assert np.allclose(run_network(network, {"x": x})["y"], x / (1 + np.exp(-1.7 * x)), atol=1e-6)


def test_a_definition_that_fails_is_told_once_in_the_words_of_the_file():
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="before"),
        helper.make_node("GroupNormalization", ["r", "s", "b"], ["g"], name="fine", num_groups=2),
        helper.make_node("AffineGrid", ["g", "size"], ["y"], name="grid"),
    ]
    constants = {"s": f(4), "b": f(4), "size": np.array([1, 3, 4, 4])}
    built = model(nodes, [("x", [1, 4, 3])], [("y", None)], constants, 21, ir_version=10)
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(built.SerializeToString())
    assert [d.where.split("'")[1] for d in caught.value.diagnostics] == ["grid"]
    assert caught.value.diagnostics[0].rule.startswith("AffineGrid cannot be translated")
    assert caught.value.recommended_end_nodes == ["fine"]


def test_a_network_starts_and_ends_at_nodes_with_a_definition():
    nodes = [
        helper.make_node("Relu", ["x"], ["q"], name="before"),
        helper.make_node("Attention", ["q", "q", "q"], ["a"], name="att"),
        helper.make_node("Neg", ["a"], ["y"], name="after"),
    ]
    data = model(nodes, [("x", [1, 2, 6, 8])], [("y", None)], {}, 23, ir_version=11).SerializeToString()
    assert parse_onnx(data, end_node_names=["att"]).network.output_layers[0].attributes["source_name"] == "a"
    network = parse_onnx(data, start_node_names=["att"], input_shapes={"q": [1, 2, 6, 8]}).network
    assert network.input_layers[0].attributes["source_name"] == "q"


def test_calls_by_the_thousand_stay_within_the_number_of_nodes():
    from headrace.frontends.formats.onnx.functions import expand_standard

    nodes = [helper.make_node("Attention", [f"t{i}"] * 3, [f"t{i + 1}"]) for i in range(50)]
    built = model(nodes, [("t0", [1, 2, 6, 8])], [("t50", None)], {}, 23, ir_version=11)
    expansion = expand_standard(built, set(), 500)
    assert len(built.graph.node) <= 500
    assert 1 <= len(expansion.operators) < 50
    assert sum(n.op_type == "Attention" for n in built.graph.node) == 50 - len(expansion.operators)
