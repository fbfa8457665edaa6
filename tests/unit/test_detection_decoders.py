# SPDX-License-Identifier: Apache-2.0
"""The tests' own detector decoders, against the plain definition and against the ground truth itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detection import decode
from detection.boxes import Detections, overlaps, suppress
from detection.decode import expected_distances, grid


def slow_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Counts the pixels of integer boxes."""
    left, top = int(min(a[0], b[0])), int(min(a[1], b[1]))
    canvas = np.zeros((2, 64, 64), bool)
    for k, box in enumerate((a, b)):
        x0, y0, x1, y1 = (int(v) for v in box)
        canvas[k, y0 - top : y1 - top, x0 - left : x1 - left] = True
    union = (canvas[0] | canvas[1]).sum()
    return float((canvas[0] & canvas[1]).sum() / union) if union else 0.0


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.integers(0, 24, (count, 2))
    return np.concatenate([low, low + rng.integers(1, 30, (count, 2))], axis=1).astype(np.float64)


def test_overlaps_equal_counted_pixels() -> None:
    boxes = random_boxes(np.random.default_rng(1), 60)
    for box in boxes[:12]:
        want = [slow_overlap(box, other) for other in boxes]
        assert np.allclose(overlaps(box, boxes), want)


@pytest.mark.parametrize("seed", range(8))
def test_suppression_keeps_exactly_what_no_better_kept_box_covers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = Detections(random_boxes(rng, 50), rng.random(50), rng.integers(0, 3, 50))
    kept = suppress(found, 0.5, 1000)
    assert np.all(np.diff(kept.scores) <= 0)
    for i in range(50):
        rivals = kept.keep(np.flatnonzero((kept.classes == found.classes[i]) & (kept.scores > found.scores[i])))
        covered = bool((overlaps(found.boxes[i], rivals.boxes) > 0.5).any()) if len(rivals.scores) else False
        assert covered != bool(np.any(kept.scores == found.scores[i]))


def test_expected_distance_of_sure_and_of_even_bins() -> None:
    sure = np.full((1, 4, 8), -50.0)
    sure[0, range(4), [0, 3, 5, 7]] = 50.0
    assert np.allclose(expected_distances(sure.reshape(1, 32)), [[0, 3, 5, 7]])
    assert np.allclose(expected_distances(np.zeros((2, 32))), 3.5)


def test_yolox_box_is_found_where_it_was_put() -> None:
    cells, steps = grid(416, (8, 16, 32))
    raw = np.zeros((3549, 85))
    row = 2704 + 10 * 26 + 5  # the second level: 26 × 26 cells of 16 pixels
    assert tuple(cells[row]) == (5, 10) and steps[row, 0] == 16
    raw[row, :5], raw[row, 5 + 7] = (0.5, 0.25, np.log(4), np.log(2), 1.0), 0.9
    found = decode.yolox(raw)
    assert found.classes.tolist() == [7] and found.scores.tolist() == [0.9]
    assert np.allclose(found.boxes[0], [88 - 32, 164 - 16, 88 + 32, 164 + 16])
    with pytest.raises(ValueError):
        decode.yolox(raw[:-1])


def test_picodet_box_is_found_where_it_was_put() -> None:
    scores = [np.zeros((n, 80)) for n in (1600, 400, 100, 25)]
    sides = [np.zeros((n, 32)) for n in (1600, 400, 100, 25)]
    scores[2][3 * 10 + 4, 11] = 0.8  # stride 32, cell (4, 3): centre 144, 112
    sides[2][3 * 10 + 4] = np.where(np.tile(np.arange(8), 4) == np.repeat([1, 2, 3, 0], 8), 60.0, -60.0)
    found = decode.picodet([*scores, *sides])
    assert found.classes.tolist() == [11]
    assert np.allclose(found.boxes[0], [144 - 32, 112 - 64, 144 + 96, 112])


def test_the_ground_truth_has_full_precision_and_a_shifted_one_has_not(zoo: Path) -> None:
    pytest.importorskip("pycocotools")
    from detection.coco import average_precision
    from zoo_data import coco_annotations, coco_images

    data = coco_annotations(zoo)
    order = {c: k for k, c in enumerate(sorted(c["id"] for c in data["categories"]))}

    def truth(shift: float) -> list[Detections]:
        found = []
        for image, _ in coco_images(zoo):
            entries = [a for a in data["annotations"] if a["image_id"] == image and not a["iscrowd"]]
            corners = np.array([a["bbox"] for a in entries], np.float64).reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            corners += shift * (corners[:, 2:3] - corners[:, :1])
            classes = np.array([order[a["category_id"]] for a in entries], np.int64)
            found.append(Detections(corners, np.ones(len(entries)), classes))
        return found

    assert average_precision(truth(0.0), zoo)["AP"] > 99.9
    assert average_precision(truth(0.2), zoo)["AP"] < 60
    assert average_precision([Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))] * 64, zoo)["AP"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("yolox_nano", 28.0), ("picodet_s", 26.0)])
def test_float_precision_on_coco64_is_that_of_the_catalogue(name: str, least: float, zoo: Path) -> None:
    """The catalogue names 28.0 and 28.1 on 164 pictures; these 64 are part of the same set."""
    pytest.importorskip("pycocotools")
    from detection.coco import average_precision, boxes_of
    from zoo_models import ZOO, source_output

    model = ZOO[name]
    frames, _ = model.test(zoo)
    points = average_precision(boxes_of(model.accuracy, source_output(model, zoo, frames), zoo), zoo)
    print(name, points)
    assert points["AP"] >= least
