# SPDX-License-Identifier: Apache-2.0
"""One progress bar for a whole command on stderr, with its phases and an estimate of the time that is left.

Shown on a terminal; silent in a pipe, a log, with ``--json`` and with ``-q``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import click

log = logging.getLogger("headrace.cli")


class Progress(Protocol):
    """Called with steps done, steps in all (0: unknown), and what is being done."""

    def __call__(self, done: int, total: int, text: str = "") -> None: ...


class Phase(NamedTuple):
    """A part of a stage: the text that the stage calls it by begins with ``text``; ``share`` of the stage's time."""

    text: str
    share: float


#: Shares of time, measured on the text-direction classifier and YOLOX-Nano. Phases that do not occur are passed, and
#: the bar never goes back; the estimate is as good as these are.
STAGES: dict[str, tuple[float, tuple[Phase, ...]]] = {
    "parse": (5, ()),
    "optimize": (
        85,
        (
            Phase("calibrating", 15), Phase("trying", 2), Phase("freezing", 12), Phase("trying minmax", 7),
            Phase("sensitivity", 5), Phase("freezing", 10), Phase("trying minmax", 5),
            Phase("float means", 4), Phase("correcting biases", 10), Phase("trying bias correction", 5),
            Phase("freezing", 3), Phase("trying minmax", 3), Phase("float means", 2), Phase("correcting biases", 3),
            Phase("trying bias correction", 2), Phase("sensitivity", 2), Phase("correcting biases", 2),
            Phase("trying output-precision", 2), Phase("freezing", 2), Phase("trying channel-copies", 2),
            Phase("second moments", 2), Phase("correcting biases", 2), Phase("trying weight rounding", 2),
            Phase("measuring accuracy", 20),
        ),
    ),
    "compile": (10, ()),
}  # fmt: skip
_WHOLE = 10_000
#: An estimate is shown from this part of the command on, and after so many seconds.
_KNOWN_FROM, _KNOWN_AFTER = 0.05, 3.0


class Course:
    """How far a command has come, from 0 to 1, and never back.

    Args:
        stages: the stages that the command runs, in order.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._spans: dict[str, tuple[float, float]] = {}
        total = sum(STAGES.get(stage, (1.0, ()))[0] for stage in stages)
        start = 0.0
        for stage in stages:
            share = STAGES.get(stage, (1.0, ()))[0] / total
            self._spans[stage] = (start, share)
            start += share
        self.fraction = 0.0
        self._stage, self._phase, self._last = "", -1, ("", 0)

    def advance(self, stage: str, done: int, total: int, text: str) -> float:
        """The fraction after ``done`` of ``total`` steps of what the stage calls ``text``."""
        if stage not in self._spans:
            return self.fraction
        if stage != self._stage:
            self._stage, self._phase, self._last = stage, -1, ("", 0)
        part = done / total if total > 0 else 0.0
        phases = STAGES.get(stage, (1.0, ()))[1]
        if phases:
            part = self._within(phases, done, part, text)
        start, share = self._spans[stage]
        self.fraction = min(1.0, max(self.fraction, start + share * part))
        return self.fraction

    def _within(self, phases: Sequence[Phase], done: int, part: float, text: str) -> float:
        again = text != self._last[0] or done < self._last[1]
        self._last = (text, done)
        if again:
            ahead = range(self._phase + 1, len(phases))
            self._phase = next((i for i in ahead if phases[i].text == text), self._phase)
        if self._phase < 0:
            return 0.0
        whole = sum(phase.share for phase in phases)
        before = sum(phase.share for phase in phases[: self._phase])
        known = phases[self._phase].text == text
        return (before + phases[self._phase].share * (part if known else 1.0)) / whole

    def finish(self, stage: str) -> float:
        """The fraction when a stage has ended."""
        start, share = self._spans.get(stage, (self.fraction, 0.0))
        self.fraction = max(self.fraction, start + share)
        return self.fraction


class _Bar:
    """The bar on the terminal, alive until the command ends."""

    def __init__(self, stages: Sequence[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )  # fmt: skip
        self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
        self._course, self._start = Course(stages), time.monotonic()
        self._task = self._bars.add_task("", total=_WHOLE, left="")
        self._bars.start()

    def show(self, fraction: float, label: str) -> None:
        from rich.markup import escape

        elapsed = time.monotonic() - self._start
        known = fraction >= _KNOWN_FROM and elapsed >= _KNOWN_AFTER
        left = f"about {_duration(elapsed * (1 - fraction) / fraction)} left" if known else ""
        self._bars.update(self._task, completed=fraction * _WHOLE, description=escape(label), left=left)

    def advance(self, stage: str, done: int, total: int, text: str) -> None:
        self.show(self._course.advance(stage, done, total, text), f"{stage}: {text}" if text else stage)

    def finish(self, stage: str) -> None:
        self.show(self._course.finish(stage), stage)

    def close(self) -> None:
        self._bars.stop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


_STAGES, _BAR, _QUIET = "headrace.progress.stages", "headrace.progress.bar", "headrace.quiet"


def expect(*stages: str) -> None:
    """Says which stages this command will run, so that one bar can show them all."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.find_root().meta[_STAGES] = stages


def be_quiet() -> None:
    """No bars in this command."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.find_root().meta[_QUIET] = True


@contextmanager
def progress(title: str, quiet: bool = False) -> Generator[Progress]:
    """The part of the command's bar that one stage fills; the bar goes when the command ends, however it ends."""
    start = time.monotonic()
    context = click.get_current_context(silent=True)
    meta: dict[str, Any] = {} if context is None else context.find_root().meta
    bar: _Bar | None = meta.get(_BAR)
    own = False
    if bar is None and not quiet and not meta.get(_QUIET) and sys.stderr is not None and sys.stderr.isatty():
        stages = meta.get(_STAGES, ())
        bar = _Bar(stages if title in stages else (title,))
        own = context is None or title not in stages
        if context is not None and not own:
            meta[_BAR] = bar
            context.find_root().call_on_close(bar.close)

    def advance(done: int, total: int, text: str = "") -> None:
        if bar is not None:
            bar.advance(title, done, total, text)

    log.info("%s begins", title)
    try:
        advance(0, 0)
        yield advance
        if bar is not None:
            bar.finish(title)
        log.info("%s took %.2f s", title, time.monotonic() - start)
    finally:
        if bar is not None and own:
            bar.close()


__all__ = ["STAGES", "Course", "Progress", "be_quiet", "expect", "progress"]
