# SPDX-License-Identifier: Apache-2.0
"""Masks, key points and turned boxes of the native library against plain references, and hostile ones."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputFileError
from headrace.hef.container import NMS_RESOURCE
from headrace.hn import nms
from headrace.hn.nms import Angle, BoxDecoder, KeyPoints, Masks, NmsConfiguration, NmsTensor, Operand
from native.conftest import ROOT
from native.nms_mutations import mutated, opened
from native.programs import hef_of
from native.test_postprocess import program_of_boxes, small_configuration

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

IMAGE, CLASSES, BINS, POINTS, PROTOTYPES = (48, 64), 3, 4, 5, 6
GRIDS = ((6, 8), (3, 4))
V8_ANGLE = Angle("sigmoid", math.pi, -math.pi / 4)
V8_POINTS = KeyPoints(POINTS, 3, "grid", 2.0, 0.0, "sigmoid")


def configuration(**changes: Any) -> NmsConfiguration:
    """A head as those of YOLOv8 with all that it may have: one tensor a level, and the prototypes."""
    numbers = {"boxes": 4 * BINS, "scores": CLASSES, "masks": PROTOTYPES, "key_points": 3 * POINTS, "angles": 1}
    width = sum(numbers.values())
    tensors, decoders = [], []
    for index, grid in enumerate(GRIDS):
        tensors.append(NmsTensor(f"level{index}", (*grid, width)))
        starts = np.cumsum([0, *numbers.values()])
        places = {key: Operand(index, int(start), width) for key, start in zip(numbers, starts, strict=False)}
        stride = IMAGE[0] / grid[0]
        decoders.append(BoxDecoder(f"d{index}", grid, (stride, stride), **places))
    tensors.append(NmsTensor("prototypes", (12, 16, PROTOTYPES)))
    base = NmsConfiguration(
        "test", IMAGE, CLASSES, "distances", "sigmoid", tuple(tensors), tuple(decoders), 0.4, 0.5, bins=BINS,
        masks=Masks(2), key_points=V8_POINTS, angle=V8_ANGLE,
    )  # fmt: skip
    return replace(base, **changes)


def frames(c: NmsConfiguration, seed: int, count: int = 1) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {t.name: r.normal(0, 1.2, (count, *t.shape)).astype(np.float32) for t in c.tensors}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def head(c: NmsConfiguration, tensors: dict[str, np.ndarray], frame: int = 0) -> dict[str, np.ndarray]:
    """All positions by the formulas of ultralytics' heads, in numpy."""
    parts: list[list[np.ndarray]] = [[] for _ in range(5)]
    for index, grid in enumerate(GRIDS):
        t = tensors[f"level{index}"][frame].astype(np.float64).reshape(grid[0] * grid[1], -1)
        s = IMAGE[0] / grid[0]
        boxes, scores, masks, points, angle = np.split(t, np.cumsum([4 * BINS, CLASSES, PROTOTYPES, 3 * POINTS]), 1)
        logits = boxes.reshape(-1, 4, BINS)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        d = (weights / weights.sum(-1, keepdims=True)) @ np.arange(BINS)
        gy, gx = np.divmod(np.arange(len(t)), grid[1])
        anchor = np.stack([gx, gy], 1) + 0.5
        turn = (sigmoid(angle) - 0.25) * math.pi if c.angle else np.zeros_like(angle)
        offset = (d[:, 2:] - d[:, :2]) / 2
        x = offset[:, :1] * np.cos(turn) - offset[:, 1:] * np.sin(turn)
        y = offset[:, :1] * np.sin(turn) + offset[:, 1:] * np.cos(turn)
        p = points.reshape(-1, POINTS, 3)
        placed = np.concatenate([(p[..., :2] * 2 + (anchor - 0.5)[:, None]) * s, sigmoid(p[..., 2:])], -1)
        centre = (np.concatenate([x, y], 1) + anchor) * s
        rows = (np.concatenate([centre, (d[:, :2] + d[:, 2:]) * s], 1), sigmoid(scores), masks, placed, turn)
        for part, row in zip(parts, rows, strict=True):
            part.append(row)
    keys = ("xywh", "scores", "masks", "points", "angle")
    return {key: np.concatenate(part) for key, part in zip(keys, parts, strict=True)}


def probabilistic_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Of two boxes x, y, w, h, angle, by the covariance matrices themselves (arXiv 2106.06072)."""

    def normal(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cosine, sine = math.cos(box[4]), math.sin(box[4])
        turn = np.array([[cosine, -sine], [sine, cosine]])
        return box[:2], turn @ np.diag(box[2:4] ** 2 / 12) @ turn.T

    (m, a), (n, b) = normal(first), normal(second)
    both = (a + b) / 2
    distance = (m - n) @ np.linalg.solve(both, m - n) / 8
    distance += math.log(np.linalg.det(both) / math.sqrt(np.linalg.det(a) * np.linalg.det(b))) / 2
    return 1 - math.sqrt(max(1 - math.exp(-distance), 0))


def upright_iou(first: np.ndarray, second: np.ndarray) -> float:
    low = np.maximum(first[:2] - first[2:4] / 2, second[:2] - second[2:4] / 2)
    high = np.minimum(first[:2] + first[2:4] / 2, second[:2] + second[2:4] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    union = float(np.prod(first[2:4]) + np.prod(second[2:4])) - shared
    return shared / union if union > 0 else 0.0


def chosen(c: NmsConfiguration, all_of: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """(position, class) of what stays, best first."""
    rows, classes = np.nonzero(all_of["scores"] >= c.score_threshold)
    order = np.argsort(-all_of["scores"][rows, classes].astype(np.float32), kind="stable")
    boxes = np.concatenate([all_of["xywh"], all_of["angle"]], 1)
    iou = probabilistic_iou if c.angle else upright_iou
    stay: list[tuple[int, int]] = []
    seen: list[tuple[int, int]] = []
    for one in order:
        position, kind = int(rows[one]), int(classes[one])
        against = seen if c.suppression == "fast" else stay
        hidden = any(k == kind and iou(boxes[p], boxes[position]) > c.iou_threshold for p, k in against)
        seen.append((position, kind))
        if not hidden:
            stay.append((position, kind))
    return stay[: c.in_all]


def mask_of(prototypes: np.ndarray, coefficients: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The whole picture's mask: bilinear with edges at the same places, then cut to the box."""
    logits = prototypes.astype(np.float64) @ coefficients

    def matrix(pixels: int, samples: int) -> np.ndarray:
        at = np.clip((np.arange(pixels) + 0.5) * samples / pixels - 0.5, 0, samples - 1)
        return np.maximum(1 - np.abs(at[:, None] - np.arange(samples)), 0)

    whole = matrix(IMAGE[0], logits.shape[0]) @ logits @ matrix(IMAGE[1], logits.shape[1]).T
    rows, columns = np.arange(IMAGE[0])[:, None], np.arange(IMAGE[1])[None]
    left, top, right, bottom = sides
    return (whole > 0) & (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


CHANGES: dict[str, dict[str, Any]] = {
    "turned, fast": {"suppression": "fast", "iou_threshold": 0.3},
    "turned, greedy": {"iou_threshold": 0.2},
    "upright": {"angle": None, "iou_threshold": 0.3},
    "upright, fast": {"angle": None, "suppression": "fast", "iou_threshold": 0.3},
    "nothing suppressed": {"suppression": "none", "in_all": 40},
}


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_objects_are_those_of_the_reference(name: str, seed: int) -> None:
    c = configuration(**CHANGES[name])
    tensors = frames(c, seed)
    found = native.Postprocess(nms.dumps(c)).find(tensors)
    wanted = head(c, tensors)
    if CHANGES[name].get("suppression") == "none":
        rows, classes = np.nonzero(wanted["scores"] >= c.score_threshold)
        order = np.argsort(-wanted["scores"][rows, classes], kind="stable")[: c.in_all]
        stay = list(zip(rows[order], classes[order], strict=True))
    else:
        stay = chosen(c, wanted)
    boxes = found.boxes(0)
    (plain,) = native.Postprocess(nms.dumps(c)).detect(tensors)
    np.testing.assert_array_equal(boxes, plain)
    assert len(boxes) == len(stay) > 0
    assert boxes[:, 5].astype(int).tolist() == [k for _, k in stay]
    at = [p for p, _ in stay]
    np.testing.assert_allclose(boxes[:, 4], [wanted["scores"][p, k] for p, k in stay], atol=2e-6)
    points = wanted["points"][at] / [IMAGE[1], IMAGE[0], 1]
    np.testing.assert_allclose(found.key_points(0), points, atol=1e-5)
    xywh, angle = wanted["xywh"][at], wanted["angle"][at][:, 0]
    half = np.abs(xywh[:, 2:] / 2)
    if c.angle:
        cosine, sine = np.abs(np.cos(angle))[:, None], np.abs(np.sin(angle))[:, None]
        half = half * cosine + half[:, ::-1] * sine
        swap = np.floor(angle / (math.pi / 2)).astype(int) % 2 == 1
        turned = np.column_stack(
            [xywh[:, :2], np.where(swap[:, None], xywh[:, :1:-1], xywh[:, 2:]), angle % (np.pi / 2)]
        )
        np.testing.assert_allclose(found.turned(0), turned, atol=2e-4)
    else:
        assert found.turned(0) is None
    sides = np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], 1)
    size = np.array([IMAGE[1], IMAGE[0]] * 2)
    np.testing.assert_allclose(boxes[:, [1, 0, 3, 2]], np.clip(sides / size, 0, 1), atol=1e-5)
    for i, position in enumerate(at):
        top, left, inside = found.mask(0, i)
        whole = np.zeros(IMAGE, bool)
        whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        np.testing.assert_array_equal(whole, mask_of(tensors["prototypes"][0], wanted["masks"][position], sides[i]))


def test_frames_keep_their_own_prototypes() -> None:
    c = configuration(score_threshold=0.8)
    tensors = frames(c, 2, count=3)
    found = native.Postprocess(nms.dumps(c)).find(tensors)
    for frame in range(3):
        alone = native.Postprocess(nms.dumps(c)).find({k: v[frame : frame + 1] for k, v in tensors.items()})
        np.testing.assert_array_equal(found.boxes(frame), alone.boxes(0))
        np.testing.assert_array_equal(found.turned(frame), alone.turned(0))
        for i in range(len(found.boxes(frame))):
            np.testing.assert_array_equal(found.mask(frame, i)[2], alone.mask(0, i)[2])
    assert len(found.boxes(3)) == 0
    for frame, index in ((3, 0), (0, 10_000)):
        with pytest.raises(native.NativeError) as raised:
            found.mask(frame, index)
        assert raised.value.status == 61


def test_other_codings_of_points_and_angles() -> None:
    place = Operand(0, 0, 12)
    decoder = BoxDecoder(
        "one", (2, 2), (32.0, 24.0), place, Operand(0, 4, 12), anchors=1, widths=(0.5,), heights=(0.25,),
        key_points=Operand(0, 5, 12), angles=Operand(0, 11, 12),
    )  # fmt: skip
    base = NmsConfiguration(
        "test", IMAGE, 1, "priors", "none", (NmsTensor("t", (2, 2, 12)),), (decoder,), 0.5,
        key_points=KeyPoints(3, 2, "priors", 0.1), angle=Angle("none", 0.5, 0.25),
    )  # fmt: skip
    t = np.zeros((1, 2, 2, 12), np.float32)
    t[0, 1, 0] = [0, 0, 0, 0, 0.9, 1, 2, 3, 4, 5, 6, 1.5]
    found = native.Postprocess(nms.dumps(base)).find({"t": t})
    # The prior is at (12, 48), 32 by 12 pixels; its angle 1.
    np.testing.assert_allclose(found.turned(0), [[12, 48, 32, 12, 1.0]], atol=1e-5)
    priors = [[12 + 0.1 * x * 32, 48 + 0.1 * y * 12, 1] for x, y in ((1, 2), (3, 4), (5, 6))]
    np.testing.assert_allclose(found.key_points(0)[0] * [64, 48, 1], priors, atol=1e-4)
    pixels = replace(base, key_points=KeyPoints(3, 2, "pixels"), angle=None)
    found = native.Postprocess(nms.dumps(pixels)).find({"t": t})
    np.testing.assert_allclose(found.key_points(0)[0] * [64, 48, 1], [[1, 2, 1], [3, 4, 1], [5, 6, 1]], atol=1e-4)
    assert found.turned(0) is None
    with pytest.raises(native.NativeError) as raised:
        found.mask(0, 0)
    assert raised.value.status == 61


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-38])
@pytest.mark.parametrize("part", ["boxes", "scores", "masks", "key_points", "angles", "prototypes"])
def test_numbers_that_are_none_are_harmless(part: str, value: float) -> None:
    c = configuration(suppression="fast", score_threshold=0.0, in_all=20)
    tensors = frames(c, 4)
    if part == "prototypes":
        tensors["prototypes"][...] = value
    else:
        starts = {"boxes": (0, 16), "scores": (16, 19), "masks": (19, 25), "key_points": (25, 40), "angles": (40, 41)}
        for index in range(2):
            tensors[f"level{index}"][..., slice(*starts[part])] = value
    found = native.Postprocess(nms.dumps(c)).find(tensors)
    for array in (found.boxes(0), found.turned(0), found.key_points(0)):
        assert np.isfinite(array).all()
    for i in range(len(found.boxes(0))):
        inside = found.mask(0, i)[2]
        assert inside.max(initial=0) <= 1
        if math.isnan(value) and part in ("prototypes", "masks"):
            assert not inside.any()
    if part == "angles" and not math.isfinite(value):
        assert len(found.boxes(0)) == (0 if math.isnan(value) else 20)  # the sigmoid of infinity is a number
    if part == "key_points" and math.isnan(value):
        assert not found.key_points(0).any()


def test_many_turned_boxes_take_no_time() -> None:
    """Fast suppression compares with all that are better; 4 · 10⁸ pairs of boxes that hide nothing."""
    c = configuration()
    grid = (160, 192)
    decoder = replace(c.decoders[0], grid=grid, strides=(0.3, 0.3))
    names = (NmsTensor("level0", (*grid, 41)), c.tensors[1], c.tensors[2])
    c = replace(c, decoders=(decoder,), tensors=names, suppression="fast", score_threshold=0.0, iou_threshold=0.999,
                in_all=400, per_class=4000)  # fmt: skip
    assert len(native.Postprocess(nms.dumps(c)).find(frames(c, 0)).boxes(0)) == 400


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_hostile_configurations_are_refused_or_harmless(data: st.DataObject) -> None:
    both = opened(native, mutated(data, configuration(suppression=data.draw(st.sampled_from(nms.SUPPRESSIONS)))))
    if both is not None and both[1] is not None:
        made, read = both
        found = made.find(frames(read, 0))
        for i in range(min(len(found.boxes(0)), 3)):
            if read.masks is not None:
                found.mask(0, i)


@pytest.mark.parametrize(
    "change",
    [
        {"mask_prototypes": 3},
        {"mask_threshold": 1.0},
        {"image_dims": [65536, 65536]},
        {"key_points": {"count": 6, "numbers": 3, "coding": "grid"}},
        {"key_points": {"count": 5, "numbers": 3, "coding": "priors"}},
        {"key_points": {"count": 5, "numbers": 4, "coding": "grid"}},
        {"angle": {"activation": "softmax"}},
        {"max_total_proposals": 65536, "key_points": {"count": 1024, "numbers": 2, "coding": "grid"}},
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any]) -> None:
    raw = nms.to_dict(configuration()) | change
    with pytest.raises(InputFileError) as refused:
        nms.from_dict(raw, "here")
    with pytest.raises(native.NativeError) as raised:
        native.Postprocess(json.dumps(raw).encode())
    assert raised.value.status == 26
    assert raised.value.problems[0].where.split(", ")[1:] == refused.value.diagnostics[0].where.split(", ")[1:]


def test_limits_hold_for_masks_and_points() -> None:
    made = native.Postprocess(nms.dumps(configuration(key_points=replace(V8_POINTS, numbers=2))))
    made.set_limits(0.1, 0.5, 0, 65536)
    tall = configuration(in_all=4)
    many = tuple(replace(d, key_points=Operand(2, 0, 0, 0, 0)) for d in tall.decoders)
    tall = replace(tall, decoders=many, key_points=KeyPoints(1024, 2))
    made = native.Postprocess(nms.dumps(tall))
    assert made.info["key_points"] == 1024 and made.info["masks"] and made.info["angle"]
    with pytest.raises(native.NativeError) as raised:
        made.set_limits(0.1, 0.5, 0, 65536)
    assert raised.value.status == 2


def test_a_configuration_is_written_and_read() -> None:
    c = configuration(suppression="fast")
    assert nms.loads(nms.dumps(c), "here") == c
    assert c.further and not configuration(masks=None, key_points=None, angle=None).further


CPP_SOURCE = r"""
#include <headrace/headrace.hpp>
#include <cmath>
#include <cstdio>
int main(int argc, char** argv) {
  auto device = headrace::VirtualDevice::open();
  if (argc != 2 || !device) return 1;
  auto network = device->load_file(argv[1]);
  if (!network) return 2;
  // Two frames; the scale of every tensor is 0.5.
  std::vector<uint8_t> corners(2 * 16), scores(2 * 12);
  const uint8_t box[4] = {64, 32, 128, 96};  // left 32, top 16, right 64, bottom 48
  for (int i = 0; i < 4; ++i) corners[16 + 4 + i] = box[i];
  scores[12 + 3 + 1] = 2;  // frame 1, position 1, class 1: score 1
  const std::vector<headrace_buffer> inputs = {{"in_boxes", corners.data(), corners.size()},
                                               {"in_scores", scores.data(), scores.size()}};
  auto found = network->find(2, inputs);
  if (!found) return 3;
  auto none = found->frame(0), some = found->frame(1);
  if (!none || !none->empty() || !some || some->size() != 1) return 4;
  const headrace::Object& o = (*some)[0];
  if (o.x != 48 || o.y != 32 || o.width != 32 || o.height != 32 || std::fabs(o.angle - 0.5f) > 1e-6f) return 5;
  if (o.key_points.size() != 1 || o.key_points[0].x != 0.25f || o.key_points[0].y != 0.125f) return 6;
  auto mask = found->mask(1, 0);
  if (!mask || mask->size() != size_t{o.mask_height} * o.mask_width || o.mask_left != 27) return 7;
  int inside = 0;
  for (uint8_t one : *mask) inside += one;
  if (inside != static_cast<int>(mask->size())) return 8;
  if (found->mask(1, 1) || found->mask(2, 0)) return 9;
  if (network->find(2, {{"in_boxes", corners.data(), 3}})) return 10;
  headrace_object small{};
  if (headrace_objects_get(nullptr, 0, 0, &small) != HEADRACE_INVALID_ARGUMENT) return 11;
  std::puts("objects from c++");
  return 0;
}
"""


@pytest.mark.slow
@pytest.mark.timeout(600, func_only=True)
def test_objects_from_cpp(native_build: Callable[..., Path], tmp_path: Path) -> None:
    library = native_build("headrace")
    c = small_configuration()
    (decoder,) = c.decoders
    decoder = replace(decoder, masks=Operand(1, 0, 3), key_points=Operand(0, 0, 4), angles=Operand(1, 1, 3))
    c = replace(c, decoders=(decoder,), masks=Masks(1, 0.2), key_points=KeyPoints(1, 2, "pixels"),
                angle=Angle("none", 0.5), score_threshold=0.5)  # fmt: skip
    (tmp_path / "net.hef").write_bytes(hef_of(program_of_boxes(), {NMS_RESOURCE: nms.dumps(c)}))
    (tmp_path / "main.cpp").write_text(CPP_SOURCE)
    program = tmp_path / "main"
    include = ["-I", ROOT / "native" / "include"]
    command = ["c++", "-std=c++17", tmp_path / "main.cpp", *include, "-L", library, "-lheadrace", "-o", program]
    subprocess.run([*map(str, command), f"-Wl,-rpath,{library}"], check=True)
    done = subprocess.run([program, tmp_path / "net.hef"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "objects from c++\n", done
