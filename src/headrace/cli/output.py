# SPDX-License-Identifier: Apache-2.0
"""Results to stdout: text for people, or one JSON object."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import click

from headrace.text import printable, table
from headrace.typeguards import is_mapping

_log = logging.getLogger("headrace.cli")


def plain(value: Any) -> Any:
    """``value`` as JSON data: numpy scalars and arrays become numbers and lists, NaN and infinities become null."""
    if is_mapping(value):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    to_list: Callable[[], Any] | None = getattr(value, "tolist", None)
    return plain(to_list()) if to_list is not None else str(value)


def json_bytes(value: Any) -> bytes:
    """A report as a JSON file."""
    return (json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n").encode()


def emit(data: Mapping[str, Any], text: str | Callable[[], str], as_json: bool) -> None:
    """Writes one result: ``data`` as JSON, or ``text`` (a callable is only called when it is needed)."""
    if as_json:
        click.echo(json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False))
        return
    shown = text() if callable(text) else text
    click.echo(printable(shown.rstrip("\n"), kept="\n"))


def warn(text: str) -> None:
    """One warning line: on stderr unless that is quiet, and in the log file."""
    _log.warning("%s", text)


def number(value: float, digits: int = 4) -> str:
    """A number for people: ``digits`` significant ones, thousands separated."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and abs(value) < 10 ** (digits - 1):
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{min(decimals, 12)}f}"
    return f"{value:,.0f}"


__all__ = ["emit", "number", "plain", "table", "warn"]
