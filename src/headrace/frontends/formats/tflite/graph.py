# SPDX-License-Identifier: Apache-2.0
"""A TFLite file as source graph: every operator converted, refusals collected."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from headrace.errors import Diagnostic, UnsupportedModelError
from headrace.frontends.faults import faults_at
from headrace.frontends.formats.tflite import operators
from headrace.frontends.formats.tflite.build import CONVERTERS, GraphBuilder, Operation
from headrace.frontends.formats.tflite.dilation import find_dilations
from headrace.frontends.formats.tflite.operators.recurrent import STATEFUL
from headrace.frontends.formats.tflite.read import Model, Operator, read_records
from headrace.frontends.graph import CHOOSES, ENDS_BEFORE, EndCodes, SourceGraph, Unsupported, marks
from headrace.frontends.reader import Source

_CONTROL = frozenset({"IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE"})
_VARIABLES = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
_TABLES = frozenset({"HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"})
_CHOOSING = frozenset(
    {
        "TOPK_V2", "ARG_MAX", "ARG_MIN", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "WHERE", "GATHER_ND",
        "SCATTER_ND", "ONE_HOT", "UNIQUE", "CUSTOM:TFLite_Detection_PostProcess",
    }
)  # fmt: skip
_BUILTIN = "TFLite built-in operators"


def _why_unknown(record: Operator) -> Unsupported:
    name = record.name
    if name in _CHOOSING:
        return Unsupported(CHOOSES, ENDS_BEFORE)
    if name.startswith("CUSTOM:Flex"):
        lever = "convert with target_spec.supported_ops = [TFLITE_BUILTINS]"
        return Unsupported(f"{name[7:]} is a TensorFlow operator, not one of TFLite (Flex)", _BUILTIN, (lever,))
    if name.startswith("CUSTOM:"):
        return Unsupported(f"{name[7:] or 'it'} is a custom operator", _BUILTIN)
    if name in _CONTROL:
        return Unsupported("control flow with a subgraph is not supported", "a graph without control flow")
    if name in _VARIABLES:
        return Unsupported(
            "variables, which keep their value from one frame to the next, are not supported", "a network without state"
        )
    if name in _TABLES:
        return Unsupported("hash tables are not supported", "a network of numbers")
    if "LSTM" in name or "RNN" in name or name == "SVDF":
        return Unsupported(
            "it computes one step, and keeps its state from one frame to the next",
            "an operator over the whole sequence",
        )
    if name == "FAKE_QUANT":
        return Unsupported("the rounding of a training is not supported", "a model converted for inference")
    if name.startswith("OPERATOR_"):
        return Unsupported("its number is not in the TFLite schema that is read", "a TFLite built-in operator")
    return Unsupported(f"the operator {name} is not supported")


# --- the graph --------------------------------------------------------------------------------------------------------


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


def _convert(builder: GraphBuilder, record: Operator, source: SourceGraph) -> None:
    """One operator; where it cannot be converted, a node of its name stands for it and the reason is noted."""
    operation = Operation(builder, record)
    label = operation.label
    source.operators[label] = record.name
    try:
        converter = CONVERTERS.get(record.name)
        if converter is None:
            raise _why_unknown(record)
        if record.name not in STATEFUL and any(
            builder.model.tensors[i].data is None and builder.model.tensors[i].variable for i in record.inputs if i >= 0
        ):
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
        source.broken[node] = problem


def _check_subgraphs(model: Model) -> None:
    if model.subgraphs > 1 and not any(o.name in _CONTROL for o in model.operators):
        raise UnsupportedModelError(
            Diagnostic(
                "E-TFLITE-SUBGRAPHS",
                model.where,
                "the file holds several graphs, and it is not known which is meant",
                f"{model.subgraphs} subgraphs",
                "one graph",
                ("convert one signature of the model only",),
            )
        )


def read_tflite(source: Source) -> SourceGraph:
    """Read a TFLite model, float or quantized.

    Raises:
        InputFileError: missing, not TFLite, damaged or inconsistent; all inconsistencies are listed.
        UnsupportedModelError: several graphs. Operators that are not supported are reported later,
            together.
    """
    model = read_records(source)
    _check_subgraphs(model)
    builder = GraphBuilder(model, find_dilations(model))
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
    for record in model.operators:
        _convert(builder, record, result)
    result.folded = builder.folded
    result.warnings += builder.warnings
    for tensor in (model.tensors[i] for i in [*model.inputs, *model.outputs]):
        how = tensor.quantization
        if how is not None and len(how.scale) == 1 and builder.stands_for_reals(tensor):
            result.codes[tensor.name] = EndCodes(tensor.type, how.scale[0], how.zero_point[0])
    outputs = list(dict.fromkeys(builder.value(i) for i in model.outputs))
    result.graph = ir.Graph(inputs, outputs, nodes=builder.nodes, name=None)
    return result


__all__ = ["operators", "read_tflite"]
