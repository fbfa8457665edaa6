# SPDX-License-Identifier: Apache-2.0
"""MAX_POOL_2D, AVERAGE_POOL_2D, and the reductions."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.operators.convolution import positive

_REDUCTIONS = {
    "MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}  # fmt: skip


@converts("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D")
def window_pool(operation: Operation) -> None:
    attributes: dict[str, str | Sequence[int]] = {
        "kernel_shape": positive(operation, "filter_h", "filter_w"),
        "strides": positive(operation, "stride_h", "stride_w"),
    }
    if operation.word("padding") == "SAME":
        attributes["auto_pad"] = "SAME_UPPER"
    kind, image = "MaxPool" if operation.name == "MAX_POOL_2D" else "AveragePool", operation.image(0)
    if operation.name != "L2_POOL_2D":
        operation.done_image(operation.emit(kind, [image], attributes))
        return
    squares = operation.emit(kind, [operation.emit("Mul", [image, image])], attributes)  # their mean, not their sum
    operation.done_image(operation.emit("Sqrt", [squares]))


@converts(*_REDUCTIONS)
def reduction(operation: Operation) -> None:
    axes = operation.list(operation.integers(1, "the axes"))
    attributes = {"keepdims": operation.integer("keep_dims")}
    operation.done(operation.emit(_REDUCTIONS[operation.name], [operation.value(0), axes], attributes))


@converts("REDUCE_ANY", "REDUCE_ALL")
def truth(operation: Operation) -> None:
    common.truth(operation, "ReduceMax" if operation.name == "REDUCE_ANY" else "ReduceMin", operation.flag("keep_dims"))
