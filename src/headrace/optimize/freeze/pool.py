# SPDX-License-Identifier: Apache-2.0
"""Average pools: one multiplier per distinct divisor."""

from __future__ import annotations

import numpy as np

from headrace.hn import Layer
from headrace.layers import AveragePool
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import freezes


@freezes(AveragePool)
def freeze_average(context: FreezeContext, layer: Layer) -> None:
    window = layer.operation
    assert isinstance(window, AveragePool)
    x = context.inputs(layer)[0]
    shape = context.network.input_shapes(layer)[0]
    counts = np.unique(window.divisors(shape))
    units = (x.scale / counts.astype(np.float64))[None]
    # With count_padding a divisor is the whole window, of which fewer positions may be covered: still an upper bound.
    covered = counts * (window.kernel_shape[0] * window.kernel_shape[1] if window.total else 1)
    rq = context.requantization(layer, units, (x.magnitude * covered)[None])
    context.store(layer, rq, {"counts": counts.astype(np.uint32)})
