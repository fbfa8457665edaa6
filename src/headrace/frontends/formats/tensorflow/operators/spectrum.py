# SPDX-License-Identifier: Apache-2.0
"""Transforms of lines, and the complex numbers that they make."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.common_operators import FAR
from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.formats.tensorflow.states import Complex
from headrace.frontends.graph import Unsupported


def _complex(operation: Operation, index: int = 0) -> ir.Value:
    found = operation.inputs[index] if operation.has(index) else None
    if not isinstance(found, Complex):
        raise Unsupported(f"its input {index} is no tensor of complex numbers", "the result of a transform")
    return found.value


@converts("RFFT")
def fourier(operation: Operation) -> None:
    """Of the last dimension, cut or filled with zeros to the length."""
    length, shape = operation.integer_operand(1, "the length"), operation.shape(0)
    if length < 1 or not shape:
        raise Unsupported(f"a transform of {length} elements of a tensor of shape {shape}", "one element or more")
    value, axis = operation.value(0), len(shape) - 1
    if shape[-1] > length:
        value = operation.emit("Slice", [value, *(operation.list([n]) for n in (0, length, axis))])
    elif shape[-1] < length:
        edges = [0] * (2 * len(shape))
        edges[-1] = length - shape[-1]
        value = operation.emit("Pad", [value, operation.list(edges)], {"mode": "constant"})
    value = operation.emit("Unsqueeze", [value, operation.list([-1])], glue=True)
    inputs = [value, operation.make(np.array(length, np.int64)), operation.make(np.array(axis, np.int64))]
    operation.done(Complex(operation.emit("DFT", inputs, {"onesided": 1})))


@converts("ComplexAbs")
def magnitude(operation: Operation) -> None:
    operation.done(operation.emit("ReduceL2", [_complex(operation), operation.list([-1])], {"keepdims": 0}))


@converts("Real", "Imag")
def component(operation: Operation) -> None:
    edges = [0, 1] if operation.name == "Real" else [1, FAR]
    part = operation.emit("Slice", [_complex(operation), *(operation.list([n]) for n in (*edges, -1))])
    operation.done(operation.emit("Squeeze", [part, operation.list([-1])]))


@converts("Complex")
def joined(operation: Operation) -> None:
    parts = [operation.emit("Unsqueeze", [v, operation.list([-1])], glue=True) for v in operation.values(0, 2)]
    operation.done(Complex(operation.emit("Concat", parts, {"axis": -1})))
