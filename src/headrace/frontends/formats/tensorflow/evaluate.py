# SPDX-License-Identifier: Apache-2.0
"""A graph evaluated on demand, from the outputs backwards: calls inlined, loops unrolled, branches taken.

What no output needs is never looked at, so a training graph prunes itself. A *scope* is one instance of a body: the
graph, one call of a function, or one round of a loop. Every node is evaluated once in each scope that needs it, with a
stack of our own: a chain of any length is no deep recursion, and a cycle is found where it closes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from headrace.errors import InputFileError
from headrace.frontends.faults import faults_at
from headrace.frontends.formats.tensorflow.build import (
    CONVERTERS,
    ONNX_TYPES,
    GraphBuilder,
    NeedsShape,
    Operation,
    Result,
    ShapedRefusal,
)
from headrace.frontends.formats.tensorflow.records import Body, Node, Program, Ref
from headrace.frontends.formats.tensorflow.refusals import why_unknown
from headrace.frontends.formats.tensorflow.states import DEAD, Dead, SplitFrames
from headrace.frontends.graph import HostOperator, SourceGraph, Unsupported, constant, marks, name_of
from headrace.frontends.reader import corrupt
from headrace.hn.registering import entering

#: Nodes evaluated in all scopes together.
MAX_EVALUATIONS = 100_000
#: Calls within calls.
MAX_DEPTH = 100
Results = Sequence[Result]
Demand = Generator["tuple[Scope, str]", Results, Results]
Structure = Callable[["Evaluator", "Scope", Node], Demand]
#: Operators that decide what is evaluated at all: calls, branches, loops.
STRUCTURES: dict[str, Structure] = {}


def structures(*operators: str) -> Callable[[Structure], Structure]:
    """Register a function as the evaluation of operators that decide what is evaluated."""
    return entering(STRUCTURES, operators)


@dataclass(eq=False)
class Scope:
    """One instance of a body.

    Attributes:
        body: its nodes.
        results: node → its outputs, once evaluated.
        outer: of a round of a loop: the scope that the loop stands in.
        frame: of a round: the name of the loop's frame.
        path: names of the calls on the way, for labels.
        round: which round of which loops, for labels.
        depth: of calls.
        loops: condition of a loop that was unrolled here → what it left with.
    """

    body: Body
    results: dict[str, Results] = field(default_factory=dict)
    outer: Scope | None = None
    frame: str = ""
    path: str = ""
    round: str = ""
    depth: int = 0
    loops: dict[str, dict[str, Result]] = field(default_factory=dict)

    def outermost(self) -> Scope:
        """The scope of the same body outside of all loops."""
        scope = self
        while scope.outer is not None:
            scope = scope.outer
        return scope


class Evaluator:
    """Evaluates nodes of a program into a source graph.

    Attributes:
        program: the graph and its functions.
        builder: what nodes go into.
        source: what is noted on the way: operators, refusals.
    """

    def __init__(self, program: Program, builder: GraphBuilder, source: SourceGraph) -> None:
        self.program, self.builder, self.source = program, builder, source
        self._left = MAX_EVALUATIONS
        self._labels: set[str] = set()

    # --- the walk ------------------------------------------------------------------------------------------------

    def run(self, scope: Scope, name: str) -> Results:
        """The outputs of a node.

        Raises:
            InputFileError: nodes that depend on themselves, calls without end, or more work than a file may cause.
        """
        if name in scope.results:
            return scope.results[name]
        stack: list[tuple[Scope, str, Demand]] = [(scope, name, self._begin(scope, name))]
        open_: set[tuple[int, str]] = {(id(scope), name)}
        answer: Results | None = None
        while stack:
            at, current, demand = stack[-1]
            try:
                wanted, other = next(demand) if answer is None else demand.send(answer)
            except StopIteration as stop:
                answer = stop.value
                at.results[current] = stop.value
                open_.discard((id(at), current))
                stack.pop()
                continue
            answer = wanted.results.get(other)
            if answer is None:
                if (id(wanted), other) in open_:
                    raise self._damaged("the nodes form a cycle", other, "no cycle")
                open_.add((id(wanted), other))
                stack.append((wanted, other, self._begin(wanted, other)))
        return scope.results[name]

    def _damaged(self, rule: str, got: object, need: str = "") -> InputFileError:
        return InputFileError(corrupt("tensorflow", self.program.where, rule, got, need))

    def _begin(self, scope: Scope, name: str) -> Demand:
        self._left -= 1
        if self._left < 0:
            rule = "calls and loops make too many nodes of this graph"
            raise self._damaged(rule, f"more than {MAX_EVALUATIONS}", f"≤ {MAX_EVALUATIONS}")
        node = scope.body.nodes[name]
        structure = STRUCTURES.get(node.op)
        if structure is None and node.op in self.program.functions:
            structure = STRUCTURES["PartitionedCall"]
        return self.plain(scope, node) if structure is None else self._structured(structure, scope, node)

    def _structured(self, structure: Structure, scope: Scope, node: Node) -> Demand:
        try:
            results = yield from structure(self, scope, node)
        except Unsupported as problem:
            read = [scope.results[r.node][r.index : r.index + 1] for r in node.inputs if r.node in scope.results]
            results = self.refuse(scope, node, [v for part in read for v in part], problem)
        return results

    def operands(self, scope: Scope, refs: Sequence[Ref]) -> Generator[tuple[Scope, str], Results, list[Result]]:
        """Evaluate what a node reads."""
        found: list[Result] = []
        for ref in refs:
            results = yield (scope, ref.node)
            if ref.index >= len(results):
                raise self._damaged(f"node {ref.node!r} has no output {ref.index}", f"{len(results)} outputs")
            found.append(results[ref.index])
        return found

    def plain(self, scope: Scope, node: Node) -> Demand:
        """Evaluate what a node reads, and convert it."""
        if not node.inputs and scope.outer is not None:
            results = yield (scope.outermost(), node.name)  # the same in every round
            return results
        inputs: list[Result] = []
        for ref in node.inputs:
            found = yield from self.operands(scope, [ref])
            if isinstance(found[0], Dead):
                return [DEAD] * scope.body.outputs.get(node.name, 1)
            inputs += found
        return self.convert(scope, node, inputs)

    # --- conversion ----------------------------------------------------------------------------------------------

    def label(self, scope: Scope, node: Node) -> str:
        """A name for a node that no other has: its own, behind those of the calls where it occurs again."""
        name = f"{node.name}{scope.round}"
        if name in self._labels and scope.path:
            name = f"{scope.path}/{name}"
        base, count = name, 1
        while name in self._labels:
            count += 1
            name = f"{base}#{count}"
        self._labels.add(name)
        return name

    def convert(self, scope: Scope, node: Node, inputs: Sequence[Result]) -> Results:
        """A node whose inputs are evaluated; where it cannot be converted, the reason is noted."""
        if any(isinstance(v, Dead) for v in inputs):
            return [DEAD] * scope.body.outputs.get(node.name, 1)
        label = self.label(scope, node)
        split = next((v for v in inputs if isinstance(v, SplitFrames)), None)
        outputs = scope.body.outputs.get(node.name, 1)
        try:
            if split is not None and node.op != "BatchToSpaceND":
                return [remembered(split, node, label, inputs)]
            return self.converted(node, label, inputs, outputs)
        except Unsupported as problem:
            return self.refuse(scope, node, inputs, problem, label)

    def converted(
        self, node: Node, label: str, inputs: Sequence[Result], outputs: int,
        prepare: Callable[[Operation], None] | None = None,
    ) -> Results:  # fmt: skip
        """The outputs of an operator.

        Raises:
            Unsupported: it cannot be converted.
        """
        self.source.operators[label] = node.op
        converter = CONVERTERS.get(node.op)
        if converter is None:
            raise why_unknown(node)
        operation = Operation(self.builder, node, label, inputs, outputs)
        if prepare is not None:
            prepare(operation)
        place = f"{self.program.where}, node {label!r} ({node.op})"
        with self.builder.attempt(), faults_at(place):
            converter(operation)
        return self._named(operation, outputs)

    def _named(self, operation: Operation, outputs: int) -> Results:
        """The results under the names that the file has for them; what is not made is an output that is of no use."""
        results: list[Result] = []
        for index, result in enumerate(operation.results):
            fresh = result
            if isinstance(fresh, ir.Value):
                if "internal" not in marks(fresh):
                    fresh = operation.emit("Identity", [fresh], glue=True)
                self.builder.declare(fresh, f"{operation.label}:{index}" if index else operation.label)
            results.append(fresh)
        for index in range(len(results), outputs):
            value = ir.Value(name=f"{operation.label}:{index}")
            marks(value)["kind"] = f"an output of {operation.name} that is not made"
            results.append(value)
        return results

    def reserve(self, names: Iterable[str]) -> None:
        """Names that no node gets, for those of a signature."""
        self._labels.update(names)

    def output(self, name: str, value: ir.Value) -> ir.Value:
        """A tensor under the name that a signature gives it."""
        self.source.operators[name] = "Identity"
        made = self.builder.add("Identity", [value], {}, name).outputs[0]
        self.builder.declare(made, name)
        return made

    def aliases(self, scope: Scope, node: Node, values: Sequence[Result]) -> Results:
        """The same tensors under the name of a node that only passes them on."""
        label = self.label(scope, node)
        self.source.operators[label] = node.op
        made: list[Result] = []
        for index, value in enumerate(values):
            if not isinstance(value, ir.Value) or constant(value) is not None:
                made.append(value)
                continue
            copy = self.builder.add("Identity", [value], {}, label).outputs[0]
            self.builder.declare(copy, f"{label}:{index}" if index else label)
            made.append(copy)
        return made

    def refuse(
        self, scope: Scope, node: Node, inputs: Sequence[Result], problem: Unsupported, label: str = ""
    ) -> Results:
        """A node of its name stands for what cannot be converted, and the reason is noted."""
        label = label or self.label(scope, node)
        self.source.operators[label] = node.op
        values = [v for v in inputs if isinstance(v, ir.Value)]
        # What lacks a shape is not what no shape would help: only the latter is reported before shapes are asked for.
        shaped = isinstance(problem, NeedsShape)
        made = self.builder.add(
            "Identity" if shaped else node.op, values, {}, label, outputs=scope.body.outputs.get(node.name, 1),
            domain="refused" if not shaped else "",
        )  # fmt: skip
        for index, value in enumerate(made.outputs):
            if isinstance(problem, ShapedRefusal) and index < len(problem.shapes):
                self.builder.shapes[value] = problem.shapes[index]
                value.dtype = ir.DataType(ONNX_TYPES[problem.types[index]])
            self.builder.declare(value, f"{label}:{index}" if index else label)
        if isinstance(problem, ShapedRefusal):
            names = tuple(f"{label}:{i}" if i else label for i in range(len(made.outputs)))
            told = (tuple(name_of(v) for v in values), names, (label,), problem.reason)
            self.source.host_operators.append(HostOperator(problem.operator, problem.attributes, *told))
        self.source.broken[made] = problem
        return list(made.outputs)


def remembered(split: SplitFrames, node: Node, label: str, inputs: Sequence[Result]) -> SplitFrames:
    """Split frames after one more operator.

    Raises:
        Unsupported: it has frames among its inputs twice, or has several outputs.
    """
    if sum(isinstance(v, SplitFrames) for v in inputs) != 1:
        raise Unsupported("frames split by SpaceToBatchND meet each other", "one chain up to BatchToSpaceND")
    others = tuple(None if v is split else v for v in inputs)
    return SplitFrames(split.value, split.block, split.paddings, (*split.steps, (node, label, others)))


def known_flag(value: Result) -> bool | None:
    """A condition that is known, else None."""
    array = constant(value) if isinstance(value, ir.Value) else None
    if array is None or array.size != 1:
        return None
    return bool(array.reshape(-1)[0])


__all__ = ["MAX_DEPTH", "STRUCTURES", "Demand", "Evaluator", "Results", "Scope", "known_flag", "structures"]
