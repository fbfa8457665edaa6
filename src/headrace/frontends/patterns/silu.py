# SPDX-License-Identifier: Apache-2.0
"""SiLU (swish) written out: x · sigmoid(x)."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.base import Match, NoMatch, Pattern, close, maker, product_of


class SiLU(Pattern):
    name = "silu"
    roots = ("Mul",)

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        for x, gate in (product.factors, product.factors[::-1]):
            sigmoid = maker(gate, "Sigmoid")
            if sigmoid is None:
                continue
            if sigmoid.inputs[0] is not x:
                return NoMatch("the sigmoid is of another tensor (a gate)")
            if not close(product.scale, 1.0):
                return NoMatch(f"the product has the factor {product.scale:g}", near=True)
            return Match("Swish", x, (*product.nodes, sigmoid))
        return NoMatch("no factor is a Sigmoid")
