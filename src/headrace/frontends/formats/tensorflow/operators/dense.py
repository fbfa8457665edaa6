# SPDX-License-Identifier: Apache-2.0
"""Products of matrices, and adding a bias."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.formats.tensorflow.operators.convolution import fused_activation


def _product(operation: Operation) -> ir.Value:
    operands = operation.values(0, 2)
    for index, attribute in enumerate(("transpose_a", "transpose_b")):
        if operation.attributes.flag(attribute):
            operands[index] = common.transposed_last(operation, index)
    return operation.emit("MatMul", operands)


@converts("MatMul")
def matmul(operation: Operation) -> None:
    operation.done(_product(operation))


@converts("_FusedMatMul")
def fused(operation: Operation) -> None:
    """A product with the bias and activation that an optimizer put into it."""
    value = _product(operation)
    biases = operation.values(2)
    for word in operation.attributes.words("fused_ops"):
        if word == "BiasAdd" and biases:
            value = operation.emit("Add", [value, biases.pop(0)])
        else:
            value = fused_activation(operation, word, value)
    operation.done(value)


@converts("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(operation: Operation) -> None:
    operands = operation.values(0, 2)
    for index, attribute in enumerate(("adj_x", "adj_y")):
        if operation.attributes.flag(attribute):
            operands[index] = common.transposed_last(operation, index)
    operation.done(operation.emit("MatMul", operands))


@converts("BiasAdd", "BiasAddV1")
def bias(operation: Operation) -> None:
    """One number per channel, which are the last dimension or the second."""
    added = operation.value(1)
    if not operation.channels_last():
        rank = operation.rank(0)
        added = operation.emit("Reshape", [added, operation.list([-1, *[1] * (rank - 2)])], glue=True)
    operation.done(operation.emit("Add", [operation.value(0), added]))


@converts("Einsum")
def einsum(operation: Operation) -> None:
    equation = operation.attributes.text("equation", "")
    operation.done(operation.emit("Einsum", operation.values(), {"equation": equation}))
