# SPDX-License-Identifier: Apache-2.0
"""Pooling: maximum (codes pass), average, global average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.layers.base import (
    AttributeRuleError,
    Attributes,
    Counts,
    Frozen,
    LayerDefinition,
    Parameter,
    QuantizedLayer,
    ScaleRule,
    register,
)
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.geometry import covered_counts, window_output
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps


@dataclass(frozen=True)
class PoolAttributes(Attributes):
    """kernel_shape and strides are (height, width); padding is (top, left, bottom, right)."""

    kernel_shape: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_padding: bool = False  # average over the whole window instead of the covered positions
    total: bool = False  # of an average pool: the sum over the window

    def __post_init__(self) -> None:
        if min(*self.kernel_shape, *self.strides) < 1 or min(self.padding) < 0:
            raise AttributeRuleError("pool sizes must be positive and padding not negative", self, "positive integers")
        if any(p >= k for p, k in zip(self.padding, [*self.kernel_shape, *self.kernel_shape], strict=True)):
            raise AttributeRuleError(
                "padding must be smaller than the window", self.padding, f"below {self.kernel_shape}"
            )

    def output_hw(self, shape: Sequence[int]) -> tuple[int, int]:
        top, left, bottom, right = self.padding
        return (
            window_output(shape[1], self.kernel_shape[0], self.strides[0], top, bottom),
            window_output(shape[2], self.kernel_shape[1], self.strides[1], left, right),
        )


class _Pool(LayerDefinition):
    attributes: type[Attributes] = PoolAttributes  # pyright: ignore[reportIncompatibleVariableOverride]

    @classmethod
    def window_of(cls, attributes: Any, shape: Sequence[int]) -> PoolAttributes:
        """The window as plain pool attributes (a global pool's window is the whole input)."""
        return attributes

    @classmethod
    def output_shape(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        need_rank(shapes[0], 4, where)
        height, width = cls.window_of(attributes, shapes[0]).output_hw(shapes[0])
        if height < 1 or width < 1:
            raise shape_error(
                where, "the window is larger than the padded input", f"{height}×{width} outputs", "at least 1×1"
            )
        return (-1, height, width, shapes[0][3])

    @classmethod
    def counts(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Counts:
        window = cls.window_of(attributes, shapes[0])
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(operations=elements * window.kernel_shape[0] * window.kernel_shape[1], output_elements=elements)


@register
class MaxPool(_Pool):
    kind = "maxpool"
    prefix = "maxpool"
    scale_rule = ScaleRule.PASSES
    description = "Maximum over a window; padding is ignored."

    @classmethod
    def forward_float(
        cls,
        ops: FloatOps[AnyTensor],
        attributes: PoolAttributes,
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.window_max(
            inputs[0], window=attributes.kernel_shape, strides=attributes.strides, padding=attributes.padding
        )

    @classmethod
    def forward_integer(
        cls,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        attributes: PoolAttributes,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.window_max(
            inputs[0], window=attributes.kernel_shape, strides=attributes.strides, padding=attributes.padding
        )


@register
class AveragePool(_Pool):
    kind = "avgpool"
    prefix = "avgpool"
    description = (
        "Average (or sum) over a window; params (quantised): counts uint32 [n], ascending, one (M, s) column each."
    )

    @classmethod
    def frozen(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen:
        return Frozen({"counts": Parameter(None, "uint32")}, (1,), 1, np.unique(cls.divisors(attributes, shapes[0])))

    @classmethod
    def divisors(cls, attributes: Any, shape: Sequence[int]) -> Array:
        """int64 ``[H, W]``: the number each output position's sum is divided by."""
        window = cls.window_of(attributes, shape)
        output = window.output_hw(shape)
        if window.total:
            return np.ones(output, np.int64)
        if window.count_padding:
            return np.full(output, window.kernel_shape[0] * window.kernel_shape[1], np.int64)
        return covered_counts(shape[1:3], window.kernel_shape, window.strides, window.padding, output)

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        w = cls.window_of(attributes, (-1, *tuple(inputs[0].shape)[1:]))
        mean = ops.window_mean(
            inputs[0], window=w.kernel_shape, strides=w.strides, padding=w.padding,
            count_padding=w.count_padding or w.total,
        )  # fmt: skip
        return ops.affine(mean, float(w.kernel_shape[0] * w.kernel_shape[1]), 0.0) if w.total else mean

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        shape = (-1, *tuple(inputs[0].shape)[1:])
        w = cls.window_of(attributes, shape)
        total = ops.window_sum(
            inputs[0], quantized.inputs[0].zero_point, window=w.kernel_shape, strides=w.strides, padding=w.padding
        )
        choice = np.searchsorted(quantized.param("counts", np.uint32, 1), cls.divisors(attributes, shape))
        return ops.requantize_by_position(total, choice, quantized.rq, quantized.output.bits)


@dataclass(frozen=True)
class GlobalPoolAttributes(Attributes):
    """A global pool has no attributes: its window is the input."""


@register
class GlobalAveragePool(AveragePool):
    kind = "global_avgpool"
    prefix = "avgpool"
    attributes = GlobalPoolAttributes
    description = "Average over height and width."

    @classmethod
    def window_of(cls, attributes: Any, shape: Sequence[int]) -> PoolAttributes:
        return PoolAttributes(kernel_shape=(shape[1], shape[2]))
