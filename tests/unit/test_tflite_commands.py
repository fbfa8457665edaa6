# SPDX-License-Identifier: Apache-2.0
"""TFLite through ``ClientRunner`` and the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("flatbuffers")
pytest.importorskip("torch")

from headrace.cli import main
from headrace.errors import NotBuiltYetError
from headrace.runner import ClientRunner, InferenceContext
from small_tflite import SmallModel


def small():
    """Bytes of a file, and its function on [N, 6, 6, 3]."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 1, 1, 3)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    m = SmallModel()
    x = m.input(1, 6, 6, 3, name="image")
    operands = [x, m.constant(kernel), m.constant(bias)]
    y = m.op("CONV_2D", operands, [1, 6, 6, 4], name="features", stride_h=1, stride_w=1, activation="RELU")
    return m.bytes(y), lambda x: np.maximum(x @ kernel[:, 0, 0].T + bias, 0)


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return done.value.code or 0


def test_runner(tmp_path):
    data, function = small()
    path = tmp_path / "my-net.tflite"
    path.write_bytes(data)
    x = np.random.default_rng(1).uniform(-1, 1, (3, 6, 6, 3)).astype(np.float32)
    for model in (path, str(path), data):
        runner = ClientRunner()
        hn, params = runner.translate_tf_model(model, tensor_shapes=[1, 6, 6, 3], start_node_names=["features"])
        assert len(hn["layers"]) == 3
        assert len(params) == 2
        assert runner.model_name == ("model" if isinstance(model, bytes) else "my_net")
        with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
            assert np.allclose(runner.infer(context, x), function(x), atol=1e-5)
    assert runner.parse_report["nodes"]["features"] == "model/conv1"


def test_a_saved_model_as_text(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    with pytest.raises(NotBuiltYetError) as caught:
        ClientRunner().translate_tf_model(tmp_path / "saved")
    assert "saved" in caught.value.diagnostics[0].where


@pytest.mark.parametrize("command", [["parse"], ["parser", "tflite"], ["parser", "tf"]])
@pytest.mark.parametrize("file", ["net.tflite", "net.bin", "net.onnx"])
def test_parse_by_content(tmp_path, monkeypatch, capsys, command, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_bytes(small()[0])
    assert run(*command, file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["layers"] == {"conv": 1, "input_layer": 1, "output_layer": 1}
    assert (tmp_path / "net.har").is_file()


def test_a_model_of_another_framework_than_the_command_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.tflite").write_bytes(small()[0])
    assert run("parser", "onnx", "net.tflite") == 3
    assert "headrace parse net.tflite" in capsys.readouterr().err
    assert not (tmp_path / "net.har").exists()


def test_damaged_file(tmp_path, capsys):
    (tmp_path / "net.tflite").write_bytes(b"nothing of the kind")
    assert run("parse", str(tmp_path / "net.tflite")) == 3
    assert capsys.readouterr().err.startswith("E-TFLITE-CORRUPT")
