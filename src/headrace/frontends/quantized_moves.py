# SPDX-License-Identifier: Apache-2.0
"""Codes that are only moved before they are made values again: what moves them may as well move the values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import SourceGraph, Unsupported, constant, label, live_uses, marks, origins, set_constant
from headrace.frontends.quantization import Codes, codes_of_node

#: Operators whose result holds elements of their first input alone, and which of their inputs are data.
_MOVES = frozenset(
    {
        "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "MaxPool", "Slice", "Gather",
        "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Pad", "Concat", "GlobalMaxPool", "Split",
    }
)  # fmt: skip
_MOST_STEPS = 100_000


def _same_for_all(values: list[ir.Value]) -> tuple[Codes, ir.Node] | None:
    """What all that reads some values states of them, where all states the same."""
    found: tuple[Codes, ir.Node] | None = None
    for value in values:
        users = live_uses(value)
        if value.is_graph_output() or (not users and len(values) == 1):
            return None
        for user in users:
            if user.op_type != "DequantizeLinear" or user.domain or user.inputs[0] is not value:
                return None
            try:
                codes = codes_of_node(user)
            except Unsupported:
                return None
            if found is not None and found[0] != codes:
                return None
            found = codes, user
    return found


def _constants(node: ir.Node, codes: Codes) -> dict[int, float] | None:
    """Numbers among a move's operands that are codes, as values; None where that is not known."""
    if node.op_type != "Pad":
        return {}
    given = node.inputs[2] if len(node.inputs) > 2 else None
    array = constant(given)
    if given is not None and (array is None or array.size != 1):
        return None
    code = 0 if array is None else int(array.reshape(-1)[0])
    own = codes.quantization
    return {2: own.scale * (code + codes.shift - own.zero_point)}


def _hoist(source: SourceGraph, move: ir.Node, codes: Codes, like: ir.Node) -> list[ir.Node]:
    """Make values in front of a move; returns the nodes that do."""
    numbers = _constants(move, codes)
    if numbers is None:
        return []
    made: list[ir.Node] = []
    places = range(len(move.inputs)) if move.op_type == "Concat" else (0,)
    for place in places:
        value = ir.Value(name=None)
        marks(value)["internal"] = True
        node = ir.Node(
            "", "DequantizeLinear", [move.inputs[place], *like.inputs[1:]], list(like.attributes.values()),
            outputs=[value], name=label(like),
        )  # fmt: skip
        marks(node).update({"label": label(like), "origins": origins(like)})
        source.graph.insert_before(move, node)
        move.replace_input_with(place, value)
        made.append(node)
    for place, number in numbers.items():
        fill = ir.Value(name=f"{label(move)}#")
        marks(fill)["internal"] = True
        set_constant(fill, np.array(number, np.float32))
        move.resize_inputs(max(len(move.inputs), place + 1))
        move.replace_input_with(place, fill)
    for value in move.outputs:
        value.dtype = ir.DataType.FLOAT
        for user in live_uses(value):
            old = user.outputs[0]
            old.replace_all_uses_with(value, replace_graph_outputs=True)
            if old.name and value.is_graph_output():
                value.name = old.name
            source.graph.remove(user, safe=True)
    return made


def hoist_dequantization(source: SourceGraph) -> None:
    """Let values be moved in place of their codes, wherever all that reads the moved codes makes the same of them."""
    waiting = [node for node in source.graph if node.op_type == "DequantizeLinear" and not node.domain]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return
        node = waiting.pop()
        move = node.inputs[0].producer() if node.graph is not None and node.inputs and node.inputs[0] else None
        if move is None or move.graph is None or move.domain or move.op_type not in _MOVES or move in source.broken:
            continue
        if any(
            constant(value) is not None for value in move.inputs[: len(move.inputs) if move.op_type == "Concat" else 1]
        ):
            continue
        found = _same_for_all(list(move.outputs))
        if found is not None:
            waiting += _hoist(source, move, *found)


__all__ = ["hoist_dequantization"]
