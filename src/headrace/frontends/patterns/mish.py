# SPDX-License-Identifier: Apache-2.0
"""Mish written out: x · tanh(softplus(x))."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.base import Match, NoMatch, Pattern, close, maker, product_of
from headrace.frontends.patterns.softplus import Softplus


def _softplus(tanh: ir.Node) -> tuple[ir.Value | None, tuple[ir.Node, ...]] | None:
    """What softplus a tanh is of, and the nodes it is written in."""
    node = maker(tanh.inputs[0], "Softplus")
    if node is not None:
        return node.inputs[0], (node,)
    log = maker(tanh.inputs[0], "Log")
    found = Softplus().match(log) if log is not None else None
    return (found.source, found.nodes) if isinstance(found, Match) else None


class Mish(Pattern):
    name = "mish"
    roots = ("Mul",)

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        for x, gate in (product.factors, product.factors[::-1]):
            tanh = maker(gate, "Tanh")
            softplus = _softplus(tanh) if tanh is not None else None
            if tanh is None or softplus is None:
                continue
            source, nodes = softplus
            if source is not x:
                return NoMatch("the softplus is of another tensor (a gate)")
            if not close(product.scale, 1.0):
                return NoMatch(f"the product has the factor {product.scale:g}", near=True)
            return Match("Mish", x, (*product.nodes, tanh, *nodes))
        return NoMatch("no factor is tanh of softplus")
