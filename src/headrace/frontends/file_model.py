# SPDX-License-Identifier: Apache-2.0
"""The file in ONNX's words, before anything was folded or cut: what the parts that stay on the host are made of.

A file of ONNX is it itself (:attr:`SourceGraph.model`); that of another format is what its reader made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from headrace.frontends.graph import REFUSED, SourceGraph, constant, declared_shape, label, marks, name_of
from headrace.frontends.standard import nonconforming, schema_of
from headrace.hn import Array
from headrace.hn.whole import CONTRIBUTED, CONTRIBUTED_DOMAIN, CONTRIBUTED_STANDARD

#: Of a model that an operator of the file stands in, and that an older onnxruntime knows too.
IR_VERSION = 10


@dataclass(frozen=True)
class FileNode:
    """A node of the file: what stands for it in ONNX's words are one node or several.

    Attributes:
        index: among the nodes, which are in topological order.
        label: its name or, where it has none, the first tensor that it makes.
        operator: as the file calls it.
        reads: tensors of the file, those that only its subgraphs read included.
        makes: tensors of the file.
        parts: what stands for it.
        refusal: why no run time of the host can run it; empty where one may.
    """

    index: int
    label: str
    operator: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    parts: tuple[onnx.NodeProto, ...] = field(repr=False)
    refusal: str = ""


@dataclass
class FileModel:
    """Nodes, tensors and weights of a file.

    Attributes:
        proto: the model that the nodes are of.
        nodes: of the file, in topological order.
        weights: constants of the file by name.
        inputs, outputs: of the file, in its order.
        opset: of the standard operators.
        makers: tensor → what makes it, in ONNX's words.
        order: the same nodes → their place.
        internal: tensors that the file does not have: they stand inside of a node, or behind it for one of its readers.
    """

    proto: onnx.ModelProto
    nodes: list[FileNode]
    weights: dict[str, onnx.TensorProto | onnx.SparseTensorProto]
    inputs: dict[str, onnx.ValueInfoProto]
    outputs: dict[str, onnx.ValueInfoProto]
    opset: int
    makers: dict[str, onnx.NodeProto]
    order: dict[int, int]
    internal: frozenset[str] = frozenset()


def file_model(source: SourceGraph) -> FileModel:
    """The file that a source graph was read from.

    Args:
        source: as its reader gave it: not folded, not cut.
    """
    internal: frozenset[str] = frozenset()
    if source.model is not None:
        proto = source.model()
    else:
        proto, internal = _serialized(source)
    graph = proto.graph
    opset = next((int(o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    weights: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {t.name: t for t in graph.initializer}
    weights |= {t.values.name: t for t in graph.sparse_initializer}
    ordered = _ordered(graph)
    inputs = {i.name: i for i in graph.input if i.name not in weights}
    made = FileModel(
        proto,
        [],
        weights,
        inputs,
        {o.name: o for o in graph.output},
        opset,
        {name: node for node in ordered for name in node.output if name},
        {id(node): i for i, node in enumerate(ordered)},
        internal,
    )
    made.nodes = _nodes(made, ordered, source)
    return made


def _nodes(model: FileModel, ordered: Sequence[onnx.NodeProto], source: SourceGraph) -> list[FileNode]:
    """The nodes of the file, each with what stands for it."""
    refusals = {label(node): problem.reason for node, problem in source.broken.items()}
    functions = {(f.domain, f.name) for f in model.proto.functions}
    parts: dict[str, list[onnx.NodeProto]] = {}
    for index, proto in enumerate(ordered):
        called = _label_of(proto)
        if source.operators and called not in source.operators:
            continue  # glue behind an input
        key = called if source.operators else f"{index}"
        parts.setdefault(key, []).append(proto)
    nodes: list[FileNode] = []
    for protos in parts.values():
        called = _label_of(protos[0])
        makes = tuple(dict.fromkeys(n for p in protos for n in p.output if n and n not in model.internal))
        own = {n for p in protos for n in p.output}
        reads = dict.fromkeys(n for p in protos for r in _reads(p) if r not in own for n in named(model, r, own))
        unknown = (_not_standard(p, model.opset, functions) for p in protos)
        refusal = refusals.get(called) if source.model is None else None
        reason = refusal or next((r for r in unknown if r), "")
        operator = source.operators.get(called) or _operator(protos[-1])
        nodes.append(FileNode(len(nodes), called, operator, tuple(reads), makes, tuple(protos), reason))
    return nodes


def _reads(proto: onnx.NodeProto) -> list[str]:
    return [*(n for n in proto.input if n), *captured(proto)]


def named(model: FileModel, tensor: str, own: Collection[str] = ()) -> list[str]:
    """The tensors of the file that a tensor is, or follows from by nodes that are none of the file."""
    found: dict[str, None] = {}
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        maker = model.makers.get(name)
        if name not in model.internal or maker is None:
            if name not in own:
                found[name] = None
        else:
            waiting += [n for n in maker.input if n]
    return list(found)


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


#: Key of a node's metadata that holds its label, where its name had to be another.
_LABEL = "headrace.label"


def _label_of(node: onnx.NodeProto) -> str:
    own = node.name or next((n for n in node.output if n), node.op_type)
    return next((entry.value for entry in node.metadata_props if entry.key == _LABEL), own)


def _not_standard(node: onnx.NodeProto, opset: int, functions: Collection[tuple[str, str]]) -> str:
    """Why nothing on the host can run a node: its operator is of no standard domain, or not as the standard has it."""
    if node.domain == "ai.onnx.ml" or (node.domain, node.op_type) in functions:
        return ""
    if node.domain == CONTRIBUTED_DOMAIN and node.op_type in CONTRIBUTED:
        return ""
    if node.domain not in ("", "ai.onnx"):
        return f"operators of domain {node.domain!r} are not run on the host"
    if schema_of(node.op_type, opset) is None:
        if node.op_type in CONTRIBUTED_STANDARD:
            return ""
        return f"the ONNX standard has no operator {node.op_type}"
    wrong = nonconforming(node, opset)
    return "" if wrong is None else wrong.reason


def captured(node: onnx.NodeProto) -> list[str]:
    """Tensors of outer graphs that the subgraphs of a node read."""
    found: dict[str, None] = {}

    def look(graph: onnx.GraphProto, known: frozenset[str]) -> None:
        own = {i.name for i in graph.input} | {i.name for i in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        inside = known | own
        for inner in graph.node:
            found.update(dict.fromkeys(n for n in inner.input if n and n not in inside))
            for below in subgraphs(inner):
                look(below, inside)
        found.update(dict.fromkeys(o.name for o in graph.output if o.name and o.name not in inside))

    for graph in subgraphs(node):
        look(graph, frozenset())
    return list(found)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _ordered(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, makers before readers; the file's order where it is one."""
    nodes = list(graph.node)
    made_by = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waiting: list[set[int]] = [
        {made_by[n] for n in (*node.input, *captured(node)) if n in made_by and made_by[n] != i}
        for i, node in enumerate(nodes)
    ]
    if all(max(before, default=-1) < i for i, before in enumerate(waiting)):
        return nodes
    readers: list[list[int]] = [[] for _ in nodes]
    for i, before in enumerate(waiting):
        for j in sorted(before):
            readers[j].append(i)
    left = [len(before) for before in waiting]
    ready = [i for i, count in enumerate(left) if not count]
    order: list[onnx.NodeProto] = []
    while ready:
        i = ready.pop(0)
        order.append(nodes[i])
        for reader in readers[i]:
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    return order


# --- a source graph as a model ---------------------------------------------------------------------------------------


class _Names:
    """Names for the values of a source graph: their own where it is theirs alone."""

    def __init__(self, graph: ir.Graph) -> None:
        self._given: dict[ir.Value, str] = {}
        self._taken: dict[str, None] = {}
        for value in [*graph.inputs, *(v for node in graph for v in node.outputs)]:
            self.of(value)

    def of(self, value: ir.Value) -> str:
        if value not in self._given:
            name = base = name_of(value) or "tensor"
            count = 0
            while name in self._taken:
                count += 1
                name = f"{base}#{count}"
            self._taken[name] = None
            self._given[value] = name
        return self._given[value]


def _serialized(source: SourceGraph) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The model, and its tensors that are none of the file."""
    names = _Names(source.graph)
    model = onnx.ModelProto(ir_version=IR_VERSION)
    model.graph.name = "file"
    constants: dict[str, None] = {}
    values = [*source.graph.inputs, *(v for node in source.graph for v in node.outputs)]
    doubles = any(value.dtype is ir.DataType.DOUBLE for value in values)
    for node in source.graph:
        made = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name or "")
        for value in node.inputs:
            made.input.append("" if value is None else names.of(value))
            array = constant(value)
            if value is not None and array is not None and names.of(value) not in constants:
                constants[names.of(value)] = None
                model.graph.initializer.append(numpy_helper.from_array(_narrow(array, doubles), names.of(value)))
        made.output.extend(names.of(value) for value in node.outputs)
        for attribute in node.attributes.values():
            made.attribute.append(ir.serde.serialize_attribute(attribute))
        made.metadata_props.add(key=_LABEL, value=label(node))
        model.graph.node.append(made)
        for value in node.outputs:
            if value.dtype is not None or declared_shape(value) is not None:
                _declare(model.graph.value_info.add(), names.of(value), value)
    for value in source.graph.inputs:
        _declare(model.graph.input.add(), names.of(value), value)
    for value in source.graph.outputs:
        array = constant(value)
        if array is not None and names.of(value) not in constants:
            constants[names.of(value)] = None
            model.graph.initializer.append(numpy_helper.from_array(_narrow(array, doubles), names.of(value)))
        _declare(model.graph.output.add(), names.of(value), value)
    domains = dict.fromkeys(node.domain for node in source.graph if node.domain not in ("", REFUSED))
    model.opset_import.add(domain="", version=source.opset)
    for domain in domains:
        model.opset_import.add(domain=domain, version=1)
    made = [value for node in source.graph for value in node.outputs]
    return model, frozenset(names.of(value) for value in made if "internal" in marks(value))


def _narrow(array: Array, doubles: bool) -> Array:
    """A constant; what was read in a wider type to be exact (codes times a scale) is float32 like all that it meets."""
    return array.astype(np.float32) if array.dtype == np.float64 and not doubles else array


def _declare(info: onnx.ValueInfoProto, name: str, value: ir.Value) -> None:
    info.name = name
    tensor = info.type.tensor_type
    tensor.elem_type = int(value.dtype) if value.dtype is not None else int(ir.DataType.FLOAT)
    dims = declared_shape(value)
    if dims is not None:
        tensor.shape.SetInParent()
        for dim in dims:
            entry = tensor.shape.dim.add()
            if isinstance(dim, int):
                entry.dim_value = dim
            elif dim != "?":
                entry.dim_param = dim


__all__ = ["FileModel", "FileNode", "captured", "file_model", "named", "subgraphs"]
