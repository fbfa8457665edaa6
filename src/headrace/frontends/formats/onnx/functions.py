# SPDX-License-Identifier: Apache-2.0
"""Functions are put in the place of their calls: those that a model defines itself, as torch's exporter of 2.1 to 2.4
needs, and those of the standard that nothing here translates.

The size of the result is known before it is made: functions may call functions, so that a file of a kilobyte could ask
for more nodes than there is memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

import onnx
import onnx.inliner

from headrace.errors import Diagnostic, InputFileError
from headrace.frontends.formats.onnx.infer import inferred_types
from headrace.frontends.standard import absent_operand, nonconforming, schema_of

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
    except onnx.checker.ValidationError as error:
        got = str(error).strip()[:200]
        raise InputFileError(
            Diagnostic("E-ONNX-CORRUPT", where, "its own functions contradict each other", got, "one of each name")
        ) from None


# --- functions of the standard ----------------------------------------------------------------------------------------

#: Their definitions choose at random, take subgraphs, quantize, or are losses of a training.
NEVER = frozenset({
    "Bernoulli", "DynamicQuantizeLinear", "NegativeLogLikelihoodLoss", "SequenceMap", "SoftmaxCrossEntropyLoss",
})  # fmt: skip


@dataclass(frozen=True)
class Expansion:
    """What was put in the place of calls of standard functions.

    Attributes:
        operators: label of a node of the file → its operator.
        internal: names of tensors that the file does not have.
    """

    operators: dict[str, str]
    internal: frozenset[str]


def replace_calls(
    model: onnx.ModelProto, written: Callable[[onnx.NodeProto], list[onnx.NodeProto] | None], most_nodes: int
) -> Expansion:
    """Put nodes in the place of others.

    Args:
        model: changed in place.
        written: what stands for a node; None where it stays.
        most_nodes: how many nodes there may be; those beyond that stay.
    """
    operators: dict[str, str] = {}
    internal: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    left = most_nodes - len(model.graph.node)
    taken = {name for n in model.graph.node for name in n.output}
    for node in model.graph.node:
        body = written(node)
        if body is None or len(body) > left:
            nodes.append(node)
            continue
        left -= len(body)
        label = node.name or next((o for o in node.output if o), node.op_type)
        operators[label] = node.op_type
        internal |= renamed(body, node, label, taken)
        nodes += body
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return Expansion(operators, frozenset(internal))


def expand_standard(model: onnx.ModelProto, known: Set[str], most_nodes: int) -> Expansion:
    """Put definitions in the place of operators that nothing translates and that the standard defines by others.

    Args:
        model: changed in place.
        known: operators that stay as they are.
        most_nodes: how many nodes there may be; calls beyond that stay.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    calls = [n for n in model.graph.node if n.domain in ("", "ai.onnx") and _defined(n, known, opset)]
    if not calls:
        return Expansion({}, frozenset())
    types = inferred_types(model)
    for tensor in model.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    waiting = {id(n) for n in calls}
    return replace_calls(model, lambda n: _definition(n, types, opset) if id(n) in waiting else None, most_nodes)


def _defined(node: onnx.NodeProto, known: Set[str], opset: int) -> bool:
    if node.op_type in known or node.op_type in NEVER:
        return False
    if nonconforming(node, opset) is not None or absent_operand(node, opset) is not None:
        return False
    schema = schema_of(node.op_type, opset)
    return any(getattr(schema, kind, False) for kind in ("has_function", "has_context_dependent_function"))


def _definition(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], opset: int) -> list[onnx.NodeProto] | None:
    """The nodes that the standard puts in the place of one; None where types are missing that it asks for."""
    inputs = list(dict.fromkeys(n for n in node.input if n))
    call = onnx.NodeProto.FromString(node.SerializeToString())
    given = {a.name for a in node.attribute}  # the inliner takes an absent attribute for absent in the body too
    schema = schema_of(node.op_type, opset)
    defaults = [] if schema is None else [a.default_value for a in schema.attributes.values()]
    call.attribute.extend(a for a in defaults if a.name and a.name not in given)
    graph = onnx.helper.make_graph(
        [call], "call", [onnx.helper.make_value_info(n, types.get(n, onnx.TypeProto())) for n in inputs],
        [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in node.output if n],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        done = onnx.inliner.inline_selected_functions(model, [("", node.op_type)], inline_schema_functions=True)
    except Exception:  # noqa: BLE001 - another package's code, on a file that may be damaged: the call stays
        return None
    body = list(done.graph.node)
    return body if not any(n.op_type == node.op_type for n in body) else None


def renamed(body: list[onnx.NodeProto], call: onnx.NodeProto, label: str, taken: set[str]) -> set[str]:
    """Give the nodes the call's name and their tensors names of their own; returns these."""
    outer = {*call.input, *call.output}
    names: dict[str, str] = {}
    for node in body:
        for name in node.output:
            if name and name not in outer:
                fresh = f"{label}/{name}"
                while fresh in taken:
                    fresh += "'"
                names[name] = fresh
                taken.add(fresh)
    for node in body:
        node.name = label
        node.output[:] = [names.get(n, n) for n in node.output]
    for node in _nodes(body):
        node.input[:] = [names.get(n, n) for n in node.input]
    return set(names.values())
