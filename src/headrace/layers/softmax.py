# SPDX-License-Identifier: Apache-2.0
"""Softmax over the last axis, and the layers it decomposes into.

softmax(x) = e / Σ e with e = exp(x - max x): ``reduce_max``, ``ew_sub`` with activation exp (16 bit),
``reciprocal_sum`` (16 bit), ``ew_mult``. Each is exact on integers, so the whole is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.layers.attributes import AttributeRuleError
from headrace.layers.operation import Frozen, Operation, Parameter, QuantizedLayer, ScaleRule, Shape, register
from headrace.layers.rows import WHOLE, RowCost, has_rows, row_by_row
from headrace.layers.shapes import shape_error
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array


@register
@dataclass(frozen=True)
class Softmax(Operation):
    """Softmax is over the last axis (channels)."""

    kind = "softmax"
    prefix = "softmax"
    scale_rule = ScaleRule.FIXED
    has_integer_form = False
    description = "Softmax over channels; decomposed before quantization."

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        return tuple(shapes[0])

    def fixed_range(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        # Before decomposition: maximum, exponential, reciprocal of the sum, product; one controller each.
        return row_by_row(shapes, controllers=4)

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return ops.softmax(inputs[0])


@dataclass(frozen=True)
class _Reduce(Operation):
    """axes count from the first non-batch axis; reduced axes keep size 1."""

    axes: tuple[int, ...] = (2,)

    def __post_init__(self) -> None:
        if not self.axes or sorted(set(self.axes)) != list(self.axes) or min(self.axes) < 0:
            raise AttributeRuleError("axes must be ascending and distinct", self.axes, "e.g. [2]")

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        if self.axes[-1] >= len(shapes[0]) - 1:
            raise shape_error(where, "the axis does not exist", list(self.axes), f"0 … {len(shapes[0]) - 2}")
        return tuple(1 if i - 1 in self.axes else s for i, s in enumerate(shapes[0]))

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        sums_rows = 0 in self.axes and has_rows(output)
        return RowCost((WHOLE,)) if sums_rows else row_by_row(shapes)


@register
@dataclass(frozen=True)
class ReduceMax(_Reduce):
    """The largest element."""

    kind = "reduce_max"
    prefix = "reduce_max"
    scale_rule = ScaleRule.PASSES
    description = "Maximum over axes; codes pass."

    def forward_float(
        self,
        ops: FloatOps[AnyTensor],
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.reduce_max(inputs[0], [a + 1 for a in self.axes])

    def forward_integer(
        self,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.reduce_max(inputs[0], [a + 1 for a in self.axes])


@register
@dataclass(frozen=True)
class ReciprocalSum(_Reduce):
    """One over the sum."""

    kind = "reciprocal_sum"
    prefix = "reciprocal_sum"
    description = "1 / Σ x over axes by normalized look-up; params (quantized): reciprocal_table uint16 [2^k]."

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return Frozen({"reciprocal_table": Parameter(None, "uint16")}, (1,), 1)

    def forward_float(
        self,
        ops: FloatOps[AnyTensor],
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.reciprocal(ops.reduce_sum(inputs[0], [a + 1 for a in self.axes]))

    def forward_integer(
        self,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        v = ops.reduce_sum(inputs[0], quantized.inputs[0].zero_point, [a + 1 for a in self.axes])
        return ops.reciprocal(v, quantized.param("reciprocal_table", np.uint16, 1), quantized.rq, quantized.output.bits)
