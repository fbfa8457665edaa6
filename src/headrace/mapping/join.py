# SPDX-License-Identifier: Apache-2.0
"""A concatenation of more tensors than a cluster can align, as a tree of smaller ones: exact, because codes only move.

Every operand of a stage takes an input aligner and a stage lies in one cluster, so a target with 32 of them a cluster
joins at most 32 tensors at once. Neighbouring operands are joined first, as early as the last of them is there, then
the results in their turn. What an earlier concatenation has joined already is taken from it: in a dense block, where
each layer reads all before it, a concatenation then has two operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headrace.errors import Diagnostic, InternalError
from headrace.hef.kernel import Joining, Kernel
from headrace.hef.microcode import Opcode
from headrace.layers.rows import RowKind, RowRule
from headrace.mapping.stages import Stage, StageGraph
from headrace.numerics.quantization import TensorQuantization
from headrace.reports.schedule import CompileDecision, JoinDecision
from headrace.targets import Target
from headrace.timing.work import Plane, Work


@dataclass(frozen=True)
class _Concatenation:
    """A stage that joins tensors, with its axis."""

    work: Work
    kernel: Kernel
    axis: int

    @property
    def stage(self) -> Stage:
        return Stage(self.work, self.kernel)


@dataclass(frozen=True)
class _Early:
    """A concatenation and the number of stages that have to come before it."""

    stage: Stage
    after: int


def _concatenation(stage: Stage) -> _Concatenation | None:
    """The stage, where it joins tensors."""
    kernel = stage.kernel
    if kernel is None or kernel.opcode is not Opcode.CONCATENATE:
        return None
    if not isinstance(kernel.detail, Joining):
        raise InternalError(Diagnostic("E-MAPPING-KERNEL", kernel.name, "a concatenation has no axis"))
    return _Concatenation(stage.work, kernel, kernel.detail.axis)


def _limits(target: Target) -> tuple[int, int]:
    """Tensors that any concatenation may join, and that one of a tree joins.

    At most a cluster's aligners; and as a context of its own it needs a controller for each tensor that comes in. In a
    tree half of that, so that others find a place beside it.
    """
    limit = min(target.input_aligners_per_cluster, target.controllers - 1)
    return max(2, limit), max(2, limit // 2)


def narrow_joins(graph: StageGraph, target: Target) -> tuple[StageGraph, list[CompileDecision]]:
    """The stages with every concatenation that exceeds a cluster's aligners as a tree, and the decision on each.

    The last concatenation of a tree keeps the layer's name; tensors keep theirs, so every layer's codes stay readable.
    """
    limit, most = _limits(target)
    trees = _Trees(most, {s.name: i + 1 for i, s in enumerate(graph.stages)})
    last = list(graph.stages)
    early: list[_Early] = []
    decisions: list[CompileDecision] = []
    for i, stage in enumerate(graph.stages):
        join = _concatenation(stage)
        if join is None:
            continue
        inputs = len(join.kernel.inputs)
        if inputs <= limit:
            trees.remember(join, join.work.operands, join.work.output)
            continue
        joins, last[i] = trees.split(join)
        early += joins
        decisions.append(
            JoinDecision(
                decision="join in steps",
                layer=stage.name,
                inputs=inputs,
                concatenations=len(joins) + 1,
                reason=f"{inputs} tensors are joined, a concatenation on {target.name} takes {limit} at most",
            )
        )
    if not decisions:
        return graph, []
    early.sort(key=lambda join: join.after)  # stable: those of one place keep their order
    made: list[Stage] = []
    for i, stage in enumerate([*last, None]):
        while early and early[0].after == i:
            made.append(early.pop(0).stage)
        if stage is not None:
            made.append(stage)
    return replace(graph, stages=tuple(made)), decisions


@dataclass
class _Trees:
    """Splits concatenations one after the other and knows what is joined already.

    Attributes:
        most: operands of one concatenation.
        place: stages up to and with the one that makes a tensor.
        known: concatenations so far by what they join, longest last for each first tensor.
    """

    most: int
    place: dict[str, int]
    known: dict[tuple[str, int, TensorQuantization], list[tuple[list[str], Plane]]] = field(default_factory=dict)

    def remember(self, join: _Concatenation, operands: Sequence[Plane], output: Plane) -> None:
        """A concatenation of leaves ``operands`` that is there from now on."""
        key = operands[0].tensor, join.axis, join.kernel.output
        rows = self.known.setdefault(key, [])
        rows.append(([p.tensor for p in operands], output))
        rows.sort(key=lambda row: len(row[0]))  # stable: the first made of one length first

    def split(self, join: _Concatenation) -> tuple[list[_Early], Stage]:
        """Concatenations of at most ``most`` tensors each, the last one apart."""
        made: list[_Early] = []
        planes = self._shortened(join)
        while len(planes) > self.most:
            planes = self._level(join, planes, made)
        closing = _join(join, planes, join.kernel.name)
        self.remember(join, join.work.operands, closing.work.output)
        return made, closing

    def _shortened(self, join: _Concatenation) -> list[Plane]:
        """The operands with what is joined already in place of its parts, the longest from the left."""
        operands = join.work.operands
        tensors = [p.tensor for p in operands]
        planes: list[Plane] = []
        at = 0
        while at < len(operands):
            rows = self.known.get((tensors[at], join.axis, join.kernel.output), [])
            parts, plane = next(
                (r for r in reversed(rows) if tensors[at : at + len(r[0])] == r[0]), ([""], operands[at])
            )
            planes.append(plane)
            at += len(parts)
        return planes

    def _level(self, join: _Concatenation, planes: Sequence[Plane], made: list[_Early]) -> list[Plane]:
        """Neighbours joined, ``most`` from the left each time, so that longer concatenations find the same groups."""
        joined: list[Plane] = []
        for first in range(0, len(planes), self.most):
            group = planes[first : first + self.most]
            if len(group) == 1:
                joined.append(group[0])
                continue
            after = max(self.place.get(p.tensor, 0) for p in group)
            stage = _join(join, group, f"{join.kernel.name}.join{len(made) + 1}")
            self.place[stage.name] = after
            self.remember(join, group, stage.work.output)
            made.append(_Early(stage, after))
            joined.append(stage.work.output)
        return joined


def _join(join: _Concatenation, planes: Sequence[Plane], name: str) -> Stage:
    """The concatenation of some neighbouring operands."""
    work = join.work
    sizes = [(p.height, p.width, p.channels) for p in planes]
    shape = list(sizes[0])
    shape[join.axis] = sum(size[join.axis] for size in sizes)
    stacked = work.rules[0].kind is RowKind.STACK
    places = [sum(p.height for p in planes[:i]) for i in range(len(planes))]
    rules = tuple(RowRule(RowKind.STACK, offset=place) if stacked else RowRule() for place in places)
    height, width, channels = shape
    output = Plane(name, height, width, channels, work.output.element_bytes)
    kernel = replace(join.kernel, name=name, inputs=tuple(p.tensor for p in planes), shape=(height, width, channels))
    return Stage(Work(name, work.kind, work.family, tuple(planes), rules, output, joins=True), kernel)
