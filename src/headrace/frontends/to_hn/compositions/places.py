# SPDX-License-Identifier: Apache-2.0
"""Elements taken from known places of a tensor, and put at known places.

Places are numbers of elements in the source's order. What lies outside and inside of them in whole dimensions stays
dimensions; along what is left, places are indices of one dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.parts import join, pick
from headrace.hn import Array

#: Indices of one dimension.
MAX_INDICES = 1 << 16


@dataclass(frozen=True)
class _Middle:
    """Places as ``outer`` whole dimensions, ``indices`` of the next ones as one, and whole dimensions within."""

    outer: int
    inner: int
    indices: tuple[int, ...]


def _middle(shape: Sequence[int], places: Array) -> _Middle:
    """The fewest dimensions along which ``places`` (in the order of the result) choose."""
    flat = places.reshape(-1)
    inner = len(shape)
    while inner > 0:
        width = math.prod(shape[inner - 1 :])
        if flat.size % width or not _runs(flat.reshape(-1, width), width):
            break
        inner -= 1
    width = math.prod(shape[inner:])
    flat = flat.reshape(-1, width)[:, 0] // width
    outer = 0
    while outer < inner:
        count = math.prod(shape[: outer + 1])
        step = math.prod(shape[outer + 1 : inner])
        if flat.size % count or not _repeats(flat.reshape(count, -1), step):
            break
        outer += 1
    rest = flat[: flat.size // math.prod(shape[:outer])]
    return _Middle(outer, inner, tuple(int(i) for i in rest))


def _runs(rows: Array, width: int) -> bool:
    return bool((rows[:, :1] % width == 0).all() and (rows == rows[:, :1] + np.arange(width)).all())


def _repeats(rows: Array, step: int) -> bool:
    return bool((rows == rows[:1] + step * np.arange(len(rows))[:, None]).all() and rows[0].max(initial=0) < step)


def _gathered_dimensions(view: View, middle: _Middle) -> View:
    """The view with the dimensions along which places choose as one."""
    between = tuple(a for dim in view.dims[middle.outer : middle.inner] for a in dim)
    return View(view.layer, view.extent, (*view.dims[: middle.outer], between, *view.dims[middle.inner :]))


def taken(builder: Builder, view: View, places: Array, shape: Sequence[int]) -> View:
    """The elements of a frame at ``places``, as a tensor of ``shape`` (with the batch of one frame)."""
    middle = _middle(view.shape, places)
    if len(middle.indices) > MAX_INDICES or not places.size:
        raise Unsupported(f"{len(middle.indices)} places", f"1 to {MAX_INDICES}")
    if builder.mixes_frames(view, range(middle.outer, middle.inner)) and view.shape[view.batch_dim] > 1:
        raise MixesFrames("places in the batch", "places in other dimensions")
    if middle.outer == middle.inner:
        return builder.regroup(view, _framed(builder, shape))
    whole = _gathered_dimensions(view, middle)
    return builder.regroup(pick(builder, whole, middle.outer, middle.indices), _framed(builder, shape))


def _framed(builder: Builder, shape: Sequence[int]) -> list[int]:
    return [shape[0] * builder.frames, *shape[1:]] if builder.frames > 1 else list(shape)


def put(builder: Builder, view: View, updates: View, places: Array) -> View:
    """The tensor with the elements at ``places`` replaced by those of ``updates``, in its order; each at most once."""
    middle = _middle(view.shape, places)
    count = math.prod(view.shape[middle.outer : middle.inner])
    if builder.mixes_frames(view, range(middle.outer, middle.inner)) and view.shape[view.batch_dim] > 1:
        raise MixesFrames("places in the batch", "places in other dimensions")
    indices = list(range(count))
    for number, index in enumerate(middle.indices):
        indices[index] = count + number
    if count + len(middle.indices) > MAX_INDICES:
        raise Unsupported(f"{count} elements and {len(middle.indices)} places", f"at most {MAX_INDICES}")
    whole = _gathered_dimensions(view, middle)
    sizes = [*whole.shape[: middle.outer], len(middle.indices), *whole.shape[middle.outer + 1 :]]
    new = builder.regroup(updates, _framed(builder, sizes))
    both = join(builder, [whole, new], middle.outer)
    return builder.regroup(pick(builder, both, middle.outer, indices), builder.full_shape(view))
