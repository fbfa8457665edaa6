# SPDX-License-Identifier: Apache-2.0
"""Functions of every element: activations, a factor and an offset per channel, two tensors combined."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View, group_dimensions, lift_batch, with_rank
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.operands import channel_vector, divided, finite, varying_as_channels
from headrace.hn import Array
from headrace.layers import Activation, BatchNorm, Operation

#: The largest float32; it and its negative stand for no bound.
FLOAT_MAX = float(np.finfo(np.float32).max)


def applied(builder: Builder, view: View, name: str, **params: float) -> View:
    """An activation, with its parameters, on every element."""
    return builder.same_layout(builder.emit(Activation(name, params), [view.layer]), view)


def clipped(builder: Builder, view: View, low: float, high: float) -> View:
    """``min(max(x, low), high)``; ±FLOAT_MAX stands for no bound."""
    if low > high:  # as the standard has it
        return per_channel(builder, view, 0.0, high)
    if (low, high) == (-FLOAT_MAX, FLOAT_MAX):
        return view
    name = {(0.0, FLOAT_MAX): "relu", (0.0, 6.0): "relu6"}.get((low, high), "clip")
    return applied(builder, view, name, min=low, max=high) if name == "clip" else applied(builder, view, name)


def per_channel(builder: Builder, view: View, scale: Array | float, offset: Array | float = 0.0) -> View:
    """``x · scale + offset`` with constants that broadcast to the tensor; float64 until parsing ends."""
    scale, offset = (divided(builder, view, np.asarray(constant)) for constant in (scale, offset))
    view = varying_as_channels(builder, view, (scale, offset))
    params = {
        "scale": finite(channel_vector(view, scale), "the factor"),
        "offset": finite(channel_vector(view, offset), "the offset"),
    }
    return builder.same_layout(builder.emit(BatchNorm(), [view.layer], params), view)


def combine(builder: Builder, operation: Operation, left: View, right: View) -> View:
    """An element-wise operation of two tensors, broadcast as ONNX does."""
    if left.dims == right.dims and left.extent == right.extent:
        layers = builder.same_rank([left.layer, right.layer])
        return builder.same_layout(builder.emit(operation, layers), left)
    if left.rank != right.rank and builder.one_frame:
        rank = max(left.rank, right.rank)
        return combine(builder, operation, with_rank(left, rank), with_rank(right, rank))
    if left.rank == right.rank and not (left.batch_first and right.batch_first):
        if left.batch_dim != right.batch_dim and not builder.one_frame:
            raise Unsupported("operands whose batch is not the same dimension", "one place for the batch")
        (first, put_back), (second, _) = lift_batch(left), lift_batch(right)
        return put_back(combine(builder, operation, first, second))
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
        return builder.output(builder.emit(operation, layers), arrangement)
    sizes = [max(pair) for pair in zip(left.shape, right.shape, strict=True)]
    marks = [(a == 1, b == 1) for a, b in zip(left.shape, right.shape, strict=True)]
    groups = builder.common_groups([left, right], group_dimensions(larger, marks))
    layers = builder.same_rank([builder.place(view, groups) for view in (left, right)])
    return builder.grouped(builder.emit(operation, layers).name, groups, sizes)
