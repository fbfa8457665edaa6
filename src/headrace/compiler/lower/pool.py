# SPDX-License-Identifier: Apache-2.0
"""Pooling."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.lowering import Context, bad_constant, lowers, requantized_by_count
from headrace.hef.kernel import Constant, Kernel, Role, Window
from headrace.hef.microcode import Opcode
from headrace.layers.pool import AveragePool, MaxPool, Pool
from headrace.numerics.geometry import covered


def _window(operation: Pool) -> Window:
    top, left = operation.padding[:2]
    return Window(operation.kernel_shape, operation.strides, padding=(top, left))


@lowers(MaxPool)
def max_pool(context: Context, operation: MaxPool) -> Kernel:
    return context.kernel(Opcode.POOL_MAX, window=_window(operation))


@lowers(AveragePool)
def average_pool(context: Context, operation: AveragePool) -> Kernel:
    """The device chooses (M, s) by how many positions a window covers.

    A layer that divides by the whole window everywhere has one frozen column; it is listed once per count that occurs.
    """
    height, width, _ = context.input_shape()
    shape, output, sides = (height, width), context.layer.frame_shape, operation.kernel_shape
    # Per axis: a network from elsewhere may have a very large output.
    rows, columns = (
        sorted(set(covered(shape[i], sides[i], operation.strides[i], operation.padding[i], output[i]))) for i in (0, 1)
    )
    covering = sorted({r * c for r in rows for c in columns})
    whole = sides[0] * sides[1]
    divisors = [1 if operation.total else whole if operation.count_padding else n for n in covering]
    counts = context.quantized.param("counts", np.uint32, 1).tolist()
    missing = sorted(set(divisors) - set(counts))
    if missing or counts != sorted(set(counts)) or len(counts) != context.quantized.rq.shifts.size:
        raise bad_constant(
            f"{context.layer.name}/counts",
            "the table of divisors is not complete",
            counts[:16],
            f"{missing} too, ascending",
        )
    listed = Constant(Role.COUNTS, np.array(covering, np.uint32))
    kernel = context.kernel(Opcode.POOL_SUM, None, (listed,), _window(operation))
    (x,) = context.reach
    return requantized_by_count(context, kernel, [counts.index(d) for d in divisors], [n * x for n in covering])
