# SPDX-License-Identifier: Apache-2.0
"""The standard streams as a command finds them: closed, full, or read by somebody who goes away.

A stream that is closed leaves its descriptor free, and the next file that is opened (a result, say) would get it; so
each is given something to stand for it. What is written to a closed stdout fails, and the command says so; nobody
listens at a closed stderr, and that is no problem.
"""

from __future__ import annotations

import errno
import os
import sys

import click

from headrace.errors import Diagnostic, HeadraceError, InputFileError


def secure() -> None:
    """Makes stdin, stdout and stderr usable, and text that their encoding lacks writable."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Opened in order, each gets the lowest free number, its own. Writing to the one for stdout fails.
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115  ours to the end
        else:
            getattr(sys, name).reconfigure(errors="replace")


def flush_stdout() -> OSError | None:
    """The error with which what was printed did not leave; afterwards nothing is left to fail when Python ends."""
    try:
        sys.stdout.flush()
    except OSError as error:
        leave_stdout()
        return error
    return None


def leave_stdout() -> None:
    """Lets what is still to be printed vanish."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def unprinted(error: OSError) -> HeadraceError | None:
    """As :func:`unwritten`, where it was printing that failed; None for any other error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code is not click.echo.__code__:
        return None
    leave_stdout()
    return unwritten(error)


def unwritten(error: OSError) -> HeadraceError:
    """The error for a result that could not be printed."""
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
    rule, need = "the result could not be printed; files that the command writes are there", "an open stdout"
    return InputFileError(Diagnostic("E-STDOUT", "stdout", rule, reason, need))
