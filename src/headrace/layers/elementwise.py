# SPDX-License-Identifier: Apache-2.0
"""Element-wise layers of two tensors, with broadcast over H, W and C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from headrace.layers.activation import Activated
from headrace.layers.operation import Frozen, QuantizedLayer, Shape, register
from headrace.layers.shapes import broadcast
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array


@dataclass(frozen=True)
class _Binary(Activated):
    """Element-wise layers have two accumulators, or a product whose sign is not one operand's."""

    arity = (2, 2)
    one_accumulator: ClassVar[bool] = False
    reads_wide = True
    elementwise = True

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        return broadcast(shapes, where)


@dataclass(frozen=True)
class _Sum(_Binary):
    """x ± y: two terms, one rounding; the sign is in the second multiplier."""

    sign: ClassVar[int] = 1

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return Frozen({}, (2,), output[-1])

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        terms = [ops.center(x, q.zero_point) for x, q in zip(inputs, quantized.inputs, strict=True)]
        return ops.requantize(terms, quantized.rq, quantized.output.bits)


@register
@dataclass(frozen=True)
class Add(_Sum):
    """x + y."""

    kind = "ew_add"
    prefix = "ew_add"
    description = "Element-wise sum."

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return self.evaluate(ops, ops.add(inputs[0], inputs[1]), params)


@register
@dataclass(frozen=True)
class Subtract(_Sum):
    """x - y."""

    kind = "ew_sub"
    prefix = "ew_sub"
    sign = -1
    description = "Element-wise difference."

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return self.evaluate(ops, ops.subtract(inputs[0], inputs[1]), params)


@register
@dataclass(frozen=True)
class Multiply(_Binary):
    """x · y."""

    kind = "ew_mult"
    prefix = "ew_mult"
    description = "Element-wise product (squeeze-and-excite gates included)."

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return Frozen({}, (1,), output[-1])

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return self.evaluate(ops, ops.multiply(inputs[0], inputs[1]), params)

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        a, b = (ops.center(x, q.zero_point) for x, q in zip(inputs, quantized.inputs, strict=True))
        return ops.requantize([ops.multiply(a, b)], quantized.rq, quantized.output.bits)
