# SPDX-License-Identifier: Apache-2.0
"""Copies along dimensions of size 1, and tensors that hold constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import CHANNELS, HEIGHT, WIDTH, Atom, View, lift_batch, regroup, with_rank
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.compositions.parts import cut, pick
from headrace.frontends.to_hn.operands import MAX_CHANNELS, divided
from headrace.hn import Array
from headrace.layers import Convolution, ResizeNearest, Slice

MAX_SIZE = 1 << 16


def repeated(builder: Builder, view: View, sizes: Sequence[int]) -> View:
    """Dimensions of size 1 copied to ``sizes``: rows and columns by a nearest resize, channels by ones or copies."""
    grown = [d for d in range(view.rank) if view.shape[d] != sizes[d]]
    if grown and (not view.batch_first or view.batch_dim in grown) and not builder.mixes_frames(view, grown):
        lifted, put_back = lift_batch(view)
        return put_back(repeated(builder, lifted, [1, *sizes]))
    if any(view.shape[d] != 1 for d in grown) or view.batch_dim in grown:
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
        made = builder.emit(Convolution(kernel_shape=(1, 1, 1, count)), [layer], params)
        return builder.output(made, found)
    return pick(builder, view, dim, [0] * count)


def _stretched(builder: Builder, view: View, axis: int, count: int, dims: Mapping[int, tuple[Atom, ...]]) -> View:
    """Every element of height or width ``count`` times, with the given source dimensions changed."""
    extent = list(view.extent)
    extent[axis] *= count
    operation = ResizeNearest((extent[0], extent[1]), coordinates="asymmetric", rounding="floor")
    made = builder.emit(operation, [builder.as_image(view.layer)])
    changed = tuple(dims.get(i, d) for i, d in enumerate(view.dims))
    return View(made.name, builder.extent(made.name), changed)


def constant_tensor(builder: Builder, like: View, array: Array) -> View:
    """A tensor that holds constants, made of another one of its rank: zero times a part of it plus the constants."""
    array = divided(builder, like, array)
    if builder.one_frame and array.ndim == like.rank and (not like.batch_first or array.shape[:1] != (1,)):
        lifted, put_back = lift_batch(like)
        return put_back(constant_tensor(builder, lifted, array[None]))
    if array.ndim != like.rank or array.shape[0] != 1:
        raise Unsupported(f"a constant of shape {list(array.shape)}", "one for all frames, of the other inputs' rank")
    sizes = [min(a, b) for a, b in zip(array.shape, like.shape, strict=True)]
    part = cut(builder, like, [(0, 1 if s < a else s, 1) for s, a in zip(sizes, array.shape, strict=True)])
    return per_channel(builder, repeated(builder, part, array.shape), 0.0, array)


def enlarged(builder: Builder, view: View, array: Array) -> View:
    """The tensor with what a constant enlarges by broadcasting repeated: dimensions of size 1."""
    view = with_rank(view, max(view.rank, array.ndim)) if builder.one_frame else view
    if array.ndim > view.rank:
        return view
    sizes = (1,) * (view.rank - array.ndim) + array.shape
    grown = [max(pair) if min(pair) == 1 else pair[1] for pair in zip(sizes, view.shape, strict=True)]
    if not builder.one_frame:
        grown[:1] = view.shape[:1]
    return repeated(builder, view, grown) if tuple(grown) != view.shape else view


def constant_beside(builder: Builder, view: View, array: Array) -> View:
    """A tensor that holds constants whatever its shape, the same for each frame of another tensor."""
    if array.size > MAX_CHANNELS:
        raise Unsupported(f"a constant of {array.size} elements", f"at most {MAX_CHANNELS}")
    rank = len(builder.network[view.layer].output_shape) - 1
    corner = builder.emit(Slice(starts=(0,) * rank, steps=(1,) * rank, sizes=(1,) * rank), [view.layer])
    params = {"kernel": np.zeros((1, 1, 1, array.size)), "bias": array.reshape(-1)}
    operation = Convolution(kernel_shape=(1, 1, 1, array.size))
    made = builder.emit(operation, [builder.as_image(corner.name)], params)
    flat = builder.output(made, (None, CHANNELS))
    return regroup(flat, array.shape, movable=True)
