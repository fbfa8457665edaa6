# SPDX-License-Identifier: Apache-2.0
"""How fast a stage is, in closed form.

Per output row

    cycles = max(⌈E/η⌉, ⌈I/η⌉, ⌈max(O, join)/η⌉) + overhead

with E engine cycles, I and O port bytes divided by the port rate, η the busy share; the event simulation of the device
charges exactly these three servers.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.targets import Target


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Rate:
    """What one stage's engine and ports do per frame, and the cycles that takes.

    Attributes:
        rows: output rows per frame.
        engine: useful engine cycles per output row.
        input_bytes, output_bytes: per frame through the ports of the busiest slice.
        join_bytes: per frame through the joining controller; 0 for one slice.
        engine_row, input_row, output_row: busy cycles per output row of the three servers, before the overhead.
        overhead: cycles per output row beside them.
    """

    rows: int
    engine: int
    input_bytes: int
    output_bytes: int
    join_bytes: int
    engine_row: int
    input_row: int
    output_row: int
    overhead: int

    @property
    def row_cycles(self) -> int:
        return max(self.engine_row, self.input_row, self.output_row) + self.overhead

    @property
    def cycles(self) -> int:
        """Per frame."""
        return self.rows * self.row_cycles

    @property
    def bound(self) -> str:
        """What decides the stage's speed."""
        if self.engine_row >= max(self.input_row, self.output_row):
            return "engine"
        if self.input_row >= self.output_row:
            return "input port"
        return "join" if self.join_bytes > self.output_bytes else "output port"


def row_cycles(
    target: Target, rows: int, engine: int, input_bytes: int, output_bytes: int, join_bytes: int
) -> tuple[int, int, int]:
    """Busy cycles per output row of engine, input port and output port.

    Args:
        target: has the busy share and the ports' rate.
        rows: output rows per frame.
        engine: useful engine cycles per output row.
        input_bytes, output_bytes, join_bytes: see :class:`Rate`.
    """
    busy, whole = target.busy_numerator, target.busy_denominator
    port = target.port_bytes_per_cycle * busy * rows
    return (
        ceil_div(engine * whole, busy),
        ceil_div(input_bytes * whole, port),
        ceil_div(max(output_bytes, join_bytes) * whole, port),
    )
