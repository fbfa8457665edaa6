# SPDX-License-Identifier: Apache-2.0
"""Depth to space and back: blocks of channels become blocks of pixels; codes pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.layers.attributes import AttributeRuleError
from headrace.layers.move import CodesPass
from headrace.layers.operation import Shape, register
from headrace.layers.rows import RowCost, listed
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.ops import AnyTensor

MODES = ("DCR", "CRD")


@dataclass(frozen=True)
class _DepthSpace(CodesPass):
    """block is the side of a block; mode is the order of channels: DCR (block, channel) or CRD (channel, block)."""

    block: int = 2
    mode: str = "DCR"

    def __post_init__(self) -> None:
        if not 1 <= self.block <= 4096 or self.mode not in MODES:
            raise AttributeRuleError(
                "block or mode is not valid", f"{self.block}, {self.mode}", "block 1 … 4096, DCR or CRD"
            )


@register
@dataclass(frozen=True)
class DepthToSpace(_DepthSpace):
    """Channels become pixels."""

    kind = "depth_to_space"
    prefix = "depth_to_space"
    description = "Channels become pixels: [H, W, b·b·C] to [H·b, W·b, C]."

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        need_rank(shapes[0], 4, where)
        _, height, width, channels = shapes[0]
        b = self.block
        if channels % (b * b):
            raise shape_error(where, "block² must divide the channels", channels, f"a multiple of {b * b}")
        return (-1, height * b, width * b, channels // (b * b))

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return listed([(y // self.block, y // self.block) for y in range(output[1])])

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.depth_to_space(inputs[0], self.block, self.mode == "DCR")


@register
@dataclass(frozen=True)
class SpaceToDepth(_DepthSpace):
    """Pixels become channels."""

    kind = "space_to_depth"
    prefix = "space_to_depth"
    description = "Pixels become channels: [H·b, W·b, C] to [H, W, b·b·C]."

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        need_rank(shapes[0], 4, where)
        _, height, width, channels = shapes[0]
        b = self.block
        if height % b or width % b:
            raise shape_error(where, "the block must divide height and width", f"{height}×{width}", f"multiples of {b}")
        return (-1, height // b, width // b, channels * b * b)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return listed([(y * self.block, (y + 1) * self.block - 1) for y in range(output[1])])

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.space_to_depth(inputs[0], self.block, self.mode == "DCR")
