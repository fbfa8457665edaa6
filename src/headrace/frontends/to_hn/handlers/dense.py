# SPDX-License-Identifier: Apache-2.0
"""Gemm and MatMul by a constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import View, permute
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import combine, per_channel
from headrace.frontends.to_hn.compositions.product import product, times_matrices
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.compositions.rows import dense, rows_times
from headrace.frontends.to_hn.operands import SourceNode, divided, finite
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
from headrace.layers import Add


def _turned(builder: Builder, node: SourceNode, index: int, name: str) -> View:
    """A matrix, transposed where the attribute says so."""
    view = node.view(index)
    if view.rank != 2:
        raise Unsupported(f"an operand of rank {view.rank}", "a matrix")
    if not node.integer(name, 0):
        return view
    if not builder.one_frame:
        raise MixesFrames(f"{name} of a computed tensor mixes the frames of a batch", f"{name} = 0")
    return permute(view, [1, 0])


@handles("Gemm")
def gemm(builder: Builder, node: SourceNode) -> list[Result]:
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if node.known(1) is None or node.known(0) is not None or (node.has(2) and node.known(2) is None):
        return [_of_computed(builder, node, alpha, beta)]
    view = _turned(builder, node, 0, "transA")
    weight = node.weights(1, "the weight")
    if weight.ndim != 2:
        raise Unsupported(f"the weight has shape {list(weight.shape)}", "rank 2")
    if node.integer("transB", 0):
        weight = weight.T
    weight = finite(weight * alpha, "alpha × the weight")
    outputs = weight.shape[1]
    bias = np.zeros(outputs)
    if node.has(2):
        given = node.weights(2, "the bias")
        given = divided(builder, view, given) if given.ndim == 2 else given
        if given.shape not in ((), (1,), (1, 1), (outputs,), (1, outputs), *_larger(builder, view, outputs)):
            raise Unsupported(f"the bias has shape {list(given.shape)}", f"[{outputs}]")
        bias = finite(given * beta, "beta × the bias")
    if view.batch_first and bias.size in (1, outputs) and bias.shape[:-1] in ((), (1,)):
        return [dense(builder, view, weight, np.broadcast_to(bias.reshape(-1), (outputs,)))]
    if weight.shape[0] != view.shape[1] or (view.batch_dim != 0 and not builder.one_frame):
        raise Unsupported(f"operands of shape {list(view.shape)} and {list(weight.shape)} do not fit")
    return [per_channel(builder, rows_times(builder, view, weight), 1.0, bias)]  # all rows of all frames


def _larger(builder: Builder, view: View, outputs: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of a bias with a value of its own for each row, which all rows of one frame may have."""
    return ((view.shape[0], 1), (view.shape[0], outputs)) if builder.one_frame else ()


def _of_computed(builder: Builder, node: SourceNode, alpha: float, beta: float) -> View:
    """With a computed second operand, or a computed bias."""
    if node.known(0) is not None:
        weight = node.weights(0, "the first matrix")
        weight = weight.T if node.integer("transA", 0) else weight
        right = _turned(builder, node, 1, "transB")
        if not builder.one_frame or weight.ndim != 2 or weight.shape[1] != right.shape[0]:
            raise Unsupported(f"operands of shape {list(weight.shape)} and {list(right.shape)}", "one frame that fits")
        made = permute(rows_times(builder, permute(right, [1, 0]), np.ascontiguousarray(weight.T)), [1, 0])
    elif node.known(1) is not None:
        weight = node.weights(1, "the weight")
        left = _turned(builder, node, 0, "transA")
        weight = weight.T if node.integer("transB", 0) else weight
        if weight.ndim != 2 or weight.shape[0] != left.shape[1]:
            raise Unsupported(f"operands of shape {list(left.shape)} and {list(weight.shape)} do not fit")
        made = rows_times(builder, left, weight)
    else:
        made = product(builder, _turned(builder, node, 0, "transA"), _turned(builder, node, 1, "transB"))
    made = made if alpha == 1.0 else per_channel(builder, made, alpha)
    if not node.has(2) or beta == 0.0:
        return made
    if node.known(2) is not None:
        bias = divided(builder, made, node.weights(2, "the bias")) * beta
        return per_channel(builder, enlarged(builder, made, bias), 1.0, bias)
    added = node.view(2)
    return combine(builder, Add(), made, added if beta == 1.0 else per_channel(builder, added, beta))


def _constant_times(builder: Builder, node: SourceNode) -> View:
    """A constant [..., rows, inner] times a computed tensor [N, …, inner, columns]: (Bᵀ Aᵀ)ᵀ."""
    view = node.view(1)
    weight = divided(builder, view, node.weights(0, "the weight"))
    if weight.ndim < 2 or view.rank < 2:
        if not builder.one_frame or weight.ndim < 1 or view.rank < 1:
            raise Unsupported(f"operands of shape {list(weight.shape)} and {list(view.shape)}", "matrices")
        made = _by_constant(builder, permute(view, _last_two(view.rank)) if view.rank > 1 else view, weight.T)
        return made if weight.ndim < 2 or made.rank < 2 else permute(made, _last_two(made.rank))
    axes = [*range(weight.ndim - 2), weight.ndim - 1, weight.ndim - 2]
    made = _by_constant(builder, permute(view, _last_two(view.rank)), weight.transpose(axes))
    return permute(made, _last_two(made.rank))


def _last_two(rank: int) -> list[int]:
    """The order that exchanges the last two dimensions."""
    return [*range(rank - 2), rank - 1, rank - 2]


def _by_constant(builder: Builder, view: View, weight: Array) -> View:
    """A tensor times a constant, whichever ranks they have."""
    while weight.ndim > max(2, view.rank) and weight.shape[0] == 1 and not builder.one_frame:
        weight = weight[0]
    if 0 in weight.shape or not view.rank or not weight.ndim:
        raise Unsupported(f"operands of shape {list(view.shape)} and {list(weight.shape)} do not fit")
    inner = weight.shape[-2] if weight.ndim > 1 else weight.shape[0]
    if inner != view.shape[-1]:
        raise Unsupported(f"operands of shape {list(view.shape)} and {list(weight.shape)} do not fit")
    if weight.ndim == 1:
        made = rows_times(builder, view, weight[:, None])
        return builder.regroup(made, builder.full_shape(made)[:-1])
    if view.rank == 2 and view.batch_first and weight.ndim == 2:
        return dense(builder, view, weight, np.zeros(weight.shape[1]))
    if all(size == 1 for size in weight.shape[:-2]) and weight.ndim <= max(view.rank, 2):
        return rows_times(builder, view, weight.reshape(weight.shape[-2:]))
    if view.rank == 1:
        made = times_matrices(builder, replace(view, dims=((), *view.dims)), weight)
        return builder.regroup(made, [*made.shape[:-2], made.shape[-1]])
    return times_matrices(builder, view, weight)


@handles("MatMul")
def matmul(builder: Builder, node: SourceNode) -> list[Result]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is not None and value in builder.views:
        if node.known(0) is not None:
            return [_constant_times(builder, node)]
        return [product(builder, node.view(0), node.view(1))]
    view = node.view(0)
    return [_by_constant(builder, view, divided(builder, view, node.weights(1, "the weight")))]
