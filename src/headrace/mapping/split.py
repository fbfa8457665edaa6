# SPDX-License-Identifier: Apache-2.0
"""A layer larger than a context, as several that are not: exact, because output channels are independent.

A convolution or fully connected layer that exceeds what one context holds becomes parts with some of its output
channels each, and a concatenation that keeps the layer's name. A fused residual is cut the same way, and so is the
input of a grouped convolution, whose parts are whole groups. Every part has the integers of its channels, unchanged:
each constant of the kernel gives its part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from headrace.hef.kernel import Joining, Kernel, Slicing
from headrace.hef.microcode import Opcode
from headrace.layers.rows import Family, RowRule
from headrace.mapping.allocate import allocate_alone
from headrace.mapping.option_table import OptionTable
from headrace.mapping.resources import MEMORY
from headrace.mapping.stages import Allocation, Shares, Shortage, Stage, StageGraph
from headrace.numerics.quantization import TensorQuantization
from headrace.reports.schedule import CompileDecision, SplitDecision
from headrace.targets import Target
from headrace.timing.rates import ceil_div
from headrace.timing.work import Plane, Work

MOST_PARTS = 256
CHANNEL_AXIS = 2
Scales = Mapping[str, TensorQuantization]


def split_oversized(
    graph: StageGraph, scales: Scales, target: Target, shares: Shares, table: OptionTable | None = None
) -> tuple[StageGraph, list[CompileDecision]]:
    """The stages with every one that exceeds a context split, and each decision.

    Stages that no split helps are left as they are.

    Args:
        graph: all stages.
        scales: quantization of the network's inputs.
        target: the device.
        shares: ceilings of a context.
        table: the options of all stages, where they are known.
    """
    stages: list[Stage] = []
    decisions: list[CompileDecision] = []
    scales = dict(scales) | {s.name: s.kernel.output for s in graph.stages if s.kernel is not None}
    for i, stage in enumerate(graph.stages):
        found = _split(stage, allocate_alone(graph, i, target, shares, table), target, shares, scales)
        if found is None:
            stages.append(stage)
            continue
        pieces, decision = found
        stages += pieces
        decisions.append(decision)
    return (replace(graph, stages=tuple(stages)), decisions) if decisions else (graph, [])


def _split(
    stage: Stage, result: Allocation | Shortage, target: Target, shares: Shares, scales: Scales
) -> tuple[list[Stage], CompileDecision] | None:
    if not isinstance(result, Shortage) or result.need[MEMORY] <= result.have[MEMORY]:
        return None
    work = stage.work
    units = _units(work)
    if units < 2:
        return None
    least = max(2, ceil_div(result.need[MEMORY], max(1, result.have[MEMORY])))
    parts, most = least, min(MOST_PARTS, units, 4 * least)
    while parts <= most:
        pieces = list(_pieces(stage, parts, scales))
        widest = next(p for p in pieces if p.lowered.opcode is stage.lowered.opcode)
        if isinstance(_alone(widest, target, shares), Shortage):
            parts += ceil_div(parts, 4)
            continue
        decision = SplitDecision(
            decision="split",
            layer=work.name,
            parts=parts,
            axis="output channels" if work.family is Family.DENSE else "groups",
            channels=tuple(p.work.output.channels for p in pieces if p.lowered.opcode is stage.lowered.opcode),
            reason=f"{result.need[MEMORY]} memory units are needed, a context has {result.have[MEMORY]}",
        )
        return pieces, decision
    return None  # it is not the weights


def _units(work: Work) -> int:
    """Parts that there can be at most: output channels, or groups; 0: the layer cannot be split."""
    if work.family is Family.DENSE:
        return work.output.channels
    grouped = work.family is Family.GROUPED and work.operands[0].channels % work.groups == 0
    return work.groups if grouped and work.output.channels % work.groups == 0 else 0


def _alone(stage: Stage, target: Target, shares: Shares) -> Allocation | Shortage:
    return allocate_alone(StageGraph((stage,), stage.work.operands, (stage.work.output,)), 0, target, shares)


def _pieces(stage: Stage, parts: int, scales: Scales) -> Iterator[Stage]:
    """Parts (each after the slices of its input and its residual, where there are such), then the concatenation."""
    work, kernel = stage.work, stage.lowered
    units = _units(work)
    edges = [units * i // parts for i in range(parts + 1)]
    # The widest part first, so that the caller can try it alone.
    sizes = sorted((b - a for a, b in pairwise(edges)), reverse=True)
    written = work.output.channels // units
    read = work.operands[0].channels // units if work.family is Family.GROUPED else 0
    planes: list[Plane] = []
    start = 0
    for number, size in enumerate(sizes, 1):
        slices = [
            _slice(plane, f"{kernel.name}.{name}{number}", (start * step, size * step), scales) if step else None
            for plane, step, name in zip(work.operands, (read, written), ("input", "residual"), strict=False)
        ]
        yield from (piece for piece in slices if piece)
        channels = (start * written, (start + size) * written)
        part = _part(stage, f"{kernel.name}.part{number}", channels, slices)
        yield part
        planes.append(part.work.output)
        start += size
    joined = Work(
        work.name, "concat", Family.MOVE, tuple(planes), tuple(RowRule() for _ in planes), work.output, joins=True
    )
    names = tuple(p.tensor for p in planes)
    closing = Kernel(kernel.name, Opcode.CONCATENATE, names, kernel.shape, kernel.output, detail=Joining(CHANNEL_AXIS))
    yield Stage(joined, closing)


def _slice(source: Plane, name: str, channels: tuple[int, int], scales: Scales) -> Stage:
    """``channels`` are the first one and how many."""
    start, size = channels
    shape = (source.height, source.width, size)
    kernel = Kernel(name, Opcode.SLICE, (source.tensor,), shape, scales[source.tensor], detail=Slicing((0, 0, start)))
    written = replace(source, tensor=name, channels=size)
    return Stage(Work(name, "slice", Family.MOVE, (source,), (RowRule(),), written), kernel)


def _part(stage: Stage, name: str, channels: tuple[int, int], slices: Sequence[Stage | None]) -> Stage:
    work, kernel = stage.work, stage.lowered
    size = channels[1] - channels[0]
    operands, inputs = list(work.operands), list(kernel.inputs)
    for i, piece in enumerate(slices):
        if piece is not None:
            operands[i], inputs[i] = piece.work.output, piece.name
    grouped = work.family is Family.GROUPED
    groups = work.groups * size // work.output.channels if grouped else work.groups
    changed = replace(
        work,
        name=name,
        operands=tuple(operands),
        output=replace(work.output, tensor=name, channels=size),
        groups=groups,
        weight_bytes=ceil_div(work.weight_bytes * size, work.output.channels),
        macs=work.macs * size // work.output.channels,
    )
    return Stage(changed, kernel.part(name, inputs, channels, groups if grouped else kernel.groups))
