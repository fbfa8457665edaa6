# SPDX-License-Identifier: Apache-2.0
"""JSON from files, without trust: what is read here can also be written again, and costs bounded memory and depth."""

from __future__ import annotations

import json
import math
from typing import Any

MAX_TEXT_BYTES = 128 << 20
MAX_VALUES = 2_000_000  # a value of two characters may cost 100 bytes of memory
MAX_DEPTH = 64
MAX_DIGITS = 40


def count_values(data: bytes) -> int:
    """At least the number of values in the text, from its bytes alone."""
    return data.count(b",") + data.count(b"[") + data.count(b"{") + data.count(b":")


def parse(data: bytes) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it is not UTF-8 or not JSON, has a key twice, a number that is not finite or of more than 40
            digits, half a surrogate pair, more than 64 levels or 2 million values.
    """
    if len(data) > MAX_TEXT_BYTES or count_values(data) > MAX_VALUES:
        raise ValueError(f"the text is too large: {len(data)} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth_and_text(value)
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too large")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in [k for k, _ in pairs[:i]][:1000])
        raise ValueError(f"the key {twice[:80]!r} stands twice")
    return found


def _check_depth_and_text(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if not item.isascii():
                    item.encode("utf-8")  # UnicodeEncodeError, a ValueError: half a surrogate pair
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
