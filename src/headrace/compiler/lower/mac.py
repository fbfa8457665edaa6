# SPDX-License-Identifier: Apache-2.0
"""Convolutions, fully connected layers and per-channel multiply-add."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.lowering import Context, lowers, need_shape, requantized, terms_of
from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hef.kernel import POINT, Constant, Kernel, Role, Window
from headrace.hef.microcode import Opcode
from headrace.hn import Array
from headrace.layers.mac import (
    BatchNorm,
    Convolution,
    Convolving,
    Dense,
    DepthwiseConvolution,
    MultiplyAccumulate,
    Normalization,
)


def _window(operation: Convolving) -> Window:
    top, left = operation.padding[:2]
    return Window(operation.kernel_shape[:2], operation.strides, operation.dilations, (top, left))


def _summing(
    context: Context,
    operation: MultiplyAccumulate,
    opcode: Opcode,
    weights: Constant,
    window: Window = POINT,
    groups: int = 1,
) -> Kernel:
    """Sums of products and their rounding; the largest sum of a channel follows from its weights and bias."""
    bias = context.quantized.param("bias_q", np.int32, 1)
    need_shape(context, "bias_q", bias, (context.layer.frame_shape[2],))
    if any(q.bits != 8 for q in context.quantized.inputs):
        rule = "multiply-accumulate layers that read 16-bit tensors are not built yet"
        raise NotBuiltYetError(Diagnostic("E-COMPILE-16-BIT", context.layer.name, rule, "16 bits", "8-bit tensors"))
    kernel = context.kernel(opcode, None, (weights, Constant(Role.BIAS, bias, 0)), window, groups)
    x, *residual = context.reach
    sums = _magnitudes(weights) * x + np.abs(bias.astype(np.int64))
    accumulators = [sums.tolist(), *([r] for r in residual)]
    return requantized(context, kernel, terms_of(context, operation), accumulators)


def _magnitudes(weights: Constant) -> Array:
    """int64: Σ\\|w\\| of each channel."""
    others = tuple(i for i in range(weights.array.ndim) if i != weights.channel_axis)
    return np.abs(weights.array.astype(np.int16)).sum(axis=others, dtype=np.int64)


def _weights(array: Array, channel_axis: int) -> Constant:
    return Constant(Role.WEIGHTS, np.ascontiguousarray(array), channel_axis)


@lowers(Convolution)
def convolution(context: Context, operation: Convolution) -> Kernel:
    """Dense or grouped convolution: HWIO becomes OHWI."""
    hwio = context.quantized.param("kernel_q", np.int8, 4)
    need_shape(context, "kernel_q", hwio, operation.kernel_shape)
    weights = _weights(hwio.transpose(3, 0, 1, 2), 0)
    return _summing(context, operation, Opcode.CONVOLUTION, weights, _window(operation), operation.groups)


@lowers(DepthwiseConvolution)
def depthwise(context: Context, operation: DepthwiseConvolution) -> Kernel:
    """Depthwise convolution: ``[kh, kw, 1, c]`` becomes ``[kh, kw, c]``."""
    hwio = context.quantized.param("kernel_q", np.int8, 4)
    need_shape(context, "kernel_q", hwio, operation.kernel_shape)
    weights = _weights(hwio[:, :, 0, :], 2)
    return _summing(context, operation, Opcode.DEPTHWISE, weights, _window(operation), operation.groups)


@lowers(Dense)
def dense(context: Context, operation: Dense) -> Kernel:
    """A fully connected layer is a 1×1 convolution of a 1×1×C frame."""
    matrix = context.quantized.param("kernel_q", np.int8, 2)
    need_shape(context, "kernel_q", matrix, operation.kernel_shape)
    return _summing(context, operation, Opcode.CONVOLUTION, _weights(matrix.T[:, None, None, :], 0))


@lowers(Normalization, BatchNorm)
def per_channel(context: Context, operation: Normalization | BatchNorm) -> Kernel:
    """Per-channel multiply-add is a 1×1 depthwise convolution."""
    channels = context.layer.frame_shape[2]
    weights = context.quantized.param("kernel_q", np.int8, 4)
    need_shape(context, "kernel_q", weights, (1, 1, 1, channels))
    return _summing(context, operation, Opcode.DEPTHWISE, _weights(weights[:, :, 0, :], 2), groups=channels)
