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

from headrace.compiler.graph import Lowered
from headrace.compiler.lower import Kernel
from headrace.hef.microcode import Opcode
from headrace.numerics.quantization import TensorQuantization
from headrace.reports.schedule import CompileDecision, JoinDecision
from headrace.targets import Target
from headrace.timing import Flow, Plane, RowKind, RowRule, Work


@dataclass(frozen=True)
class _Join:
    """A concatenation and the number of kernels that have to come before it."""

    kernel: Kernel
    work: Work
    after: int


def _limits(target: Target) -> tuple[int, int]:
    """Tensors that any concatenation may join, and that one of a tree joins.

    At most a cluster's aligners; and as a context of its own it needs a controller for each tensor that comes in. In a
    tree half of that, so that others find a place beside it.
    """
    limit = min(target.input_aligners_per_cluster, target.controllers - 1)
    return max(2, limit), max(2, limit // 2)


def narrow_joins(lowered: Lowered, target: Target) -> tuple[Lowered, list[CompileDecision]]:
    """The network with every concatenation that exceeds a cluster's aligners as a tree, and the decision on each.

    The last concatenation of a tree keeps the layer's name; tensors keep theirs, so every layer's codes stay readable.
    """
    limit, most = _limits(target)
    trees = _Trees(most, {k.name: i + 1 for i, k in enumerate(lowered.kernels)})
    last: list[Work] = list(lowered.flow.works)
    kernels = list(lowered.kernels)
    early: list[_Join] = []
    decisions: list[CompileDecision] = []
    for i, (kernel, work) in enumerate(zip(lowered.kernels, lowered.flow.works, strict=True)):
        if kernel.opcode is not Opcode.CONCATENATE:
            continue
        if len(kernel.inputs) <= limit:
            trees.remember(kernel, work.operands, work.output)
            continue
        joins, kernels[i], last[i] = trees.split(kernel, work)
        early += joins
        reason = f"{len(kernel.inputs)} tensors are joined, a concatenation on {target.name} takes {limit} at most"
        decisions.append(
            JoinDecision(
                decision="join in steps",
                layer=kernel.name,
                inputs=len(kernel.inputs),
                concatenations=len(joins) + 1,
                reason=reason,
            )
        )
    if not decisions:
        return lowered, []
    early.sort(key=lambda join: join.after)  # stable: those of one place keep their order
    made: list[tuple[Kernel, Work]] = []
    for i, pair in enumerate([*zip(kernels, last, strict=True), None]):
        while early and early[0].after == i:
            join = early.pop(0)
            made.append((join.kernel, join.work))
        if pair is not None:
            made.append(pair)
    flow = Flow(tuple(w for _, w in made), lowered.flow.inputs, lowered.flow.outputs)
    return replace(lowered, kernels=tuple(k for k, _ in made), flow=flow), decisions


@dataclass
class _Trees:
    """Splits concatenations one after the other and knows what is joined already.

    Attributes:
        most: operands of one concatenation.
        place: kernels up to and with the one that makes a tensor.
        known: concatenations so far by what they join, longest last for each first tensor.
    """

    most: int
    place: dict[str, int]
    known: dict[tuple[str, int, TensorQuantization], list[tuple[list[str], Plane]]] = field(default_factory=dict)

    def remember(self, kernel: Kernel, operands: Sequence[Plane], output: Plane) -> None:
        """A concatenation of leaves ``operands`` that is there from now on."""
        key = operands[0].tensor, kernel.fields["axis"], kernel.output
        rows = self.known.setdefault(key, [])
        rows.append(([p.tensor for p in operands], output))
        rows.sort(key=lambda row: len(row[0]))  # stable: the first made of one length first

    def split(self, kernel: Kernel, work: Work) -> tuple[list[_Join], Kernel, Work]:
        """Concatenations of at most ``most`` tensors each, the last one apart."""
        made: list[_Join] = []
        planes = self._shortened(kernel, work.operands)
        while len(planes) > self.most:
            planes = self._level(kernel, work, planes, made)
        closing = _join(kernel, work, planes, kernel.name, 0)
        self.remember(kernel, work.operands, closing.work.output)
        return made, closing.kernel, closing.work

    def _shortened(self, kernel: Kernel, operands: Sequence[Plane]) -> list[Plane]:
        """The operands with what is joined already in place of its parts, the longest from the left."""
        tensors = [p.tensor for p in operands]
        planes: list[Plane] = []
        at = 0
        while at < len(operands):
            rows = self.known.get((tensors[at], kernel.fields["axis"], kernel.output), [])
            parts, plane = next(
                (r for r in reversed(rows) if tensors[at : at + len(r[0])] == r[0]), ([""], operands[at])
            )
            planes.append(plane)
            at += len(parts)
        return planes

    def _level(self, kernel: Kernel, work: Work, planes: Sequence[Plane], made: list[_Join]) -> list[Plane]:
        """Neighbours joined, ``most`` from the left each time, so that longer concatenations find the same groups."""
        joined: list[Plane] = []
        for first in range(0, len(planes), self.most):
            group = planes[first : first + self.most]
            if len(group) == 1:
                joined.append(group[0])
                continue
            after = max(self.place.get(p.tensor, 0) for p in group)
            join = _join(kernel, work, group, f"{kernel.name}.join{len(made) + 1}", after)
            self.place[join.kernel.name] = after
            self.remember(kernel, group, join.work.output)
            made.append(join)
            joined.append(join.work.output)
        return joined


def _join(kernel: Kernel, work: Work, planes: Sequence[Plane], name: str, after: int) -> _Join:
    """The concatenation of some neighbouring operands of ``work``."""
    axis = kernel.fields["axis"]
    sizes = [(p.height, p.width, p.channels) for p in planes]
    shape = list(sizes[0])
    shape[axis] = sum(size[axis] for size in sizes)
    stacked = work.rules[0].kind is RowKind.STACK
    places = [sum(p.height for p in planes[:i]) for i in range(len(planes))]
    rules = tuple(RowRule(RowKind.STACK, offset=place) if stacked else RowRule() for place in places)
    height, width, channels = shape
    output = Plane(name, height, width, channels, work.output.element_bytes)
    fields = {"axis": axis}
    made = Kernel(
        name, Opcode.CONCATENATE, [p.tensor for p in planes], (height, width, channels), kernel.output, fields
    )
    return _Join(made, Work(name, work.kind, work.family, tuple(planes), rules, output), after)
