# SPDX-License-Identifier: Apache-2.0
"""The command line: names, suggestions, exit codes, streams. Stages have their own tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from headrace.cli import app as application
from headrace.cli.app import COMMANDS, run
from headrace.cli.options import ManyCommand, parse_shapes
from headrace.cli.output import number, plain, table
from headrace.cli.progress import progress
from headrace.errors import CapacityError, Diagnostic, UsageError

ROOT = Path(__file__).resolve().parents[2]


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def temporary_command(monkeypatch: pytest.MonkeyPatch, body: object) -> None:
    """Replaces `headrace devices` by a command that runs ``body``."""

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> None:
        del as_json
        body()  # type: ignore[operator]

    module = type(sys)("headrace.cli.temporary_command")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "headrace.cli.temporary_command", module)
    monkeypatch.setitem(COMMANDS, "devices", application.Entry("temporary_command", "command", ""))


# --- names -------------------------------------------------------------------------------------------------------


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name} " in text
        assert entry.help[:30] in text


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: headrace {name}")


FAMILIAR = {
    ("parser", "onnx"): "--net-name --hw-arch --har-path --start-node-names --end-node-names --tensor-shapes -y --json "
    "--parsing-report-path",
    (
        "optimize",
    ): "--hw-arch --calib-set-path --use-random-calib-set --calib-random-max --model-script --output-har-path "
    "--min-snr --json",
    ("compiler",): "--hw-arch --model-script --auto-model-script --output-dir --output-har-path --json",
    ("profiler",): "--out-path --no-browser --hw-arch --json",
    ("run",): "-c --frames-count -t --batch-size --input-files --output-dir --quantized --user-format-type --json",
    ("benchmark",): "-t --batch-size --by-layer --json",
    ("build",): "--calib-set -o --hw-arch --model-script --json",
    ("har", "extract"): "--auto-model-script-path",
}


@pytest.mark.parametrize("path", sorted(FAMILIAR))
def test_familiar_options_exist(path: tuple[str, ...]) -> None:
    group: click.Command = application.app
    context = click.Context(group)
    for name in path:
        assert isinstance(group, click.Group)
        found = group.get_command(context, name)
        assert found is not None
        group = found
    options = {name for parameter in group.params for name in parameter.opts}
    assert set(FAMILIAR[path].split()) <= options


@pytest.mark.parametrize(
    ("arguments", "code", "suggestion"),
    [
        (["complie"], "E-CLI-COMMAND", "'compile'"),
        (["har", "inof", "x.har"], "E-CLI-COMMAND", "'info'"),
        (["hef", "disasemble", "x.hef"], "E-CLI-COMMAND", "'disassemble'"),
        (["parser", "onxn", "m"], "E-CLI-COMMAND", "'onnx'"),
        (["optimize", "x.har", "--calib-path", "y"], "E-CLI-OPTION", "'--calib-set-path'"),
        (["parse", "m.onnx", "--end-node-name", "a"], "E-CLI-OPTION", "'--end-node-names'"),
        (["parse"], "E-CLI-USAGE", "headrace parse --help"),
        (["optimize", "x.har", "--min-snr", "loud"], "E-CLI-USAGE", "--help"),
    ],
)
def test_wrong_usage_is_answered(
    arguments: list[str], code: str, suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"{code}: headrace")
    assert suggestion in captured.err.split("try:")[1]
    assert run([*arguments, "--json"]) == 2
    data = json.loads(capsys.readouterr().err)
    assert data["exit_code"] == 2
    assert data["diagnostics"][0]["code"] == code


# --- errors ------------------------------------------------------------------------------------------------------


def test_headrace_errors_become_text_or_json_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        raise CapacityError(Diagnostic("E-X", "net/\x1b[31mconv1", "too big", "2", "1"), report={"need": 2})

    temporary_command(monkeypatch, body)
    assert run(["devices"]) == 8
    text = capsys.readouterr()
    assert (text.out, "\x1b" in text.err, "too big" in text.err) == ("", False, True)
    assert run(["devices", "--json"]) == 8
    assert json.loads(capsys.readouterr().err)["report"] == {"need": 2}


def test_bugs_are_said_to_be_bugs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise KeyError("secret")

    temporary_command(monkeypatch, body)
    monkeypatch.delenv("HEADRACE_DEBUG", raising=False)
    assert run(["devices"]) == 70
    text = capsys.readouterr().err
    assert "E-INTERNAL" in text
    assert "Traceback" not in text
    monkeypatch.setenv("HEADRACE_DEBUG", "1")
    with pytest.raises(KeyError):
        run(["devices"])


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise KeyboardInterrupt

    temporary_command(monkeypatch, body)
    assert run(["devices"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_operating_system_errors_have_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary_command(monkeypatch, lambda: Path("/no/such/place").read_bytes())
    assert run(["devices"]) == 3
    assert "E-FILE-ACCESS: /no/such/place" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import headrace.cli as c; c.main(['--help'])"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("caught", ["()", "BaseException"], ids=["plain", "made another error of"])
def test_a_real_interrupt_ends_with_130(caught: str) -> None:
    program = (
        "import sys, time\n"
        "from headrace import cli\n"
        "from headrace.cli import app\n"
        "import click\n"
        "@click.command()\n"
        "def command():\n"
        "    print('ready', flush=True)\n"
        "    try:\n"
        "        time.sleep(60)\n"
        f"    except {caught}:\n"
        "        raise TypeError('expected a message argument')\n"
        "module = type(sys)('m'); module.command = command\n"
        "sys.modules['headrace.cli.m'] = module\n"
        "app.COMMANDS['devices'] = app.Entry('m', 'command', '')\n"
        "cli.main(['devices'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "interrupted"


# --- options that take several values ------------------------------------------------------------------------------


@click.command(cls=ManyCommand)
@click.argument("model")
@click.option("--names", "-n", multiple=True)
@click.option("--flag", is_flag=True)
def _many(model: str, names: tuple[str, ...], flag: bool) -> None:
    click.echo(json.dumps([model, names, flag]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["m", "--names", "a", "b", "/c"], ["m", ["a", "b", "/c"], False]),
        (["m", "--names", "a", "b", "--flag"], ["m", ["a", "b"], True]),
        (["m", "-n", "a", "--names", "b", "c"], ["m", ["a", "b", "c"], False]),
        (["--names", "a", "b", "--", "m"], ["m", ["a", "b"], False]),
        (["--names", "a", "--flag", "m"], ["m", ["a"], True]),
        (["m", "--names=a"], ["m", ["a"], False]),
        (["m"], ["m", [], False]),
    ],
)
def test_several_values_after_one_option(arguments: list[str], expected: list[object]) -> None:
    result = CliRunner().invoke(_many, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["[1,3,8,8]"], [1, 3, 8, 8]),
        (["1,3,8,8"], [1, 3, 8, 8]),
        (["a=[1, 3]", "b:0=[-1,4]"], {"a": [1, 3], "b:0": [-1, 4]}),
        (["a=[1,", "3]", "/x/y=[2]"], {"a": [1, 3], "/x/y": [2]}),
    ],
)
def test_shapes(texts: list[str], expected: object) -> None:
    assert parse_shapes(texts) == expected


@pytest.mark.parametrize(
    "texts",
    [["[]"], ["[0]"], ["[-2]"], ["x"], ["[1,2"], ["[1][2]"], ["a=[1]", "a=[2]"], ["[1]", "[2]"], ["[1]", "a=[1]"],
     ["[9999999999]"], ["[1,1,1,1,1,1,1,1,1]"], ["=[1]"]],
)  # fmt: skip
def test_wrong_shapes(texts: list[str]) -> None:
    if texts == ["[1,2"]:
        assert parse_shapes(texts) == [1, 2]
        return
    with pytest.raises(UsageError):
        parse_shapes(texts)


# --- output --------------------------------------------------------------------------------------------------------


def test_plain_data() -> None:
    import numpy as np

    data = {
        "a": np.float32(1.5),
        "b": [np.nan, np.inf, np.int64(3)],
        "c": np.arange(3),
        4: (True, None, "x"),
        "p": Path("q"),
    }
    assert plain(data) == {"a": 1.5, "b": [None, None, 3], "c": [0, 1, 2], "4": [True, None, "x"], "p": "q"}


def test_table_and_numbers() -> None:
    assert table([("conv1", "1,000"), ("a", "7")], ("layer", "n")) == "layer      n\nconv1  1,000\na          7"
    assert table([]) == ""
    assert [number(x) for x in (0.0, 1234567.8, 12.3456, 0.00123456, float("inf"))] == [
        "0",
        "1,234,568",
        "12.35",
        "0.001235",
        "inf",
    ]


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("x") as advance:
        advance(1, 2, "y")
    assert capsys.readouterr() == ("", "")


def test_missing_files_and_other_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "model.pb").write_bytes(b"\x0a\x10\x0a\x04conv")
    for arguments, status in (
        (["har", "info", str(tmp_path / "no.har")], 3),
        (["hef", "info", str(tmp_path / "no.hef")], 3),
        (["hef", "disassemble", str(tmp_path)], 3),
        (["parse", "model.tflite"], 3),
        (["parse", "none.h5"], 3),
        (["parse", "model.h5"], 3),
        (["parser", "tf", "model.pb"], 3),
        (["profile", "x.har", "--out-path", "r.html"], 3),
        (["profile", "x.har", "--out-path", "r.xyz"], 2),
    ):
        assert run(arguments) == status, arguments
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("E-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.h5", "model.pb"]


def test_version() -> None:
    import headrace

    result = shell("--version")
    assert (result.returncode, result.stdout) == (0, f"headrace {headrace.__version__}\n")


def test_an_interrupt_that_python_drops_comes_again() -> None:
    """In a callback whose errors go nowhere: the command ends all the same, and nothing of it is printed."""
    program = (
        "import os, signal, sys, time, weakref\n"
        "from headrace import cli\n"
        "from headrace.cli import app\n"
        "import click\n"
        "class Thing: pass\n"
        "@click.command()\n"
        "def command():\n"
        "    thing = Thing()\n"
        "    seen = weakref.ref(thing, lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(1)))\n"
        "    del thing\n"
        "    time.sleep(60)\n"
        "module = type(sys)('m'); module.command = command\n"
        "sys.modules['headrace.cli.m'] = module\n"
        "app.COMMANDS['devices'] = app.Entry('m', 'command', '')\n"
        "cli.main(['devices'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
