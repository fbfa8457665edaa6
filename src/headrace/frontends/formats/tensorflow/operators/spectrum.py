# SPDX-License-Identifier: Apache-2.0
"""Transforms of lines, and the complex numbers that they make."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
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
    operation.done(Complex(common.row_spectrum(operation, length)))


@converts("ComplexAbs")
def magnitude(operation: Operation) -> None:
    common.magnitude(operation, _complex(operation))


@converts("Real", "Imag")
def component(operation: Operation) -> None:
    common.component(operation, _complex(operation), operation.name == "Imag")


@converts("Complex")
def joined(operation: Operation) -> None:
    parts = [operation.emit("Unsqueeze", [v, operation.list([-1])], glue=True) for v in operation.values(0, 2)]
    operation.done(Complex(operation.emit("Concat", parts, {"axis": -1})))
