# SPDX-License-Identifier: Apache-2.0
"""A small network through the real commands, from ONNX to numbers; running it where torch and onnx are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli.app import run
from import_blocker import without
from small_onnx import write_small

pytest.importorskip("headrace.runtime._native")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.onnx, calibration.npy, small.hef and small_compiled.har, made by `headrace build`."""
    folder = tmp_path_factory.mktemp("flow")
    write_small(folder)
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert (
            run(["build", "small.onnx", "--calib-set", "calibration.npy", "-o", "small.hef", "--net-name", "small"])
            == 0
        )
    finally:
        os.chdir(here)
    return folder


def result(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_stage_by_stage_gives_the_same_executable(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert result(["parser", "onnx", built / "small.onnx", "--net-name", "small", "-y"], capsys)["har"] == "small.har"
    calibration = built / "calibration.npy"
    optimized = result(["optimize", "small.har", "--calib-set-path", calibration], capsys)
    assert optimized["state"] == "quantized_model"
    assert all(output["snr_db"] > 10 for output in optimized["report"]["outputs"].values())
    compiled = result(["compiler", "small_optimized.har", "--output-dir", "o", "--auto-model-script", "a.alls"], capsys)
    assert compiled["device_simulated"]["fps"] > 0
    assert sorted(p.name for p in tmp_path.rglob("*.h*")) == [
        "small.har", "small.hef", "small_compiled.har", "small_optimized.har",
    ]  # fmt: skip
    assert (tmp_path / "o" / "small.hef").read_bytes() == (built / "small.hef").read_bytes()
    assert (tmp_path / "a.alls").read_text() == ""
    # From the model file at once, and from every state.
    data = ["--calib-set-path", calibration]
    sources = [
        (built / "small.onnx", data),
        ("small.har", data),
        ("small_optimized.har", []),
        ("o/small_compiled.har", []),
    ]
    for source, named in sources:
        result(["compile", source, *named, "--output-dir", "again"], capsys)
        assert (tmp_path / "again" / "small.hef").read_bytes() == (built / "small.hef").read_bytes()


def test_run_equals_the_emulator(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.runner import ClientRunner, InferenceContext

    frames = np.load(built / "calibration.npy")
    runner = ClientRunner(har=built / "small_compiled.har")
    codes = runner.infer(InferenceContext.SDK_QUANTIZED, frames, quantized_io=True)
    floats = runner.infer(InferenceContext.SDK_QUANTIZED, frames)
    common = ["run", built / "small.hef", "--input-files", built / "calibration.npy", "--output-dir"]
    data = result([*common, tmp_path / "f", "--measure-latency", "--threads", "2"], capsys)
    assert data["frames"] == len(frames)
    assert data["device_simulated"]["fps"] > 0
    assert np.array_equal(np.load(data["files"][0]).reshape(floats.shape), floats)
    first = result([*common, tmp_path / "q", "--batch-size", 5, "--user-format-type", "float32", "-c", 7], capsys)
    assert np.array_equal(np.load(first["files"][0]).reshape(7, -1), floats[:7].reshape(7, -1))
    assert len(np.unique(codes)) > 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "small.hef", "-c", "3"],
        ["run", "small.hef", "-c", "3", "-t", "0.1", "--quantized"],
        ["run", "small.hef", "--kernels", "generic", "--threads", "1"],
        ["benchmark", "small.hef", "-t", "0.1", "--by-layer"],
        ["hef", "info", "small.hef"],
        ["hef", "disassemble", "small.hef"],
        ["parse-hef", "small.hef"],
        ["devices"],
        ["har", "info", "small_compiled.har"],
    ],
)
def test_device_commands_need_neither_torch_nor_onnx(built: Path, arguments: list[str]) -> None:
    for extra in ([], ["--json"]):
        program = without("torch", "onnx", "onnx_ir", "onnxruntime", "PIL")
        program += f"from headrace.cli.app import run\nsys.exit(run({[*arguments, *extra]!r}))\n"
        done = subprocess.run([sys.executable, "-c", program], cwd=built, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
        if extra:
            json.loads(done.stdout)


def test_wrong_frames_and_kernels(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5, 5, 3), np.float32))
    assert run(["run", str(built / "small.hef"), "--input-files", str(tmp_path / "wrong.npy")]) == 6
    assert "E-DATA-SHAPE" in capsys.readouterr().err
    assert run(["run", str(built / "small.hef"), "--kernels", "avx9"]) == 9
    assert run(["run", str(built / "small.onnx")]) == 3


def test_har_members(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    har = built / "small_compiled.har"
    members = [m["name"] for m in result(["har", "info", har], capsys)["members"]]
    written = result(["har", "extract", har, "--output-dir", tmp_path / "all"], capsys)["files"]
    assert [Path(p).name for p in written] == members
    assert (tmp_path / "all" / "small.hef").read_bytes() == (built / "small.hef").read_bytes()
    result(["har", "extract", har, "small.hef", "--output-dir", tmp_path / "one"], capsys)
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["small.hef"]
    assert run(["har", "extract", str(har), "smal.hef"]) == 2
    assert "'small.hef'" in capsys.readouterr().err


@pytest.mark.parametrize("stem", ["small", "small_optimized", "small_compiled"])
def test_profile_of_every_state(
    stem: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result(["parse", built / "small.onnx", "--net-name", "small"], capsys)
    result(["optimize", "small.har", "--calib-set-path", built / "calibration.npy"], capsys)
    folder = built if stem == "small_compiled" else tmp_path
    report = result(["profile", folder / f"{stem}.har"], capsys)
    assert "conv1" in json.dumps(report)
    assert run(["profile", str(folder / f"{stem}.har")]) == 0
    assert "conv1" in capsys.readouterr().out


def test_benchmark_by_layer_names_every_layer(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = result(["benchmark", built / "small.hef", "-t", "0.1", "--by-layer", "--batch-size", "3"], capsys)
    layers = data["host_measured"]["layer_ms"]
    assert list(layers) == [stage["name"] for stage in data["device_simulated"]["stages"]]
    assert all(ms > 0 for ms in layers.values())


def test_batch_comes_from_the_command_line_or_the_script(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device too small for the network: more frames per switch, the same numbers; the command line wins."""
    from headrace.targets import load_target

    monkeypatch.chdir(tmp_path)
    small = {**load_target("hailo8l").as_dict(), "name": "small", "clusters": 1, "controllers_per_cluster": 5}
    lines = [f"{key} = {json.dumps(value)}" for key, value in small.items()]
    (tmp_path / "small.toml").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "batch.alls").write_text("performance_param(optimize_for_batch=4)\n", encoding="utf-8")
    common = ["compile", built / "small_compiled.har", "--hw-arch", "small.toml"]
    rates: list[float] = []
    for options, batch in (([], 1), (["--model-script", "batch.alls"], 4), (["--batch", 16], 16)):
        made = result([*common, *options], capsys)
        assert made["compile"]["contexts"] > 1
        assert made["compile"]["batch"] == made["device_simulated"]["batch"] == batch
        rates.append(made["device_simulated"]["fps"])
    assert rates == sorted(rates) and rates[2] > 2 * rates[0]
    both = ["--model-script", "batch.alls", "--batch", "2", "--auto-model-script", "resolved.alls"]
    assert result([*common, *both], capsys)["compile"]["batch"] == 2
    assert "optimize_for_batch=4" in (tmp_path / "resolved.alls").read_text()
    for bad in ("0", "65537", "x"):
        assert run([*map(str, common), "--batch", bad]) == 2
        assert "1<=x<=65536" in capsys.readouterr().err or bad == "x"
