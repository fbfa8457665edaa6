# SPDX-License-Identifier: Apache-2.0
"""Values for inputs of TFLite, TensorFlow and Keras files (those of ONNX: test_frontend_branches.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from headrace.cli import main
from headrace.errors import UsageError
from headrace.frontends import ParseOptions, parse
from keras_samples import sample, sample_arrays
from small_tensorflow import Kind, SmallGraph
from small_tflite import SmallModel, litert_outputs

RNG = np.random.default_rng(0)
FRAME = RNG.uniform(-1, 1, (1, 3, 4, 2)).astype(np.float32)


def run(model, feeds, **values):
    """Results of the network without the inputs that have a value."""
    network = parse(model, ParseOptions(input_values=values)).network
    asked = [layer.boundary.source_name for layer in network.input_layers]
    assert not set(asked) & values.keys()
    return list(run_network(network, {name: feeds[name] for name in asked}).values())


def refused(model, word, **values):
    with pytest.raises(UsageError, match=word) as caught:
        parse(model, ParseOptions(input_values=values))
    assert {d.code for d in caught.value.diagnostics} == {"E-PARSE-VALUES"}
    return str(caught.value)


# --- TFLite ----------------------------------------------------------------------------------------------------------


def scaled_tflite():
    m = SmallModel()
    x, scale = m.input(1, 3, 4, 2, name="x"), m.input(2, name="scale")
    return m.bytes(m.op("MUL", [x, scale], [1, 3, 4, 2]))


def test_tflite():
    scale = np.array([0.5, -2], np.float32)
    data = scaled_tflite()
    (got,) = run(data, {"x": FRAME}, scale=[0.5, -2])
    np.testing.assert_array_equal(got, FRAME * scale)
    m = SmallModel()
    x, side = m.input(1, 3, 4, 2, name="x"), m.input(1, 3, 4, 2, name="side")
    data = m.bytes(m.op("MAXIMUM", [x, side], [1, 3, 4, 2]))
    (want,) = litert_outputs(data, {"x": FRAME, "side": FRAME[:, ::-1].copy()}).values()
    (got,) = run(data, {"x": FRAME}, side=FRAME[:, ::-1].tolist())
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_tflite_codes_are_given_as_codes():
    m = SmallModel()
    more = {"kind": "int8", "scale": [0.5], "zero": [1]}
    x, side = m.input(1, 3, 4, 2, name="x"), m.input(1, 3, 4, 2, name="side", **more)
    real = m.op("DEQUANTIZE", [side], [1, 3, 4, 2])
    data = m.bytes(m.op("ADD", [x, real], [1, 3, 4, 2]))
    codes = RNG.integers(-128, 128, (1, 3, 4, 2))
    (got,) = run(data, {"x": FRAME}, side=codes.tolist())
    np.testing.assert_allclose(got, FRAME + (codes - 1) * 0.5, atol=1e-5)
    refused(data, "does not have this value", side=(codes + 300).tolist())
    refused(data, "not of the type", side=(codes + 0.5).tolist())


def test_tflite_values_that_no_input_has():
    assert "did you mean 'scale'" in refused(scaled_tflite(), "no input of this name", scal=1)
    assert "not the shape" in refused(scaled_tflite(), "no input of this name", y=1, scale=[1, 2, 3])
    refused(scaled_tflite(), "not of the type", scale=[True, False])


# --- TensorFlow ------------------------------------------------------------------------------------------------------


def scaled_graph():
    g = SmallGraph()
    x, scale, train = g.input(None, 3, 4, 2), g.input(name="scale"), g.input(name="train", kind="bool")
    made = g.op("Mul", [x, scale], T=Kind("float32"))
    g.op("Select", [train, made, x], name="y", T=Kind("float32"))
    return g


def test_tensorflow():
    data = scaled_graph().bytes()
    (got,) = run(data, {"x": FRAME}, scale=3, train=True)
    np.testing.assert_allclose(got, FRAME * 3, atol=1e-6)
    (got,) = run(data, {"x": FRAME}, scale=3)  # a flag is false by itself
    np.testing.assert_allclose(got, FRAME, atol=1e-6)
    refused(data, "not of the type", train=1)
    refused(data, "no input of this name", Mul=1)


def test_a_saved_model_names_inputs_by_its_signature(tmp_path):
    message = scaled_graph().saved({"picture": "x:0", "by": "scale:0"}, {"out": "y:0"})
    (tmp_path / "saved_model.pb").write_bytes(message)
    (got,) = run(tmp_path, {"picture": FRAME}, by=-1.5, train=True)
    np.testing.assert_allclose(got, FRAME * -1.5, atol=1e-6)
    assert "by" in refused(tmp_path, "no input of this name", scale=1)


# --- Keras -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_keras(kind):
    file = f"several.{kind}"
    (left, right), wanted = sample_arrays(file)
    results = run(sample(file), {"left": left[:1]}, right=right[:1].tolist())
    for got, want in zip(results, wanted, strict=True):
        np.testing.assert_allclose(got.reshape(want[:1].shape), want[:1], atol=1e-5)
    refused(sample(file), "not the shape", right=1)
    refused(sample(file), "did you mean 'right'", rihgt=1)


# --- every input, and the command ------------------------------------------------------------------------------------


def test_the_command_and_the_runners_options(tmp_path, capsys):
    path, har = tmp_path / "scaled.tflite", tmp_path / "s.har"
    path.write_bytes(scaled_tflite())

    def command(*arguments):
        with pytest.raises(SystemExit) as done:
            main([*map(str, arguments)])
        told = capsys.readouterr()
        return done.value.code or 0, told.out + told.err

    code, told = command("parse", path, "--input-values", "scale=[2,4]", "--har-path", har, "--compare")
    assert not code, told
    assert "outputs agree" in told
    code, told = command("parse", path, "--input-values", "scale=[2,4]", "x=" + json.dumps(FRAME.tolist()))
    assert code and "Traceback" not in told
