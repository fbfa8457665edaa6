# SPDX-License-Identifier: Apache-2.0
"""The branch of an ``If`` that is taken stands in its place, where the condition is known when the file is read.

It is known where it depends on constants and on sizes alone; those of what a branch computes become known once that
branch stands in its place, so it goes round by round. Nothing is copied: no file grows by this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from headrace.frontends.file_model import captured, subgraphs
from headrace.frontends.fold import Budget
from headrace.frontends.formats.onnx.infer import is_small
from headrace.frontends.graph import SourceGraph, constant, name_of
from headrace.frontends.levers import inferred
from headrace.hn import Array

#: Branches in branches: protobuf reads no deeper ones.
_MAX_ROUNDS = 34
Build = Callable[[onnx.ModelProto], SourceGraph]


def take_branches(model: onnx.ModelProto, build: Build, shapes: Mapping[str, Sequence[int]]) -> None:
    """Put branches in the place of every ``If`` of the graph whose condition is known.

    Args:
        model: changed in place.
        build: the source graph of a model.
        shapes: of inputs, as the user gave them.
    """
    budget = Budget()
    for _ in range(_MAX_ROUNDS):
        conditions = {n.input[0]: None for n in model.graph.node if _is_if(n)}
        if not conditions:
            return
        source = build(_what_decides(model, conditions))
        inferred(source, {n: list(s) for n, s in shapes.items()}, budget)
        known = {n: bool(a.reshape(-1)[0]) for n, a in _found(source) if _is_condition(a)}
        if not _replaced(model.graph, known):
            return


def _is_if(node: onnx.NodeProto) -> bool:
    return node.op_type == "If" and node.domain in ("", "ai.onnx") and len(node.input) == 1 and bool(node.input[0])


def _is_condition(array: Array) -> bool:
    return array.dtype == np.bool_ and array.size == 1


def _found(source: SourceGraph) -> Iterator[tuple[str, Array]]:
    """Conditions that are known, by name: what the nodes at the outputs read."""
    for value in source.graph.outputs:
        maker = value.producer()
        condition = None if maker is None else maker.inputs[0]
        array = constant(condition)
        if array is not None:
            yield name_of(condition), array


def _what_decides(model: onnx.ModelProto, conditions: Mapping[str, None]) -> onnx.ModelProto:
    """The part of a model that leads to conditions; large weights are inputs of it.

    At each output a node reads a condition: outputs themselves are not folded.
    """
    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.graph.name = model.graph.name
    makers = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    needed: set[str] = set()
    chosen: set[int] = set()
    waiting = list(conditions)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers and makers[name] not in chosen:
            chosen.add(makers[name])
            node = model.graph.node[makers[name]]
            waiting += [n for n in (*node.input, *captured(node)) if n]
    made.graph.node.extend(node for i, node in enumerate(model.graph.node) if i in chosen)
    for tensor in model.graph.initializer:
        if tensor.name in needed and (is_small(tensor) or tensor.name in conditions):
            made.graph.initializer.append(tensor)
        elif tensor.name in needed:
            made.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    weights = {tensor.name for tensor in model.graph.initializer}
    made.graph.input.extend(i for i in model.graph.input if i.name in needed and i.name not in weights)
    made.graph.value_info.extend(i for i in (*model.graph.value_info, *model.graph.output) if i.name in needed)
    for name in conditions:
        end = _fresh(name, "known", needed)
        made.graph.node.append(onnx.helper.make_node("Identity", [name], [end]))
        made.graph.output.append(onnx.helper.make_empty_tensor_value_info(end))
    return made


def _replaced(graph: onnx.GraphProto, known: Mapping[str, bool]) -> bool:
    """Put the branches in place; whether there was one."""
    there = {i.name for i in (*graph.input, *graph.initializer)} | {n for node in graph.node for n in node.output}
    chosen = {
        i: branch
        for i, node in enumerate(graph.node)
        if _is_if(node)
        and node.input[0] in known
        and (branch := _branch(node, known[node.input[0]], there)) is not None
    }
    if not chosen:
        return False
    taken = there | {n for i, node in enumerate(graph.node) if i not in chosen for n in _defined_below(node)}
    labels = {node.name for node in graph.node}
    nodes: list[onnx.NodeProto] = []
    for i, node in enumerate(graph.node):
        if i in chosen:
            nodes += _in_place(graph, node, chosen[i], taken, labels)
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _branch(node: onnx.NodeProto, condition: bool, there: set[str]) -> onnx.GraphProto | None:
    """The branch that is taken; None where it is not what the standard asks for."""
    wanted = "then_branch" if condition else "else_branch"
    found = next((a.g for a in node.attribute if a.name == wanted and a.HasField("g")), None)
    if found is None or sorted(a.name for a in node.attribute) != ["else_branch", "then_branch"]:
        return None
    if found.input or len(found.output) != len(node.output):
        return None
    return found if there.issuperset(captured(node)) else None


def _defined_below(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the subgraphs of a node define."""
    for graph in subgraphs(node):
        yield from _own_names(graph)
        for inner in graph.node:
            yield from _defined_below(inner)


def _own_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that a graph defines itself."""
    yield from (i.name for i in (*graph.input, *graph.initializer))
    yield from (s.values.name for s in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)


def _in_place(
    graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto, taken: set[str], labels: set[str]
) -> list[onnx.NodeProto]:
    """The nodes of a branch, and one that gives each output its name; its constants go to the graph."""
    label = node.name or next((n for n in node.output if n), node.op_type)
    _rename(branch, label, {}, taken)
    for inner in branch.node:
        inner.name = _fresh(inner.name, label, labels) if inner.name else ""
    graph.initializer.extend(branch.initializer)
    graph.sparse_initializer.extend(branch.sparse_initializer)
    graph.value_info.extend(branch.value_info)
    made = list(branch.node)
    for index, (outside, inside) in enumerate(zip(node.output, branch.output, strict=True)):
        if outside:
            name = node.name if not index else ""
            made.append(onnx.helper.make_node("Identity", [inside.name], [outside], name))
    return made


def _rename(graph: onnx.GraphProto, label: str, outer: Mapping[str, str], taken: set[str]) -> None:
    """Give what a graph and those in it define names that nothing else has; it is in place."""
    names = {**outer, **{name: _fresh(name, label, taken) for name in dict.fromkeys(_own_names(graph)) if name}}
    for info in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        info.name = names.get(info.name, info.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
        for below in subgraphs(node):
            _rename(below, label, names, taken)


def _fresh(name: str, label: str, taken: set[str]) -> str:
    """The name, or one like it that is not taken; it is then."""
    made = name if name not in taken else f"{label}/{name}"
    while made in taken:
        made += "'"
    taken.add(made)
    return made
