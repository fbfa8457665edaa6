# SPDX-License-Identifier: Apache-2.0
"""How much data is kept in memory."""

from __future__ import annotations

import os

from headrace.errors import DataError, Diagnostic

MAX_BYTES = 16 << 30


def check_memory(size: int, where: str, levers: tuple[str, ...]) -> None:
    """Raises DataError when an array of this many bytes would not fit in a good part of this computer's memory."""
    limit = memory_limit()
    if size > limit:
        rule, got = "the data do not fit in memory", f"{size} bytes"
        raise DataError(Diagnostic("E-DATA-TOO-LARGE", where, rule, got, f"≤ {limit} bytes", levers))


def memory_limit() -> int:
    """Bytes of data that are kept in memory: half of what this computer has, at most :data:`MAX_BYTES`."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not everywhere
        return MAX_BYTES
    return min(MAX_BYTES, physical // 2) if physical > 0 else MAX_BYTES
