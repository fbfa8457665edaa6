# SPDX-License-Identifier: Apache-2.0
"""Layers that move codes."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.compiler.lower.lowering import Context, lowers
from headrace.hef.kernel import Detail, Joining, Kernel, Shape, Slicing
from headrace.hef.microcode import KernelRecord, Opcode
from headrace.layers.depth_space import DepthToSpace, SpaceToDepth
from headrace.layers.move import Concat, Pad, Reshape, Slice, Transpose


@dataclass(frozen=True)
class Padding(Detail):
    """``before`` elements of code ``zero`` before the first along each axis; those behind follow from the output."""

    before: Shape
    zero: int

    def write(self, record: KernelRecord) -> None:
        record.start_height, record.start_width, record.start_channel = self.before
        record.output_zero = self.zero


@dataclass(frozen=True)
class Permutation(Detail):
    """Output axis i is input axis ``axes[i]``."""

    axes: Shape

    def write(self, record: KernelRecord) -> None:
        record.permutation = self.axes[0] | self.axes[1] << 8 | self.axes[2] << 16


@dataclass(frozen=True)
class Blocks(Detail):
    """``side``² channels are a block of pixels; among them the place in the block counts first, or the channel."""

    side: int
    channel_first: bool

    def write(self, record: KernelRecord) -> None:
        record.block, record.axis = self.side, int(self.channel_first)


@lowers(Slice)
def cut(context: Context, operation: Slice) -> Kernel:
    detail = Slicing(context.axes(operation.starts, 0), context.axes(operation.steps, 1))
    return context.kernel(Opcode.SLICE, detail)


@lowers(Pad)
def pad(context: Context, operation: Pad) -> Kernel:
    zero = context.quantized.inputs[0].zero_point
    return context.kernel(Opcode.PAD, Padding(context.axes(operation.before, 0), zero))


@lowers(Concat)
def concat(context: Context, operation: Concat) -> Kernel:
    return context.kernel(Opcode.CONCATENATE, Joining(context.axis(operation.axis)))


@lowers(Reshape)
def reshape(context: Context, operation: Reshape) -> Kernel:
    del operation
    return context.kernel(Opcode.RESHAPE)


@lowers(Transpose)
def transpose(context: Context, operation: Transpose) -> Kernel:
    return context.kernel(
        Opcode.TRANSPOSE, Permutation((0, 1, 2) if context.is_vector else context.axes(operation.permutation, 0))
    )


@lowers(DepthToSpace)
def depth_to_space(context: Context, operation: DepthToSpace) -> Kernel:
    return context.kernel(Opcode.DEPTH_TO_SPACE, Blocks(operation.block, operation.mode != "DCR"))


@lowers(SpaceToDepth)
def space_to_depth(context: Context, operation: SpaceToDepth) -> Kernel:
    return context.kernel(Opcode.SPACE_TO_DEPTH, Blocks(operation.block, operation.mode != "DCR"))
