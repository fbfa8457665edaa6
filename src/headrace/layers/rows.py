# SPDX-License-Identifier: Apache-2.0
"""Which input rows an output row of an operation reads, and what its cycles are made of: what the clock asks for.

Frames stream through the device row by row, so both decide when a row can begin and how long it takes. A vector has one
row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Family(Enum):
    """How the engine spends its cycles (reference cost model)."""

    DENSE = "dense"  # every output feature reads every input feature; accumulators drain
    GROUPED = "grouped"  # depthwise and grouped convolution; the drain is hidden
    POOL = "pool"  # window without weights
    MOVE = "move"  # element-wise and data movement: the ports are the work


class RowKind(Enum):
    """Which input rows an output row reads."""

    WINDOW = "window"
    SAME = "same"
    WHOLE = "whole"  # accumulated over the frame, row by row
    GATHER = "gather"  # needs the whole frame at once (transposes)
    SLICE = "slice"
    STACK = "stack"  # the operand occupies rows offset … offset + height - 1 of the output (pad, concat on height)
    RESHAPE = "reshape"
    TABLE = "table"  # (first, last) row of each output row, listed; never decreasing


@dataclass(frozen=True)
class RowRule:
    """Row geometry of one operand; ``offset`` is padding before (WINDOW), the start (SLICE) or the place (STACK)."""

    kind: RowKind = RowKind.SAME
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    offset: int = 0
    table: tuple[tuple[int, int], ...] = ()


SAME, WHOLE, GATHER, RESHAPED = (
    RowRule(kind) for kind in (RowKind.SAME, RowKind.WHOLE, RowKind.GATHER, RowKind.RESHAPE)
)


@dataclass(frozen=True)
class RowCost:
    """What one output row of an operation reads and costs.

    Attributes:
        rules: per operand, the rows of it that an output row reads.
        family: how the engine spends its cycles.
        window: (rows, columns) of the kernel; taps are their product.
        stride, dilation: along the width (they decide the halo of column slices).
        groups: channel groups (GROUPED).
        controllers: of one slice (1, or more where one layer stands for several stages).
        joins: it puts tensors side by side.
    """

    rules: tuple[RowRule, ...]
    family: Family = Family.MOVE
    window: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    controllers: int = 1
    joins: bool = False


def row_by_row(shapes: Sequence[tuple[int, ...]], controllers: int = 1) -> RowCost:
    """Every output row reads the same row of every operand, and the ports are the work."""
    return RowCost((SAME,) * len(shapes), controllers=controllers)


def listed(rows: Sequence[tuple[int, int]]) -> RowCost:
    """Output row i of one operand reads rows ``rows[i]``, first and last."""
    return RowCost((RowRule(RowKind.TABLE, table=tuple(rows)),))


def has_rows(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape (batch first) has rows; a vector is one row."""
    return len(shape) == 4


def height_of(shape: Sequence[int]) -> int:
    """Rows of a tensor of this shape (batch first)."""
    return shape[1] if has_rows(shape) else 1
