# SPDX-License-Identifier: Apache-2.0
"""Layers have the numbers by which public scripts and post-processing configurations name them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection_graphs import yolov5, yolov8
from headrace.hn import Network
from parsing import parse_onnx

REFERENCE = next((p for p in (Path("../shared/reference"), Path("/work/shared/reference")) if p.is_dir()), None)


def named(network: Network, source: str) -> str:
    layer = network.find(source)
    return layer.short_name


def parsed(model: Any, net_name: str = "net") -> Network:
    return parse_onnx(model.SerializeToString(), net_name).network


@pytest.mark.parametrize(
    ("depth", "numbers"),
    [(1 / 3, "41/42 52/53 62/63"), (2 / 3, "57/58 70/71 82/83"), (1.0, "73/74 88/89 102/103")],
    ids=["n and s", "m", "l and x"],
)
def test_yolov8(depth: float, numbers: str) -> None:
    model, heads = yolov8(depth)
    network = parsed(model)
    found = [tuple(named(network, name) for name in head) for head in heads]
    assert found == [tuple(f"conv{n}" for n in pair.split("/")) for pair in numbers.split()]


def test_branches_of_different_length_are_numbered_one_after_the_other() -> None:
    model, heads = yolov8(1 / 3, depthwise=True)
    network = parsed(model)
    found = [tuple(int(named(network, name)[4:]) for name in head) for head in heads]
    # YOLOv8n's trunk with YOLO11's heads: box and class differ by 3, as in 51/54 62/65 77/80
    assert found == [(39, 42), (50, 53), (60, 63)]


@pytest.mark.parametrize(("depth", "numbers"), [(1 / 3, (47, 54, 60)), (2 / 3, (65, 74, 82)), (1.0, (83, 94, 104))])
def test_yolov5(depth: float, numbers: tuple[int, ...]) -> None:
    model, heads = yolov5(depth)
    network = parsed(model)
    assert [named(network, name) for name in heads] == [f"conv{n}" for n in numbers]


@pytest.mark.skipif(REFERENCE is None, reason="the public configurations are not here")
@pytest.mark.parametrize(
    ("config", "made"),
    [
        ("yolov8n", yolov8(1 / 3)),
        ("yolov8m", yolov8(2 / 3)),
        ("hailo_yolov8s_480_640", yolov8(1 / 3)),
        ("yolov5m_6.1", yolov5(2 / 3)),
    ],
    ids=["yolov8n", "yolov8m", "yolov8s", "yolov5m"],
)
def test_public_configurations_name_the_heads(config: str, made: tuple[Any, list[Any]]) -> None:
    assert REFERENCE is not None
    model, heads = made
    network = parsed(model, config.removeprefix("hailo_").partition("_")[0])
    decoders = json.loads((REFERENCE / f"postprocess_config/{config}_nms_config.json").read_text())["bbox_decoders"]
    keys = ("encoded_layer",) if "encoded_layer" in decoders[0] else ("reg_layer", "cls_layer")
    meant = [tuple(network.find(d[key]).name for key in keys) for d in decoders]
    assert meant == [tuple(network.find(n).name for n in ([h] if isinstance(h, str) else h)) for h in heads]


def test_a_script_meets_the_head() -> None:
    model, heads = yolov8(1 / 3)
    network = parsed(model)
    script = "change_output_activation(conv42, sigmoid)\nchange_output_activation(conv53, sigmoid)"
    assert [network.find(n).name for n in re.findall(r"conv\d+", script)] == [
        network.find(head[1]).name for head in heads[:2]
    ]


def test_outputs_are_numbered_as_the_end_nodes_are_listed() -> None:
    model, heads = yolov8(1 / 3)
    ends = [name for head in reversed(heads) for name in head]
    network = parse_onnx(model.SerializeToString(), end_node_names=ends).network
    assert [layer.short_name for layer in network.output_layers] == [f"output_layer{i + 1}" for i in range(6)]
    assert [layer.boundary.source_name for layer in network.output_layers] == ends


def test_the_order_of_execution_stays_that_of_the_file() -> None:
    model, _ = yolov8(1 / 3)
    network = parsed(model)
    order = {node.output[0]: i for i, node in enumerate(model.graph.node)}
    places = [order[layer.original_names[0]] for layer in network.of_kind("conv")]
    assert places == sorted(places)


def test_a_transposed_convolution_is_named_so() -> None:
    from onnx import TensorProto, helper, numpy_helper

    kernels = numpy_helper.from_array(np.full((4, 4, 2, 2), 0.1, np.float32), "w")
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["up"], "up", strides=[2, 2]),
        helper.make_node("Relu", ["up"], ["y"], "act"),
    ]
    sizes = [1, 4, 8, 8]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [kernels],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert [layer.short_name for layer in parsed(model)][1:3] == ["deconv1", "depth_to_space1"]
