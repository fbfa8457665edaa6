# SPDX-License-Identifier: Apache-2.0
"""One deterministic pass over the calibration data: the statistics that algorithms declare (:class:`Request`).

Chunks have a fixed size and are merged in their order by exact operations (min, max, integer counts) or, for sums, in
float64; figures do not depend on the pool that computes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch

from headrace.emulator.executor import Executor
from headrace.errors import DataError, Diagnostic
from headrace.hn import Array, Layer, Network
from headrace.optimize.chunks import ChunkRunner, chunk_size
from headrace.optimize.statistics.histogram import Histogram


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


def collect(
    network: Network,
    data: Mapping[str, Array],
    frames: int,
    runner: ChunkRunner,
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
    with closing(runner.results(work, frames, chunk_size(network), text)) as parts:
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
