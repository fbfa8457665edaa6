# SPDX-License-Identifier: Apache-2.0
"""Softmax and its logarithm over one dimension; HN takes it over channels, so the dimension is brought there."""

from __future__ import annotations

from headrace.frontends.layout import CHANNELS, CHANNELS_LAST, WIDTH, Arrangement, View, lift_batch
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.hn.value import Wish
from headrace.layers import Activation, AveragePool, ReduceMax, Reshape, Softmax, Subtract

_LAST: dict[int, Arrangement] = {2: (None, CHANNELS), 3: (None, WIDTH, CHANNELS), 4: CHANNELS_LAST}


def over_axis(builder: Builder, view: View, axis: int) -> View:
    """Softmax over one source dimension."""
    if not view.batch_first or axis == view.batch_dim:
        lifted, put_back = lift_batch(view)
        return put_back(over_axis(builder, lifted, axis + 1))
    found = builder.arrangement_of(view)
    if found is not None and found[axis] == CHANNELS:
        return builder.output(builder.emit(Softmax(), [view.layer]), found)
    if axis == view.rank - 1 and view.rank in _LAST:
        arrangement = _LAST[view.rank]
    elif axis == 1 and view.rank == 4:
        arrangement = IMAGE
    else:
        layer, groups = builder.innermost(view, axis)
        return builder.grouped(builder.emit(Softmax(), [layer]).name, groups, view.shape)
    return builder.output(builder.emit(Softmax(), [builder.arrange(view, arrangement)]), arrangement)


def logarithm_over_axis(builder: Builder, view: View, axis: int) -> View:
    """``d - log Σ exp(d)`` with ``d = x - max x`` over one source dimension; the exponentials have 16 bits."""
    if not view.batch_first or axis == view.batch_dim:
        lifted, put_back = lift_batch(view)
        return put_back(logarithm_over_axis(builder, lifted, axis + 1))
    layer, groups = builder.innermost(view, axis)
    layer = builder.as_image(layer)
    height, width, channels = builder.extent(layer)
    top = builder.emit(ReduceMax((2,)), [layer])
    below = builder.emit(Subtract(), [layer, top.name])
    exponential = builder.emit(Subtract("exp"), [layer, top.name])
    exponential.output.wish = Wish(bits=16, range=(0.0, 1.0))
    rows = builder.emit(Reshape((height * width, channels, 1)), [exponential.name])
    total = builder.emit(AveragePool((1, channels), total=True), [rows.name])
    total.output.wish = Wish(bits=16)
    column = builder.emit(Reshape((height, width, 1)), [total.name])
    logarithm = builder.emit(Activation("log"), [column.name])
    return builder.grouped(builder.emit(Subtract(), [below.name, logarithm.name]).name, groups, view.shape)
