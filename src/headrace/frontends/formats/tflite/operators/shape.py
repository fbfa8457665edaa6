# SPDX-License-Identifier: Apache-2.0
"""Operators that change only how a tensor is seen, shape arithmetic, and changes of type."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import COMPLEX, Operation, converts
from headrace.frontends.graph import Unsupported, kind_of

_TYPES = {
    "float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE,
    "int32": onnx.TensorProto.INT32, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL,
    "uint8": onnx.TensorProto.UINT8, "int8": onnx.TensorProto.INT8, "int16": onnx.TensorProto.INT16,
    "bfloat16": onnx.TensorProto.FLOAT,
}  # fmt: skip
converts("TRANSPOSE")(common.transpose)
converts("BROADCAST_TO")(common.broadcast_to)
converts("FILL")(common.fill)
converts("RANK")(common.rank)
converts("BROADCAST_ARGS")(common.broadcast_shapes)
converts("TILE")(common.tile)
converts("RANGE")(common.range_)


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
    stated = operation.whole_numbers("new_shape")
    if operation.has(1):
        shape = operation.shape_value(1)
    elif stated:
        shape = operation.list(stated)
    else:
        raise Unsupported("it states no shape", "a shape as input or option")
    if operation.tensor(0).type == COMPLEX:
        shape = operation.emit("Concat", [shape, operation.list([2])], {"axis": 0}, glue=True)
    # A size of 0 stands for itself in TFLite.
    operation.done(operation.emit("Reshape", [operation.value(0), shape], {"allowzero": 1}))


@converts("SQUEEZE")
def squeeze(operation: Operation) -> None:
    if _turned(operation):
        return
    axes = operation.whole_numbers("squeeze_dims")
    inputs: list[ir.Value | None] = [operation.value(0)]
    if not axes and operation.tensor(0).type == COMPLEX:
        axes = [i for i, size in enumerate(operation.shape(0)) if size == 1]
    if axes:
        if operation.tensor(0).type == COMPLEX:
            axes = [a % operation.rank(0) for a in axes]
        inputs.append(operation.list(axes))
    operation.done(operation.emit("Squeeze", inputs))


@converts("EXPAND_DIMS")
def expand_dims(operation: Operation) -> None:
    if _turned(operation):
        return
    axis = operation.axis(1)
    if operation.tensor(0).type == COMPLEX and axis < 0:
        axis += operation.rank(0) + 1
    axes = operation.list([axis])
    operation.done(operation.emit("Unsqueeze", [operation.value(0), axes]))


@converts("SHAPE")
def shape_of(operation: Operation) -> None:
    shape = operation.emit("Shape", [operation.value(0)])
    kind = operation.made(0).type
    if kind == "int32":
        shape = operation.emit("Cast", [shape], {"to": int(_TYPES[kind])}, glue=True)
    operation.done(shape)


@converts("CAST")
def cast(operation: Operation) -> None:
    """The types of the two tensors count: older files leave the options out."""
    kind = operation.made(0).type
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
    if not operation.builder.stands_for_reals(operation.made(0)):
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
    common.pack(operation, operation.integer("axis"))


@converts("UNPACK")
def unpack(operation: Operation) -> None:
    common.unpack(operation, operation.integer("axis"), len(operation.record.outputs))


@converts("BITCAST")
def bitcast(operation: Operation) -> None:
    made = operation.made(0).type
    if made != operation.tensor(0).type:
        raise Unsupported(f"it reads the bits of {operation.tensor(0).type} as {made}", "a cast")
    operation.done(operation.value(0))
