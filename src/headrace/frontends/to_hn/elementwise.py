# SPDX-License-Identifier: Apache-2.0
"""Add, Sub, Mul, Div, Neg, Sum: of two tensors, or of a tensor and a constant per channel; BatchNormalization."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, constant, integer, name_of, real
from headrace.frontends.layout import View, group_dimensions, lift_batch
from headrace.frontends.to_hn.base import Builder, Result, handles
from headrace.hn import Array

_KINDS = {"Add": "ew_add", "Sum": "ew_add", "Mean": "ew_add", "Sub": "ew_sub", "Mul": "ew_mult"}


def per_channel(builder: Builder, view: View, scale: Array, offset: Array) -> View:
    """``x · scale + offset`` with constants that broadcast to the tensor; float64 until parsing ends."""
    scale, offset = builder.divided(view, scale), builder.divided(view, offset)
    view = builder.varying_as_channels(view, (scale, offset))
    params = {
        "scale": builder.finite(builder.channel_vector(view, scale), "the factor"),
        "offset": builder.finite(builder.channel_vector(view, offset), "the offset"),
    }
    return builder.same_layout(builder.emit("batch_norm", [view.layer], {}, params), view)


def _enlarged(builder: Builder, view: View, array: Array) -> View:
    """The tensor with what a constant enlarges by broadcasting repeated: dimensions of size 1."""
    if array.ndim > view.rank:
        return view
    sizes = (1,) * (view.rank - array.ndim) + array.shape
    if all(s in (1, d) or d > 1 for s, d in zip(sizes[1:], view.shape[1:], strict=True)):
        return view
    # Imported where it is needed: moves are made of element-wise operations too.
    from headrace.frontends.to_hn.move import repeated

    return repeated(builder, view, [view.shape[0], *(max(p) for p in zip(sizes[1:], view.shape[1:], strict=True))])


def _with_constant(builder: Builder, node: ir.Node, view: View, index: int) -> View:
    read = builder.mask if node.op_type in ("Add", "Sum") else builder.weights
    array = read(node, index, "the constant")
    array = builder.divided(view, array)
    view = _enlarged(builder, view, array)
    one, zero = np.ones(()), np.zeros(())
    first = index == 0
    match node.op_type:
        case "Add" | "Sum" | "Mean":
            return per_channel(builder, view, one, array)
        case "Sub":
            return per_channel(builder, view, -one, array) if first else per_channel(builder, view, one, -array)
        case "Mul":
            return per_channel(builder, view, array, zero)
        case _:
            if first:
                attributes = {"activation": "reciprocal"}
                inverse = builder.same_layout(builder.emit("activation", [view.layer], attributes), view)
                return per_channel(builder, inverse, array, zero)
            if not np.all(array):
                raise Unsupported(f"division by zero in {name_of(node.inputs[index])!r}")
            return per_channel(builder, view, 1.0 / array, zero)


def combine(builder: Builder, kind: str, left: View, right: View) -> View:
    """An element-wise layer of two tensors, broadcast as ONNX does."""
    if left.dims == right.dims and left.extent == right.extent:
        layers = builder.same_rank([left.layer, right.layer])
        return builder.same_layout(builder.emit(kind, layers), left)
    if left.rank == right.rank and not (left.batch_first and right.batch_first):
        if left.batch_dim != right.batch_dim:
            raise Unsupported("operands whose batch is not the same dimension", "one place for the batch")
        (first, put_back), (second, _) = lift_batch(left), lift_batch(right)
        return put_back(combine(builder, kind, first, second))
    if left.rank != right.rank:
        raise Unsupported(
            f"operands of shape {list(left.shape)} and {list(right.shape)} have different ranks", "equal ranks"
        )
    if any(a != b and 1 not in (a, b) for a, b in zip(left.shape, right.shape, strict=True)):
        raise Unsupported(f"operands of shape {list(left.shape)} and {list(right.shape)} do not broadcast")
    larger = left if left.elements >= right.elements else right
    arrangement = builder.arrangement_of(larger)
    if arrangement is not None:
        layers = builder.same_rank([builder.arrange(view, arrangement) for view in (left, right)])
        return builder.output(builder.emit(kind, layers), arrangement)
    sizes = [max(pair) for pair in zip(left.shape, right.shape, strict=True)]
    marks = [(a == 1, b == 1) for a, b in zip(left.shape, right.shape, strict=True)]
    groups = builder.common_groups([left, right], group_dimensions(larger, marks))
    layers = builder.same_rank([builder.place(view, groups) for view in (left, right)])
    return builder.grouped(builder.emit(kind, layers).name, groups, sizes)


@handles("Add", "Sub", "Mul", "Div", "Sum", "Mean")
def binary(builder: Builder, node: ir.Node) -> list[Result]:
    operands = [i for i, v in enumerate(node.inputs) if v is not None]
    if len(operands) < 2 and node.op_type not in ("Sum", "Mean"):
        raise Unsupported("it has fewer than two inputs")
    result: View | None = None
    tensors = [i for i in operands if constant(node.inputs[i]) is None]
    if not tensors:
        raise Unsupported("all of its inputs are constants")
    for index in tensors:
        view = builder.view(node, index)
        if result is None:
            result = view
        elif node.op_type == "Div":
            inverse = builder.emit("activation", [view.layer], {"activation": "reciprocal"})
            result = combine(builder, "ew_mult", result, builder.same_layout(inverse, view))
        else:
            result = combine(builder, _KINDS[node.op_type], result, view)
    assert result is not None
    for index in operands:
        if index not in tensors:
            result = _with_constant(builder, node, result, index)
    if node.op_type == "Mean" and len(operands) > 1:
        result = per_channel(builder, result, np.full((), 1.0 / len(operands)), np.zeros(()))
    return [result]


@handles("Neg")
def negate(builder: Builder, node: ir.Node) -> list[Result]:
    return [per_channel(builder, builder.view(node, 0), np.full((), -1.0), np.zeros(()))]


@handles("BatchNormalization")
def batch_normalization(builder: Builder, node: ir.Node) -> list[Result]:
    if integer(node, "training_mode", 0):
        raise Unsupported(
            "training_mode 1 takes its statistics from the batch", "training_mode 0 (export in evaluation mode)"
        )
    view = builder.view(node, 0)
    if view.rank < 2:
        raise Unsupported(f"the input has rank {view.rank}", "N,C,…")
    channels = view.shape[1]
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (builder.weights(node, i + 1, f"the {name}") for i, name in enumerate(names))
    if any(a.shape != (channels,) for a in (gamma, beta, mean, variance)):
        raise Unsupported(f"its parameters do not have {channels} values each")
    spread = variance + real(node, "epsilon", 1e-5)
    if np.any(spread <= 0):
        raise Unsupported(f"the variance {name_of(node.inputs[4])!r} plus epsilon is not positive", "a variance ≥ 0")
    scale = gamma / np.sqrt(spread)
    offset = beta - mean * scale
    shape = (channels,) + (1,) * (view.rank - 2)
    return [per_channel(builder, view, scale.reshape(shape), offset.reshape(shape))]
