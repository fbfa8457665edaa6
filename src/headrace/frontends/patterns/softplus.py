# SPDX-License-Identifier: Apache-2.0
"""Softplus written out: log(exp(x) + 1)."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, close, maker, scalar


class Softplus(Pattern):
    name = "softplus"
    roots = ("Log",)

    def match(self, node: ir.Node) -> Match | NoMatch:
        add = maker(node.inputs[0], "Add") if node.inputs else None
        if add is None or len(add.inputs) != 2:
            return NoMatch("it is not the logarithm of a sum")
        for one, other in (add.inputs, add.inputs[::-1]):
            number, exponential = scalar(one), maker(other, "Exp")
            if number is None or exponential is None or exponential.inputs[0] is None:
                continue
            if not close(number, 1.0):
                return NoMatch(f"{number:g} is added to the exponential, not 1", near=True)
            return Match("Softplus", exponential.inputs[0], (node, add, exponential))
        return NoMatch("the sum is not that of an exponential and 1")
