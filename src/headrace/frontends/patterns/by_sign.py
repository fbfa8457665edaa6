# SPDX-License-Identifier: Apache-2.0
"""Where by the sign of a tensor: SELU, ELU and LeakyReLU as TensorFlow's converter writes them out."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, close, maker, product_of, scalar

_ABOVE = {"Greater": 0, "GreaterOrEqual": 0, "Less": 1, "LessOrEqual": 1}


@dataclass(frozen=True)
class Side:
    """What is taken on one side of zero: ``factor`` times the tensor, or times its exponential less one."""

    factor: float
    exponential: bool
    nodes: tuple[ir.Node, ...]


def _condition(value: ir.Value | None) -> tuple[ir.Node, ir.Value] | None:
    """The comparison that is true where a tensor is above zero, and that tensor."""
    for operator, index in _ABOVE.items():
        node = maker(value, operator)
        if node is not None and len(node.inputs) == 2 and scalar(node.inputs[1 - index]) == 0.0:
            x = node.inputs[index]
            return None if x is None else (node, x)
    return None


def _less_one(value: ir.Value, x: ir.Value) -> tuple[ir.Node, ...] | None:
    """The nodes of exp(x) - 1, or of Elu, which is that below zero."""
    elu = maker(value, "Elu")
    alpha = elu.attributes.get("alpha") if elu is not None else None
    if elu is not None and elu.inputs[0] is x and (alpha is None or alpha.value == 1.0):
        return (elu,)
    for operator, number in (("Sub", 1.0), ("Add", -1.0)):
        node = maker(value, operator)
        if node is None or len(node.inputs) != 2:
            continue
        places = (1,) if operator == "Sub" else (0, 1)
        for place in places:
            exponential = maker(node.inputs[1 - place], "Exp")
            if scalar(node.inputs[place]) == number and exponential is not None and exponential.inputs[0] is x:
                return (node, exponential)
    return None


def _side(value: ir.Value | None, x: ir.Value, above: bool) -> Side | None:
    if value is None:
        return None
    factor, nodes, inner = 1.0, (), value
    product = maker(value, "Mul") or maker(value, "Div")
    if product is not None and value is not x:
        read = product_of(product)
        if len(read.factors) != 1:
            return None
        factor, nodes, inner = read.scale, tuple(read.nodes), read.factors[0]
    if inner is x:
        return Side(factor, False, nodes)
    exponential = _less_one(inner, x)
    if exponential is None:
        return None
    if above:  # of the two, only Elu is the tensor itself above zero
        return Side(factor, False, (*nodes, *exponential)) if exponential[0].op_type == "Elu" else None
    return Side(factor, True, (*nodes, *exponential))


class BySign(Pattern):
    name = "by_sign"
    roots = ("Where",)

    def match(self, node: ir.Node) -> Match | NoMatch:
        found = _condition(node.inputs[0]) if len(node.inputs) == 3 else None
        if found is None:
            return NoMatch("its condition is not that a tensor is above zero")
        comparison, x = found
        above, below = _side(node.inputs[1], x, True), _side(node.inputs[2], x, False)
        if above is None or below is None:
            return NoMatch("what it takes is not the tensor or its exponential, times a number", near=True)
        nodes = tuple(dict.fromkeys((node, comparison, *above.nodes, *below.nodes)))
        if below.exponential and above.factor > 0:
            if close(above.factor, 1.0):
                return Match("Elu", x, nodes, {"alpha": below.factor})
            return Match("Selu", x, nodes, {"alpha": below.factor / above.factor, "gamma": above.factor})
        if not below.exponential and close(above.factor, 1.0):
            return Match("LeakyRelu", x, nodes, {"alpha": below.factor})
        return NoMatch(f"factors {above.factor:g} and {below.factor:g} are not of SELU, ELU or LeakyReLU", near=True)
