# SPDX-License-Identifier: Apache-2.0
"""Which value of a checkpoint a variable gets: told by the saver's own restoring nodes, which assign one to the other.

A variable need not be called in the checkpoint as in the graph: SavedModels name values by the path of an object, a
graph that was imported several times has several variables for one name, and a partitioned one reads a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.frontends.formats.tensorflow.bundle import Bundle, Extents
from headrace.frontends.formats.tensorflow.records import Body, Node, Program, Ref
from headrace.frontends.formats.tensorflow.states import Variable
from headrace.frontends.graph import Unsupported
from headrace.hn import Array

_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
_VARIABLES = frozenset({"VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_PASSES = frozenset({"Identity", "IdentityN", "Cast", "Reshape", "EnsureShape", "DisableCopyOnRead"})
_MAX_STEPS = 400_000
_MAX_DEPTH = 8
_MOST_NAMES = 200_000


@dataclass(frozen=True)
class Saved:
    """A value of a checkpoint, or a part of it."""

    key: str
    part: Extents | None = None


@dataclass(frozen=True)
class _At:
    """A body, and what its arguments are outside."""

    body: Body
    arguments: Mapping[str, tuple[_At, Ref]]


def _texts(node: Node | None) -> list[str]:
    message: Any = node.attributes.tensor("value") if node is not None and node.op == "Const" else None
    if message is None:
        return []
    return [s.decode("utf-8", "replace") for s in message.strings[:_MOST_NAMES]]


def _part(text: str) -> Extents | None:
    """``"10 20 0,5:-"``: the whole shape, then first index and count of each dimension; '' is all of it."""
    if not text.strip():
        return None
    found: list[tuple[int, int]] = []
    for item in text.split()[-1].split(":"):
        start, _, count = item.partition(",")
        if item == "-":
            found.append((0, -1))
        elif start.isdecimal() and count.isdecimal() and len(item) < 40:
            found.append((int(start), int(count)))
        else:
            raise Unsupported(f"the part {text[:60]!r} of a variable is not one that is read")
    return found


def _source(at: _At, ref: Ref, ops: frozenset[str]) -> tuple[_At, Ref, Node] | None:
    """The node of one of these operators that a tensor is passed on from."""
    for _ in range(64):
        node = at.body.nodes.get(ref.node)
        if node is None:
            outside = at.arguments.get(ref.node)
            if outside is None:
                return None
            at, ref = outside
        elif node.op in ops:
            return at, ref, node
        elif node.op in _PASSES and node.inputs:
            ref = node.inputs[min(ref.index, len(node.inputs) - 1) if node.op == "IdentityN" else 0]
        else:
            return None
    return None


def restored(program: Program, restore: str) -> dict[str, Saved]:
    """Name of a variable's node → what the checkpoint has for it.

    Args:
        program: the graph.
        restore: the node that restores all of it, as the saver names it; '' finds nothing.
    """
    found: dict[str, Saved] = {}
    waiting: list[tuple[_At, str, int]] = [(_At(program.graph, {}), restore, 0)]
    seen: set[tuple[int, str]] = set()
    bodies: list[_At] = []  # kept, so that no two have one identity
    texts: dict[int, list[str]] = {}
    while waiting and len(seen) < _MAX_STEPS:
        at, name, depth = waiting.pop()
        node = at.body.nodes.get(name)
        if node is None or (id(at), name) in seen:
            continue
        seen.add((id(at), name))
        if node.op in _ASSIGNS and len(node.inputs) >= 2:
            _enter(at, node, found, texts)
            continue
        body = program.functions.get(node.attributes.function("f") if node.op in _CALLS else node.op)
        if body is not None and depth < _MAX_DEPTH:
            inner = _At(body, {n: (at, r) for n, r in zip(body.arguments, node.inputs, strict=False)})
            bodies.append(inner)
            waiting += [(inner, n.name, depth + 1) for n in body.nodes.values() if n.op in _ASSIGNS]
            continue
        waiting += [(at, n, depth) for n in [*node.controls, *(r.node for r in node.inputs)]]
    return found


def _enter(at: _At, assign: Node, found: dict[str, Saved], texts: dict[int, list[str]]) -> None:
    """Note what an assignment says, where it assigns what was restored; ``texts`` were read before, by their node."""
    target = _source(at, assign.inputs[0], _VARIABLES)
    value = _source(at, assign.inputs[1], frozenset({"RestoreV2"}))
    if target is None or value is None or len(value[2].inputs) < 3:
        return
    inside, ref, restore = value
    lists: list[list[str]] = []
    for index in (1, 2):
        place = _source(inside, restore.inputs[index], frozenset({"Const"}))
        if place is not None and id(place[2]) not in texts:
            texts[id(place[2])] = _texts(place[2])
        lists.append([] if place is None else texts[id(place[2])])
    keys, words = lists
    if ref.index < len(keys):
        found[target[2].name] = Saved(keys[ref.index], _part(words[ref.index]) if ref.index < len(words) else None)


class Variables:
    """The values of variables.

    Attributes:
        bundle: the checkpoint; None where the file has none.
        saved: what its saver restores, by the variable's node.
    """

    def __init__(self, bundle: Bundle | None, saved: Mapping[str, Saved]) -> None:
        self.bundle, self.saved = bundle, dict(saved)

    def has(self, names: Sequence[str]) -> bool:
        """Whether a variable of one of these names has a value."""
        return self._find(names) is not None

    def _find(self, names: Sequence[str]) -> Saved | None:
        if self.bundle is None:
            return None
        if self.saved:
            return next(
                (self.saved[n] for n in names[:1] if n in self.saved and self.saved[n].key in self.bundle), None
            )
        return next((Saved(n) for n in names if n in self.bundle), None)

    def read(self, variable: Variable) -> Array:
        """The value of a variable.

        Raises:
            Unsupported: there is none.
            InputFileError: the checkpoint is damaged.
        """
        if self.bundle is None:
            why = f"the file holds no values of variables, and {variable.names[0]!r} is one"
            raise Unsupported(
                why, "a frozen graph, or a checkpoint beside it", ("freeze the graph, or give its checkpoint",)
            )
        found = self._find(variable.names)
        if found is None:
            raise Unsupported(f"the checkpoint has no value for {variable.names[0]!r}", "the checkpoint of this graph")
        return self.bundle.array(found.key, found.part)


__all__ = ["Saved", "Variables", "restored"]
