# SPDX-License-Identifier: Apache-2.0
"""Places, scattered elements, box suppression and matrices that TensorFlow and TFLite say alike, in ONNX's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.common_operators import MAX_PARTS, aligned
from headrace.frontends.formats.operation import Operation as AnyOperation
from headrace.frontends.graph import Unsupported
from headrace.hn import Array

_LARGEST_MATRIX = 1 << 24

Operation = AnyOperation[Any]
#: How elements of one segment are joined.
SEGMENTS = {"Sum": "add", "Prod": "mul", "Max": "max", "Min": "min"}


def _int64(operation: Operation, index: int) -> ir.Value:
    return operation.emit("Cast", [operation.value(index)], {"to": int(ir.DataType.INT64)}, glue=True)


def places_of_true(operation: Operation) -> None:
    """One row of indices for each element that is true."""
    rows = operation.emit("NonZero", [operation.value(0)])
    operation.done(operation.emit("Transpose", [rows], {"perm": [1, 0]}, glue=True))


def reversed_sequence(operation: Operation, axis: int, batch: int) -> None:
    """The first elements of each sequence, as many as are given, turned round along ``axis``."""
    axes = axis, batch
    if sorted(axes) != [0, 1]:
        raise Unsupported(f"a reversal along axis {axes[0]} with the batch along {axes[1]}", "axes 0 and 1")
    lengths = operation.shape_value(1)
    attributes = {"time_axis": axes[0], "batch_axis": axes[1]}
    operation.done(operation.emit("ReverseSequence", [operation.value(0), lengths], attributes))


def unlike(operation: Operation, dtype: ir.DataType) -> None:
    """Values in the order in which they first occur, and which of them each element is."""
    values, _, which, _ = operation.emit_all("Unique", [operation.value(0)], {"sorted": 0}, 4)
    operation.done(values, operation.emit("Cast", [which], {"to": int(dtype)}, glue=True))


def buckets(operation: Operation, bounds: Sequence[float]) -> None:
    """How many boundaries are not above each element."""
    each = operation.emit("Unsqueeze", [operation.value(0), operation.list([-1])], glue=True)
    each = operation.emit("Cast", [each], {"to": int(ir.DataType.FLOAT)}, glue=True)
    above = operation.emit("GreaterOrEqual", [each, operation.make(np.array(list(bounds), np.float32))])
    numbers = operation.emit("Cast", [above], {"to": int(ir.DataType.INT32)}, glue=True)
    operation.done(operation.emit("ReduceSum", [numbers, operation.list([-1])], {"keepdims": 0}))


def scatter(operation: Operation, zero: Array) -> None:
    """Elements at places of a tensor of ``zero``; those of one place are added: places, elements, shape."""
    zeros = operation.emit("Expand", [operation.make(zero), operation.shape_value(2)])
    inputs = [zeros, _int64(operation, 0), operation.value(1)]
    operation.done(operation.emit("ScatterND", inputs, {"reduction": "add"}))


def sparse_to_dense(operation: Operation) -> None:
    """Indices, shape, elements or one for all, what is elsewhere."""
    rank = operation.rank(0)
    places = _int64(operation, 0)
    if rank < 2:  # places along the one dimension
        places = operation.emit("Reshape", [places, operation.list([-1, 1])], glue=True)
    elements = operation.value(2)
    if operation.rank(2) == 0:
        count = operation.emit("Shape", [places], {"start": 0, "end": 1}, glue=True)
        elements = operation.emit("Expand", [elements, count], glue=True)
    around = operation.emit("Expand", [operation.value(3), operation.shape_value(1)])
    operation.done(operation.emit("ScatterND", [around, places, elements]))


def segments(operation: Operation, kind: str, count: int | None) -> None:
    """Rows of each segment joined; a segment without rows holds what joining begins with.

    Args:
        operation: rows, and the segment of each.
        kind: one of :data:`SEGMENTS`.
        count: how many segments there are, None for up to the last that is named.
    """
    ids, shape = operation.array(1, "the segments"), operation.shape(0)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not shape or ids.shape[0] != shape[0]:
        raise Unsupported(f"segments of shape {list(ids.shape)} of a tensor of shape {shape}", "one per row")
    if count is None:
        count = int(ids.max(initial=0)) + 1
    if not 0 < count <= MAX_PARTS or (ids.size and not 0 <= ids.min() <= ids.max() < count):
        raise Unsupported(f"segments up to {int(ids.max(initial=0))} of {count}", f"0 to {MAX_PARTS}")
    number = np.finfo(np.float32)
    start = {"Sum": 0.0, "Prod": 1.0, "Max": number.min, "Min": number.max}[kind]
    if not operation.is_float(0):
        raise Unsupported("segments of integers", "floats")
    around = operation.emit("Expand", [operation.number(float(start)), operation.list([count, *shape[1:]])])
    places = operation.make(ids.astype(np.int64).reshape(-1, 1))
    inputs = [around, places, operation.value(0)]
    operation.done(operation.emit("ScatterND", inputs, {"reduction": SEGMENTS[kind]}))


def updated(operation: Operation) -> None:
    """A part of a tensor replaced, at a place that may be computed: each position along each axis takes the new element
    that falls on it, where there is one. The place is moved so that the part lies inside.
    """
    value, part = operation.value(0), operation.value(1)
    shape, sizes = operation.shape(0), operation.shape(1)
    if len(shape) != len(sizes) or any(s > n for s, n in zip(sizes, shape, strict=True)):
        raise Unsupported(f"a part of shape {sizes} of a tensor of shape {shape}", "a part that fits")
    inside: ir.Value | None = None
    for axis, (size, whole) in enumerate(zip(sizes, shape, strict=True)):
        if size == whole:
            continue
        start = operation.emit("Gather", [_int64(operation, 2), operation.list([axis])], {"axis": 0})
        start = operation.emit(
            "Min", [operation.emit("Max", [start, operation.list([0])]), operation.list([whole - size])]
        )
        place = operation.emit("Sub", [operation.list(range(whole)), start])
        taken = operation.emit("Min", [operation.emit("Max", [place, operation.list([0])]), operation.list([size - 1])])
        part = operation.emit("Gather", [part, taken], {"axis": axis})
        column = operation.list([whole if a == axis else 1 for a in range(len(shape))])
        hit = operation.emit("Reshape", [operation.emit("Equal", [place, taken]), column])
        inside = hit if inside is None else operation.emit("And", [inside, hit])
    if inside is None:
        operation.done(operation.emit("Identity", [part]))
        return
    operation.done(operation.emit("Where", [inside, part, value]))


def _check_matrix(rows: int, columns: int) -> None:
    """Refuse a constant matrix far larger than the file that asks for it."""
    if rows * columns > _LARGEST_MATRIX:
        raise Unsupported(f"a matrix of {rows} by {columns} elements", f"at most {_LARGEST_MATRIX} elements")


def diagonal(operation: Operation) -> None:
    size = operation.shape(0)[-1] if operation.rank(0) else 1
    _check_matrix(size, size)
    column = operation.emit("Unsqueeze", [operation.value(0), operation.list([-1])], glue=True)
    operation.done(operation.emit("Mul", [column, operation.make(np.eye(size, dtype=np.float32))]))


def with_diagonal(operation: Operation) -> None:
    shape = operation.shape(0)
    if len(shape) < 2:
        raise Unsupported(f"a tensor of shape {shape}", "matrices")
    rows, columns = shape[-2:]
    _check_matrix(rows, columns)
    eye = np.eye(rows, columns, dtype=bool)
    axis = -1 if rows <= columns else -2
    line = operation.emit("Unsqueeze", [operation.value(1), operation.list([axis])], glue=True)
    operation.done(operation.emit("Where", [operation.make(eye), line, operation.value(0)]))


def angle(operation: Operation) -> None:
    """The angle of a point (second, first): the arc tangent of their quotient, turned round where the second is below
    zero.
    """
    y, x = aligned(operation)
    zero, half = operation.number(0), operation.number(float(np.pi / 2))
    base = operation.emit("Atan", [operation.emit("Div", [y, x])])
    whole = operation.number(float(np.pi))
    turn = operation.emit("Where", [operation.emit("Less", [y, zero]), operation.emit("Neg", [whole]), whole])
    upright = operation.emit("Mul", [operation.emit("Sign", [y]), half])
    left = operation.emit("Where", [operation.emit("Less", [x, zero]), operation.emit("Add", [base, turn]), base])
    operation.done(operation.emit("Where", [operation.emit("Equal", [x, zero]), upright, left]))


def suppressed(operation: Operation, most: int, bounds: Sequence[ir.Value]) -> tuple[ir.Value, ir.Value]:
    """Which boxes stay, best first, and how many they are.

    Args:
        operation: boxes [N, 4] and scores [N].
        most: as many may stay.
        bounds: the overlap, and the score, above which boxes go and stay.

    Returns:
        Places, int64, and their number, int64 of one element.
    """
    if not 1 <= most <= 1 << 16:
        raise Unsupported(f"{most} boxes", "1 to 65536")
    boxes = operation.emit("Unsqueeze", [operation.value(0), operation.list([0])], glue=True)
    scores = operation.emit("Unsqueeze", [operation.value(1), operation.list([0, 1])], glue=True)
    numbers = [operation.emit("Reshape", [b, operation.list([1])], glue=True) for b in bounds]
    rows = operation.emit("NonMaxSuppression", [boxes, scores, operation.list([most]), *numbers])
    chosen = operation.emit("Gather", [rows, operation.make(np.array(2, np.int64))], {"axis": 1})
    return chosen, operation.emit("Shape", [chosen])


def filled_up(operation: Operation, value: ir.Value, count: ir.Value, most: int) -> ir.Value:
    """A line of ``count`` elements with zeros behind it, ``most`` in all."""
    missing = operation.emit("Sub", [operation.list([most]), count])
    ends = operation.emit("Concat", [operation.list([0]), missing], {"axis": 0})
    return operation.emit("Pad", [value, ends])


def as_int32(operation: Operation, value: ir.Value) -> ir.Value:
    return operation.emit("Cast", [value], {"to": int(ir.DataType.INT32)}, glue=True)


def check_hard(operation: Operation, index: int) -> None:
    """Refuse suppression that lowers scores; operand ``index`` says by how much."""
    if operation.has(index) and np.any(operation.array(index, "sigma")):
        raise Unsupported("suppression that lowers scores (sigma above 0)", "sigma 0")
