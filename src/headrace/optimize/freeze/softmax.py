# SPDX-License-Identifier: Apache-2.0
"""The reciprocal of a sum by normalized look-up (docs/numerics.md, section 7)."""

from __future__ import annotations

import math

import numpy as np

from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hn import Layer
from headrace.layers import ReciprocalSum
from headrace.numerics.requantize import MAX_SHIFT, Requantization, choose_multipliers
from headrace.numerics.tables import RECIPROCAL_FRACTION, reciprocal_table
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import freezes


@freezes(ReciprocalSum)
def freeze_reciprocal(context: FreezeContext, layer: Layer) -> None:
    x = context.inputs(layer)[0]
    assert isinstance(layer.operation, ReciprocalSum)
    shape = context.network.input_shapes(layer)[0]
    count = math.prod(shape[1 + axis] for axis in layer.operation.axes)
    table = reciprocal_table()
    # 1 / (scale_x · v) = T · 2^-15 · 2^-n / scale_x; the 2^-n is the run-time part of the shift.
    units = np.array([[2.0**-RECIPROCAL_FRACTION / x.scale]])
    # Not bounded as other ratios are: what the multiplier makes of the table is shifted by n once more.
    output = context.tensors[layer.name]
    multipliers, shifts = choose_multipliers(units / output.scale, np.array([[int(table.max())]], np.int64))
    rq = Requantization(multipliers, shifts, output.zero_point, 0, output.high)
    longest = max(1, x.magnitude * count).bit_length() - 1
    if int(rq.shifts[0]) + longest > MAX_SHIFT:
        raise NotBuiltYetError(
            Diagnostic(
                "E-OPTIMIZE-RECIPROCAL",
                layer.name,
                "the sum is too wide for the reciprocal's shift",
                f"{count} terms",
                f"shift + {longest} ≤ {MAX_SHIFT}",
            )
        )
    context.store(layer, rq, {"reciprocal_table": table})
