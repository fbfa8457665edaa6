# SPDX-License-Identifier: Apache-2.0
"""Softmax and its logarithm; HN takes it over channels, so its axis is brought there."""

from __future__ import annotations

import math

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import MixesFrames
from headrace.frontends.layout import regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.softmax import logarithm_over_axis, over_axis
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles


@handles("Softmax", "LogSoftmax")
def softmax(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    over = over_axis if node.op_type == "Softmax" else logarithm_over_axis
    axis = axis_in(node.integer("axis", -1), view.rank)
    if builder.mixes_frames(view, [axis]):
        raise MixesFrames(f"{node.op_type} over the batch", "another axis")
    if not node.integer("flatten", 0) or view.shape[axis] == math.prod(view.shape[axis:]):
        return [over(builder, view, axis)]
    flat = regroup(view, [*view.shape[:axis], math.prod(view.shape[axis:])], movable=builder.one_frame)
    return [regroup(over(builder, flat, axis), view.shape, movable=builder.one_frame)]
