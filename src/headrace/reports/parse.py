# SPDX-License-Identifier: Apache-2.0
"""The report of ``parse``: what was read, what became of every node, what the network computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from headrace.reports.optimize import PassRecord
from headrace.reports.record import REST, Json, Record, Report, record


@record
class SourceFacts(Record):
    """The file that the network comes from."""

    format: Annotated[str, "`onnx` or `tflite`"]
    facts: Annotated[Mapping[str, Json], "by format: versions, producer or description, operators", REST]


@record
class FusedPattern(Record):
    """Nodes that together are one operation."""

    pattern: Annotated[str, "the pattern"]
    into: Annotated[str, "the operation"]
    nodes: Annotated[tuple[str, ...], "the nodes"]


@record
class NearMiss(Record):
    """Nodes that are nearly a pattern."""

    pattern: Annotated[str, "the pattern"]
    node: Annotated[str, "its last node"]
    reason: Annotated[str, "what it lacks"]


@record
class ParsedLayer(Record):
    """A layer of the network."""

    kind: Annotated[str, "kind of the layer"]
    original_names: Annotated[tuple[str, ...], "nodes that it stands for"]


@record
class ParsedStream(Record):
    """An input or an output, here and in the file."""

    layer: Annotated[str, "the layer"]
    shape: Annotated[tuple[int, ...], "here; −1 is the batch"]
    layout: Annotated[str, "`NHWC` or `NC`"]
    source_name: Annotated[str, "the tensor in the file"]
    source_shape: Annotated[tuple[int, ...], "there; −1 is the batch"]
    source_permutation: Annotated[tuple[int, ...], "which axis here each axis there is, before it is reshaped"]


Place = Literal["device", "folded", "host", "unused", "nowhere"]


@record
class PlacedNode(Record):
    """Where a node of the file is computed, and why there."""

    node: Annotated[str, "its name, or the first tensor that it makes"]
    operator: Annotated[str, "its operator, as the file calls it"]
    place: Annotated[Place, "where; `folded`: when the file was parsed; `nowhere`: nothing runs it, it is not computed"]
    layer: Annotated[str, "the layer that it is part of, on the device"] = ""
    part: Annotated[int, "the number of the step of the whole model that has it, on the host"] = 0
    reason: Annotated[str, "why it is on the host, or nowhere"] = ""
    rewrite: Annotated[str, "what would move it to the device"] = ""


@record
class ParseReport(Report):
    """What `parse` found and made (member `<net>.parse.json`)."""

    VERSION = 2

    network: Annotated[str, "its name"]
    source: Annotated[SourceFacts, "the file"]
    source_nodes: Annotated[int, "nodes of the file's graph"]
    patterns: Annotated[tuple[FusedPattern, ...], "nodes that together are one operation"]
    near_misses: Annotated[tuple[NearMiss, ...], "nodes that are nearly one"]
    folded_constants: Annotated[int, "nodes that depend on no input, and were computed"]
    removed_nodes: Annotated[tuple[str, ...], "nodes that no output depends on"]
    layers: Annotated[Mapping[str, ParsedLayer], "by layer"]
    nodes: Annotated[Mapping[str, str], "node → layer that it is part of, the first of several"]
    passes: Annotated[tuple[PassRecord, ...], "changes that passes made"]
    parameters: Annotated[int, "numbers in parameters"]
    weights: Annotated[int, "of these, weights and biases"]
    macs: Annotated[int, "multiply-accumulates per frame"]
    operations: Annotated[int, "operations per frame, two for a multiply-accumulate"]
    inputs: Annotated[tuple[ParsedStream, ...], "inputs"]
    outputs: Annotated[tuple[ParsedStream, ...], "outputs"]
    warnings: Annotated[tuple[str, ...], "what to look at"]
    placement: Annotated[tuple[PlacedNode, ...], "every node of the file, in its order"] = ()
    tensors: Annotated[Mapping[str, str], "tensor → node that makes it, where their names differ"] = field(
        default_factory=dict[str, str]
    )
