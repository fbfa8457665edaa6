# SPDX-License-Identifier: Apache-2.0
"""What became of a node, a tensor or a layer: said of a file and of a HAR, and of names that nothing has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from command_line import headrace
from headrace import reports
from headrace.cli.explaining import explanation_text
from headrace.errors import UsageError
from headrace.hn import archive
from headrace.reports.explanation import Explanation, explain
from headrace.reports.parse import ParseReport
from headrace.runner import ClientRunner
from parsing import parse_onnx
from small_onnx import small_model, write_small


@pytest.fixture(scope="module")
def report() -> ParseReport:
    return parse_onnx(small_model().SerializeToString(), "small").report


def text(report: ParseReport, name: str) -> str:
    return explanation_text(explain(report, name))


def test_a_node_that_was_folded_into_another_layer(report: ParseReport) -> None:
    found = explain(report, "bn1")
    assert found.what == "node" and found.nodes[0].layers == ("small/conv1",)
    assert found.nodes[0].passes == ("fold-batch-norm",) and found.nodes[0].beside == ("conv1", "relu1")
    assert "layer small/conv1 with 'conv1', 'relu1'; changed by fold-batch-norm" in text(report, "bn1")


def test_a_tensor_is_that_of_its_node(report: ParseReport) -> None:
    assert explain(report, "r2").nodes == explain(report, "relu2").nodes
    assert text(report, "r2").startswith("tensor 'r2' is made by node 'relu2'")
    assert explain(report, "r2:0").what == "tensor"


def test_a_layer_names_its_nodes(report: ParseReport) -> None:
    for name in ("ew_add1", "small/ew_add1"):
        found = explain(report, name)
        assert (found.what, found.kind) == ("layer", "ew_add")
        assert [node.node for node in found.nodes] == ["add1", "relu2"]
    assert "stands for 2 nodes of the file:\n  node 'add1'" in text(report, "ew_add1")


def test_an_input(report: ParseReport) -> None:
    assert text(report, "input") == "input 'input' is layer small/input_layer1"


def test_what_nothing_has_names_the_nearest(report: ParseReport) -> None:
    with pytest.raises(UsageError, match="did you mean 'relu2' or 'relu1'"):
        explain(report, "relu")


def pattern(wrong: bool) -> ParseReport:
    """x · clip(x + 3, 0, 6) / 6, or with 5 in the place of 6 at its end."""
    import numpy as np
    from onnx import numpy_helper

    values = {"three": 3.0, "zero": 0.0, "six": 6.0, "last": 5.0 if wrong else 6.0}
    nodes = [
        helper.make_node("Add", ["x", "three"], ["a"], "add"),
        helper.make_node("Clip", ["a", "zero", "six"], ["c"], "clip"),
        helper.make_node("Mul", ["x", "c"], ["m"], "mul"),
        helper.make_node("Div", ["m", "last"], ["y"], "div"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(v), n) for n, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return parse_onnx(model.SerializeToString()).report


def test_a_pattern_and_what_nearly_is_one() -> None:
    assert "part of pattern hard_swish, which became HardSwish" in text(pattern(False), "clip")
    near = explain(pattern(True), "div").nodes[0]
    assert near.patterns == ()
    assert [miss.pattern for miss in near.near_misses] == ["hard_swish"]
    assert "nearly pattern hard_swish: " in text(pattern(True), "div")


def test_the_report_that_an_explanation_is_made_of_survives_the_archive(tmp_path: Path) -> None:
    write_small(tmp_path)
    runner = ClientRunner()
    runner.translate_onnx_model(tmp_path / "small.onnx")
    (tmp_path / "small.har").write_bytes(runner.dump_har())
    opened = archive.from_members(archive.open_members(tmp_path / "small.har"), "small.har")
    kept = reports.of(opened).parse
    assert kept is not None
    found = explain(kept, "bn1")
    assert Explanation.from_dict(found.as_dict(), "explanation") == found
    assert found.nodes[0].passes == ("fold-batch-norm",)


def test_the_commands(tmp_path: Path) -> None:
    model, _ = write_small(tmp_path)
    done = headrace("parse", model, "--json", "--explain", "bn1", "ew_add1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whats = [found["what"] for found in json.loads(done.stdout)["explanations"]]
    assert whats == ["node", "layer"] and not list(tmp_path.glob("*.har"))
    refused = headrace("parse", model, "-o", "x.har", "--explain", "bn1", cwd=tmp_path)
    assert refused.returncode == 2 and "nothing is written" in refused.stderr
