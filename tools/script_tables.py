# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/guide/model-scripts.md from the commands: the page cannot disagree with the code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from headrace.script.arguments import Argument
from headrace.script.fates import OTHER, Fate
from headrace.script.vocabulary import FORMS, fate_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guide" / "model-scripts.md"
_SHORT = {
    Fate.ACTS: "acts",
    Fate.ANYWAY: "anyway",
    Fate.HINT: "hint",
    Fate.LEFT_OUT: "left out",
    Fate.REFUSED: "refused",
}


def fates() -> str:
    """What becomes of each command and value."""
    lines = ["| command | " + " | ".join(_SHORT.values()) + " |", "|---" * (len(_SHORT) + 1) + "|"]
    rows = list(fate_table())
    for row in FORMS:
        cells = [
            ", ".join(f"`{what}`" if what else "yes" for name, what, one in rows if name == row and one is fate)
            for fate in _SHORT
        ]
        lines.append(f"| `{row}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments() -> str:
    """What the commands that act read: type or range, default and meaning of each argument."""
    lines = ["| command | argument | takes | default | meaning |", "|---|---|---|---|---|"]
    for row, form in FORMS.items():
        for one in (form.arguments or {}).values() if form.reads is not None else ():
            if one.doc and _read(one):
                lines.append(f"| `{row}` | `{one.key}` | {one.type.text} | {_default(one)} | {one.doc} |")
    return "\n".join(lines)


def _read(one: Argument) -> bool:
    """Whether some value of it does something."""
    return one.fates.get(OTHER, Fate.ACTS) is not Fate.HINT


def _default(one: Argument) -> str:
    if one.default is dataclasses.MISSING:
        return "required"
    words = {True: "`enabled`", False: "`disabled`", None: ""}
    return words[one.default] if one.default is None or isinstance(one.default, bool) else f"`{one.default}`"


PARTS: dict[str, Callable[[], str]] = {"fates": fates, "arguments": arguments}


def page(text: str) -> str:
    """The page with its tables as they are now, each between two comments that name it."""
    for name, table in PARTS.items():
        begin, end = f"<!-- tools/script_tables.py: {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{PAGE}: there is no place for the table {name!r}")
        text = f"{before}{begin}\n\n{table()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
