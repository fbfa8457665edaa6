# SPDX-License-Identifier: Apache-2.0
"""Results to stdout: text for people, or one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click


def safe_text(text: str) -> str:
    """``text`` with control characters made visible: names come from files and must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain(value: Any) -> Any:
    """``value`` as JSON data: numpy scalars and arrays become numbers and lists, NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    to_list: Callable[[], Any] | None = getattr(value, "tolist", None)
    return plain(to_list()) if to_list is not None else str(value)


def emit(data: Mapping[str, Any], text: str | Callable[[], str], as_json: bool) -> None:
    """Writes one result: ``data`` as JSON, or ``text`` (a callable is only called when it is needed)."""
    if as_json:
        click.echo(json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False))
        return
    shown = text() if callable(text) else text
    click.echo(safe_text(shown.rstrip("\n")))


def warn(text: str) -> None:
    """One warning line on stderr."""
    click.echo(safe_text(f"warning: {text}"), err=True)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Columns aligned with two spaces between them; columns of numbers are right-aligned."""
    lines = [list(header), *[list(row) for row in rows]] if header else [list(row) for row in rows]
    if not lines:
        return ""
    count = max(map(len, lines))
    padded = [line + [""] * (count - len(line)) for line in lines]
    widths = [max(len(line[i]) for line in padded) for i in range(count)]
    body = padded[1:] if header else padded
    numeric = [bool(body) and all(_is_number(line[i]) for line in body) for i in range(count)]
    text: list[str] = []
    for line in padded:
        cells = [
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric, strict=True)
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "").lstrip("-").isdigit()


def number(value: float, digits: int = 4) -> str:
    """A number for people: ``digits`` significant ones, thousands separated."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and abs(value) < 10 ** (digits - 1):
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{min(decimals, 12)}f}"
    return f"{value:,.0f}"
