# SPDX-License-Identifier: Apache-2.0
"""Resizing."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.lowering import Context, lowers, need_shape, requantized
from headrace.hef.kernel import Constant, Kernel, Role
from headrace.hef.microcode import Opcode
from headrace.layers.resize import COEFFICIENTS, ResizeBilinear, ResizeNearest
from headrace.numerics.forms import BILINEAR_BITS

_ROLES = (Role.ROWS, Role.COLUMNS)


@lowers(ResizeNearest)
def nearest(context: Context, operation: ResizeNearest) -> Kernel:
    """Which element is copied follows from the attributes, as the rows of a window do."""
    sizes = context.input_shape()
    tables = tuple(
        Constant(role, operation.nearest(axis, sizes[axis]).astype(np.uint32)) for axis, role in enumerate(_ROLES)
    )
    return context.kernel(Opcode.RESIZE_NEAREST, None, tables)


@lowers(ResizeBilinear)
def bilinear(context: Context, operation: ResizeBilinear) -> Kernel:
    """Which elements are read follows from the attributes; their coefficients are frozen."""

    def table(axis: int) -> Constant:
        indices, _ = operation.neighbours(axis, context.input_shape()[axis])
        second = context.quantized.param(COEFFICIENTS[axis], np.uint16, 1)
        need_shape(context, COEFFICIENTS[axis], second, (indices.shape[0],))
        return Constant(_ROLES[axis], np.concatenate([indices, second[:, None]], 1).astype(np.uint32))

    kernel, (x,) = context.kernel(Opcode.RESIZE_BILINEAR, None, (table(0), table(1))), context.reach
    return requantized(context, kernel, 1, [[x << 2 * BILINEAR_BITS]])
