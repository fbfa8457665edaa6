# SPDX-License-Identifier: Apache-2.0
"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, and the two ends of a dilated convolution written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.schema import TRANSPOSE_CONV_BIAS
from headrace.frontends.graph import Unsupported
from headrace.frontends.transposed_padding import transposed_padding
from headrace.hn import Array

_DILATED = "SPACE_TO_BATCH_ND, one convolution with stride 1, BATCH_TO_SPACE_ND, with constant blocks"


def _kernel(operation: Operation, index: int) -> Array:
    weight = operation.array(index, "the kernel")
    if weight.ndim != 4 or 0 in weight.shape:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", "four sizes above 0")
    return weight


def _bias(operation: Operation, index: int) -> list[ir.Value | None]:
    return [operation.value(index)] if operation.has(index) else []


def positive(operation: Operation, *options: str) -> list[int]:
    """Options that must be positive."""
    values = [operation.integer(option) for option in options]
    if min(values) < 1:
        raise Unsupported(f"{', '.join(options)} are {values}", "positive integers")
    return values


def _convolve(operation: Operation, weight: Array, groups: int) -> None:
    """One convolution; ``weight`` is [outputs, inputs per group, height, width]."""
    attributes: dict[str, int | str | Sequence[int]] = {
        "group": groups,
        "kernel_shape": list(weight.shape[2:]),
        "strides": positive(operation, "stride_h", "stride_w"),
        "dilations": positive(operation, "dilation_h", "dilation_w"),
    }
    if operation.dilation is not None:
        attributes["dilations"] = operation.dilation.block
        attributes["pads"] = operation.dilation.padding
    elif operation.word("padding") == "SAME":
        attributes["auto_pad"] = "SAME_UPPER"
    image = operation.image(0)
    inputs = [image, operation.make(np.ascontiguousarray(weight)), *_bias(operation, 2)]
    operation.done_image(operation.emit("Conv", inputs, attributes))


@converts("CONV_2D")
def convolution(operation: Operation) -> None:
    weight = _kernel(operation, 1)  # outputs, height, width, inputs per group
    channels, per_group = operation.channels(0), weight.shape[3]
    if channels % per_group:
        raise Unsupported(f"{channels} input channels and a kernel {list(weight.shape)} do not fit")
    _convolve(operation, weight.transpose(0, 3, 1, 2), channels // per_group)


@converts("DEPTHWISE_CONV_2D")
def depthwise(operation: Operation) -> None:
    weight = _kernel(operation, 1)  # 1, height, width, channels × multiplier
    channels = operation.channels(0)
    if weight.shape[0] != 1 or weight.shape[3] % channels:
        raise Unsupported(
            f"{channels} input channels and a kernel {list(weight.shape)} do not fit", "[1, height, width, outputs]"
        )
    _convolve(operation, weight.transpose(3, 0, 1, 2), channels)


@converts("TRANSPOSE_CONV")
def transposed(operation: Operation) -> None:
    # The size of the result is an input; where it is computed, the shape that the file states for the result holds.
    wanted = operation.integers(0, "the shape") if operation.is_constant(0) else []
    _transpose(operation, 2, 3, wanted)


@converts(TRANSPOSE_CONV_BIAS)
def transposed_with_bias(operation: Operation) -> None:
    _transpose(operation, 0, 2, [])


def _transpose(operation: Operation, data: int, bias: int, wanted: Sequence[int]) -> None:
    """A transposed convolution with the given operands; its result has the wanted shape or the one the file states."""
    weight = _kernel(operation, 1)  # outputs, height, width, inputs
    strides = positive(operation, "stride_h", "stride_w")
    shape = operation.tensor(data).shape
    if len(wanted) != 4:
        wanted = list(operation.builder.model.tensors[operation.record.outputs[0]].shape)
    if len(shape) != 4 or len(wanted) != 4 or min(shape[1:3]) < 1 or min(wanted[1:3]) < 1:
        raise Unsupported(f"an input of shape {list(shape)} and a result of shape {wanted}", "known heights and widths")
    same = operation.word("padding") == "SAME"
    rows, columns = (
        transposed_padding(shape[1 + i], wanted[1 + i], weight.shape[1 + i], strides[i], same) for i in range(2)
    )
    attributes: dict[str, Sequence[int]] = {
        "kernel_shape": list(weight.shape[1:3]),
        "strides": strides,
        "pads": [rows[0], columns[0], rows[1], columns[1]],
    }
    if rows[2] or columns[2]:
        attributes["output_padding"] = [rows[2], columns[2]]
    kernel = operation.make(np.ascontiguousarray(weight.transpose(3, 0, 1, 2)))
    operation.done_image(
        operation.emit("ConvTranspose", [operation.image(data), kernel, *_bias(operation, bias)], attributes)
    )


@converts("SPACE_TO_BATCH_ND")
def space_to_batch(operation: Operation) -> None:
    if operation.dilation is None:
        raise Unsupported("frames split by SPACE_TO_BATCH_ND are read only as part of a dilated convolution", _DILATED)
    operation.done(operation.value(0))


@converts("BATCH_TO_SPACE_ND")
def batch_to_space(operation: Operation) -> None:
    if operation.dilation is None:
        raise Unsupported("frames joined by BATCH_TO_SPACE_ND are read only as part of a dilated convolution", _DILATED)
    value = operation.value(0)
    top, left, bottom, right = operation.dilation.crop
    if any(operation.dilation.crop):
        far = np.iinfo(np.int64).max
        ends = [-n if n else far for n in (bottom, right)]
        edges = (operation.list([top, left]), operation.list(ends), operation.list([1, 2]))
        if len(operation.tensor(0).shape) == 3:  # a line
            edges = (operation.list([left]), operation.list(ends[1:]), operation.list([1]))
        value = operation.emit("Slice", [value, *edges])
    operation.done(value)
