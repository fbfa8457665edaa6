# SPDX-License-Identifier: Apache-2.0
"""Reductions, as they appear when softmax has been decomposed."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.base import Context, Kernel, bad_constant, lowers, set_requantize
from headrace.hef.microcode import Opcode


def _mask(context: Context) -> int:
    return sum(1 << context.axis(axis) for axis in context.attributes.axes)


@lowers("reduce_max")
def reduce_max(context: Context) -> Kernel:
    return context.kernel(Opcode.REDUCE_MAX, axis_mask=_mask(context))


@lowers("reciprocal_sum")
def reciprocal_sum(context: Context) -> Kernel:
    """The table is that of mantissas; the clamp comes after it."""
    table = context.quantized.param("reciprocal_table", np.uint16, 1)
    bits = int(table.size - 1).bit_length()
    if table.size != 1 << bits or not 1 <= bits <= 16 or context.quantized.rq.table is not None:
        raise bad_constant(
            f"{context.layer.name}/reciprocal_table", "the table is not valid", table.size, "2^1 … 2^16 entries"
        )
    kernel = set_requantize(context, context.kernel(Opcode.REDUCE_SUM_RECIPROCAL, axis_mask=_mask(context)), 1)
    if kernel.fields["requantise_channels"] != 1:
        raise bad_constant(f"{context.layer.name}/multipliers", "a reciprocal has one multiplier", "several", "one")
    kernel.fields["table_bits"] = bits
    kernel.constants["table_offset"] = table
    return kernel
