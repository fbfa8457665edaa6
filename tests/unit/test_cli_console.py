# SPDX-License-Identifier: Apache-2.0
"""One bar for a whole command, how much a command says, its log file, and commands known from other tools."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import elsewhere
from headrace.cli.app import COMMANDS, run
from headrace.cli.progress import STAGES, Course
from small_onnx import write_small


def on_a_terminal(program: str, cwd: Path) -> tuple[int, str]:
    """Status of a Python program whose stderr is a terminal, and what that terminal was sent."""
    import pty

    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=cwd, stderr=child, stdout=subprocess.DEVNULL, env=environment
    )
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    status = process.wait(60)
    os.close(parent)
    return status, shown.decode(errors="replace")


# --- progress ----------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["parse", "optimize", "compile", "other"]),
            st.integers(0, 5),
            st.integers(0, 5),
            st.sampled_from(["", "calibrating", "freezing", "trying minmax", "measuring accuracy", "unheard of"]),
        ),
        max_size=60,
    )
)
def test_a_bar_never_goes_back_and_never_past_its_end(steps: list[tuple[str, int, int, str]]) -> None:
    course = Course(["parse", "optimize", "compile"])
    seen = [course.advance(stage, min(done, total), total, text) for stage, done, total, text in steps]
    assert seen == sorted(seen)
    assert all(0 <= value <= 1 for value in seen)


def test_a_whole_command_fills_one_bar() -> None:
    course = Course(["parse", "optimize", "compile"])
    marks: list[float] = [course.advance("parse", 1, 2, "translating"), course.finish("parse")]
    for phase in STAGES["optimize"][1]:
        marks += [course.advance("optimize", i, 4, phase.text) for i in range(1, 5)]
    marks += [course.finish("optimize"), course.advance("compile", 1, 2, "lower"), course.finish("compile")]
    assert all(a <= b for a, b in pairwise(marks))
    assert marks[1] == pytest.approx(0.05)
    assert marks[-4] == marks[-3] == pytest.approx(0.9)
    assert marks[-1] == 1.0


def test_phases_that_do_not_occur_are_jumped_over() -> None:
    course = Course(["optimize"])
    first = course.advance("optimize", 1, 1, "calibrating")
    last = course.advance("optimize", 1, 2, "measuring accuracy")
    assert first < 0.2
    assert 0.8 < last < 1


def test_a_label_cannot_steer_the_bar(tmp_path: Path) -> None:
    status, shown = on_a_terminal(
        "import time\nfrom headrace.cli.progress import progress\n"
        "with progress('stage') as advance:\n"
        "    for i in range(4):\n        advance(i, 4, 'la[b]el'); time.sleep(0.15)\n",
        tmp_path,
    )
    assert status == 0
    assert "stage: la[b]el" in shown
    assert "75%" in shown


def test_build_shows_all_stages_in_one_bar(tmp_path: Path) -> None:
    write_small(tmp_path)
    program = (
        "from headrace.cli import main; main(['build', 'small.onnx', '--use-random-calib-set', '-o', 'net.hef', *{}])"
    )
    status, shown = on_a_terminal(program.format([]), tmp_path)
    assert status == 0, shown
    percents = [int(value) for value in re.findall(r"(\d+)%", shown)]
    assert percents == sorted(percents)
    assert "optimize" in shown
    quiet, silence = on_a_terminal(program.format(["-q"]), tmp_path)
    assert (quiet, silence) == (0, "")


# --- what is said ------------------------------------------------------------------------------------------------


def test_quiet_verbose_and_the_log_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small(tmp_path)
    build = ["build", "small.onnx", "--use-random-calib-set", "-o", "net.hef"]
    assert run(build) == 0
    usual = capsys.readouterr()
    assert "warning: CALIBRATING WITH RANDOM NOISE" in usual.err
    assert "took" not in usual.err
    assert run([*build, "-q", "--log-file", "one.log"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert quiet.out == usual.out
    assert run([*build, "-v", "--log-file", "one.log"]) == 0
    verbose = capsys.readouterr().err
    assert re.search(r"^optimize took \d+\.\d\d s$", verbose, re.MULTILINE)
    lines = (tmp_path / "one.log").read_text().splitlines()
    assert lines[0] == "# headrace log"
    assert sum("CALIBRATING WITH RANDOM NOISE" in line for line in lines) == 2
    assert sum(line.endswith("compile begins") for line in lines) == 2
    assert any("headrace build small.onnx" in line for line in lines)


def test_errors_stand_in_the_log_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.log"
    assert run(["hef", "info", str(tmp_path / "no.hef"), "-q", "--log-file", str(log)]) == 3
    said = capsys.readouterr().err
    assert "no.hef" in said
    assert said.splitlines()[0] in log.read_text()


def test_a_log_never_goes_into_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(bytes(range(256)))
    assert run(["devices", "--log-file", str(model)]) == 2
    assert "no log of Headrace's" in capsys.readouterr().err
    assert model.read_bytes() == bytes(range(256))
    assert run(["devices", "--log-file", str(tmp_path)]) == 2
    assert run(["devices", "--log-file", str(tmp_path / "none" / "x.log")]) == 3
    os.mkfifo(tmp_path / "pipe")
    assert run(["devices", "--log-file", str(tmp_path / "pipe")]) == 2
    assert run(["devices", "--log-file", os.devnull]) == 0
    assert run(["devices", "-q", "-v"]) == 2


def test_a_result_never_replaces_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_small(tmp_path)
    both = str(tmp_path / "both.har")
    assert run(["parse", str(tmp_path / "small.onnx"), "--har-path", both, "--force", "--log-file", both]) == 2
    assert "--log-file and --har-path name one file" in capsys.readouterr().err
    assert (tmp_path / "both.har").read_text().startswith("# headrace log")
    # Only while it is open: another command may replace it.
    assert run(["parse", str(tmp_path / "small.onnx"), "--har-path", both, "--force"]) == 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_the_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    if name not in ("har", "hef", "parser", "help"):
        assert "--log-file" in text
        assert "--quiet" in text


# --- commands of other tools -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(elsewhere.NAMES))
def test_commands_of_other_tools_say_what_does_their_job(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name not in COMMANDS
    status = run([name, "something", "--option"])
    text = capsys.readouterr().err
    assert status in (2, 11)
    assert ("E-CLI-NOT-BUILT" in text) == (status == 11)
    for command in re.findall(r"headrace ([a-z-]+)", text.split("\n", 1)[1] if "\n" in text else ""):
        assert command in COMMANDS, f"{name} offers `headrace {command}`, which is no command"


def test_help_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help"]) == 0
    assert "  compile " in capsys.readouterr().out
    assert run(["help", "har", "info"]) == 0
    assert capsys.readouterr().out.startswith("Usage: headrace har info")
    assert run(["help", "monitr"]) == 2
