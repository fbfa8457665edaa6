# SPDX-License-Identifier: Apache-2.0
"""What happens between measuring a prepared network and choosing scales: ranges of what is told apart and used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.hn import Network, check_network
from headrace.layers import InputLayer
from headrace.optimize.scales import meant, precision, reach
from headrace.optimize.scales.ranges import ScaleGroups, scale_groups
from headrace.optimize.statistics.collect import Statistics

#: A step of 8 bits beyond this is too coarse for what softmax reads: e^0.25 is 28 % of a probability.
COARSE_STEP = 0.25
#: By this part of what was measured, a 16-bit range of logits goes beyond it.
ROOM = 0.5


def fit(
    network: Network,
    statistics: Statistics,
    measure: Callable[[], Statistics],
    bytes_at_outputs: bool,
    keep: frozenset[str] = frozenset(),
) -> tuple[Statistics, list[dict[str, Any]]]:
    """Fit the ranges of a prepared float network to its data.

    Args:
        network: changed in place: clamps and precision hints at layers, copies with 8 bits.
        statistics: of it, with what :func:`headrace.optimize.scales.reach.request` asks for.
        measure: takes them again.
        bytes_at_outputs: the user asked for 8 bits there.
        keep: layers that keep 8 bits.

    Returns:
        The statistics of the network as it is then, and one record per change.
    """
    records = reach.clamp(network, statistics)
    clamped = {record["layer"] for record in records}
    if any(reach.reach_of(network[name]) is None for name in clamped):
        statistics = measure()
    reach.narrow(network, statistics)
    records += meant.fit(network, statistics, bytes_at_outputs, keep)
    records += _widen_logits(network, statistics, scale_groups(network), clamped, keep)
    if records:
        check_network(network)
    return statistics, records


def _widen_logits(
    network: Network, statistics: Statistics, groups: ScaleGroups, clamped: set[str], keep: frozenset[str]
) -> list[dict[str, Any]]:
    """Sixteen bits for what softmax reads, where 8 would be too coarse or the tensor was clamped."""
    names = [name for name in reach.logits(network) if precision.bits_of(network[name]) == 8]
    coarse = [name for name in names if _span(statistics, name) / 255.0 > COARSE_STEP]
    # Where a sum was clamped, what it adds is as fine as it is.
    chosen = names if clamped & set(names) else coarse
    members = groups.members()
    records: list[dict[str, Any]] = []
    for name in chosen:
        group = [network[other] for other in members[groups.find(name)]]
        readers = [user for layer in group for user in network.users(layer.name)]
        fixed = any(isinstance(layer.operation, InputLayer) or layer.name in keep for layer in group)
        if fixed or not all(map(precision.reads_wide, readers)):
            continue
        low, high = statistics.ranges.output[name]
        room = ROOM * (max(high, 0.0) - min(low, 0.0))
        ends = [low if name in clamped else low - room, high + room]
        reach.wish(network[name], bits=precision.WIDE, interval=ends)
        records.append({"pass": "widen-logits", "layer": name, "range": ends})
    return records


def _span(statistics: Statistics, name: str) -> float:
    low, high = statistics.ranges.output[name]
    return max(high, 0.0) - min(low, 0.0)
