# SPDX-License-Identifier: Apache-2.0
"""Data through the real commands: pictures, values that do not fit, options that contradict each other."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli.app import run
from headrace.errors import DataError, DataWarning
from import_blocker import without
from small_onnx import write_small

pytest.importorskip("headrace.runtime._native")
pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(5)
SIZE = 16


def scenes(count: int, size: int = SIZE) -> Any:
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(RNG.uniform(4, 9) * (x + c * y) + RNG.uniform(0, 6)) for c in range(3 * count)]
    frames = 128 + 90 * np.stack(waves, -1).reshape(size, size, count, 3).transpose(2, 0, 1, 3)
    return np.clip(np.rint(frames + RNG.normal(0, 5, frames.shape)), 0, 255).astype(np.uint8)


RAW = scenes(20)
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """raw.hef normalizes on the device, real.hef takes normalized values; a folder of pictures of the input's size."""
    folder = tmp_path_factory.mktemp("data")
    write_small(folder)
    (folder / "n.alls").write_text(f"n = normalization({MEAN.tolist()}, {STD.tolist()})\n")
    np.save(folder / "raw.npy", RAW)
    np.save(folder / "real.npy", ((RAW - MEAN) / STD).astype(np.float32))
    (folder / "pictures" / "sub").mkdir(parents=True)
    for i, frame in enumerate(RAW):
        Image.fromarray(frame).save(folder / "pictures" / ("sub" if i > 15 else ".") / f"{i:02}.png")
    model = ["build", str(folder / "small.onnx"), "--net-name", "small", "--min-snr", "0", "--calib-set"]
    assert run([*model, f"{folder}/raw.npy", "--model-script", f"{folder}/n.alls", "-o", f"{folder}/raw.hef"]) == 0
    assert run([*model, f"{folder}/real.npy", "-o", f"{folder}/real.hef"]) == 0
    return folder


def outcome(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = run([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else json.loads(captured.err), captured.err


def outputs(data: dict[str, Any]) -> list[Any]:
    return [np.load(path) for path in data["files"]]


def test_pictures_folders_and_patterns_give_what_the_array_gives(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hef = built / "raw.hef"
    _, want, _ = outcome(["run", hef, "--input-files", built / "raw.npy", "--output-dir", tmp_path / "a"], capsys)
    files = sorted((built / "pictures").glob("*.png")) + sorted((built / "pictures").glob("sub/*.png"))
    for i, given in enumerate(
        (
            [built / "pictures"],
            [f"{built}/pictures/*.png", f"{built}/pictures/sub/*.png"],
            files,
            [f"small/input_layer1={built}/pictures"],
        )
    ):
        code, got, _ = outcome(["run", hef, "--input-files", *given, "--output-dir", tmp_path / str(i)], capsys)
        assert code == 0 and got["frames"] == len(RAW) and got["warnings"] == []
        assert [Path(p).name for p in got["pictures"]["small/input_layer1"]] == [f.name for f in files]
        for a, b in zip(outputs(got), outputs(want), strict=True):
            np.testing.assert_array_equal(a, b)
    code, got, _ = outcome(["run", hef, "--input-files", built / "pictures", "-c", 3], capsys)
    assert (code, got["frames"], len(got["pictures"]["small/input_layer1"])) == (0, 3, 3)
    code, got, _ = outcome(["run", hef, "--input-files", files[0], "-c", 3], capsys)
    assert got["warnings"] == ["3 frames were asked for (--frames-count), the files hold 1"]


def test_pictures_of_another_size_only_when_asked(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(11):
        Image.fromarray(scenes(1, 32)[0][: 20 + i, :]).save(tmp_path / f"{i:02}.png")
    hef = built / "raw.hef"
    code, error, _ = outcome(["run", hef, "--input-files", tmp_path], capsys)
    assert code == 6 and len(error["diagnostics"]) == 1
    assert error["diagnostics"][0]["where"] == "11 files, first 00.png"
    for how in ("letterbox", "letterbox-corner", "crop", "stretch"):
        code, got, _ = outcome(["run", hef, "--input-files", tmp_path, "--resize", how], capsys)
        assert code == 0 and got["frames"] == 11
        assert got["resize"]["how"] == how and "Pillow" in got["resize"]["library"]
    har = tmp_path / "o.har"
    build = ["optimize", built / "small.onnx", "--min-snr", 0, "-o", har, "--calib-set-path"]
    assert outcome([*build, tmp_path], capsys)[0] == 6
    assert outcome([*build, tmp_path, "--resize", "crop"], capsys)[0] == 0
    from headrace.runner import ClientRunner

    history = ClientRunner(har=har).archive.history[-1]
    assert history["resize"]["how"] == "crop" and history["resize"]["filter"] == "bilinear, antialiased"
    for wrong in (
        ["run", hef, "--resize", "crop"],
        ["run", hef, "--input-files", built / "raw.npy", "--resize", "crop"],
    ):
        assert outcome(wrong, capsys)[0] == 2
    assert outcome([*build, built / "raw.npy", "--resize", "crop"], capsys)[0] == 6


def test_channels_of_pictures(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hef, pictures = built / "raw.hef", built / "pictures"
    np.save(tmp_path / "bgr.npy", RAW[..., ::-1])
    _, want, _ = outcome(["run", hef, "--input-files", tmp_path / "bgr.npy", "--output-dir", tmp_path / "a"], capsys)
    command = ["run", hef, "--input-files", pictures, "--channels", "bgr", "--output-dir", tmp_path / "b"]
    code, got, _ = outcome(command, capsys)
    assert code == 0 and got["channels"] == "bgr"
    for a, b in zip(outputs(got), outputs(want), strict=True):
        np.testing.assert_array_equal(a, b)
    har = tmp_path / "o.har"
    build = ["optimize", built / "small.onnx", "--min-snr", 0, "-o", har, "--channels", "bgr"]
    assert outcome([*build, "--calib-set-path", pictures], capsys)[0] == 0
    from headrace.runner import ClientRunner

    assert ClientRunner(har=har).archive.history[-1]["channels"] == "bgr"
    for wrong, code in (
        (["run", hef, "--channels", "bgr"], "E-CLI-CONTRADICTION"),
        (["run", hef, "--input-files", built / "raw.npy", "--channels", "bgr"], "E-DATA-CHANNELS"),
        ([*build, "--use-random-calib-set"], "E-DATA-CHANNELS"),
        ([*build, "--calib-set-path", built / "raw.npy"], "E-DATA-CHANNELS"),
    ):
        status, error, _ = outcome(wrong, capsys)
        assert status != 0 and error["diagnostics"][0]["code"] == code
    assert outcome(["run", hef, "--input-files", pictures, "--channels", "brg"], capsys)[0] == 2


def test_what_was_done_is_said_once(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(12):
        Image.fromarray(RAW[i, ..., 0]).save(tmp_path / f"{i:02}.png")
    code, got, err = outcome(["run", built / "raw.hef", "--input-files", tmp_path], capsys)
    line = "12 pictures: grey becomes RGB: its channel is repeated (first 00.png)"
    assert (code, got["warnings"], err) == (0, [line], f"warning: {line}\n")
    har = tmp_path / "o.har"
    code, got, err = outcome(
        ["optimize", built / "small.onnx", "--min-snr", 0, "--calib-set-path", tmp_path, "-o", har], capsys
    )
    assert code == 0 and got["report"]["warnings"][0] == line and err.count("grey becomes RGB") == 1


@pytest.mark.parametrize(
    ("hef", "data", "code"), [("raw", "real", "E-DATA-NORMALIZED"), ("real", "raw", "E-DATA-RANGE")]
)
def test_values_scaled_otherwise(
    built: Path, capsys: pytest.CaptureFixture[str], hef: str, data: str, code: str
) -> None:
    files = ["run", built / f"{hef}.hef", "--input-files"]
    status, got, err = outcome([*files, built / f"{data}.npy"], capsys)
    assert status == 0 and len(got["warnings"]) == 1 and code in got["warnings"][0] and got["warnings"][0] in err
    status, error, _ = outcome([*files, built / f"{data}.npy", "--strict"], capsys)
    assert status == 6 and error["diagnostics"][0]["code"] == code
    status, got, err = outcome([*files, built / f"{hef}.npy", "--strict"], capsys)
    assert (status, got["warnings"], err) == (0, [], "")


def test_the_hef_says_what_calibration_saw(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("raw", "real"):
        data = np.load(built / f"{name}.npy").astype(np.float32)
        streams = outcome(["hef", "info", built / f"{name}.hef"], capsys)[1]["streams"]
        assert streams[0]["limvals"] == [float(data.min()), float(data.max())]


def test_python_warns_and_refuses_alike(built: Path) -> None:
    from headrace import runtime
    from headrace.runner import ClientRunner, InferenceContext

    runner = ClientRunner(har=built / "small_compiled.har")  # the last one built: real values
    real, raw = np.load(built / "real.npy"), np.load(built / "raw.npy")
    bad = real.copy()
    bad[3, 0, 0, 0] = np.nan
    for context in InferenceContext:
        with pytest.raises(DataError, match="frame 3"):
            runner.infer(context, bad)
        quantized = context not in (InferenceContext.SDK_NATIVE, InferenceContext.SDK_FP_OPTIMIZED)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runner.infer(context, real)
            assert caught == []
            runner.infer(context, raw)
        assert [w.category for w in caught] == ([DataWarning] if quantized else [])
        assert all(w.filename == __file__ for w in caught)
    with pytest.warns(DataWarning, match="E-DATA-RANGE"):
        runtime.run(built / "real.hef", raw.astype(np.float32))
    with pytest.warns(DataWarning, match="E-DATA-NORMALIZED"):
        runtime.run(built / "raw.hef", real)


def test_infer_takes_numbers_of_any_type_for_values(built: Path) -> None:
    """uint8 were codes in quantized contexts and values in the others."""
    from headrace.runner import ClientRunner, InferenceContext

    runner = ClientRunner(har=built / "small_compiled.har")
    whole = np.rint(np.load(built / "real.npy")).clip(0, 2)
    for context in InferenceContext:
        want = runner.infer(context, whole)
        for kind in (np.uint8, np.int64, bool, ">f8", np.uint16):
            given = whole.astype(kind)
            np.testing.assert_array_equal(
                runner.infer(context, given), want if kind is not bool else runner.infer(context, given.astype("f4"))
            )


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.int8, np.float64, np.float16, ">f4", bool])
def test_the_same_file_calibrates_and_runs(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: Any
) -> None:
    data = (RAW // 2).astype(kind)
    np.save(tmp_path / "a.npy", np.asfortranarray(data))
    np.save(tmp_path / "f.npy", data.astype(np.float32))
    hefs = []
    for name in ("a", "f"):
        build = ["build", built / "small.onnx", "--net-name", "small", "--min-snr", 0, "-o", tmp_path / f"{name}.hef"]
        assert outcome([*build, "--calib-set", tmp_path / f"{name}.npy"], capsys)[0] == 0
        hefs.append((tmp_path / f"{name}.hef").read_bytes())
        assert (
            outcome(["run", tmp_path / f"{name}.hef", "--input-files", tmp_path / "a.npy", "--strict"], capsys)[0] == 0
        )
    assert hefs[0] == hefs[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--quantized", "--user-format-type", "float32"], "contradict"),
        (["--strict"], "about the data of --input-files"),
        (["--quantized", "--strict", "--input-files", "raw.npy"], "no range"),
        (["--input-files", "raw.npy", "raw.npy"], "given twice"),
        (["--input-files", "raw.npy", "pictures"], "given twice"),
        (["--input-files", ""], "no file name"),
        (["--input-files", "input_layer1="], "no file name"),
        (["--input-files", "imput_layer1=raw.npy"], "did you mean 'input_layer1'"),
    ],
)
def test_options_that_contradict(
    built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(built)
    assert run(["run", "raw.hef", *arguments]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "optimize"])
def test_archives_need_the_inputs_names(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    import zipfile

    path = tmp_path / "x.npz"
    given = ["run", built / "raw.hef", "--input-files", path]
    if command == "optimize":
        given = ["optimize", built / "small.onnx", "--min-snr", 0, "-o", tmp_path / "o.har", "--calib-set-path", path]
    for names, code in ((["arr_0"], 0), (["input_layer1"], 0), (["x"], 6), (["images"], 6), (["input_layer1", "y"], 6)):
        np.savez(path, **dict.fromkeys(names, RAW))
        status, data, _ = outcome(given, capsys)
        assert status == code, (names, data)
        assert code == 0 or data["diagnostics"][0]["code"] == "E-DATA-NAME"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile says it too
        with zipfile.ZipFile(path, "w") as archive:
            for _ in range(2):
                archive.write(built / "raw.npy", "input_layer1.npy")
    status, data, _ = outcome(given, capsys)
    assert (status, data["diagnostics"][0]["rule"]) == (6, "two arrays have one name")


def test_pictures_without_pillow_name_the_extra(built: Path) -> None:
    arguments = ["run", str(built / "raw.hef"), "--input-files", str(built / "pictures")]
    program = without("torch", "onnx", "onnx_ir", "onnxruntime", "PIL")
    program += f"from headrace.cli.app import run\nsys.exit(run({arguments!r}))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 10 and "pip install 'headrace[pictures]'" in done.stderr
    program = program.replace(", 'PIL'", "").replace("'PIL'", "'nothing'")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_offered_exist(built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built)
    for wrong, right in (
        ("rwa.npy", "raw.npy"),
        ("pictrues", "pictures"),
        ("pictures/99.pgn", None),
        ("raw.wav", "raw.npy"),
    ):
        assert run(["run", "raw.hef", "--input-files", wrong]) in (3, 6)
        text = capsys.readouterr().err
        offered = [line.split("did you mean ")[1].rstrip("?") for line in text.splitlines() if "did you mean" in line]
        assert all((built / name).exists() for name in offered), text
        assert right is None or right in offered, text
