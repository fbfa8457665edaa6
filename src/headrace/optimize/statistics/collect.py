# SPDX-License-Identifier: Apache-2.0
"""One deterministic pass over the calibration data: the statistics that algorithms declare (:class:`Request`).

Chunks have a fixed size, each is computed by one thread, and results are merged in chunk order by exact operations
(min, max, integer counts) or, for sums, in float64 in that order; figures do not depend on the number of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from headrace.emulator.exact import thread_count
from headrace.emulator.executor import Executor
from headrace.errors import DataError, Diagnostic
from headrace.hn import Array, Layer, Network
from headrace.optimize.options import OptimizeOptions, Progress
from headrace.optimize.statistics.histogram import Histogram

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


@dataclass(frozen=True)
class Request:
    """What an algorithm needs to know of a float network beside the range of every tensor. Names of layers.

    Attributes:
        histograms: of these layers' outputs.
        spans: smallest and largest value per channel of these layers' outputs.
        moments: sums per channel in front of these layers' activations.
        row_tops: the least of the largest values of rows (over the last axis) of these layers' outputs.
    """

    histograms: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()
    spans: frozenset[str] = frozenset()
    row_tops: frozenset[str] = frozenset()

    def __or__(self, other: Request) -> Request:
        return Request(
            self.histograms | other.histograms,
            self.moments | other.moments,
            self.spans | other.spans,
            self.row_tops | other.row_tops,
        )


@dataclass
class Moments:
    """Sums per channel, of even and of odd frames apart, so that one half can judge what the other proposes.

    Attributes:
        sums: float64 ``[2, channels]``.
        squares: float64 ``[2, channels]``.
        elements: float64 ``[2]``, how many values per channel.
    """

    sums: Array
    squares: Array
    elements: Array

    @classmethod
    def of(cls, x: torch.Tensor, start: int) -> Moments:
        """Of a float tensor ``[frames, …, channels]`` whose first frame has the number ``start``."""
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        sums = flat.sum(dim=1, dtype=torch.float64).numpy()
        squares = flat.square().sum(dim=1, dtype=torch.float64).numpy()
        halves = [slice(start % 2, None, 2), slice(1 - start % 2, None, 2)]
        return cls(
            np.stack([sums[h].sum(axis=0) for h in halves]),
            np.stack([squares[h].sum(axis=0) for h in halves]),
            np.array([float(len(sums[h]) * flat.shape[1]) for h in halves]),
        )

    def added(self, other: Moments) -> Moments:
        return Moments(self.sums + other.sums, self.squares + other.squares, self.elements + other.elements)


@dataclass
class Statistics:
    """What was asked for, by layer name. ``row_tops`` leaves out rows whose values are all equal."""

    ranges: Ranges = field(default_factory=Ranges)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    spans: dict[str, Array] = field(default_factory=dict)
    row_tops: dict[str, float] = field(default_factory=dict)

    def copy(self) -> Statistics:
        """With dictionaries of its own."""
        ranges = Ranges(dict(self.ranges.output), dict(self.ranges.before))
        return Statistics(ranges, dict(self.histograms), dict(self.moments), dict(self.spans), dict(self.row_tops))

    def observe(
        self, request: Request, name: str, before: torch.Tensor | None, output: torch.Tensor, start: int
    ) -> None:
        """Take in one layer's tensors of the chunk that begins at frame ``start``."""
        low, high = self.ranges.output[name] = extremes(output)
        if before is not None:
            self.ranges.before[name] = extremes(before)
        if name in request.histograms and math.isfinite(low) and math.isfinite(high):
            self.histograms[name] = Histogram.of(output, low, high)
        if name in request.spans:
            least, most = torch.aminmax(output.reshape(-1, output.shape[-1]), dim=0)
            self.spans[name] = torch.stack([least, most]).numpy().astype(np.float64)
        if name in request.moments:
            self.moments[name] = Moments.of(output if before is None else before, start)
        if name in request.row_tops:
            rows = output.reshape(-1, output.shape[-1])
            top = rows.amax(dim=1)
            varied = top[top > rows.amin(dim=1)]
            if varied.numel():
                self.row_tops[name] = float(varied.min())

    def merge(self, other: Statistics) -> None:
        self.ranges.merge(other.ranges)
        for name, histogram in other.histograms.items():
            mine = self.histograms.get(name)
            self.histograms[name] = histogram if mine is None else mine.merged(histogram)
        for name, span in other.spans.items():
            seen = self.spans.get(name, span)
            self.spans[name] = np.stack([np.minimum(seen[0], span[0]), np.maximum(seen[1], span[1])])
        for name, top in other.row_tops.items():
            self.row_tops[name] = min(top, self.row_tops.get(name, top))
        for name, moments in other.moments.items():
            have = self.moments.get(name)
            self.moments[name] = moments if have is None else have.added(moments)


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
    network: Network,
    data: Mapping[str, Array],
    frames: int,
    options: OptimizeOptions,
    progress: Progress | None,
    request: Request | None = None,
    text: str = "calibrating",
) -> Statistics:
    """Statistics of a float network over the first ``frames`` frames.

    Args:
        request: what is wanted beside the range of every tensor.

    Raises:
        DataError: a layer gives NaN or infinity, naming the first few layers.
    """
    wanted = request or Request()
    executor = Executor(network, "fp_optimized")

    def work(start: int, stop: int) -> Statistics:
        found = Statistics()

        def see(layer: Layer, before: torch.Tensor | None, output: torch.Tensor) -> None:
            found.observe(wanted, layer.name, before, output, start)

        executor.visit({name: value[start:stop] for name, value in data.items()}, see)
        return found

    total = Statistics()
    with closing(in_chunks(work, frames, chunk_size(network), options, progress, text)) as parts:
        for part in parts:
            _check_finite(part.ranges)
            total.merge(part)
    return total


def _check_finite(part: Ranges) -> None:
    """Raises DataError where one of a chunk's ranges is not finite."""
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


def extremes(x: torch.Tensor) -> tuple[float, float]:
    """(min, max) of a tensor; NaN in either when there is one inside."""
    low, high = torch.aminmax(x)
    return float(low), float(high)


def evenly_spread(frames: int, count: int) -> Sequence[int]:
    """At most ``count`` frame numbers, evenly spread, ascending, the same every time."""
    if frames <= count:
        return range(frames)
    return [i * frames // count for i in range(count)]
