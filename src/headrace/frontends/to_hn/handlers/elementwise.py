# SPDX-License-Identifier: Apache-2.0
"""Add, Sub, Mul, Div, Neg, Sum: of two tensors, or of a tensor and a constant per channel; BatchNormalization."""

from __future__ import annotations

import numpy as np

from headrace.frontends.element_types import Elements
from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine, per_channel
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import Add, Multiply, Operation, Subtract

_OPERATIONS: dict[str, Operation] = {
    "Add": Add(), "Sum": Add(), "Mean": Add(), "Sub": Subtract(), "Mul": Multiply(),
}  # fmt: skip


def _with_constant(builder: Builder, node: SourceNode, view: View, index: int) -> View:
    read = node.mask if node.op_type in ("Add", "Sum") else node.weights
    array = divided(builder, view, read(index, "the constant"))
    view = enlarged(builder, view, array)
    first = index == 0
    match node.op_type:
        case "Add" | "Sum" | "Mean":
            return per_channel(builder, view, 1.0, array)
        case "Sub":
            return per_channel(builder, view, -1.0, array) if first else per_channel(builder, view, 1.0, -array)
        case "Mul":
            return per_channel(builder, view, array)
        case _:
            if first:
                return per_channel(builder, applied(builder, view, "reciprocal"), array)
            if not np.all(array):
                raise Unsupported(f"division by zero in {node.name(index)!r}")
            return per_channel(builder, view, 1.0 / array)


#: What a quotient of whole numbers is enlarged by before it is cut off, so that no rounding makes it too small.
_UNCUT = 1e-6


def _cut_off(builder: Builder, node: SourceNode) -> View:
    """The quotient of whole numbers towards zero."""
    if node.known(1) is None:
        raise Unsupported("a quotient of whole numbers by a computed tensor", "a constant divisor")
    view = node.view(0)
    array = divided(builder, view, node.weights(1, "the divisor"))
    if not np.all(array):
        raise Unsupported(f"division by zero in {node.name(1)!r}")
    view = enlarged(builder, view, array)
    return applied(builder, per_channel(builder, view, (1.0 + _UNCUT) / array), "trunc")


@handles("Add", "Sub", "Mul", "Div", "Sum", "Mean")
def binary(builder: Builder, node: SourceNode) -> list[Result]:
    if node.op_type == "Div" and node.elements(0) is not Elements.REAL:
        return [_cut_off(builder, node)]
    operands = [i for i, v in enumerate(node.inputs) if v is not None]
    if len(operands) < 2 and node.op_type not in ("Sum", "Mean"):
        raise Unsupported("it has fewer than two inputs")
    result: View | None = None
    tensors = [i for i in operands if node.known(i) is None]
    if not tensors:
        raise Unsupported("all of its inputs are constants")
    for index in tensors:
        view = node.view(index)
        if result is None:
            result = view
        elif node.op_type == "Div":
            result = combine(builder, Multiply(), result, applied(builder, view, "reciprocal"))
        else:
            result = combine(builder, _OPERATIONS[node.op_type], result, view)
    assert result is not None
    for index in operands:
        if index not in tensors:
            result = _with_constant(builder, node, result, index)
    if node.op_type == "Mean" and len(operands) > 1:
        result = per_channel(builder, result, 1.0 / len(operands))
    return [result]


@handles("Neg")
def negate(builder: Builder, node: SourceNode) -> list[Result]:
    return [per_channel(builder, node.view(0), -1.0)]


@handles("BatchNormalization")
def batch_normalization(builder: Builder, node: SourceNode) -> list[Result]:
    if node.integer("training_mode", 0):
        raise Unsupported(
            "training_mode 1 takes its statistics from the batch", "training_mode 0 (export in evaluation mode)"
        )
    view = node.view(0)
    if view.rank < 2:
        raise Unsupported(f"the input has rank {view.rank}", "N,C,…")
    channels = view.shape[1]
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (node.weights(i + 1, f"the {name}") for i, name in enumerate(names))
    if any(a.shape != (channels,) for a in (gamma, beta, mean, variance)):
        raise Unsupported(f"its parameters do not have {channels} values each")
    spread = variance + node.real("epsilon", 1e-5)
    if np.any(spread <= 0):
        raise Unsupported(f"the variance {node.name(4)!r} plus epsilon is not positive", "a variance ≥ 0")
    scale = gamma / np.sqrt(spread)
    offset = beta - mean * scale
    shape = (channels,) + (1,) * (view.rank - 2)
    return [per_channel(builder, view, scale.reshape(shape), offset.reshape(shape))]
