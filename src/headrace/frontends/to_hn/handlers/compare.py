# SPDX-License-Identifier: Apache-2.0
"""Comparisons and what is made of truth values, which are the numbers 0 and 1; and questions whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.frontends.element_types import Elements
from headrace.frontends.fold import broadcast
from headrace.frontends.graph import Unsupported, constant
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine, per_channel
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
from headrace.layers import Add, Multiply, Subtract


def _never(builder: Builder, shape: Sequence[int]) -> Array:
    builder.budget.take(shape, np.dtype(bool))
    return np.zeros(shape, bool)


def operand(builder: Builder, node: SourceNode, index: int) -> View | Array:
    """Operand ``index``: a tensor, or a constant as float64 numbers for one frame."""
    if node.known(index) is None:
        return node.view(index)
    others = [i for i, v in enumerate(node.inputs) if v is not None and node.known(i) is None]
    if not others:
        raise Unsupported("all of its inputs are constants")
    return divided(builder, node.view(others[0]), node.weights(index, "the operand"))


def difference(builder: Builder, left: View | Array, right: View | Array) -> View:
    """``left - right``, one of which may be a constant."""
    if isinstance(left, View) and isinstance(right, View):
        return combine(builder, Subtract(), left, right)
    if isinstance(left, View):
        assert not isinstance(right, View)
        return per_channel(builder, enlarged(builder, left, right), 1.0, -right)
    assert isinstance(right, View)
    return per_channel(builder, enlarged(builder, right, left), -1.0, left)


def _is_real(node: SourceNode) -> bool:
    return Elements.REAL in (node.elements(0), node.elements(1))


def _greater(builder: Builder, node: SourceNode, left: View | Array, right: View | Array) -> View:
    """Whole numbers are told apart half-way between two of them, wherever a scale has put them."""
    gap = difference(builder, left, right)
    return applied(builder, gap if _is_real(node) else per_channel(builder, gap, 1.0, -0.5), "positive")


def opposite(builder: Builder, view: View) -> View:
    """Not, of truth values."""
    return per_channel(builder, view, -1.0, 1.0)


@handles("IsNaN", "IsInf")
def is_not_a_number(builder: Builder, node: SourceNode) -> list[Result]:
    node.integer("detect_negative", 1)
    node.integer("detect_positive", 1)
    return [_never(builder, builder.full_shape(node.view(0)))]


@handles("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def order(builder: Builder, node: SourceNode) -> list[Result]:
    left, right = operand(builder, node, 0), operand(builder, node, 1)
    match node.op_type:
        case "Greater":
            return [_greater(builder, node, left, right)]
        case "Less":
            return [_greater(builder, node, right, left)]
        case "GreaterOrEqual":
            return [opposite(builder, _greater(builder, node, right, left))]
        case _:
            return [opposite(builder, _greater(builder, node, left, right))]


@handles("Equal")
def equal(builder: Builder, node: SourceNode) -> list[Result]:
    """With infinity: never, as attention asks whether a whole row is masked."""
    for at in (0, 1):
        array = constant(node.inputs[at])
        if array is not None and array.dtype.kind == "f" and array.size and np.isinf(array).all():
            return [_never(builder, broadcast(builder.full_shape(node.view(1 - at)), array.shape))]
    left, right = operand(builder, node, 0), operand(builder, node, 1)
    width = 0.0 if _is_real(node) else 0.5
    return [applied(builder, difference(builder, left, right), "is_zero", width=width)]


@handles("And", "Or", "Xor")
def logic(builder: Builder, node: SourceNode) -> list[Result]:
    left, right = operand(builder, node, 0), operand(builder, node, 1)
    if not isinstance(left, View):
        left, right = right, left
    assert isinstance(left, View)
    if not isinstance(right, View):
        left = enlarged(builder, left, right)
        match node.op_type:
            case "And":
                return [per_channel(builder, left, right)]
            case "Or":
                return [per_channel(builder, left, 1.0 - right, right)]
            case _:
                return [per_channel(builder, left, 1.0 - 2.0 * right, right)]
    match node.op_type:
        case "And":
            return [combine(builder, Multiply(), left, right)]
        case "Or":
            return [applied(builder, combine(builder, Add(), left, right), "positive")]
        case _:
            return [applied(builder, combine(builder, Subtract(), left, right), "abs")]


@handles("Not")
def negation(builder: Builder, node: SourceNode) -> list[Result]:
    return [opposite(builder, node.view(0))]


def _quotient_or_zero(builder: Builder, node: SourceNode) -> View | None:
    """Zero where the divisor is zero, else the quotient (TensorFlow's DivNoNan, written out), without dividing by zero:
    ``x / (y + c) · (1 - c)``, c being 1 where y is 0. Another choice would leave what is no number in a product.
    """
    condition, zero, quotient = node.inputs[:3]
    equal, divide = (None if v is None else v.producer() for v in (condition, quotient))
    array = constant(zero)
    if equal is None or divide is None or array is None or array.any():
        return None
    if (equal.op_type, divide.op_type) != ("Equal", "Div") or equal.domain or divide.domain:
        return None
    dividend, divisor = divide.inputs[:2]
    others = [v for v in equal.inputs if v is not divisor]
    compared = constant(others[0]) if len(others) == 1 else None
    views = builder.views
    if compared is None or compared.any() or dividend not in views or divisor not in views:
        return None
    is_zero = node.view(0)
    safe = applied(builder, combine(builder, Add(), views[divisor], is_zero), "reciprocal")
    factor = combine(builder, Multiply(), safe, opposite(builder, is_zero))
    return combine(builder, Multiply(), views[dividend], factor)


@handles("Where")
def where(builder: Builder, node: SourceNode) -> list[Result]:
    """``c·a + (1 - c)·b``; condition and values may be constants."""
    known = node.known(0)
    guarded = None if known is not None else _quotient_or_zero(builder, node)
    if guarded is not None:
        return [guarded]
    if known is not None and known.dtype.kind != "b":
        raise Unsupported(f"the condition has type {known.dtype}", "bool")
    if known is not None:
        return [_chosen_by_constant(builder, node, known.astype(np.float64))]
    condition, constants = node.view(0), [node.known(1), node.known(2)]
    values = [None if c is None else divided(builder, condition, node.mask(i + 1, "the value"))
              for i, c in enumerate(constants)]  # fmt: skip
    first, second = values
    if first is not None and second is not None:
        builder.budget.take(broadcast(first.shape, second.shape))
        if _keeps(first, second):
            condition = enlarged(builder, enlarged(builder, condition, first), second)
            return [per_channel(builder, condition, first - second, second)]
    parts: list[View] = []
    for index, value in enumerate(values):
        if value is not None:
            sized = enlarged(builder, condition, value)
            scale, offset = (value, 0.0) if index == 0 else (-value, value)
            parts.append(per_channel(builder, sized, scale, offset))
        else:
            chosen = condition if index == 0 else opposite(builder, condition)
            parts.append(combine(builder, Multiply(), chosen, node.view(index + 1)))
    return [combine(builder, Add(), parts[0], parts[1])]


def _keeps(first: Array, second: Array) -> bool:
    """Whether float32 gives the first value again from its difference to the second: not a bias beside "never"."""
    low = second.astype(np.float32)
    again = (first - second).astype(np.float32) + low
    return bool(np.all(np.abs(again - first) <= 1e-6 * np.max(np.abs(first), initial=1e-30)))


def _chosen_by_constant(builder: Builder, node: SourceNode, condition: Array) -> View:
    tensors = [node.view(i) for i in (1, 2) if node.known(i) is None]
    if not tensors:
        raise Unsupported("both of its values are constants")
    mask, offset = divided(builder, tensors[0], condition), np.zeros(())
    parts: list[View] = []
    for index, chosen in ((1, mask), (2, 1.0 - mask)):
        if node.known(index) is None:
            parts.append(per_channel(builder, enlarged(builder, node.view(index), chosen), chosen))
            continue
        value = divided(builder, tensors[0], node.mask(index, "the value"))
        builder.budget.take(broadcast(value.shape, chosen.shape, offset.shape))
        offset = offset + value * chosen
    result = parts[0] if len(parts) == 1 else combine(builder, Add(), parts[0], parts[1])
    return per_channel(builder, enlarged(builder, result, offset), 1.0, offset) if np.any(offset) else result
