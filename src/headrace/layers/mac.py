# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulate layers: convolution, depthwise convolution, dense, and per-channel multiply-add.

Float meaning: ``y = act(bias + Σ x·w [+ residual])``. Integer meaning: one exact accumulation and one requantization,
with the residual as a second term of the same rounding (docs/numerics.md, sections 3 and 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.layers.activation import Activated, activate
from headrace.layers.attributes import AttributeRuleError
from headrace.layers.operation import WEIGHT_CODES, Counts, Frozen, Parameter, QuantizedLayer, Shape, Weights, register
from headrace.layers.rows import SAME, WHOLE, Family, RowCost, RowKind, RowRule
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.geometry import window_output
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array

#: Parameter of float networks, float ``[output channels]``: the kernel's numbers are whole multiples of it, as the
#: model's own file had them. What changes the kernel may leave it behind: what is no multiple any more is rounded anew.
KERNEL_SCALE = "kernel_scale"


def _add_residual(ops: FloatOps[AnyTensor], y: AnyTensor, inputs: Sequence[AnyTensor]) -> AnyTensor:
    return ops.add(y, inputs[1]) if len(inputs) > 1 else y


@dataclass(frozen=True)
class MultiplyAccumulate(Activated):
    """Products with constants in one accumulator per output channel, and one requantization per channel."""

    requantizes_by_channel = True

    def _frozen(self, kernel: Shape, terms: tuple[int, ...]) -> Frozen:
        found = {"kernel_q": Parameter(kernel, WEIGHT_CODES), "bias_q": Parameter((kernel[-1],), "int32")}
        return Frozen(found, terms, kernel[-1])

    def _kernel_and_bias(self, kernel: Shape) -> dict[str, Parameter]:
        channels = kernel[-1]
        own = {"kernel": Parameter(kernel), "bias": Parameter((channels,), required=False)}
        own[KERNEL_SCALE] = Parameter((channels,), required=False)
        return own | self.activation_parameters(channels)


@dataclass(frozen=True)
class Convolving(MultiplyAccumulate):
    """kernel_shape is [kernel height, kernel width, input channels per group, output channels] (HWIO)."""

    arity = (1, 2)
    weights = Weights("kernel", 2, 3)
    additive = "bias"

    kernel_shape: tuple[int, int, int, int] = (1, 1, 1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    elementwise_add: bool = False  # a second input is added before the activation

    @property
    def by_sign(self) -> bool:
        return super().by_sign and not self.elementwise_add

    @property
    def is_linear(self) -> bool:
        return super().is_linear and not self.elementwise_add

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

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        need_rank(shapes[0], 4, where)
        channels = self.kernel_shape[2] * self.groups
        if shapes[0][3] != channels:
            raise shape_error(
                where, "the kernel's input channels × groups must equal the input's channels", shapes[0][3], channels
            )
        height, width = self.output_hw(shapes[0])
        if height < 1 or width < 1:
            raise shape_error(
                where, "the kernel is larger than the padded input", f"{height}×{width} outputs", "at least 1×1"
            )
        result = (-1, height, width, self.kernel_shape[3])
        if self.elementwise_add != (len(shapes) == 2):
            raise shape_error(
                where, "elementwise_add needs exactly one second input", len(shapes), 1 + self.elementwise_add
            )
        if len(shapes) == 2 and tuple(shapes[1]) != result:
            raise shape_error(where, "the added tensor must have the output's shape", list(shapes[1]), list(result))
        return result

    def parameters(self, shapes: Sequence[Shape], output: Shape) -> dict[str, Parameter]:
        return self._kernel_and_bias(tuple(self.kernel_shape))

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        terms = (2,) if len(shapes) == 2 else self.numbers_of_terms
        return self._frozen(tuple(self.kernel_shape), terms)

    def forward_float(
        self,
        ops: FloatOps[AnyTensor],
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        a = self
        y = ops.convolve(
            inputs[0],
            params["kernel"],
            params.get("bias"),
            strides=a.strides,
            padding=a.padding,
            dilations=a.dilations,
            groups=a.groups,
        )
        return activate(ops, self, params, _add_residual(ops, y, inputs))

    def forward_integer(
        self,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        a = self
        total = ops.convolve(
            inputs[0],
            quantized.inputs[0].zero_point,
            quantized.weights(4),
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

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        rows, columns, _, _ = self.kernel_shape
        window = RowRule(RowKind.WINDOW, rows, self.strides[0], self.dilations[0], self.padding[0])
        return RowCost(
            (window, *(SAME for _ in shapes[1:])),  # a fused residual is read row by row
            Family.DENSE if self.groups == 1 else Family.GROUPED,
            window=(rows, columns),
            stride=self.strides[1],
            dilation=self.dilations[1],
            groups=self.groups,
        )

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        kh, kw, cin, cout = self.kernel_shape
        pixels = output[1] * output[2]
        macs = kh * kw * cin * cout * pixels
        extra = pixels * cout * len(shapes)
        return Counts(
            macs=macs, weights=kh * kw * cin * cout + cout, operations=2 * macs + extra, output_elements=pixels * cout
        )


@register
@dataclass(frozen=True)
class Convolution(Convolving):
    """A convolution of several input channels for each output channel."""

    kind = "conv"
    prefix = "conv"
    description = "2-D convolution, dense or grouped; params kernel [kh, kw, cin/groups, cout], bias [cout]."


@register
@dataclass(frozen=True)
class DepthwiseConvolution(Convolving):
    """A convolution of one input channel for each output channel."""

    kind = "dw"
    prefix = "dw"
    description = (
        "Depthwise convolution (groups = input channels = output channels); params kernel [kh, kw, 1, c], bias [c]."
    )

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        _, _, cin, cout = self.kernel_shape
        if cin != 1 or cout != self.groups:
            raise shape_error(
                where, "a depthwise kernel is [kh, kw, 1, groups]", self.kernel_shape, "cin 1, cout = groups"
            )
        return super().output_shape(shapes, where)


@register
@dataclass(frozen=True)
class Dense(MultiplyAccumulate):
    """kernel_shape is [inputs, outputs]."""

    kind = "dense"
    prefix = "fc"
    description = "Fully connected layer on a vector; params kernel [cin, cout], bias [cout]."
    weights = Weights("kernel", 0, 1)
    additive = "bias"

    kernel_shape: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.kernel_shape) < 1:
            raise AttributeRuleError("sizes must be positive", self.kernel_shape, "positive integers")

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        need_rank(shapes[0], 2, where)
        if shapes[0][1] != self.kernel_shape[0]:
            raise shape_error(
                where, "the kernel's inputs must equal the input's channels", shapes[0][1], self.kernel_shape[0]
            )
        return (-1, self.kernel_shape[1])

    def parameters(self, shapes: Sequence[Shape], output: Shape) -> dict[str, Parameter]:
        return self._kernel_and_bias(tuple(self.kernel_shape))

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return self._frozen(tuple(self.kernel_shape), self.numbers_of_terms)

    def forward_float(
        self,
        ops: FloatOps[AnyTensor],
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        return activate(ops, self, params, ops.dense(inputs[0], params["kernel"], params.get("bias")))

    def forward_integer(
        self,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        a = ops.dense(
            inputs[0],
            quantized.inputs[0].zero_point,
            quantized.weights(2),
            quantized.param("bias_q", np.int32, 1),
        )
        return ops.requantize(self.terms(ops, a, quantized.rq), quantized.rq, quantized.output.bits)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return RowCost((WHOLE,), Family.DENSE)

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        macs = self.kernel_shape[0] * self.kernel_shape[1]
        return Counts(macs=macs, weights=macs + output[1], operations=2 * macs, output_elements=output[1])


@dataclass(frozen=True)
class PerChannel(MultiplyAccumulate):
    """One factor and one offset per channel."""

    elementwise = True
    channelwise = True

    @staticmethod
    def scale_offset(params: Mapping[str, Array]) -> tuple[Array, Array]:
        """float64 ``[c]`` factors and offsets of the float meaning ``y = x·scale + offset``."""
        raise NotImplementedError

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        return tuple(shapes[0])

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return self._frozen((1, 1, 1, output[-1]), self.numbers_of_terms)

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        x = inputs[0]
        scale, offset = self.scale_offset(params)
        y = ops.add(
            ops.multiply(x, ops.constant(scale.astype(np.float32), x)), ops.constant(offset.astype(np.float32), x)
        )
        return self.evaluate(ops, y, params)

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        kernel = quantized.weights(4)
        bias = quantized.param("bias_q", np.int32, 1)
        channels = kernel.shape[3]
        x = inputs[0]
        vector = len(quantized.output_shape) == 2
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
        y = ops.requantize(self.terms(ops, a, quantized.rq), quantized.rq, quantized.output.bits)
        return ops.reshape(y, (channels,)) if vector else y

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return RowCost((SAME,), Family.GROUPED, groups=output[-1])

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(macs=elements, weights=2 * output[-1], operations=2 * elements, output_elements=elements)


@register
@dataclass(frozen=True)
class BatchNorm(PerChannel):
    """Multiply and add per channel."""

    kind = "batch_norm"
    prefix = "batch_norm"
    description = "Per-channel multiply-add that no convolution absorbs; params scale [c], offset [c]."
    additive = "offset"

    def parameters(self, shapes: Sequence[Shape], output: Shape) -> dict[str, Parameter]:
        channels = output[-1]
        own = {"scale": Parameter((channels,)), "offset": Parameter((channels,))}
        return own | self.activation_parameters(channels)

    @staticmethod
    def scale_offset(params: Mapping[str, Array]) -> tuple[Array, Array]:
        return params["scale"].astype(np.float64), params["offset"].astype(np.float64)


@register
@dataclass(frozen=True)
class Normalization(PerChannel):
    """Subtract and divide per channel."""

    kind = "normalization"
    prefix = "normalization"
    description = (
        "(x - mean) / std per channel on the device, so that the host sends raw images; params mean [c], std [c]."
    )

    def parameters(self, shapes: Sequence[Shape], output: Shape) -> dict[str, Parameter]:
        channels = output[-1]
        own = {"mean": Parameter((channels,)), "std": Parameter((channels,), nonzero=True)}
        return own | self.activation_parameters(channels)

    @staticmethod
    def scale_offset(params: Mapping[str, Array]) -> tuple[Array, Array]:
        mean, std = params["mean"].astype(np.float64), params["std"].astype(np.float64)
        return 1.0 / std, -mean / std
