# SPDX-License-Identifier: Apache-2.0
"""How much a command says: ``-q``, ``-v`` and ``--log-file``, which every command takes.

Results go to stdout whatever is asked. Warnings, notes and times go through :mod:`logging` (the logger ``headrace``):
to stderr warnings, with ``-v`` notes and times too, with ``-q`` neither; to the log file all of them.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from headrace.cli.progress import be_quiet
from headrace.errors import Diagnostic, UsageError
from headrace.text import printable

log = logging.getLogger("headrace")
_FIRST_WORDS = "# headrace log"
_COMMON = "headrace_common"
#: The command line that runs, for the log.
_arguments: list[str] = []


class _Terminal(logging.Handler):
    """Lines on stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        try:
            click.echo(printable(f"{prefix}{record.getMessage()}", kept="\n"), err=True)
        except (OSError, ValueError):
            pass  # nobody listens, which is no reason to stop


class _LogFile(logging.Handler):
    """Lines with time and level in a file. Where it can no longer be written to, only the log ends."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(logging.DEBUG)
        self._file = file
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.write(printable(self.format(record), kept="\n") + "\n")
            self._file.flush()
        except OSError as error:
            log.removeHandler(self)
            log.warning("the log file ends here: %s", error.strerror or error)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass
        super().close()


def begin(arguments: Sequence[str]) -> None:
    """Sets up what a command line says before its options are known: warnings on stderr, nothing in a file."""
    end()
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(_Terminal(logging.WARNING))
    _arguments[:] = arguments


def end() -> None:
    """Closes what :func:`begin` and the options opened."""
    for handler in list(log.handlers):
        if isinstance(handler, _Terminal | _LogFile):
            log.removeHandler(handler)
            handler.close()
    log.propagate = True


def failed(text: str, trace: str) -> None:
    """Notes an error in the log file; the terminal has been told already."""
    for handler in log.handlers:
        if isinstance(handler, _LogFile):
            handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, f"{text}\n{trace}".rstrip(), (), None))


def _terminal() -> logging.Handler | None:
    return next((handler for handler in log.handlers if isinstance(handler, _Terminal)), None)


def _set_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    handler = _terminal()
    if value and handler is not None:
        be_quiet()
        if handler.level < logging.WARNING:
            raise UsageError(Diagnostic("E-CLI-USAGE", "-q", "this contradicts -v", need="one of the two"))
        handler.setLevel(logging.CRITICAL)


def _set_verbose(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    handler = _terminal()
    if value and handler is not None:
        if handler.level > logging.WARNING:
            raise UsageError(Diagnostic("E-CLI-USAGE", "-v", "this contradicts -q", need="one of the two"))
        handler.setLevel(logging.INFO)


def _set_log_file(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None or any(isinstance(handler, _LogFile) for handler in log.handlers):
        return
    log.addHandler(_LogFile(_open_log(path)))
    from headrace import __version__

    python = sys.version.split()[0]
    log.debug("headrace %s, Python %s, %s: headrace %s", __version__, python, sys.platform, shlex.join(_arguments))


def _open_log(path: Path) -> TextIO:
    """A log file to add to: a new one, or one that began as a log. Nothing else is ever written into."""
    from headrace.hn.outputs import FileKind, open_to_add

    kind = FileKind("log", (".log", ""), lambda handle: handle.read(len(_FIRST_WORDS)) == _FIRST_WORDS.encode())
    return open_to_add("--log-file", path, kind, _FIRST_WORDS)


def with_common_options(command: click.Command) -> click.Command:
    """The command, and its own subcommands, with ``-q``, ``-v`` and ``--log-file``."""
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        with_common_options(child)
    if not any(getattr(parameter, _COMMON, False) for parameter in command.params):
        taken = {name for parameter in command.params for name in parameter.opts}
        for option in _options():
            option.opts = [name for name in option.opts if name not in taken]
            setattr(option, _COMMON, True)
            command.params.append(option)
    return command


def _options() -> list[click.Option]:
    shared: dict[str, Any] = {"expose_value": False, "is_eager": True}
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, callback=_set_quiet, help="No progress bar and no warnings.", **shared
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, callback=_set_verbose, help="Also show notes and times of stages.",
            **shared,
        ),
        click.Option(
            ["--log-file"], type=click.Path(path_type=Path), metavar="FILE", callback=_set_log_file,
            help="Add everything that is said to this file, with times.", **shared,
        ),
    ]  # fmt: skip


__all__ = ["begin", "end", "failed", "log", "with_common_options"]
