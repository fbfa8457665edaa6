# SPDX-License-Identifier: Apache-2.0
"""One deterministic pass over the calibration data: the range of every tensor.

Chunks have a fixed size, each is computed by one thread, and results are merged in chunk order by exact operations
(min, max), so that the figures do not depend on the number of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from headrace.emulator.exact import thread_count
from headrace.emulator.executor import Executor
from headrace.errors import DataError, Diagnostic
from headrace.hn import Array, Layer, Network
from headrace.optimize.options import OptimizeOptions, Progress

CHUNK_BYTES = 64 << 20
CHUNK_FRAMES = 16
R = TypeVar("R")


@dataclass
class Ranges:
    """Smallest and largest value seen per layer name.

    Attributes:
        output: of the layer's output.
        before: in front of its activation, for layers that have one.
    """

    output: dict[str, tuple[float, float]] = field(default_factory=dict)
    before: dict[str, tuple[float, float]] = field(default_factory=dict)

    def merge(self, other: Ranges) -> None:
        for mine, theirs in ((self.output, other.output), (self.before, other.before)):
            for name, (low, high) in theirs.items():
                have = mine.get(name)
                mine[name] = (low, high) if have is None else (min(have[0], low), max(have[1], high))


def chunk_size(network: Network) -> int:
    """Frames per chunk: a function of the network alone, so that no option changes a result."""
    largest = max((math.prod(layer.output_shape[1:]) for layer in network), default=1)
    return max(1, min(CHUNK_FRAMES, CHUNK_BYTES // (8 * largest)))


def worker_count(threads: int | None, batch: int, size: int) -> int:
    """Worker threads: as asked, else one per usable core; no more than ``batch`` frames of chunks of ``size`` allow."""
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads, batch // size))


def in_chunks(
    work: Callable[[int, int], R],
    frames: int,
    size: int,
    options: OptimizeOptions,
    progress: Progress | None,
    text: str,
) -> Generator[R, None, None]:
    """Call ``work(start, stop)`` for consecutive chunks on a pool; yields the results in chunk order.

    At most two results per worker are in flight. torch is held to one thread per chunk: the order of additions
    inside a chunk is then the same whatever the number of workers.
    """
    spans = [(i, min(frames, i + size)) for i in range(0, frames, size)]
    workers = worker_count(options.threads, options.batch, size)
    with thread_count(1), ThreadPoolExecutor(workers, thread_name_prefix="headrace-optimize") as pool:
        waiting: list[tuple[int, Future[R]]] = []
        position = 0
        try:
            while position < len(spans) or waiting:
                while position < len(spans) and len(waiting) < 2 * workers:
                    start, stop = spans[position]
                    waiting.append((stop, pool.submit(work, start, stop)))
                    position += 1
                stop, future = waiting.pop(0)
                result = future.result()
                if progress is not None:
                    progress(stop, frames, text)
                yield result
        finally:
            for _, future in waiting:
                future.cancel()


def collect(
    network: Network, data: Mapping[str, Array], frames: int, options: OptimizeOptions, progress: Progress | None
) -> Ranges:
    """Ranges of every tensor of a float network over the first ``frames`` frames.

    Raises:
        DataError: a layer gives NaN or infinity, naming the first few layers.
    """
    executor = Executor(network, "fp_optimized")

    def work(start: int, stop: int) -> Ranges:
        found = Ranges()

        def see(layer: Layer, before: torch.Tensor | None, output: torch.Tensor) -> None:
            found.output[layer.name] = extremes(output)
            if before is not None:
                found.before[layer.name] = extremes(before)

        executor.visit({name: value[start:stop] for name, value in data.items()}, see)
        return found

    total = Ranges()
    with closing(in_chunks(work, frames, chunk_size(network), options, progress, "calibrating")) as parts:
        for part in parts:
            _merge_finite(total, part)
    return total


def _merge_finite(total: Ranges, part: Ranges) -> None:
    """Merge a chunk's ranges; raises DataError where one of them is not finite."""
    bad = [n for n in part.output if not all(map(math.isfinite, (*part.output[n], *part.before.get(n, ()))))]
    if bad:
        raise DataError(
            Diagnostic(
                "E-DATA-NOT-FINITE",
                bad[0],
                "the float network gives NaN or infinity on the calibration data",
                f"{len(bad)} layers: {', '.join(bad[:5])}",
                "finite values",
                ("check the range of the calibration data", "check the model's weights"),
            )
        )
    total.merge(part)


def extremes(x: torch.Tensor) -> tuple[float, float]:
    """(min, max) of a tensor; NaN in either when there is one inside."""
    low, high = torch.aminmax(x)
    return float(low), float(high)


def evenly_spread(frames: int, count: int) -> Sequence[int]:
    """At most ``count`` frame numbers, evenly spread, ascending, the same every time."""
    if frames <= count:
        return range(frames)
    return [i * frames // count for i in range(count)]
