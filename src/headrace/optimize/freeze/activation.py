# SPDX-License-Identifier: Apache-2.0
"""Activations that stand alone; a linear one is a change of scale."""

from __future__ import annotations

import numpy as np

from headrace.hn import Layer
from headrace.layers import Activation
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import freezes
from headrace.optimize.freeze.lookup import Grid


@freezes(Activation)
def freeze_activation(context: FreezeContext, layer: Layer) -> None:
    x = context.inputs(layer)[0]
    grid = Grid(x.scale, -x.zero_point, x.high - x.zero_point)
    rq = context.requantization(layer, np.array([[x.scale]]), np.array([[x.magnitude]], np.int64), grid)
    context.store(layer, rq)
