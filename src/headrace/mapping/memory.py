# SPDX-License-Identifier: Apache-2.0
"""Line buffers in memory units."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.targets import Target
from headrace.timing.rates import ceil_div
from headrace.timing.rows import MARGIN, Buffer
from headrace.timing.work import Flow, Work


def least_buffer_units(work: Work, target: Target) -> int:
    """Memory units that the work's line buffers need at any speed.

    All rows that one step reads are there at its end, claimed before and not freed; every buffer has the margin too.
    """
    held = zip(work.operands, work.steps.held, strict=True)
    return ceil_div(sum(plane.row_bytes * (rows + MARGIN) for plane, rows in held), target.memory_unit_bytes)


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
