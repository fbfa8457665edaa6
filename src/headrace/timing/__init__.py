# SPDX-License-Identifier: Apache-2.0
"""Counts and a target into cycles: the closed form, row schedules and the allocation of a pipeline."""

from headrace.timing import kinds as _kinds  # registers the layer kinds
from headrace.timing.allocate import Allocation, Limits, Shortage, allocate, limits_of, one_context
from headrace.timing.contexts import ContextPlan, Partition, Turn
from headrace.timing.estimate import Estimate, bottleneck_of, clusters_needed, estimate
from headrace.timing.options import Option, options_of
from headrace.timing.partition import alone, partition, segment
from headrace.timing.rows import Buffer, RowSchedule, buffer_units, schedule
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
    "Allocation",
    "Buffer",
    "ContextPlan",
    "Estimate",
    "Family",
    "Flow",
    "Limits",
    "Option",
    "Partition",
    "Plane",
    "RowKind",
    "RowRule",
    "RowSchedule",
    "Shortage",
    "Turn",
    "Work",
    "allocate",
    "alone",
    "bottleneck_of",
    "buffer_units",
    "clusters_needed",
    "estimate",
    "flow_of",
    "limits_of",
    "one_context",
    "options_of",
    "partition",
    "row_window",
    "row_windows",
    "schedule",
    "segment",
    "work_of_layer",
]
