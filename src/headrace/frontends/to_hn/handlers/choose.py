# SPDX-License-Identifier: Apache-2.0
"""The place of the largest element, and what places and thresholds make: OneHot, CumSum, Trilu …; Hardmax."""

from __future__ import annotations

import math

import numpy as np

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine, per_channel
from headrace.frontends.to_hn.compositions.parts import cut, join
from headrace.frontends.to_hn.compositions.reduce import largest, reduce_over
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.compositions.rows import along
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn.value import Wish
from headrace.layers import Add, Multiply, Subtract

#: Along one axis; above, places have no code of 16 bits each.
MAX_PLACES = 1 << 15
_MAX_SUMMED = 1 << 12


def _whole(builder: Builder, view: View, most: int) -> View:
    """Codes that are the whole numbers from 0 on: of 8 bits where they suffice."""
    bits = 8 if most < 256 else 16
    builder.network[view.layer].output.wish = Wish(bits=bits, range=(0.0, float((1 << bits) - 1)))
    return view


def _marked(builder: Builder, view: View, axis: int, last: bool) -> View:
    """A number for each of the largest elements along an axis, the most for the first of them; 0 for the others."""
    count = view.shape[axis]
    top = reduce_over(builder, view, [axis], True, largest)
    below = applied(builder, combine(builder, Subtract(), top, view), "positive")
    is_top = per_channel(builder, below, -1.0, 1.0)
    rank = np.arange(1, count + 1) if last else np.arange(count, 0, -1)
    shape = [count if d == axis else 1 for d in range(view.rank)]
    return _whole(builder, per_channel(builder, is_top, rank.reshape(shape).astype(np.float64)), count)


def _is_best(builder: Builder, marked: View, axis: int) -> View:
    """1 for the element that has the largest number, else 0."""
    best = reduce_over(builder, marked, [axis], True, largest)
    return applied(builder, combine(builder, Subtract(), best, marked), "is_zero", width=0.5)


def _few_enough(node: SourceNode, count: int) -> None:
    if count > MAX_PLACES:
        raise Unsupported(f"{node.op_type} over {count} elements", f"at most {MAX_PLACES}")


@handles("ArgMax", "ArgMin")
def place_of_extreme(builder: Builder, node: SourceNode) -> list[Result]:
    """The elements that are the largest become 1, times a number that falls along the axis; the largest says where."""
    view, last = node.view(0), node.integer("select_last_index", 0) != 0
    axis, keep = node.axis(view, 0), node.integer("keepdims", 1) != 0
    count = view.shape[axis]
    _few_enough(node, count)
    if node.op_type == "ArgMin":
        view = per_channel(builder, view, -1.0)
    best = reduce_over(builder, _marked(builder, view, axis, last), [axis], keep, largest)
    return [_whole(builder, per_channel(builder, best, *((1.0, -1.0) if last else (-1.0, float(count)))), count)]


@handles("Hardmax")
def hard_maximum(builder: Builder, node: SourceNode) -> list[Result]:
    """1 for the first of the largest elements along an axis, 0 for the others."""
    view = node.view(0)
    axis = node.axis(view, -1)
    if builder.mixes_frames(view, [axis]):
        raise MixesFrames("Hardmax along the batch", "another axis")
    if node.integer("flatten", 0) and math.prod(view.shape[axis + 1 :]) != 1:  # as operator sets before 13 have it
        raise Unsupported(f"Hardmax over the dimensions from {axis} on together", "the last one")
    _few_enough(node, view.shape[axis])
    return [_is_best(builder, _marked(builder, view, axis, False), axis)]


@handles("OneHot")
def one_hot(builder: Builder, node: SourceNode) -> list[Result]:
    """Whether each place is the one that is given, counted from the front or from behind."""
    view, values = node.view(0), node.weights(2, "the values").reshape(-1)
    depths = node.constant(1, "the depth").reshape(-1)
    if depths.size != 1 or values.size != 2 or not 1 <= float(depths[0]) <= _MAX_SUMMED:
        raise Unsupported(f"depth {depths[:4].tolist()}, values {values[:4].tolist()}", "one depth and two values")
    depth = int(depths[0])
    axis = axis_in(node.integer("axis", -1), view.rank + 1)
    places = np.arange(depth, dtype=np.float64).reshape([depth if d == axis else 1 for d in range(view.rank + 1)])
    dims = (*view.dims[:axis], (), *view.dims[axis:])
    spread = enlarged(builder, View(view.layer, view.extent, dims), places)
    found = [
        applied(builder, per_channel(builder, spread, 1.0, -offset), "is_zero", width=0.5)
        for offset in (places, places - depth)
    ]
    return [per_channel(builder, combine(builder, Add(), *found), values[1] - values[0], values[0])]


def _running(builder: Builder, node: SourceNode) -> tuple[View, int]:
    """What is accumulated, and along which axis."""
    view, given = node.view(0), node.integer_list(1, "the axis")
    if len(given) != 1:
        raise Unsupported(f"{node.op_type} along {given}", "one axis")
    axis = axis_in(given[0], view.rank)
    if builder.mixes_frames(view, [axis]):
        raise MixesFrames(f"{node.op_type} along the batch", "another axis")
    return view, axis


@handles("CumSum")
def running_total(builder: Builder, node: SourceNode) -> list[Result]:
    """A product by ones on one side of the diagonal."""
    view, axis = _running(builder, node)
    size = view.shape[axis]
    if size > _MAX_SUMMED:
        raise Unsupported(f"CumSum of {size} elements", f"at most {_MAX_SUMMED}")
    matrix = np.triu(np.ones((size, size)), 1 if node.integer("exclusive", 0) else 0)
    return [along(builder, view, axis, matrix.T if node.integer("reverse", 0) else matrix)]


@handles("Trilu")
def triangle(builder: Builder, node: SourceNode) -> list[Result]:
    view, given = node.view(0), node.optional(1, "k")
    k = 0 if given is None else int(given.reshape(-1)[0]) if given.size == 1 and given.dtype.kind in "iu" else None
    if view.rank < 2 or k is None or builder.mixes_frames(view, [view.rank - 2, view.rank - 1]):
        raise Unsupported(f"Trilu of a tensor of rank {view.rank}", "matrices of each frame, and one diagonal")
    rows, columns = view.shape[-2:]
    k = min(max(k, -rows - 1), columns + 1)
    builder.budget.take((rows, columns))
    mask = (np.triu if node.integer("upper", 1) else np.tril)(np.ones((rows, columns)), k)
    return [per_channel(builder, view, mask)]


@handles("CumProd")
def running_product(builder: Builder, node: SourceNode) -> list[Result]:
    """Products over 1, 2, 4 … elements, each of two that are half as long."""
    view, axis = _running(builder, node)
    size, reverse, shift = view.shape[axis], node.integer("reverse", 0) != 0, 1
    if node.integer("exclusive", 0):
        view = _moved(builder, view, axis, 1, reverse)
    while shift < size:
        view = combine(builder, Multiply(), view, _moved(builder, view, axis, shift, reverse))
        shift *= 2
    return [view]


def _moved(builder: Builder, view: View, axis: int, shift: int, reverse: bool) -> View:
    """Elements ``shift`` places further along the axis, ones in front of them."""
    size = view.shape[axis]
    count = min(shift, size)
    ranges = [(0, s, 1) for s in view.shape]
    ranges[axis] = (0, count, 1)
    ones = per_channel(builder, cut(builder, view, ranges), 0.0, 1.0)
    if count == size:
        return ones
    ranges[axis] = (count if reverse else 0, size - count, 1)
    rest = cut(builder, view, ranges)
    return join(builder, [rest, ones] if reverse else [ones, rest], axis)
