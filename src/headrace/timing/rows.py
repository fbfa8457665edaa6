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
in a fixed order (:func:`headrace.timing.turns.order_of`), which only adds edges to the marked graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from headrace.hn import Array
from headrace.targets import Target
from headrace.timing.rates import Rate
from headrace.timing.turns import order_of
from headrace.timing.work import Flow, Plane, Steps, Work

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


@lru_cache(maxsize=1024)
def _ramp(count: int) -> Array:
    """0 … count - 1, not to be written."""
    ramp = np.arange(count, dtype=np.int64)
    ramp.flags.writeable = False
    return ramp


def _accumulation(steps: Steps, rate: Rate) -> Array:
    """Cycles of each step of a frame that is summed up row by row."""
    taken = max(rate.input_row, rate.engine_row)
    cycles = np.diff(-(-taken * np.arange(steps.count + 1, dtype=np.int64) // steps.count))
    cycles[-1] += rate.row_cycles - taken
    return cycles


def _ready(work: Work, produced: Mapping[str, Array], frames: int, made: Collection[str] = ()) -> Array:
    """When the rows are there that each step of all frames needs from outside its controller."""
    ready: Array | None = None
    for i, plane in enumerate(work.operands):
        # Rows of another stage on this controller are there: their steps stand before this one in its order.
        if plane.tensor in made:
            continue
        rows, none = work.steps.needed(i, frames)
        there = produced[plane.tensor][rows]
        if none is not None:
            there[none] = 0
        ready = there if ready is None else np.maximum(ready, there)
    return np.zeros(work.steps.count * frames, np.int64) if ready is None else ready


@dataclass(frozen=True)
class _Played:
    """Ends of all steps of all frames, and starts and ends of all rows, int64."""

    ends: Array
    row_starts: Array
    row_ends: Array


def _play(work: Work, rate: Rate, produced: dict[str, Array], frames: int) -> _Played:
    """A stage with a controller of its own; ``produced`` gets the ends of its rows."""
    ready = _ready(work, produced, frames)
    if work.steps.accumulates:
        cycles = _accumulation(work.steps, rate)
        return _rows_of(work, serve(ready, np.tile(cycles, frames)), cycles, produced, frames)
    before = _ramp(ready.size) * rate.row_cycles
    starts = np.maximum.accumulate(ready - before) + before
    ends = starts + rate.row_cycles
    produced[work.output.tensor] = ends
    return _Played(ends, starts, ends)


def _rows_of(work: Work, ends: Array, cycles: Array, produced: dict[str, Array], frames: int) -> _Played:
    shaped, rows = ends.reshape(frames, -1), work.steps.rows
    row_ends = shaped[:, rows]
    row_starts = row_ends - cycles[rows]
    produced[work.output.tensor] = row_ends.reshape(-1)
    return _Played(ends, row_starts.reshape(-1), row_ends.reshape(-1))


def _play_together(
    works: Sequence[Work], rates: Sequence[Rate], produced: dict[str, Array], frames: int
) -> list[_Played]:
    """Stages on one controller; ``produced`` gets the ends of their rows."""
    made = {w.output.tensor for w in works}
    order = order_of(works)
    cycles = [
        _accumulation(w.steps, r) if w.steps.accumulates else np.full(w.steps.count, r.row_cycles, np.int64)
        for w, r in zip(works, rates, strict=True)
    ]
    waits = [_ready(w, produced, frames, made).reshape(frames, -1) for w in works]
    ready = np.concatenate(waits, axis=1)[:, order]
    ends = np.empty_like(ready)
    ends[:, order] = serve(ready.reshape(-1), np.tile(np.concatenate(cycles)[order], frames)).reshape(frames, -1)
    found: list[_Played] = []
    place = 0
    for work, mine in zip(works, cycles, strict=True):
        part = np.ascontiguousarray(ends[:, place : place + mine.size]).reshape(-1)
        found.append(_rows_of(work, part, mine, produced, frames))
        place += mine.size
    return found


def _play_controller(
    works: Sequence[Work], rates: Sequence[Rate], produced: dict[str, Array], frames: int
) -> list[_Played]:
    if len(works) == 1:
        return [_play(works[0], rates[0], produced, frames)]
    return _play_together(works, rates, produced, frames)


def _controllers(flow: Flow, roots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of the works of each controller."""
    first = 0
    for i in range(1, len(flow.works) + 1):
        if i == len(flow.works) or not roots or roots[i] == i:
            yield first, i
            first = i


def _capacity(claims: Array, keeper: Array, ends: Array, frames: int) -> tuple[int, int]:
    """Most rows of one edge alive at once, and the longest time a frame of it stays.

    Args:
        claims: when each row's production starts, all frames.
        keeper: see :class:`headrace.timing.work.Steps`.
        ends: of every step, all frames.
        frames: how many.
    """
    freed = ends.reshape(frames, -1)[:, keeper]
    gone = np.searchsorted(freed.reshape(-1), claims, side="right")
    stay = freed[:, -1] - claims.reshape(frames, -1)[:, 0]
    return int((_ramp(claims.size) - gone).max()) + 1 + MARGIN, int(stay.max())


def line_buffers(
    flow: Flow, rates: Sequence[Rate], period: int, target: Target, roots: Sequence[int] = ()
) -> tuple[Buffer, ...]:
    """The line buffers that stages of these rates need for one frame every ``period`` cycles.

    Args:
        flow: the graph.
        rates: of each work, in order.
        period: at least the cycles of every stage; larger gives smaller buffers.
        target: for the link.
        roots: the work whose controller each work runs on; empty: each has its own.

    Returns:
        One per edge, works in order, operands in order, then the host's.
    """
    frames, stay = FRAMES, 0
    while True:
        buffers, stay = _line_buffers(flow, rates, period, target, frames, roots)
        # Frames alive on one edge at once must all be simulated, and one more.
        needed = min(stay // period + 2, MAX_FRAMES)
        if needed <= frames:
            return buffers
        frames = needed


def _line_buffers(
    flow: Flow, rates: Sequence[Rate], period: int, target: Target, frames: int, roots: Sequence[int]
) -> tuple[tuple[Buffer, ...], int]:
    longest = 0
    claims: dict[str, Array] = {}
    ends: dict[str, Array] = {}
    buffers: list[Buffer] = []
    for plane in flow.inputs:
        cost = flow.link_cycles(plane, plane.row_bytes, target)
        claims[plane.tensor], ends[plane.tensor] = _arrivals(plane, period, frames, cost)
    for first, last in _controllers(flow, roots):
        works = flow.works[first:last]
        for work, played in zip(works, _play_controller(works, rates[first:last], ends, frames), strict=True):
            claims[work.output.tensor] = played.row_starts
            for i, plane in enumerate(work.operands):
                rows, stay = _capacity(claims[plane.tensor], work.steps.keepers[i], played.ends, frames)
                longest = max(longest, stay)
                buffers.append(Buffer(plane.tensor, work.name, i, rows, rows * plane.row_bytes))
    for plane in flow.outputs:
        # The host takes rows over the shared link, which may be busy with one row of each other stream.
        turn = sum(flow.link_cycles(p, p.row_bytes, target) for p in (*flow.inputs, *flow.outputs))
        out = serve(ends[plane.tensor], np.full_like(ends[plane.tensor], turn))
        gone = np.searchsorted(out, claims[plane.tensor], side="right")
        rows = min(int((np.arange(1, gone.size + 1) - gone).max()), 2 * plane.height + 1) + MARGIN
        buffers.append(Buffer(plane.tensor, HOST, 0, rows, rows * plane.row_bytes))
    return tuple(buffers), longest


def latency_of(flow: Flow, rates: Sequence[Rate], target: Target, roots: Sequence[int] = ()) -> int:
    """Cycles from the first input row leaving the host to the last output row being there, for a frame that is alone in
    the pipeline and whose input comes as fast as the link.
    """
    ends = _burst(flow, target)
    for first, last in _controllers(flow, roots):
        _play_controller(flow.works[first:last], rates[first:last], ends, 1)
    # All outputs share the link, in the order in which their rows are ready.
    ready = np.concatenate([ends[p.tensor] for p in flow.outputs] or [np.zeros(0, np.int64)])
    costs = [np.full(p.height, flow.link_cycles(p, p.row_bytes, target), np.int64) for p in flow.outputs]
    order = np.argsort(ready, kind="stable")
    back = serve(ready[order], np.concatenate(costs or [np.zeros(0, np.int64)])[order])
    finished = (int(ends[w.output.tensor][-1]) for w in flow.works)
    return max((*finished, int(back.max(initial=0)), link_frame_cycles(flow, target)), default=0)


def least_latencies(works: Sequence[Work], rates: Sequence[Sequence[Rate]]) -> list[int]:
    """For each run of works from the first on, cycles in which no frame is through it, whichever of its rates each has.

    What comes from outside is there at once and the host's link costs nothing. Ends of steps never come earlier where
    rows come later or steps take longer, so each stage is played in a form that no rate of it betters: steps of the
    fastest rate where all steps take alike; where a frame is summed up row by row, for each row the least that any
    rate takes from there to the end, as one rate may be quick with the rows and slow at the end, another not.
    """
    ends: dict[str, Array] = {}
    found: list[int] = []
    for work, row in zip(works, rates, strict=True):
        for plane in work.operands:
            ends.setdefault(plane.tensor, np.zeros(plane.height, np.int64))
        if work.steps.accumulates:
            cycles = np.array([_accumulation(work.steps, rate) for rate in row])
            rest = cycles[:, ::-1].cumsum(axis=1)[:, ::-1].min(axis=0)
            last = int((_ready(work, ends, 1) + rest).max())
            ends[work.output.tensor] = np.array([last], np.int64)
        else:
            last = int(_play(work, min(row, key=lambda r: r.row_cycles), ends, 1).ends[-1])
        found.append(max(last, found[-1] if found else 0))
    return found


def _burst(flow: Flow, target: Target) -> dict[str, Array]:
    """End of each input row when the host sends one frame of every input at once, one row of each in turn."""
    tallest = max((p.height for p in flow.inputs), default=0)
    turns = np.arange(1, tallest + 1, dtype=np.int64)
    costs = [flow.link_cycles(p, p.row_bytes, target) for p in flow.inputs]
    sent = sum((np.minimum(turns, p.height) * c for p, c in zip(flow.inputs, costs, strict=True)), np.zeros_like(turns))
    return {p.tensor: sent[: p.height] for p in flow.inputs}
