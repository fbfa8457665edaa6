# SPDX-License-Identifier: Apache-2.0
"""Convolutions, fully connected layers and per-channel multiply-add."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.base import Context, Kernel, lowers, need_shape, set_requantize, terms_of
from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hef.microcode import Opcode
from headrace.hn import Array
from headrace.layers.mac import Convolving


def _window(a: Convolving) -> dict[str, int]:
    return {
        "kernel_height": a.kernel_shape[0],
        "kernel_width": a.kernel_shape[1],
        "stride_height": a.strides[0],
        "stride_width": a.strides[1],
        "dilation_height": a.dilations[0],
        "dilation_width": a.dilations[1],
        "pad_top": a.padding[0],
        "pad_left": a.padding[1],
    }


def _weights(context: Context, kernel: Kernel, weights: Array, bias: Array) -> Kernel:
    need_shape(context, "bias_q", bias, (kernel.shape[2],))
    if any(q.bits != 8 for q in context.quantized.inputs):
        rule = "multiply-accumulate layers that read 16-bit tensors are not built yet"
        raise NotBuiltYetError(Diagnostic("E-COMPILE-16-BIT", context.layer.name, rule, "16 bits", "8-bit tensors"))
    kernel.constants["weight_offset"] = np.ascontiguousarray(weights)
    kernel.constants["bias_offset"] = bias
    return set_requantize(context, kernel, terms_of(context))


@lowers("conv")
def convolution(context: Context) -> Kernel:
    """Dense or grouped convolution: HWIO becomes OHWI."""
    a: Convolving = context.attributes
    hwio = context.quantized.param("kernel_q", np.int8, 4)
    need_shape(context, "kernel_q", hwio, a.kernel_shape)
    kernel = context.kernel(Opcode.CONVOLUTION, groups=a.groups, **_window(a))
    return _weights(context, kernel, hwio.transpose(3, 0, 1, 2), context.quantized.param("bias_q", np.int32, 1))


@lowers("dw")
def depthwise(context: Context) -> Kernel:
    """Depthwise convolution: ``[kh, kw, 1, c]`` becomes ``[kh, kw, c]``."""
    a: Convolving = context.attributes
    hwio = context.quantized.param("kernel_q", np.int8, 4)
    need_shape(context, "kernel_q", hwio, a.kernel_shape)
    kernel = context.kernel(Opcode.DEPTHWISE, groups=a.groups, **_window(a))
    return _weights(context, kernel, hwio[:, :, 0, :], context.quantized.param("bias_q", np.int32, 1))


@lowers("dense")
def dense(context: Context) -> Kernel:
    """A fully connected layer is a 1×1 convolution of a 1×1×C frame."""
    matrix = context.quantized.param("kernel_q", np.int8, 2)
    need_shape(context, "kernel_q", matrix, context.attributes.kernel_shape)
    weights = matrix.T[:, None, None, :]
    return _weights(
        context, context.kernel(Opcode.CONVOLUTION), weights, context.quantized.param("bias_q", np.int32, 1)
    )


@lowers("normalization", "batch_norm")
def per_channel(context: Context) -> Kernel:
    """Per-channel multiply-add is a 1×1 depthwise convolution."""
    channels = context.layer.frame_shape[2]
    weights = context.quantized.param("kernel_q", np.int8, 4)
    need_shape(context, "kernel_q", weights, (1, 1, 1, channels))
    kernel = context.kernel(Opcode.DEPTHWISE, groups=channels)
    return _weights(context, kernel, weights[:, :, 0, :], context.quantized.param("bias_q", np.int32, 1))
