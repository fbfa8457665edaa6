# SPDX-License-Identifier: Apache-2.0
"""ResizeBilinear, ResizeNearestNeighbor, ResizeBicubic."""

from __future__ import annotations

from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute


@converts("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
def resize(operation: Operation) -> None:
    """The rounding of nearest neighbours: floor, or half up where corners are aligned or pixels have centres."""
    corners = operation.attributes.flag("align_corners")
    centres = operation.attributes.flag("half_pixel_centers")
    if corners and centres:
        raise Unsupported("align_corners together with half_pixel_centers", "one of the two")
    attributes: dict[str, Attribute] = {
        "coordinate_transformation_mode": "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    }
    if operation.name == "ResizeBilinear":
        attributes["mode"] = "linear"
    elif operation.name == "ResizeBicubic":  # with centres Keys's kernel, and edges that are left out; else OpenCV's
        attributes |= {"mode": "cubic", "cubic_coeff_a": -0.5 if centres else -0.75, "exclude_outside": int(centres)}
    else:
        attributes |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if corners or centres else "floor"}
    image = operation.builder.image(operation.value(0), 4, operation.label)
    size = operation.shape_value(1)
    kept = operation.builder.add("Shape", [image], {"start": 0, "end": 2}, operation.label, glue=True).outputs[0]
    sizes = operation.emit("Concat", [kept, size], {"axis": 0}, glue=True)
    made = operation.emit("Resize", [image, None, None, sizes], attributes)
    operation.done(operation.builder.channels_last(made, 4, operation.label))
