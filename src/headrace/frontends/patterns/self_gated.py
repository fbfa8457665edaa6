# SPDX-License-Identifier: Apache-2.0
"""What patterns of the form x · gate(x) share."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, close, product_of

Gate = tuple[ir.Value | None, tuple[ir.Node, ...]]


class SelfGated(Pattern):
    """A product of a tensor and a gate that is computed from it alone."""

    roots = ("Mul",)
    operator: ClassVar[str]
    words: ClassVar[str]  # the gate's name in messages

    def gate(self, value: ir.Value) -> Gate | None:
        """What ``value`` is the gate of, and the nodes it is written in; ``None`` if it is no such gate."""
        raise NotImplementedError

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        for x, factor in (product.factors, product.factors[::-1]):
            found = self.gate(factor)
            if found is None:
                continue
            source, nodes = found
            if source is not x:
                return NoMatch(f"the {self.words} is of another tensor (a gate)")
            if not close(product.scale, 1.0):
                return NoMatch(f"the product has the factor {product.scale:g}", near=True)
            return Match(self.operator, x, (*product.nodes, *nodes))
        return NoMatch(f"no factor is a {self.words}")
