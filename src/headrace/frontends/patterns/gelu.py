# SPDX-License-Identifier: Apache-2.0
"""GELU written out: x · (1 + erf(x / √2)) / 2."""

from __future__ import annotations

import math

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, close, maker, product_of, scalar


class GELU(Pattern):
    name = "gelu"
    roots = ("Mul", "Div")

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        for x, gate in (product.factors, product.factors[::-1]):
            add = maker(gate, "Add")
            if add is None or len(add.inputs) != 2:
                continue
            one = next((i for i in (0, 1) if scalar(add.inputs[i]) is not None), None)
            erf = maker(add.inputs[1 - one], "Erf") if one is not None else None
            if one is None or erf is None:
                continue
            inner = maker(erf.inputs[0], "Div") or maker(erf.inputs[0], "Mul")
            scaled = product_of(inner) if inner is not None else None
            if scaled is None or len(scaled.factors) != 1 or scaled.factors[0] is not x:
                return NoMatch("the error function is of another tensor", near=True)
            numbers = (scalar(add.inputs[one]) or 0.0, scaled.scale, product.scale)
            if not all(close(a, b) for a, b in zip(numbers, (1.0, math.sqrt(0.5), 0.5), strict=True)):
                return NoMatch(f"its constants {[f'{v:g}' for v in numbers]} are not those of GELU", near=True)
            return Match("Gelu", x, (*product.nodes, add, erf, *scaled.nodes))
        return NoMatch("no factor is one plus an error function")
