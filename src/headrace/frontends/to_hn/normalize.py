# SPDX-License-Identifier: Apache-2.0
"""Normalisations by a frame's own mean and variance, put together from primitives; what is small gets 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported, integer, real
from headrace.frontends.layout import CHANNELS, View, regroup
from headrace.frontends.to_hn.base import Builder, Result, handles
from headrace.frontends.to_hn.elementwise import combine, per_channel
from headrace.frontends.to_hn.reduce import reduce_over, spatial_mean
from headrace.hn import Array
from headrace.layers.activation import OUTPUT_SCALE


def _wide(builder: Builder, view: View) -> View:
    """Codes of 16 bits for this tensor."""
    builder.network[view.layer].quantization = {"precision": {"bits": 16}}
    return view


def pooled_mean(builder: Builder, layer: str, axes: set[int]) -> str:
    """The mean by pools alone, which take 16 bits: channels become columns for it."""
    layer = spatial_mean(builder, layer, axes)
    if CHANNELS not in axes:
        return layer
    height, width, channels = builder.extent(layer)
    columns = builder.emit("reshape", [layer], {"shape": [height * width, channels, 1]}).name
    mean = builder.emit("avgpool", [columns], {"kernel_shape": [1, channels]}).name
    return builder.emit("reshape", [mean], {"shape": [height, width, 1]}).name


def normalised(builder: Builder, view: View, axes: Sequence[int], epsilon: float) -> tuple[View, View, View]:
    """``(x - mean) / sqrt(variance + epsilon)`` over source dimensions, the mean, and the factor."""
    if epsilon <= 0:
        raise Unsupported(f"epsilon {epsilon:g}", "a positive number")
    mean = reduce_over(builder, view, list(axes), True, pooled_mean)
    centered = combine(builder, "ew_sub", view, mean)
    square = _wide(builder, combine(builder, "ew_mult", centered, centered))
    variance = _wide(builder, reduce_over(builder, square, list(axes), True, pooled_mean))
    attributes = {"activation": "power", "activation_params": {"exponent": -0.5, "offset": epsilon}}
    inverse = builder.same_layout(builder.emit("activation", [variance.layer], attributes), variance)
    return combine(builder, "ew_mult", centered, _wide(builder, inverse)), mean, inverse


def _affine(builder: Builder, node: ir.Node, view: View, shape: Sequence[int]) -> View:
    """The scale and bias of inputs 1 and 2, which become ``shape``."""

    def given(index: int, what: str, default: float) -> Array:
        if index >= len(node.inputs) or node.inputs[index] is None:
            return np.full((), default)
        array = builder.weights(node, index, what)
        if array.size != int(np.prod(shape)):
            raise Unsupported(f"{what} has shape {list(array.shape)}", str(list(shape)))
        return array.reshape(shape)

    return per_channel(builder, view, given(1, "the scale", 1.0), given(2, "the bias", 0.0))


@handles("InstanceNormalization")
def instance_normalization(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    if view.rank < 3:
        raise Unsupported(f"rank {view.rank}", "N,C and at least one more dimension")
    result, _, _ = normalised(builder, view, range(2, view.rank), real(node, "epsilon", 1e-5))
    return [_affine(builder, node, result, [view.shape[1], *[1] * (view.rank - 2)])]


@handles("LayerNormalization")
def layer_normalization(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    axis = axis_in(integer(node, "axis", -1), view.rank)
    result, mean, inverse = normalised(builder, view, range(axis, view.rank), real(node, "epsilon", 1e-5))
    return [_affine(builder, node, result, view.shape[axis:]), mean, inverse]


@handles("RMSNormalization")
def root_mean_square_normalization(builder: Builder, node: ir.Node) -> list[Result]:
    """``x / √(mean of x² + epsilon) · scale`` over the last dimensions."""
    view, epsilon = builder.view(node, 0), real(node, "epsilon", 1e-5)
    axis = axis_in(integer(node, "axis", -1), view.rank)
    if epsilon <= 0:
        raise Unsupported(f"epsilon {epsilon:g}", "a positive number")
    square = _wide(builder, combine(builder, "ew_mult", view, view))
    mean = _wide(builder, reduce_over(builder, square, list(range(axis, view.rank)), True, pooled_mean))
    attributes = {"activation": "power", "activation_params": {"exponent": -0.5, "offset": epsilon}}
    inverse = _wide(builder, builder.same_layout(builder.emit("activation", [mean.layer], attributes), mean))
    return [_affine(builder, node, combine(builder, "ew_mult", view, inverse), view.shape[axis:])]


@handles("LpNormalization")
def unit_length(builder: Builder, node: ir.Node) -> list[Result]:
    """``x / Σ|x|`` or ``x / √Σx²`` along one axis; a tensor of zeros gives zeros."""
    view, power = builder.view(node, 0), integer(node, "p", 2)
    axis = axis_in(integer(node, "axis", -1), view.rank)
    if power not in (1, 2):
        raise Unsupported(f"the norm of order {power}", "order 1 or 2")
    if power == 2:
        return [divided_by_root(builder, view, axis, 1e-24)]
    size = builder.same_layout(builder.emit("activation", [view.layer], {"activation": "abs"}), view)
    total = reduce_over(builder, _wide(builder, size), [axis], True, pooled_mean)
    attributes = {"activation": "power", "activation_params": {"exponent": -1.0, "offset": 1e-24}}
    inverse = builder.same_layout(builder.emit("activation", [_wide(builder, total).layer], attributes), total)
    scale = np.full((), 1.0 / view.shape[axis])
    return [per_channel(builder, combine(builder, "ew_mult", view, _wide(builder, inverse)), scale, np.zeros(()))]


def divided_by_root(builder: Builder, view: View, axis: int, least: float) -> View:
    """``x / √(Σx² + least)`` along one source dimension."""
    square = _wide(builder, combine(builder, "ew_mult", view, view))
    mean = _wide(builder, reduce_over(builder, square, [axis], True, pooled_mean))
    count = view.shape[axis]
    params = {"exponent": -0.5, "offset": least / count, OUTPUT_SCALE: count**-0.5}
    made = builder.emit("activation", [mean.layer], {"activation": "power", "activation_params": params})
    return combine(builder, "ew_mult", view, _wide(builder, builder.same_layout(made, mean)))


@handles("GroupNormalization")
def group_normalization(builder: Builder, node: ir.Node) -> list[Result]:
    view, groups = builder.view(node, 0), integer(node, "num_groups", 0)
    if view.rank < 2 or groups < 1 or view.shape[1] % groups:
        raise Unsupported(f"{groups} groups of {list(view.shape)}", "groups that divide the channels")
    channels, ones = view.shape[1], [1] * (view.rank - 2)
    split = regroup(view, [1, groups, channels // groups, *view.shape[2:]])
    result, _, _ = normalised(builder, split, range(2, split.rank), real(node, "epsilon", 1e-5))
    whole = regroup(result, view.shape)
    given = node.inputs[1] if len(node.inputs) > 1 else None
    per_group = given is not None and builder.constant(node, 1, "the scale").size == groups != channels
    if not per_group:
        return [_affine(builder, node, whole, [channels, *ones])]
    grouped = _affine(builder, node, regroup(whole, split.shape), [groups, 1, *ones])  # operator set 18
    return [regroup(grouped, view.shape)]
