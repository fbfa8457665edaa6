# SPDX-License-Identifier: Apache-2.0
"""Which part of a file goes on the device: the one with the most multiply-accumulates that translates as a whole.

Nodes that do not translate are not in it, nor are tensors at its borders that cannot enter or leave a device (no
float, parts of one frame as frames). No path leaves it and comes back. What is found was translated; nothing is offered
that was not.
"""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from headrace.errors import Diagnostic, UsageError
from headrace.frontends.batch_dimension import find_batch_dimensions
from headrace.frontends.cut import TensorName
from headrace.frontends.file_model import FileModel, FileNode, file_model
from headrace.frontends.fold import Budget
from headrace.frontends.folding import fold_constants
from headrace.frontends.formats.onnx.infer import inferred_types
from headrace.frontends.graph import (
    ENDS_BEFORE,
    Reason,
    SourceGraph,
    constant,
    declared_shape,
    find_single_inputs,
    name_of,
    shapes_argument,
)
from headrace.frontends.largest_part import Side, largest_part
from headrace.frontends.levers import FLOATS, SHORT, Attempt, inferred, known_shapes, sample_shapes
from headrace.frontends.options import ParseOptions
from headrace.frontends.translate import MAX_INPUT_RANK, Problem, Translation
from headrace.hn import Array

_MAX_TRIES = 24
#: After so many translations in which an operator failed, and never worked, all nodes of it are taken to fail.
_ALIKE = 3
_T = onnx.TensorProto


@dataclass
class File:
    """A file with what is known of its tensors for the shapes that were given.

    Attributes:
        source: folded.
        model: not folded.
        shapes: of tensors, where all sizes are known.
        types: element types of tensors, as ONNX numbers them.
        constants: tensors that nodes of the file make and that are known.
        free: nodes that depend on constants and shapes alone, or that no output needs; they are on neither side.
        unused: of these, nodes that no output needs.
        samples: shapes that nobody gave, chosen to look further.
    """

    source: SourceGraph
    model: FileModel
    shapes: dict[str, list[int]]
    types: dict[str, int]
    constants: dict[str, Array]
    free: list[bool]
    unused: list[bool]
    samples: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    @property
    def nodes(self) -> list[FileNode]:
        return self.model.nodes


@dataclass
class Part:
    """The part of a file that goes on the device.

    Attributes:
        file: the file.
        sides: of each node.
        starts, ends: tensors at its borders; the file's own inputs are no starts.
        options: by which it is translated.
        reasons: why nodes are not in it, by number of the node.
    """

    file: File
    sides: list[Side]
    starts: list[str]
    ends: list[str]
    options: ParseOptions
    reasons: dict[int, Reason]


def look_into(source: SourceGraph, options: ParseOptions, samples: bool = False) -> File:
    """What is known of a file's tensors.

    Args:
        source: as its reader gave it; folded here.
        options: with shapes that the user gave.
        samples: sizes that are open get a value.
    """
    model = file_model(source)
    if source.infer is None:
        source.infer = functools.partial(inferred_types, model.proto)
    find_single_inputs(source)
    find_batch_dimensions(source)
    shapes = sample_shapes(source, options)
    chosen = {n: s for n, s in shapes.items() if _is_open(source, n) and n not in _given(source, options)}
    if not samples:
        shapes = {n: s for n, s in shapes.items() if n not in chosen}
    budget = Budget(source.opset)
    fold_constants(source, budget)
    types = inferred(source, shapes, budget)
    sizes = _of_one_frame(source, types) | known_shapes(types) | shapes
    elements = {n: int(k.tensor_type.elem_type) for n, k in types.items() if k.HasField("tensor_type")}
    for name, weight in model.weights.items():
        if isinstance(weight, onnx.TensorProto):
            sizes[name], elements[name] = list(weight.dims), weight.data_type
    alive = {name_of(v) for node in source.graph for v in node.outputs}
    known = [v for node in source.graph for v in node.inputs if v is not None] + list(source.graph.outputs)
    constants = {
        name_of(v): array for v in known if (array := constant(v)) is not None and name_of(v) not in model.weights
    }
    for name, array in constants.items():
        sizes.setdefault(name, list(array.shape))
    unused = _unused(model, constants)
    folded = [not any(name in alive for name in node.makes) for node in model.nodes]
    free = [a or b for a, b in zip(folded, unused, strict=True)]
    return File(source, model, sizes, elements, constants, free, unused, chosen if samples else {})


def _of_one_frame(source: SourceGraph, types: Mapping[str, Any]) -> dict[str, list[int]]:
    """Shapes that the file states with the batch of its inputs, open by the same name, as the first dimension."""
    declared = [declared_shape(v) for v in source.graph.inputs if v not in source.single and v not in source.batch_dims]
    batches = {str(shape[0]) for shape in declared if shape and not isinstance(shape[0], int)}
    found: dict[str, list[int]] = {}
    for name, kind in types.items():
        dims = list(kind.tensor_type.shape.dim) if kind.HasField("tensor_type") else []
        if dims and dims[0].dim_param and dims[0].dim_param in batches and all(d.dim_value > 0 for d in dims[1:]):
            found[name] = [1, *(int(d.dim_value) for d in dims[1:])]
    return found


def _unused(model: FileModel, constants: Mapping[str, Array]) -> list[bool]:
    """Nodes that no output depends on; what is known depends on nothing."""
    needed = dict.fromkeys(model.outputs)
    unused = [True] * len(model.nodes)
    for node in reversed(model.nodes):
        if any(name in needed for name in node.makes):
            unused[node.index] = False
            needed.update(dict.fromkeys(name for name in node.reads if name not in constants))
    return unused


def _given(source: SourceGraph, options: ParseOptions) -> dict[str, list[int]]:
    if options.only_shape is not None:
        return {name_of(v): options.only_shape for v in source.graph.inputs}
    return options.named_shapes


def _is_open(source: SourceGraph, name: str) -> bool:
    """Whether the file leaves a size of an input open, the batch apart."""
    value = next(v for v in source.graph.inputs if name_of(v) == name)
    declared = declared_shape(value)
    return declared is None or any(not isinstance(d, int) for d in declared[0 if value in source.single else 1 :])


# --- what a node is worth ---------------------------------------------------------------------------------------------


def work_of(node: FileNode, shapes: Mapping[str, Sequence[int]]) -> int:
    """Multiply-accumulates of a node for one frame, about; of sizes that are not known, one per weight."""
    return sum(_work(proto, shapes) for proto in node.parts)


def _work(proto: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    if proto.domain not in ("", "ai.onnx") or len(proto.input) < 2:
        return 0
    first, second, out = (shapes.get(n) for n in (proto.input[0], proto.input[1], proto.output[0]))
    if proto.op_type == "Conv" and second is not None:
        places = math.prod(out[2:]) * out[0] if out is not None else 1
        return places * math.prod(second)
    if proto.op_type == "ConvTranspose" and second is not None:
        return (math.prod(first[2:]) * first[0] if first is not None else 1) * math.prod(second)
    if proto.op_type in ("MatMul", "Gemm", "MatMulInteger"):
        if out is not None and first:
            inner = first[0] if proto.op_type == "Gemm" and _attribute(proto, "transA") else first[-1]
            return math.prod(out) * inner
        return math.prod(second) if second is not None else 0
    if proto.op_type in ("LSTM", "GRU", "RNN"):
        weights = sum(math.prod(shapes.get(n, [0])) for n in proto.input[1:3])
        return weights * (first[0] if first else 1)
    if proto.op_type in ("QLinearConv", "QLinearMatMul") and len(proto.input) > 3:
        kernel = shapes.get(proto.input[3])
        places = math.prod(out[2:]) if out is not None and proto.op_type == "QLinearConv" else 1
        return places * math.prod(kernel) if kernel is not None else 0
    return 0


def _attribute(proto: onnx.NodeProto, name: str) -> int:
    return next((int(a.i) for a in proto.attribute if a.name == name), 0)


# --- the search -------------------------------------------------------------------------------------------------------


class _Search:
    """Narrows the part down until what is left translates."""

    def __init__(self, file: File, options: ParseOptions) -> None:
        self.file, self.options = file, options
        self.reasons: dict[int, Reason] = {}
        self.failed: dict[str, int] = {}  # operator of ONNX → translations that it failed in
        self.worked: set[str] = set()
        nodes = file.nodes
        maker = {name: node.index for node in nodes for name in node.makes}
        self.readers: dict[str, list[int]] = {}
        self.reads: list[list[int]] = []
        for node in nodes:
            above: dict[int, None] = {}
            for name in node.reads:
                self.readers.setdefault(name, []).append(node.index)
                if name in maker and name not in file.constants and not file.free[maker[name]]:
                    above[maker[name]] = None
            self.reads.append(list(above))
        self.maker = maker
        self.works = [work_of(node, file.shapes) for node in nodes]
        self.labelled: dict[str, list[int]] = {}
        for node in nodes:
            self.labelled.setdefault(node.label, []).append(node.index)

    def exclude(self, index: int, reason: Reason) -> bool:
        """Keep a node off the device; whether that is new."""
        if self.file.free[index] or index in self.reasons:
            return False
        self.reasons[index] = reason
        return True

    def exclude_all(self, problems: Iterable[Problem]) -> bool:
        """Keep what does not translate off the device; whether anything of it is new."""
        new = False
        for problem in problems:
            rewrite = "; ".join(t for t in (problem.need, *problem.levers) if t and t != ENDS_BEFORE)
            reason = Reason(problem.reason, rewrite)
            if problem.op_type == "input":
                found = self.readers.get(problem.node, [])
                reason = Reason(f"it reads {problem.node!r}: {problem.reason}", rewrite)
            elif problem.op_type == "output":
                found = [self.maker[problem.node]] if problem.node in self.maker else []
                new |= not found  # a constant, or an input: the host hands it through
                reason = Reason(f"its result cannot leave the device: {problem.reason}", rewrite)
            else:
                found = self.labelled.get(problem.node, [])
            for index in found:
                new |= self.exclude(index, reason)
        return new

    def exclude_alike(self, state: Translation) -> None:
        """Keep operators off the device that failed again and again and never worked.

        A deep network repeats its blocks, and each translation finds what fails in the next one only.
        """
        views, tainted = state.builder.views, state.tainted
        for node in state.builder.source.graph:
            if all(value in views and id(value) not in tainted for value in node.outputs):
                self.worked.add(node.op_type)
        for operator, problem in {problem.op_type: problem for problem in state.problems}.items():
            self.failed[operator] = self.failed.get(operator, 0) + 1
            if self.failed[operator] >= _ALIKE and operator not in self.worked:
                reason = Reason(f"no {operator} of the file translates so far, for example: {problem.reason}")
                for node in self.file.nodes:
                    if any(proto.op_type == operator and not proto.domain for proto in node.parts):
                        self.exclude(node.index, reason)

    def sides(self) -> list[Side]:
        """The largest part without the nodes that are excluded and with borders where tensors may cross."""
        nodes = self.file.nodes
        weights = [
            0 if free else work * (len(nodes) + 1) + 1 for work, free in zip(self.works, self.file.free, strict=True)
        ]
        while True:
            excluded = [i in self.reasons for i in range(len(nodes))]
            sides = largest_part(self.reads, weights, excluded)
            if not self._close_borders(sides):
                return sides

    def _close_borders(self, sides: Sequence[Side]) -> bool:
        """Exclude nodes at the border whose tensors cannot cross it; whether there are any."""
        new = False
        for name in self.ends(sides):
            kind = self.file.types.get(name, 1)
            if kind not in FLOATS and kind not in SHORT and name not in self.file.model.outputs:
                reason = f"the host reads its result {name!r}, whole numbers that a device would round"
                new |= self.exclude(self.maker[name], Reason(reason))
        for name in self.starts(sides):
            problem = self._entry_problem(name)
            if problem is not None:
                for index in self.readers[name]:
                    if sides[index] is Side.INSIDE:
                        new |= self.exclude(index, Reason(f"it reads {name!r}, which comes from the host: {problem}"))
        return new

    def _entry_problem(self, name: str) -> str | None:
        file = self.file
        kind, shape = file.types.get(name, 1), file.shapes.get(name)
        if kind not in FLOATS and kind not in SHORT:
            named = _T.DataType.Name(kind).lower() if kind in _T.DataType.values() else str(kind)
            return f"its type is {named}, whose numbers a device would round"
        if shape is None:
            return "its shape is not known"
        if not 2 <= len(shape) <= MAX_INPUT_RANK:
            return f"it has rank {len(shape)}, and tensors of rank 2 to {MAX_INPUT_RANK} enter a device"
        if shape[0] != self.batch:
            return f"its first dimension is {shape[0]} and not the batch"
        return None

    @property
    def batch(self) -> int:
        """The batch that the file computes; 1 where it is open."""
        for value in self.file.source.graph.inputs:
            declared = declared_shape(value)
            if declared and len(declared) > 1 and value not in self.file.source.single:
                return declared[0] if isinstance(declared[0], int) else 1
        return 1

    def starts(self, sides: Sequence[Side]) -> list[str]:
        """Tensors that enter the part from the host."""
        found: dict[str, None] = {}
        for node in self.file.nodes:
            if sides[node.index] is Side.INSIDE and not self.file.free[node.index]:
                for name in node.reads:
                    if name in self.file.constants or name not in self.maker:
                        continue
                    made = self.maker[name]
                    if sides[made] is not Side.INSIDE and not self.file.free[made]:
                        found[name] = None
        return list(found)

    def ends(self, sides: Sequence[Side]) -> list[str]:
        """Tensors that leave the part: outputs of the file, and what the host reads."""
        file = self.file
        found: dict[str, None] = {}

        def leaves(name: str) -> bool:
            made = self.maker.get(name)
            inside = made is not None and sides[made] is Side.INSIDE and not file.free[made]
            return inside and name not in file.constants

        found.update(dict.fromkeys(name for name in file.model.outputs if leaves(name)))
        for node in file.nodes:
            if sides[node.index] is not Side.INSIDE and not file.free[node.index]:
                found.update(dict.fromkeys(name for name in node.reads if leaves(name)))
        return list(found)


def find_part(
    file: File, attempt: Attempt, options: ParseOptions, problems: Sequence[Problem], order: Sequence[str] = ()
) -> Part | None:
    """The part that goes on the device, the last that was attempted; None where no part is worth one.

    Args:
        file: see :func:`look_into`.
        attempt: translates under other options.
        options: without names of nodes to start or end at.
        problems: what is known not to translate.
        order: tensors that come first among those at which it ends, where they are among them.
    """
    search = _Search(file, options)
    for label, why in file.source.to_host.items():
        for index in search.labelled.get(label, []):
            search.exclude(index, why)
    for operator in file.source.host_operators:
        for index in (i for label in operator.nodes for i in search.labelled.get(label, [])):
            search.exclude(index, Reason(operator.reason))
    if problems and not search.exclude_all(problems) and not search.reasons:
        return None
    for _ in range(_MAX_TRIES):
        sides = search.sides()
        starts, ends = search.starts(sides), search.ends(sides)
        ends = [*(n for n in order if n in ends), *(n for n in ends if n not in order)]
        works = [w for w, s in zip(search.works, sides, strict=True) if s is Side.INSIDE]
        if not ends or not any(works):
            return None
        tried = _options(file, options, starts, ends)
        state = attempt(tried)
        if state is None:
            return None
        if not state.problems:
            return Part(file, sides, starts, ends, tried, search.reasons) if _takes_frames(state) else None
        if not search.exclude_all(state.problems):
            return None
        search.exclude_alike(state)
    return None


def _takes_frames(state: Translation) -> bool:
    return bool(state.builder.network.input_layers)


def _options(file: File, options: ParseOptions, starts: Sequence[str], ends: Sequence[str]) -> ParseOptions:
    """The options that translate the part between these tensors alone."""
    shapes = _given(file.source, options) | file.samples
    shapes |= {name: file.shapes[name] for name in starts}
    return replace(
        options,
        start_node_names=tuple(map(TensorName, starts)),
        end_node_names=tuple(map(TensorName, ends)),
        input_shapes=shapes or None,
    )


def no_part(source: SourceGraph) -> Diagnostic:
    """Why a file is refused although there is a host.

    Args:
        source: the file, read afresh.
    """
    nodes = file_model(source).nodes
    lost = list(dict.fromkeys(node.operator for node in nodes if node.refusal))
    rule = "no part of the file is worth a device: what translates has no weights, or its tensors cannot cross"
    got = f"{', '.join(lost[:8])} run on no host either" if lost else ""
    need = "a part with weights that translates"
    return Diagnostic(f"E-{source.format}-NO-PART", source.where, rule, got, need, _untold(source, nodes))


def _untold(source: SourceGraph, nodes: Sequence[FileNode]) -> tuple[str, ...]:
    """How to start behind what nothing runs, where only the sizes of its results are missing."""
    declared = {name_of(v): declared_shape(v) for node in source.graph for v in node.outputs}
    dead = {name for node in nodes if node.refusal for name in node.makes if declared.get(name) is None}
    readers = [node for node in nodes if not node.refusal and any(name in dead for name in node.reads)]
    if not readers:
        return ()
    sizes = " ".join(shlex.quote(f"{n}=[…]") for n in dict.fromkeys(n for r in readers for n in r.reads if n in dead))
    labels = " ".join(shlex.quote(node.label) for node in readers)
    return (f"--start-node-names {labels} --tensor-shapes {sizes}, with the sizes that the file does not tell",)


def missing_sizes(part: Part) -> UsageError:
    """The error for sizes that nobody gave, of a file that has a part for the device with those that were tried."""
    file = part.file
    given = dict(file.samples)
    shown = " ".join(shlex.quote(f"{n}=[{','.join(map(str, s))}]") for n, s in given.items())
    levers = (f"--tensor-shapes {shown}", f"{shapes_argument(file.source)}={given}")
    rule, need = "the file leaves sizes of this input open", "every size but the batch as a positive integer"
    problems = [
        Diagnostic(
            "E-PARSE-SHAPES",
            f"{file.source.where}, input {name_of(value)!r}",
            rule,
            str(declared_shape(value) or "no shape"),
            need,
        )
        for value in file.source.graph.inputs
        if name_of(value) in given
    ]
    problems[-1] = replace(problems[-1], levers=levers)
    return UsageError(problems)


Reader = Callable[[], SourceGraph]


def part_for_device(
    read: Reader, attempt: Attempt, options: ParseOptions, problems: Sequence[Problem], order: Sequence[str] = ()
) -> Part | None:
    """As :func:`find_part`, from what reads the file.

    Raises:
        UsageError: sizes are open that decide about it, and with some there is a part.
    """
    file = look_into(read(), options)
    found = find_part(file, attempt, options, problems, order)
    if found is not None:
        return found
    sampled = look_into(read(), options, samples=True)
    if not sampled.samples:
        return None
    found = find_part(sampled, attempt, options, problems, order)
    if found is not None:
        raise missing_sizes(found)
    return None
