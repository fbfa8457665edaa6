# SPDX-License-Identifier: Apache-2.0
"""The steps of a whole model as files: round trips, and reading what nobody should trust."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.errors import InputFileError
from headrace.hn import Network, archive, whole
from headrace.hn.whole import DeviceStep, DeviceTensor, ModelTensor, OnnxStep, OperatorStep, WholeModel
from layer_maker import make_layer

PICTURE = DeviceTensor("scaled", "net/input_layer1", (-1, 4, 6, 3), (-1, 3, 4, 6), (0, 3, 1, 2))
SCORES = DeviceTensor("scores", "net/output_layer1", (-1, 10), (-1, 10), (0, 1))


def sample() -> WholeModel:
    """A host network before the device, one operator and one network behind it."""
    return WholeModel(
        (ModelTensor("image", "uint8", (-1, 3, 4, 6)), ModelTensor("limit", "float32", (), -1)),
        (ModelTensor("scores", "float32", (-1, 10)), ModelTensor("boxes", "float32", (-1, 5), -1)),
        (
            OnnxStep(("image",), ("scaled",), b"first"),
            DeviceStep((PICTURE,), (SCORES,)),
            OperatorStep("choose", ("scores", "limit"), ("chosen",), {"most": 3, "names": ["ä"]}),
            OnnxStep(("chosen",), ("boxes",), b"second"),
        ),
    )


def net() -> Network:
    made = Network("net")
    made.add(make_layer("net/input_layer1", "input_layer", [], {"shape": [-1, 4, 4, 3]}, (-1, 4, 4, 3), ["x"]))
    made.add(
        make_layer(
            "net/conv1", "conv", ["net/input_layer1"], {"kernel_shape": [1, 1, 3, 2]}, (-1, 4, 4, 2), ["Conv_0"]
        ),
        {"kernel": np.zeros((1, 1, 3, 2), np.float32)},
    )
    made.add(make_layer("net/output_layer1", "output_layer", ["net/conv1"], {}, (-1, 4, 4, 2)))
    return made


def test_round_trip() -> None:
    files = whole.to_files(sample(), "net")
    assert list(files) == ["net.host_1.onnx", "net.host_2.onnx", "net.whole.json"]
    assert whole.from_files(files, "net", "x") == sample()
    assert whole.from_files({}, "net", "x") is None
    assert whole.to_files(sample(), "net") == files, "the same model, the same bytes"
    assert [type(s).__name__ for s in sample().before] == ["OnnxStep"]
    assert [type(s).__name__ for s in sample().after] == ["OperatorStep", "OnnxStep"]


def test_an_archive_keeps_it() -> None:
    data = archive.dump(archive.Archive("net", native=net(), whole=sample()))
    again = archive.loads(data, "x.har")
    assert again.whole == sample() and archive.dump(again) == data
    assert archive.loads(archive.dump(archive.Archive("net", native=net())), "x.har").whole is None


def test_layers_are_called_as_the_hef_calls_them() -> None:
    renamed = sample().with_layers({"net/output_layer1": "net/fc1"})
    assert renamed.device.gives[0].layer == "net/fc1" and renamed.device.takes == (PICTURE,)


def _without(key: str, value: Any) -> Any:
    data = whole.to_dict(sample())
    place: Any = data
    *path, last = key.split("/")
    for part in path:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return data


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("version", True),
        ("frames", 0),
        ("frames", 1 << 40),
        ("inputs", {}),
        ("inputs/0/dtype", "object"),
        ("inputs/0/shape", [-2]),
        ("inputs/0/shape", [1] * 17),
        ("inputs/0/name", ""),
        ("inputs/0/name", "x" * 5000),
        ("inputs/0/frame_axis", 4),
        ("inputs/0/frame_axis", True),
        ("steps", []),
        ("steps/0/kind", "shell"),
        ("steps/0/network", 2),
        ("steps/0/outputs", ["image"]),
        ("steps/0/inputs", ["boxes"]),
        ("steps/1/takes/0/permutation", [0, 0, 1, 2]),
        ("steps/1/takes/0/layer_shape", [-1, 4, 6, 4]),
        ("steps/1/takes/0/shape", [1, 3, 4, 6]),
        ("steps/1/gives", []),
        ("steps/2/attributes", []),
        ("steps/2/operator", 3),
        ("steps/3", {"kind": "device", "takes": [], "gives": []}),
        ("outputs/0/name", "nothing"),
        ("outputs/0/name", "boxes"),
    ],
)
def test_what_breaks_a_rule_is_refused(key: str, value: Any) -> None:
    text = json.dumps(_without(key, value)).encode()
    with pytest.raises(InputFileError) as caught:
        whole.loads(text, sample().networks, "x")
    assert caught.value.code == "E-WHOLE-CORRUPT"


def test_networks_and_steps_belong_together() -> None:
    text = whole.dumps(sample())
    for networks in ((b"first",), (b"first", b""), (b"first", b"second", b"third")):
        with pytest.raises(InputFileError, match="network of the host"):
            whole.loads(text, networks, "x")
    with pytest.raises(InputFileError, match="not JSON"):
        whole.loads(b"{", (), "x")
    twice = replace(sample(), steps=(*sample().steps, sample().device))
    with pytest.raises(InputFileError, match="one step is the device's"):
        whole.loads(whole.dumps(twice), sample().networks, "x")
