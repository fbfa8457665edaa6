# SPDX-License-Identifier: Apache-2.0
"""Depth to space and back: blocks of channels become blocks of pixels; codes pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.layers.base import AttributeRuleError, Attributes, register
from headrace.layers.move import CodesPass
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.ops import AnyTensor

MODES = ("DCR", "CRD")


@dataclass(frozen=True)
class DepthSpaceAttributes(Attributes):
    """block is the side of a block; mode is the order of channels: DCR (block, channel) or CRD (channel, block)."""

    block: int = 2
    mode: str = "DCR"

    def __post_init__(self) -> None:
        if not 1 <= self.block <= 4096 or self.mode not in MODES:
            raise AttributeRuleError(
                "block or mode is not valid", f"{self.block}, {self.mode}", "block 1 … 4096, DCR or CRD"
            )


@register
class DepthToSpace(CodesPass):
    kind = "depth_to_space"
    prefix = "depth_to_space"
    attributes = DepthSpaceAttributes
    description = "Channels become pixels: [H, W, b·b·C] to [H·b, W·b, C]."

    @classmethod
    def output_shape(
        cls, attributes: DepthSpaceAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        need_rank(shapes[0], 4, where)
        _, height, width, channels = shapes[0]
        b = attributes.block
        if channels % (b * b):
            raise shape_error(where, "block² must divide the channels", channels, f"a multiple of {b * b}")
        return (-1, height * b, width * b, channels // (b * b))

    @classmethod
    def move(cls, ops: Any, attributes: DepthSpaceAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.depth_to_space(inputs[0], attributes.block, attributes.mode == "DCR")


@register
class SpaceToDepth(CodesPass):
    kind = "space_to_depth"
    prefix = "space_to_depth"
    attributes = DepthSpaceAttributes
    description = "Pixels become channels: [H·b, W·b, C] to [H, W, b·b·C]."

    @classmethod
    def output_shape(
        cls, attributes: DepthSpaceAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        need_rank(shapes[0], 4, where)
        _, height, width, channels = shapes[0]
        b = attributes.block
        if height % b or width % b:
            raise shape_error(where, "the block must divide height and width", f"{height}×{width}", f"multiples of {b}")
        return (-1, height // b, width // b, channels * b * b)

    @classmethod
    def move(cls, ops: Any, attributes: DepthSpaceAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.space_to_depth(inputs[0], attributes.block, attributes.mode == "DCR")
