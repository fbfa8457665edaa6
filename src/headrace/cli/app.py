# SPDX-License-Identifier: Apache-2.0
"""The command table, loaded lazily, and the one place where errors become text and exit codes."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from headrace.cli import console, elsewhere, interrupts, streams
from headrace.errors import (
    INTERRUPTED,
    Diagnostic,
    HeadraceError,
    InputFileError,
    InternalError,
    UsageError,
    internal_error,
    missing_extra,
    out_of_memory,
    unknown_name,
)
from headrace.text import printable

_COMPLETION = "_HEADRACE_COMPLETE"
#: Optional packages, and the extra that installs each.
EXTRAS = {"jinja2": "sdk", "onnx": "sdk", "onnx_ir": "sdk", "onnxruntime": "host", "PIL": "sdk", "torch": "sdk"}


class Entry(NamedTuple):
    """Where a command lives, what help says of it, and whether it is a familiar spelling of another."""

    module: str
    attribute: str
    help: str
    alias: bool = False


#: The help texts stand here so that `headrace --help` imports no command.
COMMANDS: dict[str, Entry] = {
    "parse": Entry("parse_command", "parse", "Translate a trained network (four families of files) into a HAR."),
    "optimize": Entry("optimize_command", "optimize", "Quantize a HAR with calibration data."),
    "compile": Entry("compile_command", "compile_", "Compile a quantized HAR for a device into a HEF."),
    "build": Entry("build_command", "build", "All of the above at once: model file to HEF."),
    "profile": Entry("profile_command", "profile", "Report on a HAR of any state: layers, accuracy, speed."),
    "compare": Entry("compare_command", "compare", "Tell what differs between two networks."),
    "run": Entry("run_command", "run", "Run a HEF on the virtual device."),
    "benchmark": Entry("benchmark_command", "benchmark", "Device speed (simulated) and host speed of a HEF."),
    "har": Entry("har_command", "har", "Look into a HAR: info, extract."),
    "hef": Entry("hef_command", "hef", "Look into a HEF: info, disassemble."),
    "devices": Entry("devices_command", "devices", "List the virtual devices."),
    "help": Entry("help_command", "help_", "Show the help of a command."),
    "parser": Entry("parse_command", "parser", "parser onnx MODEL: see parse.", alias=True),
    "compiler": Entry("compile_command", "compile_", "See compile.", alias=True),
    "profiler": Entry("profile_command", "profile", "See profile.", alias=True),
    "parse-hef": Entry("hef_command", "parse_hef", "See hef info.", alias=True),
    "scan": Entry("devices_command", "devices", "See devices.", alias=True),
}


class SuggestingGroup(click.Group):
    """A group that answers an unknown command with the names that come nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            if ctx.parent is None and args[0] in elsewhere.NAMES:
                raise elsewhere.error_for(args[0])
            names = self.list_commands(ctx)
            raise UsageError(unknown_name("E-CLI-COMMAND", "command", args[0], names, ctx.command_path))
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """The top group: imports the module of a command only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"headrace.cli.{entry.module}")
        command = getattr(module, entry.attribute)
        assert isinstance(command, click.Command)
        return console.with_common_options(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, alias in (("Commands", False), ("Familiar spellings", True)):
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items() if entry.alias is alias])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from headrace import __version__

        click.echo(f"headrace {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def app() -> None:
    """Headrace: an open dataflow compiler.

    Turns a trained network into an int8 program for a spatial dataflow accelerator and runs that program on a
    virtual device, byte for byte as the quantized emulator predicts.
    """


console.with_common_options(app)


def run(argv: Sequence[str]) -> int:
    """Runs one command line; returns the exit status and never raises.

    Problems go to stderr, as text or, where ``--json`` stands on the command line, as one JSON object.
    """
    arguments = list(argv)
    before_separator = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in before_separator
    console.begin(arguments)
    try:
        return _run(arguments, as_json)
    finally:
        console.end()


def _run(arguments: list[str], as_json: bool) -> int:
    """The command's exit status; everything that it may end by is told of."""
    try:
        return _invoked(arguments)
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except Exception as error:
        if interrupts.seen():  # it is what a library made of the interrupt
            return _interrupted()
        if isinstance(error, BrokenPipeError):  # every OSError of errno EPIPE is one
            return _broken_pipe()
        known = _known(error)
        if known is None and _debugging():
            raise
        return _report(known or _from_bug(error), as_json)


def _invoked(arguments: list[str]) -> int:
    try:
        if _COMPLETION in os.environ:
            app.main(prog_name="headrace")  # prints shell completions and exits
        with app.make_context("headrace", arguments) as context:
            app.invoke(context)
        return _flushed(0)
    except click.exceptions.Exit as finished:
        return _flushed(finished.exit_code)


def _interrupted() -> int:
    _tell("interrupted")
    return INTERRUPTED


def _known(error: Exception) -> HeadraceError | None:
    """What a command ended by as a diagnostic; None for what nobody foresaw."""
    if isinstance(error, HeadraceError):
        return error
    if isinstance(error, click.ClickException):
        return _from_click(error)
    if isinstance(error, OSError):
        return out_of_memory(error) or streams.unprinted(error) or _from_os_error(error)
    return _missing_extra(error) or out_of_memory(error)


def _debugging() -> bool:
    return os.environ.get("HEADRACE_DEBUG", "") not in ("", "0")


def _report(error: HeadraceError, as_json: bool) -> int:
    trace = _trace(error) if isinstance(error, InternalError) or _debugging() else ""
    console.failed(str(error), trace if isinstance(error, InternalError) else "")
    if _debugging():
        _tell(trace)
    _tell(json.dumps(error.as_dict(), indent=2, ensure_ascii=False) if as_json else str(error))
    return error.exit_code


def _trace(error: HeadraceError) -> str:
    """Where an error, or what it stands for, came up."""
    import traceback

    return "".join(traceback.format_tb((error.__cause__ or error).__traceback__)).rstrip()


def _tell(text: str) -> None:
    """Writes to stderr; a stderr that is closed is nobody listening, not a problem."""
    try:
        click.echo(printable(text, kept="\n"), err=True)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def _flushed(status: int) -> int:
    """``status``, once everything written to stdout has really left."""
    error = streams.flush_stdout()
    if error is None or error.errno == errno.EPIPE:
        return status
    return _report(streams.unwritten(error), as_json=False)


def _broken_pipe() -> int:
    """The reader of stdout went away (``headrace ... | head``): stop quietly, as other filters do."""
    streams.leave_stdout()
    return 0


def _from_click(error: click.ClickException) -> HeadraceError:
    """Click's own usage errors as a diagnostic, with suggestions for unknown options."""
    context = getattr(error, "ctx", None)
    path = context.command_path if isinstance(context, click.Context) else "headrace"
    if isinstance(error, click.NoSuchOption) and isinstance(context, click.Context):
        known = [name for param in context.command.get_params(context) for name in (*param.opts, *param.secondary_opts)]
        options = [name for name in known if name.startswith("-")]
        return UsageError(unknown_name("E-CLI-OPTION", "option", error.option_name, options, path))
    message = error.format_message().rstrip(".")
    return UsageError(Diagnostic("E-CLI-USAGE", path, message, levers=(f"{path} --help",)))


def _from_os_error(error: OSError) -> HeadraceError:
    reason = error.strerror or str(error)
    return InputFileError(
        Diagnostic("E-FILE-ACCESS", str(error.filename or ""), "the operating system refused access to a file", reason)
    )


def _missing_extra(error: Exception) -> HeadraceError | None:
    """The error that names the extra to install, when ``error`` is about an optional package."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    package = str(error.name).partition(".")[0]
    return missing_extra(package, EXTRAS[package]) if package in EXTRAS else None


def _from_bug(error: Exception) -> HeadraceError:
    bug = internal_error("headrace", error)
    bug.__cause__ = error
    return bug
