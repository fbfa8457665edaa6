# SPDX-License-Identifier: Apache-2.0
"""The one loop over frames: work on consecutive chunks, on a pool of workers, with the results in their order.

What comes of it does not depend on the pool: a chunk's work sees its own frames alone and gives everything back as its
result, and the caller takes the results in the order of the chunks, whichever is done first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent import futures
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from headrace.emulator.exact import thread_count
from headrace.hn import Array, Network
from headrace.optimize.options import OptimizeOptions, Progress

CHUNK_BYTES = 64 << 20
CHUNK_FRAMES = 16
R = TypeVar("R")

#: Makes a pool of so many workers; what it takes is done with at the end of its context. Pools of other processes or
#: machines hold torch to one thread there themselves.
Pool = Callable[[int], futures.Executor]


def thread_pool(workers: int) -> futures.Executor:
    """Threads of this process, the pool where nothing else is asked for."""
    return futures.ThreadPoolExecutor(workers, thread_name_prefix="headrace-optimize")


@dataclass(frozen=True)
class ChunkRunner:
    """Runs work on chunks of frames.

    Attributes:
        batch: most frames in flight at once; at least one chunk is.
        threads: workers; ``None``: one per usable core.
        progress: called with (frames done, all frames, text) behind every chunk.
        pool: makes the workers.
    """

    batch: int = 64
    threads: int | None = None
    progress: Progress | None = None
    pool: Pool = thread_pool

    @classmethod
    def of(cls, options: OptimizeOptions, progress: Progress | None, pool: Pool = thread_pool) -> ChunkRunner:
        return cls(options.batch, options.threads, progress, pool)

    @property
    def quiet(self) -> ChunkRunner:
        """The same without progress, for work that is part of some other."""
        return replace(self, progress=None)

    def workers(self, size: int) -> int:
        """How many work at once on chunks of ``size`` frames: no more than ``batch`` allows."""
        threads = self.threads
        if threads is None:
            threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(threads, self.batch // size))

    def results(self, work: Callable[[int, int], R], frames: int, size: int, text: str) -> Generator[R]:
        """Call ``work(start, stop)`` for consecutive chunks of ``size`` of so many frames; yields in chunk order.

        At most two results per worker are in flight. torch is held to one thread per chunk: the order of additions
        inside a chunk is then the same whatever the number of workers. Closing the generator cancels what has not yet
        begun.
        """
        spans = [(i, min(frames, i + size)) for i in range(0, frames, size)]
        workers = self.workers(size)
        with thread_count(1), self.pool(workers) as pool:
            waiting: list[tuple[int, futures.Future[R]]] = []
            position = 0
            try:
                while position < len(spans) or waiting:
                    while position < len(spans) and len(waiting) < 2 * workers:
                        start, stop = spans[position]
                        waiting.append((stop, pool.submit(work, start, stop)))
                        position += 1
                    stop, future = waiting.pop(0)
                    result = future.result()
                    if self.progress is not None:
                        self.progress(stop, frames, text)
                    yield result
            finally:
                for _, future in waiting:
                    future.cancel()

    def all(self, work: Callable[[int, int], R], frames: int, size: int, text: str = "") -> list[R]:
        """The results of all chunks at once."""
        with closing(self.results(work, frames, size, text)) as results:
            return list(results)

    def sums(self, work: Callable[[int, int], dict[str, Array]], frames: int, size: int, text: str) -> dict[str, Array]:
        """The sums, by name, of the arrays that each chunk gives, added in chunk order."""
        with closing(self.results(work, frames, size, text)) as results:
            return added(results)


def added(parts: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """Sums by name, in order."""
    total: dict[str, Array] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total


def chunk_size(network: Network) -> int:
    """Frames per chunk: a function of the network alone, so that no option changes a result."""
    largest = max((math.prod(layer.output_shape[1:]) for layer in network), default=1)
    return max(1, min(CHUNK_FRAMES, CHUNK_BYTES // (8 * largest)))


def evenly_spread(frames: int, count: int) -> list[int]:
    """At most ``count`` frame numbers, evenly spread, ascending, the same every time."""
    if frames <= count:
        return list(range(frames))
    return [i * frames // count for i in range(count)]


def frames_of(data: Mapping[str, Array], frames: Sequence[int] | slice) -> dict[str, Array]:
    """These frames of every input, contiguous."""
    return {name: np.ascontiguousarray(value[frames]) for name, value in data.items()}
