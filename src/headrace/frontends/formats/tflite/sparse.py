# SPDX-License-Identifier: Apache-2.0
"""Sparse constants of TFLite: how their bytes are spread over the dense tensor.

A tensor of n dimensions, some of them cut into blocks, is walked level by level (``traversal_order``; numbers from n on
are the blocks, ``block_map`` says of which dimension). A dense level has all its indices; a compressed one lists, for
each element of the level above, the indices that occur. The file's values are those of the last level, in order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.formats.tflite.flatbuffer import DamagedError, Table
from headrace.hn import Array

_MAX_LEVELS = 32
_DENSE, _COMPRESSED = 0, 1
#: Kinds of index lists by their number in the union.
_LISTS = {1: "<i4", 2: "<u2", 3: "<u1"}


@dataclass(frozen=True)
class Level:
    """One level of the walk: all indices below ``size``, or those that ``segments`` and ``indices`` list."""

    size: int
    segments: Array | None = None
    indices: Array | None = None


@dataclass(frozen=True)
class Sparsity:
    """How a sparse tensor is stored: per level its dimension (numbers from the rank on are blocks), and its indices."""

    order: tuple[int, ...]
    block_map: tuple[int, ...]
    levels: tuple[Level, ...]


def _index_list(level: Table, slot: int) -> Array:
    """The numbers of one index list, ``slot`` its kind and ``slot + 1`` the list."""
    kind, table = level.integer(slot, "u8"), level.table(slot + 1)
    if kind not in _LISTS or table is None:
        raise DamagedError(f"a compressed dimension has an index list of kind {kind}")
    return table.array(0, _LISTS[kind]).astype(np.int64)


def read_sparsity(table: Table) -> Sparsity:
    """The record of a sparse tensor.

    Raises:
        DamagedError: it is not one of the schema.
    """
    levels: list[Level] = []
    for entry in table.tables(2, _MAX_LEVELS, "levels of a sparse tensor"):
        kind = entry.integer(0, "i8")
        if kind == _DENSE:
            levels.append(Level(entry.integer(1, "i32")))
        elif kind == _COMPRESSED:
            levels.append(Level(0, _index_list(entry, 2), _index_list(entry, 4)))
        else:
            raise DamagedError(f"a dimension of a sparse tensor is stored in a way of number {kind}")
    order, block_map = table.integers(0, _MAX_LEVELS), table.integers(1, _MAX_LEVELS)
    return Sparsity(tuple(order), tuple(block_map), tuple(levels))


def _children(level: Level, parents: int, size: int, limit: int) -> tuple[Array, Array]:
    """Per element of a level: the number of its parent, and its index. Their number is checked before they are made."""
    if level.segments is None or level.indices is None:
        if level.size != size or parents * size > limit:
            raise DamagedError(f"a dimension of {size} has a level of {level.size}")
        return np.repeat(np.arange(parents), size), np.tile(np.arange(size), parents)
    segments, indices = level.segments, level.indices
    counts = np.diff(segments)
    if len(segments) != parents + 1 or segments[0] != 0 or segments[-1] != len(indices) or np.any(counts < 0):
        raise DamagedError("its index lists do not fit each other")
    if np.any(indices < 0) or np.any(indices >= size):
        raise DamagedError(f"an index lies outside of a dimension of {size}")
    return np.repeat(np.arange(parents), counts), indices


def _block_sizes(sparsity: Sparsity, shape: Sequence[int]) -> list[int]:
    """The size of the blocks that each dimension is cut into; 1 where it is not."""
    rank, blocks = len(shape), len(sparsity.block_map)
    if sorted(sparsity.order) != list(range(rank + blocks)) or len(sparsity.levels) != rank + blocks:
        raise DamagedError(f"its levels {list(sparsity.order)} are not those of a tensor of shape {list(shape)}")
    if any(not 0 <= d < rank for d in sparsity.block_map) or len(set(sparsity.block_map)) != blocks:
        raise DamagedError(f"its blocks {list(sparsity.block_map)} are not of a tensor of shape {list(shape)}")
    sizes = [1] * rank
    for dim, level in zip(sparsity.order, sparsity.levels, strict=True):
        if dim >= rank:
            whole = sparsity.block_map[dim - rank]
            if level.segments is not None or level.size < 1 or shape[whole] % level.size:
                raise DamagedError(f"blocks of {level.size} do not fit a dimension of {shape[whole]}")
            sizes[whole] = level.size
    return sizes


def dense(sparsity: Sparsity, shape: Sequence[int], values: Array) -> Array:
    """The tensor in full. Beside it, memory in proportion to what the file holds.

    Args:
        sparsity: how it is stored; untrusted.
        shape: its sizes.
        values: one number per element of the last level.

    Raises:
        DamagedError: levels, shape and values do not fit each other.
    """
    rank, sizes = len(shape), _block_sizes(sparsity, shape)
    limit = values.size + max((len(v.segments) for v in sparsity.levels if v.segments is not None), default=0)
    place = np.zeros(1, np.int64)  # where in the flat tensor each element of the level begins
    for dim, level in zip(sparsity.order, sparsity.levels, strict=True):
        at = dim if dim < rank else sparsity.block_map[dim - rank]
        stride = math.prod(shape[at + 1 :])
        size, step = (shape[at] // sizes[at], stride * sizes[at]) if dim < rank else (sizes[at], stride)
        parents, index = _children(level, len(place), size, limit)
        place = place[parents] + index * step
    if len(place) != values.size:
        raise DamagedError(f"it has {values.size} values for {len(place)} places")
    out = np.zeros(math.prod(shape), values.dtype)
    out[place] = values
    return out.reshape(shape)
