# SPDX-License-Identifier: Apache-2.0
"""Hard-swish written out: x · clip(x + 3, 0, 6) / 6, or x · hard_sigmoid(x)."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.pattern import (
    Match,
    NoMatch,
    Pattern,
    Product,
    close,
    hard_sigmoid_attributes,
    maker,
    product_of,
    ramp_of,
)


class HardSwish(Pattern):
    name = "hard_swish"
    roots = ("Mul", "Div")

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        reasons: list[NoMatch] = []
        for x, gate in (product.factors, product.factors[::-1]):
            found = self._with_gate(x, gate, product)
            if isinstance(found, Match):
                return found
            reasons.append(found)
        return next((r for r in reasons if r.near), reasons[0])

    @staticmethod
    def _with_gate(x: ir.Value, gate: ir.Value, product: Product) -> Match | NoMatch:
        operator = maker(gate, "HardSigmoid")
        if operator is not None:
            alpha, beta = hard_sigmoid_attributes(operator)
            if operator.inputs[0] is not x:
                return NoMatch("the hard-sigmoid is of another tensor (a squeeze-and-excite gate)")
            if not (close(alpha, 1 / 6) and close(beta, 0.5) and close(product.scale, 1.0)):
                return NoMatch(
                    f"alpha {alpha:g}, beta {beta:g}, factor {product.scale:g} are not 1/6, 1/2, 1", near=True
                )
            return Match("HardSwish", x, (*product.nodes, operator))
        ramp = ramp_of(gate)
        if isinstance(ramp, NoMatch):
            return ramp
        if ramp.source is not x:
            return NoMatch("the clipped sum is of another tensor (a squeeze-and-excite gate)")
        if not (close(ramp.offset, 3.0) and close(ramp.top, 6.0) and close(product.scale, 1 / 6)):
            return NoMatch(
                f"x·clip(x + {ramp.offset:g}, 0, {ramp.top:g})·{product.scale:g} is not hard-swish", near=True
            )
        return Match("HardSwish", x, (*product.nodes, *ramp.nodes))
