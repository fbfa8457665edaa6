# SPDX-License-Identifier: Apache-2.0
"""PReLU and LeakyReLU as sums: relu(x) + a · (x − |x|) / 2, relu(x) − a · relu(−x), max(x, a · x) and their kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import constant
from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, maker, scalar
from headrace.hn import Array

_DEPTH = 6
_KINKS = ("Relu", "Abs", "Max", "Min")


@dataclass(frozen=True)
class _Lines:
    """What a value is of x: ``above`` times it above zero, ``below`` times it below; a number, or one a channel."""

    above: Array
    below: Array
    nodes: tuple[ir.Node, ...]


def _operands(node: ir.Node) -> tuple[ir.Value, ...]:
    return tuple(value for value in node.inputs if value is not None)


def _kinks(value: ir.Value, depth: int = _DEPTH) -> Iterator[ir.Value]:
    """What is bent at zero on the way to a value."""
    node = value.producer()
    if node is None or node.domain or not depth or node.op_type not in (*_KINKS, "Add", "Sub", "Mul", "Neg", "Div"):
        return
    if node.op_type in _KINKS:
        for operand in _operands(node):
            if constant(operand) is None:
                yield operand
    for operand in _operands(node):
        yield from _kinks(operand, depth - 1)


def _lines(value: ir.Value, x: ir.Value, depth: int = _DEPTH) -> _Lines | None:
    """A value as two lines through zero, where it is made of x so."""
    if value is x:
        return _Lines(np.ones(()), np.ones(()), ())
    node = value.producer()
    if node is None or node.graph is None or node.domain or not depth:
        return None
    given = _operands(node)
    if node.op_type in ("Relu", "Abs", "Neg") and len(given) == 1:
        inner = _lines(given[0], x, depth - 1)
        return None if inner is None else _bent(node, inner)
    if len(given) != 2:
        return None
    if node.op_type in ("Mul", "Div"):
        return _scaled(node, given, x, depth)
    if node.op_type in ("Max", "Min") and (zero := [scalar(v) == 0.0 for v in given]) != [False, False]:
        inner = _lines(given[zero.index(False)] if False in zero else given[0], x, depth - 1)
        return None if inner is None else _bent(node, inner)
    return _together(node, given, x, depth)


def _bent(node: ir.Node, of: _Lines) -> _Lines:
    """A function of one value that is two lines. Below zero a line of positive slope is negative."""
    above, below, nodes = of.above, of.below, (node, *of.nodes)
    match node.op_type:
        case "Neg":
            return _Lines(-above, -below, nodes)
        case "Abs":
            return _Lines(np.abs(above), -np.abs(below), nodes)
        case "Min":
            return _Lines(np.minimum(above, 0), np.maximum(below, 0), nodes)
        case _:
            return _Lines(np.maximum(above, 0), np.minimum(below, 0), nodes)


def _scaled(node: ir.Node, given: tuple[ir.Value, ...], x: ir.Value, depth: int) -> _Lines | None:
    for value, factor in (given, given[::-1]) if node.op_type == "Mul" else (given,):
        array = constant(factor)
        if array is None or array.dtype.kind != "f" or not np.all(np.isfinite(array)):
            continue
        numbers = array.astype(np.float64)
        if node.op_type == "Div":
            if not numbers.all():
                return None
            numbers = 1.0 / numbers
        inner = _lines(value, x, depth - 1)
        return None if inner is None else _Lines(inner.above * numbers, inner.below * numbers, (node, *inner.nodes))
    return None


def _together(node: ir.Node, given: tuple[ir.Value, ...], x: ir.Value, depth: int) -> _Lines | None:
    if node.op_type not in ("Add", "Sub", "Max", "Min"):
        return None
    a, b = (_lines(value, x, depth - 1) for value in given)
    if a is None or b is None:
        return None
    nodes = (node, *a.nodes, *b.nodes)
    match node.op_type:
        case "Add":
            return _Lines(a.above + b.above, a.below + b.below, nodes)
        case "Sub":
            return _Lines(a.above - b.above, a.below - b.below, nodes)
        case "Max":
            return _Lines(np.maximum(a.above, b.above), np.minimum(a.below, b.below), nodes)
        case _:
            return _Lines(np.minimum(a.above, b.above), np.maximum(a.below, b.below), nodes)


class TwoSlopes(Pattern):
    """PReLU, LeakyReLU and ReLU from relu, abs, min, max and sums of one tensor."""

    name = "two_slopes"
    roots = ("Add", "Sub", "Max")

    def match(self, node: ir.Node) -> Match | NoMatch:
        given = _operands(node)
        if len(given) != 2 or (node.op_type == "Max" and any(constant(v) is not None for v in given)):
            return NoMatch("it has not two computed operands")
        kinks = dict.fromkeys(kink for value in given for kink in _kinks(value))
        candidates = [*kinks, *(v for kink in kinks if (inner := maker(kink, "Neg")) for v in _operands(inner))]
        candidates += given if node.op_type == "Max" else ()
        for x in candidates:
            found = _lines(node.outputs[0], x)
            if found is not None and found.nodes:
                return _matched(x, found)
        return NoMatch("its operands are not one tensor, bent at zero")


def _matched(x: ir.Value, found: _Lines) -> Match | NoMatch:
    if not np.allclose(found.above, 1.0, rtol=1e-5, atol=1e-7):
        return NoMatch("above zero it is not the tensor itself")
    nodes = tuple(dict.fromkeys(found.nodes))
    slopes = np.where(np.abs(found.below) < 1e-7, 0.0, found.below)
    if slopes.size == 1:
        return Match("LeakyRelu", x, nodes, {"alpha": float(slopes.reshape(-1)[0])})
    if x.shape is not None and len(x.shape) < slopes.ndim:
        return NoMatch("its slopes have more axes than the tensor", near=True)
    return Match("PRelu", x, nodes, operands=(slopes.astype(np.float32),))
