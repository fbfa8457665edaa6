# SPDX-License-Identifier: Apache-2.0
"""Means, sums, largest elements and norms over any axes but the batch."""

from __future__ import annotations

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import MixesFrames, Unsupported, integer_list
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine, per_channel
from headrace.frontends.to_hn.compositions.parts import cut, join
from headrace.frontends.to_hn.compositions.reduce import Reduction, largest, mean, reduce_over, total
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import Multiply


def _axes(builder: Builder, node: SourceNode, view: View) -> list[int] | None:
    """The dimensions to reduce, or None where an empty list means nothing is to be done."""
    given = node.optional(1, "axes")
    if given is not None and given.size:
        return sorted({axis_in(a, view.rank) for a in integer_list(given, "axes")})
    if node.integer("noop_with_empty_axes", 0):
        return None
    if not builder.one_frame:
        raise MixesFrames(f"{node.op_type} over all axes mixes the frames of a batch", "axes other than 0")
    return list(range(view.rank))


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": mean, "ReduceSum": total, "ReduceMax": largest, "ReduceMin": largest, "ReduceL1": total,
    "ReduceL2": total, "ReduceSumSquare": total,
}  # fmt: skip


@handles(*_REDUCTIONS)
def reduce(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    axes = _axes(builder, node, view)
    kind = node.op_type
    if kind in ("ReduceL2", "ReduceSumSquare"):
        view = combine(builder, Multiply(), view, view)
    elif kind == "ReduceL1":
        view = applied(builder, view, "abs")
    elif kind == "ReduceMin":
        view = per_channel(builder, view, -1.0)
    if axes is not None:
        view = reduce_over(builder, view, axes, node.integer("keepdims", 1) != 0, _REDUCTIONS[kind])
    if kind == "ReduceL2":
        view = applied(builder, view, "sqrt")
    elif kind == "ReduceMin":
        view = per_channel(builder, view, -1.0)
    return [view]


@handles("ReduceProd")
def product_of_all(builder: Builder, node: SourceNode) -> list[Result]:
    """Halves of a dimension multiplied, until one element is left."""
    view = node.view(0)
    axes = _axes(builder, node, view) or []
    if builder.mixes_frames(view, axes):
        raise MixesFrames("a product over the batch mixes its frames", "other axes")
    for axis in axes:
        while view.shape[axis] > 1:
            size = view.shape[axis]
            half = size // 2
            ranges = [[(0, s, 1) for s in view.shape] for _ in range(3)]
            for part, piece in zip(ranges, ((0, half, 1), (half, half, 1), (2 * half, size % 2, 1)), strict=True):
                part[axis] = piece
            made = combine(builder, Multiply(), cut(builder, view, ranges[0]), cut(builder, view, ranges[1]))
            view = join(builder, [made, cut(builder, view, ranges[2])], axis) if size % 2 else made
    if node.integer("keepdims", 1):
        return [view]
    return [builder.regroup(view, [s for d, s in enumerate(builder.full_shape(view)) if d not in axes])]


@handles("GlobalLpPool")
def global_norm(builder: Builder, node: SourceNode) -> list[Result]:
    view, order = node.view(0), node.integer("p", 2)
    if view.rank < 3 or order not in (1, 2):
        raise Unsupported(f"the norm of order {order} of rank {view.rank}", "order 1 or 2 of N,C,…")
    view = applied(builder, view, "abs") if order == 1 else combine(builder, Multiply(), view, view)
    made = reduce_over(builder, view, list(range(2, view.rank)), True, total)
    return [made if order == 1 else applied(builder, made, "sqrt")]
