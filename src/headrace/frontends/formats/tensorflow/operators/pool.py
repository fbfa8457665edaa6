# SPDX-License-Identifier: Apache-2.0
"""Pools of windows, and the reductions."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.formats.tensorflow.operators.convolution import padding, spatial
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute

_REDUCTIONS = {"Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}
_TRUTH = {"All": "ReduceMin", "Any": "ReduceMax"}


@converts("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D")
def window_pool(operation: Operation) -> None:
    count = 3 if operation.name.endswith("3D") else 2
    attributes: dict[str, Attribute] = {
        "kernel_shape": spatial(operation, "ksize", count),
        "strides": spatial(operation, "strides", count),
    }
    kind = "MaxPool" if operation.name.startswith("Max") else "AveragePool"
    made = operation.emit(kind, [operation.image(0, count + 2)], attributes | padding(operation, count))
    operation.done_image(made, count + 2)


@converts("MaxPoolV2")
def window_pool_by_inputs(operation: Operation) -> None:
    """The window's sizes are operands."""
    sizes = [operation.integers(i, what) for i, what in ((1, "the window"), (2, "the strides"))]
    inner = [s[1:3] if operation.channels_last() else s[2:] for s in sizes]
    if any(len(s) != 4 or min(s) < 1 or sum(s) != sum(i) + 2 for s, i in zip(sizes, inner, strict=True)):
        raise Unsupported(f"a window of {sizes[0]} with strides {sizes[1]}", "1 for batch and channels")
    attributes: dict[str, Attribute] = {"kernel_shape": inner[0], "strides": inner[1]}
    made = operation.emit("MaxPool", [operation.image(0)], attributes | padding(operation, 2))
    operation.done_image(made)


def _reduced(operation: Operation, kind: str, value: ir.Value) -> ir.Value:
    axes = operation.integers(1, "the axes")
    if not axes:
        return operation.emit("Identity", [value])
    keep = operation.attributes.flag("keep_dims") or operation.attributes.flag("keepdims")
    return operation.emit(kind, [value, operation.list(axes)], {"keepdims": int(keep)})


@converts(*_REDUCTIONS)
def reduction(operation: Operation) -> None:
    operation.done(_reduced(operation, _REDUCTIONS[operation.name], operation.value(0)))


@converts("EuclideanNorm")
def length(operation: Operation) -> None:
    operation.done(_reduced(operation, "ReduceL2", operation.value(0)))


@converts(*_TRUTH)
def truth(operation: Operation) -> None:
    keep = operation.attributes.flag("keep_dims") or operation.attributes.flag("keepdims")
    common.truth(operation, _TRUTH[operation.name], keep)
