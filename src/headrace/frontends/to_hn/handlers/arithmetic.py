# SPDX-License-Identifier: Apache-2.0
"""Operators put together from sums, products and activations: Max, Min, Pow, LRN, and functions of one tensor."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported, constant
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.elementwise import FLOAT_MAX, applied, clipped, combine, per_channel
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
from headrace.layers import Activation, Add, Convolution, Multiply, Subtract

#: Products that a whole power may become, and exponents of others.
MAX_POWER = 16


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
        array = divided(builder, result, node.weights(index, "the bound"))
        if array.size == 1 and array.ndim <= result.rank:
            number = float(array.reshape(-1)[0])
            result = clipped(builder, result, number if largest else -FLOAT_MAX, FLOAT_MAX if largest else number)
            continue
        sign = 1.0 if largest else -1.0  # the bound plus what is beyond it
        beyond = applied(builder, per_channel(builder, enlarged(builder, result, array), sign, -sign * array), "relu")
        result = per_channel(builder, beyond, sign, array)
    return [result]


def whole_power(builder: Builder, view: View, exponent: int) -> View:
    """By repeated squares, for 2 and above."""
    result: View | None = None
    while exponent:
        if exponent & 1:
            result = view if result is None else combine(builder, Multiply(), result, view)
        exponent >>= 1
        view = combine(builder, Multiply(), view, view) if exponent else view
    assert result is not None
    return result


@handles("Pow")
def power(builder: Builder, node: SourceNode) -> list[Result]:
    """By whole numbers as products, by others of what is not negative; of a constant as an exponential."""
    if node.known(0) is not None or node.known(1) is None:
        return [_computed_power(builder, node)]
    view = node.view(0)
    exponents = divided(builder, view, node.weights(1, "the exponent"))
    if exponents.size != 1 and np.ptp(exponents) != 0:
        return [_mixed_powers(builder, view, exponents)]
    view = enlarged(builder, view, exponents)
    number = float(exponents.reshape(-1)[0])
    match number:
        case 0.0:
            return [per_channel(builder, view, 0.0, 1.0)]
        case 1.0:
            return [view]
        case 0.5:
            return [applied(builder, view, "sqrt")]
        case -1.0:
            return [applied(builder, view, "reciprocal")]
        case -0.5:
            return [applied(builder, applied(builder, view, "sqrt"), "reciprocal")]
        case _ if number == round(number) and abs(number) <= MAX_POWER:
            made = whole_power(builder, view, int(abs(number)))
            return [made if number > 0 else applied(builder, made, "reciprocal")]
        case _ if abs(number) <= MAX_POWER:
            return [applied(builder, view, "power", exponent=number)]
        case _:
            raise Unsupported(f"the exponent {number:g}", f"at most {MAX_POWER}")


def _mixed_powers(builder: Builder, view: View, exponents: Array) -> View:
    """Several exponents: each element is one of a few powers, chosen by a constant mask."""
    values = sorted({float(v) for v in exponents.reshape(-1)})
    if len(values) > MAX_POWER or any(v != round(v) or not 0 <= v <= MAX_POWER for v in values):
        raise Unsupported(f"the exponents {values[:4]}", f"at most {MAX_POWER} whole numbers, or one exponent")
    view = enlarged(builder, view, exponents)
    result: View | None = None
    for value in values:
        mask = (exponents == value).astype(np.float64)
        if value == 0.0:
            part = per_channel(builder, view, 0.0, mask)
        else:
            part = per_channel(builder, whole_power(builder, view, int(value)), mask)
        result = part if result is None else combine(builder, Add(), result, part)
    assert result is not None
    return result


def _computed_power(builder: Builder, node: SourceNode) -> View:
    """``exp(y · log x)``; of a constant x it is exact."""
    exponent = node.view(1) if node.known(1) is None else None
    if exponent is None:
        raise Unsupported("both of its operands are constants")
    if node.known(0) is not None:
        base = divided(builder, exponent, node.weights(0, "the base"))
        if np.any(base <= 0):
            raise Unsupported("a base that is not positive", "positive numbers")
        return applied(builder, per_channel(builder, enlarged(builder, exponent, base), np.log(base)), "exp")
    logarithm = applied(builder, node.view(0), "log")
    return applied(builder, combine(builder, Multiply(), logarithm, exponent), "exp")


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


@handles("Reciprocal", "Sqrt", "Abs", "Exp", "Log", "Softplus", "Softsign", "Sin", "Cos", "Erf", "Asin", "Atan")
def unary(builder: Builder, node: SourceNode) -> list[Result]:
    return [applied(builder, node.view(0), node.op_type.lower())]


@handles("Sinh", "Cosh", "Tan")
def of_exponentials(builder: Builder, node: SourceNode) -> list[Result]:
    """Half of ``exp x ∓ exp -x``; the quotient of sine and cosine."""
    view = node.view(0)
    if node.op_type == "Tan":
        inverse = applied(builder, applied(builder, view, "cos"), "reciprocal")
        return [combine(builder, Multiply(), applied(builder, view, "sin"), inverse)]
    up, down = (applied(builder, per_channel(builder, view, sign), "exp") for sign in (1.0, -1.0))
    operation = Subtract() if node.op_type == "Sinh" else Add()
    return [per_channel(builder, combine(builder, operation, up, down), 0.5)]


@handles("Acos")
def inverse_cosine(builder: Builder, node: SourceNode) -> list[Result]:
    """A right angle less the inverse sine."""
    return [per_channel(builder, applied(builder, node.view(0), "asin"), -1.0, np.pi / 2)]


@handles("Asinh", "Acosh", "Atanh")
def inverse_hyperbolic(builder: Builder, node: SourceNode) -> list[Result]:
    """Logarithms: of ``x + √(x² ± 1)``, and of the quotient of ``1 + x`` and ``1 - x``."""
    view = node.view(0)
    if node.op_type == "Atanh":
        above, below = (applied(builder, per_channel(builder, view, sign, 1.0), "log") for sign in (1.0, -1.0))
        return [per_channel(builder, combine(builder, Subtract(), above, below), 0.5)]
    one = 1.0 if node.op_type == "Asinh" else -1.0
    inside = per_channel(builder, combine(builder, Multiply(), view, view), 1.0, one)
    return [applied(builder, combine(builder, Add(), view, applied(builder, inside, "sqrt")), "log")]
