# SPDX-License-Identifier: Apache-2.0
"""The approximation of GELU written out: x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2."""

from __future__ import annotations

import math

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, close, maker, product_of, scalar

_FACTOR, _CUBE = math.sqrt(2.0 / math.pi), 0.044715


def _plus(value: ir.Value | None, number: float) -> tuple[ir.Node, ir.Value] | None:
    """The addition that makes ``value`` as ``number`` plus another value, and that other."""
    add = maker(value, "Add")
    if add is None or len(add.inputs) != 2:
        return None
    for index in (0, 1):
        constant, other = scalar(add.inputs[index]), add.inputs[1 - index]
        if constant is not None and close(constant, number) and other is not None:
            return add, other
    return None


def _cube(value: ir.Value, x: ir.Value) -> list[ir.Node] | None:
    """The nodes that make ``value`` as 0.044715 times the cube of ``x``."""
    product = maker(value, "Mul")
    if product is None:
        return None
    read = product_of(product)
    if not math.isclose(read.scale, _CUBE, rel_tol=1e-4):
        return None
    if len(read.factors) == 3 and all(f is x for f in read.factors):
        return read.nodes
    power = maker(read.factors[0], "Pow") if len(read.factors) == 1 else None
    if power is None or power.inputs[0] is not x or scalar(power.inputs[1]) != 3.0:
        return None
    return [*read.nodes, power]


def _argument(value: ir.Value | None, x: ir.Value) -> list[ir.Node] | None:
    """The nodes of √(2/π) · (x + 0.044715 · x³)."""
    product = maker(value, "Mul")
    read = product_of(product) if product is not None else None
    if read is None or len(read.factors) != 1 or not math.isclose(read.scale, _FACTOR, rel_tol=1e-4):
        return None
    add = maker(read.factors[0], "Add")
    if add is None or len(add.inputs) != 2 or not any(v is x for v in add.inputs):
        return None
    other = next((v for v in add.inputs if v is not x), None)
    cube = _cube(other, x) if other is not None else None
    return None if cube is None else [*read.nodes, add, *cube]


class GELUTanh(Pattern):
    name = "gelu_tanh"
    roots = ("Mul",)

    def match(self, node: ir.Node) -> Match | NoMatch:
        product = product_of(node)
        if len(product.factors) != 2:
            return NoMatch(f"it is a product of {len(product.factors)} tensors, not of x and a gate")
        for x, gate in (product.factors, product.factors[::-1]):
            found = _plus(gate, 1.0)
            tanh = maker(found[1], "Tanh") if found is not None else None
            if found is None or tanh is None:
                continue
            inner = _argument(tanh.inputs[0], x)
            if inner is None or not close(product.scale, 0.5):
                return NoMatch("its hyperbolic tangent is not that of GELU", near=True)
            return Match("Gelu", x, (*product.nodes, found[0], tanh, *inner), {}, {"approximate": "tanh"})
        return NoMatch("no factor is one plus a hyperbolic tangent")
