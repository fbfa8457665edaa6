# SPDX-License-Identifier: Apache-2.0
"""Boxes of the native library against a plain reference, and configurations that nobody should trust."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.boxes import Detections, candidates, suppress
from headrace.errors import HeadraceError, InputFileError
from headrace.frontends.heads import decode
from headrace.hef.container import NMS_RESOURCE, read_hef
from headrace.hef.microcode import Opcode, TensorRole
from headrace.hn import nms
from headrace.hn.nms import BoxDecoder, NmsConfiguration, NmsTensor, Operand
from hef_validator import validate
from native.conftest import ROOT
from native.nms_mutations import mutated, opened
from native.programs import Builder, add_pipeline, hef_of

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

CLASSES = 3
IMAGE = (48, 64)


def configuration(coding: str, **changes: Any) -> NmsConfiguration:
    """Two levels, two anchors where there are anchors, every tensor with one channel that nothing reads."""
    anchored = coding in nms.ANCHORED
    count = 2 if anchored else 1
    bins = changes.get("bins", 1)
    numbers = 4 * bins if coding == "distances" else 2 if coding == "centres" else 4
    tensors, decoders = [], []
    for grid in ((6, 8), (3, 4)):
        first = len(tensors)
        for name, channels in (("boxes", numbers), ("scores", CLASSES), ("objectness", 1), ("sizes", 2)):
            tensors.append(NmsTensor(f"{name}{grid[0]}", (*grid, count * channels + 1)))

        def operand(number: int, channels: int, first: int = first) -> Operand:
            return Operand(first + number, 1, count * channels + 1, channels)

        stride = IMAGE[0] / grid[0]
        scale = 1 / 64 if coding == "priors" else 1.0
        decoders.append(
            BoxDecoder(
                f"decoder{grid[0]}", grid, (stride, stride), operand(0, numbers), operand(1, CLASSES), operand(2, 1),
                operand(3, 2) if coding == "centres" else None, count,
                (9.5 * scale, 20.0 * scale) if anchored else (), (14.0 * scale, 11.0 * scale) if anchored else (),
            )
        )  # fmt: skip
    base = NmsConfiguration(
        "test", IMAGE, CLASSES, coding, "sigmoid", tuple(tensors), tuple(decoders),
        objectness_activation="sigmoid", score_threshold=0.3, iou_threshold=0.5,
        centre_scale=10.0 if coding == "priors" else 1.0, size_scale=5.0 if coding == "priors" else 1.0,
    )  # fmt: skip
    return replace(base, **changes)


def frames(c: NmsConfiguration, seed: int, count: int = 1) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {t.name: r.normal(0, 1.2, (count, *t.shape)).astype(np.float32) for t in c.tensors}


def reference(c: NmsConfiguration, tensors: dict[str, np.ndarray], frame: int = 0) -> Any:
    """The same by numpy: every box of every class, threshold, suppression class by class."""
    flat = [tensors[t.name][frame] for t in c.tensors]
    boxes = [decode.boxes(c, d, flat).reshape(-1, 4) for d in c.decoders]
    scores = [decode.scores(c, d, flat).reshape(-1, c.classes) for d in c.decoders]
    table = np.concatenate(scores).copy()
    if c.background is not None:
        table[:, c.background] = -1
    if c.suppression == "queries":
        table[np.arange(c.classes) != table.argmax(axis=1)[:, None]] = -1
    found = candidates(np.concatenate(boxes), table, c.score_threshold, 30000)
    return found if c.suppression in ("none", "queries") else suppress(found, c.iou_threshold, c.in_all)


def same(got: np.ndarray, wanted: Any) -> None:
    assert len(got) == len(wanted.scores)
    np.testing.assert_allclose(got[:, 4], wanted.scores, atol=2e-6)
    np.testing.assert_array_equal(got[:, 5], wanted.classes)
    height, width = IMAGE
    edges = np.clip(wanted.boxes / [width, height, width, height], 0, 1)
    np.testing.assert_allclose(got[:, [1, 0, 3, 2]], edges, atol=2e-6)


CHANGES: dict[str, dict[str, Any]] = {
    "distances": {},
    "distances, a distribution": {"bins": 8},
    "distances, exponential": {"box_activation": "exponential", "point": 0.0},
    "grid_offsets": {},
    "anchors_exponential": {"offset_scale": 1.1},
    "anchors_squared": {},
    "priors": {},
    "priors, y first": {"y_first": True},
    "centres": {},
    "normalized_centres": {"box_activation": "sigmoid"},
    "corners": {},
    "corners, no class": {"background": 0, "score_activation": "softmax"},
    "corners, root": {"score_root": True},
    "corners, queries": {"suppression": "queries", "score_threshold": 0.1, "in_all": 4000, "per_class": 4000},
    "corners, no suppression": {"suppression": "none", "in_all": 4000, "per_class": 4000},
}


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_boxes_are_those_of_the_reference(name: str, seed: int) -> None:
    c = configuration(name.partition(",")[0], **CHANGES[name])
    tensors = frames(c, seed)
    (got,) = native.Postprocess(nms.dumps(c)).detect(tensors)
    same(got, reference(c, tensors))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_best_of_each_level_are_cut_at_the_edges_before_they_are_compared(seed: int) -> None:
    """What torchvision's detectors do: the best candidates of a level, boxes inside the picture, then suppression."""
    most, (height, width) = 9, IMAGE
    c = configuration("distances", per_level=most, clipped=True, in_all=4000, per_class=4000, score_threshold=0.1)
    c = replace(c, decoders=tuple(replace(d, units=(11.0, 13.0)) for d in c.decoders))
    tensors = frames(c, seed)
    flat = [tensors[t.name][0] for t in c.tensors]
    parts = []
    for d in c.decoders:
        boxes = np.clip(decode.boxes(c, d, flat).reshape(-1, 4), 0, [width, height, width, height])
        parts.append(candidates(boxes, decode.scores(c, d, flat).reshape(-1, CLASSES), c.score_threshold, most))
    joined = Detections(
        *(np.concatenate([getattr(one, key) for one in parts]) for key in ("boxes", "scores", "classes"))
    )
    (got,) = native.Postprocess(nms.dumps(c)).detect(tensors)
    same(got, suppress(joined, c.iou_threshold, c.in_all))
    whole = replace(c, per_level=None, clipped=False)
    assert len(joined.scores) == 2 * most < len(reference(replace(whole, suppression="none"), tensors).scores)


def test_units_of_distances_are_no_strides() -> None:
    c = configuration("distances", objectness_activation=None)
    c = replace(c, decoders=tuple(replace(d, units=(11.0, 13.0), objectness=None) for d in c.decoders))
    tensors = {name: np.zeros_like(array) for name, array in frames(c, 0).items()}
    tensors["scores6"][0, 2, 3, 1] = 9
    tensors["boxes6"][0, 2, 3, 1:5] = 0.5  # left, top, right, bottom from the middle of row 2, column 3
    (got,) = native.Postprocess(nms.dumps(replace(c, score_threshold=0.9))).detect(tensors)
    height, width = IMAGE
    assert len(got) == 1
    np.testing.assert_allclose(got[0, :4] * [height, width, height, width], [20 - 5.5, 28 - 6.5, 20 + 5.5, 28 + 6.5])
    wrong = nms.to_dict(configuration("corners"))
    wrong["bbox_decoders"][0]["units"] = [8, 8]
    assert opened(native, wrong) is None
    with pytest.raises(InputFileError, match="only distances have units"):
        nms.from_dict(wrong, "wrong")


def test_frames_are_independent_and_equal_scores_keep_their_order() -> None:
    c = configuration("corners", score_activation="none", objectness_activation=None, suppression="none")
    c = replace(c, decoders=tuple(replace(d, objectness=None) for d in c.decoders), in_all=60, per_class=60)
    tensors = frames(c, 3, count=3)
    for name, array in tensors.items():
        array[..., :] = np.where(np.abs(array) > 0, array, 1)
        if name.startswith("scores"):
            array[...] = 0.5
    found = native.Postprocess(nms.dumps(c)).detect(tensors)
    for frame, got in enumerate(found):
        assert len(got) == 60
        assert list(got[:, 5]) == [0.0, 1.0, 2.0] * 20  # position by position, class by class
        raw = tensors["boxes6"][frame].reshape(-1, 5)[:20, 1:]
        height, width = IMAGE
        np.testing.assert_allclose(
            got[::3, [1, 0, 3, 2]], np.clip(raw / [width, height, width, height], 0, 1), atol=1e-6
        )


def test_numbers_that_are_none_give_no_boxes() -> None:
    c = configuration("grid_offsets")
    tensors = frames(c, 1)
    for array in tensors.values():
        array[...] = np.nan
    assert [len(b) for b in native.Postprocess(nms.dumps(c)).detect(tensors)] == [0]
    for array in tensors.values():
        array[...] = 1e30  # sizes overflow
    assert [len(b) for b in native.Postprocess(nms.dumps(c)).detect(tensors)] == [0]


def test_limits_hold_and_can_be_changed() -> None:
    c = replace(configuration("corners"), score_threshold=0.0, per_class=4, in_all=7)
    tensors = frames(c, 5)
    made = native.Postprocess(nms.dumps(c))
    (got,) = made.detect(tensors)
    assert len(got) == 7 and max(np.bincount(got[:, 5].astype(int))) <= 4
    assert list(got[:, 4]) == sorted(got[:, 4], reverse=True)
    made.set_limits(0.0, 1.0, 2, 100)
    (got,) = made.detect(tensors)
    assert np.bincount(got[:, 5].astype(int)).tolist() == [2, 2, 2]
    for wrong in (
        (-0.1, 0.5, 0, 0),
        (0.5, 1.5, 0, 0),
        (0.5, 0.5, 5000, 0),
        (0.5, 0.5, 0, 70000),
        (float("nan"), 0.5, 0, 0),
    ):
        with pytest.raises(native.NativeError):
            made.set_limits(*wrong)


def test_tensors_are_checked() -> None:
    c = configuration("corners")
    made, tensors = native.Postprocess(nms.dumps(c)), frames(c, 0)
    for broken in (
        {k: v for k, v in tensors.items() if k != "boxes6"},
        tensors | {"boxes6": tensors["boxes6"][:, :5]},
        tensors | {"boxes6": tensors["boxes6"].astype(np.float64)},
        tensors | {"boxes6": np.repeat(tensors["boxes6"], 2, 0)},
    ):
        with pytest.raises(native.NativeError):
            made.detect(broken)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_hostile_configurations_are_refused_or_harmless(data: st.DataObject) -> None:
    coding = data.draw(st.sampled_from(nms.CODINGS))
    c = configuration(coding, per_level=data.draw(st.sampled_from((None, 7))), clipped=data.draw(st.booleans()))
    if coding == "distances":
        c = replace(c, decoders=tuple(replace(d, units=(5.0, 6.0)) for d in c.decoders))
    both = opened(native, mutated(data, c))
    if both is not None and both[1] is not None:
        made, read = both
        made.detect(frames(read, 0))


HOSTILE = (
    b"", b"{", b"[]", b"nul", b'{"a":1,"a":2}', b'{"a":1e999}', b"[" * 100, b'{"a":"\\ud800"}', b'{"a":"\x01"}', b"1 2",
    b'{"a":' + b"1" * 100 + b"}", b'"' + b"x" * 10_000 + b'"', b" " * (2 << 20),
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_json(text: bytes) -> None:
    with pytest.raises(native.NativeError) as raised:
        native.Postprocess(text)
    assert raised.value.status == 26
    with pytest.raises(HeadraceError):
        nms.loads(text, "hostile")


def program_of_boxes() -> Any:
    """Inputs that are handed through as the outputs ``boxes`` (2×2×4) and ``scores`` (2×2×3)."""
    b = Builder()
    for name, channels in (("boxes", 4), ("scores", 3)):
        x = b.tensor(f"in_{name}", (2, 2, channels), 0, TensorRole.INPUT)
        b.kernel(name, Opcode.RESHAPE, [x], b.tensor(name, (2, 2, channels), 0, TensorRole.OUTPUT))
    b.build()
    add_pipeline(b.program)
    return b.program


def small_configuration() -> NmsConfiguration:
    operands = Operand(0, 0, 4), Operand(1, 0, 3)
    decoder = BoxDecoder("one", (2, 2), (64.0, 64.0), *operands)
    tensors = NmsTensor("boxes", (2, 2, 4)), NmsTensor("scores", (2, 2, 3))
    return NmsConfiguration("test", (128, 128), 3, "corners", "none", tensors, (decoder,), 0.2, 0.5, 2, 5)


def test_a_hef_with_a_configuration_is_checked_when_it_is_loaded() -> None:
    program, c = program_of_boxes(), small_configuration()
    good = hef_of(program, {NMS_RESOURCE: nms.dumps(c)})
    assert validate(good) == []
    native.verify(good)
    native.Device().load(good)
    assert read_hef(good).nms() == c
    other = replace(c, tensors=(replace(c.tensors[0], name="nobody"), c.tensors[1]))
    larger = replace(c, tensors=(replace(c.tensors[0], shape=(2, 4, 4)), c.tensors[1]))
    for text in (b"{}", nms.dumps(other), nms.dumps(larger)):
        bad = hef_of(program, {NMS_RESOURCE: text})
        for load in (native.verify, native.Device().load):
            with pytest.raises(native.NativeError) as raised:
                load(bad)
            assert raised.value.status == 26


C_SOURCE = r"""
#include <headrace/headrace.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char** argv) {
  headrace_device* device = NULL;
  headrace_network* network = NULL;
  headrace_postprocess* boxes = NULL;
  if (argc != 2 || headrace_device_open(NULL, &device) != HEADRACE_SUCCESS) return 1;
  if (headrace_network_load_file(device, argv[1], &network) != HEADRACE_SUCCESS) return 2;
  if (headrace_network_postprocess(network, &boxes) != HEADRACE_SUCCESS) return 3;
  headrace_postprocess_info info = {sizeof info};
  if (headrace_postprocess_get_info(boxes, &info) != HEADRACE_SUCCESS || strcmp(info.family, "test")) return 4;
  if (info.classes != 3 || info.max_total != 5 || info.tensor_count != 2 || info.by_class_floats != 33) return 5;
  headrace_postprocess_tensor tensor = {sizeof tensor};
  if (headrace_postprocess_get_tensor(boxes, 1, &tensor) != HEADRACE_SUCCESS || tensor.channels != 3) return 6;
  if (headrace_postprocess_get_tensor(boxes, 2, &tensor) != HEADRACE_NOT_FOUND) return 7;
  /* Two frames; the scale of every tensor is 0.5. */
  uint8_t corners[2 * 16], scores[2 * 12];
  memset(corners, 0, sizeof corners);
  memset(scores, 0, sizeof scores);
  const uint8_t box[4] = {64, 32, 128, 96}; /* left 32, top 16, right 64, bottom 48 */
  memcpy(corners + 4, box, 4);
  memcpy(corners + 16, box, 4);
  scores[3 + 1] = 2;      /* frame 0, position 1, class 1: score 1 */
  scores[12 + 2] = 1;     /* frame 1, position 0, class 2: score 0.5 */
  headrace_buffer inputs[2] = {{"in_boxes", corners, sizeof corners}, {"in_scores", scores, sizeof scores}};
  headrace_detection found[10];
  size_t counts[2];
  if (headrace_network_detect(network, boxes, 0, 2, inputs, 2, found, 9, counts) != HEADRACE_INVALID_ARGUMENT)
    return 8;
  if (headrace_network_detect(network, boxes, 0, 2, inputs, 2, found, 10, counts) != HEADRACE_SUCCESS)
    return 9;
  if (counts[0] != 1 || counts[1] != 1) return 10;
  const headrace_detection d = found[0], e = found[5];
  if (d.y_min != 0.125f || d.x_min != 0.25f || d.y_max != 0.375f || d.x_max != 0.5f) return 11;
  if (d.score != 1 || d.class_id != 1 || e.score != 0.5f || e.class_id != 2) return 12;
  float flat[33];
  if (headrace_postprocess_by_class(boxes, found, counts[0], flat, 33) != HEADRACE_SUCCESS) return 13;
  if (flat[0] != 0 || flat[1] != 1 || flat[2] != 0.125f || flat[6] != 1 || flat[7] != 0 || flat[32] != 0) return 14;
  if (headrace_postprocess_by_class(boxes, found, 1, flat, 32) != HEADRACE_INVALID_ARGUMENT) return 15;
  if (headrace_postprocess_set_limits(boxes, 0.75, 0.5, 0, 0) != HEADRACE_SUCCESS) return 16;
  if (headrace_network_detect(network, boxes, 0, 2, inputs, 2, found, 10, counts) != HEADRACE_SUCCESS)
    return 17;
  if (counts[0] != 1 || counts[1] != 0) return 18;
  if (headrace_postprocess_set_limits(boxes, 2, 0.5, 0, 0) != HEADRACE_INVALID_ARGUMENT) return 19;
  if (headrace_postprocess_open("{", 1, &boxes) != HEADRACE_INVALID_HEF || boxes != NULL) return 20;
  if (headrace_postprocess_run(NULL, 1, NULL, 0, NULL, 0, NULL) != HEADRACE_INVALID_ARGUMENT) return 21;
  headrace_network_close(network);
  headrace_device_close(device);
  puts("boxes from c");
  return 0;
}
"""


@pytest.mark.slow
@pytest.mark.timeout(300, func_only=True)
def test_boxes_from_c(native_build: Callable[..., Path], tmp_path: Path) -> None:
    library = native_build("headrace")
    (tmp_path / "net.hef").write_bytes(hef_of(program_of_boxes(), {NMS_RESOURCE: nms.dumps(small_configuration())}))
    (tmp_path / "main.c").write_text(C_SOURCE)
    command = ["cc", "main.c", "-I", ROOT / "native" / "include", "-L", library, "-lheadrace", f"-Wl,-rpath,{library}"]
    subprocess.run([*map(str, command), "-o", "user"], cwd=tmp_path, check=True)
    done = subprocess.run(["./user", "net.hef"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "boxes from c")
