# SPDX-License-Identifier: Apache-2.0
"""What a stage takes of a device, in one order everywhere.

Controllers, sub-clusters and memory units follow from the fitted cost model. Nothing public says how many activation
units and input aligners a layer takes, only how many there are (20 and 32 beside 16 controllers), so this is our
choice: a slice has one activation unit for what it writes and aligns each of its operands, and the controller that
joins slices aligns each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.targets import Target

RESOURCES: tuple[str, ...] = ("controllers", "subclusters", "memory_units", "activation_units", "input_aligners")
MEMORY = RESOURCES.index("memory_units")
Use = tuple[int, ...]  # one number per resource


def per_cluster(target: Target) -> Use:
    """What one cluster has."""
    return (
        target.controllers_per_cluster,
        target.subclusters_per_cluster,
        target.memory_units_per_cluster,
        target.activation_units_per_cluster,
        target.input_aligners_per_cluster,
    )


def usable(target: Target) -> Use:
    """What one context may use of the device, the target's own shares taken off."""
    whole = per_cluster(target)
    return (target.controllers, target.subclusters, target.memory_units, *(target.clusters * n for n in whole[3:]))


def total(uses: Sequence[Use]) -> Use:
    """Sum per resource."""
    return tuple(sum(use[i] for use in uses) for i in range(len(RESOURCES)))
