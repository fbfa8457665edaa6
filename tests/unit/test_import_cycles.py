# SPDX-License-Identifier: Apache-2.0
"""No two modules import each other, in however many steps; imports in functions count, those for types alone do not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src"


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found: dict[str, Path] = {}
    for path in sorted((root / "headrace").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run, at whatever depth."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from statements(other)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from statements(node)


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that one imports: a module that is named, or the package that a name is taken from."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names if alias.name in known}
            continue
        above = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
        origin = ".".join([*above, *([statement.module] if statement.module else [])])
        for alias in statement.names:
            whole = f"{origin}.{alias.name}"
            found |= {target for target in (whole if whole in known else origin,) if target in known}
    return found - {name}


def graph(root: Path) -> dict[str, set[str]]:
    known = modules(root)
    return {name: imports(name, path, known) for name, path in known.items()}


def cycle_in(edges: dict[str, set[str]]) -> list[str]:
    """One cycle, each module imported by the next; empty where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_in_a_roundabout_way() -> None:
    edges = graph(SOURCES)
    assert len(edges) > 200
    assert cycle_in(edges) == []


def test_a_cycle_would_be_found(tmp_path: Path) -> None:
    package = tmp_path / "headrace"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep" / "__init__.py").write_text("from headrace.deep import a\n")
    (package / "deep" / "a.py").write_text("def f():\n    if True:\n        from ..other import thing\n")
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from headrace.deep import a\n"
    (package / "other.py").write_text(typed)
    assert cycle_in(graph(tmp_path)) == []
    (package / "other.py").write_text("def g():\n    import headrace.deep.a as a\n    return a\n")
    assert set(cycle_in(graph(tmp_path))) == {"headrace.deep.a", "headrace.other"}
    (package / "other.py").write_text("from headrace.deep import g\n")  # of the package itself
    assert set(cycle_in(graph(tmp_path))) >= {"headrace.deep", "headrace.deep.a", "headrace.other"}
