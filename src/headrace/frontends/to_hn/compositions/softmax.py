# SPDX-License-Identifier: Apache-2.0
"""Softmax and its logarithm over one dimension; HN takes it over channels, so the dimension is brought there."""

from __future__ import annotations

from headrace.frontends.layout import CHANNELS, CHANNELS_LAST, WIDTH, Arrangement, View, lift_batch
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.hn.value import Wish

_LAST: dict[int, Arrangement] = {2: (None, CHANNELS), 3: (None, WIDTH, CHANNELS), 4: CHANNELS_LAST}


def over_axis(builder: Builder, view: View, axis: int) -> View:
    """Softmax over one source dimension."""
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        return put_back(over_axis(builder, lifted, axis + 1))
    found = builder.arrangement_of(view)
    if found is not None and found[axis] == CHANNELS:
        return builder.output(builder.emit("softmax", [view.layer]), found)
    if axis == view.rank - 1 and view.rank in _LAST:
        arrangement = _LAST[view.rank]
    elif axis == 1 and view.rank == 4:
        arrangement = IMAGE
    else:
        layer, groups = builder.innermost(view, axis)
        return builder.grouped(builder.emit("softmax", [layer]).name, groups, view.shape)
    return builder.output(builder.emit("softmax", [builder.arrange(view, arrangement)]), arrangement)


def logarithm_over_axis(builder: Builder, view: View, axis: int) -> View:
    """``d - log Σ exp(d)`` with ``d = x - max x`` over one source dimension; the exponentials have 16 bits."""
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        return put_back(logarithm_over_axis(builder, lifted, axis + 1))
    layer, groups = builder.innermost(view, axis)
    layer = builder.as_image(layer)
    height, width, channels = builder.extent(layer)
    top = builder.emit("reduce_max", [layer], {"axes": [2]})
    below = builder.emit("ew_sub", [layer, top.name])
    exponential = builder.emit("ew_sub", [layer, top.name], {"activation": "exp"})
    exponential.output.wish = Wish(bits=16, range=(0.0, 1.0))
    rows = builder.emit("reshape", [exponential.name], {"shape": [height * width, channels, 1]})
    total = builder.emit("avgpool", [rows.name], {"kernel_shape": [1, channels], "total": True})
    total.output.wish = Wish(bits=16)
    column = builder.emit("reshape", [total.name], {"shape": [height, width, 1]})
    logarithm = builder.emit("activation", [column.name], {"activation": "log"})
    return builder.grouped(builder.emit("ew_sub", [below.name, logarithm.name]).name, groups, view.shape)
