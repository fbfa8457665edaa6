# SPDX-License-Identifier: Apache-2.0
"""The report of ``parse --compare``: a network beside the runtime of the file that it was parsed from."""

from __future__ import annotations

from typing import Annotated, Literal

from headrace.reports.record import Record, Report, record


@record
class TensorFigures(Record):
    """Values of one tensor."""

    least: Annotated[float, "the least value"]
    greatest: Annotated[float, "the greatest value"]
    mean: Annotated[float, "mean"]
    deviation: Annotated[float, "standard deviation"]
    not_finite: Annotated[int, "values that are infinite or no number; not in the other figures"] = 0


@record
class ComparedTensor(Record):
    """A tensor of the file, computed by its own runtime and by Headrace."""

    tensor: Annotated[str, "its name in the file"]
    node: Annotated[str, "the node that makes it; empty for an input"]
    operator: Annotated[str, "that node's operator, as the file calls it"]
    shape: Annotated[tuple[int, ...], "its shape in the file"]
    difference: Annotated[float, "the largest difference, in parts of the range of the runtime's values"]
    position: Annotated[tuple[int, ...], "where that is"]
    runtime: Annotated[TensorFigures, "what the file's runtime computes"]
    native: Annotated[TensorFigures, "what the network computes"]


@record
class ComparisonReport(Report):
    """What `parse --compare` found."""

    network: Annotated[str, "its name"]
    runtime: Annotated[str, "the file's own runtime and its version"]
    inputs: Annotated[str, "what it ran on: the data, or the seed of random numbers"]
    frames: Annotated[int, "how many frames"]
    tolerance: Annotated[float, "the largest difference that is none, in parts of a tensor's range"]
    agrees: Annotated[bool, "whether all outputs agree"]
    outputs: Annotated[tuple[ComparedTensor, ...], "the network's outputs"]
    compared: Annotated[int, "tensors of the file that were compared"]
    cause: Annotated[
        Literal["", "translation", "pass"], "what differs: the translation of a node, or a pass that changed layers"
    ] = ""
    first: Annotated[ComparedTensor | None, "the first tensor that differs, in the order of the file"] = None
    changed_by: Annotated[str, "the first pass behind which the outputs differ"] = ""
