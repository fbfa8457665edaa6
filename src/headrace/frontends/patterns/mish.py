# SPDX-License-Identifier: Apache-2.0
"""Mish written out: x · tanh(softplus(x))."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.base import Match, NoMatch, Pattern, close, maker, product_of


class Mish(Pattern):
    name = "mish"
    roots = ("Mul",)

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        for x, gate in (product.factors, product.factors[::-1]):
            tanh = maker(gate, "Tanh")
            softplus = maker(tanh.inputs[0], "Softplus") if tanh is not None else None
            if tanh is None or softplus is None:
                continue
            if softplus.inputs[0] is not x:
                return NoMatch("the softplus is of another tensor (a gate)")
            if not close(product.scale, 1.0):
                return NoMatch(f"the product has the factor {product.scale:g}", near=True)
            return Match("Mish", x, (*product.nodes, tanh, softplus))
        return NoMatch("no factor is tanh of softplus")
