# SPDX-License-Identifier: Apache-2.0
"""``parse --compare`` of TensorFlow's files: which interpreter runs them, and what TensorFlow itself says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from headrace.comparison import compare
from headrace.errors import InputFileError, MissingExtraError, UnsupportedModelError
from headrace.host import tensorflow_runtime
from headrace.host.tensorflow_runtime import VARIABLE
from small_tensorflow import SmallGraph
from tensorflow_oracle import interpreter

with_tensorflow = pytest.mark.skipif(interpreter() is None, reason=f"no {VARIABLE}, and TensorFlow is not installed")


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    graph = SmallGraph()
    x = graph.input(None, 4, 5, 3)
    kernel = graph.const(np.random.default_rng(1).normal(0, 0.5, (1, 1, 3, 2)).astype(np.float32), "kernel")
    y = graph.op("Conv2D", [x, kernel], name="conv", strides=[1, 1, 1, 1], padding="SAME")
    graph.op("Relu", [y], name="y")
    path = tmp_path / "model.pb"
    path.write_bytes(graph.bytes())
    return path


def test_without_tensorflow_the_error_says_how_to_name_one(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorflow_runtime, "interpreter", lambda: None)
    with pytest.raises(MissingExtraError) as caught:
        compare(frozen)
    assert any(VARIABLE in lever for lever in caught.value.diagnostics[0].levers)


@pytest.mark.parametrize(
    ("python", "error", "code"),
    [
        ("/nonexistent/python", InputFileError, "E-COMPARE-PYTHON"),
        ("/bin/false", UnsupportedModelError, "E-COMPARE-RUNTIME"),
    ],
)
def test_an_interpreter_that_is_none(
    frozen: Path, monkeypatch: pytest.MonkeyPatch, python: str, error: type[Exception], code: str
) -> None:
    monkeypatch.setenv(VARIABLE, python)
    with pytest.raises(error) as caught:
        compare(frozen)
    assert caught.value.code == code  # type: ignore[attr-defined]


def test_an_interpreter_that_never_answers(frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(python))
    monkeypatch.setenv("HEADRACE_HOST_SECONDS", "1")
    with pytest.raises(UnsupportedModelError, match="E-COMPARE-RUNTIME.*\\n.*takes longer than 1 s"):
        compare(frozen)


@pytest.mark.slow
@with_tensorflow
def test_a_frozen_graph_agrees(frozen: Path) -> None:
    report = compare(frozen)
    assert report.agrees and report.runtime.startswith("TensorFlow")
    assert compare(frozen.read_bytes()).agrees


@pytest.mark.slow
@with_tensorflow
def test_the_first_tensor_that_differs_is_named(frozen: Path) -> None:
    from headrace.frontends import trace

    traced = trace(frozen)
    for network in (traced.network, traced.result.network):
        key = next(name for name in network.params if "kernel" in name)
        network.params[key] = network.params[key] * 1.5
    report = compare(frozen, traced=traced)
    assert not report.agrees
    assert report.first is not None and report.first.tensor == "conv"
