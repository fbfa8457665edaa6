# SPDX-License-Identifier: Apache-2.0
"""A network beside its file's own runtime: what agrees is said to, and what differs is found where it begins."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import headrace
from headrace.cli.comparing import comparison_text
from headrace.comparison import compare, compared
from headrace.errors import DataError, MissingExtraError, UnsupportedModelError, UsageError
from headrace.frontends import ParseOptions, parsing, tracing
from headrace.frontends.to_hn import HANDLERS
from headrace.hn import Network
from headrace.passes import Pass
from small_onnx import small_model, write_small

MODEL = small_model().SerializeToString()


def test_an_onnx_file_agrees() -> None:
    report = compare(MODEL)
    assert report.agrees and report.first is None and report.cause == ""
    assert report.runtime.startswith("onnxruntime ")
    assert [found.tensor for found in report.outputs] == ["logits"]
    assert "1 outputs agree" in comparison_text(report)
    found = report.outputs[0]
    assert found.difference < 1e-5 and found.shape == (1, 5) and found.node == "fc1"
    assert found.runtime.greatest == pytest.approx(found.native.greatest, rel=1e-5)


def test_a_tflite_file_agrees(zoo: Path) -> None:
    report = compare(zoo / "mlperf_tiny/ic_resnet8_float.tflite", seed=3)
    assert report.agrees and report.runtime.startswith("LiteRT ") and report.compared == 1


def test_a_translation_that_is_wrong_is_found_at_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    right = HANDLERS["Conv"]

    def wrong(builder: Any, node: Any) -> Any:
        results = right(builder, node)
        if node.node.name == "conv3":
            layer = builder.network[results[0].layer]
            layer.params["bias"] = layer.params["bias"] + 1
        return results

    monkeypatch.setitem(HANDLERS, "Conv", wrong)
    report = compare(MODEL)
    assert not report.agrees and report.cause == "translation"
    assert report.first is not None
    assert (report.first.tensor, report.first.node, report.first.operator) == ("c3", "conv3", "Conv")
    assert report.first.native.mean == pytest.approx(report.first.runtime.mean + 1, rel=1e-4)
    assert report.compared > 5  # those before it agree
    assert "the first tensor that differs is 'c3', made by Conv 'conv3': shape [1, 8, 1, 1]" in comparison_text(report)


class _Damage(Pass):
    name = "damage"

    def run(self, network: Network) -> list[Any]:
        layer = network.of_kind("dense")[0]
        layer.params["bias"] = layer.params["bias"] + 1
        return []


def test_a_pass_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = (*parsing.PASSES[:3], _Damage(), *parsing.PASSES[3:])
    monkeypatch.setattr(parsing, "PASSES", passes)
    monkeypatch.setattr(tracing, "PASSES", passes)
    monkeypatch.setenv("HEADRACE_VERIFY_PASSES", "0")
    report = compare(MODEL)
    assert (report.agrees, report.cause, report.changed_by, report.first) == (False, "pass", "damage", None)


def test_a_network_that_starts_and_ends_inside_is_compared_there() -> None:
    report = compare(MODEL, ParseOptions(start_node_names=["pool1"], end_node_names=["mul1", "c3"]))
    assert report.agrees and [found.tensor for found in report.outputs] == ["m1", "c3"]


@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
def test_data_in_both_layouts(order: str) -> None:
    frames = np.random.default_rng(1).normal(size=(3, 16, 16, 3)).astype(np.float32)
    given = frames if order == "NHWC" else frames.transpose(0, 3, 1, 2)
    report = compare(MODEL, data=given)
    assert report.agrees and report.frames == 3 and report.inputs == "the given data"
    whole = compare(MODEL, data={"input": frames})
    assert whole.outputs == report.outputs


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        compare(MODEL, data=np.zeros((1, 5, 5, 3)))
    with pytest.raises(UsageError, match="out of range"):
        compare(MODEL, tolerance=0.0)


def test_a_runtime_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    absent = {"onnxruntime", "ai_edge_litert"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else real(name, *a))
    with pytest.raises(MissingExtraError, match=r"\[host\]"):
        compare(MODEL)


def test_a_file_that_the_runtime_refuses_has_a_coded_error() -> None:
    model = small_model()
    model.graph.node[5].attribute.add().CopyFrom(model.graph.node[0].attribute[0])  # one that Relu does not have
    with pytest.raises(UnsupportedModelError):
        compare(model.SerializeToString())


def test_figures_of_one_tensor() -> None:
    wanted = np.array([[0.0, 1.0], [2.0, np.inf]])
    same = compared("t", "n", "Op", wanted, wanted.copy())
    assert same.difference == 0 and same.runtime.not_finite == 1 and same.runtime.greatest == 2.0
    other = wanted.copy()
    other[0, 1] = 1.5
    apart = compared("t", "n", "Op", wanted, other)
    assert apart.position == (0, 1) and apart.difference == pytest.approx(0.25)
    other[1, 1] = 3.0
    assert compared("t", "n", "Op", wanted, other).difference == np.inf
    assert compared("t", "n", "Op", wanted, np.zeros(3)).difference == np.inf
    truth = np.zeros(100, bool)
    assert compared("t", "n", "Greater", truth, np.eye(1, 100)[0]).difference == pytest.approx(0.01)


def test_the_command(tmp_path: Path) -> None:
    model, frames = write_small(tmp_path)
    done = headrace("parse", model, "--compare", "--compare-data", frames, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["comparison"]["agrees"] is True
    refused = headrace("parse", model, "--compare-seed", "3", "--force", cwd=tmp_path)
    assert refused.returncode == 2 and "--compare" in refused.stderr
