# SPDX-License-Identifier: Apache-2.0
"""Softmax over the last axis, and the layers it decomposes into.

softmax(x) = e / Σ e with e = exp(x - max x): ``reduce_max``, ``ew_sub`` with activation exp (16 bit),
``reciprocal_sum`` (16 bit), ``ew_mult``. Each is exact on integers, so the whole is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.layers.base import (
    AttributeRuleError,
    Attributes,
    Frozen,
    LayerDefinition,
    Parameter,
    QuantizedLayer,
    ScaleRule,
    register,
)
from headrace.layers.shapes import shape_error
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps


@dataclass(frozen=True)
class SoftmaxAttributes(Attributes):
    """Softmax is over the last axis (channels)."""


@register
class Softmax(LayerDefinition):
    kind = "softmax"
    prefix = "softmax"
    attributes = SoftmaxAttributes
    scale_rule = ScaleRule.FIXED
    has_integer_form = False
    description = "Softmax over channels; decomposed before quantisation."

    @classmethod
    def output_shape(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        return tuple(shapes[0])

    @classmethod
    def fixed_range(cls, attributes: Any) -> tuple[float, float]:
        return (0.0, 1.0)

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return ops.softmax(inputs[0])


@dataclass(frozen=True)
class ReduceAttributes(Attributes):
    """axes count from the first non-batch axis; reduced axes keep size 1."""

    axes: tuple[int, ...] = (2,)

    def __post_init__(self) -> None:
        if not self.axes or sorted(set(self.axes)) != list(self.axes) or min(self.axes) < 0:
            raise AttributeRuleError("axes must be ascending and distinct", self.axes, "e.g. [2]")


class _Reduce(LayerDefinition):
    attributes = ReduceAttributes

    @classmethod
    def output_shape(
        cls, attributes: ReduceAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        if attributes.axes[-1] >= len(shapes[0]) - 1:
            raise shape_error(where, "the axis does not exist", list(attributes.axes), f"0 … {len(shapes[0]) - 2}")
        return tuple(1 if i - 1 in attributes.axes else s for i, s in enumerate(shapes[0]))


@register
class ReduceMax(_Reduce):
    kind = "reduce_max"
    prefix = "reduce_max"
    scale_rule = ScaleRule.PASSES
    description = "Maximum over axes; codes pass."

    @classmethod
    def forward_float(
        cls,
        ops: FloatOps[AnyTensor],
        attributes: ReduceAttributes,
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.reduce_max(inputs[0], [a + 1 for a in attributes.axes])

    @classmethod
    def forward_integer(
        cls,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        attributes: ReduceAttributes,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.reduce_max(inputs[0], [a + 1 for a in attributes.axes])


@register
class ReciprocalSum(_Reduce):
    kind = "reciprocal_sum"
    prefix = "reciprocal_sum"
    description = "1 / Σ x over axes by normalised look-up; params (quantised): reciprocal_table uint16 [2^k]."

    @classmethod
    def frozen(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen:
        return Frozen({"reciprocal_table": Parameter(None, "uint16")}, (1,), 1)

    @classmethod
    def forward_float(
        cls,
        ops: FloatOps[AnyTensor],
        attributes: ReduceAttributes,
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return ops.reciprocal(ops.reduce_sum(inputs[0], [a + 1 for a in attributes.axes]))

    @classmethod
    def forward_integer(
        cls,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        attributes: ReduceAttributes,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        v = ops.reduce_sum(inputs[0], quantized.inputs[0].zero_point, [a + 1 for a in attributes.axes])
        return ops.reciprocal(v, quantized.param("reciprocal_table", np.uint16, 1), quantized.rq, quantized.output.bits)
