# SPDX-License-Identifier: Apache-2.0
"""Remarks and problems about many files, one line per kind with a count."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable

from headrace.errors import DataWarning, Diagnostic
from headrace.text import printable


class Notes:
    """Remarks about data, one line per kind, in the order in which the kinds were met."""

    def __init__(self) -> None:
        self._plain: list[str] = []
        self._kinds: dict[str, tuple[int, str]] = {}

    def say(self, text: str) -> None:
        """A remark that stands for itself."""
        if text not in self._plain:
            self._plain.append(text)

    def count(self, kind: str, where: str, what: str = "picture") -> None:
        """One more file or frame of a kind: The line is ``"what: kind"``, with the number and the first."""
        key = f"{what}\0{kind}"
        number, first = self._kinds.get(key, (0, printable(where)))
        self._kinds[key] = (number + 1, first)

    def lines(self) -> list[str]:
        counted: list[str] = []
        for key, (number, first) in self._kinds.items():
            what, _, kind = key.partition("\0")
            place = f"first {first}" if number > 1 else first
            counted.append(f"{number} {what}{'s' if number > 1 else ''}: {kind} ({place})")
        return self._plain + counted

    def warn(self) -> None:
        """Every line as a :class:`headrace.errors.DataWarning` at the place outside this package that called it."""
        level, frame = 1, inspect.currentframe()
        while (
            frame is not None
            and frame.f_back is not None
            and frame.f_globals.get("__name__", "").startswith("headrace.")
        ):
            level, frame = level + 1, frame.f_back
        for line in self.lines():
            warnings.warn(line, DataWarning, stacklevel=level)


def problem_text(problem: Diagnostic) -> str:
    """A problem that is not an error here, in one line with its numbers."""
    levers = f"; {problem.levers[0]}" if problem.levers else ""
    return f"{problem.where}: {problem.rule}: got {problem.got}, need {problem.need}{levers} ({problem.code})"


def grouped(problems: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Problems of one kind as one, with how many there are and the first of them."""
    kinds: dict[tuple[object, ...], list[Diagnostic]] = {}
    for problem in problems:
        kinds.setdefault((problem.code, problem.rule, problem.need, problem.levers), []).append(problem)
    result: list[Diagnostic] = []
    for same in kinds.values():
        first = same[0]
        if len(same) == 1:
            result.append(first)
            continue
        where = f"{len(same)} files, first {first.where}"
        got = list(dict.fromkeys(p.got for p in same if p.got))
        text = ", ".join(got[:3]) + (f" and {len(got) - 3} others" if len(got) > 3 else "")
        result.append(Diagnostic(first.code, where, first.rule, text, first.need, first.levers))
    return result
