# SPDX-License-Identifier: Apache-2.0
"""Parts of a tensor, and tensors one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import CHANNELS, Groups, View, arrangement_axes, group_dimensions, lift_batch, permute
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.rows import along, rows_times
from headrace.layers import Concat, Slice

#: Most slices that one node may become.
MAX_PIECES = 64
#: Most elements that one layer puts in reverse order; its weights are this many squared.
MAX_TURNED = 1024
#: Most weights of a product by ones and zeros that chooses elements.
MAX_CHOICES = 1 << 22


def axis_values(
    builder: Builder, layer: str, groups: Groups, dims: Mapping[int, int], neutral: Sequence[int]
) -> tuple[int, ...]:
    """Values of whole-axis source dimensions as values per non-batch axis of the HN tensor."""
    out = list(neutral)
    for axis, group in enumerate(groups):
        for dim in group:
            if dim in dims:
                out[axis] = dims[dim]
    return (out[CHANNELS],) if builder.is_vector(layer) else tuple(out)


def _cut_axes(builder: Builder, view: View, ranges: Mapping[int, tuple[int, int, int]]) -> View:
    """One slice layer: (start, size, step) of source dimensions that can stand alone."""
    layer, groups = builder.apart(view, list(ranges))
    parts = [{d: r[i] for d, r in ranges.items()} for i in range(3)]
    operation = Slice(
        starts=axis_values(builder, layer, groups, parts[0], (0, 0, 0)),
        steps=axis_values(builder, layer, groups, parts[2], (1, 1, 1)),
        sizes=axis_values(builder, layer, groups, parts[1], builder.extent(layer)),
    )
    sizes = [ranges[d][1] if d in ranges else size for d, size in enumerate(view.shape)]
    return builder.grouped(builder.emit(operation, [layer]).name, groups, sizes)


def cut(builder: Builder, view: View, ranges: Sequence[tuple[int, int, int]]) -> View:
    """The part of a tensor with the given (start, size, step) per source dimension."""
    if all(r == (0, size, 1) for r, size in zip(ranges, view.shape, strict=True)):
        return view
    of_batch = ranges[view.batch_dim] != (0, view.shape[view.batch_dim], 1)
    if of_batch and not builder.one_frame:
        raise MixesFrames("a slice of the batch", "a slice of other axes")
    if of_batch or not view.batch_first:
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
    """The elements ``indices`` of one dimension, in that order: slices, joined; long backward runs are turned whole.

    Too many pieces for that are a product by ones and zeros.
    """
    runs = _runs(indices, False)
    if len(runs) > MAX_PIECES:
        runs = _runs(indices, True)
    if len(runs) > MAX_PIECES and len(indices) * view.shape[dim] <= MAX_CHOICES:
        return along(builder, view, dim, np.eye(view.shape[dim])[:, list(indices)])
    if not runs or len(runs) > MAX_PIECES:
        raise Unsupported(
            f"{len(runs)} separate pieces of one axis, {len(indices)} elements of {view.shape[dim]}",
            f"1 to {MAX_PIECES} pieces, or at most {MAX_CHOICES} elements times choices",
        )
    parts: list[View] = []
    for run in runs:
        step = run[1] - run[0] if len(run) > 1 else 1
        ranges = [(0, size, 1) for size in view.shape]
        ranges[dim] = (min(run), len(run), abs(step))
        part = cut(builder, view, ranges)
        parts.append(_turned(builder, part, dim) if step < 0 else part)
    return join(builder, parts, dim)


def _runs(indices: Sequence[int], backwards: bool) -> list[list[int]]:
    """Indices in pieces with one step each, which is positive unless ``backwards``."""
    runs: list[list[int]] = []
    for index in indices:
        last = runs[-1] if runs else []
        follows = len(last) == 1 or (len(last) > 1 and index - last[-1] == last[1] - last[0])
        if follows and (index > last[-1] or (backwards and index < last[-1])):
            last.append(index)
        else:
            runs.append([index])
    return runs


def _turned(builder: Builder, view: View, dim: int) -> View:
    """One dimension from its end to its beginning: a product with the matrix that has ones across."""
    size = view.shape[dim]
    if size > MAX_TURNED or dim == view.batch_dim:
        raise Unsupported(f"{size} elements in reverse order", f"at most {MAX_TURNED}, not those of the batch")
    order = [*(d for d in range(view.rank) if d != dim), dim]
    made = rows_times(builder, permute(view, order), np.ascontiguousarray(np.eye(size)[::-1]))
    return permute(made, [order.index(d) for d in range(view.rank)])


def join(builder: Builder, views: Sequence[View], axis: int) -> View:
    """Tensors one behind the other along one source dimension."""
    if len(views) == 1:
        return views[0]
    rank = views[0].rank
    if any(v.rank != rank for v in views):
        raise Unsupported(f"inputs of ranks {[v.rank for v in views]}", "equal ranks")
    if not all(v.batch_first for v in views) or axis == 0:
        lifted = [lift_batch(v) for v in views]
        if len({v.batch_dim for v in views}) > 1 and not builder.one_frame:
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
    made = builder.emit(Concat(0 if builder.is_vector(layers[0]) else place), layers)
    sizes = list(views[0].shape)
    sizes[axis] = sum(v.shape[axis] for v in views)
    return builder.grouped(made.name, groups, sizes)
