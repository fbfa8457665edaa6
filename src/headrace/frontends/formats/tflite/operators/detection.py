# SPDX-License-Identifier: Apache-2.0
"""``TFLite_Detection_PostProcess``: boxes decoded from anchors, and selected by suppression; the host runs it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.schema import DETECTION
from headrace.frontends.graph import Unsupported
from headrace.frontends.selection import Selection, note_selection

_MOST = 1 << 16
_NEEDED = (
    "max_detections", "max_classes_per_detection", "nms_score_threshold", "nms_iou_threshold", "num_classes",
    "y_scale", "x_scale", "h_scale", "w_scale",
)  # fmt: skip


def _count(operation: Operation, name: str, most: int = _MOST) -> int:
    value = operation.real(name)
    if not 1 <= value <= most or value != int(value):
        raise Unsupported(f"{name} is {value:g}", f"1 to {most}")
    return int(value)


def _selection(operation: Operation) -> Selection:
    options = operation.record.options
    missing = [name for name in _NEEDED if name not in options]
    if missing:
        raise Unsupported(f"its options lack {', '.join(missing)}", "an operator of a TFLite detection model")
    columns = operation.shape(1)[-1]
    classes = _count(operation, "num_classes", columns)
    score, overlap = operation.real("nms_score_threshold"), operation.real("nms_iou_threshold")
    if not math.isfinite(score) or not 0 < overlap <= 1:
        raise Unsupported(f"its limits are {score:g} and {overlap:g}", "a finite score, an overlap above 0, at most 1")
    apart = bool(options.get("use_regular_nms", 0))
    most = _count(operation, "max_detections")
    each = _count(operation, "detections_per_class") if apart and "detections_per_class" in options else 100
    per_box = _count(operation, "max_classes_per_detection", 1 if apart else classes)
    return Selection(classes, columns - classes, score, overlap, most, each if apart else None, apart, per_box)


def _decoded(operation: Operation) -> ir.Value:
    """Corners of all boxes, y first, [N, 4].

    Per box: centre t/scale·size + centre of the anchor, size exp(t/scale)·size of the anchor; anchors are centre and
    size, y first (tensorflow/lite/kernels/detection_postprocess.cc, DecodeCenterSizeBoxes).
    """
    anchors = operation.array(2, "the anchors").astype(np.float32)
    boxes = operation.shape(0)
    if len(boxes) != 3 or boxes[0] != 1 or boxes[2] < 4 or anchors.shape != (boxes[1], 4):
        raise Unsupported(f"boxes {boxes} and anchors {list(anchors.shape)}", "boxes 1×N×4 and anchors N×4")
    scales = [operation.real(f"{side}_scale") for side in "yxhw"]
    if not all(math.isfinite(s) and s > 0 for s in scales):
        raise Unsupported(f"its scales are {scales}", "numbers above 0")
    flat = operation.emit("Reshape", [operation.value(0), operation.list(boxes[1:])])
    pairs = [
        operation.emit("Slice", [flat, operation.list([first]), operation.list([first + 2]), operation.list([1])])
        for first in (0, 2)
    ]
    centre, size = (
        operation.emit("Div", [pair, operation.make(np.array(scales[i : i + 2], np.float32))])
        for pair, i in zip(pairs, (0, 2), strict=True)
    )
    sides = operation.make(anchors[:, 2:])
    middle = operation.emit("Add", [operation.emit("Mul", [centre, sides]), operation.make(anchors[:, :2])])
    half = operation.emit("Mul", [operation.emit("Exp", [size]), operation.make(anchors[:, 2:] * np.float32(0.5))])
    low, high = operation.emit("Sub", [middle, half]), operation.emit("Add", [middle, half])
    return operation.emit("Concat", [low, high], {"axis": 1})


class _Chosen:
    """The chosen boxes: as many as there may be, those that are too many marked."""

    def __init__(self, operation: Operation, selection: Selection, boxes: ir.Value) -> None:
        self.operation, self.selection, self.boxes = operation, selection, boxes
        shape = operation.shape(1)
        if len(shape) != 3 or shape[:2] != operation.shape(0)[:2]:
            raise Unsupported(f"scores {shape}", "1×N×classes, of as many boxes")
        flat = operation.emit("Reshape", [operation.value(1), operation.list(shape[1:])])
        first, last = operation.list([selection.first]), operation.list([shape[2]])
        self.scores = flat
        if selection.first:
            self.scores = operation.emit("Slice", [flat, first, last, operation.list([1])])

    def _suppressed(self, scores: ir.Value, most: int) -> ir.Value:
        """Rows of zero, class and box, of scores [1, classes, N]."""
        operation, s = self.operation, self.selection
        least = np.nextafter(np.float32(s.score_threshold), np.float32(-np.inf))  # a score at the limit stays
        limits = [operation.make(np.array([v], np.float32)) for v in (s.iou_threshold, least)]
        boxes = operation.emit("Unsqueeze", [self.boxes, operation.list([0])])
        rows = operation.emit("NonMaxSuppression", [boxes, scores, operation.list([most]), *limits])
        note_selection(rows, s)
        return rows

    def _column(self, rows: ir.Value, column: int) -> ir.Value:
        return self.operation.emit("Gather", [rows, self.operation.make(np.array(column, np.int64))], {"axis": 1})

    def _filled(self, line: ir.Value, most: int, value: float) -> ir.Value:
        """A line with ``most`` more elements behind it."""
        more = self.operation.make(np.full(most, value, np.float32))
        return self.operation.emit("Concat", [line, more], {"axis": 0})

    def best(self) -> list[ir.Value]:
        """Boxes, classes, scores and how many there are; all are suppressed together by their best score."""
        operation, s = self.operation, self.selection
        k = operation.list([s.per_box])
        values, classes = operation.emit_all("TopK", [self.scores, k], {"axis": 1}, 2)
        best = operation.emit("ReduceMax", [self.scores, operation.list([1])], {"keepdims": 0})
        rows = self._suppressed(operation.emit("Unsqueeze", [best, operation.list([0, 1])]), s.in_all)
        chosen = self._column(rows, 2)
        count = operation.emit("Shape", [chosen])
        missing = operation.emit("Sub", [operation.list([s.in_all]), count])
        padding = operation.emit("Concat", [operation.list([0]), missing], {"axis": 0})
        chosen = operation.emit("Pad", [chosen, padding])
        there = operation.emit("Less", [operation.make(np.arange(s.in_all)), count])
        every = operation.emit("Expand", [self._upright(there), operation.list([s.in_all, s.per_box])])
        line = operation.emit("Reshape", [every, operation.list([-1])])
        places = operation.emit("Expand", [self._upright(chosen), operation.list([s.in_all, s.per_box])])
        places = operation.emit("Reshape", [places, operation.list([-1])])
        classes, values = (
            operation.emit("Reshape", [operation.emit("Gather", [v, chosen], {"axis": 0}), operation.list([-1])])
            for v in (classes, values)
        )
        return self._results(places, classes, values, line, count)

    def _upright(self, line: ir.Value) -> ir.Value:
        return self.operation.emit("Unsqueeze", [line, self.operation.list([1])])

    def apart(self) -> list[ir.Value]:
        """The same, classes suppressed apart, the best of all of them."""
        operation, s = self.operation, self.selection
        turned = operation.emit("Transpose", [self.scores], {"perm": [1, 0]})
        lines = operation.emit("Unsqueeze", [turned, operation.list([0])])
        rows = self._suppressed(lines, s.per_class or s.in_all)
        pairs = operation.emit("Slice", [rows, operation.list([1]), operation.list([3]), operation.list([1])])
        found = self._filled(operation.emit("GatherND", [turned, pairs]), s.in_all, -np.inf)
        values, order = operation.emit_all("TopK", [found, operation.list([s.in_all])], {"axis": 0}, 2)
        count = operation.emit("Shape", [self._column(rows, 2)])
        number = operation.emit("Min", [count, operation.list([s.in_all])])
        classes, places = (
            operation.emit("Gather", [self._integers_filled(self._column(rows, i)), order], {"axis": 0}) for i in (1, 2)
        )
        there = operation.emit("Less", [operation.make(np.arange(s.in_all)), number])
        return self._results(places, classes, values, there, number)

    def _integers_filled(self, line: ir.Value) -> ir.Value:
        zeros = self.operation.make(np.zeros(self.selection.in_all, np.int64))
        return self.operation.emit("Concat", [line, zeros], {"axis": 0})

    def _results(
        self, places: ir.Value, classes: ir.Value, scores: ir.Value, there: ir.Value, number: ir.Value
    ) -> list[ir.Value]:
        operation = self.operation
        zero, real = operation.number(0.0), {"to": int(ir.DataType.FLOAT)}
        boxes = operation.emit("Gather", [self.boxes, places], {"axis": 0})
        boxes = operation.emit("Where", [self._upright(there), boxes, zero])
        classes = operation.emit("Where", [there, operation.emit("Cast", [classes], real), zero])
        scores = operation.emit("Where", [there, scores, zero])
        first = operation.list([0])
        lines = [operation.emit("Unsqueeze", [v, first]) for v in (boxes, classes, scores)]
        return [*lines, operation.emit("Cast", [number], real)]


@converts(DETECTION)
def detection(operation: Operation) -> None:
    """Boxes [1, K, 4] (corners, y first), classes [1, K], scores [1, K] and how many there are [1]; zeros behind."""
    selection = _selection(operation)
    chosen = _Chosen(operation, selection, _decoded(operation))
    operation.done(*(chosen.apart() if selection.apart else chosen.best()))
