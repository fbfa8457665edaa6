# SPDX-License-Identifier: Apache-2.0
"""Operators that change only how a tensor is seen, shape arithmetic, and changes of type."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.schema import TYPES
from headrace.frontends.graph import Unsupported, kind_of

_TYPES = {
    "float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE,
    "int32": onnx.TensorProto.INT32, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL,
    "uint8": onnx.TensorProto.UINT8, "int8": onnx.TensorProto.INT8, "int16": onnx.TensorProto.INT16,
    "bfloat16": onnx.TensorProto.FLOAT,
}  # fmt: skip

_FAR = int(np.iinfo(np.int64).max)


def _turned(operation: Operation) -> bool:
    """Whether a reshape inside a dilated convolution of one dimension was said: its sizes are those of split frames."""
    if operation.dilation is None:
        return False
    kind = "Unsqueeze" if operation.dilation.role == "row" else "Squeeze"
    operation.done(operation.emit(kind, [operation.value(0), operation.list([1])]))
    return True


@converts("RESHAPE")
def reshape(operation: Operation) -> None:
    if _turned(operation):
        return
    option = operation.option("new_shape")
    if operation.has(1):
        shape = operation.shape_value(1)
    elif isinstance(option, list) and option:
        shape = operation.list(option)
    else:
        raise Unsupported("it states no shape", "a shape as input or option")
    # A size of 0 stands for itself in TFLite.
    operation.done(operation.emit("Reshape", [operation.value(0), shape], {"allowzero": 1}))


@converts("SQUEEZE")
def squeeze(operation: Operation) -> None:
    if _turned(operation):
        return
    axes = operation.option("squeeze_dims")
    inputs: list[ir.Value | None] = [operation.value(0)]
    if isinstance(axes, list) and axes:
        inputs.append(operation.list(axes))
    operation.done(operation.emit("Squeeze", inputs))


@converts("EXPAND_DIMS")
def expand_dims(operation: Operation) -> None:
    if _turned(operation):
        return
    axes = operation.list(operation.integers(1, "the axis"))
    operation.done(operation.emit("Unsqueeze", [operation.value(0), axes]))


@converts("TRANSPOSE")
def transpose(operation: Operation) -> None:
    order = operation.integers(1, "the order")
    operation.done(operation.emit("Transpose", [operation.value(0)], {"perm": order}))


@converts("SHAPE")
def shape_of(operation: Operation) -> None:
    shape = operation.emit("Shape", [operation.value(0)])
    kind = operation.builder.model.tensors[operation.record.outputs[0]].type if operation.record.outputs else ""
    if kind == "int32":
        shape = operation.emit("Cast", [shape], {"to": int(_TYPES[kind])}, glue=True)
    operation.done(shape)


@converts("BROADCAST_TO")
def broadcast(operation: Operation) -> None:
    operation.done(operation.emit("Expand", [operation.value(0), operation.shape_value(1)]))


@converts("FILL")
def fill(operation: Operation) -> None:
    operation.done(operation.emit("Expand", [operation.value(1), operation.shape_value(0)]))


@converts("RANK")
def rank(operation: Operation) -> None:
    operation.done(operation.make(np.array(len(operation.tensor(0).shape), np.int32)))


@converts("REVERSE_V2")
def reverse(operation: Operation) -> None:
    axes = operation.integers(1, "the axes")
    edges = ([-1] * len(axes), [-_FAR] * len(axes), axes, [-1] * len(axes))
    operation.done(operation.emit("Slice", [operation.value(0), *(operation.list(e) for e in edges)]))


@converts("TILE")
def tile(operation: Operation) -> None:
    operation.done(operation.emit("Tile", [operation.value(0), operation.shape_value(1)]))


@converts("RANGE")
def range_(operation: Operation) -> None:
    operation.done(operation.emit("Range", [operation.value(i) for i in range(3)]))


@converts("CAST")
def cast(operation: Operation) -> None:
    """The types of the two tensors count: older files leave the options out."""
    kind = operation.builder.model.tensors[operation.record.outputs[0]].type if operation.record.outputs else TYPES[0]
    if kind not in _TYPES:
        raise Unsupported(f"a cast to {kind}", "a numeric type")
    operation.done(operation.emit("Cast", [operation.value(0)], {"to": int(_TYPES[kind])}))


@converts("DEQUANTIZE")
def dequantize(operation: Operation) -> None:
    """What codes stand for is known of every tensor: constants are floats, computed ones have it stated."""
    tensor = operation.tensor(0)
    plain = operation.is_constant(0) or tensor.type in ("float16", "float32", "bfloat16")
    if not plain and not operation.builder.stands_for_reals(tensor):
        raise Unsupported(f"it makes floats of {tensor.type} values without a scale", "tensors with a scale")
    operation.done(operation.value(0))


@converts("QUANTIZE")
def quantize(operation: Operation) -> None:
    """The codes of the result are stated with its tensor."""
    if operation.record.outputs and not operation.builder.stands_for_reals(
        operation.builder.model.tensors[operation.record.outputs[0]]
    ):
        raise Unsupported("it makes codes without a scale", "a result with a scale")
    operation.done(operation.value(0))


@converts("DENSIFY")
def densify(operation: Operation) -> None:
    """Sparse constants were spread when they were read."""
    if not operation.is_constant(0):
        kind = kind_of(operation.value(0)) or "computed"
        raise Unsupported(f"its input is {kind}, not a constant", "a sparse constant of numbers")
    operation.done(operation.value(0))


@converts("PACK")
def pack(operation: Operation) -> None:
    axis = operation.integer("axis")
    axes = operation.list([axis])
    parts = [
        operation.emit("Unsqueeze", [operation.value(i), axes], glue=True) for i in range(len(operation.record.inputs))
    ]
    operation.done(operation.emit("Concat", parts, {"axis": axis}))


@converts("UNPACK")
def unpack(operation: Operation) -> None:
    axis, count = operation.integer("axis"), len(operation.record.outputs)
    if count < 1:
        raise Unsupported("it has no output")
    parts = operation.emit_all("Split", [operation.value(0), operation.list([1] * count)], {"axis": axis}, count)
    axes = operation.list([axis])
    operation.done(*(operation.emit("Squeeze", [part, axes]) for part in parts))


@converts("GATHER")
def gather(operation: Operation) -> None:
    if operation.integer("batch_dims"):
        raise Unsupported("GATHER with batch_dims", "batch_dims 0")
    inputs = [operation.value(0), operation.value(1)]
    operation.done(operation.emit("Gather", inputs, {"axis": operation.integer("axis")}))
