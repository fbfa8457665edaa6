# SPDX-License-Identifier: Apache-2.0
"""An ONNX file, untrusted, into the source graph."""

from __future__ import annotations

import functools
import heapq
import math
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from headrace.errors import Diagnostic, InputFileError
from headrace.frontends.fold import EVALUATORS
from headrace.frontends.formats.onnx.branches import take_branches
from headrace.frontends.formats.onnx.contributed import write_out
from headrace.frontends.formats.onnx.fixed_inputs import fix_inputs
from headrace.frontends.formats.onnx.functions import Expansion, expand_standard, inlined
from headrace.frontends.formats.onnx.infer import inferred_types, without_weights
from headrace.frontends.graph import REFUSED, SourceGraph, Unsupported, marks, set_constant
from headrace.frontends.opset import normalize
from headrace.frontends.options import ParseOptions
from headrace.frontends.quantization import set_element_type
from headrace.frontends.reader import Source, check_not_a_pointer, corrupt
from headrace.frontends.standard import nonconforming
from headrace.frontends.to_hn import HANDLERS
from headrace.hn import Array

MAX_MODEL_BYTES = (2 << 30) - 1
MAX_NODES = 20_000
MAX_INITIALIZERS = 200_000
MAX_EXTERNAL_BYTES = 16 << 30
_NO_OPTIONS = ParseOptions()
_T = onnx.TensorProto
_NUMERIC = (
    _T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BFLOAT16, _T.INT8, _T.INT16, _T.INT32, _T.INT64,
    _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64, _T.BOOL, _T.INT4, _T.UINT4,
)  # fmt: skip
#: Elements of 4 bits; two share a byte, which no external file of this reader's does.
_FOUR_BITS: dict[int, str] = {_T.INT4: "int4", _T.UINT4: "uint4"}


def _bad(where: str, rule: str, got: object = "", need: str = "", *levers: str) -> Diagnostic:
    return corrupt("onnx", where, rule, got, need, *levers)


class _Reader:
    """State of one reading: where, the folder of external data, the problems found so far."""

    def __init__(self, where: str, folder: Path | None) -> None:
        self.where, self.folder = where, folder
        self.problems: list[Diagnostic] = []
        self.external_bytes = 0
        self.files: dict[Path, mmap.mmap | bytes] = {}
        self.opset = 0
        self.refused: dict[ir.Node, Unsupported] = {}

    def problem(self, place: str, rule: str, got: object = "", need: str = "") -> None:
        if len(self.problems) < 100:
            self.problems.append(_bad(f"{self.where}, {place}", rule, got, need))

    # --- tensors -------------------------------------------------------------------------------------------------

    def array(self, tensor: onnx.TensorProto, place: str) -> Array | None:
        """The tensor's array; None (and a problem) when it is not valid, None alone when its type is not numeric."""
        dims = list(tensor.dims)
        if any(d < 0 or d >= 1 << 31 for d in dims) or len(dims) > 16 or math.prod(dims) >= 1 << 31:
            self.problem(place, "the tensor's sizes are not valid", dims, "at most 2^31 elements")
            return None
        if tensor.data_type not in _NUMERIC:
            return None
        try:
            if tensor.data_location == _T.EXTERNAL:
                array = self._external(tensor, dims, place)
            else:
                array = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, IndexError, OverflowError, OSError, RuntimeError) as error:
            # RuntimeError: links that lead in a circle.
            self.problem(
                place, "the tensor's data does not fit its type and shape", error, f"{math.prod(dims)} elements"
            )
            return None
        if array is not None and tensor.data_type in (_T.FLOAT16, _T.BFLOAT16):
            return array.astype(np.float32)
        if array is not None and tensor.data_type in _FOUR_BITS:
            return array.astype(np.int8 if tensor.data_type == _T.INT4 else np.uint8)
        return array

    def _external(self, tensor: onnx.TensorProto, dims: list[int], place: str) -> Array | None:
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        if self.folder is None:
            self.problem(
                place, "the tensor's data is in another file, but the model was given as bytes", location, "a path"
            )
            return None
        root = self.folder.resolve()
        path = (root / location).resolve()
        if not location or os.path.isabs(location) or not path.is_relative_to(root):
            self.problem(place, "external data must lie beside the model", location, "a relative path without '..'")
            return None
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        offset, need = int(entries.get("offset", "0")), math.prod(dims) * dtype.itemsize
        length = int(entries.get("length", str(need)))
        if not path.is_file():
            self.problem(place, "the file with the tensor's data does not exist", location, "the file beside the model")
            return None
        stored = self._mapped(path)
        if offset < 0 or length != need or offset + need > len(stored):
            self.problem(
                place,
                "external data does not fit the tensor",
                f"offset {offset}, length {length}",
                f"{need} bytes in the file",
            )
            return None
        self.external_bytes += need
        if self.external_bytes > MAX_EXTERNAL_BYTES:
            self.problem(place, "external data is too large", self.external_bytes, f"≤ {MAX_EXTERNAL_BYTES} bytes")
            return None
        if not need:
            return np.zeros(dims, dtype)
        data = np.frombuffer(stored, dtype.newbyteorder("<"), math.prod(dims), offset)
        return data.astype(dtype, copy=False).reshape(dims)

    def _mapped(self, path: Path) -> mmap.mmap | bytes:
        """A file of external data, mapped into memory once: what is read of it costs memory only while it is used."""
        if path not in self.files:
            with path.open("rb") as handle:
                size = os.fstat(handle.fileno()).st_size
                self.files[path] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        return self.files[path]

    # --- nodes ---------------------------------------------------------------------------------------------------

    def attribute(self, proto: onnx.AttributeProto, place: str) -> ir.Attr | None:
        kind, name = proto.type, proto.name
        attribute_types = onnx.AttributeProto
        if proto.ref_attr_name:
            self.problem(
                f"{place}, attribute {name!r}", "it refers to an attribute of a function, but stands in none",
                proto.ref_attr_name, "a value",
            )  # fmt: skip
            return None
        simple: dict[int, Any] = {
            attribute_types.FLOAT: lambda: proto.f,
            attribute_types.INT: lambda: proto.i,
            attribute_types.FLOATS: lambda: tuple(proto.floats),
            attribute_types.INTS: lambda: tuple(proto.ints),
        }
        if kind in simple:
            return ir.Attr(name, ir.AttributeType(kind), simple[kind]())
        if kind == attribute_types.STRING:
            return ir.Attr(name, ir.AttributeType.STRING, proto.s.decode("utf-8", "replace"))
        if kind == attribute_types.STRINGS:
            return ir.Attr(name, ir.AttributeType.STRINGS, tuple(s.decode("utf-8", "replace") for s in proto.strings))
        if kind == attribute_types.TENSOR:
            array = self.array(proto.t, f"{place}, attribute {name!r}")
            return None if array is None else ir.Attr(name, ir.AttributeType.TENSOR, ir.Tensor(array))
        # Subgraphs, sparse tensors and types: the node that carries one is reported by its operator.
        return ir.Attr(name, ir.AttributeType.STRING, "<not read>")

    def nodes(self, protos: Iterable[onnx.NodeProto], values: dict[str, ir.Value]) -> list[ir.Node]:
        """Nodes with their outputs entered in ``values``; inputs may refer to any node's output."""
        listed = list(protos)
        defined: set[str] = set(values)
        for proto in listed:
            for name in proto.output:
                if name and name in defined:
                    self.problem(
                        f"node {proto.name or name!r}", "two things have one name", name, "each value defined once"
                    )
                elif name:
                    defined.add(name)
                    values[name] = ir.Value(name=name)
        made: list[ir.Node] = []
        used: set[str] = set()
        for proto in listed:
            place = f"node {proto.name or (proto.output[0] if proto.output else proto.op_type)!r}"
            for name in proto.input:
                if name and name not in values:
                    self.problem(
                        place, "an input is defined nowhere", name, "the output of a node, an input or an initializer"
                    )
            if not proto.output:
                self.problem(place, "the node has no output")
                continue
            outputs: list[ir.Value] = []
            for name in proto.output:
                fresh = name in values and name not in used and values[name].producer() is None
                outputs.append(values[name] if name and fresh else ir.Value(name=None))
                used.add(name)
            attributes = [a for a in (self.attribute(p, place) for p in proto.attribute) if a is not None]
            if len({a.name for a in proto.attribute}) < len(proto.attribute):
                self.problem(place, "an attribute is given twice", "", "every attribute once")
            standard = proto.domain in ("", "ai.onnx")
            refusal = nonconforming(proto, self.opset) if standard else None
            domain = "" if standard else proto.domain
            node = ir.Node(
                domain if refusal is None else REFUSED, proto.op_type,
                [*(values.get(n) if n else None for n in proto.input), *_captured(proto, values)],
                {a.name: a for a in attributes}, outputs=outputs, name=proto.name or None,
            )  # fmt: skip
            marks(node)["label"] = proto.name or next((n for n in proto.output if n), "")
            if refusal is not None:
                self.refused[node] = refusal
            made.append(node)
        return made

    def sorted(self, nodes: list[ir.Node]) -> list[ir.Node]:
        """Topological order, stable; a cycle is a problem."""
        index = {id(node): i for i, node in enumerate(nodes)}
        waiting = [0] * len(nodes)
        users: list[list[int]] = [[] for _ in nodes]
        for i, node in enumerate(nodes):
            makers = {index[id(p)] for p in (v.producer() for v in node.inputs if v is not None) if p is not None}
            waiting[i] = len(makers)
            for j in sorted(makers):
                users[j].append(i)
        ready = [i for i, count in enumerate(waiting) if count == 0]
        heapq.heapify(ready)
        order: list[ir.Node] = []
        while ready:
            i = heapq.heappop(ready)
            order.append(nodes[i])
            for user in users[i]:
                waiting[user] -= 1
                if waiting[user] == 0:
                    heapq.heappush(ready, user)
        if len(order) < len(nodes):
            stuck = [n.name or str(n.outputs[0].name) for n, w in zip(nodes, waiting, strict=True) if w]
            self.problem("graph", "the nodes form a cycle", ", ".join(stuck[:8]), "no cycle")
        return order


def _captured(proto: onnx.NodeProto, values: dict[str, ir.Value]) -> list[ir.Value]:
    """Values of the graph that only the node's subgraphs read: it depends on them too."""
    names: dict[str, None] = {}
    waiting = [a.g for a in proto.attribute if a.HasField("g")] + [g for a in proto.attribute for g in a.graphs]
    while waiting:
        for node in waiting.pop().node:
            names.update(dict.fromkeys(node.input))
            waiting += [a.g for a in node.attribute if a.HasField("g")] + [g for a in node.attribute for g in a.graphs]
    return [values[n] for n in names if n in values and n not in proto.input]


def _strings(model: onnx.ModelProto) -> Iterable[Any]:
    """Every name and word of a model that is read later."""
    graph = model.graph
    yield from (graph.name, model.producer_name, model.producer_version)
    for opset in model.opset_import:
        yield opset.domain
    for function in model.functions:
        yield from (function.domain, function.name)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
    for tensor in (*graph.initializer, *(s.values for s in graph.sparse_initializer)):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield info.name
        for dim in info.type.tensor_type.shape.dim:
            yield dim.dim_param


def _parse_proto(data: bytes, where: str) -> onnx.ModelProto:
    hint = "export the model to ONNX again"
    check_not_a_pointer("onnx", data, where, "an ONNX model", hint)
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise InputFileError(
            _bad(where, "it is not an ONNX model, or it is damaged", error, "a protobuf ModelProto", hint)
        ) from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise InputFileError(_bad(where, "it holds no graph", "", "an ONNX model with a graph", hint))
    if not all(isinstance(text, str) for text in _strings(model)):  # protobuf hands out what is not UTF-8 as bytes
        raise InputFileError(_bad(where, "a name in it is not valid UTF-8", "", "an undamaged model", hint))
    _check_counts(model.graph, where)
    return model


def _check_counts(graph: onnx.GraphProto, where: str) -> None:
    for what, count, limit in (
        ("nodes", len(graph.node), MAX_NODES),
        ("initializers", len(graph.initializer), MAX_INITIALIZERS),
    ):
        if count > limit:
            raise InputFileError(_bad(where, f"there are too many {what}", count, f"≤ {limit}"))


def _value_info(value: ir.Value, info: onnx.ValueInfoProto) -> None:
    if not info.type.HasField("tensor_type"):
        marks(value)["kind"] = info.type.WhichOneof("value") or "untyped"
        return
    tensor = info.type.tensor_type
    if tensor.elem_type in _T.DataType.values():
        value.dtype = ir.DataType(tensor.elem_type)
    if tensor.HasField("shape") and len(tensor.shape.dim) <= 16:
        dims = [
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else (d.dim_param or None)
            for d in tensor.shape.dim
        ]
        value.shape = ir.Shape(dims)


def _weights(proto: onnx.GraphProto, reader: _Reader) -> tuple[dict[str, ir.Value], list[ir.Value]]:
    """Values of the constants by name, and those that are dense."""
    values: dict[str, ir.Value] = {}
    initializers: list[ir.Value] = []
    for tensor in proto.initializer:
        if not tensor.name or tensor.name in values:
            reader.problem(f"initializer {tensor.name!r}", "an initializer has no name or a name twice", tensor.name)
            continue
        value = values[tensor.name] = ir.Value(name=tensor.name)
        array = reader.array(tensor, f"initializer {tensor.name!r}")
        if array is not None:
            set_constant(value, array)
            if tensor.data_type in _FOUR_BITS:
                set_element_type(value, _FOUR_BITS[tensor.data_type])
        else:
            marks(value)["kind"] = f"a tensor of type {tensor.data_type}"
        initializers.append(value)
    for sparse in proto.sparse_initializer:
        if sparse.values.name and sparse.values.name not in values:
            values[sparse.values.name] = ir.Value(name=sparse.values.name)
            marks(values[sparse.values.name])["kind"] = "a sparse tensor"
    return values, initializers


def _build(model: onnx.ModelProto, reader: _Reader, expansion: Expansion) -> SourceGraph:
    proto, facts = model.graph, _facts(model, reader)
    reader.opset = int(facts["opset"])
    values, initializers = _weights(proto, reader)
    inputs: list[ir.Value] = []
    for info in proto.input:
        if info.name in values:
            if values[info.name] in inputs:
                reader.problem(f"input {info.name!r}", "an input is listed twice", info.name)
            continue  # an initializer listed as input, as files before IR version 4 do
        value = values[info.name] = ir.Value(name=info.name)
        _value_info(value, info)
        inputs.append(value)
    nodes = reader.sorted(reader.nodes(proto.node, values))
    for info in [*proto.value_info, *proto.output]:
        found = values.get(info.name)
        if found is not None and found.producer() is not None:
            _value_info(found, info)
    outputs: list[ir.Value] = []
    for info in proto.output:
        if info.name not in values:
            reader.problem(
                f"output {info.name!r}", "a graph output is defined nowhere", info.name, "the output of a node"
            )
        elif values[info.name] not in outputs:
            outputs.append(values[info.name])
    if reader.problems:
        raise InputFileError(reader.problems)
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=initializers, name=proto.name or None)
    for name in expansion.internal & values.keys():
        marks(values[name])["internal"] = True
    return SourceGraph(
        graph, reader.where, facts, opset=reader.opset, broken=reader.refused, expanded=expansion.operators,
        infer=functools.partial(inferred_types, without_weights(model)),
    )  # fmt: skip


def _facts(model: onnx.ModelProto, reader: _Reader) -> dict[str, Any]:
    opsets: dict[str, int] = {}
    for item in model.opset_import:
        opsets[item.domain if item.domain != "ai.onnx" else ""] = item.version
    if "" not in opsets:
        raise InputFileError(
            _bad(reader.where, "the file does not say which ONNX operator set it uses", "", "an opset_import")
        )
    return {
        "format": "onnx",
        "ir_version": int(model.ir_version),
        "opset": opsets.pop(""),
        "other_opsets": dict(sorted(opsets.items())),
        "producer": f"{model.producer_name} {model.producer_version}".strip()[:100],
        "local_functions": sorted({f"{f.domain}::{f.name}"[:100] for f in model.functions}),
    }


def _with_branches(model: onnx.ModelProto, where: str, folder: Path | None, options: ParseOptions) -> None:
    """Put branches that are taken in place; a model that is not valid stays for the reader to say so."""
    if not any(node.op_type == "If" for node in model.graph.node):
        return
    shapes = dict(options.named_shapes)
    if options.only_shape is not None:
        shapes |= {i.name: options.only_shape for i in model.graph.input[:1]}
    try:
        take_branches(model, lambda part: _build(part, _Reader(where, folder), Expansion({}, frozenset())), shapes)
    except InputFileError:
        return
    _check_counts(model.graph, where)


def _model(source: Source, where: str, options: ParseOptions) -> tuple[onnx.ModelProto, int]:
    """The file as it is read (functions and branches in place, fixed inputs made constants), and its bytes."""
    data = source.bytes("ONNX model", MAX_MODEL_BYTES)
    size = len(data)
    model = _parse_proto(data, where)
    del data  # protobuf has its own copy
    fix_inputs(model.graph, options.input_values)
    model = inlined(model, where, MAX_NODES)
    _with_branches(model, where, None if source.path is None else source.path.parent, options)
    return model, size


def read_model(source: Source, options: ParseOptions = _NO_OPTIONS) -> SourceGraph:
    """Read an ONNX model.

    Args:
        source: the file.
        options: shapes and values of inputs; the rest is not for reading.

    Raises:
        UsageError: a value for what is no input, or of another type or shape than the input.
        InputFileError: missing, not ONNX, damaged or inconsistent; all inconsistencies are listed. Of bytes, external
            data cannot be read.
        UnsupportedModelError: its operator set is older or newer than those known.
    """
    where = source.where("ONNX model")
    try:
        model, size = _model(source, where, options)
        written = write_out(model, MAX_NODES)
        defined = expand_standard(model, HANDLERS.keys() | EVALUATORS.keys(), MAX_NODES)
        expansion = Expansion(defined.operators | written.operators, written.internal | defined.internal)
        reader = _Reader(where, None if source.path is None else source.path.parent)
        graph = _build(model, reader, expansion)
    except (
        UnicodeDecodeError,
        UnicodeEncodeError,
        ValueError,
        TypeError,
        OverflowError,
        IndexError,
        KeyError,
    ) as error:
        # The last line of defence: whatever else a damaged file makes the protobuf accessors raise.
        raise InputFileError(
            _bad(where, "the model is damaged", f"{type(error).__name__}: {error}", "a valid ONNX model")
        ) from None
    graph.stored = size + sum(map(len, reader.files.values()))
    graph.broken |= normalize(graph)
    graph.folder = None if source.path is None else source.path.parent
    graph.model = lambda: _model(source, where, options)[0]
    return graph
