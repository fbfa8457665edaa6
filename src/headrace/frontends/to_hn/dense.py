# SPDX-License-Identifier: Apache-2.0
"""Gemm and MatMul by a constant."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, integer, real
from headrace.frontends.layout import (
    BATCH,
    CHANNELS,
    HEIGHT,
    WIDTH,
    Arrangement,
    View,
    arrangement_axes,
    merge,
    stored_order,
)
from headrace.frontends.to_hn.base import Builder, Result, handles
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
        if given.size not in (1, outputs) or given.shape not in ((), (1,), (1, 1), (outputs,), (1, outputs)):
            raise Unsupported(f"the bias has shape {list(given.shape)}", f"[{outputs}]")
        bias = np.broadcast_to(given.reshape(-1), (outputs,)) * real(node, "beta", 1.0)
    builder.finite(weight, "alpha × the weight")
    return [dense(builder, view, weight, builder.finite(bias, "beta × the bias"))]


@handles("MatMul")
def matmul(builder: Builder, node: ir.Node) -> list[Result]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is not None and value in builder.views:
        raise Unsupported("a product of two computed tensors is not built yet", "a constant second operand")
    view = builder.view(node, 0)
    weight = builder.weights(node, 1, "the weight")
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2 or view.rank < 2:
        raise Unsupported(
            f"operands of shape {list(view.shape)} and {list(weight.shape)}", "[…, inputs] and [inputs, outputs]"
        )
    inputs, outputs = weight.shape
    if inputs != view.shape[-1] or not outputs:
        raise Unsupported(f"operands of shape {list(view.shape)} and {list(weight.shape)} do not fit")
    if view.rank == 2:
        return [dense(builder, view, weight, np.zeros(outputs))]
    # Rows are positions: the same weights at each of them are a 1×1 convolution.
    if view.rank in _ROWS:
        layer, groups = builder.arrange(view, _ROWS[view.rank], vector=False), arrangement_axes(_ROWS[view.rank])
    else:
        layer, groups = builder.innermost(view, view.rank - 1)
        layer = builder.as_image(layer)
    made = builder.emit(
        "conv", [layer], {"kernel_shape": [1, 1, inputs, outputs]},
        {"kernel": weight.reshape(1, 1, inputs, outputs), "bias": np.zeros(outputs)},
    )  # fmt: skip
    return [builder.grouped(made.name, groups, [*view.shape[:-1], outputs])]
