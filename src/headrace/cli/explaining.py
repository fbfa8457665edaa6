# SPDX-License-Identifier: Apache-2.0
"""``parse --explain`` and ``har explain``: what became of nodes, tensors and layers, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.output import emit
from headrace.errors import HeadraceError, UnsupportedModelError

if TYPE_CHECKING:
    from headrace.cli.stages import Translation
    from headrace.reports.explanation import ExplainedNode, Explanation
    from headrace.reports.parse import ParseReport

_PLACES = {
    "device": "on the device",
    "folded": "computed when the file was parsed: it depends on no input, or only on sizes",
    "host": "on the host",
    "unused": "left out: no output depends on it",
    "nowhere": "not computed",
}


def explain_file(model: Path, how: Translation, names: Sequence[str], as_json: bool) -> None:
    """Parse a file, and tell of each name what became of it.

    Raises:
        UnsupportedModelError: the file is refused; why these nodes are, where it is because of them.
    """
    from headrace.frontends import parse

    try:
        report = parse(model, how.options).report
    except UnsupportedModelError as error:
        theirs = [d for d in error.diagnostics if any(f"node {name!r}" in d.where for name in names)]
        if not theirs:
            raise
        raise UnsupportedModelError(theirs) from None
    explain_names(report, names, as_json)


def explain_names(report: ParseReport, names: Sequence[str], as_json: bool) -> None:
    """Tell of each name what became of it; names that nothing has are errors, all of them together."""
    from headrace.errors import UsageError
    from headrace.reports.explanation import explain

    found: list[Explanation] = []
    unknown: list[HeadraceError] = []
    for name in names:
        try:
            found.append(explain(report, name))
        except UsageError as error:
            unknown.append(error)
    if unknown:
        raise UsageError([d for error in unknown for d in error.diagnostics])
    data = {"explanations": [explanation.as_dict() for explanation in found]}
    emit(data, lambda: "\n".join(explanation_text(explanation) for explanation in found), as_json)


def explanation_text(found: Explanation) -> str:
    """An explanation for people: a line for each node."""
    if found.what == "layer":
        head = f"layer {found.name} ({found.kind})"
        if not found.nodes:
            return f"{head} stands for no node of the file: it moves data, or parsing put it there"
        lines = [f"{head} stands for {len(found.nodes)} node{'s' if len(found.nodes) > 1 else ''} of the file:"]
        return "\n".join([*lines, *(f"  {_node_text(node)}" for node in found.nodes)])
    if found.what == "input":
        return f"input {found.name!r} is {_layers_text(found.nodes[0].layers)}"
    text = _node_text(found.nodes[0])
    return f"tensor {found.name!r} is made by {text}" if found.what == "tensor" else text


def _node_text(node: ExplainedNode) -> str:
    operator = f" ({node.operator})" if node.operator else ""
    parts = [_PLACES[node.place]]
    if node.place == "device" and node.layers:
        parts[0] += f", {_layers_text(node.layers)}"
        if node.beside:
            parts[0] += f" with {', '.join(map(repr, node.beside[:6]))}{' …' if len(node.beside) > 6 else ''}"
    if node.place == "nowhere":
        parts[0] += f": {node.reason}"
    if node.place == "host":
        step = f", step {node.step} of the whole model" if node.step else ""
        parts[0] += f"{step}: {node.reason}" if node.reason else step
        parts += [f"to move it: {node.rewrite}"] if node.rewrite else []
    parts += [f"part of pattern {p.pattern}, which became {p.into}" for p in node.patterns]
    parts += [f"nearly pattern {miss.pattern}: {miss.reason}" for miss in node.near_misses]
    if node.passes:
        parts.append(f"changed by {', '.join(node.passes)}")
    return f"node {node.node!r}{operator}: {'; '.join(parts)}"


def _layers_text(layers: Sequence[str]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(layers[:8])}"
