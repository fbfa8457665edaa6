# SPDX-License-Identifier: Apache-2.0
"""What all measurements share: where results go, and medians of interleaved runs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
THREADS = 2


def interleaved(
    functions: Mapping[str, Callable[[], Any]], rounds: int, inner: int = 1, budget: float | None = None
) -> dict[str, float]:
    """Median seconds of each function; see :func:`samples`."""
    return {name: statistics.median(v) for name, v in samples(functions, rounds, inner, budget).items()}


def samples(
    functions: Mapping[str, Callable[[], Any]], rounds: int, inner: int = 1, budget: float | None = None
) -> dict[str, list[float]]:
    """Seconds of every call of each function; one call of each per round, so that noise hits all alike.

    Args:
        budget: seconds; rounds end early (after three at least) when all functions together have used them.
    """
    for function in functions.values():
        function()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    begin = time.perf_counter()
    for k in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(inner):
                function()
            taken[name].append((time.perf_counter() - start) / inner)
        if budget is not None and k >= 2 and time.perf_counter() - begin > budget:
            break
    return taken


def bursts(
    functions: Mapping[str, Callable[[], Any]], budget: float, burst: float = 0.05, rest: float = 0.03
) -> dict[str, list[float]]:
    """Seconds of every call of each function, called back to back in bursts that take turns.

    Before a burst the machine rests, so that threads of the one before, which spin for a while after their last call,
    do not take a processor from it; then one call warms up, uncounted.

    Args:
        budget: seconds for all; every function has three bursts at least.
        burst: seconds of one burst; three calls at least.
        rest: seconds before each burst.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    begin, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - begin < budget:
        rounds += 1
        for name, function in functions.items():
            time.sleep(rest)
            function()
            start, calls = time.perf_counter(), 0
            while calls < 3 or time.perf_counter() - start < burst:
                before = time.perf_counter()
                function()
                taken[name].append(time.perf_counter() - before)
                calls += 1
    return taken


def zoo_or_exit() -> Path:
    """The zoo of real models; ends the program with a sentence where there is none."""
    from conftest import zoo_path

    zoo = zoo_path()
    if zoo is None:
        sys.exit("bench needs the zoo of real models: set HEADRACE_ZOO")
    return zoo


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write_results(name: str, results: Mapping[str, Any], text: str) -> None:
    """bench/out/NAME.json and NAME.md."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / f"{name}.md").write_text(text)
