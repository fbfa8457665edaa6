# SPDX-License-Identifier: Apache-2.0
"""What a pattern is, and how one operation is looked for among several primitive nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from headrace.frontends.graph import (
    SourceGraph,
    Unsupported,
    constant,
    label,
    live_uses,
    marks,
    origins,
    real,
    set_constant,
)
from headrace.hn import Array
from headrace.reports.parse import FusedPattern, NearMiss


@dataclass(frozen=True)
class NoMatch:
    """Why a node is not the root of a pattern; ``near`` when most of the pattern was there."""

    reason: str
    near: bool = False


@dataclass(frozen=True)
class Match:
    """One operation found: its operator, its input, the nodes it replaces (root included), its attributes, and
    constants that it reads beside its input.
    """

    op_type: str
    source: ir.Value
    nodes: tuple[ir.Node, ...]
    attributes: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    operands: tuple[Array, ...] = ()


class Pattern:
    """One way to write one operation out; :meth:`match` says why a node is not that."""

    name: ClassVar[str]
    roots: ClassVar[tuple[str, ...]]

    def match(self, node: ir.Node) -> Match | NoMatch:
        raise NotImplementedError


def scalar(value: ir.Value | None) -> float | None:
    """The number that a value is, when it is a constant of one finite element."""
    array = constant(value)
    if array is None or array.size != 1:
        return None
    number = float(array.reshape(-1)[0])
    return number if math.isfinite(number) else None


def close(a: float, b: float) -> bool:
    """Equal up to what writing 1/6 or 3.0 in float32 loses."""
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7)


def maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node of this type that makes ``value``."""
    node = None if value is None else value.producer()
    return (
        node if node is not None and node.graph is not None and node.op_type == op_type and node.domain == "" else None
    )


@dataclass
class Product:
    """A product: ``scale`` times the ``factors``; ``nodes`` are the multiplications it was read from."""

    scale: float
    factors: list[ir.Value]
    nodes: list[ir.Node]


def product_of(root: ir.Node, depth: int = 3) -> Product:
    """Read nested Mul and Div-by-constant nodes as one product; inner ones only where nobody else uses them."""
    result = Product(1.0, [], [root])
    for index, value in enumerate(root.inputs):
        number = scalar(value)
        if number is not None and (root.op_type == "Mul" or (index == 1 and number != 0)):
            result.scale *= number if root.op_type == "Mul" else 1.0 / number
            continue
        inner = (maker(value, "Mul") or maker(value, "Div")) if depth else None
        if inner is not None and len(live_uses(inner.outputs[0])) == 1 and (root.op_type == "Mul" or index == 0):
            below = product_of(inner, depth - 1)
            result.scale *= below.scale
            result.factors += below.factors
            result.nodes += below.nodes
        elif value is not None:
            result.factors.append(value)
    return result


@dataclass
class Ramp:
    """``clip(x + offset, 0, top)``: the piecewise linear part of hard-sigmoid."""

    source: ir.Value
    offset: float
    top: float
    nodes: list[ir.Node]


def ramp_of(value: ir.Value) -> Ramp | NoMatch:
    clip = maker(value, "Clip")
    if clip is None:
        return NoMatch("no factor is a Clip")
    low = scalar(clip.inputs[1]) if len(clip.inputs) > 1 else None
    high = scalar(clip.inputs[2]) if len(clip.inputs) > 2 else None
    if low is None or high is None or not close(low, 0.0):
        return NoMatch(f"{label(clip)} does not clip to 0 … a constant")
    add = maker(clip.inputs[0], "Add")
    if add is None or len(add.inputs) != 2:
        return NoMatch(f"the input of {label(clip)} is not x plus a constant")
    left, right = scalar(add.inputs[0]), scalar(add.inputs[1])
    source, offset = (add.inputs[0], right) if right is not None else (add.inputs[1], left)
    if offset is None or source is None:
        return NoMatch(f"{label(add)} does not add one number", near=True)
    return Ramp(source, offset, high, [clip, add])


def hard_sigmoid_attributes(node: ir.Node) -> tuple[float, float]:
    try:
        return real(node, "alpha", 0.2), real(node, "beta", 0.5)
    except Unsupported:
        return math.nan, math.nan


def interior_is_private(match: Match, root: ir.Node) -> NoMatch | None:
    """A replaced node other than the root may feed only replaced nodes."""
    members = {id(n) for n in match.nodes}
    for node in match.nodes:
        if node is root:
            continue
        for value in node.outputs:
            if value.is_graph_output() or any(id(user) not in members for user in live_uses(value)):
                return NoMatch(f"the result of {label(node)} is also used elsewhere", near=True)
    return None


def apply_patterns(
    source: SourceGraph, patterns: Sequence[Pattern]
) -> tuple[tuple[FusedPattern, ...], tuple[NearMiss, ...]]:
    """Replace what matches, outermost first.

    Returns:
        What was fused, and near misses with their reason.
    """
    fused: list[FusedPattern] = []
    missed: list[NearMiss] = []
    position = {id(node): i for i, node in enumerate(source.graph)}
    for node in reversed(list(source.graph)):
        for pattern in patterns:
            if node.graph is None or node.op_type not in pattern.roots or node.domain:
                continue
            found = pattern.match(node)
            refusal = found if isinstance(found, NoMatch) else interior_is_private(found, node)
            if refusal is not None or isinstance(found, NoMatch):
                if refusal is not None and refusal.near:
                    missed.append(NearMiss(pattern=pattern.name, node=label(node), reason=refusal.reason))
                continue
            nodes = sorted(found.nodes, key=lambda n: position[id(n)])
            names = [o for n in nodes for o in origins(n)]
            _replace(source, node, found, names)
            fused.append(FusedPattern(pattern=pattern.name, into=found.op_type, nodes=tuple(names)))
    return tuple(reversed(fused)), tuple(reversed(missed))


def _replace(source: SourceGraph, root: ir.Node, match: Match, names: list[str]) -> None:
    old = root.outputs[0]
    attributes = [ir.AttrFloat32(key, value) for key, value in sorted(match.attributes.items())]
    attributes += [ir.AttrString(key, value) for key, value in sorted(match.words.items())]
    output = ir.Value(name=old.name, shape=old.shape, type=old.type)
    constants = [ir.Value(name=f"{label(root)}#{place}") for place in range(len(match.operands))]
    for value, array in zip(constants, match.operands, strict=True):
        marks(value)["internal"] = True
        set_constant(value, array)
    new = ir.Node("", match.op_type, [match.source, *constants], attributes, outputs=[output], name=label(root))
    marks(new)["origins"] = names
    source.graph.insert_before(root, new)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    for node in match.nodes:
        source.graph.remove(node, safe=False)
