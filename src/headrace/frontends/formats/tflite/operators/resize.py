# SPDX-License-Identifier: Apache-2.0
"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported


@converts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(operation: Operation) -> None:
    """The rounding of nearest neighbours: floor, or half up where corners are aligned or pixels have centres."""
    corners, centres = operation.flag("align_corners"), operation.flag("half_pixel_centers")
    if corners and centres:
        raise Unsupported("align_corners together with half_pixel_centers", "one of the two")
    attributes = {
        "coordinate_transformation_mode": "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    }
    if operation.name == "RESIZE_BILINEAR":
        attributes["mode"] = "linear"
    else:
        attributes["mode"] = "nearest"
        attributes["nearest_mode"] = "round_prefer_ceil" if corners or centres else "floor"
    image = operation.image(0)
    size = operation.shape_value(1)
    kept = operation.builder.add("Shape", [image], {"start": 0, "end": 2}, operation.label, glue=True).outputs[0]
    sizes = operation.emit("Concat", [kept, size], {"axis": 0}, glue=True)
    operation.done_image(operation.emit("Resize", [image, None, None, sizes], attributes))
