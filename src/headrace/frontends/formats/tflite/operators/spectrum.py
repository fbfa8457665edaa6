# SPDX-License-Identifier: Apache-2.0
"""Complex numbers, which only a transform makes: a tensor of them has real and imaginary part as its last dimension."""

from __future__ import annotations

import numpy as np

from headrace.frontends.formats.common_operators import FAR
from headrace.frontends.formats.tflite.build import COMPLEX, Operation, converts
from headrace.frontends.graph import Unsupported


@converts("RFFT2D")
def fourier(operation: Operation) -> None:
    """Of rows: the transform of one line, cut or filled with zeros to its length."""
    rows, length = ([*operation.integers(1, "the lengths"), 0, 0])[:2]
    shape = operation.shape(0)
    if rows != 1 or length < 1 or len(shape) < 2 or shape[-2] != 1:
        raise Unsupported(f"a transform of {rows} × {length} of a tensor of shape {shape}", "one row")
    value, axis = operation.value(0), len(shape) - 1
    if shape[-1] > length:
        value = operation.emit("Slice", [value, *(operation.list([n]) for n in (0, length, axis))])
    elif shape[-1] < length:
        edges = [0] * (2 * len(shape))
        edges[-1] = length - shape[-1]
        value = operation.emit("Pad", [value, operation.list(edges)], {"mode": "constant"})
    value = operation.emit("Unsqueeze", [value, operation.list([-1])], glue=True)
    inputs = [value, operation.make(np.array(length, np.int64)), operation.make(np.array(axis, np.int64))]
    operation.done(operation.emit("DFT", inputs, {"onesided": 1}))


def _check_complex(operation: Operation) -> None:
    if operation.tensor(0).type != COMPLEX:
        raise Unsupported(f"its input is of type {operation.tensor(0).type}", COMPLEX)


@converts("COMPLEX_ABS")
def magnitude(operation: Operation) -> None:
    _check_complex(operation)
    operation.done(operation.emit("ReduceL2", [operation.value(0), operation.list([-1])], {"keepdims": 0}))


@converts("REAL", "IMAG")
def component(operation: Operation) -> None:
    _check_complex(operation)
    edges = [0, 1] if operation.name == "REAL" else [1, FAR]
    part = operation.emit("Slice", [operation.value(0), *(operation.list([n]) for n in (*edges, -1))])
    operation.done(operation.emit("Squeeze", [part, operation.list([-1])]))
