# SPDX-License-Identifier: Apache-2.0
"""Cutting the graph at start and end nodes that the user names, and dropping what no output needs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from headrace.errors import Diagnostic, UsageError, did_you_mean, unknown_name
from headrace.frontends.graph import SourceGraph, constant, is_internal, label, name_of


class TensorName(str):
    """A name among those of start and end nodes that means a tensor, even where a node has it too."""

    __slots__ = ()


def _by_name(source: SourceGraph) -> tuple[dict[str, list[ir.Node]], dict[str, ir.Value]]:
    """Nodes by label, several where one operator of the file became several; tensors of the file by name."""
    nodes: dict[str, list[ir.Node]] = {}
    values: dict[str, ir.Value] = {name_of(v): v for v in source.graph.inputs}
    for node in source.graph:
        if label(node) not in nodes or label(node) in source.operators or label(node) in source.expanded:
            nodes.setdefault(label(node), []).append(node)
        for value in node.outputs:
            if name_of(value) and not is_internal(value):
                values.setdefault(name_of(value), value)
    for name in [n for n in nodes if source.operators and n not in source.operators]:
        del nodes[name]  # glue behind an input
    return nodes, values


def _results(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """The tensors that an operator of the file makes."""
    made = [v for node in nodes for v in node.outputs if not is_internal(v)]
    return [v for v in made if name_of(v) and (v.uses() or v.is_graph_output())] or made[:1]


def _operands(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """The tensors that an operator of the file reads."""
    found: list[ir.Value] = []
    for value in (v for node in nodes for v in node.inputs if v is not None and v.const_value is None):
        producer = value.producer()
        if producer is not None and any(producer is node for node in nodes):
            continue
        while is_internal(value) and (producer := value.producer()) is not None and producer.inputs[0] is not None:
            value = producer.inputs[0]
        if constant(value) is None:
            found.append(value)
    return found


Found = list["list[ir.Node] | ir.Value"]


def _find(source: SourceGraph, names: Sequence[str], option: str, problems: list[Diagnostic]) -> Found:
    nodes, values = _by_name(source)
    found: Found = []
    corrected: list[str] = []
    unknown: list[Diagnostic] = []
    for name in names:
        item = values.get(name) if isinstance(name, TensorName) else _meant(str(name), nodes, values)
        if item is not None:
            found.append(item)
            corrected.append(str(name))
            continue
        gone = _constants(source).get(str(name))
        if gone is not None:
            problems.append(_is_constant(source, str(name), option, *gone))
            continue
        known = [*nodes, *values]
        unknown.append(unknown_name("E-PARSE-NODE", f"node for {option}", str(name), known, source.where))
        corrected += did_you_mean(str(name), known, 1)
    if unknown and len(names) > 1 and len(corrected) == len(names):
        whole = f"{option} {' '.join(map(shlex.quote, corrected))}"
        unknown[-1] = replace(unknown[-1], levers=(*unknown[-1].levers, whole))
    problems += unknown
    return found


def _meant(
    name: str, nodes: Mapping[str, list[ir.Node]], values: Mapping[str, ir.Value]
) -> list[ir.Node] | ir.Value | None:
    """What a name means: a node, a tensor, or in TensorFlow's words ``node:1`` a result of a node."""
    if name in nodes:
        return nodes[name]
    if name in values:
        return values[name]
    node, colon, number = name.rpartition(":")
    if not colon:
        return values.get(f"{name}:0")
    if not number.isascii() or not number.isdigit() or len(number) > 4:
        return None
    if node in nodes:
        results = _results(nodes[node])
        return results[int(number)] if int(number) < len(results) else None
    return values.get(node) if int(number) == 0 else None


def _constants(source: SourceGraph) -> dict[str, tuple[bool, str]]:
    """Names of what became constant when the file was read: whether a node computed it, and a node that reads it."""
    found: dict[str, tuple[bool, str]] = {}
    for node in source.graph:
        waiting = [v for v in node.inputs if v is not None and v.const_value is not None]
        while waiting:
            value = waiting.pop()
            producer = value.producer()
            computed = producer is not None and producer.graph is None
            if name_of(value) in found:
                continue
            found[name_of(value)] = computed, label(node)
            if producer is not None and computed:
                found.setdefault(label(producer), (True, label(node)))
                waiting += [v for v in producer.inputs if v is not None]
    return found


def _is_constant(source: SourceGraph, name: str, option: str, computed: bool, reader: str) -> Diagnostic:
    why = (
        "it depends on no input, so it was computed when the file was read"
        if computed
        else "it is a constant of the file"
    )
    rule = f"a network neither starts nor ends at a constant: {why}; node {reader!r} uses it"
    need = f"a node or tensor that depends on an input, as {reader!r} does"
    return Diagnostic("E-PARSE-NODE", source.where, rule, f"{option} {name!r}", need)


def cut(source: SourceGraph, starts: Sequence[str], ends: Sequence[str]) -> list[ir.Value]:
    """Cut at the named nodes or tensors; returns the new inputs.

    Raises:
        UsageError: names that do not exist, of both options together.
    """
    problems: list[Diagnostic] = []
    found_ends = _find(source, ends, "--end-node-names", problems)
    found_starts = _find(source, starts, "--start-node-names", problems)
    if problems:
        raise UsageError(problems)
    if ends:
        _cut_ends(source, found_ends)
    return _cut_starts(source, found_starts) if starts else []


def _cut_ends(source: SourceGraph, found: Found) -> None:
    """Make the outputs of the nodes, or the tensors, the graph's outputs, in the order given."""
    outputs: list[ir.Value] = []
    for item in found:
        if isinstance(item, ir.Value):
            outputs.append(item)
        else:
            outputs += _results(item)
    source.graph.outputs.clear()
    source.graph.outputs.extend(dict.fromkeys(outputs))


def _cut_starts(source: SourceGraph, found: Found) -> list[ir.Value]:
    """Make the data inputs of the nodes, or the tensors, the graph's inputs; returns those."""
    starts: list[ir.Value] = []
    for item in found:
        if isinstance(item, ir.Value):
            starts.append(item)
        else:
            starts += _operands(item)
    new_inputs: list[ir.Value] = []
    for value in dict.fromkeys(starts):
        if value.is_graph_input():
            new_inputs.append(value)
            continue
        fresh = ir.Value(name=value.name, shape=value.shape, type=value.type)
        value.replace_all_uses_with(fresh, replace_graph_outputs=True)
        new_inputs.append(fresh)
    # Inputs that are still needed beside the named ones stay.
    needed = {id(v) for v in reachable_values(source)}
    kept = [v for v in source.graph.inputs if id(v) in needed and v not in new_inputs]
    source.graph.inputs.clear()
    source.graph.inputs.extend([*new_inputs, *kept])
    return new_inputs


def reachable_values(source: SourceGraph) -> list[ir.Value]:
    """All values that the outputs depend on."""
    seen: dict[int, ir.Value] = {}
    stack = list(source.graph.outputs)
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        producer = value.producer()
        if producer is not None and producer.graph is not None:  # what folded depends on nothing
            stack += [v for v in producer.inputs if v is not None]
    return list(seen.values())


def drop_unreachable(source: SourceGraph) -> None:
    """Remove nodes and inputs that no output needs; unused inputs become warnings."""
    needed = {id(v) for v in reachable_values(source)}
    for node in reversed(list(source.graph)):
        if not any(id(v) in needed for v in node.outputs):
            source.removed.append(label(node))
            source.graph.remove(node, safe=False)
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
    unused = [v for v in source.graph.inputs if id(v) not in needed]
    for value in unused:
        source.warnings.append(unused_input(name_of(value)))
        source.graph.inputs.remove(value)


def unused_input(name: str) -> str:
    """What is said of an input that no output needs."""
    return f"input {name!r} is not used by any output and was left out"


def check_outputs(source: SourceGraph) -> None:
    if not source.graph.outputs:
        raise UsageError(Diagnostic("E-PARSE-NODE", source.where, "the network has no output", "", "--end-node-names"))
