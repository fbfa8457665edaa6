# SPDX-License-Identifier: Apache-2.0
"""Parsing: read, normalise, fold, cut, recognise patterns, translate, clean up, report."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, HeadraceError, UnsupportedModelError, UsageError
from headrace.frontends.cut import check_outputs, drop_unreachable
from headrace.frontends.fold import OPSET, Budget
from headrace.frontends.folding import fold_constants
from headrace.frontends.graph import Progress, SourceGraph, find_single_inputs, label, name_of, resolve_input_shapes
from headrace.frontends.levers import InputShapes, Start, cut_with_shapes, shapes_before, working_ends, working_start
from headrace.frontends.onnx.opset import normalise
from headrace.frontends.onnx.read import read_model
from headrace.frontends.patterns import PATTERNS, apply_patterns
from headrace.frontends.tflite.graph import read_tflite
from headrace.frontends.translate import (
    Problem,
    Translation,
    recommended_end_nodes,
    translate,
    unknown_operators,
)
from headrace.hn import Network
from headrace.layers import definition_of
from headrace.layers.base import check_network
from headrace.passes import renumber, run_passes
from headrace.passes.absorb_pad import AbsorbPad
from headrace.passes.fold_affine import FoldAffine
from headrace.passes.fold_batch_norm import DropIdentityBatchNorm, FoldBatchNorm
from headrace.passes.fold_space_to_depth import FoldSpaceToDepth, MergeSlices
from headrace.passes.fold_through_moves import FoldThroughMoves
from headrace.passes.fuse_activation import FuseActivation
from headrace.passes.merge_branches import MergeBranches
from headrace.passes.remove_no_ops import MergeReshapes, RemoveDeadLayers, RemoveNoOps

Reader = Callable[["str | os.PathLike[str] | bytes"], SourceGraph]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
PASSES = (
    RemoveDeadLayers(),
    RemoveNoOps(),
    MergeReshapes(),
    MergeSlices(),
    FoldSpaceToDepth(),
    RemoveDeadLayers(),
    FoldBatchNorm(),
    FoldThroughMoves(),
    DropIdentityBatchNorm(),
    MergeBranches(),
    FuseActivation(),
    FoldAffine(),
    AbsorbPad(),
)


#: Nodes with one and the same problem that are listed one by one.
_MAX_ALIKE = 4
#: What the parse report tells of a pass's changes.
_SHOWN = ("folded", "fused", "absorbed", "dropped", "merged")


class UnsupportedNodesError(UnsupportedModelError):
    """All nodes that cannot be translated.

    ``recommended_end_nodes`` and ``recommended_start_nodes`` name parts of the network that can, each by itself;
    ``recommended_shapes`` are shapes of inputs that go with the latter.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic], ends: Sequence[str], starts: Start | None = None) -> None:
        super().__init__(diagnostics)
        self.recommended_end_nodes: list[str] = list(ends)
        self.recommended_start_nodes: list[str] = list(starts.names) if starts else []
        self.recommended_shapes: dict[str, list[int]] = dict(starts.shapes) if starts else {}

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {
            "recommended_end_nodes": self.recommended_end_nodes,
            "recommended_start_nodes": self.recommended_start_nodes,
            "recommended_shapes": self.recommended_shapes,
        }


@dataclass
class ParseResult:
    """A parsed network and how it came about, as plain JSON."""

    network: Network
    report: dict[str, Any]


def network_name(source: str | os.PathLike[str] | bytes, wanted: str | None) -> str:
    """The network's name: the user's, else the file's stem with other characters made underscores."""
    if wanted is not None:
        if not _NAME.fullmatch(wanted):
            raise UsageError(
                Diagnostic(
                    "E-PARSE-NAME",
                    "net_name",
                    "the network name is not valid",
                    repr(wanted)[:80],
                    "a letter or underscore, then up to 63 letters, digits, '_', '.', '-'",
                )
            )
        return wanted
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "model"
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", Path(source).stem).strip("_")[:64]
    return stem if stem and not stem[0].isdigit() else f"net_{stem}"[:64]


def parse_source(
    source: SourceGraph, name: str, start: Sequence[str], end: Sequence[str], shapes: InputShapes,
    progress: Progress | None,
) -> tuple[Translation, dict[str, Any]]:  # fmt: skip
    """Everything between reading and HN clean-up; the report so far comes with the translation."""
    broken = source.broken if _format(source) == "TFLITE" else source.broken | normalise(source)
    count = len(source.operators) or len({label(n) if label(n) in source.expanded else id(n) for n in source.graph})
    budget = Budget(int(source.facts.get("opset", OPSET)))
    fold_constants(source, budget)
    originals = {name_of(v) for v in source.graph.inputs}
    cut_with_shapes(source, start, end, shapes, budget)
    check_outputs(source)
    drop_unreachable(source)
    if isinstance(shapes, dict):  # those of inputs that are no part of what was cut have done their work
        now = {name_of(v) for v in source.graph.inputs}
        shapes = {n: s for n, s in shapes.items() if n in now or n not in originals}
    find_single_inputs(source)
    try:
        resolve_input_shapes(source, shapes)
    except UsageError as error:
        unknown = unknown_operators(source)
        if unknown:  # giving the shapes would only lead to this
            raise UnsupportedNodesError([*_diagnostics(unknown, source), *error.diagnostics], []) from None
        raise
    batches = set(source.batch_sizes.values())
    if len(batches) == 1 and max(batches) > 1:
        told = f"the file was exported with batch {max(batches)}; the network takes its frames one by one"
        source.warnings.append(told)
    fused, near = apply_patterns(source, PATTERNS)
    state = translate(source, name, broken, progress, budget)
    return state, {"source_nodes": count, "patterns": fused, "near_misses": near}


def _format(source: SourceGraph) -> str:
    """The file format as it stands in the codes of errors: ONNX, TFLITE."""
    return str(source.facts["format"]).upper()


def _diagnostics(problems: Sequence[Problem], source: SourceGraph) -> list[Diagnostic]:
    """One diagnostic per problem, operators called as their file calls them; one for many nodes that are alike."""
    made: list[Diagnostic] = []
    alike: dict[tuple[str, str], list[Problem]] = {}
    told: set[str] = set()
    for problem in sorted(problems, key=lambda p: p.node in source.expanded and p.op_type == "Constant"):
        operator = source.operators.get(problem.node, problem.op_type)
        reason = problem.reason
        if problem.node in source.expanded:  # once, whatever else of its definition fails
            if problem.node in told:
                continue
            told.add(problem.node)
            operator = source.expanded[problem.node]
            if operator != problem.op_type:
                reason = f"in its definition, {problem.op_type}: {reason}"
        alike.setdefault((operator, reason), []).append(problem)
    for (operator, reason), group in alike.items():
        shown = group if len(group) <= _MAX_ALIKE else group[:1]
        others = "" if len(shown) == len(group) else f" and {len(group) - 1} more nodes"
        made += [_diagnostic(problem, source, operator, reason, others) for problem in shown]
    return made


def _diagnostic(problem: Problem, source: SourceGraph, operator: str, reason: str, others: str) -> Diagnostic:
    return Diagnostic(
        f"E-{_format(source)}-UNSUPPORTED",
        f"{source.where}, node {problem.node!r}{others}",
        f"{operator} cannot be translated: {reason}",
        operator,
        problem.need,
        problem.levers,
    )


def _failure(state: Translation, ends: Sequence[str], start: Start | None) -> UnsupportedNodesError:
    diagnostics = _diagnostics(state.problems, state.builder.source)
    levers = [f"--end-node-names {' '.join(shlex.quote(n) for n in ends)}"] if ends else []
    if start:
        levers.append(start.option())
    diagnostics[-1] = replace(diagnostics[-1], levers=(*diagnostics[-1].levers, *levers))
    return UnsupportedNodesError(diagnostics, ends, start)


def _finish_params(network: Network) -> None:
    """float64 → float32; folding may have left the range."""
    bad: list[Diagnostic] = []
    for key, array in network.params.items():
        narrow = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(narrow).all():
            bad.append(
                Diagnostic("E-PARSE-RANGE", key, "a folded parameter leaves the range of float32", "", "finite values")
            )
        network.params[key] = narrow
    if bad:
        raise UnsupportedModelError(bad)


def _stream(network: Network, layer_name: str) -> dict[str, Any]:
    layer = network[layer_name]
    return {
        "layer": layer.name,
        "shape": list(layer.output_shape),
        "layout": "NHWC" if len(layer.output_shape) == 4 else "NC",
        "source_name": layer.attributes["source_name"],
        "source_shape": layer.attributes["source_shape"],
        "source_permutation": layer.attributes["source_permutation"],
    }


def _report(
    network: Network, source: SourceGraph, partial: dict[str, Any], records: list[dict[str, Any]]
) -> dict[str, Any]:
    macs = weights = operations = 0
    for layer in network:
        definition = definition_of(layer.kind)
        counts = definition.counts(definition.read(layer), network.input_shapes(layer), layer.output_shape)
        macs, weights, operations = macs + counts.macs, weights + counts.weights, operations + counts.operations
    return {
        "network": network.name,
        "source": source.facts,
        **partial,
        "folded_constants": source.folded,
        "removed_nodes": list(source.removed),
        "layers": {layer.name: {"kind": layer.kind, "original_names": list(layer.original_names)} for layer in network},
        "nodes": {o: layer.name for layer in reversed(list(network)) for o in reversed(layer.original_names)},
        "passes": [
            {
                "pass": r["pass"],
                **{k: v for k, v in r.items() if k in ("folded", "fused", "absorbed", "dropped", "merged")},
            }
            for r in records
        ],
        "parameters": sum(int(a.size) for a in network.params.values()),
        "weights": weights,
        "macs": macs,
        "operations": operations,
        "inputs": [_stream(network, layer.name) for layer in network.input_layers],
        "outputs": [_stream(network, layer.name) for layer in network.output_layers],
        "warnings": list(source.warnings),
    }


def parse_onnx(
    source: str | os.PathLike[str] | bytes,
    net_name: str | None = None,
    *,
    start_node_names: Sequence[str] | None = None,
    end_node_names: Sequence[str] | None = None,
    input_shapes: InputShapes = None,
    progress: Progress | None = None,
) -> ParseResult:
    """Translate an ONNX model; see :func:`headrace.frontends.parse_onnx`."""
    return _parse(read_model, source, net_name, start_node_names, end_node_names, input_shapes, progress)


def parse_tflite(
    source: str | os.PathLike[str] | bytes,
    net_name: str | None = None,
    *,
    start_node_names: Sequence[str] | None = None,
    end_node_names: Sequence[str] | None = None,
    input_shapes: InputShapes = None,
    progress: Progress | None = None,
) -> ParseResult:
    """Translate a TFLite model; see :func:`headrace.frontends.parse_tflite`."""
    return _parse(read_tflite, source, net_name, start_node_names, end_node_names, input_shapes, progress)


def _parse(
    read: Reader,
    source: str | os.PathLike[str] | bytes,
    net_name: str | None,
    start_node_names: Sequence[str] | None,
    end_node_names: Sequence[str] | None,
    input_shapes: InputShapes,
    progress: Progress | None,
) -> ParseResult:
    with np.errstate(all="ignore"):  # what is not finite is found by checks that name the tensor
        return _translated(
            read, source, network_name(source, net_name), start_node_names, end_node_names, input_shapes, progress
        )


def _translated(
    read: Reader,
    source: str | os.PathLike[str] | bytes,
    name: str,
    start_node_names: Sequence[str] | None,
    end_node_names: Sequence[str] | None,
    input_shapes: InputShapes,
    progress: Progress | None,
) -> ParseResult:
    graph = read(source)
    starts, ends = start_node_names or (), end_node_names or ()

    def attempt(starts: Sequence[str], ends: Sequence[str], shapes: InputShapes) -> Translation | None:
        try:
            return parse_source(read(source), name, starts, ends, shapes, None)[0]
        except HeadraceError:
            return None

    try:
        state, partial = parse_source(graph, name, starts, ends, input_shapes, progress)
    except UsageError as error:
        found = shapes_before(attempt, read(source), starts, input_shapes) if error.code == "E-PARSE-SHAPES" else {}
        if not found:
            raise
        graph, input_shapes = read(source), found
        state, partial = parse_source(graph, name, starts, ends, input_shapes, progress)
    if state.problems:
        working = working_ends(attempt, starts, input_shapes, recommended_end_nodes(state))
        again = not starts and state.builder.budget.mostly_left
        start = None if not again else working_start(attempt, read(source), ends, input_shapes, state)
        raise _failure(state, working, start)
    network = state.builder.network
    if not network.input_layers:
        raise UnsupportedModelError(
            Diagnostic(f"E-{_format(graph)}-UNSUPPORTED", graph.where, "no output depends on any input", "", "an input")
        )
    records = run_passes(network, PASSES, verify=False)
    _finish_params(network)
    network.net_params["source"] = dict(graph.facts)
    renumber(network)
    check_network(network)
    return ParseResult(network, _report(network, graph, partial, records))


__all__ = ["ParseResult", "UnsupportedNodesError", "network_name", "parse_onnx", "parse_tflite"]
