# SPDX-License-Identifier: Apache-2.0
"""A target is checked where it is named: in every command, in the runner, and in a HAR; nothing is done before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.cli.app import run
from headrace.errors import InputFileError, UsageError
from headrace.hn import archive
from headrace.runner import ClientRunner
from headrace.targets import load_target
from small_onnx import write_small


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_small(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["parse", "optimize", "compile", "build", "profile"])
@pytest.mark.parametrize("name", ["hailo99", "hailo8r"])
def test_every_command_checks_the_target_before_anything_else(
    command: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    # The model is no model: a command that looked at it first would say so.
    (folder / "broken.onnx").write_bytes(b"x")
    calibration = ["--calib-set", "calibration.npy"] if command in ("optimize", "compile", "build") else []
    assert run([command, "broken.onnx", "--hw-arch", name, *calibration]) == 2
    text = capsys.readouterr().err
    assert "E-TARGET-UNKNOWN" in text and repr(name) in text and "hailo8" in text
    assert sorted(folder.iterdir()) == sorted([*before, folder / "broken.onnx"])


def test_the_runner_checks_its_target_at_once() -> None:
    with pytest.raises(UsageError, match="E-TARGET-UNKNOWN"):
        ClientRunner(hw_arch="hailo99")
    assert ClientRunner(hw_arch="HAILO8L").hw_arch == "hailo8l"
    assert ClientRunner().hw_arch == "hailo8"


def _har(folder: Path, change: Callable[[archive.Archive], None] = lambda _: None, name: str = "m.har") -> Path:
    runner = ClientRunner()
    runner.translate_onnx_model(folder / "small.onnx")
    change(runner.archive)
    runner.save_har(folder / name)
    return folder / name


def test_a_har_for_an_unknown_target_is_refused_unless_one_is_named(folder: Path) -> None:
    path = _har(folder, lambda a: setattr(a, "hw_arch", "hailo99"))
    with pytest.raises(InputFileError, match="did you mean") as caught:
        ClientRunner(har=path)
    assert str(path) in caught.value.diagnostics[0].where
    assert any("--hw-arch" in lever for lever in caught.value.diagnostics[0].levers)
    runner = ClientRunner(hw_arch="hailo8", har=path)
    assert runner.hw_arch == runner.archive.hw_arch == "hailo8"


def test_a_har_in_upper_case_is_read(folder: Path) -> None:
    assert ClientRunner(har=_har(folder, lambda a: setattr(a, "hw_arch", "HAILO15H"))).hw_arch == "hailo15h"


def test_a_target_named_for_a_har_stays_with_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _har(folder)
    arguments = ["optimize", str(path), "--hw-arch", "HAILO8L", "--calib-set-path", "calibration.npy", "-o", "q.har"]
    assert run(arguments) == 0
    assert archive.load(folder / "q.har").hw_arch == "hailo8l"
    assert ClientRunner(har=folder / "q.har").hw_arch == "hailo8l"
    capsys.readouterr()


def test_a_target_file_goes_with_the_har(folder: Path) -> None:
    """Later stages need the file no more, and no path of this machine is in the archive."""
    own = {**load_target("hailo8").as_dict(), "name": "mine", "clusters": 2}
    file = folder / "mine.toml"
    file.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in own.items()))
    runner = ClientRunner(hw_arch=str(file))
    runner.translate_onnx_model(folder / "small.onnx")
    runner.save_har(folder / "mine.har")
    file.unlink()
    assert not any(str(folder).encode() in body for body in archive.members(runner.archive).values())
    again = ClientRunner(har=folder / "mine.har")
    assert again.target.as_dict() == own
    assert again.profile()["hw_arch"] == "mine"
    other = ClientRunner(hw_arch="hailo8l", har=folder / "mine.har")
    assert other.target == load_target("hailo8l") and "target" not in other.archive.reports


@pytest.mark.parametrize("value", [{}, {"name": "mine"}, {"name": 3, "clusters": []}])
def test_a_damaged_target_in_a_har_is_refused(folder: Path, value: object) -> None:
    path = _har(folder, lambda a: a.reports.__setitem__("target", value))
    with pytest.raises(InputFileError, match="E-TARGET"):
        ClientRunner(har=path)
