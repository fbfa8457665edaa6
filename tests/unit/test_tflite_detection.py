# SPDX-License-Identifier: Apache-2.0
"""``TFLite_Detection_PostProcess``: boxes of the device part are those of LiteRT, and so are the host's outputs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flatbuffers")
pytest.importorskip("ai_edge_litert")
runtime = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

from detection_postprocess import CLASSES, IMAGE, OPTIONS, encoded, ssd  # noqa: E402
from headrace.emulator import Executor  # noqa: E402
from headrace.errors import InputFileError, UnsupportedModelError  # noqa: E402
from headrace.frontends import ParseOptions, parse  # noqa: E402
from headrace.frontends.formats.tflite import flexbuffer  # noqa: E402
from headrace.frontends.formats.tflite.flatbuffer import DamagedError  # noqa: E402
from headrace.hn.whole import DeviceStep, OnnxStep  # noqa: E402
from headrace.runner import ClientRunner, InferenceContext  # noqa: E402
from small_tflite import litert_outputs  # noqa: E402


def frames(count: int = 1):
    return np.random.default_rng(3).uniform(-1, 1, (count, IMAGE, IMAGE, 3)).astype(np.float32)


def litert(data, x):
    boxes, classes, scores, number = litert_outputs(data, {"image": x}).values()
    return boxes[0], classes[0], scores[0], int(number[0])


@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("threshold", [1e-8, 0.55])
def test_boxes_are_those_of_litert(regular, threshold):
    from headrace.runtime import Postprocess

    data = ssd(use_regular_nms=regular, nms_score_threshold=threshold)
    result = parse(data)
    assert result.nms is not None
    assert (result.nms.classes, result.nms.suppression) == (CLASSES, "class" if regular else "best")
    assert len(result.network.output_layers) == 4
    x = frames()
    outputs = Executor(result.network, "native").run({result.network.input_layers[0].name: x})
    found = Postprocess(result.nms).detect(outputs)[0]
    boxes, classes, scores, number = litert(data, x)
    assert number >= 3 and len(found) == number
    np.testing.assert_allclose(found[:, 4], scores[:number], atol=1e-6)
    np.testing.assert_array_equal(found[:, 5], classes[:number])
    np.testing.assert_allclose(found[:, :4], np.clip(boxes[:number], 0, 1), atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"use_regular_nms": True}, {"max_classes_per_detection": 2}])
def test_the_host_gives_the_outputs_of_litert(tmp_path, more):
    path = tmp_path / "ssd.tflite"
    path.write_bytes(ssd(**more))
    runner = ClientRunner("hailo8")
    runner.translate_tf_model(path, "net")
    whole = runner.archive.whole
    assert [type(step) for step in whole.steps] == [DeviceStep, OnnxStep]
    x = frames()
    wanted = litert_outputs(path.read_bytes(), {"image": x})
    number = int(wanted["count"][0])
    assert number >= 3
    got = dict(
        zip([o.name for o in whole.outputs], runner.infer(InferenceContext.SDK_NATIVE, x, whole=True), strict=True)
    )
    assert int(got["count"].item()) == number
    for name in ("boxes", "classes", "scores"):
        assert got[name].shape == wanted[name].shape
        np.testing.assert_allclose(got[name][0, :number], wanted[name][0, :number], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_classes": 90}, "num_classes"),
        ({"max_detections": 0}, "max_detections"),
        ({"y_scale": 0.0}, "scales"),
        ({"nms_iou_threshold": 0.0}, "limits"),
        ({"nms_iou_threshold": None}, "nms_iou_threshold"),
    ],
)
def test_options_that_do_not_fit(change, word):
    with pytest.raises(UnsupportedModelError, match=word):
        parse(ssd(**change), options=ParseOptions(device_only=True))


def test_flexbuffers():
    given = OPTIONS | {"large": 1 << 40, "less": -3, "no": False}
    data = encoded(given)
    assert flexbuffer.numbers(data) == pytest.approx({key: float(value) for key, value in given.items()})
    for end in range(len(data)):
        with pytest.raises(DamagedError):
            flexbuffer.numbers(data[:end] + b"\xff")
    generator = np.random.default_rng(1)
    for _ in range(500):
        broken = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            broken[place] = generator.integers(0, 256)
        try:
            flexbuffer.numbers(bytes(broken))
        except DamagedError:
            pass


def test_damaged_options():
    with pytest.raises(InputFileError, match="options are damaged"):
        parse(ssd(custom=b"\x01\x02\x03"))
