# SPDX-License-Identifier: Apache-2.0
"""Normalizations by a frame's own mean and variance, put together from primitives; what is small gets 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View, regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine, per_channel
from headrace.frontends.to_hn.compositions.normalize import divided_by_root, normalized, wide
from headrace.frontends.to_hn.compositions.reduce import pooled_mean, reduce_over
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
from headrace.layers import Multiply


def _affine(builder: Builder, node: SourceNode, view: View, shape: Sequence[int]) -> View:
    """The scale and bias of inputs 1 and 2, which become ``shape``."""

    def given(index: int, what: str, default: float) -> Array:
        if not node.has(index):
            return np.asarray(default)
        array = node.weights(index, what)
        if array.size != int(np.prod(shape)):
            raise Unsupported(f"{what} has shape {list(array.shape)}", str(list(shape)))
        return array.reshape(shape)

    return per_channel(builder, view, given(1, "the scale", 1.0), given(2, "the bias", 0.0))


@handles("InstanceNormalization")
def instance_normalization(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    if view.rank < 3:
        raise Unsupported(f"rank {view.rank}", "N,C and at least one more dimension")
    result, _, _ = normalized(builder, view, range(2, view.rank), node.real("epsilon", 1e-5))
    return [_affine(builder, node, result, [view.shape[1], *[1] * (view.rank - 2)])]


@handles("LayerNormalization")
def layer_normalization(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    axis = axis_in(node.integer("axis", -1), view.rank)
    result, mean, inverse = normalized(builder, view, range(axis, view.rank), node.real("epsilon", 1e-5))
    return [_affine(builder, node, result, view.shape[axis:]), mean, inverse]


@handles("RMSNormalization")
def root_mean_square_normalization(builder: Builder, node: SourceNode) -> list[Result]:
    """``x / √(mean of x² + epsilon) · scale`` over the last dimensions."""
    view, epsilon = node.view(0), node.real("epsilon", 1e-5)
    axis = axis_in(node.integer("axis", -1), view.rank)
    if epsilon <= 0:
        raise Unsupported(f"epsilon {epsilon:g}", "a positive number")
    square = wide(builder, combine(builder, Multiply(), view, view))
    mean = wide(builder, reduce_over(builder, square, list(range(axis, view.rank)), True, pooled_mean))
    inverse = wide(builder, applied(builder, mean, "power", exponent=-0.5, offset=epsilon))
    return [_affine(builder, node, combine(builder, Multiply(), view, inverse), view.shape[axis:])]


@handles("LpNormalization")
def unit_length(builder: Builder, node: SourceNode) -> list[Result]:
    """``x / Σ|x|`` or ``x / √Σx²`` along one axis; a tensor of zeros gives zeros."""
    view, power = node.view(0), node.integer("p", 2)
    axis = axis_in(node.integer("axis", -1), view.rank)
    if power not in (1, 2):
        raise Unsupported(f"the norm of order {power}", "order 1 or 2")
    if power == 2:
        return [divided_by_root(builder, view, axis, 1e-24)]
    size = wide(builder, applied(builder, view, "abs"))
    mean = wide(builder, reduce_over(builder, size, [axis], True, pooled_mean))
    inverse = wide(builder, applied(builder, mean, "power", exponent=-1.0, offset=1e-24))
    return [per_channel(builder, combine(builder, Multiply(), view, inverse), 1.0 / view.shape[axis])]


@handles("GroupNormalization")
def group_normalization(builder: Builder, node: SourceNode) -> list[Result]:
    view, groups = node.view(0), node.integer("num_groups", 0)
    if view.rank < 2 or groups < 1 or view.shape[1] % groups:
        raise Unsupported(f"{groups} groups of {list(view.shape)}", "groups that divide the channels")
    channels, ones = view.shape[1], [1] * (view.rank - 2)
    split = regroup(view, [1, groups, channels // groups, *view.shape[2:]])
    result, _, _ = normalized(builder, split, range(2, split.rank), node.real("epsilon", 1e-5))
    whole = regroup(result, view.shape)
    per_group = node.has(1) and node.constant(1, "the scale").size == groups != channels
    if not per_group:
        return [_affine(builder, node, whole, [channels, *ones])]
    grouped = _affine(builder, node, regroup(whole, split.shape), [groups, 1, *ones])  # operator set 18
    return [regroup(grouped, view.shape)]
