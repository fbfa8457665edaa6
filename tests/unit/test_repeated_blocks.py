# SPDX-License-Identifier: Apache-2.0
"""Blocks repeated more often than there are attempts at a part, and loops whose length depends on data."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper

from headrace.errors import UnsupportedModelError
from headrace.frontends import ParseOptions, parse
from small_tensorflow import Function, Kind, SmallGraph
from small_tflite import SmallModel


def mixer(blocks: int) -> bytes:
    """A dense layer, then blocks that sort their values, which only the host does."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (8, 8)).astype(np.float32),
        "all": np.array([8], np.int64),
    }
    nodes, last = [helper.make_node("MatMul", ["x", "w"], ["d"], name="dense")], "d"
    for i in range(blocks):
        nodes += [
            helper.make_node("TopK", [last, "all"], [f"s{i}", f"places{i}"], name=f"sort{i}"),
            helper.make_node("MatMul", [f"s{i}", "w"], [f"m{i}"], name=f"mix{i}"),
        ]
        last = f"m{i}"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [2, 6, 8])], [info(last, TensorProto.FLOAT, [2, 6, 8])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_more_blocks_that_fail_than_attempts() -> None:
    result = parse(mixer(30))
    placed = {node.node: node.place for node in result.report.placement}
    assert {placed[f"sort{i}"] for i in range(30)} == {"host"} and "device" in placed.values()


# --- loops ------------------------------------------------------------------------------------------------------------

WEIGHT = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)


def tensorflow_loop(in_front: bool) -> bytes:
    """Doubles until the largest number is 30; a dense layer behind or before it."""
    g = SmallGraph()
    x = g.input(1, 6)
    x = x if in_front else g.op("MatMul", [x, g.const(WEIGHT)])
    test = g.function("test", ["t"], {"c": "less:z:0"})
    test.op("Const", name="limit", T=None, dtype=Kind("float32"), value=np.array(30, np.float32))
    test.op("Const", name="axes", T=None, dtype=Kind("int32"), value=np.array([0, 1], np.int32))
    test.op("Max", ["t", "axes:output:0"], name="max", Tidx=Kind("int32"))
    test.op("Less", ["max:output:0", "limit:output:0"], name="less")
    body = g.function("body", ["t"], {"n": "add:z:0"})
    body.op("AddV2", ["t", "t"], name="add")
    loop = g.op("StatelessWhile", [x], name="loop", T=None, cond=Function("test"), body=Function("body"))
    if in_front:
        g.op("MatMul", [loop, g.const(WEIGHT)], name="y")
    else:
        g.op("Neg", [loop], name="y")
    return g.bytes()


def tflite_loop(in_front: bool, operator: str) -> bytes:
    """The same, or a branch whose sides make other shapes."""
    m, first, second = SmallModel(), SmallModel(), SmallModel()
    axes, limit = np.array([0, 1], np.int32), np.float32(30)
    x = second.input(1, 6)
    second.outputs = [second.op("ADD", [x, x], [1, 6])]
    x = first.input(1, 6)
    if operator == "WHILE":
        largest = first.op("REDUCE_MAX", [x, first.constant(axes)], [])
        first.outputs = [first.op("LESS", [largest, first.constant(limit)], [], "bool")]
    else:
        first.outputs = [first.op("RESHAPE", [x, first.constant(np.array([2, 3], np.int32))], [2, 3])]
    m.graphs = [first, second]
    x = m.input(1, 6)
    x = x if in_front else m.op("FULLY_CONNECTED", [x, m.constant(WEIGHT)], [1, 6])
    if operator == "WHILE":
        made = m.tensor([1, 6])
        m.op("WHILE", [x], None, outputs=[made], condition=1, body=2)
    else:
        largest = m.op("REDUCE_MAX", [x, m.constant(axes)], [])
        truth = m.op("LESS", [largest, m.constant(limit)], [], "bool")
        made = m.op("IF", [truth, x], [1, 6], then_graph=1, else_graph=2)
    last = m.op("FULLY_CONNECTED", [made, m.constant(WEIGHT)], [1, 6]) if in_front else m.op("NEG", [made], [1, 6])
    return m.bytes(last)


@pytest.mark.parametrize(
    "data",
    [tensorflow_loop(False), *(tflite_loop(front, name) for front in (False, True) for name in ("WHILE", "IF"))],
    ids=["TensorFlow", "WHILE", "IF", "WHILE in front", "IF in front"],
)
def test_a_loop_by_data_runs_nowhere_and_says_why(data: bytes) -> None:
    result = parse(data)
    assert any("depends on" in w and "data" in w for w in result.report.warnings)
    assert any("depends on" in n.reason for n in result.report.placement if n.place == "nowhere")
    assert "device" in {n.place for n in result.report.placement}
    with pytest.raises(UnsupportedModelError, match="depends on"):
        parse(data, ParseOptions(device_only=True))


def test_a_loop_in_front_of_tensors_whose_sizes_nothing_tells_is_refused_with_what_helps() -> None:
    data = tensorflow_loop(True)
    with pytest.raises(UnsupportedModelError, match="how often this loop runs depends on data") as caught:
        parse(data)
    assert "--start-node-names y --tensor-shapes 'loop=[…]'" in str(caught.value)
    result = parse(data, ParseOptions(start_node_names=("y",), input_shapes={"loop": [1, 6]}))
    assert {n.node: n.place for n in result.report.placement}["loop"] == "nowhere"
    assert [tensor.name for tensor in result.whole.inputs] == ["loop"]
