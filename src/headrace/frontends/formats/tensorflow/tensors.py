# SPDX-License-Identifier: Apache-2.0
"""Constants of a graph: the messages of tensors, and raw bytes of a type, as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.frontends.formats.tensorflow.records import sizes_of
from headrace.frontends.formats.tensorflow.schema import NUMPY_TYPES, type_name
from headrace.frontends.graph import MAX_TENSOR_ELEMENTS, Unsupported
from headrace.hn import Array

#: The field of a tensor's message that holds values of a type one by one.
_FIELDS = {
    "float32": "floats", "float64": "doubles", "int32": "ints", "int16": "ints", "int8": "ints", "uint8": "ints",
    "uint16": "ints", "int64": "int64s", "bool": "bools", "float16": "halves", "bfloat16": "halves",
    "uint32": "uint32s", "uint64": "uint64s", "qint8": "ints", "quint8": "ints", "qint32": "ints",
    "complex64": "complexes",
}  # fmt: skip
#: Kinds whose elements are pairs, real and imaginary part → the kind of these; a tensor of them has one dimension more.
COMPLEX = {"complex64": "float32"}
_BY_BITS = {"float16": np.dtype("<u2"), "bfloat16": np.dtype("<u2")}


def array_of_bytes(data: bytes | memoryview, kind: str, shape: Sequence[int]) -> Array:
    """Little-endian bytes of a type as an array; float16 and bfloat16 become float32.

    Raises:
        Unsupported: a type that is not read, or another number of bytes than the shape has.
    """
    dtype = NUMPY_TYPES.get(kind)
    if dtype is None:
        raise Unsupported(f"it is a tensor of type {kind}", "a tensor of numbers")
    if len(data) != math.prod(shape) * dtype.itemsize:
        got = f"{len(data)} bytes for {list(shape)} of {kind}"
        raise Unsupported(f"its data does not fit its type and shape: {got}", "as many bytes as its shape has")
    array = np.frombuffer(data, dtype).reshape(shape)
    if kind == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if kind == "float16" else array


def array_of(message: Any, charge: Callable[[int], None]) -> Array:
    """The array of a tensor's message; values that are left out are the last one that is there.

    Args:
        message: the tensor.
        charge: told how many bytes it will have before they are made, and raises where that is too much.

    Raises:
        Unsupported: it holds no numbers, or is inconsistent.
    """
    kind, shape = type_name(message.dtype), sizes_of(message.shape)
    field, width = _FIELDS.get(kind, ""), 1  # numbers of an element
    if kind in COMPLEX and shape is not None:
        kind, shape, width = COMPLEX[kind], [*shape, 2], 2
    dtype = NUMPY_TYPES.get(kind)
    if dtype is None:
        raise Unsupported(f"it is a constant of type {kind}", "a tensor of numbers")
    if shape is None or min(shape, default=1) < 0 or math.prod(shape) > MAX_TENSOR_ELEMENTS:
        raise Unsupported(f"it is a constant of shape {shape}", f"known sizes, at most {MAX_TENSOR_ELEMENTS} elements")
    if message.content:
        return array_of_bytes(message.content, kind, shape)
    count = math.prod(shape)
    charge(count * dtype.itemsize)
    given = np.array(getattr(message, field)[: count + 1], dtype=np.float64 if dtype.kind == "f" else None)
    if kind in ("float16", "bfloat16"):
        given = given.astype(np.int64)
    if len(given) > count or (count and not len(given) and getattr(message, field)):
        raise Unsupported(f"it is a constant with more values than its shape {shape} has")
    values = given.astype(_BY_BITS.get(kind, dtype))
    if len(values) < count:
        if len(values) % width:
            raise Unsupported("it is a constant with half a complex number", "pairs")
        last = values[-width:] if len(values) else np.zeros(width, values.dtype)
        values = np.concatenate([values, np.tile(last, (count - len(values)) // width)])
    return array_of_bytes(values.tobytes(), kind, shape)


__all__ = ["COMPLEX", "array_of", "array_of_bytes"]
