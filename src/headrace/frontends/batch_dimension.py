# SPDX-License-Identifier: Apache-2.0
"""Which dimension of a network input is the batch: the first, unless a recurrent operator that it feeds says another.

ONNX's recurrent operators take sequences as steps × batch × features, and states as directions × batch × size.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from headrace.frontends.graph import SourceGraph, Unsupported, constant, declared_shape, integer, integers

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
#: Operators whose result has the dimensions of their first operand.
_KEEPS = frozenset({
    "Identity", "Cast", "Dropout", "Slice", "Split", "Relu", "Sigmoid", "Tanh", "Clip", "Neg", "Exp", "Log", "Abs",
    "BatchNormalization", "LayerNormalization",
})  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div"})
#: Inputs of a recurrent operator that are tensors of frames.
_OPERANDS = (0, 5, 6)


def find_batch_dimensions(source: SourceGraph) -> None:
    """Enter inputs whose batch is not dimension 0; those that have none are single frames."""
    for node in source.graph:
        if node.domain or node.op_type not in _RECURRENT:
            continue
        try:
            dim = 0 if integer(node, "layout", 0) else 1
        except Unsupported:
            continue
        for index in _OPERANDS:
            if index < len(node.inputs):
                _follow(source, node.inputs[index], dim)


def _follow(source: SourceGraph, value: ir.Value | None, dim: int) -> None:
    """Backwards, from a tensor whose batch is dimension ``dim``, to the input that it is made of."""
    at: int | None = dim
    while value is not None and at is not None:
        if value.is_graph_input():
            shape = declared_shape(value)
            if shape is not None and 0 < at < len(shape) and value not in source.single:
                source.batch_dims[value] = at
            return
        node = value.producer()
        if node is None or node.domain or not node.inputs:
            return
        known = [constant(v) is not None for v in node.inputs]
        if node.op_type in _ELEMENTWISE and known.count(False) == 1:
            value = node.inputs[known.index(False)]
            continue
        at = _before(node, at)
        value = node.inputs[0]
        if at is None and value is not None and value.is_graph_input() and node.op_type == "Unsqueeze":
            source.single.add(value)


def _before(node: ir.Node, dim: int) -> int | None:
    """The dimension of a node's first operand that becomes dimension ``dim`` of its result; None where none does."""
    try:
        match node.op_type:
            case name if name in _KEEPS:
                return dim
            case "Transpose":
                order: Sequence[int] | None = integers(node, "perm", None)
                return order[dim] if order is not None and dim < len(order) else None
            case "Squeeze" | "Unsqueeze":
                axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
                if axes is None or (axes < 0).any():
                    return None
                return _reshaped(node.op_type, sorted(int(a) for a in axes.reshape(-1)), dim)
            case _:
                return None
    except Unsupported:
        return None


def _reshaped(op_type: str, axes: Sequence[int], dim: int) -> int | None:
    if op_type == "Unsqueeze":
        return None if dim in axes else dim - sum(a < dim for a in axes)
    for axis in axes:
        dim += axis <= dim
    return dim
