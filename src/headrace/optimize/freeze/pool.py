# SPDX-License-Identifier: Apache-2.0
"""Average pools: one multiplier per distinct divisor."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.hn import Layer
from headrace.layers import definition_of
from headrace.optimize.freeze.context import FreezeContext, freezes


@freezes("avgpool", "global_avgpool")
def freeze_average(context: FreezeContext, layer: Layer) -> None:
    definition: Any = definition_of(layer.kind)
    x = context.inputs(layer)[0]
    shape = context.network.input_shapes(layer)[0]
    counts = np.unique(definition.divisors(context.attributes(layer), shape))
    units = (x.scale / counts.astype(np.float64))[None]
    window = definition.window_of(context.attributes(layer), shape)
    # With count_padding a divisor is the whole window, of which fewer positions may be covered: still an upper bound.
    covered = counts * (window.kernel_shape[0] * window.kernel_shape[1] if window.total else 1)
    rq = context.requantization(layer, units, (x.magnitude * covered)[None])
    context.store(layer, rq, {"counts": counts.astype(np.uint32)})
