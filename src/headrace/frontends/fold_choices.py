# SPDX-License-Identifier: Apache-2.0
"""Choosing elements of large constants: the reference of the onnx package goes through them one by one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import Budget, Operands, axis_in, evaluates, operand
from headrace.frontends.fold_reference import reference
from headrace.frontends.graph import Unsupported, integer
from headrace.hn import Array

_STEPS = 1 << 5  # a sort takes so many steps for an element


@evaluates("GatherND")
def gather_nd(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """Parts of ``data`` by tuples of indices."""
    data, indices = operand(operands, 0), operand(operands, 1)
    batch = integer(node, "batch_dims", 0)
    fits = 0 <= batch < min(data.ndim, indices.ndim) and data.shape[:batch] == indices.shape[:batch]
    if not fits or not 0 < indices.shape[-1] <= data.ndim - batch:
        rule = f"indices of shape {list(indices.shape)} for data of shape {list(data.shape)}, {batch} dimensions apart"
        raise Unsupported(rule, "as many places in the last dimension as the data have dimensions, or fewer")
    inner = batch + indices.shape[-1]
    sizes = data.shape[batch:inner]
    if indices.dtype.kind not in "iu" or (indices.size and not _inside(indices, sizes)):
        raise Unsupported(f"an index beyond a shape of {list(sizes)}", "indices inside")
    budget.take([*indices.shape[:-1], *data.shape[inner:]], data.dtype)
    apart = np.ogrid[tuple(slice(n) for n in indices.shape[:-1])][:batch]
    return [data[(*apart, *(indices[..., i].astype(np.int64) for i in range(indices.shape[-1])))]]


def _inside(indices: Array, sizes: tuple[int, ...]) -> bool:
    flat = indices.reshape(-1, len(sizes))
    return bool((flat.min(axis=0) >= -np.array(sizes)).all() and (flat.max(axis=0) < np.array(sizes)).all())


@evaluates("TopK")
def top_k(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """The largest or smallest along an axis, best first; of equal ones the first."""
    x, wanted = operand(operands, 0), operand(operands, 1)
    axis = axis_in(integer(node, "axis", -1), x.ndim)
    if wanted.dtype.kind not in "iu" or wanted.shape != (1,):
        raise Unsupported(f"a number of elements of shape {list(wanted.shape)}", "one whole number, of shape [1]")
    count = int(wanted[0])
    if not 0 <= count <= x.shape[axis]:
        raise Unsupported(f"{count} elements of an axis of {x.shape[axis]}", f"0 … {x.shape[axis]}")
    if x.dtype.kind != "f" or not integer(node, "sorted", 1) or np.isnan(x).any():
        return reference(node, operands, budget)
    budget.spend(x.size * _STEPS)
    order = np.argsort(-x if integer(node, "largest", 1) else x, axis=axis, kind="stable")
    order = np.take(order, np.arange(count), axis=axis)
    return [np.take_along_axis(x, order, axis), order.astype(np.int64)]
