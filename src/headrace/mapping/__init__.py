# SPDX-License-Identifier: Apache-2.0
"""Stages onto a device: options, allocation, sharing, placement, splitting, contexts, estimates and bounds."""

from headrace.mapping.allocate import allocate, allocate_alone, allocate_one_context
from headrace.mapping.contexts import ContextPlan, Partition, Turn
from headrace.mapping.estimate import Estimate, bottleneck_of, clusters_needed, estimate
from headrace.mapping.options import Option, options_of
from headrace.mapping.partition import cut_into_contexts
from headrace.mapping.stages import (
    AllocatedStage,
    Allocation,
    Limits,
    Shares,
    Shortage,
    Stage,
    StageGraph,
    limits_of,
    stages_of,
)

__all__ = [
    "AllocatedStage",
    "Allocation",
    "ContextPlan",
    "Estimate",
    "Limits",
    "Option",
    "Partition",
    "Shares",
    "Shortage",
    "Stage",
    "StageGraph",
    "Turn",
    "allocate",
    "allocate_alone",
    "allocate_one_context",
    "bottleneck_of",
    "clusters_needed",
    "cut_into_contexts",
    "estimate",
    "limits_of",
    "options_of",
    "stages_of",
]
