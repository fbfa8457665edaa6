# SPDX-License-Identifier: Apache-2.0
"""Functions that a model defines itself are put in the place of their calls, as torch's exporter of 2.1 to 2.4 needs.

The size of the result is known before it is made: functions may call functions, so that a file of a kilobyte could ask
for more nodes than there is memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
import onnx.inliner

from headrace.errors import Diagnostic, InputFileError

MAX_BYTES = 256 << 20
_MAX_DEPTH = 64
Key = tuple[str, str]


@dataclass(frozen=True)
class _Size:
    nodes: int
    bytes: int


def _nodes(graph: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes, and those of the subgraphs in them."""
    found: list[onnx.NodeProto] = []
    waiting = list(graph)
    while waiting:
        node = waiting.pop()
        found.append(node)
        for attribute in node.attribute:
            for part in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                waiting += part.node
    return found


def _sum(calls: Iterable[onnx.NodeProto], sizes: Mapping[Key, _Size]) -> _Size:
    """Nodes, and bytes beside those that the calls stand for already."""
    nodes = size = 0
    for node in _nodes(calls):
        found = sizes.get((node.domain, node.op_type))
        nodes += 1 if found is None else found.nodes
        size += 0 if found is None else found.bytes
    return _Size(nodes, size)


def _sizes(model: onnx.ModelProto, where: str) -> dict[Key, _Size]:
    """What one call of each function becomes.

    Raises:
        InputFileError: a function calls itself, or calls are nested too deeply.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[Key, _Size] = {}
    for _ in range(_MAX_DEPTH):
        waiting = [k for k in functions if k not in sizes]
        if not waiting:
            return sizes
        for key in waiting:
            called = {(n.domain, n.op_type) for n in _nodes(functions[key].node)} & functions.keys()
            if called <= sizes.keys():
                inner = _sum(functions[key].node, sizes)
                sizes[key] = _Size(inner.nodes, inner.bytes + functions[key].ByteSize())
    unsized = sorted(name for domain, name in functions if (domain, name) not in sizes)
    raise InputFileError(
        Diagnostic(
            "E-ONNX-CORRUPT", where, "functions call themselves, or are nested too deeply", ", ".join(unsized)[:200],
            f"calls nested at most {_MAX_DEPTH} deep, and no cycle",
        )
    )  # fmt: skip


def inlined(model: onnx.ModelProto, where: str, most_nodes: int) -> onnx.ModelProto:
    """The model without functions of its own; itself where it has none, or where they cannot be put in place.

    Raises:
        InputFileError: the result would be too large, or a function calls itself.
    """
    if not model.functions:
        return model
    whole = _sum(model.graph.node, _sizes(model, where))
    if whole.nodes > most_nodes or whole.bytes > MAX_BYTES:
        raise InputFileError(
            Diagnostic(
                "E-ONNX-CORRUPT", where, "with its own functions put in place of their calls the model is too large",
                f"{whole.nodes} nodes, {whole.bytes >> 20} MiB", f"≤ {most_nodes} nodes, ≤ {MAX_BYTES >> 20} MiB",
            )
        )  # fmt: skip
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, TypeError, LookupError):  # the calls are then refused by name
        return model
