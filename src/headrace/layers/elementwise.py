# SPDX-License-Identifier: Apache-2.0
"""Element-wise layers of two tensors, with broadcast over H, W and C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.hn import Array
from headrace.layers.activation import ActivationAttributes
from headrace.layers.base import Frozen, LayerDefinition, QuantizedLayer, register
from headrace.layers.shapes import broadcast
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps


@dataclass(frozen=True)
class BinaryAttributes(ActivationAttributes):
    """Element-wise layers have two accumulators, or a product whose sign is not one operand's."""

    one_accumulator: ClassVar[bool] = False


class _Binary(LayerDefinition):
    attributes = BinaryAttributes
    operands = (2, 2)

    @classmethod
    def output_shape(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        return broadcast(shapes, where)


class _Sum(_Binary):
    """x ± y: two terms, one rounding; the sign is in the second multiplier."""

    sign: ClassVar[int] = 1

    @classmethod
    def frozen(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen:
        return Frozen({}, (2,), output[-1])

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        terms = [ops.center(x, q.zero_point) for x, q in zip(inputs, quantized.inputs, strict=True)]
        return ops.requantize(terms, quantized.rq, quantized.output.bits)


@register
class Add(_Sum):
    kind = "ew_add"
    prefix = "ew_add"
    description = "Element-wise sum."

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return attributes.evaluate(ops, ops.add(inputs[0], inputs[1]), params)


@register
class Subtract(_Sum):
    kind = "ew_sub"
    prefix = "ew_sub"
    sign = -1
    description = "Element-wise difference."

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return attributes.evaluate(ops, ops.subtract(inputs[0], inputs[1]), params)


@register
class Multiply(_Binary):
    kind = "ew_mult"
    prefix = "ew_mult"
    description = "Element-wise product (squeeze-and-excite gates included)."

    @classmethod
    def frozen(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen:
        return Frozen({}, (1,), output[-1])

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return attributes.evaluate(ops, ops.multiply(inputs[0], inputs[1]), params)

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        a, b = (ops.center(x, q.zero_point) for x, q in zip(inputs, quantized.inputs, strict=True))
        return ops.requantize([ops.multiply(a, b)], quantized.rq, quantized.output.bits)
