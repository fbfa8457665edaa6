# SPDX-License-Identifier: Apache-2.0
"""Progress bars on stderr: shown on a terminal, silent in a pipe, a log or with ``--json``."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Called with steps done, steps in all (0: unknown), and what is being done."""

    def __call__(self, done: int, total: int, text: str = "") -> None: ...


def _silent(done: int, total: int, text: str = "") -> None:
    del done, total, text


@contextmanager
def progress(title: str, quiet: bool = False) -> Generator[Progress]:
    """A bar for one stage, removed when the stage ends however it ends."""
    if quiet or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(escape(title), total=None)

        def advance(done: int, total: int, text: str = "") -> None:
            label = escape(f"{title}: {text}" if text else title)
            bars.update(task, completed=done, total=total if total > 0 else None, description=label)

        yield advance
