# SPDX-License-Identifier: Apache-2.0
"""GatherND, GatherElements, ScatterND and ScatterElements at known places."""

from __future__ import annotations

import math

import numpy as np

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import combine, per_channel
from headrace.frontends.to_hn.compositions.places import put, taken
from headrace.frontends.to_hn.compositions.repeat import constant_tensor
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
from headrace.layers import Add

_MAX_PLACES = 1 << 24
_CHOOSES = "its indices are computed: it chooses elements by their values"


def _indices(node: SourceNode) -> Array:
    if node.known(1) is None:
        raise Unsupported(_CHOOSES, "constant indices, or a network that ends before it")
    found = node.constant(1, "the indices")
    if found.dtype.kind not in "iu" or not found.size or found.size > _MAX_PLACES:
        raise Unsupported(f"indices of type {found.dtype} and shape {list(found.shape)}", "whole numbers, not too many")
    return found.astype(np.int64)


def _numbers(builder: Builder, shape: tuple[int, ...]) -> Array:
    """The number of each element, in their order."""
    builder.budget.take(shape, np.dtype(np.int64))
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def _within(indices: Array, sizes: Array, what: str) -> Array:
    if ((indices < -sizes) | (indices >= sizes)).any():
        raise Unsupported(f"{what} that the tensor of {sizes.reshape(-1)[:4].tolist()} does not have")
    return np.where(indices < 0, indices + sizes, indices)


def _along_each(shape: tuple[int, ...]) -> list[Array]:
    """The coordinate along each dimension, which broadcast to ``shape``."""
    rank = len(shape)
    return [np.arange(n).reshape([n if i == d else 1 for i in range(rank)]) for d, n in enumerate(shape)]


def _at(builder: Builder, shape: tuple[int, ...], indices: Array, batch_dims: int) -> Array:
    """Numbers of the elements that indices of leading dimensions name, [*batch, …, *what each index names]."""
    depth = indices.shape[-1]
    if not 0 <= batch_dims < indices.ndim or not 1 <= depth <= len(shape) - batch_dims:
        raise Unsupported(f"indices of shape {list(indices.shape)} for {list(shape)}, batch_dims {batch_dims}")
    if indices.shape[:batch_dims] != shape[:batch_dims]:
        raise Unsupported(f"indices of shape {list(indices.shape)} for {list(shape)}, batch_dims {batch_dims}")
    indices = _within(indices, np.array(shape[batch_dims : batch_dims + depth]), "indices")
    front = _along_each(indices.shape[:-1])[:batch_dims]
    return _numbers(builder, shape)[(*front, *(indices[..., i] for i in range(depth)))]


def _elements(builder: Builder, shape: tuple[int, ...], indices: Array, axis: int) -> Array:
    """Numbers of the elements that differ from their own place along one dimension."""
    if indices.ndim != len(shape):
        raise Unsupported(f"indices of shape {list(indices.shape)} for {list(shape)}", "equal ranks")
    if any(n > s for d, (n, s) in enumerate(zip(indices.shape, shape, strict=True)) if d != axis):
        raise Unsupported(f"indices of shape {list(indices.shape)} for {list(shape)}", "no more than there are")
    indices = _within(indices, np.array(shape[axis]), "indices")
    grid = _along_each(indices.shape)
    grid[axis] = indices
    return _numbers(builder, shape)[tuple(grid)]


@handles("GatherND")
def gather_nd(builder: Builder, node: SourceNode) -> list[Result]:
    view, indices = node.view(0), _indices(node)
    batch_dims = node.integer("batch_dims", 0)
    if batch_dims and not builder.one_frame and indices.shape[:1] != (1,):
        if not (indices == indices[:1]).all():
            raise Unsupported("indices that differ from frame to frame", "one for all frames")
        indices = indices[:1]
    places = _at(builder, view.shape, indices, batch_dims)
    return [taken(builder, view, places, places.shape)]


@handles("GatherElements")
def gather_elements(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    indices = divided(builder, view, _indices(node))
    places = _elements(builder, view.shape, indices, axis_in(node.integer("axis", 0), view.rank))
    return [taken(builder, view, places, places.shape)]


def _scattered(builder: Builder, node: SourceNode, places: Array, shape: tuple[int, ...]) -> Result:
    """What results, where each place is given at most once."""
    reduction = node.text("reduction", "none")
    flat = places.reshape(-1)
    if reduction not in ("none", "add") or np.unique(flat).size != flat.size:
        raise Unsupported(
            f"reduction {reduction!r}, or a place given twice", "reduction 'none' or 'add', each place once"
        )
    builder.budget.take(shape)
    mask = np.zeros(math.prod(shape))
    mask[flat] = 1.0
    mask = mask.reshape(shape)
    if node.known(2) is not None:  # constants at known places: a factor and an offset
        view = node.view(0)
        values = np.zeros(math.prod(shape))
        values[flat] = divided(builder, view, node.weights(2, "the updates")).reshape(-1)
        return per_channel(builder, view, 1.0 if reduction == "add" else 1.0 - mask, values.reshape(shape))
    updates = node.view(2)
    if node.known(0) is not None:
        data = node.weights(0, "the data")
        zeros = constant_tensor(builder, updates, np.zeros(shape)) if updates.rank == len(shape) else None
        if zeros is None:
            raise Unsupported(f"updates of rank {updates.rank} into a constant of rank {len(shape)}", "equal ranks")
        placed = put(builder, zeros, updates, places)
        return per_channel(builder, placed, 1.0, data * (1.0 if reduction == "add" else 1.0 - mask))
    view = node.view(0)
    if reduction == "none":
        return put(builder, view, updates, places)
    return combine(builder, Add(), view, put(builder, per_channel(builder, view, 0.0), updates, places))


def _shape(builder: Builder, node: SourceNode) -> tuple[int, ...]:
    known = node.known(0)
    return node.view(0).shape if known is None else known.shape


@handles("ScatterND")
def scatter_nd(builder: Builder, node: SourceNode) -> list[Result]:
    shape = _shape(builder, node)
    return [_scattered(builder, node, _at(builder, shape, _indices(node), 0), shape)]


@handles("ScatterElements", "Scatter")
def scatter_elements(builder: Builder, node: SourceNode) -> list[Result]:
    shape = _shape(builder, node)
    places = _elements(builder, shape, _indices(node), axis_in(node.integer("axis", 0), len(shape)))
    return [_scattered(builder, node, places, shape)]
