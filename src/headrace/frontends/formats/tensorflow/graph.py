# SPDX-License-Identifier: Apache-2.0
"""A TensorFlow model as source graph: its messages read, its outputs found, and what they need evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
from google.protobuf.message import DecodeError

from headrace.errors import Diagnostic, InputFileError, UsageError, unknown_name
from headrace.frontends.fixed_values import FixedInputs
from headrace.frontends.formats.tensorflow import control, dilation, operators, training
from headrace.frontends.formats.tensorflow.build import GraphBuilder
from headrace.frontends.formats.tensorflow.bundle import Bundle
from headrace.frontends.formats.tensorflow.evaluate import Evaluator, Scope
from headrace.frontends.formats.tensorflow.operators.constants import names_of_inputs, names_of_variable
from headrace.frontends.formats.tensorflow.outputs import found_outputs
from headrace.frontends.formats.tensorflow.places import Place, place_of
from headrace.frontends.formats.tensorflow.records import Body, Program, Ref, program_of
from headrace.frontends.formats.tensorflow.restore import Variables, restored
from headrace.frontends.formats.tensorflow.schema import GraphMessage, MetaGraphMessage, SavedModelMessage
from headrace.frontends.graph import SourceGraph, Unsupported, constant, kind_of
from headrace.frontends.options import ParseOptions
from headrace.frontends.reader import Source, check_not_a_pointer, corrupt, no_signatures
from headrace.hn.files import read_bytes

_LOADED = (control, dilation, operators, training)  # imported for what they register
MAX_MODEL_BYTES = (2 << 30) - 1
_SERVING = "serving_default"
_KINDS = {"graph": "frozen graph", "meta": "checkpoint", "saved": "SavedModel"}
_VARIABLES = frozenset({"VariableV2", "Variable", "VarHandleOp"})
_MOST_NAMES = 4096


@dataclass
class _Signature:
    """Names that a file gives its inputs and outputs: by key, the tensor."""

    name: str = ""
    inputs: dict[str, Ref] = field(default_factory=dict)
    outputs: dict[str, Ref] = field(default_factory=dict)


def _parsed(kind: Any, data: bytes, where: str) -> Any:
    hint = "save the model again"
    check_not_a_pointer("tensorflow", data, where, "a TensorFlow model", hint)
    try:
        return kind.FromString(data)
    except DecodeError as error:
        rule = "it is not a TensorFlow model, or it is damaged"
        raise InputFileError(corrupt("tensorflow", where, rule, error, "a protobuf message", hint)) from None


def _tensor(text: str) -> Ref:
    name, _, index = text.partition(":")
    return Ref(name, int(index) if index.isdecimal() and len(index) < 6 else 0)


def _signature(meta: Any, where: str, asked: str | None) -> _Signature:
    """The signature that is asked for, else the one that inference uses: ``serving_default``, or the only one."""
    usable = {e.key: e.value for e in meta.signatures if e.value.outputs and not e.key.startswith("__")}
    if asked is not None and asked not in usable:
        raise UsageError(unknown_name("E-PARSE-SIGNATURE", "signature", asked, usable, where))
    if not usable:
        return _Signature()
    if asked is None and _SERVING not in usable and len(usable) > 1:
        names, lever = ", ".join(list(usable)[:8]), f"--signature {next(iter(usable))}"
        rule, need = "the file has several signatures, and none is the default", f"one, or {_SERVING!r}"
        raise InputFileError(Diagnostic("E-TENSORFLOW-SIGNATURE", where, rule, names, need, (lever,)))
    name = asked or (_SERVING if _SERVING in usable else next(iter(usable)))
    chosen = usable[name]
    if len(chosen.inputs) > _MOST_NAMES or len(chosen.outputs) > _MOST_NAMES:
        raise InputFileError(corrupt("tensorflow", where, "a signature has too many names", name))
    inputs = {e.key: _tensor(e.value.name) for e in sorted(chosen.inputs, key=lambda e: e.key)}
    outputs = {e.key: _tensor(e.value.name) for e in sorted(chosen.outputs, key=lambda e: e.key)}
    return _Signature(name, inputs, outputs)


def _meta_graph(message: Any, where: str) -> Any:
    """The one that is meant for serving, of a SavedModel's."""
    if not message.meta_graphs:
        raise InputFileError(corrupt("tensorflow", where, "it holds no graph", "", "a SavedModel with a graph"))
    serving = [m for m in message.meta_graphs if "serve" in m.info.tags]
    return (serving or list(message.meta_graphs))[0]


@dataclass
class _Read:
    """A model's messages, read."""

    program: Program
    variables: Variables
    signature: _Signature


def _read(source: Source, place: Place, asked: str | None) -> _Read:
    where = source.where("TensorFlow model")
    if asked is not None and place.kind != "saved":
        raise no_signatures(f"a {_KINDS[place.kind]}", asked)
    if place.path is None or place.path == source.path:
        data = source.bytes("TensorFlow model", MAX_MODEL_BYTES)
    else:
        data = read_bytes(place.path, "TensorFlow model", MAX_MODEL_BYTES)
    bundle = Bundle(place.prefix) if place.prefix is not None else None
    size = len(data) + (bundle.size if bundle is not None else 0)
    if place.kind == "graph":
        message = _parsed(GraphMessage, data, where)
        signature, restore = _Signature(), ""
    else:
        saved = place.kind == "saved"
        meta = (
            _meta_graph(_parsed(SavedModelMessage, data, where), where)
            if saved
            else _parsed(MetaGraphMessage, data, where)
        )
        message, restore = meta.graph, meta.saver.restore.partition(":")[0]
        signature = _signature(meta, where, asked) if saved else _Signature()
    if not message.nodes:
        raise InputFileError(corrupt("tensorflow", where, "it holds no graph", "", "a graph with nodes"))
    program = program_of(message, where, size)
    for key, ref in [*signature.inputs.items(), *signature.outputs.items()]:
        if ref.node not in program.graph.nodes:
            rule = f"its signature names a tensor that nothing makes ({key!r})"
            raise InputFileError(corrupt("tensorflow", where, rule, ref.tensor[:100]))
    return _Read(program, Variables(bundle, restored(program, restore)), signature)


# --- names ------------------------------------------------------------------------------------------------------------


def _is_known(body: Body, ref: Ref) -> bool:
    """Whether a tensor is a constant or a variable, maybe under other names."""
    node = body.nodes.get(ref.node)
    while node is not None and node.op in ("Identity", "ReadVariableOp", "Enter") and node.inputs:
        node = body.nodes.get(node.inputs[0].node)
    return node is not None and (node.op == "Const" or node.op in _VARIABLES)


def _starts(body: Body, names: Sequence[str]) -> list[str]:
    """The tensors that the network starts with, where nodes or tensors of the graph itself are named."""
    found: list[str] = []
    for name in names:
        ref = _tensor(name)
        node = body.nodes.get(ref.node)
        if node is None:
            continue
        data = [r.tensor for r in node.inputs if not _is_known(body, r)]
        found += [ref.tensor] if ":" in name or not data else data
    return found


def _given(read: _Read, options: ParseOptions) -> dict[str, list[int]]:
    """Shapes that the user states, by the names that tensors have in the graph."""
    given = options.named_shapes
    for key, ref in read.signature.inputs.items():
        if key in given:
            given[ref.tensor] = given[key]
    if options.only_shape is not None:
        body = read.program.graph
        if options.start_node_names:
            names = _starts(body, options.start_node_names)
        else:
            names = [r.tensor for r in read.signature.inputs.values()] or [
                n.name for n in body.nodes.values() if n.op in ("Placeholder", "PlaceholderV2", "IteratorGetNext")
            ]
        given |= dict.fromkeys(names, options.only_shape)
    return given


def _wanted(read: _Read, options: ParseOptions, warnings: list[str]) -> list[str]:
    """Names of the nodes that a graph without a signature ends with."""
    body = read.program.graph
    unset = [
        n.name for n in body.nodes.values() if n.op in _VARIABLES and not read.variables.has(names_of_variable(n))
    ] if read.variables.bundle is not None else []  # fmt: skip
    names, left = found_outputs(body, unset)
    if left and not options.end_node_names:
        shown = ", ".join(repr(n) for n in left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
        warnings.append(f"outputs whose variables are not in the checkpoint were left out: {shown}")
    return names


# --- the graph --------------------------------------------------------------------------------------------------------


def _outputs(evaluator: Evaluator, scope: Scope, read: _Read, names: Sequence[str]) -> list[ir.Value]:
    """Evaluate the outputs: those of the signature under their keys, else those of the nodes."""
    found: list[ir.Value] = []
    for key, ref in read.signature.outputs.items():
        results = evaluator.run(scope, ref.node)
        value = results[ref.index] if ref.index < len(results) else None
        if isinstance(value, ir.Value):
            found.append(evaluator.output(key, value))
    if not read.signature.outputs:
        for name in names:
            results = [v for v in evaluator.run(scope, name) if isinstance(v, ir.Value)]
            found += [v for v in results if kind_of(v) is None or constant(v) is not None][: max(len(results), 1)]
    return list(dict.fromkeys(found))


def _named_nodes(evaluator: Evaluator, scope: Scope, options: ParseOptions) -> None:
    """Evaluate what the user names, whatever the outputs need."""
    for name in [*options.end_node_names, *options.start_node_names]:
        ref = _tensor(name)
        if ref.node in scope.body.nodes:
            evaluator.run(scope, ref.node)


def read_tensorflow(source: Source, options: ParseOptions) -> SourceGraph:
    """Read a TensorFlow model.

    Raises:
        InputFileError: missing, damaged or inconsistent; it is not clear which of several is meant.
        UsageError: no output was found, and none is named; a value for what is no input, or of another type or shape.
    """
    try:
        return _graph(source, options)
    except Unsupported as problem:  # what stands outside of any one operator
        where = source.where("TensorFlow model")
        raise InputFileError(
            corrupt("tensorflow", where, "the model is damaged", problem.reason, problem.need)
        ) from None


def _graph(source: Source, options: ParseOptions) -> SourceGraph:
    read = _read(source, place := place_of(source), options.signature)
    program = read.program
    warnings: list[str] = []
    keys = {ref.tensor: key for key, ref in read.signature.inputs.items()}
    fixed = FixedInputs(options.input_values, keys)
    builder = GraphBuilder(program.size, program.producer, _given(read, options), read.variables.read, fixed)
    facts: dict[str, Any] = {"format": "tensorflow", "kind": _KINDS[place.kind], "producer": program.producer}
    result = SourceGraph(ir.Graph([], [], nodes=[]), program.where, facts, channels_last=True, warnings=warnings)
    evaluator = Evaluator(program, builder, result)
    evaluator.reserve(read.signature.outputs)
    names = [] if read.signature.outputs else _wanted(read, options, warnings)
    scope = Scope(program.graph)
    outputs = _outputs(evaluator, scope, read, names)
    _named_nodes(evaluator, scope, options)
    tensors = [name for node in program.graph.nodes.values() for name in names_of_inputs(node)]
    fixed.check(keys.get(name, name) for name in tensors)
    inputs = [v for v in builder.inputs if v.uses() or v in outputs]
    for value in inputs:
        value.name = keys.get(str(value.name), value.name)
    if read.signature.name:
        facts["signature"] = read.signature.name
    facts["operators"] = dict(sorted(Counter(result.operators.values()).items()))
    warnings += training.warnings_of(builder.notes)
    result.folded = builder.folded
    result.graph = ir.Graph(inputs, outputs, nodes=builder.nodes, name=None)
    return result


__all__ = ["read_tensorflow"]
