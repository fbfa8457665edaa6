# SPDX-License-Identifier: Apache-2.0
"""COCO average precision of a detector's raw outputs on data_coco64, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detection import decode
from detection.boxes import Detections
from zoo_data import coco_annotations, coco_images

Array = np.ndarray[Any, Any]


def boxes_of(kind: str, outputs: Sequence[Array], zoo: Path) -> list[Detections]:
    """Detections of every picture of data_coco64, in the picture's own pixels.

    Args:
        kind: "yolox" (416, letterbox at the top left) or "picodet" (320, plain resize).
        outputs: one array per output, 64 pictures along the first axis.
    """
    found = []
    for i, (_, image) in enumerate(coco_images(zoo)):
        height, width = image.shape[:2]
        if kind == "yolox":
            one = decode.yolox(outputs[0][i].reshape(-1, 85))
            scale = np.full(4, min(416 / height, 416 / width))
        else:
            one = decode.picodet([o[i].reshape(-1, o.shape[-1]) for o in outputs])
            scale = np.array([320 / width, 320 / height] * 2)
        edge = np.array([width, height] * 2)
        found.append(replace(one, boxes=np.clip(one.boxes / scale, 0, edge)))
    return found


def average_precision(found: Sequence[Detections], zoo: Path) -> dict[str, float]:
    """AP (0.50 to 0.95) and AP50, in points of 100, over all of data_coco64."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = coco_annotations(zoo)
    categories = sorted(c["id"] for c in data["categories"])
    rows = [
        {
            "image_id": image,
            "category_id": categories[int(c)],
            "bbox": [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])],
            "score": float(s),
        }
        for (image, _), one in zip(coco_images(zoo), found, strict=True)
        for b, s, c in zip(one.boxes, one.scores, one.classes, strict=True)
    ]
    if not rows:
        return {"AP": 0.0, "AP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**data, "info": data.get("info", {})}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"AP": 100 * float(evaluation.stats[0]), "AP50": 100 * float(evaluation.stats[1])}
