# SPDX-License-Identifier: Apache-2.0
"""The report of a network that does not fit its target: resource, need, have, terms and levers."""

from __future__ import annotations

from typing import Annotated

from headrace.reports.record import Record, Report, record


@record
class NeedOfLayer(Record):
    """What one layer needs of a resource."""

    layer: Annotated[str, "the layer"]
    need: Annotated[int, "what it needs"]


@record
class ResourceNeed(Record):
    """What the whole network would need of a resource in one context."""

    resource: Annotated[str, "the resource"]
    need: Annotated[int, "what is needed"]
    have: Annotated[int, "what one context has"]
    exceeded: Annotated[bool, "whether that is too little"]
    terms: Annotated[tuple[NeedOfLayer, ...], "the layers that need most of it"]


@record
class Exceeded(Record):
    """A resource of which a layer needs too much."""

    resource: Annotated[str, "the resource"]
    need: Annotated[int, "what the layer needs in its smallest form"]
    have: Annotated[int, "what there is"]


@record
class MemoryTerm(Record):
    """Something that a layer keeps in memory."""

    for_: Annotated[str, "what"]
    bytes: Annotated[int, "how much"]


@record
class FailingLayer(Record):
    """A layer that fits no context, whatever stands beside it."""

    layer: Annotated[str, "the layer"]
    kind: Annotated[str, "kind of the layer"]
    resources: Annotated[tuple[Exceeded, ...], "of what it needs too much"]
    terms: Annotated[tuple[MemoryTerm, ...], "what it keeps in memory, largest first"]
    levers: Annotated[tuple[str, ...], "changes that were tried and help"]


@record
class InfeasibilityReport(Report):
    """Why nothing fits (`CapacityError.report`, and in the `--json` of that error)."""

    basis: Annotated[str, '`"closed form"`']
    target: Annotated[str, "the device"]
    network: Annotated[str, "the network"]
    clusters_needed: Annotated[int, "clusters whose sums would hold the network in one context"]
    devices_needed: Annotated[int, "the same in whole devices"]
    resources: Annotated[tuple[ResourceNeed, ...], "every resource"]
    layers: Annotated[tuple[FailingLayer, ...], "every layer that fits no context"]
    levers: Annotated[tuple[str, ...], "what the user can change"]
