# SPDX-License-Identifier: Apache-2.0
"""What a network of the host may take, in time and memory, when it is loaded and run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from headrace.errors import Diagnostic, UsageError

#: Environment variables: seconds of one call of a network (0: no limit); bytes that it may take beyond being loaded.
SECONDS_VARIABLE, BYTES_VARIABLE = "HEADRACE_HOST_SECONDS", "HEADRACE_HOST_BYTES"
DEFAULT_SECONDS = 600.0
#: Of the memory that is free: the results are in two processes.
_SHARE = 0.5
_LEAST_BYTES = 256 << 20
_UNKNOWN_BYTES = 4 << 30
_CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def call_seconds() -> float:
    """Seconds that one call of a network may take; infinity: no limit.

    Raises:
        UsageError: the environment variable is no number.
    """
    given = _given(SECONDS_VARIABLE)
    return DEFAULT_SECONDS if given is None else (given or math.inf)


def call_bytes() -> int:
    """Bytes that one call of a network may take: half of the memory that is free, where nothing else is said.

    Raises:
        UsageError: the environment variable is no number.
    """
    given = _given(BYTES_VARIABLE)
    if given is not None:
        return int(min(given, 1 << 62)) or 1 << 62
    return max(_LEAST_BYTES, int(min(_free(), default=_UNKNOWN_BYTES) * _SHARE))


def bound_memory(more: int, process: int = 0) -> None:
    """Bound the memory of a process to what it has now and so many bytes, where the system has such bounds (Linux).

    Args:
        more: bytes.
        process: its number; 0: this one.
    """
    try:
        import resource

        now = int(Path(f"/proc/{process or 'self'}/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.prlimit(process, resource.RLIMIT_CORE, (0, 0))
        hard = resource.prlimit(process, resource.RLIMIT_AS)[1]
        limit = now + more if hard == resource.RLIM_INFINITY else min(now + more, hard)
        resource.prlimit(process, resource.RLIMIT_AS, (limit, hard))
    except (ImportError, AttributeError, OSError, ValueError, OverflowError):
        return


def _given(variable: str) -> float | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        rule, need = "the environment variable is no limit", "a number ≥ 0; 0: no limit"
        raise UsageError(Diagnostic("E-HOST-LIMIT", variable, rule, repr(text), need, (f"unset {variable}",)))
    return number


def _free() -> Iterator[int]:
    """Memory that is free: of the machine, of the control group."""
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass  # another system
    for limit, used in _CGROUPS:
        try:
            folder = Path("/sys/fs/cgroup")
            yield max(0, int((folder / limit).read_text("ascii")) - int((folder / used).read_text("ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue


__all__ = ["BYTES_VARIABLE", "DEFAULT_SECONDS", "SECONDS_VARIABLE", "bound_memory", "call_bytes", "call_seconds"]
