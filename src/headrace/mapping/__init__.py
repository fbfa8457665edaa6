# SPDX-License-Identifier: Apache-2.0
"""Stages onto a device: options, allocation, sharing, placement, contexts, estimates and bounds."""

from headrace.mapping.allocate import Allocation, Limits, Shortage, allocate, allocate_one_context, limits_of
from headrace.mapping.contexts import ContextPlan, Partition, Turn
from headrace.mapping.estimate import Estimate, bottleneck_of, clusters_needed, estimate
from headrace.mapping.options import Option, options_of
from headrace.mapping.partition import allocate_alone, cut_into_contexts, segment

__all__ = [
    "Allocation",
    "ContextPlan",
    "Estimate",
    "Limits",
    "Option",
    "Partition",
    "Shortage",
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
    "segment",
]
