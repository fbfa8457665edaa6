# SPDX-License-Identifier: Apache-2.0
"""Pooling."""

from __future__ import annotations

import numpy as np

from headrace.compiler.lower.base import Context, Kernel, bad_constant, lowers, set_requantize_columns
from headrace.hef.microcode import Opcode
from headrace.layers.pool import AveragePool, Pool
from headrace.numerics.geometry import covered


def _window(window: Pool) -> dict[str, int]:
    return {
        "kernel_height": window.kernel_shape[0],
        "kernel_width": window.kernel_shape[1],
        "stride_height": window.strides[0],
        "stride_width": window.strides[1],
        "pad_top": window.padding[0],
        "pad_left": window.padding[1],
    }


@lowers("maxpool")
def max_pool(context: Context) -> Kernel:
    return context.kernel(Opcode.POOL_MAX, **_window(context.attributes))


@lowers("avgpool")
def average_pool(context: Context) -> Kernel:
    """The device chooses (M, s) by how many positions a window covers.

    A layer that divides by the whole window everywhere has one frozen column; it is listed once per count that occurs.
    """
    height, width, _ = context.input_shape()
    window: AveragePool = context.attributes
    shape, output = (height, width), context.layer.frame_shape
    # Per axis: a network from elsewhere may have a very large output.
    rows, columns = (
        sorted(set(covered(shape[i], window.kernel_shape[i], window.strides[i], window.padding[i], output[i])))
        for i in (0, 1)
    )
    whole = window.kernel_shape[0] * window.kernel_shape[1]
    covering = sorted({r * c for r in rows for c in columns})
    pairs = [(n, 1 if window.total else whole if window.count_padding else n) for n in covering]
    counts = context.quantized.param("counts", np.uint32, 1).tolist()
    missing = sorted({d for _, d in pairs} - set(counts))
    if missing or counts != sorted(set(counts)) or len(counts) != context.quantized.rq.shifts.size:
        raise bad_constant(
            f"{context.layer.name}/counts",
            "the table of divisors is not complete",
            counts[:16],
            f"{missing} too, ascending",
        )
    kernel = context.kernel(Opcode.POOL_SUM, **_window(window))
    set_requantize_columns(context, kernel, [counts.index(d) for _, d in pairs])
    kernel.constants["count_offset"] = np.array([c for c, _ in pairs], np.uint32)
    return kernel
