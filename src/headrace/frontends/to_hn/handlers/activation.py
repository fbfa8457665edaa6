# SPDX-License-Identifier: Apache-2.0
"""Element-wise functions of one tensor; they neither see nor change the layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import FLOAT_MAX, applied, clipped, combine, per_channel
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.operands import SourceNode, channel_vector, divided, finite, varying_as_channels
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import Activation, Multiply, Subtract

#: An activation and its parameters.
Choice = tuple[str, dict[str, float]]

_SIMPLE: dict[str, Callable[[SourceNode], Choice]] = {
    "Relu": lambda node: ("relu", {}),
    "Sigmoid": lambda node: ("sigmoid", {}),
    "Tanh": lambda node: ("tanh", {}),
    "HardSwish": lambda node: ("hard_swish", {}),
    "HardSigmoid": lambda node: ("hard_sigmoid", {"alpha": node.real("alpha", 0.2), "beta": node.real("beta", 0.5)}),
    "LeakyRelu": lambda node: ("leaky_relu", {"alpha": node.real("alpha", 0.01)}),
    "ThresholdedRelu": lambda node: ("thresholded_relu", {"alpha": node.real("alpha", 1.0)}),
    "Mish": lambda node: ("mish", {}),
    "Celu": lambda node: ("celu", {"alpha": node.real("alpha", 1.0)}),
    "Selu": lambda node: (
        "selu",
        {"alpha": node.real("alpha", 1.6732631921768188), "gamma": node.real("gamma", 1.0507010221481323)},
    ),
    "Elu": lambda node: ("elu", {"alpha": node.real("alpha", 1.0)}),
}


@handles(*_SIMPLE)
def simple(builder: Builder, node: SourceNode) -> list[Result]:
    name, parameters = _SIMPLE[node.op_type](node)
    return [applied(builder, node.view(0), name, **parameters)]


@handles("Gelu")
def gelu(builder: Builder, node: SourceNode) -> list[Result]:
    form = node.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise Unsupported(f"Gelu with approximate {form!r}", "none or tanh")
    return [applied(builder, node.view(0), "gelu" if form == "none" else "gelu_tanh")]


@handles("Swish")
def swish(builder: Builder, node: SourceNode) -> list[Result]:
    alpha = node.real("alpha", 1.0)
    view = node.view(0)
    if alpha == 1.0:
        return [applied(builder, view, "silu")]
    inner = per_channel(builder, view, alpha)
    return [combine(builder, Multiply(), view, applied(builder, inner, "sigmoid"))]


def _bound(builder: Builder, node: SourceNode, index: int, default: float) -> float:
    array = node.optional(index, "a bound")
    if array is None:
        return default
    if array.size != 1 or array.dtype.kind not in "fiu" or np.isnan(float(array.reshape(-1)[0])):
        raise Unsupported(f"the bound {array.reshape(-1)[:4].tolist()} is not a number")
    return float(np.clip(float(array.reshape(-1)[0]), -FLOAT_MAX, FLOAT_MAX))


@handles("Clip")
def clip(builder: Builder, node: SourceNode) -> list[Result]:
    low, high = _bound(builder, node, 1, -FLOAT_MAX), _bound(builder, node, 2, FLOAT_MAX)
    return [clipped(builder, node.view(0), low, high)]


@handles("Shrink")
def shrink(builder: Builder, node: SourceNode) -> list[Result]:
    """What lies within ±lambd becomes 0, what lies outside comes nearer to it by the bias."""
    limit, bias = node.real("lambd", 0.5), node.real("bias", 0.0)
    if limit < 0:
        raise Unsupported(f"lambd {limit:g}", "a number that is not negative")
    view = node.view(0)
    parts: list[View] = []
    for sign in (1.0, -1.0):
        kept = applied(builder, per_channel(builder, view, sign), "thresholded_relu", alpha=limit)
        if bias:
            above = applied(builder, per_channel(builder, view, sign, -limit), "positive")
            kept = combine(builder, Subtract(), kept, per_channel(builder, above, bias))
        parts.append(kept)
    return [combine(builder, Subtract(), parts[0], parts[1])]


@handles("PRelu")
def prelu(builder: Builder, node: SourceNode) -> list[Result]:
    """One slope: LeakyRelu. A slope per channel (or per element, seen as channels): an activation with slopes."""
    if node.known(1) is None:  # max(x, 0) - slope · max(-x, 0)
        view = node.view(0)
        below = applied(builder, per_channel(builder, view, -1.0), "relu")
        scaled = combine(builder, Multiply(), below, node.view(1))
        return [combine(builder, Subtract(), applied(builder, view, "relu"), scaled)]
    slope = node.weights(1, "the slope")
    if slope.size == 0:
        raise Unsupported("PRelu without a slope", "at least one number")
    if np.ptp(slope) == 0:
        return [applied(builder, node.view(0), "leaky_relu", alpha=float(slope.reshape(-1)[0]))]
    slope = divided(builder, node.view(0), slope)
    view = varying_as_channels(builder, enlarged(builder, node.view(0), slope), (slope,))
    slopes = finite(channel_vector(view, slope), "the slope")
    made = builder.emit(Activation("prelu"), [view.layer], {"slope": slopes})
    return [builder.same_layout(made, view)]
