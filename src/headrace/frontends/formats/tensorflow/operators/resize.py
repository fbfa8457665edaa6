# SPDX-License-Identifier: Apache-2.0
"""ResizeBilinear, ResizeNearestNeighbor, ResizeBicubic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.graph import Unsupported, constant, integer_list
from headrace.frontends.node_builder import Attribute
from headrace.frontends.to_hn.compositions.taps import Taps, cubic_weight, outside_nothing, outside_repeated
from headrace.hn import Array

#: TensorFlow takes cubic weights from a table of this many positions between two elements (kTableSize, in
#: core/kernels/image/resize_bicubic_op.cc).
_POSITIONS = 1024
_MAX_SIZE = 1 << 16


def _coordinates(operation: Operation) -> str:
    """As Resize of ONNX calls them."""
    corners, centres = operation.attributes.flag("align_corners"), operation.attributes.flag("half_pixel_centers")
    if corners and centres:
        raise Unsupported("align_corners together with half_pixel_centers", "one of the two")
    return "align_corners" if corners else "half_pixel" if centres else "asymmetric"


@converts("ResizeBilinear", "ResizeNearestNeighbor")
def resize(operation: Operation) -> None:
    """The rounding of nearest neighbours: floor, or half up where corners are aligned or pixels have centres."""
    coordinates = _coordinates(operation)
    attributes: dict[str, Attribute] = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    if operation.name == "ResizeNearestNeighbor":
        rounding = "floor" if coordinates == "asymmetric" else "round_prefer_ceil"
        attributes |= {"mode": "nearest", "nearest_mode": rounding}
    _emit_resize(operation, attributes)


def _emit_resize(operation: Operation, attributes: dict[str, Attribute]) -> None:
    image = operation.builder.image(operation.value(0), 4, operation.label)
    size = operation.shape_value(1)
    kept = operation.builder.add("Shape", [image], {"start": 0, "end": 2}, operation.label, glue=True).outputs[0]
    sizes = operation.emit("Concat", [kept, size], {"axis": 0}, glue=True)
    made = operation.emit("Resize", [image, None, None, sizes], attributes)
    operation.done(operation.builder.channels_last(made, 4, operation.label))


def cubic_taps(size: int, out: int, coordinates: str) -> tuple[Taps, bool]:
    """What each of ``out`` elements reads of an axis of ``size``, as TensorFlow computes it, in float32.

    Weights are those of the nearest of 1024 positions (half to even). Where pixels have centres it is Keys's kernel
    and what is outside is left out, else OpenCV's (a = -0.75), and the outermost elements go on.

    Returns:
        the elements and their weights, and whether every place was one of the positions: ONNX's Resize has the same
        weights then.
    """
    aligned = coordinates == "align_corners" and out > 1
    scale = np.float32(size - 1) / np.float32(out - 1) if aligned else np.float32(size) / np.float32(out)
    centre = np.float32(0.5 if coordinates == "half_pixel" else 0.0)
    places = (np.arange(out, dtype=np.float32) + centre) * scale - centre
    base = np.floor(places)
    fine = (places - base) * np.float32(_POSITIONS)
    position = np.rint(fine)[:, None].astype(np.float64) / _POSITIONS
    offsets = np.arange(-1, 3)
    indices = base.astype(np.int64)[:, None] + offsets
    keys = coordinates == "half_pixel"
    weights = cubic_weight(position - offsets, -0.5 if keys else -0.75)
    exact = bool((np.rint(fine) == fine).all())
    if not keys:
        return outside_repeated(indices, weights, size), exact
    kept = outside_nothing(indices, weights, size)
    return Taps(kept.indices, kept.weights / kept.weights.sum(1, keepdims=True)), exact


def _sizes(operation: Operation) -> tuple[tuple[int, int], tuple[int, int]]:
    """(size, output size) of height and of width."""
    shape = operation.builder.known_shape(operation.value(0))
    given = constant(operation.shape_value(1))
    if shape is None or len(shape) != 4 or given is None:
        raise Unsupported("the file leaves sizes of its input or output open", "an image of rank 4 of known sizes")
    out = integer_list(given, "the sizes")
    if len(out) != 2 or not all(1 <= s <= _MAX_SIZE for s in (*out, *shape[1:3])):
        raise Unsupported(f"from {shape[1:3]} to {out}", f"height and width, each 1 to {_MAX_SIZE}")
    return (shape[1], out[0]), (shape[2], out[1])


@converts("ResizeBicubic")
def resize_cubic(operation: Operation) -> None:
    """ONNX's Resize where it has TensorFlow's weights, else a product with a constant matrix for each axis."""
    coordinates = _coordinates(operation)
    height, width = _sizes(operation)
    (rows, same_rows), (columns, same_columns) = (cubic_taps(*axis, coordinates) for axis in (height, width))
    if same_rows and same_columns:
        keys = coordinates == "half_pixel"
        attributes: dict[str, Attribute] = {"mode": "cubic", "coordinate_transformation_mode": coordinates}
        attributes |= {"cubic_coeff_a": -0.5 if keys else -0.75, "exclude_outside": int(keys)}
        _emit_resize(operation, attributes)
        return
    builder, label = operation.builder, operation.label

    def along_last(value: ir.Value, matrix: Array) -> ir.Value:
        builder.charge(matrix)
        return operation.emit("MatMul", [value, builder.made(matrix.astype(np.float32), label)])

    image = builder.image(operation.value(0), 4, label)  # N, C, H, W
    wide = along_last(image, columns.matrix(width[0]))
    turned = builder.add("Transpose", [wide], {"perm": [0, 1, 3, 2]}, label, glue=True).outputs[0]
    made = along_last(turned, rows.matrix(height[0]))  # N, C, W, H
    operation.done(builder.add("Transpose", [made], {"perm": [0, 3, 2, 1]}, label, glue=True).outputs[0])
