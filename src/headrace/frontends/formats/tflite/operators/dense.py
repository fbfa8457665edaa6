# SPDX-License-Identifier: Apache-2.0
"""FULLY_CONNECTED and BATCH_MATMUL."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported


def _of_two_tensors(operation: Operation) -> None:
    """The weights are computed too: a matrix product, as in attention."""
    y = operation.emit("Transpose", [operation.value(1)], {"perm": [1, 0]}, glue=True)
    y = operation.emit("MatMul", [operation.value(0), y])
    if operation.has(2):
        y = operation.emit("Add", [y, operation.value(2)])
    weight = operation.tensor(1).shape
    if len(operation.tensor(0).shape) != 2 and not operation.flag("keep_num_dims"):
        if len(weight) != 2 or weight[0] < 1:
            raise Unsupported(f"the weights have shape {list(weight)}", "[outputs, inputs]")
        y = operation.emit("Reshape", [y, operation.list([-1, weight[0]])])
    operation.done(operation.activated(y))


@converts("FULLY_CONNECTED")
def fully_connected(operation: Operation) -> None:
    if operation.integer("weights_format"):
        raise Unsupported("its weights are shuffled integers", "plain float weights")
    x, shape = operation.value(0), operation.tensor(0).shape
    if not operation.is_constant(1):
        _of_two_tensors(operation)
        return
    weight = operation.array(1, "the weights")  # outputs, inputs
    if weight.ndim != 2 or 0 in weight.shape:
        raise Unsupported(f"the weights have shape {list(weight.shape)}", "[outputs, inputs]")
    bias: list[ir.Value] = [operation.value(2)] if operation.has(2) else []
    keep = operation.flag("keep_num_dims")
    if len(shape) > 2 and (keep or shape[1:-1].count(1) < len(shape) - 2) and shape[-1] == weight.shape[1]:
        # Each row on its own: the same weights at every position.
        y = operation.emit("MatMul", [x, operation.make(np.ascontiguousarray(weight.T))])
        if bias:
            y = operation.emit("Add", [y, bias[0]])
        if not keep:
            y = operation.emit("Reshape", [y, operation.list([-1, weight.shape[0]])])
    else:
        if len(shape) != 2:
            x = operation.emit("Reshape", [x, operation.list([-1, weight.shape[1]])], glue=True)
        y = operation.emit("Gemm", [x, operation.make(weight), *bias], {"transB": 1})
        if keep and len(shape) > 2:
            y = operation.emit(
                "Reshape", [y, operation.list([*([-1] if shape[0] < 1 else shape[:1]), *shape[1:-1], weight.shape[0]])]
            )
    operation.done(operation.activated(y))


@converts("BATCH_MATMUL")
def batch_matmul(operation: Operation) -> None:
    operands = [operation.value(0), operation.value(1)]
    for index, option in enumerate(("adj_x", "adj_y")):
        if operation.flag(option):
            operands[index] = common.transposed_last(operation, index)
    operation.done(operation.emit("MatMul", operands))
