# SPDX-License-Identifier: Apache-2.0
"""Gemm and MatMul by a constant."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, constant, integer, real
from headrace.frontends.layout import (
    BATCH,
    CHANNELS,
    HEIGHT,
    WIDTH,
    Arrangement,
    Groups,
    View,
    arrangement_axes,
    lift_batch,
    merge,
    permute,
    stored_order,
)
from headrace.frontends.to_hn.base import Builder, Result, handles
from headrace.frontends.to_hn.elementwise import per_channel
from headrace.hn import Array

VECTOR: Arrangement = (None, CHANNELS)
_ROWS: dict[int, Arrangement] = {3: (None, WIDTH, CHANNELS), 4: (None, HEIGHT, WIDTH, CHANNELS)}


def _in_stored_order(view: View, weight: Array) -> Array:
    """Rows of a ``[K, M]`` weight, given in the source's element order, in the order of the HN tensor."""
    atoms = merge([a for a in view.dims[1] if a.axis != BATCH])
    order = sorted(range(len(atoms)), key=lambda i: stored_order(atoms[i]))
    index = np.arange(weight.shape[0]).reshape([a.size for a in atoms]).transpose(order).reshape(-1)
    return weight[index]


def dense(builder: Builder, view: View, weight: Array, bias: Array) -> View:
    """``view`` [N, K] times ``weight`` [K, M] plus ``bias`` [M]: reads the tensor as stored, permutes the weights."""
    if view.rank != 2 or not view.batch_first:
        raise Unsupported(f"the input has shape {list(view.shape)}", "[N, inputs]")
    if weight.ndim != 2 or weight.shape[0] != view.shape[1] or 0 in weight.shape:
        raise Unsupported(
            f"weights of shape {list(weight.shape)} do not fit an input of {view.shape[1]}", "[inputs, outputs]"
        )
    kernel = _in_stored_order(view, weight)
    atoms = sorted(merge([a for a in view.dims[1] if a.axis != BATCH]), key=stored_order)
    stored = View(view.layer, view.extent, (view.dims[0], tuple(atoms)))
    layer = builder.place(stored, ([], [], [1]), vector=True)
    made = builder.emit("dense", [layer], {"kernel_shape": list(kernel.shape)}, {"kernel": kernel, "bias": bias})
    return builder.output(made, VECTOR)


@handles("Gemm")
def gemm(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    if integer(node, "transA", 0):
        raise Unsupported("transA of a computed tensor mixes the frames of a batch", "transA = 0")
    weight = builder.weights(node, 1, "the weight")
    if weight.ndim != 2:
        raise Unsupported(f"the weight has shape {list(weight.shape)}", "rank 2")
    if integer(node, "transB", 0):
        weight = weight.T
    weight = weight * real(node, "alpha", 1.0)
    outputs = weight.shape[1]
    bias = np.zeros(outputs)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        given = builder.weights(node, 2, "the bias")
        given = builder.divided(view, given) if given.ndim == 2 else given
        if given.size not in (1, outputs) or given.shape not in ((), (1,), (1, 1), (outputs,), (1, outputs)):
            raise Unsupported(f"the bias has shape {list(given.shape)}", f"[{outputs}]")
        bias = np.broadcast_to(given.reshape(-1), (outputs,)) * real(node, "beta", 1.0)
    builder.finite(weight, "alpha × the weight")
    if view.rank == 2 and not view.batch_first and view.batch_dim == 0 and weight.shape[0] == view.shape[1]:
        rows = _rows_times(builder, view, weight)  # all rows of all frames
        return [per_channel(builder, rows, np.ones(()), builder.finite(bias, "beta × the bias"))]
    return [dense(builder, view, weight, builder.finite(bias, "beta × the bias"))]


def _product(builder: Builder, left: View, right: View) -> View:
    """The product of two computed tensors: [N, …, rows, inner] and [N, …, inner, columns], as in attention."""
    rank = left.rank
    one_for_all = right.elements == math.prod(right.shape[-2:])
    fits = rank == right.rank >= 3 and left.shape[-1] == right.shape[-2]
    if not fits or (left.shape[:-2] != right.shape[:-2] and not one_for_all):
        raise Unsupported(
            f"operands of shape {list(left.shape)} and {list(right.shape)}",
            "[N, …, rows, inner] and [N, …, inner, columns]",
        )
    if not (left.batch_first and right.batch_first):
        (first, put_back), (second, _) = lift_batch(left), lift_batch(right)
        if left.batch_dim != right.batch_dim or left.batch_dim >= rank - 2:
            raise Unsupported("operands whose batch is not the same dimension", "the batch in front of the matrices")
        return put_back(_product(builder, first, second))
    groups: Groups = (list(range(1, rank - 2)), [rank - 2], [rank - 1])
    if one_for_all:  # all rows are rows of one matrix
        groups = ([], list(range(1, rank - 1)), [rank - 1])
        layers = [builder.place(left, groups, vector=False)]
        layers.append(builder.place(right, ([], [rank - 2], [rank - 1]), vector=False))
        made = builder.emit("matmul", layers)
        return builder.grouped(made.name, groups, [*left.shape[:-1], right.shape[-1]])
    layers = [builder.place(view, groups, vector=False) for view in (left, right)]
    return builder.grouped(builder.emit("matmul", layers).name, groups, [*left.shape[:-1], right.shape[-1]])


def _constant_times(builder: Builder, node: ir.Node) -> View:
    """A constant [rows, inner] times a computed tensor [N, …, inner, columns]: (Bᵀ Aᵀ)ᵀ."""
    view = builder.view(node, 1)
    weight = builder.divided(view, builder.weights(node, 0, "the weight"))
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2 or view.rank < 3 or weight.shape[1] != view.shape[-2]:
        raise Unsupported(
            f"operands of shape {list(weight.shape)} and {list(view.shape)}", "[rows, inner] and [N, …, inner, columns]"
        )
    order = [*range(view.rank - 2), view.rank - 1, view.rank - 2]
    return permute(_rows_times(builder, permute(view, order), np.ascontiguousarray(weight.T)), order)


@handles("MatMul")
def matmul(builder: Builder, node: ir.Node) -> list[Result]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is not None and value in builder.views:
        if constant(node.inputs[0]) is not None:
            return [_constant_times(builder, node)]
        return [_product(builder, builder.view(node, 0), builder.view(node, 1))]
    view = builder.view(node, 0)
    weight = builder.divided(view, builder.weights(node, 1, "the weight"))
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2 or view.rank < 2:
        raise Unsupported(
            f"operands of shape {list(view.shape)} and {list(weight.shape)}", "[…, inputs] and [inputs, outputs]"
        )
    inputs, outputs = weight.shape
    if inputs != view.shape[-1] or not outputs:
        raise Unsupported(f"operands of shape {list(view.shape)} and {list(weight.shape)} do not fit")
    if view.rank == 2 and view.batch_first:
        return [dense(builder, view, weight, np.zeros(outputs))]
    return [_rows_times(builder, view, weight)]


def _rows_times(builder: Builder, view: View, weight: Array) -> View:
    """[N, …, inputs] times [inputs, outputs]: rows are positions, the same weights at each are a 1×1 convolution."""
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        return put_back(_rows_times(builder, lifted, weight))
    inputs, outputs = weight.shape
    if view.rank in _ROWS:
        layer, groups = builder.arrange(view, _ROWS[view.rank], vector=False), arrangement_axes(_ROWS[view.rank])
    else:
        layer, groups = builder.innermost(view, view.rank - 1)
        layer = builder.as_image(layer)
    made = builder.emit(
        "conv", [layer], {"kernel_shape": [1, 1, inputs, outputs]},
        {"kernel": weight.reshape(1, 1, inputs, outputs), "bias": np.zeros(outputs)},
    )  # fmt: skip
    return builder.grouped(made.name, groups, [*view.shape[:-1], outputs])
