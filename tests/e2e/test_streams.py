# SPDX-License-Identifier: Apache-2.0
"""Standard streams that are closed, full or left by their reader, and memory that is short: a clear end each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_onnx import write_small

pytest.importorskip("headrace.runtime._native")


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which ``H`` is the program."""
    line = line.replace("H ", f"{sys.executable} -m headrace ")
    environment = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_small(folder)
    done = shell("H build small.onnx --calib-set calibration.npy -o small.hef && H parse small.onnx -o n.har", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    "command", ["hef info small.hef", "hef info small.hef --json", "har info n.har", "--help", "--version", "devices"]
)
@pytest.mark.parametrize(("stdout", "reason"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_a_stdout_that_takes_nothing(command: str, stdout: str, reason: str, made: Path) -> None:
    done = shell(f"H {command} {stdout}", made)
    assert done.returncode == 3 and done.stdout == ""
    assert "E-STDOUT" in done.stderr and reason in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exit 0)"])
def test_nobody_listens_at_stderr(stderr: str, made: Path) -> None:
    done = shell(f"H hef info small.hef {stderr} && H hef info absent.hef {stderr}", made)
    assert done.stdout.startswith("Architecture") and done.returncode == 3
    # A warning that nobody reads stops nothing.
    line = f"rm -f w.har; sleep 0.2; H optimize n.har --use-random-calib-set -o w.har {stderr}"
    done = shell(line, made)
    assert done.returncode == 0 and (made / "w.har").exists(), (done.returncode, done.stdout)


def test_all_streams_closed(made: Path) -> None:
    """Results do not end in descriptors that were free."""
    for file in ("o.hef", "o.har"):
        (made / file).unlink(missing_ok=True)
    done = shell("H compile small_compiled.har -o o.hef --output-har-path o.har <&- >&- 2>&-", made)
    assert done.returncode == 3
    assert (made / "o.hef").read_bytes() == (made / "small.hef").read_bytes()
    assert shell("H har info o.har <&-", made).returncode == 0


def test_a_reader_that_goes_away(made: Path) -> None:
    done = shell("set -o pipefail; H hef disassemble small.hef | head -1", made)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1


def test_an_encoding_that_lacks_signs(made: Path) -> None:
    done = shell("H har info n.har && H profile n.har", made, PYTHONIOENCODING="koi8-r")
    assert (done.returncode, done.stderr) == (0, "") and "16?16?3" in done.stdout


@pytest.mark.timeout(120)
def test_pipes_among_files_are_not_waited_for(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from headrace.cli.app import run

    monkeypatch.chdir(tmp_path)
    for name in ("images/a.png", "f.onnx", "f.har", "f.hef", "f.npy", "f.npz", "f.alls", "f.toml", "f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    for command in (
        f"optimize {made}/n.har --calib-set images",
        f"optimize {made}/n.har --calib-set f.npy",
        f"optimize {made}/n.har --calib-set f.npz",
        f"optimize {made}/n.har --calib-set {made}/calibration.npy --model-script f.alls",
        f"compile {made}/small_compiled.har --hw-arch f.toml",
        "parse f.onnx",
        "parse f",
        "profile f.har",
        "profile f",
        "hef info f.hef",
        "run f.hef",
        f"run {made}/small.hef --input-files f.npy",
        f"run {made}/small.hef --input-files images/a.png",
    ):
        assert run(command.split()) in (2, 3, 6), command
        assert "E-" in capsys.readouterr().err, command


@pytest.mark.parametrize("kibibytes", [300_000, 500_000, 600_000, 700_000])
def test_memory_too_small_for_torch(kibibytes: int, made: Path) -> None:
    command = "H optimize n.har --calib-set calibration.npy -o m.har"
    done = shell(f"ulimit -v {kibibytes}; {command}", made, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert (done.returncode, "E-MEMORY" in done.stderr) in ((12, True), (0, False)), done.stderr
    assert kibibytes > 600_000 or done.returncode == 12
    assert "Traceback" not in done.stderr


def test_what_needs_no_torch_runs_in_little_memory(made: Path) -> None:
    line = "ulimit -v 500000; H hef info small.hef && H run small.hef --input-files calibration.npy --threads 1"
    done = shell(line, made, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr


def test_no_remarks_of_libraries(made: Path) -> None:
    program = (
        "import sys, warnings; from headrace.cli import app\n"
        "app.run = lambda argv: warnings.warn('a remark', RuntimeWarning, stacklevel=1) or 0\n"
        "from headrace.cli import main; main([])"
    )
    for environment, expected in ({}, False), ({"HEADRACE_DEBUG": "1"}, True):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ("a remark" in done.stderr) is expected
