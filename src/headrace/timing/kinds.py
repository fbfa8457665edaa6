# SPDX-License-Identifier: Apache-2.0
"""The work of each layer kind; importing this module registers them."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.layers.move import Concat
from headrace.timing.work import Family, LayerView, RowKind, RowRule, Work, work_of

WHOLE = (RowRule(RowKind.WHOLE),)
GATHER = (RowRule(RowKind.GATHER),)


def _height_axis(view: LayerView, axis: int) -> bool:
    """Whether a non-batch axis of the HN tensor is the height (a vector has channels only)."""
    return axis == 0 and len(view.layer.output_shape) == 4


@work_of("conv", "dw")
def _convolution(view: LayerView) -> Work:
    a: Any = view.attributes
    kernel_height, kernel_width, _, _ = a.kernel_shape
    window = RowRule(RowKind.WINDOW, kernel_height, a.strides[0], a.dilations[0], a.padding[0])
    rules = (window, *(RowRule() for _ in view.operands[1:]))  # a fused residual is read row by row
    return view.work(
        Family.DENSE if a.groups == 1 else Family.GROUPED,
        rules,
        window=(kernel_height, kernel_width),
        stride=a.strides[1],
        dilation=a.dilations[1],
        groups=a.groups,
    )


@work_of("dense")
def _dense(view: LayerView) -> Work:
    return view.work(Family.DENSE, WHOLE)


@work_of("normalization", "batch_norm")
def _per_channel(view: LayerView) -> Work:
    return view.work(Family.GROUPED, groups=view.output.channels)


@work_of("ew_add", "ew_sub", "ew_mult", "activation")
def _elementwise(view: LayerView) -> Work:
    return view.work(Family.MOVE)


@work_of("softmax")
def _softmax(view: LayerView) -> Work:
    # Before decomposition: maximum, exponential, reciprocal of the sum, product; one controller each.
    return view.work(Family.MOVE, controllers=4)


@work_of("matmul")
def _matmul(view: LayerView) -> Work:
    # Before decomposition: the second operand's rows repeated, products, sums; one controller each.
    return view.work(Family.MOVE, (RowRule(), RowRule()), controllers=3)


@work_of("maxpool", "avgpool")
def _pool(view: LayerView) -> Work:
    a: Any = view.attributes
    source = view.operands[0]
    window = RowRule(RowKind.WINDOW, a.kernel_shape[0], a.strides[0], 1, a.padding[0])
    whole = a.kernel_shape == (source.height, source.width) and not any(a.padding)
    return view.work(Family.MOVE if whole else Family.POOL, (window,), window=a.kernel_shape, stride=a.strides[1])


@work_of("reduce_max", "reciprocal_sum")
def _reduce(view: LayerView) -> Work:
    a: Any = view.attributes
    return view.work(Family.MOVE, WHOLE if any(_height_axis(view, axis) for axis in a.axes) else None)


@work_of("slice")
def _slice(view: LayerView) -> Work:
    a: Any = view.attributes
    if len(view.layer.output_shape) != 4:
        return view.work(Family.MOVE)
    return view.work(Family.MOVE, (RowRule(RowKind.SLICE, stride=a.steps[0], offset=a.starts[0]),))


@work_of("external_pad")
def _pad(view: LayerView) -> Work:
    a: Any = view.attributes
    if len(view.layer.output_shape) != 4:
        return view.work(Family.MOVE)
    return view.work(Family.MOVE, (RowRule(RowKind.STACK, offset=a.before[0]),))


@work_of("concat")
def _concat(view: LayerView) -> Work:
    a = view.attributes
    assert isinstance(a, Concat)
    if not _height_axis(view, a.axis):
        return view.work(Family.MOVE)
    rules: list[RowRule] = []
    place = 0
    for plane in view.operands:
        rules.append(RowRule(RowKind.STACK, offset=place))
        place += plane.height
    return view.work(Family.MOVE, tuple(rules))


@work_of("reshape")
def _reshape(view: LayerView) -> Work:
    return view.work(Family.MOVE, (RowRule(RowKind.RESHAPE),))


@work_of("transpose")
def _transpose(view: LayerView) -> Work:
    a: Any = view.attributes
    keeps_rows = len(view.layer.output_shape) != 4 or a.permutation[0] == 0
    return view.work(Family.MOVE, None if keeps_rows else GATHER)


@work_of("resize_nearest", "resize_bilinear")
def _resize(view: LayerView) -> Work:
    a: Any = view.attributes
    height = view.operands[0].height
    rows = (
        np.repeat(a.nearest(0, height)[:, None], 2, 1)
        if view.layer.kind == "resize_nearest"
        else a.neighbours(0, height)[0]
    )
    table = tuple((int(first), int(last)) for first, last in rows)
    return view.work(Family.MOVE, (RowRule(RowKind.TABLE, table=table),))


@work_of("depth_to_space")
def _depth_to_space(view: LayerView) -> Work:
    a: Any = view.attributes
    rows = tuple((y // a.block, y // a.block) for y in range(view.output.height))
    return view.work(Family.MOVE, (RowRule(RowKind.TABLE, table=rows),))


@work_of("space_to_depth")
def _space_to_depth(view: LayerView) -> Work:
    a: Any = view.attributes
    rows = tuple((y * a.block, y * a.block + a.block - 1) for y in range(view.output.height))
    return view.work(Family.MOVE, (RowRule(RowKind.TABLE, table=rows),))
