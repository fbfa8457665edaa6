# SPDX-License-Identifier: Apache-2.0
"""Operators that only change how a tensor is seen: nothing is emitted for them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from headrace.frontends.fold import axis_in, reshaped, shape_of, squeezed, unsqueezed
from headrace.frontends.graph import MixesFrames, Unsupported, integer_list
from headrace.frontends.layout import BatchCutError, permute, regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles


@handles("Identity")
def identity(builder: Builder, node: SourceNode) -> list[Result]:
    return [node.view(0)]


@handles("Dropout")
def dropout(builder: Builder, node: SourceNode) -> list[Result]:
    mode = node.optional(2, "training_mode")
    if mode is not None and mode.any():
        raise Unsupported("Dropout in training mode", "a model exported in evaluation mode")
    view = node.view(0)
    builder.budget.take(builder.full_shape(view), np.dtype(bool))
    return [view, np.ones(builder.full_shape(view), bool)]


@handles("Transpose")
def transpose(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    return [permute(view, node.integers("perm", range(view.rank)[::-1]))]


@handles("Reshape")
def reshape(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    wanted = node.integer_list(1, "the shape")
    shape = reshaped(builder.full_shape(view), wanted, node.integer("allowzero", 0) == 1)
    try:
        return [builder.regroup(view, shape, wanted.index(-1) if -1 in wanted else None)]
    except BatchCutError as error:
        raise MixesFrames(str(error)) from None


@handles("Flatten")
def flatten(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    axis = node.integer("axis", 1)
    axis = axis + view.rank if axis < 0 else axis
    if not 0 <= axis <= view.rank:
        raise Unsupported(f"Flatten at axis {axis} of a tensor of rank {view.rank}")
    if axis == 0 and builder.batch != 1:
        raise MixesFrames("Flatten at axis 0 joins the frames of a batch", "axis 1")
    flat = [math.prod(view.shape[:axis]), math.prod(view.shape[axis:])]
    return [regroup(view, flat, movable=builder.one_frame)]


@handles("Squeeze")
def squeeze(builder: Builder, node: SourceNode) -> list[Result]:
    view, given = node.view(0), node.optional(1, "axes")
    shape = squeezed(view.shape, None if given is None else integer_list(given, "axes"))
    if given is not None:
        gone = [axis_in(a, view.rank) for a in integer_list(given, "axes")]
    else:
        gone = [i for i, size in enumerate(view.shape) if size == 1 and (builder.batch == 1 or not view.dims[i])]
    if not any(view.dims[a] for a in gone):
        return [replace(view, dims=tuple(d for i, d in enumerate(view.dims) if i not in gone))]
    if builder.batch != 1:
        raise MixesFrames("Squeeze of the batch", "other axes")
    return [builder.regroup(view, shape)]


@handles("Unsqueeze")
def unsqueeze(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    axes = node.integer_list(1, "axes")
    shape = unsqueezed(view.shape, axes)
    if builder.one_frame and (not view.dims or len(view.dims[view.batch_dim]) > 1):
        return [builder.regroup(view, shape)]  # the batch was squeezed away, and this may be where it comes back
    places = {axis_in(a, len(shape)) for a in axes}
    rest = iter(view.dims)
    return [replace(view, dims=tuple(() if i in places else next(rest) for i in range(len(shape))))]


@handles("Shape")
def shape(builder: Builder, node: SourceNode) -> list[Result]:
    return [shape_of(node.node, builder.full_shape(node.view(0)))]


@handles("EyeLike")
def eye_like(builder: Builder, node: SourceNode) -> list[Result]:
    shape = builder.full_shape(node.view(0))
    if len(shape) != 2 or (builder.batch < 0 and shape[0] == 1):
        raise Unsupported(f"EyeLike of {list(shape)}", "a matrix whose sizes are known")
    builder.budget.take(shape)
    node.integer("dtype", 1)
    return [np.eye(*shape, k=min(max(node.integer("k", 0), -shape[0]), shape[1]), dtype=np.float32)]


@handles("Size")
def size(builder: Builder, node: SourceNode) -> list[Result]:
    return [np.array(node.view(0).elements * builder.frames, np.int64)]
