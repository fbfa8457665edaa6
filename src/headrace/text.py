# SPDX-License-Identifier: Apache-2.0
"""Text for people: names that cannot steer a terminal, and tables that fit one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

#: Columns that a table may take. Full names and numbers are in the data (``--json``).
WIDTH = 100
_GAP = "  "
_NARROWEST = 12
_SHORTEST_LINE = 24


def printable(text: str, kept: str = "") -> str:
    """``text`` as every output takes it, with all that a terminal might obey made visible.

    Names come from files and must not steer the terminal; bytes of a name that are no UTF-8 are replaced too.

    Args:
        text: a name or one line, by default.
        kept: characters that stay although they steer: ``"\\n"`` for text of several lines.
    """
    return "".join(c if c.isprintable() or c in kept else "\N{REPLACEMENT CHARACTER}" for c in text)


def layer_name(name: str) -> str:
    """The name of a layer without that of its network."""
    return name.partition("/")[2] or name


def shortened(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, without its middle: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = max(1, (width - 1) * 2 // 3)
    return text[: width - 1 - tail] + "…" + text[-tail:]


def table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), left: int | None = None, rule: bool = False
) -> str:
    """Columns with two spaces between them, in at most :data:`WIDTH` characters where that can be had.

    Where a table is too wide, a last column of text continues on further lines; then the widest columns of text are
    shortened. Columns of numbers are always whole.

    Args:
        rows: cells; short rows are filled with empty ones.
        header: titles of the columns.
        left: so many columns are aligned left and the others right; by default columns of numbers are aligned right.
        rule: a line of dashes below the header.
    """
    lines = [list(header), *[list(row) for row in rows]] if header else [list(row) for row in rows]
    if not lines:
        return ""
    count = max(map(len, lines))
    padded = [line + [""] * (count - len(line)) for line in lines]
    body = padded[1:] if header else padded
    numbers = [_is_column_of_numbers([line[i] for line in body]) for i in range(count)]
    right = numbers if left is None else [i >= left for i in range(count)]
    padded = _fitted(padded, numbers, wraps=not right[-1])
    widths = [max(len(part) for line in padded for part in line[i].split("\n")) for i in range(count)]
    if header and rule:
        padded.insert(1, ["-" * width for width in widths])
    return "\n".join(line for cells in padded for line in _lines(cells, widths, right))


def _is_column_of_numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(
        not c.strip("-+% ") or c.replace(",", "").replace(".", "").lstrip("-").isdigit() for c in cells
    )


def _fitted(lines: list[list[str]], numbers: Sequence[bool], wraps: bool) -> list[list[str]]:
    """The cells, with a last column of text broken into lines, or any text shortened, until the table fits."""
    count = len(numbers)
    widths = [max(len(line[i]) for line in lines) for i in range(count)]
    excess = sum(widths) + len(_GAP) * (count - 1) - WIDTH
    if excess <= 0:
        return lines
    last = count - 1
    if wraps and not numbers[last] and widths[last] - excess >= _SHORTEST_LINE:
        width = widths[last] - excess
        return [[*line[:last], "\n".join(_wrapped(line[last], width))] for line in lines]
    while excess > 0:
        widest = max((i for i in range(count) if not numbers[i]), key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            break
        taken = min(excess, widths[widest] - _NARROWEST)
        others = [widths[i] for i in range(count) if i != widest and not numbers[i]]
        if others and max(others) > _NARROWEST:
            taken = min(taken, max(1, widths[widest] - max(others)))
        widths[widest] -= taken
        excess -= taken
    return [
        [cell if n else shortened(cell, w) for cell, w, n in zip(line, widths, numbers, strict=True)] for line in lines
    ]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width``; a word or path that is longer stays whole, so that it can be copied."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _lines(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    parts = [cell.split("\n") for cell in cells]
    lines: list[str] = []
    for row in range(max(map(len, parts))):
        shown = [part[row] if row < len(part) else "" for part in parts]
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(shown, widths, right, strict=True)]
        lines.append(_GAP.join(padded).rstrip())
    return lines
