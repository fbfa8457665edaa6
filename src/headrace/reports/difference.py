# SPDX-License-Identifier: Apache-2.0
"""The report of ``compare``: two networks, their layers beside one another."""

from __future__ import annotations

from typing import Annotated, Literal

from headrace.reports.record import Json, Record, Report, record

Match = Literal["name", "nodes of the file", "place in the graph"]


@record
class ComparedSide(Record):
    """One of the two networks."""

    source: Annotated[str, "the file"]
    name: Annotated[str, "the network"]
    state: Annotated[str, "its state"]
    hw_arch: Annotated[str, "the target of interest"]
    layers: Annotated[int, "layers, inputs and outputs counted"]


@record
class Change(Record):
    """A figure or a fact that is not the same in both."""

    what: Annotated[str, "what it is"]
    before: Annotated[Json, "of the first; null: it has none"]
    after: Annotated[Json, "of the second; null: it has none"]


@record
class LayerPair(Record):
    """A layer of the first network and the one of the second that stands for it."""

    first: Annotated[str, "the layer of the first"]
    second: Annotated[str, "the layer of the second"]
    matched_by: Annotated[Match, "what tells that they are one"]
    changes: Annotated[tuple[Change, ...], "what is not the same"]


@record
class DifferenceReport(Report):
    """What `compare` found: only what differs, and layers that the other does not have."""

    first: Annotated[ComparedSide, "the first"]
    second: Annotated[ComparedSide, "the second"]
    totals: Annotated[tuple[Change, ...], "of the networks as a whole"]
    same: Annotated[int, "pairs of layers in which nothing differs"]
    changed: Annotated[tuple[LayerPair, ...], "pairs in which something does, in the order of the first"]
    only_first: Annotated[tuple[str, ...], "layers that only the first has"]
    only_second: Annotated[tuple[str, ...], "layers that only the second has"]
