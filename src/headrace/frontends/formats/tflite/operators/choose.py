# SPDX-License-Identifier: Apache-2.0
"""Places, totals, scattered elements, suppression of boxes: mostly integers, which the host computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats import common_places as places
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.schema import NUMPY_TYPES

converts("TOPK_V2")(common.largest)
converts("WHERE")(places.places_of_true)
converts("SPARSE_TO_DENSE")(places.sparse_to_dense)
converts("DYNAMIC_UPDATE_SLICE")(places.updated)
converts("MATRIX_DIAG")(places.diagonal)
converts("MATRIX_SET_DIAG")(places.with_diagonal)
converts("ATAN2")(places.angle)
_WHOLE = {"int32": ir.DataType.INT32, "int64": ir.DataType.INT64}


@converts("ARG_MAX", "ARG_MIN")
def place_of_extreme(operation: Operation) -> None:
    kind = "ArgMax" if operation.name == "ARG_MAX" else "ArgMin"
    common.place_of_extreme(operation, kind, _WHOLE.get(operation.made(0).type, ir.DataType.INT64))


@converts("ONE_HOT")
def one_hot(operation: Operation) -> None:
    common.one_hot(operation, operation.integer("axis"))


@converts("CUMSUM")
def running_total(operation: Operation) -> None:
    common.running_total(operation, "CumSum", operation.flag("exclusive"), operation.flag("reverse"))


@converts("EMBEDDING_LOOKUP")
def rows_of_table(operation: Operation) -> None:
    operation.done(operation.emit("Gather", [operation.value(1), operation.value(0)], {"axis": 0}))


@converts("REVERSE_SEQUENCE")
def reversed_sequence(operation: Operation) -> None:
    places.reversed_sequence(operation, operation.integer("seq_dim"), operation.integer("batch_dim"))


@converts("UNIQUE")
def unlike(operation: Operation) -> None:
    places.unlike(operation, _WHOLE.get(operation.made(1).type, ir.DataType.INT64))


@converts("BUCKETIZE")
def buckets(operation: Operation) -> None:
    places.buckets(operation, operation.numbers("boundaries"))


@converts("SCATTER_ND")
def scatter(operation: Operation) -> None:
    tensor = operation.tensor(1)
    real = operation.builder.stands_for_reals(tensor)
    places.scatter(operation, np.zeros((), np.float32 if real else NUMPY_TYPES.get(tensor.type, np.dtype(np.float32))))


@converts(*(f"UNSORTED_SEGMENT_{kind.upper()}" for kind in places.SEGMENTS))
def segments(operation: Operation) -> None:
    places.segments(
        operation, operation.name.rsplit("_", 1)[1].capitalize(), operation.integer_operand(2, "their number")
    )


@converts("SEGMENT_SUM")
def segment_sum(operation: Operation) -> None:
    places.segments(operation, "Sum", None)


@converts("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def suppressed(operation: Operation) -> None:
    """Which boxes stay, padded to the number that is asked for, and how many they are; V5 gives their scores too."""
    places.check_hard(operation, 5)
    most = operation.integer_operand(2, "the number of boxes")
    chosen, count = places.suppressed(operation, most, [operation.value(3), operation.value(4)])
    made = [places.as_int32(operation, places.filled_up(operation, chosen, count, most))]
    if operation.name.endswith("5"):
        scores = operation.emit("Gather", [operation.value(1), chosen], {"axis": 0})
        made.append(places.filled_up(operation, scores, count, most))
    operation.done(*made, places.as_int32(operation, operation.emit("Squeeze", [count])))
