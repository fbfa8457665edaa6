# SPDX-License-Identifier: Apache-2.0
"""Products of a tensor by a constant matrix: of vectors, of every row, and along any dimension."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import (
    BATCH,
    CHANNELS,
    HEIGHT,
    WIDTH,
    Arrangement,
    View,
    arrangement_axes,
    lift_batch,
    merge,
    permute,
    stored_order,
)
from headrace.frontends.to_hn.builder import Builder
from headrace.hn import Array
from headrace.layers import Convolution, Dense

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


def along(builder: Builder, view: View, axis: int, matrix: Array) -> View:
    """Sums along one source dimension: element o of the result is Σ x[i] · matrix[i, o]."""
    order = [*(d for d in range(view.rank) if d != axis), axis]
    made = rows_times(builder, permute(view, order), matrix)
    return permute(made, [order.index(d) for d in range(view.rank)])
