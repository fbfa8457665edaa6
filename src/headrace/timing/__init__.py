# SPDX-License-Identifier: Apache-2.0
"""The clock: counts and rates into cycles, row schedules in closed form."""

from headrace.timing import kinds as _kinds  # registers the layer kinds
from headrace.timing.rates import Rate, ceil_div
from headrace.timing.rows import Buffer, line_buffers
from headrace.timing.work import (
    Family,
    Flow,
    Plane,
    RowKind,
    RowRule,
    Work,
    flow_of,
    row_window,
    row_windows,
    work_of_layer,
)

del _kinds

__all__ = [
    "Buffer",
    "Family",
    "Flow",
    "Plane",
    "Rate",
    "RowKind",
    "RowRule",
    "Work",
    "ceil_div",
    "flow_of",
    "line_buffers",
    "row_window",
    "row_windows",
    "work_of_layer",
]
