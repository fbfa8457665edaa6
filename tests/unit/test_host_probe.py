# SPDX-License-Identifier: Apache-2.0
"""Models of the host are loaded in a process of its own first: none of them ends, fills or stops ours."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from onnx import GraphProto, TensorProto, helper, numpy_helper

from headrace.errors import InputFileError
from headrace.hn.whole import OnnxStep
from headrace.host import probe
from headrace.host.session import Session

N = helper.make_node
INFO = helper.make_tensor_value_info


def branch(nodes: list[Any], output: str) -> GraphProto:
    return helper.make_graph(nodes, output, [], [helper.make_empty_tensor_value_info(output)])


def choice(condition: str, then: GraphProto, other: GraphProto, output: str) -> Any:
    return N("If", [condition], [output], then_branch=then, else_branch=other)


def model(nodes: list[Any], **weights: np.ndarray) -> OnnxStep:
    graph = helper.make_graph(
        nodes, "g", [INFO("x", TensorProto.FLOAT, ["N", 3, 6, 6])], [INFO("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxStep(("x",), ("y",), made.SerializeToString())


def ends_the_process() -> OnnxStep:
    """Constant branches in branches, at which onnxruntime 1.32 reads memory that is not its own when it rewrites."""
    other = branch([N("Neg", ["t"], ["o"])], "o")
    inner = branch(
        [N("Shape", ["t"], ["s"]), N("Size", ["s"], ["n"]), N("Equal", ["n", "four"], ["e"]),
         choice("e", branch([N("Relu", ["t"], ["u"])], "u"), other, "v")], "v",
    )  # fmt: skip
    outer = branch([N("MaxPool", ["c"], ["t"], kernel_shape=[2, 2]), choice("yes", inner, other, "z")], "z")
    kernel = np.ones((4, 3, 1, 1), np.float32)
    nodes = [
        N("Conv", ["x", "w"], ["c"]), choice("yes", outer, branch([N("Relu", ["c"], ["r"])], "r"), "q"),
        N("Identity", ["q"], ["y"]),
    ]  # fmt: skip
    return model(nodes, w=kernel, yes=np.array(True), four=np.array(4))


def test_a_model_that_ends_the_process_runs_without_being_rewritten() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    got = Session(ends_the_process(), "x.har").run({"x": x})["y"]
    sums = x.sum(1, keepdims=True).repeat(4, 1)
    want = np.maximum(np.stack([[sums[..., i : i + 2, j : j + 2].max((2, 3)) for j in range(5)] for i in range(5)]), 0)
    np.testing.assert_allclose(got, want.transpose(2, 3, 0, 1), rtol=1e-5, atol=1e-6)


def test_what_always_ends_the_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LEVELS", probe.LEVELS[:1])
    monkeypatch.setattr(probe, "_PROBER", probe._Prober())
    for _ in range(2):
        with pytest.raises(InputFileError, match="E-HOST-MODEL") as caught:
            Session(ends_the_process(), "x.har")
        assert "onnxruntime ends its process on it (SIGSEGV)" in str(caught.value) or "exit" in str(caught.value)
    Session(model([N("Relu", ["x"], ["y"])]), "x.har")  # the next one is tried in a new process


def test_time_and_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROBER", probe._Prober())
    monkeypatch.setattr(probe, "SPARE_SECONDS", 0.0)
    with pytest.raises(InputFileError, match="longer than"):
        Session(model([N("Relu", ["x"], ["y"])]), "x.har")


def test_an_error_of_onnxruntime_is_told() -> None:
    wrong = model([N("Conv", ["x", "w"], ["y"])], w=np.ones((4, 5, 1, 1), np.int64))
    with pytest.raises(InputFileError, match="E-HOST-MODEL") as caught:
        Session(wrong, "x.har")
    assert "INVALID_GRAPH" in str(caught.value)


def test_a_forked_process_does_not_use_its_parents() -> None:
    Session(model([N("Relu", ["x"], ["y"])]), "x.har")
    child = probe._PROBER._child
    assert child is not None and child.alive()
    child.owner = os.getpid() + 1
    try:
        assert not child.alive() and child.end() == 0
    finally:
        child.owner = os.getpid()
    assert child.alive()
