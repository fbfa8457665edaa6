# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing: one multiplier; the coefficients of a position sum to 2^22."""

from __future__ import annotations

import numpy as np

from headrace.hn import Layer
from headrace.layers import ResizeBilinear
from headrace.numerics.forms import BILINEAR_BITS
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import freezes


@freezes(ResizeBilinear)
def freeze_bilinear(context: FreezeContext, layer: Layer) -> None:
    x = context.inputs(layer)[0]
    whole = 1 << (2 * BILINEAR_BITS)
    rq = context.requantization(layer, np.array([[x.scale / whole]]), np.array([[x.magnitude * whole]]))
    shapes = context.network.input_shapes(layer)
    context.store(layer, rq, layer.operation.integers_of_attributes(shapes))
