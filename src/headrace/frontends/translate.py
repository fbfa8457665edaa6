# SPDX-License-Identifier: Apache-2.0
"""The walk over the source graph: every node folds, changes a view, or emits layers; what cannot is collected."""

from __future__ import annotations

import difflib
import functools
import math
import shlex
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from headrace.frontends.element_types import elements_of_result, elements_of_type
from headrace.frontends.faults import faults_at
from headrace.frontends.fold import EVALUATORS, Budget
from headrace.frontends.folding import evaluate, folds
from headrace.frontends.graph import (
    CHOOSES,
    ENDS_BEFORE,
    REFUSED,
    Damaged,
    MixesFrames,
    SourceGraph,
    Unsupported,
    constant,
    declared_shape,
    input_problem,
    kind_of,
    label,
    live_uses,
    name_of,
    set_constant,
)
from headrace.frontends.input_layout import input_arrangement, input_groups
from headrace.frontends.layout import (
    CHANNELS,
    Arrangement,
    Groups,
    LayoutError,
    View,
    arrangement_axes,
    batch_in_front,
    canonical,
    grouped_view,
    lift_batch,
    permute,
    source_permutation,
    source_shape,
    without_batch,
)
from headrace.frontends.options import Progress
from headrace.frontends.quantization import carry_grid
from headrace.frontends.standard import check_attributes_read
from headrace.frontends.to_hn import HANDLERS, Builder, SourceNode
from headrace.frontends.to_hn.compositions.repeat import constant_beside
from headrace.frontends.to_hn.operands import finite
from headrace.layers import Concat, InputLayer, OutputLayer

#: Operands of one node: as many as a node of TensorFlow may have.
MAX_OPERANDS = 4096
_LONGEST_NAME = 200
_CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_CHOOSING = frozenset({"TopK", "NonMaxSuppression", "NonZero", "RoiAlign", "Unique", "Compress", "Hardmax"})
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


@dataclass
class Problem:
    """One node (or input, or output) that cannot be translated."""

    node: str
    op_type: str
    reason: str
    need: str = ""
    levers: tuple[str, ...] = ()
    damaged: bool = False


@dataclass
class Translation:
    """What the walk found out.

    Attributes:
        builder: the network so far.
        problems: in topological order.
        tainted: ids of values that depend on a node with a problem.
    """

    builder: Builder
    problems: list[Problem] = field(default_factory=list)
    tainted: set[int] = field(default_factory=set)


def _why_undecided(condition: ir.Value | None) -> Unsupported:
    """Why a branch could not be chosen when the file was read, and which inputs would have to be fixed for that."""
    values: dict[str, None] = {}
    sizes: dict[str, None] = {}
    waiting = [(condition, False)]
    seen: set[tuple[ir.Value, bool]] = set()
    while waiting:
        value, measured = waiting.pop()
        if value is None or constant(value) is not None or (value, measured) in seen:
            continue
        seen.add((value, measured))
        maker = value.producer()
        if maker is None:
            (sizes if measured else values)[name_of(value)] = None
            continue
        measures = measured or (maker.op_type in ("Shape", "Size") and not maker.domain)
        waiting += [(v, measures) for v in maker.inputs]
    on = [f"input {name!r}" for name in values] + [f"sizes of input {name!r}" for name in sizes if name not in values]
    levers = [f"--input-values {' '.join(shlex.quote(f'{n}=VALUE') for n in values)}"] if values else []
    if sizes:
        levers.append(f"--tensor-shapes {' '.join(shlex.quote(f'{n}=[SIZE,...]') for n in sizes)}")
    reason = "control flow: which branch is taken "
    reason += f"depends on {', '.join(on[:4])}" if on else "is not known when the file is read"
    return Unsupported(reason, "a condition that is known when the file is read", levers)


def _may_translate(node: ir.Node) -> bool:
    """Whether an operator is translated, or may be of constants: one that chooses elements has data as a rule."""
    if node.domain:
        return False
    return node.op_type in HANDLERS or (node.op_type in EVALUATORS and node.op_type not in _CHOOSING)


def _why_unknown(node: ir.Node, functions: list[str]) -> Unsupported:
    if node.domain:
        if f"{node.domain}::{node.op_type}" in functions:
            return Unsupported(
                "it calls a function that the model defines itself; such functions are not expanded",
                "standard operators",
                ("export without local functions (onnx.inliner)",),
            )
        return Unsupported(f"operators of domain {node.domain!r} are not known", "operators of the ONNX standard")
    if node.op_type == "If" and node.inputs:
        return _why_undecided(node.inputs[0])
    if node.op_type in _CONTROL:
        return Unsupported("control flow with a subgraph is not supported", "a graph without control flow")
    if node.op_type in _CHOOSING:
        return Unsupported(CHOOSES, ENDS_BEFORE)
    if node.op_type in RANDOM:
        return Unsupported("its result is random; a compiled network gives the same result every time", "known numbers")
    # A misspelt operator deserves a hint; another operator with a like name (Crop, Dropout) would only mislead.
    close = _like(node.op_type[:_LONGEST_NAME])
    levers = tuple(f"did you mean {name}?" for name in close)
    return Unsupported(f"the operator {node.op_type} is not supported", "", levers)


@functools.lru_cache(maxsize=4096)
def _like(operator: str) -> list[str]:
    """The operator whose name is most like this one, if there is any."""
    return difflib.get_close_matches(operator, sorted(HANDLERS), 1, cutoff=0.85)


def _set_results(state: Translation, node: ir.Node, results: list[View | np.ndarray]) -> None:
    for index, value in enumerate(node.outputs):
        if index < len(results):
            result = results[index]
            if isinstance(result, View):
                state.builder.views[value] = batch_in_front(result) if state.builder.one_frame else result
                state.builder.elements[value] = elements_of_result(node, state.builder.elements)
            else:
                set_constant(value, result)
        elif live_uses(value) or value.is_graph_output():
            raise Unsupported(f"its output {index} is used", f"use of the first {len(results)} outputs only")


def _node(state: Translation, node: ir.Node) -> None:
    """Translate one node into the state; raises Unsupported or LayoutError."""
    builder = state.builder
    inputs = [constant(v) for v in node.inputs]
    known = all(a is not None or v is None for a, v in zip(inputs, node.inputs, strict=True))
    if known and folds(node) and (node.inputs or node.op_type == "Constant"):
        _set_results(state, node, list(evaluate(node, inputs, builder.budget)))
        carry_grid(node)
        builder.source.folded += 1
        return
    handler = HANDLERS.get(node.op_type) if node.domain == "" else None
    if handler is None:
        raise _why_unknown(node, builder.source.facts.get("local_functions", []))
    if len(node.inputs) > MAX_OPERANDS:
        raise Unsupported(f"{len(node.inputs)} operands", f"at most {MAX_OPERANDS}")
    builder.begin(node)
    before = len(builder.network.layers)
    results = list(handler(builder, SourceNode(builder, node)))
    check_attributes_read(node)
    _set_results(state, node, results)
    if results and not any(isinstance(r, View) for r in results):  # Shape and Size of a tensor
        builder.source.folded += 1
    elif len(builder.network.layers) == before:  # a change of view: the layer that makes the tensor stands for the node
        first = results[0]
        if isinstance(first, View):
            names = builder.network[first.layer].original_names
            names += [o for o in builder.origins if o not in names]


def _placeholder(state: Translation, value: ir.Value) -> None:
    """Let the walk go on behind a node with a problem, where the file states the shape of its result."""
    shape = declared_shape(value)
    if shape is None or not 2 <= len(shape) <= MAX_INPUT_RANK or any(not isinstance(d, int) for d in shape[1:]):
        return
    try:
        state.builder.views[value] = _input_view(state.builder, value, [1, *(int(d) for d in shape[1:])])
    except (Unsupported, LayoutError):
        return


#: Of inputs; a clip is N,C,D,H,W.
MAX_INPUT_RANK = 8


def _input_view(builder: Builder, value: ir.Value, shape: list[int]) -> View:
    """An input layer, and the tensor that it is: ``shape`` with the batch where the file has it."""
    rank = len(shape)
    if not 1 <= rank <= MAX_INPUT_RANK:
        raise Unsupported(f"the input has rank {rank}", f"rank 1 to {MAX_INPUT_RANK} with the batch")
    if rank <= 4:
        arrangement = canonical(rank) if rank <= 2 else input_arrangement(builder.source, value, shape)
        groups = arrangement_axes(arrangement)
        permutation = _input_permutation(arrangement, 4 if rank > 2 else 2)
    else:
        groups, permutation = input_groups(builder.source, value, shape), None
    extent = [math.prod(shape[d] for d in group) for group in groups]
    view = grouped_view("", extent, groups, shape)
    at = builder.source.batch_dims.get(value, 0)
    if at:
        view = permute(view, [*range(1, at + 1), 0, *range(at + 1, rank)])
    hn_shape = [-1, *extent] if rank > 2 else [-1, extent[2]]
    if at or permutation is None:
        permutation = source_permutation(view, len(hn_shape))
        assert permutation is not None  # groups hold the dimensions in the file's order
    operation = InputLayer(tuple(hn_shape), name_of(value), tuple(source_shape(view)), tuple(permutation))
    layer = builder.emit(operation, [], names=[name_of(value)])
    return View(layer.name, view.extent, view.dims)


def _input_permutation(arrangement: Arrangement, hn_rank: int) -> list[int]:
    """HN axes in source order, the ones without a source dimension last."""
    if hn_rank == 2:
        return [0, 1]
    order = [0] + [axis + 1 for axis in arrangement if axis is not None]
    return order + [axis for axis in range(4) if axis not in order]


def _interleaved(builder: Builder, view: View) -> int | None:
    """The dimension of an output that takes turns between parts joined along rows or columns: x, y and visibility of
    each key point. It is made the channels, each of which may have a scale of its own.
    """
    operation = builder.network[view.layer].operation
    if not isinstance(operation, Concat) or not view.batch_first or builder.is_vector(view.layer):
        return None
    if operation.axis == CHANNELS:
        return None
    turns = {operation.axis, CHANNELS}
    return next((d for d, atoms in enumerate(view.dims) if turns <= {a.axis for a in atoms}), None)


def _with_whole_axes(builder: Builder, view: View) -> View:
    """An output whose batch is not its first dimension, moved so that what stands before the batch and what stands
    behind it are axes of their own.
    """
    lifted, put_back = lift_batch(view)
    at = view.batch_dim + 1
    before, behind = list(range(1, at)), list(range(at, lifted.rank))
    groups: Groups = (before[:-1], before[-1:], behind)
    return put_back(builder.grouped(builder.place(lifted, groups, vector=False), groups, lifted.shape))


def _output(builder: Builder, value: ir.Value) -> str:
    view = builder.views[value]
    layer, shape = view.layer, source_shape(view)
    permutation = source_permutation(view, 2 if builder.is_vector(layer) else 4)
    if permutation is None and not view.batch_first:
        view = _with_whole_axes(builder, view)
        layer = view.layer
        permutation = source_permutation(view, 4)
    joined = _interleaved(builder, view)
    if joined is not None:
        rest = [d for d in range(1, view.rank) if d != joined]
        groups: Groups = (rest[:-1], rest[-1:], [joined])
        layer = builder.place(view, groups)
        view = builder.grouped(layer, groups, view.shape)
        permutation = source_permutation(view, 2 if builder.is_vector(layer) else 4) or (0, 1, 2, 3)
    elif permutation is None:
        # The source order cuts an axis apart: bring the elements into that order, then only the shape differs.
        view = lift_batch(view)[0] if builder.one_frame and not view.batch_first else view
        dims = [i for i in range(1, view.rank) if view.shape[i] > 1]
        groups = (dims[:1], dims[1:2], dims[2:]) if len(dims) > 2 else (dims[:0], dims[:1], dims[1:])
        layer = builder.place(view, groups)
        permutation = (0, 1) if builder.is_vector(layer) else (0, 1, 2, 3)
    operation = OutputLayer(
        source_name=name_of(value), source_shape=tuple(shape), source_permutation=tuple(permutation)
    )
    return builder.emit(operation, [layer], names=[name_of(value)]).name


def translate(source: SourceGraph, name: str, progress: Progress | None, budget: Budget) -> Translation:
    """Walk the graph once.

    Args:
        source: cut, folded, its inputs resolved.
        name: network name.
        progress: called with nodes done and nodes in all.
        budget: what folding constants left for more.
    """
    state = Translation(Builder(source, name, budget))
    for value in source.graph.inputs:
        reason = input_problem(value)
        try:
            if reason or kind_of(value) is not None:
                raise Unsupported(reason or f"the input is a {kind_of(value)}", "a float tensor")
            if name_of(value) not in source.input_shapes:
                raise Unsupported("the input is one number, the same for every frame", "a tensor of frames")
            shape = source.input_shapes[name_of(value)]
            with faults_at(f"{state.builder.source.where}, input {name_of(value)!r}"):
                view = _input_view(state.builder, value, shape)
            state.builder.views[value] = without_batch(view) if value in source.single else view
            state.builder.elements[value] = elements_of_type(value.dtype)
        except (Unsupported, LayoutError) as problem:
            state.problems.append(Problem(name_of(value), "input", str(problem), getattr(problem, "need", "")))
            state.tainted.add(id(value))
    nodes = list(source.graph)
    for done, node in enumerate(nodes):
        if progress is not None and done % 64 == 0:
            progress(done, len(nodes))
        _step(state, node, source.broken.get(node))
    _taint_expanded(state)
    for value in source.graph.outputs:
        _finish_output(state, value)
    if progress is not None:
        progress(len(nodes), len(nodes))
    return state


def _taint_expanded(state: Translation) -> None:
    """A node whose definition does not translate is no part of the network, nor what its definition begins with."""
    expanded = state.builder.source.expanded
    failed = {p.node for p in state.problems if p.node in expanded}
    for node in state.builder.source.graph:
        if label(node) in failed:
            state.tainted.update(id(v) for v in node.outputs)


def _taint(state: Translation, node: ir.Node) -> None:
    """What depends on this node is no part of the network; the walk goes on where its results' shapes are known."""
    state.tainted.update(id(v) for v in node.outputs)
    for value in node.outputs:
        _placeholder(state, value)


#: Operators whose constants contain the batch.
_SHAPED = frozenset({"Reshape", "Expand"})


def _exported_batch(builder: Builder, node: ir.Node, problem: Exception) -> str:
    """How a batch that the file fixes has part in a problem, in words, where it has."""
    sizes = builder.source.batch_sizes
    if max(sizes.values(), default=1) <= 1:
        return ""
    if len(set(sizes.values())) > 1:
        named = ", ".join(f"{size} ({name})" if size > 0 else f"open ({name})" for name, size in sizes.items())
        return f"batches {named}, which are not one" if node.op_type in _SHAPED else ""
    if isinstance(problem, MixesFrames):
        return f"batch {builder.batch}, and at this node its frames are not independent"
    joined = any(v in builder.views and not builder.views[v].batch_first for v in node.inputs if v is not None)
    return f"batch {builder.batch}, and this node has its frames joined with another dimension" if joined else ""


def _step(state: Translation, node: ir.Node, broken: Unsupported | None) -> None:
    views = state.builder.views
    tainted = any(v is not None and id(v) in state.tainted for v in node.inputs)
    missing = any(
        v is not None and id(v) in state.tainted and v not in views and constant(v) is None for v in node.inputs
    )
    try:
        if broken is not None:
            raise broken
        if missing:
            if not _may_translate(node):
                raise _why_unknown(node, state.builder.source.facts.get("local_functions", []))
            _taint(state, node)
            return
        with faults_at(f"{state.builder.source.where}, node {label(node)!r} ({node.op_type})"):
            _node(state, node)
    except (Unsupported, LayoutError) as problem:
        operator = node.op_type if node.domain in ("", REFUSED) else f"{node.domain}::{node.op_type}"
        reason, need, levers = str(problem), getattr(problem, "need", ""), getattr(problem, "levers", ())
        cause = _exported_batch(state.builder, node, problem)
        if cause:
            reason = f"{reason}; the file was exported with {cause}"
            need, levers = "frames that are computed apart", ("export with batch 1, or with an open batch",)
        state.problems.append(Problem(label(node), operator, reason, need, tuple(levers), isinstance(problem, Damaged)))
        _taint(state, node)
    if tainted:
        state.tainted.update(id(v) for v in node.outputs)


def _constant_output(state: Translation, value: ir.Value) -> View:
    """An output that is known: a convolution of one number of an input by zeros, whose biases are the constant."""
    array = constant(value)
    first = next((v for v in state.builder.source.graph.inputs if v in state.builder.views), None)
    if array is None or first is None or array.dtype.kind not in "fiub" or not array.size:
        raise Unsupported("the output is a constant that does not depend on any input", "a computed output")
    if state.builder.frames > 1:
        if array.shape[:1] != (state.builder.frames,) or not (array == array[:1]).all():
            raise MixesFrames("the output is a constant that no frame has to itself", "a computed output")
        array = array[:1]
    elif not state.builder.one_frame and array.shape[:1] != (1,):
        raise MixesFrames(f"the output is a constant of shape {list(array.shape)}, of no frame", "1 as first size")
    state.builder.origins = [name_of(value)]
    return constant_beside(state.builder, state.builder.views[first], finite(array, "the output"))


def _finish_output(state: Translation, value: ir.Value) -> None:
    if id(value) in state.tainted:
        return
    try:
        if value not in state.builder.views:
            state.builder.views[value] = _constant_output(state, value)
        with faults_at(f"{state.builder.source.where}, output {name_of(value)!r}"):
            name = _output(state.builder, value)
        order = state.builder.network.net_params.setdefault("output_layers_order", [])
        order.append(name)
    except (Unsupported, LayoutError) as problem:
        state.problems.append(Problem(name_of(value), "output", str(problem), getattr(problem, "need", "")))
        state.tainted.add(id(value))


def unknown_operators(source: SourceGraph) -> list[Problem]:
    """Nodes whose operator nothing translates, whatever the shapes are."""
    functions = source.facts.get("local_functions", [])
    found: list[Problem] = []
    for node in source.graph:
        if not _may_translate(node):
            why = source.broken.get(node) or _why_unknown(node, functions)
            found.append(Problem(label(node), node.op_type, why.reason, why.need, why.levers))
    return found


def recommended_end_nodes(state: Translation) -> list[str]:
    """Nodes after which everything before the problems is translated: what feeds them, and the outputs without any."""
    names: dict[str, None] = {}
    source = state.builder.source
    for node in source.graph:
        label_of = label(node)
        if source.operators and label_of not in source.operators:
            continue  # glue behind an input
        for value in node.outputs:
            if value not in state.builder.views or id(value) in state.tainted:
                continue
            feeds = any(any(id(o) in state.tainted for o in user.outputs) for user in live_uses(value))
            if value.is_graph_output() or feeds:
                names[label_of] = None
    return list(names)


def ends_before(state: Translation) -> list[str]:
    """The ends of a cut, those whose tensors cannot leave the network replaced by what feeds them.

    Empty where something else is wrong with it.
    """
    source = state.builder.source
    failed = {p.node for p in state.problems if p.op_type == "output"}
    if len(failed) < len(state.problems):
        return []
    names: dict[str, None] = {}
    for value in source.graph.outputs:
        waiting = [value]
        while waiting:
            node = waiting.pop().producer()
            if node is None:
                continue  # an input of the network
            keeps = name_of(value) not in failed or value not in node.outputs
            if keeps and (not source.operators or label(node) in source.operators):
                names[label(node)] = None
            else:
                waiting += [v for v in node.inputs if v is not None and constant(v) is None]
    return list(names)


__all__ = ["Problem", "Translation", "ends_before", "recommended_end_nodes", "translate", "unknown_operators"]
