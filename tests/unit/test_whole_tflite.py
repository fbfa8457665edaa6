# SPDX-License-Identifier: Apache-2.0
"""Parts of a TFLite file on the host, in ONNX's words with the file's layout: what LiteRT gives comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
litert = pytest.importorskip("ai_edge_litert.interpreter")

from headrace.frontends.formats.tflite import graph as tflite_graph  # noqa: E402
from headrace.frontends.formats.tflite.graph import read_tflite  # noqa: E402
from headrace.frontends.graph import Reason, SourceGraph  # noqa: E402
from headrace.frontends.options import ParseOptions  # noqa: E402
from headrace.frontends.reader import Source  # noqa: E402
from headrace.hn.whole import DeviceStep, OnnxStep  # noqa: E402
from headrace.runner import ClientRunner, InferenceContext  # noqa: E402

MODEL = "mlperf_tiny/ic_resnet8_float.tflite"


@pytest.mark.parametrize("kept", [("SOFTMAX",), ("SOFTMAX", "FULLY_CONNECTED", "RESHAPE", "AVERAGE_POOL_2D")])
def test_operators_that_are_left_to_the_host(zoo: Path, monkeypatch: pytest.MonkeyPatch, kept: tuple[str, ...]) -> None:
    def read(source: Source, options: ParseOptions) -> SourceGraph:
        found = read_tflite(source, options)
        found.to_host |= {
            name: Reason("a test says so") for name, operator in found.operators.items() if operator in kept
        }
        return found

    monkeypatch.setattr(tflite_graph, "read_tflite", read)
    runner = ClientRunner("hailo8")
    runner.translate_tf_model(zoo / MODEL, "net")
    whole = runner.archive.whole
    assert [type(step) for step in whole.steps] == [DeviceStep, OnnxStep]
    placed = [n["operator"] for n in runner.parse_report["placement"] if n["place"] == "host"]
    assert sorted(placed) == sorted(kept)
    frames = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    interpreter = litert.Interpreter(str(zoo / MODEL))
    interpreter.allocate_tensors()
    want = []
    for frame in frames:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame[None])
        interpreter.invoke()
        want.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    got = runner.infer(InferenceContext.SDK_NATIVE, {whole.inputs[0].name: frames}, whole=True)
    assert np.abs(got - np.concatenate(want)).max() < 1e-4
