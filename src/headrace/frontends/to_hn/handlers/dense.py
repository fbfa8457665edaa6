# SPDX-License-Identifier: Apache-2.0
"""Gemm and MatMul by a constant."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View, permute
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.compositions.product import dense, product, rows_times
from headrace.frontends.to_hn.operands import SourceNode, divided, finite
from headrace.frontends.to_hn.registry import Result, handles


@handles("Gemm")
def gemm(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    if node.integer("transA", 0):
        raise Unsupported("transA of a computed tensor mixes the frames of a batch", "transA = 0")
    weight = node.weights(1, "the weight")
    if weight.ndim != 2:
        raise Unsupported(f"the weight has shape {list(weight.shape)}", "rank 2")
    if node.integer("transB", 0):
        weight = weight.T
    weight = weight * node.real("alpha", 1.0)
    outputs = weight.shape[1]
    bias = np.zeros(outputs)
    if node.has(2):
        given = node.weights(2, "the bias")
        given = divided(builder, view, given) if given.ndim == 2 else given
        if given.size not in (1, outputs) or given.shape not in ((), (1,), (1, 1), (outputs,), (1, outputs)):
            raise Unsupported(f"the bias has shape {list(given.shape)}", f"[{outputs}]")
        bias = np.broadcast_to(given.reshape(-1), (outputs,)) * node.real("beta", 1.0)
    finite(weight, "alpha × the weight")
    if view.rank == 2 and not view.batch_first and view.batch_dim == 0 and weight.shape[0] == view.shape[1]:
        rows = rows_times(builder, view, weight)  # all rows of all frames
        return [per_channel(builder, rows, 1.0, finite(bias, "beta × the bias"))]
    return [dense(builder, view, weight, finite(bias, "beta × the bias"))]


def _constant_times(builder: Builder, node: SourceNode) -> View:
    """A constant [rows, inner] times a computed tensor [N, …, inner, columns]: (Bᵀ Aᵀ)ᵀ."""
    view = node.view(1)
    weight = divided(builder, view, node.weights(0, "the weight"))
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2 or view.rank < 3 or weight.shape[1] != view.shape[-2]:
        raise Unsupported(
            f"operands of shape {list(weight.shape)} and {list(view.shape)}", "[rows, inner] and [N, …, inner, columns]"
        )
    order = [*range(view.rank - 2), view.rank - 1, view.rank - 2]
    return permute(rows_times(builder, permute(view, order), np.ascontiguousarray(weight.T)), order)


@handles("MatMul")
def matmul(builder: Builder, node: SourceNode) -> list[Result]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is not None and value in builder.views:
        if node.known(0) is not None:
            return [_constant_times(builder, node)]
        return [product(builder, node.view(0), node.view(1))]
    view = node.view(0)
    weight = divided(builder, view, node.weights(1, "the weight"))
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
    return [rows_times(builder, view, weight)]
