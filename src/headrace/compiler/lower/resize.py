# SPDX-License-Identifier: Apache-2.0
"""Resizing and moves between channels and pixels."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.base import Context, Kernel, lowers, set_requantize
from headrace.hef.microcode import Opcode
from headrace.hn import Array


@lowers("depth_to_space", "space_to_depth")
def blocks(context: Context) -> Kernel:
    a = context.attributes
    opcode = Opcode.DEPTH_TO_SPACE if context.layer.kind == "depth_to_space" else Opcode.SPACE_TO_DEPTH
    return context.kernel(opcode, block=a.block, axis=0 if a.mode == "DCR" else 1)


@lowers("resize_nearest")
def nearest(context: Context) -> Kernel:
    kernel = context.kernel(Opcode.RESIZE_NEAREST)
    for axis, name in enumerate(("row", "column")):
        table = context.attributes.nearest(axis, context.input_shape()[axis])
        kernel.constants[f"{name}_table_offset"] = table.astype(np.uint32)
    return kernel


@lowers("resize_bilinear")
def bilinear(context: Context) -> Kernel:
    kernel = context.kernel(Opcode.RESIZE_BILINEAR)

    def table(axis: int) -> Array:
        indices, coefficients = context.attributes.neighbours(axis, context.input_shape()[axis])
        return np.concatenate([indices, coefficients[:, 1:]], 1).astype(np.uint32)

    kernel.constants["row_table_offset"] = table(0)
    kernel.constants["column_table_offset"] = table(1)
    return set_requantize(context, kernel, 1)
