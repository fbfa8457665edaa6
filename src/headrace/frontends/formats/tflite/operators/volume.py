# SPDX-License-Identifier: Apache-2.0
"""CONV_3D and CONV_3D_TRANSPOSE: clips N×D×H×W×C."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.operators.convolution import positive
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute
from headrace.frontends.transposed_padding import transposed_padding
from headrace.hn import Array

_FIRST, _LAST = (0, 4, 1, 2, 3), (0, 2, 3, 4, 1)


def _parts(operation: Operation, data: int, kernel: int) -> tuple[ir.Value, Array, dict[str, Attribute]]:
    """The clip, its channels first, the kernel [kd, kh, kw, …], and what both operators state alike."""
    shape, weight = operation.tensor(data).shape, operation.array(kernel, "the kernel")
    if len(shape) != 5 or weight.ndim != 5 or 0 in weight.shape:
        raise Unsupported(f"an input of shape {list(shape)}, a kernel {list(weight.shape)}", "five sizes above 0 each")
    attributes: dict[str, Attribute] = {
        "kernel_shape": list(weight.shape[:3]),
        "strides": positive(operation, "stride_d", "stride_h", "stride_w"),
        "dilations": positive(operation, "dilation_d", "dilation_h", "dilation_w"),
    }
    return operation.emit("Transpose", [operation.value(data)], {"perm": _FIRST}, glue=True), weight, attributes


def _finish(operation: Operation, value: ir.Value) -> None:
    operation.done(operation.emit("Transpose", [operation.activated(value)], {"perm": _LAST}, glue=True))


@converts("CONV_3D")
def convolution(operation: Operation) -> None:
    clip, weight, attributes = _parts(operation, 0, 1)  # depth, height, width, inputs, outputs
    if operation.word("padding") == "SAME":
        attributes["auto_pad"] = "SAME_UPPER"
    channels, inputs = operation.channels(0), weight.shape[3]
    if channels % inputs:
        raise Unsupported(f"{channels} input channels and a kernel {list(weight.shape)} do not fit")
    attributes["group"] = channels // inputs
    kernel = operation.make(np.ascontiguousarray(weight.transpose(4, 3, 0, 1, 2)))
    bias = [operation.value(2)] if operation.has(2) else []
    _finish(operation, operation.emit("Conv", [clip, kernel, *bias], attributes))


@converts("CONV_3D_TRANSPOSE")
def transposed(operation: Operation) -> None:
    clip, weight, attributes = _parts(operation, 2, 1)  # depth, height, width, outputs, inputs
    wanted = operation.integers(0, "the shape") if operation.is_constant(0) else []
    if len(wanted) != 5:
        wanted = list(operation.builder.model.tensors[operation.record.outputs[0]].shape)
    size = operation.tensor(2).shape
    if len(wanted) != 5 or min(*wanted[1:4], *size[1:4]) < 1:
        raise Unsupported(f"a result of shape {wanted}", "known sizes")
    strides, dilations = (positive(operation, *(f"{what}_{axis}" for axis in "dhw")) for what in ("stride", "dilation"))
    if max(dilations) > 1:
        raise Unsupported(f"dilations {dilations}", "dilations of 1")
    same = operation.word("padding") == "SAME"
    placed = [transposed_padding(size[1 + i], wanted[1 + i], weight.shape[i], strides[i], same) for i in range(3)]
    before, after, extra = ([place[i] for place in placed] for i in range(3))
    attributes |= {"pads": [*before, *after], "output_padding": extra}
    kernel = operation.make(np.ascontiguousarray(weight.transpose(4, 3, 0, 1, 2)))
    bias = [operation.value(3)] if operation.has(3) else []
    _finish(operation, operation.emit("ConvTranspose", [clip, kernel, *bias], attributes))
