# SPDX-License-Identifier: Apache-2.0
"""Slice, Gather, Split, Pad and Concat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import axis_in, slice_ranges, split_sizes
from headrace.frontends.graph import MixesFrames, Unsupported, constant, integer, integer_list, text
from headrace.frontends.layout import (
    CHANNELS,
    HEIGHT,
    WIDTH,
    Atom,
    Groups,
    View,
    arrangement_axes,
    group_dimensions,
    lift_batch,
    regroup,
)
from headrace.frontends.to_hn.activation import FLOAT_MAX
from headrace.frontends.to_hn.base import Builder, Result, handles
from headrace.frontends.to_hn.elementwise import per_channel
from headrace.frontends.to_hn.shape import checked_axis, drop_dimension
from headrace.hn import Array

#: Most slices that one node may become.
MAX_PIECES = 64
MAX_INDICES = 1 << 16
MAX_SIZE = 1 << 16


def _values(builder: Builder, layer: str, groups: Groups, dims: Mapping[int, int], neutral: Sequence[int]) -> list[int]:
    """Values of whole-axis source dimensions as values per non-batch axis of the HN tensor."""
    out = list(neutral)
    for axis, group in enumerate(groups):
        for dim in group:
            if dim in dims:
                out[axis] = dims[dim]
    return [out[CHANNELS]] if builder.is_vector(layer) else out


def _cut_axes(builder: Builder, view: View, ranges: Mapping[int, tuple[int, int, int]]) -> View:
    """One slice layer: (start, size, step) of source dimensions that can stand alone."""
    layer, groups = builder.apart(view, list(ranges))
    parts = [{d: r[i] for d, r in ranges.items()} for i in range(3)]
    attributes = {
        "starts": _values(builder, layer, groups, parts[0], (0, 0, 0)),
        "steps": _values(builder, layer, groups, parts[2], (1, 1, 1)),
        "sizes": _values(builder, layer, groups, parts[1], builder.extent(layer)),
    }
    sizes = [ranges[d][1] if d in ranges else size for d, size in enumerate(view.shape)]
    return builder.grouped(builder.emit("slice", [layer], attributes).name, groups, sizes)


def cut(builder: Builder, view: View, ranges: Sequence[tuple[int, int, int]]) -> View:
    """The part of a tensor with the given (start, size, step) per source dimension."""
    if all(r == (0, size, 1) for r, size in zip(ranges, view.shape, strict=True)):
        return view
    if ranges[view.batch_dim] != (0, view.shape[view.batch_dim], 1):
        raise MixesFrames("a slice of the batch", "a slice of other axes")
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        return put_back(cut(builder, lifted, [(0, 1, 1), *ranges]))
    if any(size < 1 for _, size, _ in ranges):
        raise Unsupported("a slice that is empty", "at least one element")
    changed = {d: r for d, r in enumerate(ranges) if r != (0, view.shape[d], 1)}
    backwards = {d: r for d, r in changed.items() if r[2] < 0}
    forwards = {d: r for d, r in changed.items() if r[2] > 0}
    if builder.arrangement_of(view) is not None and forwards:
        view = _cut_axes(builder, view, forwards)
    else:
        for dim, part in forwards.items():
            view = _cut_axes(builder, view, {dim: part})
    for dim, (start, size, step) in backwards.items():
        view = pick(builder, view, dim, list(range(start, start + size * step, step)))
    return view


def pick(builder: Builder, view: View, dim: int, indices: Sequence[int]) -> View:
    """The elements ``indices`` of one dimension, in that order: slices, joined."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and (len(runs[-1]) == 1 or index - runs[-1][-1] == runs[-1][1] - runs[-1][0]) and index > runs[-1][-1]:
            runs[-1].append(index)
        else:
            runs.append([index])
    if not runs or len(runs) > MAX_PIECES:
        raise Unsupported(f"{len(runs)} separate pieces of one axis", f"1 to {MAX_PIECES}")
    parts: list[View] = []
    for run in runs:
        ranges = [(0, size, 1) for size in view.shape]
        ranges[dim] = (run[0], len(run), run[1] - run[0] if len(run) > 1 else 1)
        parts.append(cut(builder, view, ranges))
    return join(builder, parts, dim)


def nothing(view: View, axis: int) -> Array:
    """A part of a tensor without any element, which Concat leaves out."""
    return np.zeros([0 if i == axis else s for i, s in enumerate(view.shape)], np.float32)


@handles("Slice")
def slice_(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    operands = [
        None,
        *(builder.optional(node, i, what) for i, what in enumerate(("starts", "ends", "axes", "steps"), start=1)),
    ]
    batch = view.batch_dim
    whole = list(builder.full_shape(view))
    if builder.batch < 0 and whole[batch] == 1:
        whole[batch] = 1 << 30
    if slice_ranges(whole, operands)[batch] != (0, whole[batch], 1):
        raise MixesFrames("a slice of the batch", "a slice of other axes")
    ranges = [(start, len(range(start, stop, step)), step) for start, stop, step in slice_ranges(view.shape, operands)]
    return [cut(builder, view, [(a, n, 1 if n == 1 and s > 0 else s) for a, n, s in ranges])]


@handles("Gather")
def gather(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    given = builder.constant(node, 1, "the indices")
    of_batch = axis_in(integer(node, "axis", 0), view.rank) == view.batch_dim and builder.batch == 1
    if of_batch and given.tolist() in (0, -1) and view.shape[view.batch_dim] == 1:  # the one frame of the batch
        return [regroup(view, [s for i, s in enumerate(view.shape) if i != view.batch_dim])]
    axis = checked_axis(node, view, 0)
    if given.ndim > 1 or given.dtype.kind not in "iu" or given.size > MAX_INDICES:
        raise Unsupported(f"indices of shape {list(given.shape)}", "one index, or one list of indices")
    size = view.shape[axis]
    indices = [int(i) for i in given.reshape(-1)]
    if any(not -size <= i < size for i in indices):
        raise Unsupported(f"indices that an axis of {size} does not have")
    picked = pick(builder, view, axis, [i % size for i in indices])
    return [picked if given.ndim else drop_dimension(picked, axis)]


@handles("Split")
def split(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    axis = checked_axis(node, view, 0)
    if view.shape[axis] < len(node.outputs):
        raise Unsupported(f"Split of {view.shape[axis]} into {len(node.outputs)} parts")
    results: list[Result] = []
    start = 0
    for size in split_sizes(node, view.shape[axis], builder.optional(node, 1, "split")):
        ranges = [(0, s, 1) for s in view.shape]
        ranges[axis] = (start, size, 1)
        results.append(cut(builder, view, ranges) if size else nothing(view, axis))
        start += size
    return results


@handles("Pad")
def pad(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    mode = text(node, "mode", "constant") or "constant"
    if mode not in ("constant", "reflect", "edge"):
        raise Unsupported(f"Pad with mode {mode!r}", "mode 'constant' with value 0, 'reflect' or 'edge'")
    given = builder.optional(node, 2, "the value")
    value = float(given.reshape(-1)[0]) if given is not None and given.size else 0.0
    if not abs(value) <= FLOAT_MAX:
        raise Unsupported(f"Pad with the value {value}", "a finite value")
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
    if before[view.batch_dim] or after[view.batch_dim]:
        raise MixesFrames("padding of the batch", "padding of other axes")
    if not view.batch_first:
        lifted, put_back = lift_batch(view)
        return [put_back(_padded(builder, lifted, [0, *before], [0, *after], mode, value))]
    return [_padded(builder, view, before, after, mode, value)]


def _padded(builder: Builder, view: View, before: Sequence[int], after: Sequence[int], mode: str, value: float) -> View:
    """The tensor continued by the given sizes before and after each dimension."""
    if mode != "constant":
        for dim in range(1, view.rank):
            view = pick(builder, view, dim, continued(view.shape[dim], before[dim], after[dim], mode == "reflect"))
        return view
    if value:  # zero around x - value, then value everywhere
        view = per_channel(builder, view, np.ones(()), np.full((), -value))
    padded = [d for d in range(1, view.rank) if before[d] or after[d]]
    layer, groups = builder.apart(view, padded)
    if any(d in group for group in groups[:CHANNELS] for d in padded):
        layer = builder.as_image(layer)
    attributes = {
        "before": _values(builder, layer, groups, {d: before[d] for d in padded}, (0, 0, 0)),
        "after": _values(builder, layer, groups, {d: after[d] for d in padded}, (0, 0, 0)),
    }
    sizes = [size + before[d] + after[d] for d, size in enumerate(view.shape)]
    result = builder.grouped(builder.emit("external_pad", [layer], attributes).name, groups, sizes)
    return per_channel(builder, result, np.ones(()), np.full((), value)) if value else result


def continued(size: int, before: int, after: int, reflect: bool = False) -> list[int]:
    """Which element stands at each position of an axis that is continued beyond its ends."""
    if not reflect:
        return [min(max(i, 0), size - 1) for i in range(-before, size + after)]
    if max(before, after) >= size:
        raise Unsupported(f"reflection by {max(before, after)} of an axis of {size}", "less than its size")
    return [size - 1 - abs(size - 1 - abs(i)) for i in range(-before, size + after)]


def _is_empty(array: Array | None, axis: int) -> bool:
    return array is not None and -array.ndim <= axis < array.ndim and array.shape[axis] == 0


@handles("Concat")
def concat(builder: Builder, node: ir.Node) -> list[Result]:
    axis_given = integer(node, "axis", 0)
    inputs = [i for i, v in enumerate(node.inputs) if not _is_empty(constant(v), axis_given)]
    known = {i: constant(node.inputs[i]) is not None for i in inputs}
    if all(known.values()):
        raise Unsupported("it has no computed input")
    first = builder.view(node, next(i for i, fixed in known.items() if not fixed))
    views = [
        constant_tensor(builder, first, builder.weights(node, i, "the constant")) if fixed else builder.view(node, i)
        for i, fixed in known.items()
    ]
    axis = checked_axis(node, views[0], 0) if len(views) > 1 else 0
    return [join(builder, views, axis)]


def repeated(builder: Builder, view: View, sizes: Sequence[int]) -> View:
    """Dimensions of size 1 copied to ``sizes``: rows and columns by a nearest resize, channels by ones or copies."""
    grown = [d for d in range(view.rank) if view.shape[d] != sizes[d]]
    if any(view.shape[d] != 1 for d in grown) or 0 in grown:
        raise Unsupported(f"from {list(view.shape)} to {list(sizes)}", "copies of dimensions of size 1, not the batch")
    if any(not 1 <= s <= MAX_SIZE for s in sizes):
        raise Unsupported(f"sizes {list(sizes)}", f"1 to {MAX_SIZE}")
    for dim in grown:
        view = _repeated(builder, view, dim, sizes[dim])
    return view


def _repeated(builder: Builder, view: View, dim: int, count: int) -> View:
    """One dimension of size 1, ``count`` times."""
    found = builder.arrangement_of(view)
    axis = found[dim] if found is not None else None
    if axis in (HEIGHT, WIDTH):
        return _stretched(builder, view, axis, count, {dim: (Atom(axis, count),)})
    outer = view.dims[dim - 1]
    if len(outer) == 1 and outer[0].axis in (HEIGHT, WIDTH) and outer[0].size == view.extent[outer[0].axis]:
        # Copies of each row beside it: a nearest resize, of which this dimension is the inner part.
        axis, size = outer[0].axis, outer[0].size
        return _stretched(builder, view, axis, count, {dim - 1: (Atom(axis, size, count),), dim: (Atom(axis, count),)})
    if axis == CHANNELS and found is not None:  # one channel: a convolution by ones, which takes a factor behind it
        layer = builder.arrange(view, found, vector=False)
        params = {"kernel": np.ones((1, 1, 1, count)), "bias": np.zeros(count)}
        made = builder.emit("conv", [layer], {"kernel_shape": [1, 1, 1, count]}, params)
        return builder.output(made, found)
    return pick(builder, view, dim, [0] * count)


def _stretched(builder: Builder, view: View, axis: int, count: int, dims: Mapping[int, tuple[Atom, ...]]) -> View:
    """Every element of height or width ``count`` times, with the given source dimensions changed."""
    extent = list(view.extent)
    extent[axis] *= count
    attributes = {"sizes": extent[:2], "coordinates": "asymmetric", "rounding": "floor"}
    made = builder.emit("resize_nearest", [builder.as_image(view.layer)], attributes)
    changed = tuple(dims.get(i, d) for i, d in enumerate(view.dims))
    return View(made.name, builder.extent(made.name), changed)


def constant_tensor(builder: Builder, like: View, array: Array) -> View:
    """A tensor that holds constants, made of another one of its rank: zero times a part of it plus the constants."""
    array = builder.divided(like, array)
    if array.ndim != like.rank or array.shape[0] != 1:
        raise Unsupported(f"a constant of shape {list(array.shape)}", "one for all frames, of the other inputs' rank")
    sizes = [min(a, b) for a, b in zip(array.shape, like.shape, strict=True)]
    part = cut(builder, like, [(0, 1 if s < a else s, 1) for s, a in zip(sizes, array.shape, strict=True)])
    return per_channel(builder, repeated(builder, part, array.shape), np.zeros(()), array)


def join(builder: Builder, views: Sequence[View], axis: int) -> View:
    """Tensors one behind the other along one source dimension."""
    if len(views) == 1:
        return views[0]
    rank = views[0].rank
    if any(v.rank != rank for v in views):
        raise Unsupported(f"inputs of ranks {[v.rank for v in views]}", "equal ranks")
    if not all(v.batch_first for v in views):
        lifted = [lift_batch(v) for v in views]
        if len({v.batch_dim for v in views}) > 1:
            raise Unsupported("inputs whose batch is not the same dimension", "one place for the batch")
        return lifted[0][1](join(builder, [v for v, _ in lifted], axis + 1))
    if any(v.shape[:axis] + v.shape[axis + 1 :] != views[0].shape[:axis] + views[0].shape[axis + 1 :] for v in views):
        raise Unsupported(f"inputs of shapes {[list(v.shape) for v in views][:6]}", "equal sizes but along the axis")
    largest = max(views, key=lambda v: v.elements)
    arrangement = builder.arrangement_of(largest)
    if arrangement is not None and arrangement[axis] is not None:
        groups = arrangement_axes(arrangement)
    else:
        groups = builder.common_groups(
            views, group_dimensions(largest, [d == axis for d in range(rank)], [axis] if rank > 1 else [])
        )
    place = next(i for i, group in enumerate(groups) if axis in group)
    layers = [builder.place(v, groups) for v in views]
    layers = builder.same_rank(layers) if place == CHANNELS else [builder.as_image(name) for name in layers]
    made = builder.emit("concat", layers, {"axis": 0 if builder.is_vector(layers[0]) else place})
    sizes = list(views[0].shape)
    sizes[axis] = sum(v.shape[axis] for v in views)
    return builder.grouped(made.name, groups, sizes)
