# SPDX-License-Identifier: Apache-2.0
"""When every row is produced, and how many rows each buffer must hold.

The schedule is the eager one with unlimited buffers and an input that arrives at the pipeline's period (the
*characteristic functions* of the dataflow literature). It needs no event queue: a stage whose row i takes c_i cycles
finishes it at ``max_{j ≤ i}(ready_j + c_j + … + c_i)``, a running maximum.

Why its occupancies suffice as capacities: the device is self-timed, and a self-timed marked graph never starts a row
later than any schedule that respects the same capacities. This schedule does, so the device neither deadlocks nor
falls below one frame per period. A row claims its place when its production starts and frees it when the last row
that reads it is complete, the most cautious reading of both. Of the steps below, one is a row of the output, or of the
input where a stage accumulates a whole frame into one row. A controller that several stages share takes their steps
in a fixed order (:func:`headrace.timing.sharing.order_of`), which only adds edges to the marked graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.hn import Array
from headrace.targets import Target
from headrace.timing.options import Option, ceil_div
from headrace.timing.sharing import Member, order_of
from headrace.timing.work import Flow, Plane, Work, accumulates, row_windows

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
        latency: cycles from the first input row leaving the host to the last output row being there, for a frame that
            is alone in the pipeline and whose input comes as fast as the link.
    """

    buffers: tuple[Buffer, ...]
    latency: int


def serve(ready: Array, cycles: Array) -> Array:
    """End times of steps that become ready at ``ready`` and take ``cycles`` each, in order (int64, equal shapes)."""
    total = np.cumsum(cycles)
    return np.maximum.accumulate(ready - (total - cycles)) + total


def link_frame_cycles(flow: Flow, target: Target) -> int:
    """Cycles the host link needs for one frame's inputs and outputs."""
    return sum(flow.link_cycles(p, p.frame_bytes, target) for p in (*flow.inputs, *flow.outputs))


def _arrivals(plane: Plane, period: int, frames: int, cost: int) -> tuple[Array, Array]:
    """(claim, end) cycles of input rows of ``cost`` link cycles each, paced over the period."""
    index = np.arange(plane.height * frames, dtype=np.int64)
    ends = serve(index * period // plane.height, np.full_like(index, cost))
    return ends - cost, ends


@dataclass(frozen=True)
class _Steps:
    """A stage's steps of one frame.

    Attributes:
        windows: per operand, (first, last) row of each step; last -1 where the step reads nothing yet.
        cycles: of each step.
        rows: step that starts and ends each output row.
    """

    windows: list[tuple[Array, Array]]
    cycles: Array
    rows: Array


def _steps(work: Work, option: Option) -> _Steps:
    if not accumulates(work):
        rows = work.output.height
        windows = [row_windows(work, i) for i in range(len(work.operands))]
        return _Steps(windows, np.full(rows, option.row_cycles, np.int64), np.arange(rows))
    count = work.operands[0].height
    step = np.arange(count, dtype=np.int64)
    # The other operands (a fused residual) are read with the last step.
    others = [(np.zeros_like(step), np.where(step < count - 1, -1, p.height - 1)) for p in work.operands[1:]]
    taken = max(option.input_row, option.engine_row)
    until = -(-taken * np.arange(count + 1, dtype=np.int64) // count)
    cycles = np.diff(until)
    cycles[-1] += option.row_cycles - taken
    return _Steps([(step, step), *others], cycles, np.array([count - 1]))


def _needed(plane: Plane, last: Array, frames: int) -> Array:
    """Row of all frames that each step needs last, int64 ``[frames · steps]``; -1: none."""
    frame = np.arange(frames, dtype=np.int64)[:, None]
    return np.where(last < 0, -1, frame * plane.height + last).reshape(-1)


def _run(
    works: Sequence[Work], steps: Sequence[_Steps], produced: dict[str, Array], frames: int
) -> list[tuple[Array, Array]]:
    """(start, end) of every step of all frames, int64 ``[frames, steps]``, of each stage on one controller.

    ``produced`` gets the end of every row.
    """
    made = {w.output.tensor for w in works}
    waits: list[Array] = []
    for work, mine in zip(works, steps, strict=True):
        ready = np.zeros((frames, mine.cycles.size), np.int64)
        for plane, (_, last) in zip(work.operands, mine.windows, strict=True):
            # Rows of another stage on this controller are there: their steps stand before this one in its order.
            if plane.tensor not in made:
                index = _needed(plane, last, frames)
                there = np.where(index < 0, 0, produced[plane.tensor][index])
                ready = np.maximum(ready, there.reshape(frames, -1))
        waits.append(ready)
    cycles = np.concatenate([mine.cycles for mine in steps])
    order = _order(works, steps) if len(works) > 1 else np.arange(cycles.size)
    ready = np.concatenate(waits, axis=1)[:, order]
    ends = np.empty_like(ready)
    ends[:, order] = serve(ready.reshape(-1), np.tile(cycles[order], frames)).reshape(frames, -1)
    found: list[tuple[Array, Array]] = []
    places = np.cumsum([mine.cycles.size for mine in steps])[:-1]
    for work, mine, end in zip(works, steps, np.split(ends, places, axis=1), strict=True):
        produced[work.output.tensor] = end[:, mine.rows].reshape(-1)
        found.append((end - mine.cycles, end))
    return found


def _order(works: Sequence[Work], steps: Sequence[_Steps]) -> Array:
    """The order of the steps of one frame on one controller."""
    return order_of(
        [
            Member(
                work.output.tensor,
                [(p.tensor, p.height, last) for p, (_, last) in zip(work.operands, mine.windows, strict=True)],
                mine.rows,
            )
            for work, mine in zip(works, steps, strict=True)
        ]
    )


def _controllers(flow: Flow, roots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of the works of each controller."""
    first = 0
    for i in range(1, len(flow.works) + 1):
        if i == len(flow.works) or not roots or roots[i] == i:
            yield first, i
            first = i


def _capacity(claims: Array, first: Array, height: int, ended: Array) -> tuple[int, int]:
    """Most rows of one edge alive at once, and the longest time a frame of it stays.

    Args:
        claims: when each row's production starts, all frames.
        first: first row that each step of a frame reads.
        height: rows of one frame.
        ended: end of every step, ``[frames, steps]``.
    """
    # Row j leaves with the last step that may still read it or an earlier one; no row leaves out of turn.
    least = np.minimum.accumulate(first[::-1])[::-1]
    keeper = np.maximum(np.searchsorted(least, np.arange(height), side="right") - 1, 0)
    freed = np.maximum.accumulate(ended[:, keeper].reshape(-1))
    gone = np.searchsorted(freed, claims, side="right")
    stay = freed.reshape(-1, height)[:, -1] - claims.reshape(-1, height)[:, 0]
    return int((np.arange(1, claims.size + 1) - gone).max()) + MARGIN, int(stay.max())


def schedule(
    flow: Flow, options: Sequence[Option], period: int, target: Target, roots: Sequence[int] = ()
) -> RowSchedule:
    """The row schedule with the given option per work and one frame every ``period`` cycles.

    Args:
        flow: the graph.
        options: chosen option of each work, in order.
        period: at least the cycles of every option; larger gives smaller buffers.
        target: for the link.
        roots: the work whose controller each work runs on; empty: each has its own.
    """
    frames, stay = FRAMES, 0
    while True:
        result, stay = _schedule(flow, options, period, target, frames, roots)
        # Frames alive on one edge at once must all be simulated, and one more.
        needed = min(stay // period + 2, MAX_FRAMES)
        if needed <= frames:
            return replace(result, latency=latency_of(flow, options, target, roots))
        frames = needed


def _schedule(
    flow: Flow, options: Sequence[Option], period: int, target: Target, frames: int, roots: Sequence[int]
) -> tuple[RowSchedule, int]:
    longest = 0
    claims: dict[str, Array] = {}
    ends: dict[str, Array] = {}
    buffers: list[Buffer] = []
    for plane in flow.inputs:
        cost = flow.link_cycles(plane, plane.row_bytes, target)
        claims[plane.tensor], ends[plane.tensor] = _arrivals(plane, period, frames, cost)
    for first, last in _controllers(flow, roots):
        works = flow.works[first:last]
        steps = [_steps(w, o) for w, o in zip(works, options[first:last], strict=True)]
        played = _run(works, steps, ends, frames)
        for work, mine, (start, end) in zip(works, steps, played, strict=True):
            claims[work.output.tensor] = start[:, mine.rows].reshape(-1)
            for i, plane in enumerate(work.operands):
                rows, stay = _capacity(claims[plane.tensor], mine.windows[i][0], plane.height, end)
                longest = max(longest, stay)
                buffers.append(Buffer(plane.tensor, work.name, i, rows, rows * plane.row_bytes))
    for plane in flow.outputs:
        # The host takes rows over the shared link, which may be busy with one row of each other stream.
        turn = sum(flow.link_cycles(p, p.row_bytes, target) for p in (*flow.inputs, *flow.outputs))
        out = serve(ends[plane.tensor], np.full_like(ends[plane.tensor], turn))
        gone = np.searchsorted(out, claims[plane.tensor], side="right")
        rows = min(int((np.arange(1, gone.size + 1) - gone).max()), 2 * plane.height + 1) + MARGIN
        buffers.append(Buffer(plane.tensor, HOST, 0, rows, rows * plane.row_bytes))
    return RowSchedule(tuple(buffers), 0), longest


def latency_of(flow: Flow, options: Sequence[Option], target: Target, roots: Sequence[int] = ()) -> int:
    """Cycles of one frame alone in the pipeline, from the host and back to it."""
    ends = _burst(flow, target)
    for first, last in _controllers(flow, roots):
        works = flow.works[first:last]
        _run(works, [_steps(w, o) for w, o in zip(works, options[first:last], strict=True)], ends, 1)
    # All outputs share the link, in the order in which their rows are ready.
    ready = np.concatenate([ends[p.tensor] for p in flow.outputs] or [np.zeros(0, np.int64)])
    costs = [np.full(p.height, flow.link_cycles(p, p.row_bytes, target), np.int64) for p in flow.outputs]
    order = np.argsort(ready, kind="stable")
    back = serve(ready[order], np.concatenate(costs or [np.zeros(0, np.int64)])[order])
    finished = (int(ends[w.output.tensor][-1]) for w in flow.works)
    return max((*finished, int(back.max(initial=0)), link_frame_cycles(flow, target)), default=0)


def _burst(flow: Flow, target: Target) -> dict[str, Array]:
    """End of each input row when the host sends one frame of every input at once, one row of each in turn."""
    tallest = max((p.height for p in flow.inputs), default=0)
    turns = np.arange(1, tallest + 1, dtype=np.int64)
    costs = [flow.link_cycles(p, p.row_bytes, target) for p in flow.inputs]
    sent = sum((np.minimum(turns, p.height) * c for p, c in zip(flow.inputs, costs, strict=True)), np.zeros_like(turns))
    return {p.tensor: sent[: p.height] for p in flow.inputs}


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
