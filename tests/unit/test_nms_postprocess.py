# SPDX-License-Identifier: Apache-2.0
"""``nms_postprocess`` of a model script, boxes of the command line, and configurations of the public form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection import heads
from detection.heads import CLASSES, SIZE
from headrace.cli.app import run
from headrace.errors import HeadraceError, UsageError
from headrace.hn.nms_request import NmsRequest, _public, _told_by_keys
from headrace.runner import ClientRunner, InferenceContext
from headrace.runtime import find

pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

FRAMES = np.random.default_rng(2).normal(0, 1, (8, SIZE, SIZE, 3)).astype(np.float32)


def parsed(model: Any = None, **options: Any) -> ClientRunner:
    runner = ClientRunner()
    runner.translate_onnx_model((model or heads.yolov8().model).SerializeToString(), "detector", **options)
    return runner


def public(runner: ClientRunner, **changes: Any) -> dict[str, Any]:
    """A configuration as the public ones are, for the network's own layers."""
    found = runner.archive.nms
    assert found is not None
    decoders = [{"name": d.name, "stride": int(d.strides[0]), **d.layers} for d in found.decoders]
    common = {"nms_scores_th": 0.25, "nms_iou_th": 0.6, "image_dims": [SIZE, SIZE], "max_proposals_per_class": 50,
              "classes": CLASSES, "regression_length": 16, "background_removal": False}  # fmt: skip
    return common | {"bbox_decoders": decoders} | changes


def test_a_configuration_beside_the_script(tmp_path: Path) -> None:
    runner = parsed()
    (tmp_path / "nms.json").write_text(json.dumps(public(runner)))
    (tmp_path / "net.alls").write_text('nms_postprocess("nms.json", meta_arch=yolov8, engine=cpu, nms_iou_th=0.5)\n')
    found = runner.archive.nms
    runner.load_model_script(tmp_path / "net.alls")
    said = runner.archive.nms
    assert found is not None and said is not None
    assert (said.score_threshold, said.iou_threshold, said.per_class) == (0.25, 0.5, 50)
    assert (said.tensors, said.decoders) == (found.tensors, found.decoders)
    runner.save_har(tmp_path / "net.har")
    os.remove(tmp_path / "nms.json")
    again = ClientRunner(har=tmp_path / "net.har")
    assert again.archive.nms == said and again.archive.nms_found == found
    again.load_model_script("nms_postprocess(nms_scores_th=0.5)\n")
    assert again.archive.nms is not None and again.archive.nms.score_threshold == 0.5
    again.load_model_script("set_seed(seed=1)\n")
    assert again.archive.nms == found and again.archive.nms_found is None


def test_layers_that_a_configuration_names_without_a_recognized_head(tmp_path: Path) -> None:
    runner = parsed()
    (tmp_path / "nms.json").write_text(json.dumps(public(runner)))
    found = runner.archive.nms
    runner.archive.nms = None  # as of an archive of an older version
    runner.load_model_script(f'nms_postprocess("{tmp_path}/nms.json", meta_arch=yolov8)\n')
    said = runner.archive.nms
    assert found is not None and said is not None

    def read(c: Any) -> list[Any]:
        return [(c.tensors[o.tensor], o.base, o.position) for d in c.decoders for o in (d.boxes, d.scores)]

    assert (said.bins, said.coding, said.score_activation) == (16, "distances", "sigmoid")
    assert read(said) == read(found)


def test_masks_of_layers_that_a_configuration_names(tmp_path: Path) -> None:
    """The form of the public yolov5 segmentation configurations; prototypes are the output of their size."""
    runner = parsed(heads.yolov5_masks())
    found = runner.archive.nms
    assert found is not None and found.masks is not None
    assert (found.family, found.classes, found.prototypes) == ("yolov5", CLASSES, 8)
    decoders = [
        {"name": d.name, "stride": int(d.strides[0]), "w": list(d.widths), "h": list(d.heights), **d.layers}
        for d in found.decoders
    ]
    content = public(runner, bbox_decoders=decoders, proto=[{"number": 8, "stride": 4}])
    del content["regression_length"]
    (tmp_path / "nms.json").write_text(json.dumps(content))
    runner.archive.nms = None
    runner.load_model_script(f'nms_postprocess("{tmp_path}/nms.json", meta_arch=yolov5_seg)\n')
    said = runner.archive.nms
    assert said is not None and said.masks is not None
    assert said.tensors[said.masks.tensor] == found.tensors[found.masks.tensor]

    def read(c: Any) -> list[Any]:
        return [(c.tensors[o.tensor], o.base, o.anchor) for d in c.decoders for o in (d.boxes, d.scores, d.masks)]

    assert read(said) == read(found)
    wrong = content | {"proto": [{"number": 9, "stride": 4}]}
    (tmp_path / "nms.json").write_text(json.dumps(wrong))
    for recognized in (found, None):
        other = parsed(heads.yolov5_masks())
        other.archive.nms = recognized
        with pytest.raises(HeadraceError, match="prototypes"):
            other.load_model_script(f'nms_postprocess("{tmp_path}/nms.json", meta_arch=yolov5_seg)\n')


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nms_postprocess(meta_arch=yolov9000)", "E-SCRIPT-VALUE"),
        ("nms_postprocess(meta_arch=ssd)", "E-NMS-FAMILY"),
        ("nms_postprocess(meta_arch=yolov5_seg)", "E-NMS-FAMILY"),
        ("nms_postprocess(classes=7)", "E-NMS-NETWORK"),
        ("nms_postprocess(image_dims=[1, 2])", "E-NMS-NETWORK"),
        ("nms_postprocess(regression_length=3)", "E-NMS-NETWORK"),
        ("nms_postprocess(nms_scores_th=2)", "E-SCRIPT-VALUE"),
        ("nms_postprocess(max_proposals_per_class=0)", "E-SCRIPT-VALUE"),
        ("nms_postprocess(bbox_decoding_only=3)", "E-SCRIPT-VALUE"),
        ("nms_postprocess(background_removal=True, background_removal_index=9)", "E-NMS-NETWORK"),
        ('nms_postprocess("nowhere.json")', "E-FILE-MISSING"),
        ('nms_postprocess("a.json", "b.json")', "E-SCRIPT-VALUE"),
        ("nms_postprocess(unknown=1)", "E-SCRIPT-ARGUMENT"),
    ],
)
def test_what_is_refused(text: str, code: str) -> None:
    runner = parsed()
    before = runner.archive.nms
    with pytest.raises(HeadraceError) as raised:
        runner.load_model_script(text + "\n")
    assert raised.value.code == code
    assert runner.archive.nms == before and runner.model_script == ""


@pytest.mark.parametrize("content", ["", "[]", "{", '{"classes": 5, "classes": 5}', '{"nms_scores_th": "high"}'])
def test_files_that_are_no_configuration(content: str, tmp_path: Path) -> None:
    (tmp_path / "nms.json").write_text(content)
    with pytest.raises(HeadraceError) as raised:
        parsed().load_model_script(f'nms_postprocess("{tmp_path}/nms.json")\n')
    assert raised.value.code.startswith("E-NMS-")


def test_a_network_without_a_head_has_no_boxes() -> None:
    runner = parsed(heads.classifier())
    with pytest.raises(HeadraceError, match="no detection head"):
        runner.load_model_script("nms_postprocess(nms_scores_th=0.5)\n")
    with pytest.raises(UsageError, match="no detection head"):
        runner.infer(InferenceContext.SDK_NATIVE, FRAMES, boxes=True)


def test_boxes_of_pictures_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    runner = parsed()
    pictures = np.random.default_rng(3).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)
    lines = ("n = normalization([128, 128, 128], [60, 60, 60])", "nms_postprocess(nms_scores_th=0.3)")
    runner.load_model_script("\n".join(lines))
    runner.optimize(pictures, min_snr=0)
    hef = tmp_path / "net.hef"
    hef.write_bytes(runner.compile())
    sizes = [(SIZE, SIZE // 2), (SIZE // 4, SIZE)]  # width, height
    for i, size in enumerate(sizes):
        Image.fromarray(pictures[i]).resize(size).save(tmp_path / f"{i}.png")
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    command = ["run", str(hef), "--input-files", *files, "--resize", "letterbox"]
    assert run([*command, "--output-dir", str(tmp_path / "out")]) == 0
    frames = json.loads((tmp_path / "out" / "boxes.json").read_text())["frames"]
    assert [frame["size"] for frame in frames] == [[h, w] for w, h in sizes]
    assert sum(len(frame["boxes"]) for frame in frames) > 0
    for frame, (width, height) in zip(frames, sizes, strict=True):
        for one in frame["boxes"]:
            left, top, right, bottom = one["box"]
            assert 0 <= left <= right <= width and 0 <= top <= bottom <= height
            assert one["score"] >= 0.3 and 0 <= one["class"] < CLASSES
    device = runner.infer(InferenceContext.SDK_HAILO_HW, pictures)  # the script asks for boxes
    quantized = runner.infer(InferenceContext.SDK_QUANTIZED, pictures)
    assert len(device) == len(pictures) and all(np.array_equal(a, b) for a, b in zip(device, quantized, strict=True))
    raw = runner.infer(InferenceContext.SDK_QUANTIZED, pictures, boxes=False)
    assert len(raw) == 6
    assert run([*command, "--raw-outputs", "--score-threshold", "0.5"]) != 0
    assert "E-CLI-CONTRADICTION" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["masks", "points", "angle"])
def test_objects_of_pictures_by_the_command_line(kind: str, tmp_path: Path) -> None:
    """From a file to ``boxes.json``: masks, key points or corners stand beside the boxes, as Python gives them."""
    from PIL import Image

    runner = parsed(heads.further(kind, False))
    pictures = np.random.default_rng(3).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)
    runner.load_model_script("nms_postprocess(nms_scores_th=0.3)")
    runner.optimize(pictures, min_snr=0)
    (tmp_path / "net.hef").write_bytes(runner.compile())
    Image.fromarray(pictures[0]).save(tmp_path / "0.png")
    command = ["run", str(tmp_path / "net.hef"), "--input-files", str(tmp_path / "0.png")]
    assert run([*command, "--output-dir", str(tmp_path / "out")]) == 0
    (frame,) = json.loads((tmp_path / "out" / "boxes.json").read_text())["frames"]
    (found,) = find(tmp_path / "net.hef", pictures[:1])
    assert len(frame["boxes"]) == len(found) > 0
    for i, one in enumerate(frame["boxes"]):
        if kind == "masks":
            assert sum(one["mask"]["counts"][1::2]) == found.mask(i).inside.sum()
        elif kind == "points":
            assert found.key_points is not None
            np.testing.assert_allclose(one["key_points"], found.key_points[i] * [SIZE, SIZE, 1], atol=2e-3)
        else:
            assert found.turned is not None
            np.testing.assert_allclose(np.mean(one["corners"], 0), found.turned[i, :2], atol=2e-3)


def test_boxes_of_pictures_are_those_of_prepared_frames(tmp_path: Path) -> None:
    """A folder of pictures, prepared by `run`, against frames that numpy and Pillow prepare and map back."""
    from PIL import Image

    runner = parsed()
    noise = np.random.default_rng(5).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)
    runner.load_model_script("n = normalization([128, 128, 128], [60, 60, 60])\nnms_postprocess(nms_scores_th=0.3)")
    runner.optimize(noise, min_snr=0)
    hef = tmp_path / "net.hef"
    hef.write_bytes(runner.compile())
    (tmp_path / "pictures").mkdir()
    frames, sizes, scales = np.full_like(noise[:2], 114), [(3 * SIZE // 2, 2 * SIZE), (2 * SIZE, SIZE)], []
    for i, (width, height) in enumerate(sizes):
        large = Image.fromarray(noise[i]).resize((width, height))
        large.save(tmp_path / "pictures" / f"{i}.png")
        scales.append(SIZE / max(width, height))
        small = (round(width * scales[i]), round(height * scales[i]))
        frames[i, : small[1], : small[0]] = np.asarray(large.resize(small, Image.Resampling.BILINEAR))[..., ::-1]
    np.save(tmp_path / "frames.npy", frames)
    found = {}
    for name, options in (("pictures", ["--resize", "letterbox-corner", "--channels", "bgr"]), ("frames.npy", [])):
        out = tmp_path / f"{name}.out"
        assert run(["run", str(hef), "--input-files", str(tmp_path / name), "--output-dir", str(out), *options]) == 0
        found[name] = json.loads((out / "boxes.json").read_text())["frames"]
    for i, (got, want) in enumerate(zip(found["pictures"], found["frames.npy"], strict=True)):
        assert len(got["boxes"]) == len(want["boxes"]) > 0
        assert got["size"] == list(sizes[i][::-1]) and got["picture"].endswith(f"{i}.png")
        for a, b in zip(got["boxes"], want["boxes"], strict=True):
            assert (a["class"], a["score"]) == (b["class"], b["score"])
            mapped = np.clip(np.array(b["box"]) / scales[i], 0, [*sizes[i]] * 2)
            np.testing.assert_allclose(a["box"], mapped, atol=0.01)


def test_public_configurations_parse(reference: Path) -> None:
    files = sorted((reference / "postprocess_config").glob("*.json"))
    assert len(files) > 40
    for path in files:
        raw = _public(NmsRequest("test", path.name, path.read_bytes()))
        told = _told_by_keys(raw)
        assert told in ("yolov5", "yolov5_seg", "yolov8", "yolox", "nanodet", "ssd"), path.name
        assert (told == "yolov5_seg") == ("_seg_" in path.name)


def test_parse_tells_of_the_head_that_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(heads.yolov8().model.SerializeToString())
    command = ["parse", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "net.har")]
    assert run(command) == 0
    assert f"boxes    yolov8: {CLASSES} classes, score threshold" in capsys.readouterr().out
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nms"]["meta_arch"] == "yolov8"
