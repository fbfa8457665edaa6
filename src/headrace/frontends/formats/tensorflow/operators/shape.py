# SPDX-License-Identifier: Apache-2.0
"""Operators that change only how a tensor is seen, arithmetic on shapes, and changes of type."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.graph import Unsupported

converts("Transpose")(common.transpose)
converts("Rank")(common.rank)
converts("BroadcastTo")(common.broadcast_to)
converts("Tile")(common.tile)
converts("BroadcastArgs")(common.broadcast_shapes)


@converts("Reshape")
def reshape(operation: Operation) -> None:
    """A size of 0 stands for itself."""
    operation.done(operation.emit("Reshape", [operation.value(0), operation.shape_value(1)], {"allowzero": 1}))


@converts("Squeeze")
def squeeze(operation: Operation) -> None:
    axes = operation.attributes.integers("squeeze_dims") or operation.attributes.integers("axis")
    if not axes and not operation.is_constant(0):  # a batch that is open is not known to be 1, and stays
        axes = [i for i, size in enumerate(operation.shape(0)) if size == 1 and i > 0]
        if not axes:
            operation.done(operation.emit("Identity", [operation.value(0)]))
            return
    inputs = [operation.value(0), *([operation.list(axes)] if axes else [])]
    operation.done(operation.emit("Squeeze", inputs))


@converts("ExpandDims")
def expand_dims(operation: Operation) -> None:
    operation.done(operation.emit("Unsqueeze", [operation.value(0), operation.list([operation.axis(1)])]))


@converts("InvertPermutation")
def inverse(operation: Operation) -> None:
    order = operation.integers(0, "the order")
    if sorted(order) != list(range(len(order))):
        raise Unsupported(f"{order} is not a permutation")
    operation.done(operation.make(np.argsort(np.array(order, np.int64)).astype(np.int32)))


def _shape_of(operation: Operation, index: int) -> ir.Value:
    kind = operation.attributes.type("out_type", "int32")
    known = operation.builder.known_shape(operation.value(index))
    if known is not None:
        return operation.make(np.array(known, np.int64 if kind == "int64" else np.int32))
    shape = operation.emit("Shape", [operation.value(index)])
    return shape if kind == "int64" else operation.cast(shape, kind)


@converts("Shape", "ShapeN")
def shape_of(operation: Operation) -> None:
    operation.done(*(_shape_of(operation, i) for i in range(len(operation.inputs))))


@converts("Size")
def size_of(operation: Operation) -> None:
    known = operation.builder.known_shape(operation.value(0))
    kind = operation.attributes.type("out_type", "int32")
    if known is not None:
        operation.done(
            operation.make(np.array(np.prod(known, dtype=np.int64), np.int64 if kind == "int64" else np.int32))
        )
        return
    size = operation.emit("Size", [operation.value(0)])
    operation.done(size if kind == "int64" else operation.cast(size, kind))


@converts("Cast")
def cast(operation: Operation) -> None:
    kind = operation.attributes.type("DstT")
    operation.done(operation.cast(operation.value(0), kind))


@converts("Bitcast")
def bitcast(operation: Operation) -> None:
    if operation.attributes.type("T") != operation.attributes.type("type"):
        raise Unsupported("it reads the bits of one type as another", "a cast")
    operation.done(operation.value(0))


@converts("Pack")
def pack(operation: Operation) -> None:
    common.pack(operation, operation.attributes.integer("axis", 0))


@converts("Unpack")
def unpack(operation: Operation) -> None:
    common.unpack(operation, operation.attributes.integer("axis", 0), operation.attributes.integer("num", 0))
