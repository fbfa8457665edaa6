# SPDX-License-Identifier: Apache-2.0
"""When every row is produced, and how many rows each buffer must hold.

The schedule is the eager one with unlimited buffers and an input that arrives at the pipeline's period (the
*characteristic functions* of the dataflow literature). It needs no event queue: a server that takes c cycles per row
finishes row i at ``max_{j ≤ i}(ready_j + (i - j + 1)·c)``, a running maximum.

Why its occupancies suffice as capacities: the device is self-timed, and a self-timed marked graph never starts a row
later than any schedule that respects the same capacities. This schedule does, so the device neither deadlocks nor
falls below one frame per period. A row claims its place when its production starts and frees it when the last row that reads it
is complete, the most cautious reading of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.hn import Array
from headrace.targets.description import Target
from headrace.timing.options import Option, ceil_div
from headrace.timing.work import Flow, Plane, Work, row_windows

FRAMES = 3  # at first; more where a consumer lags further behind its producer
MAX_FRAMES = 64
MARGIN = 1  # rows beyond what the proof needs, so that a device that hands rows over a little later is not slowed
HOST = None


@dataclass(frozen=True)
class Buffer:
    """A line buffer on one edge.

    Attributes:
        tensor: what is buffered.
        consumer: name of the reading stage, or ``None`` for the host.
        operand: which input of the consumer.
        rows: capacity.
        size: bytes.
    """

    tensor: str
    consumer: str | None
    operand: int
    rows: int
    size: int


@dataclass(frozen=True)
class RowSchedule:
    """Result of :func:`schedule`.

    Attributes:
        buffers: one per edge, works in order, operands in order, then the host's.
        latency: cycles from the first input row leaving the host to the last output row of the first frame.
        first, last: work name → cycle of its first row's start and last row's end, first frame.
    """

    buffers: tuple[Buffer, ...]
    latency: int
    first: dict[str, int]
    last: dict[str, int]


def serve(ready: Array, cycles: int) -> Array:
    """End times of rows that become ready at ``ready`` at a server of ``cycles`` per row, in order."""
    steps = np.arange(ready.size, dtype=np.int64) * cycles
    return np.maximum.accumulate(ready - steps) + steps + cycles


def link_row_cycles(plane: Plane, target: Target) -> int:
    """Cycles the host link is busy with one row."""
    return ceil_div(plane.row_bytes * target.clock_hz, target.link_bytes_per_second)


def link_frame_cycles(flow: Flow, target: Target) -> int:
    """Cycles the host link needs for one frame's inputs and outputs."""
    return sum(link_row_cycles(p, target) * p.height for p in (*flow.inputs, *flow.outputs))


def _arrivals(plane: Plane, period: int, frames: int, target: Target) -> tuple[Array, Array]:
    """(claim, end) cycles of input rows paced over the period."""
    cost = link_row_cycles(plane, target)
    index = np.arange(plane.height * frames, dtype=np.int64)
    ends = serve(index * period // plane.height, cost)
    return ends - cost, ends


def _starts_and_ends(work: Work, option: Option, produced: dict[str, Array], frames: int) -> tuple[Array, Array]:
    rows = work.output.height
    ready = np.zeros(rows * frames, np.int64)
    for i, plane in enumerate(work.operands):
        _, last = row_windows(work, i)
        index = (np.arange(frames, dtype=np.int64)[:, None] * plane.height + last).reshape(-1)
        ends = produced[plane.tensor]
        # last == -1 means the row reads nothing of this operand yet; in frame f that is the row before the frame.
        ready = np.maximum(ready, np.where(index < 0, 0, ends[np.maximum(index, 0)]))
    ready = np.maximum.accumulate(ready)
    taken = serve(ready, option.input_row + option.overhead)
    computed = serve(taken, option.engine_row + option.overhead)
    ended = serve(computed, option.output_row + option.overhead)
    return taken - (option.input_row + option.overhead), ended


def _capacity(claims: Array, work: Work, operand: int, ended: Array, frames: int) -> tuple[int, int]:
    """Most rows of one edge alive at once, and the longest time a frame of it stays."""
    height = work.operands[operand].height
    first, _ = row_windows(work, operand)
    # Row j leaves with the last output row that may still read it or an earlier one; no row leaves out of turn.
    least = np.minimum.accumulate(first[::-1])[::-1]
    keeper = np.maximum(np.searchsorted(least, np.arange(height), side="right") - 1, 0)
    frame = np.arange(frames, dtype=np.int64)[:, None]
    freed = np.maximum.accumulate(ended[(frame * work.output.height + keeper).reshape(-1)])
    gone = np.searchsorted(freed, claims, side="right")
    stay = freed.reshape(frames, height)[:, -1] - claims.reshape(frames, height)[:, 0]
    return int((np.arange(1, claims.size + 1) - gone).max()) + MARGIN, int(stay.max())


def schedule(flow: Flow, options: Sequence[Option], period: int, target: Target) -> RowSchedule:
    """The row schedule with the given option per work and one frame every ``period`` cycles.

    Args:
        flow: the graph.
        options: chosen option of each work, in order.
        period: at least the cycles of every option; larger gives smaller buffers.
        target: for the link.
    """
    frames, stay = FRAMES, 0
    while True:
        result, stay = _schedule(flow, options, period, target, frames)
        # Frames alive on one edge at once must all be simulated, and one more.
        needed = min(stay // period + 2, MAX_FRAMES)
        if needed <= frames:
            return result
        frames = needed


def _schedule(
    flow: Flow, options: Sequence[Option], period: int, target: Target, frames: int
) -> tuple[RowSchedule, int]:
    longest = 0
    claims: dict[str, Array] = {}
    ends: dict[str, Array] = {}
    buffers: list[Buffer] = []
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for plane in flow.inputs:
        claims[plane.tensor], ends[plane.tensor] = _arrivals(plane, period, frames, target)
    for work, option in zip(flow.works, options, strict=True):
        start, end = _starts_and_ends(work, option, ends, frames)
        claims[work.output.tensor], ends[work.output.tensor] = start, end
        first[work.name], last[work.name] = int(start[0]), int(end[work.output.height - 1])
        for i, plane in enumerate(work.operands):
            rows, stay = _capacity(claims[plane.tensor], work, i, end, frames)
            longest = max(longest, stay)
            buffers.append(Buffer(plane.tensor, work.name, i, rows, rows * plane.row_bytes))
    latency = 0
    for plane in flow.outputs:
        # The host takes rows over the shared link, which may be busy with one row of each other stream.
        turn = sum(link_row_cycles(p, target) for p in (*flow.inputs, *flow.outputs))
        out = serve(ends[plane.tensor], turn)
        gone = np.searchsorted(out, claims[plane.tensor], side="right")
        rows = min(int((np.arange(1, gone.size + 1) - gone).max()), 2 * plane.height + 1) + MARGIN
        buffers.append(Buffer(plane.tensor, HOST, 0, rows, rows * plane.row_bytes))
        latency = max(latency, int(ends[plane.tensor][plane.height - 1]) + turn)
    return RowSchedule(tuple(buffers), latency, first, last), longest


def buffer_units(flow: Flow, buffers: Sequence[Buffer], target: Target) -> list[int]:
    """Memory units of each work's buffers: its operands', and the host's of a tensor it produces, rounded up once."""
    index = {w.name: i for i, w in enumerate(flow.works)}
    producer = {w.output.tensor: i for i, w in enumerate(flow.works)}
    sizes = [0] * len(flow.works)
    for buffer in buffers:
        at = producer.get(buffer.tensor) if buffer.consumer is None else index[buffer.consumer]
        if at is not None:
            sizes[at] += buffer.size
    return [ceil_div(size, target.memory_unit_bytes) for size in sizes]
