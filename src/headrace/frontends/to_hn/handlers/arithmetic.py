# SPDX-License-Identifier: Apache-2.0
"""Operators put together from sums, products and activations: Max, Min, Pow, LRN, and functions of one tensor."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported, constant
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.elementwise import FLOAT_MAX, applied, clipped, combine
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import Activation, Add, Convolution, Multiply, Subtract


def _larger(builder: Builder, a: View, b: View) -> View:
    """max(a, b) = a + relu(b - a)."""
    return combine(builder, Add(), a, applied(builder, combine(builder, Subtract(), b, a), "relu"))


def _smaller(builder: Builder, a: View, b: View) -> View:
    """min(a, b) = a - relu(a - b)."""
    return combine(builder, Subtract(), a, applied(builder, combine(builder, Subtract(), a, b), "relu"))


@handles("Max", "Min")
def extreme(builder: Builder, node: SourceNode) -> list[Result]:
    largest = node.op_type == "Max"
    result: View | None = None
    bounds: list[int] = []
    for index, value in enumerate(node.inputs):
        if constant(value) is not None:
            bounds.append(index)
            continue
        view = node.view(index)
        result = view if result is None else (_larger if largest else _smaller)(builder, result, view)
    if result is None:
        raise Unsupported("all of its inputs are constants")
    for index in bounds:
        array = node.weights(index, "the bound")
        if array.size != 1:
            raise Unsupported(f"a bound of shape {list(array.shape)}", "one number, or a computed tensor")
        number = float(array.reshape(-1)[0])
        result = clipped(builder, result, number if largest else -FLOAT_MAX, FLOAT_MAX if largest else number)
    return [result]


@handles("Pow")
def power(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    exponent = node.constant(1, "the exponent")
    number = float(exponent.reshape(-1)[0]) if exponent.size == 1 else float("nan")
    match number:
        case 1.0:
            return [view]
        case 2.0:
            return [combine(builder, Multiply(), view, view)]
        case 3.0:
            return [combine(builder, Multiply(), combine(builder, Multiply(), view, view), view)]
        case 0.5:
            return [applied(builder, view, "sqrt")]
        case -1.0:
            return [applied(builder, view, "reciprocal")]
        case -0.5:
            return [applied(builder, applied(builder, view, "sqrt"), "reciprocal")]
        case _:
            raise Unsupported(f"the exponent {exponent.reshape(-1)[:4].tolist()}", "1, 2, 3, 0.5, -0.5 or -1")


#: The convolution that sums neighbouring channels has the square of this many weights.
MAX_LRN_CHANNELS = 2048


@handles("LRN")
def local_response_normalization(builder: Builder, node: SourceNode) -> list[Result]:
    """X · (bias + alpha/size · Σ of squares of neighbouring channels)^-beta: the sum is a 1×1 convolution."""
    view = node.view(0)
    size, alpha = node.integer("size", 0), node.real("alpha", 1e-4)
    beta, bias = node.real("beta", 0.75), node.real("bias", 1.0)
    if size < 1 or alpha < 0 or bias <= 0 or beta <= 0:
        raise Unsupported(f"size {size}, alpha {alpha:g}, beta {beta:g}, bias {bias:g}", "positive numbers")
    layer = builder.image(view)
    channels = builder.extent(layer)[2]
    if channels > MAX_LRN_CHANNELS:
        raise Unsupported(f"{channels} channels", f"at most {MAX_LRN_CHANNELS}")
    distance = np.arange(channels)[:, None] - np.arange(channels)[None, :]  # input channel less output channel
    near = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
    kernel = (near * (alpha / size)).reshape(1, 1, channels, channels)
    square = builder.emit(Multiply(), [layer, layer])
    params = {"kernel": kernel, "bias": np.full(channels, bias)}
    total = builder.emit(Convolution(kernel_shape=(1, 1, channels, channels)), [square.name], params)
    factor = builder.emit(Activation("power", {"exponent": -beta}), [total.name])
    return [builder.output(builder.emit(Multiply(), [layer, factor.name]), IMAGE)]


@handles("Reciprocal", "Sqrt", "Abs", "Exp", "Log", "Softplus", "Softsign", "Sin", "Cos", "Erf")
def unary(builder: Builder, node: SourceNode) -> list[Result]:
    return [applied(builder, node.view(0), node.op_type.lower())]
