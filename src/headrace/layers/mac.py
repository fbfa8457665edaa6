# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulate layers: convolution, depthwise convolution, dense, and per-channel multiply-add.

Float meaning: ``y = act(bias + Σ x·w [+ residual])``. Integer meaning: one exact accumulation and one requantisation,
with the residual as a second term of the same rounding (docs/numerics.md, sections 3 and 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.layers.activation import ActivationAttributes, activate
from headrace.layers.base import (
    AttributeRuleError,
    Counts,
    Frozen,
    LayerDefinition,
    Parameter,
    QuantizedLayer,
    register,
)
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.geometry import window_output
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps


@dataclass(frozen=True)
class ConvolutionAttributes(ActivationAttributes):
    """kernel_shape is [kernel height, kernel width, input channels per group, output channels] (HWIO)."""

    kernel_shape: tuple[int, int, int, int] = (1, 1, 1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    elementwise_add: bool = False  # a second input is added before the activation

    @property
    def by_sign(self) -> bool:
        return super().by_sign and not self.elementwise_add

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(*self.kernel_shape, *self.strides, *self.dilations, self.groups) < 1 or min(self.padding) < 0:
            raise AttributeRuleError(
                "convolution sizes must be positive and padding not negative", self, "positive integers"
            )
        if self.kernel_shape[3] % self.groups:
            raise AttributeRuleError(
                "groups must divide the output channels", f"{self.groups}, {self.kernel_shape[3]}", "a divisor"
            )
        extents = [(k - 1) * d + 1 for k, d in zip(self.kernel_shape, self.dilations, strict=False)]
        if any(p >= e for p, e in zip(self.padding, [*extents, *extents], strict=True)):
            raise AttributeRuleError(
                "padding must be smaller than the kernel's extent", self.padding, f"below {extents}"
            )

    def output_hw(self, shape: Sequence[int]) -> tuple[int, int]:
        top, left, bottom, right = self.padding
        return (
            window_output(shape[1], self.kernel_shape[0], self.strides[0], top, bottom, self.dilations[0]),
            window_output(shape[2], self.kernel_shape[1], self.strides[1], left, right, self.dilations[1]),
        )


def _kernel_and_bias(attributes: ConvolutionAttributes | DenseAttributes) -> dict[str, Parameter]:
    channels = attributes.kernel_shape[-1]
    return {
        "kernel": Parameter(tuple(attributes.kernel_shape)),
        "bias": Parameter((channels,), required=False),
        **attributes.parameters(channels),
    }


def _frozen(kernel: tuple[int, ...], terms: tuple[int, ...]) -> Frozen:
    found = {"kernel_q": Parameter(kernel, "int8"), "bias_q": Parameter((kernel[-1],), "int32")}
    return Frozen(found, terms, kernel[-1])


def _add_residual(ops: FloatOps[AnyTensor], y: AnyTensor, inputs: Sequence[AnyTensor]) -> AnyTensor:
    return ops.add(y, inputs[1]) if len(inputs) > 1 else y


@register
class Convolution(LayerDefinition):
    kind = "conv"
    prefix = "conv"
    attributes = ConvolutionAttributes
    operands = (1, 2)
    description = "2-D convolution, dense or grouped; params kernel [kh, kw, cin/groups, cout], bias [cout]."

    @classmethod
    def output_shape(
        cls, attributes: ConvolutionAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        need_rank(shapes[0], 4, where)
        channels = attributes.kernel_shape[2] * attributes.groups
        if shapes[0][3] != channels:
            raise shape_error(
                where, "the kernel's input channels × groups must equal the input's channels", shapes[0][3], channels
            )
        height, width = attributes.output_hw(shapes[0])
        if height < 1 or width < 1:
            raise shape_error(
                where, "the kernel is larger than the padded input", f"{height}×{width} outputs", "at least 1×1"
            )
        result = (-1, height, width, attributes.kernel_shape[3])
        if attributes.elementwise_add != (len(shapes) == 2):
            raise shape_error(
                where, "elementwise_add needs exactly one second input", len(shapes), 1 + attributes.elementwise_add
            )
        if len(shapes) == 2 and tuple(shapes[1]) != result:
            raise shape_error(where, "the added tensor must have the output's shape", list(shapes[1]), list(result))
        return result

    @classmethod
    def parameters(
        cls, attributes: ConvolutionAttributes, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> dict[str, Parameter]:
        return _kernel_and_bias(attributes)

    @classmethod
    def frozen(
        cls, attributes: ConvolutionAttributes, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> Frozen:
        terms = (2,) if len(shapes) == 2 else attributes.numbers_of_terms
        return _frozen(tuple(attributes.kernel_shape), terms)

    @classmethod
    def forward_float(
        cls,
        ops: FloatOps[AnyTensor],
        attributes: ConvolutionAttributes,
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        a = attributes
        y = ops.convolve(
            inputs[0],
            params["kernel"],
            params.get("bias"),
            strides=a.strides,
            padding=a.padding,
            dilations=a.dilations,
            groups=a.groups,
        )
        return activate(ops, a, params, _add_residual(ops, y, inputs))

    @classmethod
    def forward_integer(
        cls,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        attributes: ConvolutionAttributes,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        a = attributes
        total = ops.convolve(
            inputs[0],
            quantized.inputs[0].zero_point,
            quantized.param("kernel_q", np.int8, 4),
            quantized.param("bias_q", np.int32, 1),
            strides=a.strides,
            padding=a.padding,
            dilations=a.dilations,
            groups=a.groups,
        )
        if len(inputs) > 1:
            terms = [total, ops.center(inputs[1], quantized.inputs[1].zero_point)]
        else:
            terms = a.terms(ops, total, quantized.rq)
        return ops.requantize(terms, quantized.rq, quantized.output.bits)

    @classmethod
    def counts(
        cls, attributes: ConvolutionAttributes, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> Counts:
        kh, kw, cin, cout = attributes.kernel_shape
        pixels = output[1] * output[2]
        macs = kh * kw * cin * cout * pixels
        extra = pixels * cout * len(shapes)
        return Counts(
            macs=macs, weights=kh * kw * cin * cout + cout, operations=2 * macs + extra, output_elements=pixels * cout
        )


@register
class DepthwiseConvolution(Convolution):
    kind = "dw"
    prefix = "dw"
    description = (
        "Depthwise convolution (groups = input channels = output channels); params kernel [kh, kw, 1, c], bias [c]."
    )

    @classmethod
    def output_shape(
        cls, attributes: ConvolutionAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        _, _, cin, cout = attributes.kernel_shape
        if cin != 1 or cout != attributes.groups:
            raise shape_error(
                where, "a depthwise kernel is [kh, kw, 1, groups]", attributes.kernel_shape, "cin 1, cout = groups"
            )
        return super().output_shape(attributes, shapes, where)


@dataclass(frozen=True)
class DenseAttributes(ActivationAttributes):
    """kernel_shape is [inputs, outputs]."""

    kernel_shape: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.kernel_shape) < 1:
            raise AttributeRuleError("sizes must be positive", self.kernel_shape, "positive integers")


@register
class Dense(LayerDefinition):
    kind = "dense"
    prefix = "fc"
    attributes = DenseAttributes
    description = "Fully connected layer on a vector; params kernel [cin, cout], bias [cout]."

    @classmethod
    def output_shape(
        cls, attributes: DenseAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        need_rank(shapes[0], 2, where)
        if shapes[0][1] != attributes.kernel_shape[0]:
            raise shape_error(
                where, "the kernel's inputs must equal the input's channels", shapes[0][1], attributes.kernel_shape[0]
            )
        return (-1, attributes.kernel_shape[1])

    @classmethod
    def parameters(
        cls, attributes: DenseAttributes, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> dict[str, Parameter]:
        return _kernel_and_bias(attributes)

    @classmethod
    def frozen(cls, attributes: DenseAttributes, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen:
        return _frozen(tuple(attributes.kernel_shape), attributes.numbers_of_terms)

    @classmethod
    def forward_float(
        cls,
        ops: FloatOps[AnyTensor],
        attributes: DenseAttributes,
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return activate(ops, attributes, params, ops.dense(inputs[0], params["kernel"], params.get("bias")))

    @classmethod
    def forward_integer(
        cls,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        attributes: DenseAttributes,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        a = ops.dense(
            inputs[0],
            quantized.inputs[0].zero_point,
            quantized.param("kernel_q", np.int8, 2),
            quantized.param("bias_q", np.int32, 1),
        )
        return ops.requantize(attributes.terms(ops, a, quantized.rq), quantized.rq, quantized.output.bits)

    @classmethod
    def counts(cls, attributes: DenseAttributes, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Counts:
        macs = attributes.kernel_shape[0] * attributes.kernel_shape[1]
        return Counts(macs=macs, weights=macs + output[1], operations=2 * macs, output_elements=output[1])


@register
class BatchNorm(LayerDefinition):
    kind = "batch_norm"
    prefix = "batch_norm"
    attributes = ActivationAttributes
    description = "Per-channel multiply-add that no convolution absorbs; params scale [c], offset [c]."

    @classmethod
    def output_shape(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        return tuple(shapes[0])

    @classmethod
    def parameters(
        cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> dict[str, Parameter]:
        channels = output[-1]
        own = {"scale": Parameter((channels,)), "offset": Parameter((channels,))}
        return own | attributes.parameters(channels)

    @classmethod
    def frozen(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen:
        return _frozen((1, 1, 1, output[-1]), attributes.numbers_of_terms)

    @classmethod
    def scale_offset(cls, params: Mapping[str, Array]) -> tuple[Array, Array]:
        """float64 ``[c]`` factors and offsets of the float meaning ``y = x·scale + offset``."""
        return params["scale"].astype(np.float64), params["offset"].astype(np.float64)

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        x = inputs[0]
        scale, offset = cls.scale_offset(params)
        y = ops.add(
            ops.multiply(x, ops.constant(scale.astype(np.float32), x)), ops.constant(offset.astype(np.float32), x)
        )
        return attributes.evaluate(ops, y, params)

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        kernel = quantized.param("kernel_q", np.int8, 4)
        bias = quantized.param("bias_q", np.int32, 1)
        channels = kernel.shape[3]
        x = inputs[0]
        vector = len(quantized.layer.output_shape) == 2
        if vector:
            x = ops.reshape(x, (1, 1, channels))
        a = ops.convolve(
            x,
            quantized.inputs[0].zero_point,
            kernel,
            bias,
            strides=(1, 1),
            padding=(0, 0, 0, 0),
            dilations=(1, 1),
            groups=channels,
        )
        y = ops.requantize(attributes.terms(ops, a, quantized.rq), quantized.rq, quantized.output.bits)
        return ops.reshape(y, (channels,)) if vector else y

    @classmethod
    def counts(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Counts:
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(macs=elements, weights=2 * output[-1], operations=2 * elements, output_elements=elements)


@register
class Normalization(BatchNorm):
    kind = "normalization"
    prefix = "normalization"
    description = (
        "(x - mean) / std per channel on the device, so that the host sends raw images; params mean [c], std [c]."
    )

    @classmethod
    def parameters(
        cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> dict[str, Parameter]:
        channels = output[-1]
        own = {"mean": Parameter((channels,)), "std": Parameter((channels,), nonzero=True)}
        return own | attributes.parameters(channels)

    @classmethod
    def scale_offset(cls, params: Mapping[str, Array]) -> tuple[Array, Array]:
        mean, std = params["mean"].astype(np.float64), params["std"].astype(np.float64)
        return 1.0 / std, -mean / std
