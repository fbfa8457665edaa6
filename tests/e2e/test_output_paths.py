# SPDX-License-Identifier: Apache-2.0
"""Where results go, through the command line: no command replaces a file of the user's by surprise, and every
refusal comes before the work."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import headrace, write_archives

pytest.importorskip("headrace.runtime._native")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_archives(tmp_path_factory.mktemp("outputs"))
    (folder / "net.alls").write_text("performance_param(fps=3)\n")
    (folder / "link.har").symlink_to("q.har")
    os.link(folder / "small.onnx", folder / "hard.har")
    (folder / "notes.hef").write_text("my notes")
    (folder / "notes.alls").write_text("a()\n")
    (folder / "folder.hef").mkdir()
    return folder


OPTIMIZE = ["optimize", "small.har", "--calib-set-path", "calibration.npy"]
COMPILE = ["compile", "q.har", "--output-har-path", "new.har"]
REFUSED: list[tuple[list[str], str]] = [
    (["parse", "small.onnx", "-o", "small.onnx"], "E-OUTPUT-INPUT"),
    (["parse", "small.onnx", "-o", "hard.har"], "E-OUTPUT-INPUT"),
    (["parse", "small.onnx", "-o", "x.onnx"], "E-OUTPUT-SUFFIX"),
    (["parse", "small.onnx", "-o", "x.har", "--parsing-report-path", "x.har"], "E-OUTPUT-TWICE"),
    ([*OPTIMIZE, "-o", "small.har"], "E-OUTPUT-INPUT"),
    ([*OPTIMIZE, "-o", "calibration.npy"], "E-OUTPUT-INPUT"),
    ([*OPTIMIZE, "-o", "small.hef"], "E-OUTPUT-SUFFIX"),
    ([*OPTIMIZE, "-o", "nowhere/x.har"], "E-FILE-WRITE"),
    (["compile", "q.har", "-o", "q.har"], "E-OUTPUT-INPUT"),
    (["compile", "small.har", "--calib-set-path", "calibration.npy", "-o", "small_compiled.har"], "E-OUTPUT-SUFFIX"),
    (["compile", "link.har", "--output-har-path", "q.har", "-o", "x.hef"], "E-OUTPUT-INPUT"),
    ([*COMPILE, "-o", "notes.hef"], "E-OUTPUT-EXISTS"),
    ([*COMPILE, "-o", "folder.hef"], "E-OUTPUT-FOLDER"),
    ([*COMPILE, "-o", "/dev/random"], "E-OUTPUT-DEVICE"),
    ([*COMPILE, "-o", "/dev/stdout"], "E-OUTPUT-STREAM"),
    ([*COMPILE, "--model-script", "net.alls", "--auto-model-script", "net.alls"], "E-OUTPUT-INPUT"),
    ([*COMPILE, "--auto-model-script", "notes.alls"], "E-OUTPUT-EXISTS"),
    (["build", "small.onnx", "--calib-set", "calibration.npy", "-o", "notes.hef"], "E-OUTPUT-EXISTS"),
    (["profile", "small.har", "-o", "small.har"], "E-OUTPUT-INPUT"),
    (["profile", "small.har", "-o", "calibration.npy"], "E-OUTPUT-SUFFIX"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_refused_before_the_work(
    arguments: list[str],
    code: str,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from headrace.cli.app import run
    from headrace.runner import ClientRunner

    def working(*_: object, **__: object) -> None:
        raise AssertionError("the work began before the output was looked at")

    for stage in ("optimize", "compile", "profile"):
        monkeypatch.setattr(ClientRunner, stage, working)
    monkeypatch.chdir(made)
    before = {p.name: (p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_mode) for p in made.iterdir()}
    assert run(arguments) in (2, 3)
    error = capsys.readouterr().err
    assert code in error, error
    assert {p.name: (p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_mode) for p in made.iterdir()} == before


def test_default_names_are_judged_too(made: Path, tmp_path: Path) -> None:
    """`optimize small_optimized.har` would replace its own input."""
    (tmp_path / "small_optimized.har").write_bytes((made / "small.har").read_bytes())
    done = headrace("optimize", "small_optimized.har", "--calib-set-path", made / "calibration.npy", cwd=tmp_path)
    assert done.returncode == 2 and "E-OUTPUT-INPUT" in done.stderr, done.stderr
    assert "--output-har-path small_optimized_new.har" in done.stderr
    (tmp_path / "small_compiled.har").symlink_to("small.hef")  # both names of a compilation in one file
    done = headrace("compile", made / "q.har", cwd=tmp_path)
    assert done.returncode == 2 and "E-OUTPUT-TWICE" in done.stderr, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["small_compiled.har", "small_optimized.har"]


def test_older_results_links_and_devices(made: Path, tmp_path: Path) -> None:
    command = ["compile", made / "q.har", "--output-har-path", "/dev/null", "-o"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "x.hef").symlink_to("deep/real.hef")
    for _ in range(2):  # the second time over an older result
        done = headrace(*command, "x.hef", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / "deep" / "real.hef").chmod(0o604)
    assert (tmp_path / "x.hef").is_symlink()
    assert (tmp_path / "x.hef").read_bytes() == (made / "small.hef").read_bytes()
    assert stat.S_IMODE((tmp_path / "deep" / "real.hef").stat().st_mode) == 0o604
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    shell = (
        f"mkfifo p; cat p > got.hef & {sys.executable} -m headrace compile {made}/q.har --output-har-path z.har -o p"
    )
    subprocess.run(["sh", "-c", f"{shell}; wait"], cwd=tmp_path, timeout=120, check=True, capture_output=True)
    assert (tmp_path / "got.hef").read_bytes() == (made / "small.hef").read_bytes()
    (tmp_path / "mine.hef").write_text("mine")
    assert headrace(*command, "mine.hef", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine.hef").read_bytes() == (made / "small.hef").read_bytes()


def test_extracted_members_that_were_edited_stay(made: Path, tmp_path: Path) -> None:
    extract = ["har", "extract", made / "q.har", "--output-dir", "parts"]
    for _ in range(2):
        assert headrace(*extract, cwd=tmp_path).returncode == 0
    edited = tmp_path / "parts" / "small.quantized.hn"
    edited.write_text(edited.read_text() + "\n")
    done = headrace(*extract, cwd=tmp_path)
    assert done.returncode == 2 and "E-OUTPUT-EXISTS" in done.stderr and "small.quantized.hn" in done.stderr
    assert headrace(*extract, "--force", cwd=tmp_path).returncode == 0
    assert not edited.read_text().endswith("\n\n")


def test_run_replaces_its_own_outputs_only(made: Path, tmp_path: Path) -> None:
    command = ["run", made / "small.hef", "--input-files", made / "calibration.npy", "--output-dir", "out"]
    for _ in range(2):
        assert headrace(*command, cwd=tmp_path).returncode == 0
    (result,) = (tmp_path / "out").iterdir()
    result.write_text("mine")
    done = headrace(*command, cwd=tmp_path)
    assert done.returncode == 2 and "E-OUTPUT-EXISTS" in done.stderr, done.stderr
    assert result.read_text() == "mine"


def test_a_library_call_replaces_only_a_har(made: Path, tmp_path: Path) -> None:
    from headrace.errors import UsageError
    from headrace.runner import ClientRunner

    runner = ClientRunner(har=made / "small.har")
    (tmp_path / "model.onnx").write_bytes((made / "small.onnx").read_bytes())
    with pytest.raises(UsageError, match="force=True"):
        runner.save_har(tmp_path / "model.onnx")
    for _ in range(2):
        runner.save_har(tmp_path / "any name")
    runner.save_har(tmp_path / "model.onnx", force=True)
