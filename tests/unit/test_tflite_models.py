# SPDX-License-Identifier: Apache-2.0
"""Real TFLite files: float ones equal LiteRT and their ONNX twins, all others end in a report of what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from headrace.errors import UsageError
from headrace.frontends.formats.tflite.graph import read_tflite
from headrace.frontends.reader import Source
from parsing import parse_onnx, parse_tflite
from small_tflite import run_source, uniform_feeds, worst_difference

FLOAT = [
    "mlperf_tiny/ad01_float.tflite",
    "mlperf_tiny/ic_resnet8_float.tflite",
    "mlperf_tiny/vww_96_float.tflite",
    "mobilenet_v1_025_imagenet/mobilenet_v1_0.25_224_float.tflite",
    "ultraface/version-RFB-320_without_postprocessing.tflite",
    "mediapipe_face_float/face_detection_front.tflite",
    "tflm_lstm_mnist/trained_lstm.tflite",
    "basic_pitch/nmp.tflite",  # which computes its own spectrogram
    "kwt1/kwt1_non_stream.tflite",
]
#: ONNX and TFLite of one training; whether their outputs stand in opposite order
TWINS = [
    ("derived_tf/resnet8/ic_resnet8_tf2onnx.onnx", "mlperf_tiny/ic_resnet8_float.tflite", False),
    (
        "ultraface/version-RFB-320_without_postprocessing.onnx",
        "ultraface/version-RFB-320_without_postprocessing.tflite",
        True,
    ),
]


@pytest.mark.parametrize("name", FLOAT)
def test_float_model_equals_litert(zoo, name):
    data = (zoo / name).read_bytes()
    assert worst_difference(parse_tflite(data, "net").network, data, uniform_feeds(data, 1), run_network) < 1e-4


def test_face_landmark(zoo):
    """Its PReLU has a slope per channel."""
    data = (zoo / "mediapipe_face_float/face_landmark.tflite").read_bytes()
    network = parse_tflite(data, "net").network
    assert worst_difference(network, data, uniform_feeds(data, 4), run_network) < 1e-4


@pytest.mark.parametrize(
    "name", ["mediapipe_face_float/face_landmark.tflite", "kwt1/kwt1_non_stream.tflite", "basic_pitch/nmp.tflite"]
)
def test_source_graph_equals_litert(zoo, name):
    """What is no layer yet is read all the same: the source graph in onnxruntime gives what LiteRT gives."""
    data = (zoo / name).read_bytes()
    source = read_tflite(Source.of(data))
    assert not source.broken
    assert worst_difference(source, data, uniform_feeds(data, 2), run_source) < 1e-4


def structure(network, reverse):
    """Layers in an order that follows from the graph alone, with kinds, attributes, shapes and connections."""
    order: list[str] = []
    place: dict[str, int] = {}

    def visit(name):
        if name in place:
            return
        for source in network[name].inputs:
            visit(source)
        place[name] = len(order)
        order.append(name)

    outputs = network.net_params["output_layers_order"]
    for name in reversed(outputs) if reverse else outputs:
        visit(name)
    assert len(order) == len(network.layers)
    facts = [
        (
            network[n].kind,
            [place[s] for s in network[n].inputs],
            network[n].output_shape,
            {k: v for k, v in network[n].attributes.items() if not k.startswith("source_")},
        )
        for n in order
    ]
    return facts, order


@pytest.mark.parametrize(("onnx", "tflite", "reverse"), TWINS)
def test_same_network_from_onnx_and_tflite(zoo, onnx, tflite, reverse):
    first, second = parse_onnx(zoo / onnx, "net").network, parse_tflite(zoo / tflite, "net").network
    (facts, order), (others, other_order) = structure(first, reverse), structure(second, False)
    assert facts == others
    for a, b in zip(order, other_order, strict=True):
        mine, theirs = first[a].params, second[b].params
        assert sorted(mine) == sorted(theirs)
        for key, array in mine.items():
            assert np.allclose(array, theirs[key], rtol=1e-3, atol=1e-3 * float(np.abs(array).max())), (a, key)


def test_cut_by_tensor_names(zoo):
    """TFLite operators have no names: the tensors they make name them."""
    path = zoo / "mlperf_tiny/ic_resnet8_float.tflite"
    whole = parse_tflite(path, "net")
    middle = next(n for n in whole.network if n.kind == "ew_add").original_names[0]
    head = parse_tflite(path, "net", end_node_names=[middle]).network
    tail = parse_tflite(path, "net", start_node_names=[middle]).network
    (end,) = head.output_layers
    assert end.attributes["source_shape"] == [-1, 32, 32, 16]
    assert [layer.kind for layer in tail][:3] == ["input_layer", "input_layer", "ew_add"]
    assert len(head.layers) + len(tail.layers) == len(whole.network.layers) + 4  # two inputs, an output, the sum again
    with pytest.raises(UsageError, match="there is no node"):
        parse_tflite(path, "net", end_node_names=["no such"])


def test_report_counts_operators(zoo):
    report = parse_tflite(zoo / "mlperf_tiny/ic_resnet8_float.tflite").report
    assert report.source.format == "tflite"
    assert report.source.facts["operators"]["CONV_2D"] == 9
    assert report.source_nodes == 16
