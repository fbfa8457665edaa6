# SPDX-License-Identifier: Apache-2.0
"""Real TensorFlow files of every form: parsed, and equal to the same network in a format that has a runtime here."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from frontend_oracle import run_network, session
from headrace.errors import UnsupportedModelError
from headrace.frontends import ParseOptions, parse
from headrace.runner import ClientRunner, InferenceContext

R, M = "derived_tf/resnet8", "derived_tf/mobilenet_v1_025"
NAME = "mobilenet_v1_0.25_224"
#: What is read → the ONNX file of the same network, and the shape of a frame.
FAMILIES = {
    f"{R}/ic_resnet8_frozen.pb": (f"{R}/ic_resnet8_tf2onnx.onnx", (1, 32, 32, 3)),
    f"{R}/ic_resnet8_saved_model": (f"{R}/ic_resnet8_tf2onnx.onnx", (1, 32, 32, 3)),
    f"{R}/tf1_checkpoint": (f"{R}/ic_resnet8_tf2onnx.onnx", (1, 32, 32, 3)),
    f"{M}/{NAME}_frozen.pb": (f"{M}/{NAME}_tf2onnx.onnx", (1, 224, 224, 3)),
    f"{M}/{NAME}_saved_model": (f"{M}/{NAME}_tf2onnx.onnx", (1, 224, 224, 3)),
}
#: Others, and what has to be said beside.
OTHERS = {
    "tf_superres/ESPCN_x2.pb": {"input_shapes": [1, 64, 64, 1]},
    "tf_superres/FSRCNN_x2.pb": {"input_shapes": [1, 64, 64, 1]},
    "tf_superres/ckpt_x2": {"input_shapes": [1, 64, 64, 1]},
    "tf_ml_kws_pb/DS_CNN_S.pb": {"start_node_names": ["Reshape"]},
    "tf_ml_kws_pb/LSTM_S.pb": {"start_node_names": ["Reshape"]},
    "mlperf_tiny/kws_saved_model": {},
    "basic_pitch/nmp_saved_model": {},
}


def kinds(network):
    return [layer.kind for layer in network]


@pytest.mark.parametrize("path", FAMILIES)
def test_a_network_is_the_same_from_tensorflow_and_from_onnx(zoo, path):
    other, shape = FAMILIES[path]
    network = parse(zoo / path).network
    same = parse(zoo / other).network
    assert kinds(network) == kinds(same)
    frames = np.random.default_rng(0).uniform(0, 255 if shape[1] == 32 else 1, shape).astype(np.float32)
    runtime = session((zoo / other).read_bytes())
    wanted = runtime.run(None, {runtime.get_inputs()[0].name: frames})[0].reshape(-1)
    (got,) = run_network(network, {network.input_layers[0].boundary.source_name: frames}).values()
    assert np.abs(got.reshape(-1) - wanted).max() <= 1e-5 * np.ptp(wanted)


@pytest.mark.parametrize("path", OTHERS)
def test_the_others_are_parsed_too(zoo, path):
    result = parse(zoo / path, ParseOptions(**OTHERS[path]))
    assert len(result.network.input_layers) == 1 and result.network.output_layers


def test_a_checkpoint_is_its_frozen_graph(zoo):
    frames = np.random.default_rng(1).uniform(0, 1, (1, 16, 16, 1)).astype(np.float32)
    results = []
    prefix = zoo / "tf_superres/ckpt_x2/fsrcnn_ckpt"
    files = [f"{prefix}{end}" for end in ("", ".meta", ".index", ".data-00000-of-00001")]
    for path in (zoo / "tf_superres/FSRCNN_x2.pb", zoo / "tf_superres/ckpt_x2", *files):
        result = parse(path, ParseOptions(input_shapes=[1, 16, 16, 1]))
        results.append((kinds(result.network), run_network(result.network, {"IteratorGetNext": frames})["NCHW_output"]))
        assert bool(result.report.warnings) == (not str(path).endswith(".pb"))  # three copies of it without weights
    for layers, values in results[1:]:
        assert layers == results[0][0]
        assert np.array_equal(values, results[0][1])


def test_names_of_the_file(zoo):
    result = parse(zoo / f"{R}/ic_resnet8_saved_model")
    assert result.network.input_layers[0].boundary.source_name == "input_1"
    assert result.network.output_layers[0].boundary.source_name == "output_0"
    assert "model/conv2d/Conv2D" in result.report.nodes
    for end in ("model/dense/MatMul", "model/dense/MatMul:0"):
        cut = parse(zoo / f"{R}/ic_resnet8_frozen.pb", ParseOptions(end_node_names=[end]))
        assert cut.network.output_layers[0].boundary.source_name == "model/dense/MatMul"


def test_the_runner_takes_every_form(zoo):
    for path in (*FAMILIES, "mlperf_tiny/kws_saved_model"):
        runner = ClientRunner()
        hn, params = runner.translate_tf_model(zoo / path, "net")
        assert hn["layers"] and params


#: What TensorFlow computes of a sound, the sound decoded by it too.
FROM_SOUND = {
    ("DS_CNN_S", "no_1000ms.wav"): [
        7.450128e-10,
        1.816759e-05,
        2.293117e-07,
        0.9929472,
        7.670505e-08,
        9.545445e-07,
        2.238094e-07,
        1.208686e-06,
        4.22816e-08,
        2.075326e-07,
        7.264916e-07,
        0.007031011,
    ],
    ("LSTM_S", "noise_1000ms.wav"): [
        0.6746287,
        0.04160274,
        0.06797435,
        0.05544995,
        0.01046954,
        0.01460396,
        0.06001577,
        0.03679907,
        0.004927193,
        0.01054956,
        0.004731691,
        0.0182474,
    ],
}


@pytest.mark.parametrize(("name", "sound"), FROM_SOUND)
def test_a_whole_network_from_a_file_of_sound(zoo, name, sound):
    runner = ClientRunner()
    runner.translate_tf_model(zoo / f"tf_ml_kws_pb/{name}.pb")
    contents = np.array((zoo / "data_speech_wavs" / sound).read_bytes(), object)
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        made = runner.infer(context, {"wav_data": contents}, whole=True)
    assert np.allclose(made, [FROM_SOUND[name, sound]], atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="signal processing"):
        ClientRunner().translate_tf_model(zoo / f"tf_ml_kws_pb/{name}.pb", device_only=True)
