# SPDX-License-Identifier: Apache-2.0
"""Hard-sigmoid written out: clip(x + b, 0, t) / t."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, close, product_of, ramp_of


class HardSigmoid(Pattern):
    name = "hard_sigmoid"
    roots = ("Mul", "Div")

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 1:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of one and a constant")
        ramp = ramp_of(product.factors[0])
        if isinstance(ramp, NoMatch):
            return ramp
        if not close(ramp.top * product.scale, 1.0):
            return NoMatch(f"its largest value is {ramp.top * product.scale:g}, not 1", near=True)
        attributes = {"alpha": product.scale, "beta": ramp.offset * product.scale}
        return Match("HardSigmoid", ramp.source, (*product.nodes, *ramp.nodes), attributes)
