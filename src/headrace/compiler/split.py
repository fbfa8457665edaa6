# SPDX-License-Identifier: Apache-2.0
"""A layer larger than a context, as several that are not: exact, because output channels are independent.

A convolution or fully connected layer that exceeds what one context holds becomes parts with some of its output
channels each, and a concatenation that keeps the layer's name. A fused residual is cut the same way, and so is the
input of a grouped convolution, whose parts are whole groups. Every part has the integers of its channels, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from headrace.compiler.graph import Lowered
from headrace.compiler.lower import Kernel
from headrace.hef.microcode import Opcode
from headrace.mapping import Shortage, allocate_alone
from headrace.mapping.allocate import OptionTable
from headrace.mapping.resources import MEMORY
from headrace.numerics.quantization import TensorQuantization
from headrace.reports.schedule import CompileDecision, SplitDecision
from headrace.targets import Target
from headrace.timing import Family, Flow, Plane, RowRule, Work
from headrace.timing.rates import ceil_div

MOST_PARTS = 256
CHANNEL_AXIS = 2
Shares = tuple[float, float, float]
Scales = Mapping[str, TensorQuantization]


@dataclass(frozen=True)
class _Piece:
    """A kernel and its work."""

    kernel: Kernel
    work: Work


def split_oversized(
    lowered: Lowered, target: Target, shares: Shares, table: OptionTable | None = None
) -> tuple[Lowered, list[CompileDecision]]:
    """The network with every layer that exceeds a context split, and each decision.

    Layers that no split helps are left as they are. ``table`` has the options of all works, where they are known.
    """
    kernels: list[Kernel] = []
    works: list[Work] = []
    decisions: list[CompileDecision] = []
    scales = {s.tensor: s.quantization for s in lowered.inputs} | {k.name: k.output for k in lowered.kernels}
    for i, (kernel, work) in enumerate(zip(lowered.kernels, lowered.flow.works, strict=True)):
        found = _split(
            kernel, work, allocate_alone(lowered.flow, i, target, shares, table=table), target, shares, scales
        )
        if found is None:
            kernels.append(kernel)
            works.append(work)
            continue
        pieces, decision = found
        kernels += [p.kernel for p in pieces]
        works += [p.work for p in pieces]
        decisions.append(decision)
    if not decisions:
        return lowered, []
    flow = Flow(tuple(works), lowered.flow.inputs, lowered.flow.outputs)
    return replace(lowered, kernels=tuple(kernels), flow=flow), decisions


def _split(
    kernel: Kernel, work: Work, result: Any, target: Target, shares: Shares, scales: Scales
) -> tuple[list[_Piece], CompileDecision] | None:
    if not isinstance(result, Shortage) or result.need[MEMORY] <= result.have[MEMORY]:
        return None
    units = _units(kernel, work)
    if units < 2:
        return None
    least = max(2, ceil_div(result.need[MEMORY], max(1, result.have[MEMORY])))
    parts, most = least, min(MOST_PARTS, units, 4 * least)
    while parts <= most:
        pieces = list(_pieces(kernel, work, parts, scales))
        widest = next(p for p in pieces if p.work.kind == work.kind)
        if isinstance(_alone(widest.work, target, shares), Shortage):
            parts += ceil_div(parts, 4)
            continue
        decision = SplitDecision(
            decision="split",
            layer=work.name,
            parts=parts,
            axis="output channels" if work.family is Family.DENSE else "groups",
            channels=tuple(p.work.output.channels for p in pieces if p.work.kind == work.kind),
            reason=f"{result.need[MEMORY]} memory units are needed, a context has {result.have[MEMORY]}",
        )
        return pieces, decision
    return None  # it is not the weights


def _units(kernel: Kernel, work: Work) -> int:
    """Parts that there can be at most: output channels, or groups; 0: the layer cannot be split."""
    if work.family is Family.DENSE:
        return work.output.channels
    grouped = work.family is Family.GROUPED and work.operands[0].channels % work.groups == 0
    return work.groups if grouped and work.output.channels % work.groups == 0 else 0


def _alone(work: Work, target: Target, shares: Shares) -> object:
    return allocate_alone(Flow((work,), work.operands, (work.output,)), 0, target, shares)


def _pieces(kernel: Kernel, work: Work, parts: int, scales: Scales) -> Iterator[_Piece]:
    """Parts (each after the slices of its input and its residual, where there are such), then the concatenation."""
    units = _units(kernel, work)
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
        part = _part(kernel, work, f"{kernel.name}.part{number}", channels, slices)
        yield part
        planes.append(part.work.output)
        start += size
    joined = Work(work.name, "concat", Family.MOVE, tuple(planes), tuple(RowRule() for _ in planes), work.output)
    names = [p.tensor for p in planes]
    yield _Piece(
        Kernel(kernel.name, Opcode.CONCATENATE, names, kernel.shape, kernel.output, {"axis": CHANNEL_AXIS}), joined
    )


def _slice(source: Plane, name: str, channels: tuple[int, int], scales: Scales) -> _Piece:
    """``channels`` are the first one and how many."""
    start, size = channels
    made = Kernel(name, Opcode.SLICE, [source.tensor], (source.height, source.width, size), scales[source.tensor])
    made.fields["start_channel"] = start
    written = replace(source, tensor=name, channels=size)
    return _Piece(made, Work(name, "slice", Family.MOVE, (source,), (RowRule(),), written))


def _part(kernel: Kernel, work: Work, name: str, channels: tuple[int, int], slices: Sequence[_Piece | None]) -> _Piece:
    first, last = channels
    size = last - first
    made = Kernel(name, kernel.opcode, list(kernel.inputs), (*kernel.shape[:2], size), kernel.output)
    made.fields = dict(kernel.fields)
    per_channel = kernel.fields["requantise_channels"] == kernel.shape[2]
    for key, array in kernel.constants.items():
        if key == "weight_offset" and kernel.opcode is Opcode.DEPTHWISE:
            made.constants[key] = np.ascontiguousarray(array[..., first:last])
        elif key in ("weight_offset", "bias_offset"):
            made.constants[key] = np.ascontiguousarray(array[first:last])
        elif key == "table_offset" or array.shape[-1] != kernel.shape[2]:
            made.constants[key] = array
        else:  # multipliers [terms, channels], shifts and channels' tables [channels]
            made.constants[key] = np.ascontiguousarray(array[..., first:last])
    if per_channel:
        made.fields["requantise_channels"] = size
    groups = work.groups * size // work.output.channels if work.family is Family.GROUPED else work.groups
    if work.family is Family.GROUPED:
        made.fields["groups"] = groups
    operands = list(work.operands)
    for i, piece in enumerate(slices):
        if piece is not None:
            made.inputs[i] = piece.kernel.name
            operands[i] = piece.work.output
    changed = replace(
        work,
        name=name,
        operands=tuple(operands),
        output=replace(work.output, tensor=name, channels=size),
        groups=groups,
        weight_bytes=ceil_div(work.weight_bytes * size, work.output.channels),
        macs=work.macs * size // work.output.channels,
    )
    return _Piece(made, changed)
