# SPDX-License-Identifier: Apache-2.0
"""Places, totals, scattered elements, suppression of boxes: mostly integers, which the host computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.schema import NUMPY_TYPES
from headrace.frontends.graph import Unsupported

converts("TOPK_V2")(common.largest)
_WHOLE = {"int32": ir.DataType.INT32, "int64": ir.DataType.INT64}
#: What a segment without elements holds, and how elements of one segment are joined.
_SEGMENTS = {"SUM": "add", "PROD": "mul", "MAX": "max", "MIN": "min"}


@converts("ARG_MAX", "ARG_MIN")
def place_of_extreme(operation: Operation) -> None:
    kind = "ArgMax" if operation.name == "ARG_MAX" else "ArgMin"
    made = operation.made(0).type
    common.place_of_extreme(operation, kind, _WHOLE.get(made, ir.DataType.INT64))


@converts("ONE_HOT")
def one_hot(operation: Operation) -> None:
    common.one_hot(operation, operation.integer("axis"))


@converts("CUMSUM")
def running_total(operation: Operation) -> None:
    common.running_total(operation, "CumSum", operation.flag("exclusive"), operation.flag("reverse"))


@converts("WHERE")
def places_of_true(operation: Operation) -> None:
    """One row of indices for each element that is true."""
    rows = operation.emit("NonZero", [operation.value(0)])
    operation.done(operation.emit("Transpose", [rows], {"perm": [1, 0]}, glue=True))


@converts("EMBEDDING_LOOKUP")
def rows_of_table(operation: Operation) -> None:
    operation.done(operation.emit("Gather", [operation.value(1), operation.value(0)], {"axis": 0}))


@converts("REVERSE_SEQUENCE")
def reversed_sequence(operation: Operation) -> None:
    axes = operation.integer("seq_dim"), operation.integer("batch_dim")
    if sorted(axes) != [0, 1]:
        raise Unsupported(f"REVERSE_SEQUENCE along axis {axes[0]} with the batch along {axes[1]}", "axes 0 and 1")
    lengths = operation.shape_value(1)
    attributes = {"time_axis": axes[0], "batch_axis": axes[1]}
    operation.done(operation.emit("ReverseSequence", [operation.value(0), lengths], attributes))


@converts("UNIQUE")
def unlike(operation: Operation) -> None:
    """Values in the order in which they first occur, and which of them each element is."""
    values, _, which, _ = operation.emit_all("Unique", [operation.value(0)], {"sorted": 0}, 4)
    made = operation.made(1).type
    wanted = _WHOLE.get(made, ir.DataType.INT64)
    operation.done(values, operation.emit("Cast", [which], {"to": int(wanted)}, glue=True))


@converts("BUCKETIZE")
def buckets(operation: Operation) -> None:
    """How many boundaries are not above each element."""
    bounds = operation.numbers("boundaries")
    each = operation.emit("Unsqueeze", [operation.value(0), operation.list([-1])], glue=True)
    each = operation.emit("Cast", [each], {"to": int(ir.DataType.FLOAT)}, glue=True)
    above = operation.emit("GreaterOrEqual", [each, operation.make(np.array(bounds, np.float32))])
    numbers = operation.emit("Cast", [above], {"to": int(ir.DataType.INT32)}, glue=True)
    operation.done(operation.emit("ReduceSum", [numbers, operation.list([-1])], {"keepdims": 0}))


# --- scattered elements -----------------------------------------------------------------------------------------------


def _int64(operation: Operation, index: int) -> ir.Value:
    return operation.emit("Cast", [operation.value(index)], {"to": int(ir.DataType.INT64)}, glue=True)


@converts("SCATTER_ND")
def scatter(operation: Operation) -> None:
    """Into zeros; elements of one place are added."""
    tensor = operation.tensor(1)
    real = operation.builder.stands_for_reals(tensor)
    zero = np.zeros((), np.float32 if real else NUMPY_TYPES.get(tensor.type, np.dtype(np.float32)))
    zeros = operation.emit("Expand", [operation.make(zero), operation.shape_value(2)])
    inputs = [zeros, _int64(operation, 0), operation.value(1)]
    operation.done(operation.emit("ScatterND", inputs, {"reduction": "add"}))


@converts("SPARSE_TO_DENSE")
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


@converts(*(f"UNSORTED_SEGMENT_{kind}" for kind in _SEGMENTS))
def segments(operation: Operation) -> None:
    """Rows of each segment joined; a segment without rows holds what joining begins with."""
    kind = operation.name.rsplit("_", 1)[1]
    ids, count, shape = (
        operation.array(1, "the segments"),
        operation.integer_operand(2, "their number"),
        operation.shape(0),
    )
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not shape or ids.shape[0] != shape[0]:
        raise Unsupported(f"segments of shape {list(ids.shape)} of a tensor of shape {shape}", "one per row")
    if not 0 < count <= common.MAX_PARTS or (ids.size and not 0 <= ids.min() <= ids.max() < count):
        raise Unsupported(f"segments up to {int(ids.max(initial=0))} of {count}", f"0 to {common.MAX_PARTS}")
    number = np.finfo(np.float32)
    start = {"SUM": 0.0, "PROD": 1.0, "MAX": number.min, "MIN": number.max}[kind]
    if not operation.is_float(0):
        raise Unsupported("segments of integers", "floats")
    around = operation.emit("Expand", [operation.number(float(start)), operation.list([count, *shape[1:]])])
    places = operation.make(ids.astype(np.int64).reshape(-1, 1))
    inputs = [around, places, operation.value(0)]
    operation.done(operation.emit("ScatterND", inputs, {"reduction": _SEGMENTS[kind]}))


@converts("DYNAMIC_UPDATE_SLICE")
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


# --- matrices ---------------------------------------------------------------------------------------------------------


@converts("MATRIX_DIAG")
def diagonal(operation: Operation) -> None:
    size = operation.shape(0)[-1] if operation.rank(0) else 1
    column = operation.emit("Unsqueeze", [operation.value(0), operation.list([-1])], glue=True)
    operation.done(operation.emit("Mul", [column, operation.make(np.eye(size, dtype=np.float32))]))


@converts("MATRIX_SET_DIAG")
def with_diagonal(operation: Operation) -> None:
    shape = operation.shape(0)
    if len(shape) < 2:
        raise Unsupported(f"a tensor of shape {shape}", "matrices")
    rows, columns = shape[-2:]
    eye = np.eye(rows, columns, dtype=bool)
    axis = -1 if rows <= columns else -2
    line = operation.emit("Unsqueeze", [operation.value(1), operation.list([axis])], glue=True)
    operation.done(operation.emit("Where", [operation.make(eye), line, operation.value(0)]))


# --- boxes ------------------------------------------------------------------------------------------------------------


@converts("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def suppressed(operation: Operation) -> None:
    """Which boxes stay, padded to the number that is asked for, and how many they are; V5 gives their scores too."""
    soft = operation.name.endswith("5")
    if soft and operation.has(5) and float(operation.array(5, "sigma").reshape(-1)[0]) != 0:
        raise Unsupported("suppression that lowers scores (sigma above 0)", "sigma 0")
    most = operation.integer_operand(2, "the number of boxes")
    if not 1 <= most <= 1 << 16:
        raise Unsupported(f"{most} boxes", "1 to 65536")
    boxes = operation.emit("Unsqueeze", [operation.value(0), operation.list([0])], glue=True)
    scores = operation.emit("Unsqueeze", [operation.value(1), operation.list([0, 1])], glue=True)
    bounds = [operation.emit("Reshape", [operation.value(i), operation.list([1])], glue=True) for i in (3, 4)]
    rows = operation.emit("NonMaxSuppression", [boxes, scores, operation.list([most]), *bounds])
    chosen = operation.emit("Gather", [rows, operation.make(np.array(2, np.int64))], {"axis": 1})
    count = operation.emit("Shape", [chosen])
    ends = operation.emit(
        "Concat", [operation.list([0]), operation.emit("Sub", [operation.list([most]), count])], {"axis": 0}
    )
    kept = operation.emit("Cast", [operation.emit("Pad", [chosen, ends])], {"to": int(ir.DataType.INT32)}, glue=True)
    number = operation.emit("Cast", [operation.emit("Squeeze", [count])], {"to": int(ir.DataType.INT32)}, glue=True)
    if not soft:
        operation.done(kept, number)
        return
    found = operation.emit("Pad", [operation.emit("Gather", [operation.value(1), chosen], {"axis": 0}), ends])
    operation.done(kept, found, number)
