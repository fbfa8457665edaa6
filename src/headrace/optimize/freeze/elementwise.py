# SPDX-License-Identifier: Apache-2.0
"""Element-wise sums and products."""

from __future__ import annotations

import numpy as np

from headrace.hn import Layer
from headrace.layers import Add, Multiply, Subtract
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import freezes
from headrace.optimize.freeze.lookup import Grid


@freezes(Add, Subtract)
def freeze_sum(context: FreezeContext, layer: Layer) -> None:
    assert isinstance(layer.operation, (Add, Subtract))
    sign = layer.operation.sign
    x, y = context.inputs(layer)
    units = np.array([[x.scale], [sign * y.scale]])
    grid = None
    if x.scale == y.scale:
        ends = [(-x.zero_point, x.high - x.zero_point), (-y.zero_point, y.high - y.zero_point)]
        if sign < 0:
            ends[1] = (-ends[1][1], -ends[1][0])
        grid = Grid(x.scale, ends[0][0] + ends[1][0], ends[0][1] + ends[1][1])
    magnitudes = np.array([[x.magnitude], [y.magnitude]], np.int64)
    context.store(layer, context.requantization(layer, units, magnitudes, grid))


@freezes(Multiply)
def freeze_product(context: FreezeContext, layer: Layer) -> None:
    x, y = context.inputs(layer)
    units = np.array([[float(x.scale) * float(y.scale)]])
    context.store(layer, context.requantization(layer, units, np.array([[x.magnitude * y.magnitude]], np.int64)))
