# SPDX-License-Identifier: Apache-2.0
"""Masks, key points and turned boxes in the pixels of pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cli.boxes import Found, PackedMask, box_facts, run_lengths
from headrace.data.geometry import mask_in_picture


def drawn(lengths: dict[str, list[int]]) -> np.ndarray:
    """A mask of COCO's uncompressed run lengths."""
    height, width = lengths["size"]
    values = np.repeat(np.arange(len(lengths["counts"])) % 2, lengths["counts"])
    return values.reshape(width, height).T.astype(bool)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 7), st.integers(0, 4), st.integers(0, 4))
def test_run_lengths_give_the_mask_back(seed: int, height: int, columns: int, first: int, behind: int) -> None:
    part = np.random.default_rng(seed).random((height, columns)) < 0.5
    whole = np.zeros((height, first + columns + behind), bool)
    whole[:, first : first + columns] = part
    if whole.size == 0:
        return
    lengths = run_lengths(part, first, whole.shape)
    assert sum(lengths["counts"]) == whole.size and all(n > 0 for n in lengths["counts"][1:])
    np.testing.assert_array_equal(drawn(lengths), whole)


def packed(inside: np.ndarray, corner: tuple[int, int]) -> PackedMask:
    return PackedMask(corner, inside.shape, np.packbits(inside))


def test_objects_of_a_frame_in_a_picture_twice_its_size(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")  # into a frame of 20 by 20: rows 5 to 14
    inside = np.zeros((4, 6), bool)
    inside[1:3, 2:5] = True
    found = Found(
        np.array([[0.25, 0.0, 0.75, 1.0, 0.5, 2]], np.float32),
        np.array([[10, 10, 8, 4, math.pi / 6]], np.float32),
        np.array([[[0.5, 0.5, 0.9], [0.0, 1.5, 0.1]]], np.float32),
        [packed(inside, (6, 3))],
    )
    (facts,) = box_facts([found], (20, 20), [str(tmp_path / "a.png")], "letterbox")
    json.dumps(facts, allow_nan=False)
    (one,) = facts["boxes"]
    assert one["box"] == [0, 0, 40, 20] and one["angle"] == pytest.approx(math.pi / 6, abs=1e-6)
    np.testing.assert_allclose(one["key_points"], [[20, 10, 0.9], [0, 50, 0.1]], atol=1e-5)
    corners = np.array(one["corners"])
    np.testing.assert_allclose(corners.mean(0), [20, 10], atol=2e-3)
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(16, abs=4e-3)
    assert np.linalg.norm(corners[2] - corners[1]) == pytest.approx(8, abs=4e-3)
    edge = corners[1] - corners[0]
    assert math.atan2(edge[1], edge[0]) == pytest.approx(math.pi / 6, abs=1e-3)
    mask = drawn(one["mask"])
    wanted = np.zeros((20, 40), bool)
    wanted[4:8, 10:16] = True  # rows 7 and 8, columns 5 to 7 of the frame
    np.testing.assert_array_equal(mask, wanted)


def test_masks_beside_the_picture_are_empty() -> None:
    """In the border of a letterbox, where the picture is not."""
    out, first = mask_in_picture(np.ones((3, 20), bool), (0, 0), (20, 40), (20, 20), "letterbox")
    assert out.shape == (20, 40) and first == 0 and not out.any()
    out, first = mask_in_picture(np.ones((0, 0), bool), (4, 4), (20, 40), (20, 20), "letterbox")
    assert out.shape == (20, 0) and run_lengths(out, first, (20, 40))["counts"] == [800]


def test_frames_without_pictures_and_boxes_without_more() -> None:
    boxes = np.array([[0.25, 0.5, 0.75, 1.0, 0.5, 2]], np.float32)
    (facts,) = box_facts([Found(boxes)], (20, 40), [], None)
    assert facts["boxes"] == [{"class": 2, "score": 0.5, "box": [20, 5, 40, 15]}]
    (facts,) = box_facts([Found(boxes[:0], None, None, [])], (20, 40), [], None)
    assert facts["boxes"] == []
