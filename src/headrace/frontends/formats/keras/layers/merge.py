# SPDX-License-Identifier: Apache-2.0
"""Layers of several tensors."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_integer, is_sequence

_CHAINED = {"Add": "Add", "Multiply": "Mul", "Maximum": "Max", "Minimum": "Min", "Average": "Add"}


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape of an element-wise result; what is open stays open."""
    rank = max(len(s) for s in shapes)
    made: list[int | None] = []
    for sizes in zip(*[(1,) * (rank - len(s)) + tuple(s) for s in shapes], strict=True):
        wide = [s for s in sizes if s != 1]
        known = {s for s in wide if s is not None}
        if len(known) > 1:
            raise Unsupported(f"shapes {[list(s) for s in shapes]} do not fit each other", "shapes that broadcast")
        made.append(1 if not wide else next(iter(known)) if known else None)
    return tuple(made)


def _aligned(call: LayerCall) -> list[Tensor]:
    """The tensors with one rank: those of fewer dimensions get them behind the batch."""
    rank = max((t.rank for t in call.tensors), default=0)
    made: list[Tensor] = []
    for t in call.tensors:
        if t.rank < rank:
            shape = (t.shape[0], *[1] * (rank - t.rank), *t.shape[1:])
            axes = call.list(range(1, 1 + rank - t.rank))
            t = Tensor(call.emit("Unsqueeze", [t.value, axes], glue=True), shape)
        made.append(t)
    return made


@converts(*_CHAINED)
def chained(call: LayerCall) -> Tensor:
    if len(call.tensors) < 2:
        raise Unsupported(f"it is given {len(call.tensors)} tensors", "two or more")
    first, *rest = _aligned(call)
    value, shape = first.value, first.shape
    for t in rest:
        value, shape = call.emit(_CHAINED[call.kind], [value, t.value]), broadcast([shape, t.shape])
    if call.kind == "Average":
        value = call.emit("Mul", [value, call.number(1 / len(call.tensors))])
    return Tensor(value, shape)


@converts("Subtract")
def subtract(call: LayerCall) -> Tensor:
    if len(call.tensors) != 2:
        raise Unsupported(f"it is given {len(call.tensors)} tensors", "two")
    a, b = _aligned(call)
    return Tensor(call.emit("Sub", [a.value, b.value]), broadcast([a.shape, b.shape]))


def joined(call: LayerCall, axis: int) -> Tensor:
    """Tensors one behind the other along a dimension."""
    tensors = call.tensors
    if not tensors or len({t.rank for t in tensors}) != 1:
        raise Unsupported(f"it is given tensors of ranks {[t.rank for t in tensors]}", "one rank")
    sizes = [t.shape[axis] for t in tensors]
    total = None if None in sizes else sum(s for s in sizes if s is not None)
    shape = tuple(total if i == axis else s for i, s in enumerate(tensors[0].shape))
    if len(tensors) == 1:
        return tensors[0]
    return Tensor(call.emit("Concat", [t.value for t in tensors], {"axis": axis}), shape)


@converts("Concatenate")
def concatenate(call: LayerCall) -> Tensor:
    return joined(call, call.axis("axis", call.tensors[0].rank if call.tensors else 1))


def _unit(call: LayerCall, t: Tensor, axis: int, normalize: bool) -> ir.Value:
    return call.emit("LpNormalization", [t.value], {"axis": axis, "p": 2}) if normalize else t.value


@converts("Dot")
def dot(call: LayerCall) -> Tensor:
    """Sums of products along one dimension of each: a matrix product of what is left of both."""
    if len(call.tensors) != 2 or any(t.rank not in (2, 3) for t in call.tensors):
        raise Unsupported(f"tensors of ranks {[t.rank for t in call.tensors]}", "two tensors of rank 2 or 3")
    a, b = call.tensors
    given = call.option("axes")
    axes = [given, given] if is_integer(given) else given
    if not is_sequence(axes) or len(axes) != 2 or not all(is_integer(n) for n in axes):
        raise Unsupported(f"axes {str(given)[:40]}", "one dimension of each, not the batch")
    i, j = axes[0] % a.rank, axes[1] % b.rank
    if 0 in (i, j):
        raise Unsupported(f"axes {given}", "one dimension of each, not the batch")
    normalize = call.flag("normalize")
    left, right = _unit(call, a, i, normalize), _unit(call, b, j, normalize)
    if a.rank == 2:
        left = call.emit("Unsqueeze", [left, call.list([1])], glue=True)
    elif i == 1:
        left = call.transposed(left, [0, 2, 1])
    if b.rank == 2:
        right = call.emit("Unsqueeze", [right, call.list([2])], glue=True)
    elif j == 2:
        right = call.transposed(right, [0, 2, 1])
    value = call.emit("MatMul", [left, right])
    rest = [3 - i] if a.rank == 3 else [], [3 - j] if b.rank == 3 else []
    shape: Shape = (None, *(a.shape[n] for n in rest[0]), *(b.shape[n] for n in rest[1]))
    if not rest[0] and not rest[1]:  # one number per frame
        return Tensor(call.emit("Squeeze", [value, call.list([2])]), (None, 1))
    if not rest[0] or not rest[1]:
        value = call.emit("Squeeze", [value, call.list([1 if not rest[0] else 2])])
    return Tensor(value, shape)
