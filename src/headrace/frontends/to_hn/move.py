# SPDX-License-Identifier: Apache-2.0
"""Slice, Split, Pad and Concat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import axis_in, slice_ranges, split_sizes
from headrace.frontends.graph import Unsupported, constant, integer_list, text
from headrace.frontends.layout import CHANNELS, Arrangement, View
from headrace.frontends.to_hn.base import Builder, Result, handles
from headrace.frontends.to_hn.shape import checked_axis


def _per_axis(
    builder: Builder, layer: str, arrangement: Arrangement, values: Sequence[int], neutral: Sequence[int]
) -> list[int]:
    """Values per source dimension as values per non-batch axis of the HN tensor."""
    out = list(neutral)
    for dim, axis in enumerate(arrangement):
        if axis is not None:
            out[axis] = values[dim]
        elif dim and values[dim] != 1 and values[dim] != 0:
            raise Unsupported(f"dimension {dim} has no axis in the HN tensor")
    return [out[CHANNELS]] if builder.is_vector(layer) else out


def cut(builder: Builder, view: View, ranges: Sequence[tuple[int, int, int]]) -> View:
    """The part of a tensor with the given (start, size, step) per source dimension."""
    if all(r == (0, size, 1) for r, size in zip(ranges, view.shape, strict=True)):
        return view
    if ranges[0] != (0, 1, 1):
        raise Unsupported("a slice of the batch", "a slice of other axes")
    if any(step < 1 or size < 1 for _, size, step in ranges):
        raise Unsupported("a slice that is empty or runs backwards", "at least one element and a positive step")
    layer, arrangement = builder.arranged(view)
    extent = builder.extent(layer)
    starts, sizes, steps = ([r[i] for r in ranges] for i in range(3))
    attributes = {
        "starts": _per_axis(builder, layer, arrangement, starts, (0, 0, 0)),
        "steps": _per_axis(builder, layer, arrangement, steps, (1, 1, 1)),
        "sizes": _per_axis(builder, layer, arrangement, sizes, extent),
    }
    return builder.output(builder.emit("slice", [layer], attributes), arrangement)


@handles("Slice")
def slice_(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    operands = [
        None,
        *(builder.optional(node, i, what) for i, what in enumerate(("starts", "ends", "axes", "steps"), start=1)),
    ]
    frames = builder.batch if builder.batch > 0 else 1 << 30
    if slice_ranges([frames, *view.shape[1:]], operands)[0] != (0, frames, 1):
        raise Unsupported("a slice of the batch", "a slice of other axes")
    ranges = [(start, len(range(start, stop, step)), step) for start, stop, step in slice_ranges(view.shape, operands)]
    return [cut(builder, view, [(a, n, 1 if n == 1 and s > 0 else s) for a, n, s in ranges])]


@handles("Split")
def split(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    axis = checked_axis(node, view.rank, 0)
    if view.shape[axis] < len(node.outputs):
        raise Unsupported(f"Split of {view.shape[axis]} into {len(node.outputs)} parts")
    results: list[Result] = []
    start = 0
    for size in split_sizes(node, view.shape[axis], builder.optional(node, 1, "split")):
        ranges = [(0, s, 1) for s in view.shape]
        ranges[axis] = (start, size, 1)
        results.append(cut(builder, view, ranges))
        start += size
    return results


@handles("Pad")
def pad(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    mode = text(node, "mode", "constant") or "constant"
    if mode != "constant":
        raise Unsupported(f"Pad with mode {mode!r}", "mode 'constant' with value 0")
    value = builder.optional(node, 2, "the value")
    if value is not None and value.size and np.any(value.reshape(-1)[:1] != 0):
        raise Unsupported(f"Pad with the value {value.reshape(-1)[0]}", "value 0")
    amounts = integer_list(builder.constant(node, 1, "pads"), "pads")
    axes_given = builder.optional(node, 3, "axes")
    axes = (
        list(range(view.rank))
        if axes_given is None
        else [axis_in(a, view.rank) for a in integer_list(axes_given, "axes")]
    )
    if len(amounts) != 2 * len(axes) or any(a < 0 for a in amounts):
        raise Unsupported(f"pads {amounts}", "one size that is not negative before and after each axis")
    before, after = [0] * view.rank, [0] * view.rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = amounts[i], amounts[len(axes) + i]
    if not any(amounts):
        return [view]
    if before[0] or after[0]:
        raise Unsupported("padding of the batch", "padding of other axes")
    layer, arrangement = builder.arranged(view)
    for dim in range(1, view.rank):
        if arrangement[dim] is None and (before[dim] or after[dim]):
            raise Unsupported(
                f"dimension {dim} of a tensor of rank {view.rank} has no axis in the HN tensor", "rank up to 4"
            )
    layer = builder.same_rank([layer])[0]
    attributes = {
        "before": _per_axis(builder, layer, arrangement, before, (0, 0, 0)),
        "after": _per_axis(builder, layer, arrangement, after, (0, 0, 0)),
    }
    return [builder.output(builder.emit("external_pad", [layer], attributes), arrangement)]


@handles("Concat")
def concat(builder: Builder, node: ir.Node) -> list[Result]:
    known = [constant(v) is not None for v in node.inputs]
    if any(known):
        raise Unsupported(f"input {known.index(True)} of Concat is a constant", "computed tensors")
    views = [builder.view(node, i) for i in range(len(node.inputs))]
    if not views:
        raise Unsupported("it has no input")
    if len(views) == 1:
        return [views[0]]
    rank = views[0].rank
    if any(v.rank != rank for v in views):
        raise Unsupported(f"inputs of ranks {[v.rank for v in views]}", "equal ranks")
    axis = checked_axis(node, rank, 0)
    if any(v.shape[:axis] + v.shape[axis + 1 :] != views[0].shape[:axis] + views[0].shape[axis + 1 :] for v in views):
        raise Unsupported(f"inputs of shapes {[list(v.shape) for v in views][:6]}", "equal sizes but along the axis")
    largest = max(views, key=lambda v: v.elements)
    arrangement = builder.arrangement_of(largest)
    if arrangement is None or arrangement[axis] is None:
        arrangement = builder.canonical(rank)
    place = arrangement[axis]
    assert place is not None
    layers = builder.same_rank([builder.arrange(v, arrangement) for v in views])
    made = builder.emit("concat", layers, {"axis": 0 if builder.is_vector(layers[0]) else place})
    return [builder.output(made, arrangement)]
