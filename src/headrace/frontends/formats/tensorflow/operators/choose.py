# SPDX-License-Identifier: Apache-2.0
"""Places, scattered elements, suppression of boxes, matrices: mostly integers, which the host computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_places as places
from headrace.frontends.formats.tensorflow.build import ONNX_TYPES, Operation, converts
from headrace.frontends.graph import Unsupported

converts("Where")(places.places_of_true)
converts("SparseToDense")(places.sparse_to_dense)
converts("MatrixDiag")(places.diagonal)
converts("MatrixSetDiag")(places.with_diagonal)
converts("Atan2")(places.angle)
_SCATTERS = {"Update": "none", "Add": "add", "Max": "max", "Min": "min"}


@converts("MatrixDiagV2", "MatrixDiagV3", "MatrixSetDiagV2", "MatrixSetDiagV3")
def one_diagonal(operation: Operation) -> None:
    """Of the forms with several diagonals, the main one."""
    sets = operation.name.startswith("MatrixSet")
    if any(operation.integers(2 if sets else 1, "the diagonals")):
        raise Unsupported("other diagonals than the main one", "the main diagonal")
    if not sets and any(n != -1 for i in (2, 3) for n in operation.integers(i, "a size")):
        raise Unsupported("a matrix larger than its diagonal", "no sizes")
    (places.with_diagonal if sets else places.diagonal)(operation)


@converts("MatrixBandPart")
def band(operation: Operation) -> None:
    """So many diagonals below and above the main one, all of them where the number is below 0."""
    shape = operation.shape(0)
    below, above = operation.integer_operand(1, "num_lower"), operation.integer_operand(2, "num_upper")
    if len(shape) < 2 or shape[-1] * shape[-2] > 1 << 24:
        raise Unsupported(f"a tensor of shape {shape}", "matrices of at most 2^24 elements")
    row, column = np.ogrid[: shape[-2], : shape[-1]]
    kept = ((below < 0) | (row - column <= below)) & ((above < 0) | (column - row <= above))
    operation.done(operation.emit("Mul", [operation.value(0), operation.make(kept.astype(np.float32))]))


@converts("ReverseSequence")
def reversed_sequence(operation: Operation) -> None:
    axes = (operation.attributes.integer(key, 0) for key in ("seq_dim", "batch_dim"))
    places.reversed_sequence(operation, *axes)


@converts("Unique")
def unlike(operation: Operation) -> None:
    kind = operation.attributes.type("out_idx", "int32")
    places.unlike(operation, ir.DataType(ONNX_TYPES.get(kind, ONNX_TYPES["int64"])))


@converts("Bucketize")
def buckets(operation: Operation) -> None:
    places.buckets(operation, operation.attributes.reals("boundaries"))


@converts("ScatterNd")
def scatter(operation: Operation) -> None:
    dtype = operation.value(1).dtype or ir.DataType.FLOAT
    places.scatter(operation, np.zeros((), dtype.numpy()))


@converts(*(f"TensorScatter{kind}" for kind in _SCATTERS))
def scatter_into(operation: Operation) -> None:
    indices = operation.cast(operation.value(1), "int64")
    inputs = [operation.value(0), indices, operation.value(2)]
    kind = _SCATTERS[operation.name.removeprefix("TensorScatter")]
    operation.done(operation.emit("ScatterND", inputs, {"reduction": kind}))


@converts(*(f"UnsortedSegment{kind}" for kind in places.SEGMENTS))
def segments(operation: Operation) -> None:
    kind = operation.name.removeprefix("UnsortedSegment")
    places.segments(operation, kind, operation.integer_operand(2, "num_segments"))


@converts(*(f"Segment{kind}" for kind in places.SEGMENTS))
def sorted_segments(operation: Operation) -> None:
    places.segments(operation, operation.name.removeprefix("Segment"), None)


@converts("NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4",
          "NonMaxSuppressionV5")  # fmt: skip
def suppressed(operation: Operation) -> None:
    """Which boxes stay; V4 and V5 say how many they are and may fill up with zeros, V5 gives their scores too."""
    version = operation.name.removeprefix("NonMaxSuppression")
    places.check_hard(operation, 5)
    most = operation.integer_operand(2, "max_output_size")
    overlap = operation.value(3) if version else operation.number(operation.attributes.real("iou_threshold", 0.5))
    least = operation.value(4) if operation.has(4) else operation.number(float(np.finfo(np.float32).min))
    chosen, count = places.suppressed(operation, most, [overlap, least])
    made = [chosen]
    if version == "V5":
        made.append(operation.emit("Gather", [operation.value(1), chosen], {"axis": 0}))
    if version in ("V4", "V5") and operation.attributes.flag("pad_to_max_output_size"):
        made = [places.filled_up(operation, value, count, most) for value in made]
    made[0] = places.as_int32(operation, made[0])
    if version in ("V4", "V5"):
        made.append(places.as_int32(operation, operation.emit("Squeeze", [count])))
    operation.done(*made)


@converts("ExtractImagePatches")
def windows(operation: Operation) -> None:
    """Each window as one position: a convolution that takes every element by itself."""
    size, strides, rates = (operation.attributes.integers(key) for key in ("ksizes", "strides", "rates"))
    channels = operation.shape(0)[-1] if operation.rank(0) == 4 else 0
    if any(len(s) != 4 or s[0] != 1 or s[3] != 1 or min(s) < 1 for s in (size, strides, rates)) or not channels:
        raise Unsupported(f"windows {size}, strides {strides}, rates {rates}", "positive sizes of height and width")
    count = size[1] * size[2] * channels
    if count * count > 1 << 24:
        raise Unsupported(f"windows of {count} elements", "at most 4096")
    kernel = np.eye(count, dtype=np.float32).reshape(count, size[1], size[2], channels).transpose(0, 3, 1, 2)
    attributes: dict[str, int | str | list[int]] = {
        "kernel_shape": size[1:3], "strides": strides[1:3], "dilations": rates[1:3],
    }  # fmt: skip
    if operation.attributes.text("padding", "VALID") == "SAME":
        attributes["auto_pad"] = "SAME_UPPER"
    image = operation.builder.image(operation.value(0), 4, operation.label)
    made = operation.emit("Conv", [image, operation.make(kernel)], attributes)
    operation.done(operation.builder.channels_last(made, 4, operation.label))
