# SPDX-License-Identifier: Apache-2.0
"""What became of a node, a tensor or a layer, as the report of ``parse`` knows it (``parse --explain``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from headrace.errors import UsageError, unknown_name
from headrace.reports.parse import FusedPattern, NearMiss, ParseReport, Place, PlacedNode
from headrace.reports.record import Json, Record, Report, record


@record
class ExplainedNode(Record):
    """A node of the file."""

    node: Annotated[str, "its name, or the first tensor that it makes"]
    operator: Annotated[str, "its operator, as the file calls it"]
    place: Annotated[Place, "where it is computed"]
    makes: Annotated[tuple[str, ...], "tensors that it makes"] = ()
    layers: Annotated[tuple[str, ...], "layers that it is part of"] = ()
    beside: Annotated[tuple[str, ...], "other nodes that these layers stand for"] = ()
    patterns: Annotated[tuple[FusedPattern, ...], "patterns that it is part of"] = ()
    near_misses: Annotated[tuple[NearMiss, ...], "patterns that it nearly is the end of"] = ()
    passes: Annotated[tuple[str, ...], "passes that put it into another layer"] = ()
    step: Annotated[int, "the step of the whole model that has it, on the host"] = 0
    reason: Annotated[str, "why it is on the host"] = ""
    rewrite: Annotated[str, "what would move it to the device"] = ""


@record
class Explanation(Report):
    """What a name means, and what became of it."""

    name: Annotated[str, "as it was asked for"]
    what: Annotated[Literal["node", "tensor", "layer", "input"], "what has this name"]
    kind: Annotated[str, "kind of the layer, where the name is one"] = ""
    nodes: Annotated[tuple[ExplainedNode, ...], "the node, the one that makes the tensor, or those of the layer"] = ()


class _Index:
    """The report's facts by name."""

    def __init__(self, report: ParseReport) -> None:
        self.report = report
        self.placed = {entry.node: entry for entry in report.placement}
        self.made: dict[str, list[str]] = {}
        for name, node in report.tensors.items():
            self.made.setdefault(node, []).append(name)
        self.layers: dict[str, list[str]] = {}
        for name, layer in report.layers.items():
            for node in layer.original_names:
                self.layers.setdefault(node, []).append(name)
        self.inputs = {stream.source_name: stream.layer for stream in report.inputs}

    def explained(self, node: str) -> ExplainedNode:
        layers = tuple(self.layers.get(node, ()))
        others = (other for layer in layers for other in self.report.layers[layer].original_names)
        entry = self.placed.get(node, PlacedNode(node=node, operator="", place="device" if layers else "folded"))
        return ExplainedNode(
            node=node, operator=entry.operator, place=entry.place,
            makes=tuple(self.made.get(node, ())), layers=layers,
            beside=tuple(dict.fromkeys(other for other in others if other != node)),
            patterns=tuple(found for found in self.report.patterns if node in found.nodes),
            near_misses=tuple(found for found in self.report.near_misses if found.node == node),
            passes=tuple(dict.fromkeys(found.pass_ for found in self.report.passes if node in _named(found.facts))),
            step=entry.part, reason=entry.reason, rewrite=entry.rewrite,
        )  # fmt: skip


def _named(facts: Mapping[str, Json]) -> list[Json]:
    """The names in what a pass says."""
    return [name for value in facts.values() for name in (value if isinstance(value, list) else [value])]


def explain(report: ParseReport, name: str) -> Explanation:
    """What became of a node, a tensor or a layer.

    Args:
        report: of the network.
        name: of a node or tensor of the file, or of a layer (its scope may be left out).

    Raises:
        UsageError: nothing has this name; with the nearest names.
    """
    index = _Index(report)
    layer = next((n for n in (name, f"{report.network}/{name}") if n in report.layers), "")
    if name in index.placed or (name in index.layers and name not in index.inputs and not layer):
        return Explanation(name=name, what="node", nodes=(index.explained(name),))
    maker = next((report.tensors[n] for n in (name, name.removesuffix(":0"), f"{name}:0") if n in report.tensors), None)
    if maker is not None:
        return Explanation(name=name, what="tensor", nodes=(index.explained(maker),))
    if name in index.inputs:
        layer = index.inputs[name]
        return Explanation(name=name, what="input", kind=report.layers[layer].kind, nodes=(index.explained(name),))
    if layer:
        entry = report.layers[layer]
        nodes = tuple(index.explained(node) for node in entry.original_names)
        return Explanation(name=name, what="layer", kind=entry.kind, nodes=nodes)
    known = [*index.placed, *index.layers, *report.tensors, *report.layers]
    raise UsageError(unknown_name("E-EXPLAIN-NAME", "node, tensor or layer", name, known, report.network))
