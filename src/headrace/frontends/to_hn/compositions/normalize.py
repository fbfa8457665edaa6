# SPDX-License-Identifier: Apache-2.0
"""Normalizations by a frame's own mean and variance; what is small gets 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine
from headrace.frontends.to_hn.compositions.reduce import pooled_mean, reduce_over
from headrace.hn.value import Wish
from headrace.layers import Multiply, Subtract
from headrace.layers.activation import OUTPUT_SCALE


def wide(builder: Builder, view: View) -> View:
    """Codes of 16 bits for this tensor."""
    builder.network[view.layer].output.wish = Wish(bits=16)
    return view


def normalized(builder: Builder, view: View, axes: Sequence[int], epsilon: float) -> tuple[View, View, View]:
    """``(x - mean) / sqrt(variance + epsilon)`` over source dimensions, the mean, and the factor."""
    if epsilon <= 0:
        raise Unsupported(f"epsilon {epsilon:g}", "a positive number")
    mean = reduce_over(builder, view, list(axes), True, pooled_mean)
    centered = combine(builder, Subtract(), view, mean)
    square = wide(builder, combine(builder, Multiply(), centered, centered))
    variance = wide(builder, reduce_over(builder, square, list(axes), True, pooled_mean))
    inverse = wide(builder, applied(builder, variance, "power", exponent=-0.5, offset=epsilon))
    return combine(builder, Multiply(), centered, inverse), mean, inverse


def divided_by_root(builder: Builder, view: View, axis: int, least: float) -> View:
    """``x / √(Σx² + least)`` along one source dimension."""
    square = wide(builder, combine(builder, Multiply(), view, view))
    mean = wide(builder, reduce_over(builder, square, [axis], True, pooled_mean))
    count = view.shape[axis]
    root = {"exponent": -0.5, "offset": least / count, OUTPUT_SCALE: count**-0.5}
    return combine(builder, Multiply(), view, wide(builder, applied(builder, mean, "power", **root)))
