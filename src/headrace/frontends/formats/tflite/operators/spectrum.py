# SPDX-License-Identifier: Apache-2.0
"""Complex numbers, which only a transform makes: a tensor of them has real and imaginary part as its last dimension."""

from __future__ import annotations

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import COMPLEX, Operation, converts
from headrace.frontends.graph import Unsupported


@converts("RFFT2D")
def fourier(operation: Operation) -> None:
    """Of rows: the transform of one line, cut or filled with zeros to its length."""
    rows, length = ([*operation.integers(1, "the lengths"), 0, 0])[:2]
    shape = operation.shape(0)
    if rows != 1 or length < 1 or len(shape) < 2 or shape[-2] != 1:
        raise Unsupported(f"a transform of {rows} × {length} of a tensor of shape {shape}", "one row")
    operation.done(common.row_spectrum(operation, length))


def _check_complex(operation: Operation) -> None:
    if operation.tensor(0).type != COMPLEX:
        raise Unsupported(f"its input is of type {operation.tensor(0).type}", COMPLEX)


@converts("COMPLEX_ABS")
def magnitude(operation: Operation) -> None:
    _check_complex(operation)
    common.magnitude(operation, operation.value(0))


@converts("REAL", "IMAG")
def component(operation: Operation) -> None:
    _check_complex(operation)
    common.component(operation, operation.value(0), operation.name == "IMAG")
