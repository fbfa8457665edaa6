# SPDX-License-Identifier: Apache-2.0
"""Slice, Gather, Split, Pad and Concat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headrace.frontends.fold import axis_in, slice_ranges, split_sizes
from headrace.frontends.graph import MixesFrames, Unsupported, constant, integer_list
from headrace.frontends.layout import View, lift_batch, regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import FLOAT_MAX
from headrace.frontends.to_hn.compositions.padding import padded
from headrace.frontends.to_hn.compositions.parts import cut, join, pick
from headrace.frontends.to_hn.compositions.repeat import constant_tensor
from headrace.frontends.to_hn.compositions.window import padding_of_maxima
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array

MAX_INDICES = 1 << 16


def nothing(view: View, axis: int) -> Array:
    """A part of a tensor without any element, which Concat leaves out."""
    return np.zeros([0 if i == axis else s for i, s in enumerate(view.shape)], np.float32)


@handles("Slice")
def slice_(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    operands = [
        None,
        *(node.optional(i, what) for i, what in enumerate(("starts", "ends", "axes", "steps"), start=1)),
    ]
    batch = view.batch_dim
    whole = list(builder.full_shape(view))
    if builder.batch < 0 and batch >= 0 and whole[batch] == 1:
        whole[batch] = 1 << 30
    if batch >= 0 and slice_ranges(whole, operands)[batch] != (0, whole[batch], 1) and not builder.one_frame:
        raise MixesFrames("a slice of the batch", "a slice of other axes")
    ranges = [(start, len(range(start, stop, step)), step) for start, stop, step in slice_ranges(view.shape, operands)]
    return [cut(builder, view, [(a, n, 1 if n == 1 and s > 0 else s) for a, n, s in ranges])]


@handles("Gather")
def gather(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    if node.known(1) is None:
        raise Unsupported("its indices are computed: it chooses elements by their values", "constant indices")
    given = node.constant(1, "the indices")
    of_batch = axis_in(node.integer("axis", 0), view.rank) == view.batch_dim and builder.batch == 1
    if of_batch and given.tolist() in (0, -1) and view.shape[view.batch_dim] == 1:  # the one frame of the batch
        return [regroup(view, [s for i, s in enumerate(view.shape) if i != view.batch_dim])]
    axis = node.axis(view, 0)
    if given.dtype.kind not in "iu" or not given.size or given.size > MAX_INDICES:
        raise Unsupported(f"indices of shape {list(given.shape)}", f"1 to {MAX_INDICES} whole numbers")
    size = view.shape[axis]
    indices = [int(i) for i in given.reshape(-1)]
    if any(not -size <= i < size for i in indices):
        raise Unsupported(f"indices that an axis of {size} does not have")
    picked = pick(builder, view, axis, [i % size for i in indices])
    if given.ndim == 1:
        return [picked]
    if not given.ndim and axis != view.batch_dim:
        return [replace(picked, dims=picked.dims[:axis] + picked.dims[axis + 1 :])]
    shape = builder.full_shape(picked)
    return [builder.regroup(picked, [*shape[:axis], *given.shape, *shape[axis + 1 :]])]


@handles("Split")
def split(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    axis = node.axis(view, 0)
    if view.shape[axis] < len(node.outputs):
        raise Unsupported(f"Split of {view.shape[axis]} into {len(node.outputs)} parts")
    results: list[Result] = []
    start = 0
    for size in split_sizes(node.node, view.shape[axis], node.optional(1, "split")):
        ranges = [(0, s, 1) for s in view.shape]
        ranges[axis] = (start, size, 1)
        results.append(cut(builder, view, ranges) if size else nothing(view, axis))
        start += size
    return results


@handles("Pad")
def pad(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    mode = node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"Pad with mode {mode!r}", "mode constant, reflect, edge or wrap")
    given = node.optional(2, "the value")
    value = float(given.reshape(-1)[0]) if given is not None and given.size else 0.0
    if padding_of_maxima(node.node) is not None:
        return [view]  # its readers have it
    if not abs(value) <= FLOAT_MAX:
        raise Unsupported(f"Pad with the value {value}", "a finite value")
    amounts = node.integer_list(1, "pads")
    axes_given = node.optional(3, "axes")
    axes = (
        list(range(view.rank))
        if axes_given is None
        else [axis_in(a, view.rank) for a in integer_list(axes_given, "axes")]
    )
    if len(amounts) != 2 * len(axes):
        raise Unsupported(f"pads {amounts}", "one size before and after each axis")
    before, after = [0] * view.rank, [0] * view.rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = amounts[i], amounts[len(axes) + i]
    if not any(amounts):
        return [view]
    if any(b + a + s < 1 for b, a, s in zip(before, after, view.shape, strict=True)):
        raise Unsupported(f"pads {amounts} of {list(view.shape)}", "a tensor that is not empty")
    of_batch = view.rank and (before[view.batch_dim] or after[view.batch_dim])
    if of_batch and not builder.one_frame:
        raise MixesFrames("padding of the batch", "padding of other axes")
    if of_batch or not view.batch_first:
        lifted, put_back = lift_batch(view)
        return [put_back(padded(builder, lifted, [0, *before], [0, *after], mode, value))]
    return [padded(builder, view, before, after, mode, value)]


def _is_empty(array: Array | None, axis: int) -> bool:
    return array is not None and -array.ndim <= axis < array.ndim and array.shape[axis] == 0


@handles("Concat")
def concat(builder: Builder, node: SourceNode) -> list[Result]:
    axis_given = node.integer("axis", 0)
    inputs = [i for i, v in enumerate(node.inputs) if not _is_empty(constant(v), axis_given)]
    known = {i: node.known(i) is not None for i in inputs}
    if all(known.values()):
        raise Unsupported("it has no computed input")
    first = node.view(next(i for i, fixed in known.items() if not fixed))
    views = [
        constant_tensor(builder, first, node.weights(i, "the constant")) if fixed else node.view(i)
        for i, fixed in known.items()
    ]
    axis = node.axis(views[0], 0) if len(views) > 1 else 0
    return [join(builder, views, axis)]
