# SPDX-License-Identifier: Apache-2.0
"""Products of stacks of matrices: by constant ones, and of two computed tensors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import Groups, View, lift_batch, with_rank
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.repeat import repeated
from headrace.hn import Array
from headrace.layers import Convolution, Matmul


def times_matrices(builder: Builder, view: View, weight: Array) -> View:
    """[N, …, rows, inner] times constant matrices [..., inner, outputs], one for each index of the dimensions in front.

    Matrices that differ are groups of channels; dimensions in front along which they do not are positions.
    """
    rank = max(view.rank, weight.ndim)
    if rank > view.rank and not builder.one_frame:
        raise Unsupported(f"matrices of shape {list(weight.shape)} for a tensor of rank {view.rank}", "equal ranks")
    view, weight = with_rank(view, rank), weight.reshape((1,) * (rank - weight.ndim) + weight.shape)
    if not view.batch_first or weight.shape[0] != 1:
        lifted, put_back = lift_batch(view)
        return put_back(times_matrices(builder, lifted, weight[None]))
    inner, outputs = weight.shape[-2:]
    own = [d for d in range(1, rank - 2) if weight.shape[d] > 1]
    sizes = [weight.shape[d] if d in own else view.shape[d] for d in range(rank)]
    if view.shape[-1] != inner or any(view.shape[d] not in (1, sizes[d]) for d in own):
        raise Unsupported(f"operands of shape {list(view.shape)} and {list(weight.shape)} do not fit")
    view = repeated(builder, view, sizes)
    others = [d for d in range(1, rank - 2) if d not in own]
    groups: Groups = (others, [rank - 2], [*own, rank - 1])
    layer = builder.place(view, groups, vector=False)
    matrices = math.prod(weight.shape[d] for d in own)
    kernel = weight.reshape(matrices, inner, outputs).transpose(1, 0, 2).reshape(1, 1, inner, matrices * outputs)
    operation = Convolution(kernel_shape=kernel.shape, groups=matrices)
    made = builder.emit(operation, [layer], {"kernel": kernel, "bias": np.zeros(matrices * outputs)})
    return builder.grouped(made.name, groups, [*view.shape[:-1], outputs])


def product(builder: Builder, left: View, right: View) -> View:
    """The product of two computed tensors: [N, …, rows, inner] and [N, …, inner, columns], as in attention."""
    if left.rank < 2 or right.rank < 2:
        return _of_vector(builder, left, right)
    rank = max(left.rank, right.rank)
    if left.rank != right.rank:
        if not builder.one_frame:
            raise Unsupported(f"operands of ranks {left.rank} and {right.rank}", "equal ranks")
        left, right = with_rank(left, rank), with_rank(right, rank)
    if left.shape[-1] != right.shape[-2]:
        raise Unsupported(f"operands of shape {list(left.shape)} and {list(right.shape)}", "inner sizes that agree")
    if rank < 3 or not (left.batch_first and right.batch_first) or left.shape[0] != right.shape[0]:
        (first, put_back), (second, _) = lift_batch(left), lift_batch(right)
        unlike = left.batch_dim != right.batch_dim or left.batch_dim >= rank - 2
        if unlike and not builder.one_frame:
            raise Unsupported("operands whose batch is not the same dimension", "the batch in front of the matrices")
        return put_back(product(builder, first, second))
    groups: Groups = (list(range(1, rank - 2)), [rank - 2], [rank - 1])
    if right.elements == math.prod(right.shape[-2:]):  # all rows are rows of one matrix
        groups = ([], list(range(1, rank - 1)), [rank - 1])
        layers = [builder.place(left, groups, vector=False)]
        layers.append(builder.place(right, ([], [rank - 2], [rank - 1]), vector=False))
        made = builder.emit(Matmul(), layers)
        return builder.grouped(made.name, groups, [*left.shape[:-1], right.shape[-1]])
    front = [max(pair) for pair in zip(left.shape[:-2], right.shape[:-2], strict=True)]
    if any(1 not in pair and pair[0] != pair[1] for pair in zip(left.shape[:-2], right.shape[:-2], strict=True)):
        raise Unsupported(f"operands of shape {list(left.shape)} and {list(right.shape)} do not broadcast")
    left, right = (repeated(builder, view, [*front, *view.shape[-2:]]) for view in (left, right))
    layers = [builder.place(view, groups, vector=False) for view in (left, right)]
    return builder.grouped(builder.emit(Matmul(), layers).name, groups, [*left.shape[:-1], right.shape[-1]])


def _of_vector(builder: Builder, left: View, right: View) -> View:
    """A product in which one operand or both are vectors: a row on the left, a column on the right."""
    row, column = left.rank < 2, right.rank < 2
    if not builder.one_frame or 0 in (left.rank, right.rank):
        raise Unsupported(f"operands of ranks {left.rank} and {right.rank}", "matrices")
    first = replace(left, dims=((), *left.dims)) if row else left
    second = replace(right, dims=(*right.dims, ())) if column else right
    made = product(builder, first, second)
    gone = ([made.rank - 2] if row else []) + ([made.rank - 1] if column else [])
    return builder.regroup(made, [s for d, s in enumerate(made.shape) if d not in gone])
