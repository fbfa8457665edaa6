# SPDX-License-Identifier: Apache-2.0
"""Limits that a file has as constants of its own suppression: overlap, score, numbers of boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from headrace.frontends.file_model import subgraphs
from headrace.frontends.graph import constant, live_uses
from headrace.frontends.heads.tail import Tail
from headrace.hn.nms import MAX_BOXES, MAX_PER_CLASS, NmsConfiguration

_DEEPEST = 8  # branches inside each other that are looked through
_SUPPRESSES = "NonMaxSuppression"


def limited(tail: Tail, c: NmsConfiguration) -> NmsConfiguration:
    """The configuration with what the file says once and the same everywhere."""
    over = [n for n in tail.nodes if n.op_type in ("Greater", "GreaterOrEqual") and _is_chosen_by(n.outputs[0])]
    scores = {_number(n, 1) for n in over}
    if len(scores) == 1 and (score := scores.pop()) is not None and 0 <= score <= 1:
        c = replace(c, score_threshold=round(score, 6))
    model = None if tail.source.model is None else tail.source.model()
    overlaps = set[float | None]() if model is None else set(_overlaps(model.graph, {}, 0))
    if len(overlaps) == 1 and (overlap := overlaps.pop()) is not None and 0 <= overlap <= 1:
        c = replace(c, iou_threshold=round(overlap, 6))
    branches = {n.op_type for n in tail.nodes} & {"If", _SUPPRESSES}
    ends = [a for n in tail.nodes if branches and _takes_first(n) and (a := _number(n, 2)) is not None]
    if len(ends) == 1 and 1 <= ends[0] <= MAX_BOXES:
        c = replace(c, in_all=int(ends[0]), per_class=min(int(ends[0]), MAX_PER_CLASS))
    return c


def _overlaps(graph: onnx.GraphProto, outer: Mapping[str, float], depth: int) -> Iterator[float | None]:
    """The overlap of every suppression, in branches too; None for one that is computed."""
    known = dict(outer)
    known |= {one.name: a for one in graph.initializer if (a := _single(one)) is not None}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for one in node.attribute:
                if one.name == "value" and (number := _single(one.t)) is not None:
                    known[node.output[0]] = number
        elif node.op_type == _SUPPRESSES:
            yield known.get(node.input[3]) if len(node.input) > 3 and node.input[3] else 0.0
        if depth < _DEEPEST:
            for inner in subgraphs(node):
                yield from _overlaps(inner, known, depth + 1)


def _single(tensor: onnx.TensorProto) -> float | None:
    if tensor.data_type != onnx.TensorProto.FLOAT or tensor.external_data or any(d != 1 for d in tensor.dims):
        return None
    try:
        return float(numpy_helper.to_array(tensor).reshape(-1)[0])
    except (ValueError, TypeError, IndexError):
        return None  # its data is not of its shape


def _takes_first(node: ir.Node) -> bool:
    """Whether a node takes the first ones of those that are left by the suppression, which may stand in a branch."""
    before = node.inputs[0].producer() if node.op_type == "Slice" and node.inputs[0] is not None else None
    return before is not None and before.op_type == "If"


def _is_chosen_by(value: ir.Value) -> bool:
    return any(n.op_type == "NonZero" for n in live_uses(value))


def _number(node: ir.Node, operand: int) -> float | None:
    """A constant operand of one element."""
    array = constant(node.inputs[operand]) if operand < len(node.inputs) else None
    return None if array is None or array.size != 1 else float(array.reshape(-1)[0])
