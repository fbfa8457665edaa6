# SPDX-License-Identifier: Apache-2.0
"""Boxes and non-maximum suppression, numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Detections:
    """Found objects of one picture.

    Attributes:
        boxes: float64 ``[n, 4]``: left, top, right, bottom in pixels.
        scores: float64 ``[n]``.
        classes: int64 ``[n]``.
    """

    boxes: Array
    scores: Array
    classes: Array

    def keep(self, index: Array) -> Detections:
        return Detections(self.boxes[index], self.scores[index], self.classes[index])


def areas(boxes: Array) -> Array:
    return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


def overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union of one box ``[4]`` with many ``[n, 4]``; 0 where both are empty."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = areas(box) + areas(boxes) - shared
    return np.where(union > 0, shared / np.maximum(union, 1e-12), 0.0)


def suppress(found: Detections, threshold: float, most: int) -> Detections:
    """Greedy, class by class: of two boxes of a class that overlap more than ``threshold`` the better stays."""
    order = np.argsort(-found.scores, kind="stable")
    chosen: list[int] = []
    while order.size and len(chosen) < most:
        best, rest = order[0], order[1:]
        chosen.append(int(best))
        covered = (overlaps(found.boxes[best], found.boxes[rest]) > threshold) & (
            found.classes[rest] == found.classes[best]
        )
        order = rest[~covered]
    return found.keep(np.array(chosen, np.int64))


def candidates(boxes: Array, scores: Array, least: float, most: int) -> Detections:
    """Every (box, class) whose score is at least ``least``, best first, at most ``most``.

    Args:
        boxes: ``[n, 4]``.
        scores: ``[n, classes]``.
    """
    rows, classes = np.nonzero(scores >= least)
    values = scores[rows, classes]
    order = np.argsort(-values, kind="stable")[:most]
    return Detections(boxes[rows[order]].astype(np.float64), values[order], classes[order].astype(np.int64))
