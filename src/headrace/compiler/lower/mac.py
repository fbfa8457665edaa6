# SPDX-License-Identifier: Apache-2.0
"""Convolutions, fully connected layers and per-channel multiply-add."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.lowering import Context, lowers, need_shape, requantized, terms_of
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
    weights: Array,
    channel_axis: int,
    window: Window = POINT,
    groups: int = 1,
) -> Kernel:
    """Sums of products and their rounding; the largest sum of a channel follows from its weights and bias.

    Args:
        weights: int8, or int16 in −255 … 255, as the device has them.
        channel_axis: of the weights, along the output channels.
    """
    bias = context.quantized.param("bias_q", np.int32, 1)
    need_shape(context, "bias_q", bias, (context.layer.frame_shape[2],))
    own = (*_stored(weights, channel_axis), Constant(Role.BIAS, bias, 0))
    kernel = context.kernel(opcode, None, own, window, groups)
    x, *residual = context.reach
    sums = _magnitudes(weights, channel_axis) * x + np.abs(bias.astype(np.int64))
    accumulators = [sums.tolist(), *([r] for r in residual)]
    return requantized(context, kernel, terms_of(context, operation), accumulators)


def _others(weights: Array, channel_axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(weights.ndim) if i != channel_axis)


def _magnitudes(weights: Array, channel_axis: int) -> Array:
    """int64: Σ\\|w\\| of each channel."""
    return np.abs(weights.astype(np.int16)).sum(axis=_others(weights, channel_axis), dtype=np.int64)


def _stored(weights: Array, channel_axis: int) -> tuple[Constant, ...]:
    """Weights as the device takes them: int8, and where differences are beyond that, with a zero point per channel.

    Which zero point a channel has is of no consequence: the differences are the same. It is the one nearest to 0.
    """
    if weights.dtype == np.int8:
        return (Constant(Role.WEIGHTS, np.ascontiguousarray(weights), channel_axis),)
    others = _others(weights, channel_axis)
    low, high = weights.min(axis=others), weights.max(axis=others)
    zeros = np.clip(0, -128 - low, 127 - high).astype(np.int16)
    shape = [-1 if i == channel_axis else 1 for i in range(weights.ndim)]
    codes = (weights + zeros.reshape(shape)).astype(np.int8)
    return (
        Constant(Role.WEIGHTS, np.ascontiguousarray(codes), channel_axis),
        Constant(Role.WEIGHT_ZEROS, zeros.astype(np.int8), 0),
    )


@lowers(Convolution)
def convolution(context: Context, operation: Convolution) -> Kernel:
    """Dense or grouped convolution: HWIO becomes OHWI."""
    hwio = context.quantized.weights(4)
    need_shape(context, "kernel_q", hwio, operation.kernel_shape)
    ohwi = hwio.transpose(3, 0, 1, 2)
    return _summing(context, operation, Opcode.CONVOLUTION, ohwi, 0, _window(operation), operation.groups)


@lowers(DepthwiseConvolution)
def depthwise(context: Context, operation: DepthwiseConvolution) -> Kernel:
    """Depthwise convolution: ``[kh, kw, 1, c]`` becomes ``[kh, kw, c]``."""
    hwio = context.quantized.weights(4)
    need_shape(context, "kernel_q", hwio, operation.kernel_shape)
    weights = hwio[:, :, 0, :]
    return _summing(context, operation, Opcode.DEPTHWISE, weights, 2, _window(operation), operation.groups)


@lowers(Dense)
def dense(context: Context, operation: Dense) -> Kernel:
    """A fully connected layer is a 1×1 convolution of a 1×1×C frame."""
    matrix = context.quantized.weights(2)
    need_shape(context, "kernel_q", matrix, operation.kernel_shape)
    return _summing(context, operation, Opcode.CONVOLUTION, matrix.T[:, None, None, :], 0)


@lowers(Normalization, BatchNorm)
def per_channel(context: Context, operation: Normalization | BatchNorm) -> Kernel:
    """Per-channel multiply-add is a 1×1 depthwise convolution."""
    channels = context.layer.frame_shape[2]
    weights = context.quantized.weights(4)
    need_shape(context, "kernel_q", weights, (1, 1, 1, channels))
    return _summing(context, operation, Opcode.DEPTHWISE, weights[:, :, 0, :], 2, groups=channels)
