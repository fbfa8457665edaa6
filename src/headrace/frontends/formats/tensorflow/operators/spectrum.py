# SPDX-License-Identifier: Apache-2.0
"""Transforms of lines, and the complex numbers that they make."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import Converter, Operation, converts
from headrace.frontends.formats.tensorflow.states import Complex
from headrace.frontends.graph import Unsupported


def has_complex(operation: Operation) -> bool:
    """Whether an operand is a tensor of complex numbers."""
    return any(isinstance(found, Complex) for found in operation.inputs)


def _complex(operation: Operation, index: int = 0) -> ir.Value:
    found = operation.inputs[index] if operation.has(index) else None
    if not isinstance(found, Complex):
        raise Unsupported(f"its input {index} is no tensor of complex numbers", "the result of a transform")
    return found.value


def _parts(operation: Operation, index: int = 0) -> tuple[ir.Value, ir.Value]:
    """Real and imaginary parts of an operand."""
    value, places = _complex(operation, index), [operation.make(np.array(i, np.int64)) for i in range(2)]
    real, imaginary = (operation.emit("Gather", [value, place], {"axis": -1}) for place in places)
    return real, imaginary


def _joined(operation: Operation, real: ir.Value, imaginary: ir.Value) -> Complex:
    parts = [operation.emit("Unsqueeze", [v, operation.list([-1])], glue=True) for v in (real, imaginary)]
    return Complex(operation.emit("Concat", parts, {"axis": -1}))


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
    """Two parts of one shape, or a number and a tensor."""
    values, shapes = operation.values(0, 2), [operation.sizes(i) for i in range(2)]
    known = [None if s is None or None in s else tuple(int(n or 0) for n in s) for s in shapes]
    if None not in known and known[0] != known[1]:
        try:
            sizes = operation.list(np.broadcast_shapes(*(k for k in known if k is not None)))
        except ValueError:
            raise Unsupported(f"parts of shapes {shapes}", "shapes that broadcast") from None
        values = [operation.emit("Expand", [value, sizes], glue=True) for value in values]
    operation.done(_joined(operation, *values))


# --- what other families' operators are for complex numbers -----------------------------------------------------------


def complex_product(operation: Operation) -> None:
    """``(a + bi)(c + di) = (ac − bd) + (ad + bc)i``."""
    (a, b), (c, d) = _parts(operation, 0), _parts(operation, 1)
    ac, bd, ad, bc = (operation.emit("Mul", pair) for pair in ([a, c], [b, d], [a, d], [b, c]))
    operation.done(_joined(operation, operation.emit("Sub", [ac, bd]), operation.emit("Add", [ad, bc])))


def complex_exponential(operation: Operation) -> None:
    """``exp(a + bi) = exp(a)(cos b + i sin b)``."""
    a, b = _parts(operation)
    size = operation.emit("Exp", [a])
    turned = [operation.emit("Mul", [size, operation.emit(name, [b])]) for name in ("Cos", "Sin")]
    operation.done(_joined(operation, *turned))


def in_parts(operation: Operation, converter: Converter) -> None:
    """An operator that moves elements of its first operand, of real and imaginary parts by themselves."""
    moved: list[ir.Value] = []
    for part in _parts(operation):
        inner = Operation(operation.builder, operation.node, operation.label, [part, *operation.inputs[1:]], 1)
        converter(inner)
        moved.append(inner.results[0])
    operation.done(_joined(operation, *moved))
