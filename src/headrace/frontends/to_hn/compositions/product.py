# SPDX-License-Identifier: Apache-2.0
"""Products of matrices: by constant weights, and of two computed tensors."""

from __future__ import annotations

import math

import numpy as np

from headrace.frontends.graph import Unsupported
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
    stored_order,
)
from headrace.frontends.to_hn.builder import Builder
from headrace.hn import Array
from headrace.layers import Convolution, Dense, Matmul

VECTOR: Arrangement = (None, CHANNELS)
_ROWS: dict[int, Arrangement] = {3: (None, WIDTH, CHANNELS), 4: (None, HEIGHT, WIDTH, CHANNELS)}


def _in_stored_order(view: View, weight: Array) -> Array:
    """Rows of a ``[K, M]`` weight, given in the source's element order, in the order of the HN tensor."""
    atoms = merge([a for a in view.dims[1] if a.axis != BATCH])
    order = sorted(range(len(atoms)), key=lambda i: stored_order(atoms[i]))
    index = np.arange(len(weight), dtype=np.int64).reshape([a.size for a in atoms]).transpose(order).reshape(-1)
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
    made = builder.emit(Dense(kernel_shape=kernel.shape), [layer], {"kernel": kernel, "bias": bias})
    return builder.output(made, VECTOR)


def rows_times(builder: Builder, view: View, weight: Array) -> View:
    """[N, …, inputs] times [inputs, outputs]: rows are positions, the same weights at each are a 1×1 convolution."""
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        return put_back(rows_times(builder, lifted, weight))
    inputs, outputs = weight.shape
    if view.rank in _ROWS:
        layer, groups = builder.arrange(view, _ROWS[view.rank], vector=False), arrangement_axes(_ROWS[view.rank])
    else:
        layer, groups = builder.innermost(view, view.rank - 1)
        layer = builder.as_image(layer)
    params = {"kernel": weight.reshape(1, 1, inputs, outputs), "bias": np.zeros(outputs)}
    made = builder.emit(Convolution(kernel_shape=(1, 1, inputs, outputs)), [layer], params)
    return builder.grouped(made.name, groups, [*view.shape[:-1], outputs])


def product(builder: Builder, left: View, right: View) -> View:
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
        return put_back(product(builder, first, second))
    groups: Groups = (list(range(1, rank - 2)), [rank - 2], [rank - 1])
    if one_for_all:  # all rows are rows of one matrix
        groups = ([], list(range(1, rank - 1)), [rank - 1])
        layers = [builder.place(left, groups, vector=False)]
        layers.append(builder.place(right, ([], [rank - 2], [rank - 1]), vector=False))
        made = builder.emit(Matmul(), layers)
        return builder.grouped(made.name, groups, [*left.shape[:-1], right.shape[-1]])
    layers = [builder.place(view, groups, vector=False) for view in (left, right)]
    return builder.grouped(builder.emit(Matmul(), layers).name, groups, [*left.shape[:-1], right.shape[-1]])
