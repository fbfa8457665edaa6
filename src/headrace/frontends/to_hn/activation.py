# SPDX-License-Identifier: Apache-2.0
"""Element-wise functions of one tensor; they neither see nor change the layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, real, text
from headrace.frontends.layout import View
from headrace.frontends.to_hn.base import Builder, Result, handles

Choice = tuple[str, dict[str, float]]
FLOAT_MAX = float(np.finfo(np.float32).max)


def activation(builder: Builder, node: ir.Node, choice: Choice) -> list[Result]:
    view = builder.view(node, 0)
    name, params = choice
    attributes: dict[str, object] = {"activation": name}
    if params:
        attributes["activation_params"] = params
    return [builder.same_layout(builder.emit("activation", [view.layer], attributes), view)]


_SIMPLE: dict[str, Callable[[ir.Node], Choice]] = {
    "Relu": lambda node: ("relu", {}),
    "Sigmoid": lambda node: ("sigmoid", {}),
    "Tanh": lambda node: ("tanh", {}),
    "HardSwish": lambda node: ("hard_swish", {}),
    "HardSigmoid": lambda node: ("hard_sigmoid", {"alpha": real(node, "alpha", 0.2), "beta": real(node, "beta", 0.5)}),
    "LeakyRelu": lambda node: ("leaky_relu", {"alpha": real(node, "alpha", 0.01)}),
    "ThresholdedRelu": lambda node: ("thresholded_relu", {"alpha": real(node, "alpha", 1.0)}),
    "Mish": lambda node: ("mish", {}),
    "Celu": lambda node: ("celu", {"alpha": real(node, "alpha", 1.0)}),
    "Selu": lambda node: (
        "selu",
        {"alpha": real(node, "alpha", 1.6732631921768188), "gamma": real(node, "gamma", 1.0507010221481323)},
    ),
    "Elu": lambda node: ("elu", {"alpha": real(node, "alpha", 1.0)}),
}


@handles(*_SIMPLE)
def simple(builder: Builder, node: ir.Node) -> list[Result]:
    return activation(builder, node, _SIMPLE[node.op_type](node))


@handles("Gelu")
def gelu(builder: Builder, node: ir.Node) -> list[Result]:
    form = text(node, "approximate", "none") or "none"
    if form not in ("none", "tanh"):
        raise Unsupported(f"Gelu with approximate {form!r}", "none or tanh")
    return activation(builder, node, ("gelu" if form == "none" else "gelu_tanh", {}))


@handles("Swish")
def swish(builder: Builder, node: ir.Node) -> list[Result]:
    alpha = real(node, "alpha", 1.0)
    if alpha == 1.0:
        return activation(builder, node, ("silu", {}))
    # Imported where it is needed: element-wise operations are made of activations too.
    from headrace.frontends.to_hn.elementwise import combine, per_channel

    view = builder.view(node, 0)
    inner = per_channel(builder, view, np.full((), alpha), np.zeros(()))
    gate = builder.same_layout(builder.emit("activation", [inner.layer], {"activation": "sigmoid"}), inner)
    return [combine(builder, "ew_mult", view, gate)]


def _bound(builder: Builder, node: ir.Node, index: int, default: float) -> float:
    array = builder.optional(node, index, "a bound")
    if array is None:
        return default
    if array.size != 1 or array.dtype.kind not in "fiu" or np.isnan(float(array.reshape(-1)[0])):
        raise Unsupported(f"the bound {array.reshape(-1)[:4].tolist()} is not a number")
    return float(np.clip(float(array.reshape(-1)[0]), -FLOAT_MAX, FLOAT_MAX))


@handles("Clip")
def clip(builder: Builder, node: ir.Node) -> list[Result]:
    low, high = _bound(builder, node, 1, -FLOAT_MAX), _bound(builder, node, 2, FLOAT_MAX)
    return [clipped(builder, builder.view(node, 0), low, high)]


def clipped(builder: Builder, view: View, low: float, high: float) -> View:
    """``min(max(x, low), high)``; ±FLOAT_MAX stands for no bound."""
    if low > high:
        raise Unsupported(f"bounds {low:g} and {high:g} are in the wrong order")
    if (low, high) == (-FLOAT_MAX, FLOAT_MAX):
        return view
    name = {(0.0, FLOAT_MAX): "relu", (0.0, 6.0): "relu6"}.get((low, high), "clip")
    attributes: dict[str, object] = {"activation": name}
    if name == "clip":
        attributes["activation_params"] = {"min": low, "max": high}
    return builder.same_layout(builder.emit("activation", [view.layer], attributes), view)


@handles("PRelu")
def prelu(builder: Builder, node: ir.Node) -> list[Result]:
    """One slope: LeakyRelu. A slope per channel (or per element, seen as channels): an activation with slopes."""
    slope = builder.weights(node, 1, "the slope")
    if slope.size == 0:
        raise Unsupported("PRelu without a slope", "at least one number")
    if np.ptp(slope) == 0:
        return activation(builder, node, ("leaky_relu", {"alpha": float(slope.reshape(-1)[0])}))
    slope = builder.divided(builder.view(node, 0), slope)
    view = builder.varying_as_channels(builder.view(node, 0), (slope,))
    slopes = builder.finite(builder.channel_vector(view, slope), "the slope")
    made = builder.emit("activation", [view.layer], {"activation": "prelu"}, {"slope": slopes})
    return [builder.same_layout(made, view)]
