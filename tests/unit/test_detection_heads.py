# SPDX-License-Identifier: Apache-2.0
"""Heads are recognized from what a file computes, and boxes are those of the file's own outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detection import heads
from detection.boxes import candidates, suppress
from detection.heads import CLASSES, SIZE, Detector
from headrace.emulator import Executor
from headrace.frontends import ParseOptions, parse
from headrace.hn import nms

runtime = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

MADE: dict[str, tuple[Callable[[], Detector], str, str]] = {
    "yolov8": (heads.yolov8, "yolov8", "class"),
    "yolov6": (lambda: heads.yolov8(bins=1), "yolov6", "class"),
    "yolov10": (lambda: heads.yolov8(free=True), "yolov10", "none"),
    "yolo26": (lambda: heads.yolov8(bins=1, free=True), "yolov10", "none"),
    "yolov5": (heads.yolov5, "yolov5", "class"),
    "yolov3": (lambda: heads.yolov5(squared=False), "yolov3", "class"),
    "yolox": (lambda: heads.yolox(decoded=True), "yolox", "class"),
    "yolox raw": (lambda: heads.yolox(decoded=False), "yolox", "class"),
    "ssd": (heads.ssd, "ssd", "class"),
    "retinanet": (lambda: heads.ssd(softmax=False), "ssd", "class"),
    "fcos": (heads.fcos, "fcos", "class"),
    "centernet": (heads.centernet, "centernet", "peaks"),
}


@pytest.mark.parametrize("name", MADE)
def test_boxes_are_those_of_the_file(name: str) -> None:
    import onnxruntime

    from headrace.runtime import Postprocess

    make, family, suppression = MADE[name]
    detector = make()
    data = detector.model.SerializeToString()
    result = parse(data)
    assert result.nms is not None
    found = result.nms
    assert (found.family, found.suppression, found.classes, found.image) == (family, suppression, CLASSES, (SIZE, SIZE))
    assert [d.strides for d in found.decoders] == [(s, s) for s in heads.STRIDES][: len(found.decoders)]
    assert nms.loads(nms.dumps(found), "copy") == found

    x = np.random.default_rng(1).normal(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    outputs = onnxruntime.InferenceSession(data).run(None, {"images": x.transpose(0, 3, 1, 2)})
    scores, boxes = detector.scores(outputs), detector.boxes(outputs)
    threshold = float(np.quantile(scores, 0.5 if suppression == "none" else 0.9))
    assert 0.01 < threshold < 0.995
    wanted = candidates(boxes, scores, threshold, 30000)
    if suppression == "class":
        wanted = suppress(wanted, 0.6, 300)
    kept = Executor(result.network, "native").run({result.network.input_layers[0].name: x})
    chosen = replace(found, score_threshold=threshold, iou_threshold=0.6)
    (got,) = Postprocess(chosen).detect(kept)
    if suppression == "none":  # the file gives only the best rows of what all give
        got, wanted = got[:20], wanted.keep(np.arange(min(20, len(wanted.scores))))
    assert len(wanted.scores) > 5
    assert len(got) == len(wanted.scores)
    edges = np.clip(wanted.boxes, 0, SIZE)
    np.testing.assert_allclose(got[:, 4], wanted.scores, atol=1e-4)
    np.testing.assert_array_equal(got[:, 5], wanted.classes)
    np.testing.assert_allclose(got[:, [1, 0, 3, 2]] * SIZE, edges, atol=2e-2)


def test_the_device_ends_before_the_decoding() -> None:
    result = parse(heads.yolov8().model.SerializeToString())
    shapes = [layer.output_shape[1:] for layer in result.network.output_layers]
    assert shapes == [(s, s, c) for s in (8, 4, 2) for c in (64, CLASSES)]
    assert result.nms is not None
    named = [layer.inputs[0] for layer in result.network.output_layers]
    assert [d.layers["reg_layer"] for d in result.nms.decoders] == named[::2]
    assert [d.layers["cls_layer"] for d in result.nms.decoders] == named[1::2]


def test_an_undecoded_head_ends_with_the_outputs_of_the_file() -> None:
    detector = heads.yolox(decoded=False)
    result = parse(detector.model.SerializeToString())
    assert [o.boundary.source_name for o in result.network.output_layers] == [detector.model.graph.output[0].name]


def test_no_head_no_change() -> None:
    result = parse(heads.classifier().SerializeToString())
    assert result.nms is None
    assert len(result.network.output_layers) == 1


def test_another_formula_is_no_head() -> None:
    """The right form with numbers of no family: offsets of 0.3 from the cell."""
    detector = heads.yolov8()
    for weight in detector.model.graph.initializer:
        if list(weight.dims) == [1, 2, 84]:
            values = np.frombuffer(weight.raw_data, np.float32) - 0.2
            weight.raw_data = values.astype(np.float32).tobytes()
    assert parse(detector.model.SerializeToString(), ParseOptions()).nms is None


def test_ends_that_are_named_keep_the_decoding_on_the_device() -> None:
    detector = heads.yolov8()
    name = detector.model.graph.output[0].name
    result = parse(detector.model.SerializeToString(), ParseOptions(end_node_names=[name]))
    assert result.nms is None
    assert len(result.network.output_layers) == 1


def test_ends_before_the_decoding_that_are_named_are_the_heads() -> None:
    detector = heads.yolov8()
    ends = [layer.boundary.source_name for layer in parse(detector.model.SerializeToString()).network.output_layers]
    result = parse(detector.model.SerializeToString(), ParseOptions(end_node_names=ends[::-1]))
    assert result.nms is not None and result.nms.family == "yolov8"
    assert [t.shape[2] for t in result.nms.tensors] == [64, CLASSES] * 3


@pytest.mark.parametrize("selected", [False, True], ids=["all", "none left by the file's own suppression"])
@pytest.mark.parametrize("kind", ["masks", "points", "angle"])
def test_masks_points_and_angles_are_found(kind: str, selected: bool) -> None:
    result = parse(heads.further(kind, selected).SerializeToString())
    found = result.nms
    assert found is not None
    assert (found.coding, found.bins, found.classes) == ("distances", 4, CLASSES)
    masks = nms.Masks(2 * len(heads.STRIDES) + len(heads.STRIDES)) if kind == "masks" else None
    points = nms.KeyPoints(2, 3, "grid", 2.0, 0.0, "sigmoid") if kind == "points" else None
    angle = nms.Angle("sigmoid", np.pi, -np.pi / 4) if kind == "angle" else None
    assert (found.masks, found.key_points, found.angle) == (masks, points, angle)
    assert found.suppression == ("fast" if kind == "angle" else "class")
    assert nms.loads(nms.dumps(found), "copy") == found
    if kind == "masks":
        assert found.tensors[masks.tensor].shape == (SIZE // 4, SIZE // 4, 8)


@pytest.mark.parametrize("resized", [False, True], ids=["as given", "resized"])
@pytest.mark.parametrize("distances", [False, True], ids=["retinanet", "fcos"])
def test_detectors_that_choose_before_they_decode(distances: bool, resized: bool) -> None:
    import onnxruntime

    from headrace.runtime import Postprocess

    data = heads.chosen(distances, resized).SerializeToString()
    result = parse(data)
    found = result.nms
    assert found is not None
    assert (found.family, found.classes, found.image) == ("fcos" if distances else "ssd", CLASSES, (SIZE, SIZE))
    limits = (found.score_threshold, found.iou_threshold, found.in_all, found.per_level, found.clipped)
    assert limits == (heads.SCORE, heads.OVERLAP, heads.IN_ALL, heads.PER_LEVEL, True)
    scale = 2 / 3 if resized else 1
    for decoder, stride in zip(found.decoders, heads.STRIDES, strict=True):
        assert decoder.strides == pytest.approx((stride * scale,) * 2)
        assert decoder.units is None if not distances else decoder.units == pytest.approx((1.25 * stride * scale,) * 2)
    assert nms.loads(nms.dumps(found), "copy") == found

    x = np.random.default_rng(1).normal(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    boxes, scores, classes = onnxruntime.InferenceSession(data).run(None, {"images": x.transpose(0, 3, 1, 2)})
    assert len(scores) > 10 and (np.diff(scores) < -1e-6).all()
    kept = Executor(result.network, "native").run({result.network.input_layers[0].name: x})
    (got,) = Postprocess(found).detect(kept)
    assert len(got) == len(scores)
    np.testing.assert_allclose(got[:, 4], scores, atol=1e-5)
    np.testing.assert_array_equal(got[:, 5], classes)
    np.testing.assert_allclose(got[:, [1, 0, 3, 2]] * SIZE, boxes, atol=1e-3)


@pytest.mark.parametrize("more", [False, True], ids=["two outputs", "hidden ones, too"])
def test_queries_have_their_best_class_and_none_is_suppressed(more: bool) -> None:
    """As DETR's own post-processing: softmax, the last class left out, the best class of each query."""
    import onnxruntime

    from headrace.runtime import Postprocess

    data = heads.detr(more).SerializeToString()
    result = parse(data)
    found = result.nms
    assert found is not None
    assert (found.family, found.classes, found.background) == ("detr", CLASSES + 1, CLASSES)
    assert found.suppression == "queries"
    x = np.random.default_rng(1).normal(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    logits, boxes = onnxruntime.InferenceSession(data).run(None, {"images": x.transpose(0, 3, 1, 2)})[:2]
    share = np.exp(logits[0] - logits[0].max(1, keepdims=True))
    share = (share / share.sum(1, keepdims=True))[:, :CLASSES]
    best = share.max(1)
    order = np.argsort(-best)[: int((best > 0.2).sum())]
    kept = Executor(result.network, "native").run({result.network.input_layers[0].name: x})
    (got,) = Postprocess(replace(found, score_threshold=0.2)).detect(kept)
    assert len(got) == len(order) > 10 and (share > 0.2).sum() > len(order)
    np.testing.assert_allclose(got[:, 4], best[order], atol=1e-5)
    np.testing.assert_array_equal(got[:, 5], share.argmax(1)[order])
    np.testing.assert_allclose(got[:, [1, 0, 3, 2]], np.clip(heads.corners(boxes[0, order]), 0, 1), atol=1e-5)


def test_a_detector_without_a_known_formula_is_told_of() -> None:
    model = heads.chosen(distances=False)
    for node in model.graph.node:
        node.op_type = {"Exp": "Softplus"}.get(node.op_type, node.op_type)
    result = parse(model.SerializeToString())
    assert result.nms is None
    warnings = result.report.warnings
    assert any("no boxes are made" in one and "no known form" in one for one in warnings)
