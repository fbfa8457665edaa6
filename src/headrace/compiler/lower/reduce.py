# SPDX-License-Identifier: Apache-2.0
"""Reductions, as they appear when softmax has been decomposed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from headrace.compiler.lower.lowering import Context, bad_constant, lowers, requantized
from headrace.hef.kernel import Constant, Detail, Kernel, Role
from headrace.hef.microcode import AxisMask, KernelRecord, Opcode
from headrace.layers.softmax import ReciprocalSum, ReduceMax


@dataclass(frozen=True)
class Reduction(Detail):
    """Over some axes."""

    axes: AxisMask

    def write(self, record: KernelRecord) -> None:
        record.axis_mask = int(self.axes)


def _axes(context: Context, operation: ReduceMax | ReciprocalSum) -> list[int]:
    """Of the device: 0 height, 1 width, 2 channels."""
    return [context.axis(axis) for axis in operation.axes]


def _reduction(axes: list[int]) -> Reduction:
    return Reduction(AxisMask(sum(1 << axis for axis in axes)))


@lowers(ReduceMax)
def reduce_max(context: Context, operation: ReduceMax) -> Kernel:
    return context.kernel(Opcode.REDUCE_MAX, _reduction(_axes(context, operation)))


@lowers(ReciprocalSum)
def reciprocal_sum(context: Context, operation: ReciprocalSum) -> Kernel:
    """The table is that of mantissas; the clamp comes after it. The exponent of the sum adds to the shift."""
    table = context.quantized.param("reciprocal_table", np.uint16, 1)
    bits = int(table.size - 1).bit_length()
    rq = context.quantized.rq
    if table.size != 1 << bits or not 1 <= bits <= 16 or rq.table is not None:
        raise bad_constant(
            f"{context.layer.name}/reciprocal_table", "the table is not valid", table.size, "2^1 … 2^16 entries"
        )
    if rq.multipliers.shape[1] != 1:
        raise bad_constant(f"{context.layer.name}/multipliers", "a reciprocal has one multiplier", "several", "one")
    axes = _axes(context, operation)
    kernel = context.kernel(Opcode.REDUCE_SUM_RECIPROCAL, _reduction(axes), (Constant(Role.TABLE, table),))
    shape, (x,) = context.input_shape(), context.reach
    largest = max(1, prod(shape[axis] for axis in axes) * x)
    return requantized(context, kernel, 1, [[int(table.max())]], largest.bit_length() - 1)
