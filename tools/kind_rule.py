# SPDX-License-Identifier: Apache-2.0
"""The rule that only a layer's own family, the readers of sources, passes and lowering know kinds of layers by name.

Everything else asks an operation for a declared fact (``headrace.layers.Operation``) or for its type. What counts as
knowing a kind by name: comparing or matching ``….kind`` with the name of one, a tuple, list or set of two names or
more, a dictionary with two of them as keys, and ``of_kind("…")``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

#: Where kinds are known by name.
ALLOWED = (
    "src/headrace/layers/",
    "src/headrace/frontends/",
    "src/headrace/passes/",
    "src/headrace/compiler/lower/",
)


@cache
def kinds_of(layers: Path) -> frozenset[str]:
    """The names of all kinds, from the sources of ``headrace.layers``."""
    found: set[str] = set()
    for path in sorted(layers.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "kind":
                found |= set(_texts([node.value]))
    return frozenset(found - {""})


def branches(tree: ast.AST, kinds: frozenset[str]) -> list[tuple[int, str]]:
    """(line, what) of every place that knows kinds by name."""
    return sorted(set(_branches(tree, kinds)))


def _branches(tree: ast.AST, kinds: frozenset[str]) -> Iterator[tuple[int, str]]:
    exported = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Assign) and _is_all(node.targets[0])}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(_is_kind(side) for side in (node.left, *node.comparators)):
            sides = [node.left, *node.comparators]
            if any(text in kinds for text in _texts(_flat(sides))):
                yield node.lineno, "a comparison of .kind"
        elif isinstance(node, ast.Match) and _is_kind(node.subject):
            patterns = [p.value for p in ast.walk(node) if isinstance(p, ast.MatchValue)]
            if any(text in kinds for text in _texts(patterns)):
                yield node.lineno, "a match of .kind"
        elif _is_row(node) and id(node) not in exported and _several(node.elts, kinds):
            yield node.lineno, "names of kinds in a row"
        elif isinstance(node, ast.Dict) and _several([key for key in node.keys if key is not None], kinds):
            yield node.lineno, "a dictionary by kinds"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "of_kind":
            yield node.lineno, "layers of a kind by its name"


def _is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def _is_row(node: ast.AST) -> TypeGuard[ast.Tuple | ast.List | ast.Set]:
    return isinstance(node, ast.Tuple | ast.List | ast.Set)


def _is_kind(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "kind"


def _flat(nodes: list[ast.expr]) -> list[ast.expr]:
    return [x for node in nodes for x in (node.elts if _is_row(node) else [node])]


def _texts(nodes: list[ast.expr]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _several(nodes: list[ast.expr], kinds: frozenset[str]) -> bool:
    return len({text for text in _texts(nodes) if text in kinds}) > 1
