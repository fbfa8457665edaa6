# SPDX-License-Identifier: Apache-2.0
"""The clock: counts and rates into cycles, row schedules in closed form."""

from headrace.timing.rates import Rate, ceil_div
from headrace.timing.rows import Buffer, line_buffers
from headrace.timing.work import (
    Flow,
    Plane,
    Work,
    flow_of,
    row_window,
    row_windows,
    work_of_layer,
)

__all__ = [
    "Buffer",
    "Flow",
    "Plane",
    "Rate",
    "Work",
    "ceil_div",
    "flow_of",
    "line_buffers",
    "row_window",
    "row_windows",
    "work_of_layer",
]
