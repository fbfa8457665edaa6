# SPDX-License-Identifier: Apache-2.0
"""A trained detector with its decoding in the network: boxes in pixels and scores of 0 … 1 in one output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo_data
from headrace.runner import ClientRunner, InferenceContext

Array = np.ndarray[Any, Any]
SIZE, STRIDES = 416, (8, 16, 32)
#: Nodes of the file: box regression, sigmoid of objectness, sigmoids of classes, per level.
HEADS = tuple((f"Conv_{k}", f"Sigmoid_{k + 2}", f"Sigmoid_{k + 3}") for k in (327, 360, 393))
#: dB about the mean; seen: 32.4, 15.9, 14.2, 11.5. That the network loses itself in 8 bits; codes are only copied
#: behind its heads. As outputs of their own these are held to 12 dB (tests/zoo_models.py).
LEAST = {"centres": 20.0, "sizes": 14.0, "objectness": 12.0, "classes": 10.0}
PARTS = {"centres": slice(0, 2), "sizes": slice(2, 4), "objectness": slice(4, 5), "classes": slice(5, 85)}


def decoded(source: Path, target: Path) -> None:
    """YOLOX-Nano with ``[1, 3549, 85]`` decoded: centres and sizes in pixels, objectness, classes."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    model = onnx.load(str(source))
    results = {node.name: node.output[0] for node in model.graph.node}
    nodes: list[Any] = []

    def constant(name: str, value: Array) -> str:
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(op: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    ends = [constant(f"at{v}", np.array([v], np.int64)) for v in (0, 2, 4, 1)]
    rows = []
    for level, (stride, (box, *scores)) in enumerate(zip(STRIDES, HEADS, strict=True)):
        side = SIZE // stride
        y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
        grid = constant(f"grid{level}", np.stack([x, y])[None].astype(np.float32))
        step = constant(f"stride{level}", np.array(stride, np.float32))
        centre = node("Slice", f"raw_centre{level}", results[box], ends[0], ends[1], ends[3])
        size = node("Slice", f"raw_size{level}", results[box], ends[1], ends[2], ends[3])
        centre = node("Mul", f"centre{level}", node("Add", f"place{level}", centre, grid), step)
        size = node("Mul", f"size{level}", node("Exp", f"exp{level}", size), step)
        joined = node("Concat", f"joined{level}", centre, size, *(results[s] for s in scores), axis=1)
        shape = constant(f"shape{level}", np.array([1, 85, side * side], np.int64))
        rows.append(node("Reshape", f"rows{level}", joined, shape))
    whole = node("Concat", "whole", *rows, axis=2)
    node("Transpose", "detections", whole, perm=[0, 2, 1])
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("detections", 1, [1, 3549, 85]))
    onnx.save(model, str(target))


def about_the_mean(want: Array, got: Array) -> float:
    mean = want.mean(axis=(0, 1), keepdims=True)
    return float(10 * np.log10(np.square(want - mean).sum() / np.square(want - got).sum()))


@pytest.mark.slow
def test_a_decoded_detector_keeps_boxes_and_scores(zoo: Path, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    path = tmp_path / "decoded.onnx"
    decoded(zoo / "yolox_nano" / "yolox_nano_coco80.onnx", path)
    calibration = np.stack([zoo_data.letterboxed(m, SIZE) for m in zoo_data.mosaics(zoo)[:16]])
    calibration = calibration[..., ::-1].astype(np.float32)
    pictures = [zoo_data.letterboxed(image, SIZE) for _, image in zoo_data.coco_images(zoo)[:8]]
    test = np.stack(pictures)[..., ::-1].astype(np.float32)
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(str(path), "yolox", end_node_names=["detections"])  # decoding stays on the device
    runner.optimize(calibration, min_snr=0)
    runner.compile()
    emulated = runner.infer(InferenceContext.SDK_QUANTIZED, test, source_layout=True)
    on_device = runner.infer(InferenceContext.SDK_HAILO_HW, test, source_layout=True)
    assert np.array_equal(emulated, on_device)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    frames = np.ascontiguousarray(test.transpose(0, 3, 1, 2))
    want = np.concatenate([session.run(None, {"images": frame[None]})[0] for frame in frames])
    found = {name: round(about_the_mean(want[..., part], emulated[..., part]), 1) for name, part in PARTS.items()}
    assert all(found[name] >= least for name, least in LEAST.items()), found
    scores = emulated[..., PARTS["classes"]]
    assert len(np.unique(scores)) > 100
