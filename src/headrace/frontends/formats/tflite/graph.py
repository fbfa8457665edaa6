# SPDX-License-Identifier: Apache-2.0
"""A TFLite file as source graph: every operator converted, refusals collected."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from headrace.errors import Diagnostic, UnsupportedModelError
from headrace.frontends.faults import faults_at
from headrace.frontends.fixed_values import FixedInputs
from headrace.frontends.formats.tflite import operators
from headrace.frontends.formats.tflite.build import CONVERTERS, GraphBuilder, Operation
from headrace.frontends.formats.tflite.operators.recurrent import STATEFUL
from headrace.frontends.formats.tflite.read import Model, Operator, read_records
from headrace.frontends.formats.tflite.schema import NUMPY_TYPES
from headrace.frontends.formats.tflite.states import NEXT
from headrace.frontends.graph import EndCodes, SourceGraph, Unsupported, marks
from headrace.frontends.options import InputValues, ParseOptions
from headrace.frontends.reader import Source

#: Options that name another graph of the file.
_GRAPHS = ("graph", "then_graph", "else_graph", "condition", "body")
_TABLES = frozenset({"HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"})
_RANDOM = frozenset({"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"})
_BUILTIN = "TFLite built-in operators"
_NO_OPTIONS = ParseOptions()


def _why_unknown(record: Operator) -> Unsupported:
    name = record.name
    if name.startswith("CUSTOM:Flex"):
        lever = "convert with target_spec.supported_ops = [TFLITE_BUILTINS]"
        return Unsupported(f"{name[7:]} is a TensorFlow operator, not one of TFLite (Flex)", _BUILTIN, (lever,))
    if name.startswith("CUSTOM:"):
        return Unsupported(f"{name[7:] or 'it'} is a custom operator", _BUILTIN)
    if name in _RANDOM:
        return Unsupported("its result is drawn at random", "a network without random numbers")
    if name in _TABLES:
        return Unsupported("hash tables are not supported", "a network of numbers")
    if name.startswith("OPERATOR_"):
        return Unsupported("its number is not in the TFLite schema that is read", "a TFLite built-in operator")
    return Unsupported(f"the operator {name} is not supported")


# --- the graph --------------------------------------------------------------------------------------------------------


def _fix_inputs(model: Model, given: InputValues) -> None:
    """Inputs with a value become constants of the file."""
    fixed = FixedInputs(given)
    names = [model.tensors[i].name for i in model.inputs]
    for index in list(model.inputs):
        tensor = model.tensors[index]
        dtype = None if tensor.variable else NUMPY_TYPES.get(tensor.type)
        value = fixed.value(tensor.name, None if dtype is None else np.dtype(dtype), tensor.shape)
        if value is not None:
            stored = memoryview(np.ascontiguousarray(value).tobytes())
            model.tensors[index] = replace(tensor, data=stored, shape=value.shape)
            model.inputs.remove(index)
    fixed.check(names)


def _inputs(builder: GraphBuilder) -> list[ir.Value]:
    values: list[ir.Value] = []
    for index in builder.model.inputs:
        value = ir.Value(name=None)
        builder.declare(index, value)
        if builder.model.tensors[index].variable:
            marks(value)["kind"] = "variable, which keeps its value from one frame to the next"
        values.append(value)
        builder.values[index] = builder.coded(index, value, value.name or "")
    return values


def _reads_unowned_variable(builder: GraphBuilder, record: Operator) -> bool:
    tensors = [builder.model.tensors[i] for i in record.inputs if i >= 0]
    return record.name not in STATEFUL and any(t.data is None and t.variable for t in tensors)


def _convert(builder: GraphBuilder, record: Operator, source: SourceGraph) -> None:
    """One operator; where it cannot be converted, a node of its name stands for it and the reason is noted."""
    operation = Operation(builder, record)
    label = operation.label
    source.operators[label] = record.name
    try:
        converter = CONVERTERS.get(record.name)
        if converter is None:
            raise _why_unknown(record)
        if _reads_unowned_variable(builder, record):
            raise Unsupported(
                "it reads a variable, which keeps its value from one frame to the next", "a network without state"
            )
        with builder.attempt(), faults_at(f"{builder.model.where}, operator {label!r} ({record.name})"):
            converter(operation)
    except Unsupported as problem:
        inputs = [builder.value(i) if i >= 0 else None for i in record.inputs]
        node = builder.add(record.name, inputs, {}, label, outputs=max(len(record.outputs), 1), domain="tflite")
        for index, value in zip(record.outputs, node.outputs, strict=False):
            builder.declare(index, value)
        builder.broken[node] = problem


def _check_subgraphs(model: Model) -> None:
    """Every graph but the first is called by another one."""
    called = [o.options.get(key) for g in model.graphs for o in g.operators for key in _GRAPHS]
    if any(number not in called for number in range(1, len(model.graphs))):
        raise UnsupportedModelError(
            Diagnostic(
                "E-TFLITE-SUBGRAPHS",
                model.where,
                "the file holds several graphs, and it is not known which is meant",
                f"{len(model.graphs)} subgraphs",
                "one graph",
                ("convert one signature of the model only",),
            )
        )


def _add_states(builder: GraphBuilder, inputs: list[ir.Value], outputs: list[ir.Value]) -> None:
    """What the file keeps from frame to frame enters and leaves the network."""
    names: list[str] = []
    for name, state in builder.states.kept.items():
        after = builder.add("Identity", [state.after], {}, name, glue=True).outputs[0]
        marks(after).pop("internal", None)
        after.name = f"{name}{NEXT}"
        after.dtype, after.shape = state.fed.dtype or ir.DataType.FLOAT, state.fed.shape
        inputs.append(state.fed)
        outputs.append(after)
        names.append(name)
    if names:
        builder.warnings.append(
            f"{len(names)} states that the file keeps from one frame to the next are inputs of the network, zero at "
            f"first unless the file says otherwise, and outputs whose names end in {NEXT}, to be fed to the next "
            f"frame: {', '.join(names[:8])}"
        )


def read_tflite(source: Source, options: ParseOptions = _NO_OPTIONS) -> SourceGraph:
    """Read a TFLite model, float or quantized.

    Args:
        source: the file.
        options: values of inputs, in the file's own type (codes, where an input is codes); the rest is not for reading.

    Raises:
        UsageError: a value for what is no input, or of another type or shape than the input.
        InputFileError: missing, not TFLite, damaged or inconsistent; all inconsistencies are listed.
        UnsupportedModelError: several graphs. Operators that are not supported are reported later,
            together.
    """
    model = read_records(source)
    _check_subgraphs(model)
    _fix_inputs(model, options.input_values)
    builder = GraphBuilder(model)
    counts = Counter(o.name for o in model.operators)
    facts = {
        "format": "tflite",
        "version": 3,
        "description": model.description,
        "operators": dict(sorted(counts.items())),
    }
    result = SourceGraph(ir.Graph([], [], nodes=[]), model.where, facts, channels_last=True)
    try:
        inputs = _inputs(builder)
    except Unsupported as problem:
        raise UnsupportedModelError(
            Diagnostic("E-TFLITE-UNSUPPORTED", model.where, problem.reason, "", problem.need)
        ) from None

    def run() -> None:
        for record in builder.model.operators:
            _convert(builder, record, result)

    builder.run = run
    run()
    result.broken.update(builder.broken)
    for tensor in (model.tensors[i] for i in [*model.inputs, *model.outputs]):
        how = tensor.quantization
        if how is not None and len(how.scale) == 1 and builder.stands_for_reals(tensor):
            result.codes[tensor.name] = EndCodes(tensor.type, how.scale[0], how.zero_point[0])
    outputs = list(dict.fromkeys(builder.value(i) for i in model.outputs))
    _add_states(builder, inputs, outputs)
    result.folded = builder.folded
    result.warnings += builder.warnings
    result.graph = ir.Graph(inputs, outputs, nodes=builder.nodes, name=None)
    return result


__all__ = ["operators", "read_tflite"]
