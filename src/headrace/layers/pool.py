# SPDX-License-Identifier: Apache-2.0
"""Pooling: maximum (codes pass), average, global average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.layers.attributes import AttributeRuleError
from headrace.layers.operation import (
    Counts,
    Frozen,
    Operation,
    Parameter,
    QuantizedLayer,
    ScaleRule,
    Shape,
    register,
)
from headrace.layers.rows import Family, RowCost, RowKind, RowRule
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.geometry import covered_counts, window_output
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array


@dataclass(frozen=True)
class Pool(Operation):
    """kernel_shape and strides are (height, width); padding is (top, left, bottom, right)."""

    channelwise = True
    passes_factors = True

    kernel_shape: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if min(*self.kernel_shape, *self.strides) < 1 or min(self.padding) < 0:
            raise AttributeRuleError("pool sizes must be positive and padding not negative", self, "positive integers")
        if any(p >= k for p, k in zip(self.padding, [*self.kernel_shape, *self.kernel_shape], strict=True)):
            raise AttributeRuleError(
                "padding must be smaller than the window", self.padding, f"below {self.kernel_shape}"
            )

    @property
    def keeps_constants(self) -> bool:
        return True

    def output_hw(self, shape: Sequence[int]) -> tuple[int, int]:
        top, left, bottom, right = self.padding
        return (
            window_output(shape[1], self.kernel_shape[0], self.strides[0], top, bottom),
            window_output(shape[2], self.kernel_shape[1], self.strides[1], left, right),
        )

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        need_rank(shapes[0], 4, where)
        height, width = self.output_hw(shapes[0])
        if height < 1 or width < 1:
            raise shape_error(
                where, "the window is larger than the padded input", f"{height}×{width} outputs", "at least 1×1"
            )
        return (-1, height, width, shapes[0][3])

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        window = RowRule(RowKind.WINDOW, self.kernel_shape[0], self.strides[0], 1, self.padding[0])
        whole = self.kernel_shape == tuple(shapes[0][1:3]) and not any(self.padding)
        return RowCost(
            (window,), Family.MOVE if whole else Family.POOL, window=self.kernel_shape, stride=self.strides[1]
        )

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(operations=elements * self.kernel_shape[0] * self.kernel_shape[1], output_elements=elements)


@register
@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest element of each window."""

    kind = "maxpool"
    prefix = "maxpool"
    scale_rule = ScaleRule.PASSES
    description = "Maximum over a window; padding is ignored."

    def forward_float(
        self,
        ops: FloatOps[AnyTensor],
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.window_max(inputs[0], window=self.kernel_shape, strides=self.strides, padding=self.padding)

    def forward_integer(
        self,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.window_max(inputs[0], window=self.kernel_shape, strides=self.strides, padding=self.padding)


@register
@dataclass(frozen=True)
class AveragePool(Pool):
    """Means, or sums, over windows; the window of a global pool is the whole input."""

    kind = "avgpool"
    prefix = "avgpool"
    description = (
        "Average (or sum) over a window; params (quantized): counts uint32 [n], ascending, one (M, s) column each."
    )

    count_padding: bool = False  # average over the whole window instead of the covered positions
    total: bool = False  # the sum over the window instead of the average

    @property
    def keeps_constants(self) -> bool:
        return not self.total and not (self.count_padding and any(self.padding))

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return Frozen({"counts": Parameter(None, "uint32")}, (1,), 1, np.unique(self.divisors(shapes[0])))

    def divisors(self, shape: Sequence[int]) -> Array:
        """int64 ``[H, W]``: the number each output position's sum is divided by."""
        output = self.output_hw(shape)
        if self.total:
            return np.ones(output, np.int64)
        if self.count_padding:
            return np.full(output, self.kernel_shape[0] * self.kernel_shape[1], np.int64)
        return covered_counts(shape[1:3], self.kernel_shape, self.strides, self.padding, output)

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        mean = ops.window_mean(
            inputs[0], window=self.kernel_shape, strides=self.strides, padding=self.padding,
            count_padding=self.count_padding or self.total,
        )  # fmt: skip
        return ops.affine(mean, float(self.kernel_shape[0] * self.kernel_shape[1]), 0.0) if self.total else mean

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        shape = (-1, *tuple(inputs[0].shape)[1:])
        total = ops.window_sum(
            inputs[0],
            quantized.inputs[0].zero_point,
            window=self.kernel_shape,
            strides=self.strides,
            padding=self.padding,
        )
        choice = np.searchsorted(quantized.param("counts", np.uint32, 1), self.divisors(shape))
        return ops.requantize_by_position(total, choice, quantized.rq, quantized.output.bits)
