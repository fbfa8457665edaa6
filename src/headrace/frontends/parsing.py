# SPDX-License-Identifier: Apache-2.0
"""Parsing: read, normalize, fold, cut, recognize patterns, translate, clean up, report."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, HeadraceError, InternalError, UnsupportedModelError, UsageError
from headrace.frontends import audio_front
from headrace.frontends.batch_dimension import find_batch_dimensions
from headrace.frontends.coded_ends import with_codes
from headrace.frontends.cut import check_outputs, drop_unreachable, unused_input
from headrace.frontends.fold import Budget
from headrace.frontends.folding import fold_constants
from headrace.frontends.graph import (
    Reason,
    SourceGraph,
    find_single_inputs,
    input_problem,
    name_of,
    resolve_input_shapes,
)
from headrace.frontends.heads import Head, recognize
from headrace.frontends.heads.bind import bound
from headrace.frontends.host_steps import WholePart, all_on_device, whole_model
from headrace.frontends.levers import (
    Attempt,
    Start,
    cut_with_shapes,
    sample_shapes,
    shapes_before,
    working_ends,
    working_start,
)
from headrace.frontends.named_part import NamedPart, Unkept, named_part
from headrace.frontends.options import ParseOptions
from headrace.frontends.partition import Part, look_into, no_part, part_for_device
from headrace.frontends.patterns import PATTERNS, apply_patterns
from headrace.frontends.placement import (
    all_placed,
    host_warning,
    layers_of,
    listed,
    makers_of_tensors,
    placement,
    unkept,
)
from headrace.frontends.quantized_moves import hoist_dequantization
from headrace.frontends.quantized_operators import expand_quantized
from headrace.frontends.reader import Reader, Source
from headrace.frontends.translate import (
    Problem,
    Translation,
    recommended_end_nodes,
    translate,
    unknown_operators,
)
from headrace.hn import Layer, Network, check_network
from headrace.hn.nms import NmsConfiguration
from headrace.hn.whole import WholeModel
from headrace.passes import renumber, run_passes
from headrace.passes.absorb_pad import AbsorbPad
from headrace.passes.file_codes import AbsorbCodes, DropRepeatedCodes, stated_facts
from headrace.passes.fold_affine import FoldAffine
from headrace.passes.fold_batch_norm import DropIdentityBatchNorm, FoldBatchNorm
from headrace.passes.fold_space_to_depth import FoldSpaceToDepth, MergeSlices
from headrace.passes.fold_through_moves import FoldThroughMoves
from headrace.passes.fuse_activation import FuseActivation
from headrace.passes.merge_branches import MergeBranches
from headrace.passes.merge_twins import MergeTwins
from headrace.passes.remove_no_ops import MergeReshapes, RemoveDeadLayers, RemoveNoOps
from headrace.reports.optimize import PassRecord
from headrace.reports.parse import (
    FusedPattern,
    NearMiss,
    ParsedLayer,
    ParsedStream,
    ParseReport,
    PlacedNode,
    SourceFacts,
)

PASSES = (
    DropRepeatedCodes(),
    RemoveDeadLayers(),
    RemoveNoOps(),
    MergeReshapes(),
    MergeSlices(),
    FoldSpaceToDepth(),
    RemoveDeadLayers(),
    MergeTwins(),
    FoldBatchNorm(),
    FoldThroughMoves(),
    DropIdentityBatchNorm(),
    MergeBranches(),
    FuseActivation(),
    FoldAffine(),
    AbsorbPad(),
    AbsorbCodes(),
)


Seen = Callable[[Translation], None] | None

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
    """A parsed network and how it came about.

    Attributes:
        network: what is on the device.
        report: of every node, where it is and why, among others.
        whole: the steps from the file's inputs to its outputs.
        nms: what makes boxes of the network's outputs, where the file ends in a detection head.
    """

    network: Network
    report: ParseReport
    whole: WholeModel
    nms: NmsConfiguration | None = None


def network_name(source: Source, options: ParseOptions) -> str:
    """The network's name: the user's, else the file's stem with other characters made underscores."""
    if options.net_name is not None:
        return options.net_name
    if source.path is None:
        return "model"
    called = source.path.name if source.is_folder else source.path.stem
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", called).strip("_")[:64]
    return stem if stem and not stem[0].isdigit() else f"net_{stem}"[:64]


@dataclass(frozen=True)
class _Recognized:
    """What the report tells of the source before it was translated: nodes, patterns, near misses, makers of tensors."""

    nodes: tuple[tuple[str, str], ...]
    fused: tuple[FusedPattern, ...]
    near: tuple[NearMiss, ...]
    makers: dict[str, str]


@dataclass(frozen=True)
class _Folded:
    """A source graph whose constants are folded, what was left to spend on that, and what it was before."""

    source: SourceGraph
    budget: Budget
    nodes: tuple[tuple[str, str], ...]
    makers: dict[str, str]


def _folded(source: SourceGraph) -> _Folded:
    nodes, makers = listed(source), makers_of_tensors(source)
    budget = Budget(source.opset)
    expand_quantized(source)
    fold_constants(source, budget)
    return _Folded(source, budget, nodes, makers)


def translated(
    folded: _Folded, name: str, options: ParseOptions, whole: bool = False
) -> tuple[Translation, _Recognized]:
    """Everything between folding and HN clean-up, and what was recognized on the way.

    Args:
        folded: the source; changed.
        name: network name.
        options: the user's.
        whole: take all of every input as one frame, whatever its first dimension.
    """
    source, budget = folded.source, folded.budget
    originals = {name_of(v) for v in source.graph.inputs}
    cut_with_shapes(source, options, budget)
    check_outputs(source)
    drop_unreachable(source)
    if options.only_shape is None:  # those of inputs that are no part of what was cut have done their work
        now = {name_of(v) for v in source.graph.inputs}
        named = {n: s for n, s in options.named_shapes.items() if n in now or n not in originals}
        options = replace(options, input_shapes=named)
    find_single_inputs(source, whole)
    find_batch_dimensions(source)
    try:
        resolve_input_shapes(source, options)
    except UsageError as error:
        unknown = unknown_operators(source)
        if unknown:  # giving the shapes would only lead to this
            raise UnsupportedNodesError([*_diagnostics(unknown, source), *error.diagnostics], []) from None
        if not any(input_problem(v) for v in source.graph.inputs):
            raise
        resolve_input_shapes(source, replace(options, input_shapes=sample_shapes(source, options)))
    batches = set(source.batch_sizes.values())
    if len(batches) == 1 and max(batches) > 1 and not whole:
        told = f"the file was exported with batch {max(batches)}; the network takes its frames one by one"
        source.warnings.append(told)
    hoist_dequantization(source)
    fused, near = apply_patterns(source, PATTERNS)
    state = translate(source, name, options.progress, budget)
    return state, _Recognized(folded.nodes, fused, near, folded.makers)


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
        f"E-{source.format}-UNSUPPORTED",
        f"{source.where}, node {problem.node!r}{others}",
        f"{operator} cannot be translated: {reason}",
        operator,
        problem.need,
        problem.levers,
    )


def _failure(
    state: Translation, ends: Sequence[str], start: Start | None, more: Sequence[Diagnostic]
) -> UnsupportedNodesError:
    diagnostics = [*_diagnostics(state.problems, state.builder.source), *more]
    levers = [f"--end-node-names {' '.join(shlex.quote(n) for n in ends)}"] if ends else []
    if start:
        levers.append(start.option())
    diagnostics[-1] = replace(diagnostics[-1], levers=(*diagnostics[-1].levers, *levers))
    return UnsupportedNodesError(diagnostics, ends, start)


def finish_parameters(network: Network) -> None:
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


def _stream(layer: Layer) -> ParsedStream:
    return ParsedStream(
        layer=layer.name,
        shape=tuple(layer.output_shape),
        layout="NHWC" if len(layer.output_shape) == 4 else "NC",
        source_name=layer.boundary.source_name,
        source_shape=tuple(layer.boundary.source_shape),
        source_permutation=tuple(layer.boundary.source_permutation),
    )


def _report(
    network: Network, source: SourceGraph, recognized: _Recognized, records: Sequence[dict[str, Any]]
) -> ParseReport:
    macs = weights = operations = 0
    for layer in network:
        counts = layer.operation.counts(network.input_shapes(layer), layer.output_shape)
        macs, weights, operations = macs + counts.macs, weights + counts.weights, operations + counts.operations
    facts = dict(source.facts)
    return ParseReport(
        network=network.name,
        source=SourceFacts(format=facts.pop("format"), facts=facts),
        source_nodes=len(recognized.nodes),
        patterns=recognized.fused,
        near_misses=recognized.near,
        folded_constants=source.folded,
        removed_nodes=tuple(source.removed),
        layers={x.name: ParsedLayer(kind=x.kind, original_names=tuple(x.original_names)) for x in network},
        nodes=layers_of(network),
        passes=tuple(PassRecord(pass_=r["pass"], facts={k: r[k] for k in r if k in _SHOWN}) for r in records),
        parameters=sum(int(a.size) for a in network.params.values()),
        weights=weights,
        macs=macs,
        operations=operations,
        inputs=tuple(_stream(layer) for layer in network.input_layers),
        outputs=tuple(_stream(layer) for layer in network.output_layers),
        warnings=tuple(source.warnings),
        tensors=recognized.makers,
    )


def parse_source(source: Source, reader: Reader, options: ParseOptions, seen: Seen = None) -> ParseResult:
    """Translate a model with the reader of its format; see :func:`headrace.frontends.parse`.

    Args:
        source: the model.
        reader: of its format.
        options: names, cuts and shapes.
        seen: called with what was translated, before passes change it.
    """
    with np.errstate(all="ignore"):  # what is not finite is found by checks that name the tensor
        return _parsed(source, reader, options, seen)


#: A source graph and what became of it.
_Walked = tuple[SourceGraph, Translation, _Recognized]


def _as_one_frame(again: SourceGraph, name: str, options: ParseOptions, apart: _Walked) -> _Walked:
    """A network whose frames are not independent, all that the file computes at once as one frame, where that works.

    Args:
        again: the source, read afresh.
        name: network name.
        options: the user's.
        apart: what became of it frame by frame, with problems.
    """
    first = apart[1].problems[0]
    try:
        state, recognized = translated(_folded(again), name, options, whole=True)
    except HeadraceError:
        return apart
    if state.problems:
        return apart
    again.warnings.append(
        f"the first dimension of the inputs is no batch of independent frames (node {first.node!r}, {first.op_type}: "
        f"{first.reason}); everything that the file computes at once is one frame of the network"
    )
    return again, state, recognized


def _parsed(source: Source, reader: Reader, options: ParseOptions, seen: Seen) -> ParseResult:
    name = network_name(source, options)
    tried: dict[str, tuple[ParseOptions, _Walked]] = {}

    def read() -> SourceGraph:
        return reader.read(source, options)

    def attempt(options: ParseOptions) -> Translation | None:
        graph = read()
        try:
            state, recognized = translated(_folded(graph), name, replace(options, progress=None))
        except InternalError:
            raise
        except HeadraceError:
            return None
        tried["last"] = options, (graph, state, recognized)
        return state

    first = _folded(read())
    asked, (head, no_boxes) = options, _head(first.source, options)
    spectrum = {} if _is_strict(asked) else audio_front.spectrum_nodes(first.source)
    if head is not None and head.ends and not options.end_node_names and not options.device_only:
        options = replace(options, end_node_names=head.ends)
    options, (graph, state, recognized) = _as_asked(read, attempt, name, options, asked, first)
    if state.problems and max(state.builder.source.batch_sizes.values(), default=1) > 1:
        graph, state, recognized = _as_one_frame(read(), name, options, (graph, state, recognized))
    part = _part(read, attempt, asked, state, _Apart(head, spectrum))
    if part is not None:
        graph, state, recognized = tried["last"][1]
    if state.problems:
        working = working_ends(attempt, options, recommended_end_nodes(state))
        again = not options.start_node_names and state.builder.budget.mostly_left
        start = working_start(attempt, read(), options, state) if again else None
        raise _failure(state, working, start, [] if _is_strict(asked) else [no_part(read())])
    graph.warnings += [no_boxes] if no_boxes else []
    network = state.builder.network
    if not network.input_layers:
        raise UnsupportedModelError(
            Diagnostic(f"E-{graph.format}-UNSUPPORTED", graph.where, "no output depends on any input", "", "an input")
        )
    if seen is not None:
        seen(state)
    records = run_passes(network, PASSES, verify=False)
    _drop_unread(network, graph)
    finish_parameters(network)
    graph.facts |= stated_facts(network)
    network.net_params["source"] = dict(graph.facts)
    renumber(network)
    check_network(network)
    named = None if part is not None else _named(read, options, graph, network)
    whole, placed = _whole(part if named is None else named.part, graph, network, recognized, named)
    report = replace(_report(network, graph, recognized, records), placement=placed)
    nms = None if head is None else bound(head.configuration, network, graph)
    return ParseResult(network, report, whole, nms)


def _drop_unread(network: Network, source: SourceGraph) -> None:
    """Remove inputs of which nothing but sizes was asked; one stays at least."""
    unread = [layer for layer in network.input_layers if not network.users(layer.name)]
    if len(unread) == len(network.input_layers):
        return
    for layer in unread:
        source.warnings.append(unused_input(layer.boundary.source_name))
        network.remove(layer.name)


def _as_asked(
    read: Callable[[], SourceGraph],
    attempt: Attempt,
    name: str,
    options: ParseOptions,
    asked: ParseOptions,
    first: _Folded,
) -> tuple[ParseOptions, _Walked]:
    """The file translated by the user's options, shapes of starts found where nobody gave them; and the options then.

    Raises:
        UsageError: sizes are missing. UnsupportedModelError: sizes are missing that would not help.
    """
    try:
        return options, (first.source, *translated(first, name, options))
    except UsageError as error:
        shaped = shapes_before(attempt, read(), options) if error.code == "E-PARSE-SHAPES" else None
        if shaped is None:
            raise
    except UnsupportedNodesError:
        if not _is_strict(asked):  # with sizes a part may be for the device: then these are what is missing
            part_for_device(read, attempt, asked, ())
        raise
    graph = read()
    return shaped, (graph, *translated(_folded(graph), name, shaped))


def _is_strict(options: ParseOptions) -> bool:
    """Whether the user says what the network is, and all of it has to be on the device."""
    return bool(options.device_only or options.start_node_names or options.end_node_names)


def _named(
    read: Callable[[], SourceGraph], options: ParseOptions, cut: SourceGraph, network: Network
) -> NamedPart | None:
    """The part that the user named, with the rest of the file around it; None: there is no rest, or it is not kept."""
    if options.device_only or not (options.start_node_names or options.end_node_names):
        return None
    source = read()
    inputs = {name_of(v) for v in source.graph.inputs}
    given = {n: s for n, s in options.named_shapes.items() if n in inputs}
    shapes = given or (None if options.start_node_names else options.only_shape)
    file = look_into(source, replace(options, start_node_names=(), end_node_names=(), input_shapes=shapes))
    try:
        found = named_part(file, options, cut, network)
    except Unkept as why:
        cut.warnings.append(unkept(str(why)))
        return None
    return found if found.part.reasons or found.again or set(found.part.ends) != set(file.model.outputs) else None


def _whole(
    part: Part | None, source: SourceGraph, network: Network, recognized: _Recognized, named: NamedPart | None
) -> tuple[WholeModel, tuple[PlacedNode, ...]]:
    """The steps of the whole model and the place of every node; what is on the host is told in a warning."""
    found = None
    if part is not None:
        try:
            found = _coded(whole_model(part, network, source.batch_sizes), part.file.source)
        except UnsupportedModelError as error:
            if named is None:
                raise
            source.warnings.append(unkept(error.diagnostics[0].rule))
    if part is None or found is None:
        return with_codes(all_on_device(source, network), source.codes), all_placed(
            recognized.nodes, network, source.removed
        )
    placed = placement(part, network, found)
    told = {unused_input(name) for name in part.file.model.inputs}  # the host may use an input all the same
    more = [host_warning(placed, found, named), found.lost.told(part.file)]
    source.warnings = [*(w for w in source.warnings if w not in told), *(w for w in more if w)]
    return found.model, placed


def _coded(found: WholePart, source: SourceGraph) -> WholePart:
    """The steps with those that turn codes of the file's inputs and outputs into values and back."""
    model = with_codes(found.model, source.codes)
    later = model.steps.index(model.device) - found.model.steps.index(found.model.device)
    return replace(found, model=model, step_of={node: step + later for node, step in found.step_of.items()})


def _head(source: SourceGraph, options: ParseOptions) -> tuple[Head | None, str]:
    """The detection head that a file ends in, as far as a network that is cut at its start can have one.

    Without one also a sentence where the file is a detector all the same.
    """
    if options.start_node_names:
        return None, ""
    if options.only_shape is not None or options.named_shapes:
        told = len(source.warnings)
        try:
            resolve_input_shapes(source, options)
        except UsageError:
            return None, ""  # told when the network is translated
        finally:
            del source.warnings[told:]
    found = recognize(source)
    return (found, "") if isinstance(found, Head) else (None, found.told)


#: Why nodes behind the learned results of a detection head are on the host.
_DECODES = Reason("it makes boxes of what the network learned: nms_postprocess does that, or the host")


@dataclass(frozen=True)
class _Apart:
    """What is left to the host although it may translate: a detection head's decoding, an audio network's spectrum.

    Attributes:
        head: the head.
        spectrum: label → why, see :mod:`headrace.frontends.audio_front`.
    """

    head: Head | None
    spectrum: Mapping[str, str]

    @property
    def ends(self) -> tuple[str, ...]:
        return () if self.head is None else self.head.ends

    def reasons(self, whole: bool) -> dict[str, Reason]:
        """By label, why; ``whole``: all of the file may be on the device, which is then offered."""
        behind = () if self.head is None else self.head.nodes
        lever = audio_front.LEVER if whole and not behind else ""
        front = {label: Reason(why, lever) for label, why in self.spectrum.items()}
        return front | dict.fromkeys(behind, _DECODES)


def _part(
    read: Callable[[], SourceGraph], attempt: Attempt, options: ParseOptions, state: Translation, apart: _Apart
) -> Part | None:
    """The part for the device, where not everything is; None: everything is, or nothing may be on the host."""
    source = state.builder.source
    left = bool(state.problems or source.to_host or source.host_operators)
    reasons = apart.reasons(not left)
    if not (left or reasons) or _is_strict(options) or any(problem.damaged for problem in state.problems):
        return None

    def marked() -> SourceGraph:
        again = read()
        again.to_host |= reasons
        return again

    return part_for_device(marked, attempt, options, state.problems, apart.ends)


__all__ = ["PASSES", "ParseResult", "UnsupportedNodesError", "finish_parameters", "network_name", "parse_source"]
