# SPDX-License-Identifier: Apache-2.0
"""Heads of files whose layers are quantized (QDQ): recognized as those of the float file, and their boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detection import heads
from detection.heads import SIZE
from headrace.frontends import parse

runtime = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
quantization = pytest.importorskip("onnxruntime.quantization")


class Frames(quantization.CalibrationDataReader):
    def __init__(self):
        self.left = [np.random.default_rng(i).normal(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32) for i in range(2)]

    def get_next(self):
        return {"images": self.left.pop()} if self.left else None


@pytest.mark.parametrize("make", [heads.yolov8, heads.yolov5, heads.ssd], ids=["yolov8", "yolov5", "ssd"])
def test_qdq_files(tmp_path, make):
    import onnx
    import onnxruntime

    from headrace.runtime import Postprocess

    detector = make()
    onnx.save(detector.model, tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx", tmp_path / "qdq.onnx", Frames(), op_types_to_quantize=["Conv"]
    )
    plain, result = parse(tmp_path / "float.onnx"), parse(tmp_path / "qdq.onnx")
    assert plain.nms is not None and result.nms is not None
    for field in ("family", "classes", "coding", "score_activation", "bins", "point"):
        assert getattr(plain.nms, field) == getattr(result.nms, field)
    assert [(d.grid, d.strides) for d in plain.nms.decoders] == [(d.grid, d.strides) for d in result.nms.decoders]

    model = onnx.load(tmp_path / "qdq.onnx")
    ends = {layer.name: layer for layer in result.network.output_layers}
    own = len(model.graph.output)
    model.graph.output.extend(onnx.ValueInfoProto(name=one.boundary.source_name) for one in ends.values())
    x = np.random.default_rng(7).normal(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    made = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": x})
    held = {name: array.transpose(0, 2, 3, 1) for name, array in zip(ends, made[own:], strict=True)}
    scores, boxes = detector.scores(made[:own]), detector.boxes(made[:own])
    place = np.unravel_index(int(scores.argmax()), scores.shape)
    chosen = replace(result.nms, score_threshold=float(scores.max()) * 0.9)
    best = Postprocess(chosen).detect(held)[0][0]
    assert best[4] == pytest.approx(scores.max(), abs=2e-2 if make is heads.yolov8 else 1e-4)
    near = np.abs(np.clip(boxes[scores.max(axis=1) >= scores.max() - 2e-2], 0, SIZE) - best[[1, 0, 3, 2]] * SIZE)
    assert near.max(axis=1).min() < (1.5 if make is heads.yolov8 else 2e-2), place
