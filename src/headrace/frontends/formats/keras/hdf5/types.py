# SPDX-License-Identifier: Apache-2.0
"""Datatype and dataspace messages: what one element is, and how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headrace.frontends.formats.keras.hdf5.buffer import Cursor, DamagedError, UnreadableError
from headrace.frontends.graph import MAX_TENSOR_ELEMENTS
from headrace.hn import Array

_MAX_RANK = 32
_FLOATS = {(2, 5, 10): "<f2", (4, 8, 23): "<f4", (8, 11, 52): "<f8"}  # bytes, exponent bits, mantissa bits
_CLASSES = {
    2: "times", 4: "bit fields", 5: "opaque bytes", 6: "compounds", 7: "references", 10: "arrays",
    11: "complex numbers",
}  # fmt: skip


@dataclass(frozen=True)
class Datatype:
    """What one element is.

    Attributes:
        size: bytes of one element as it is stored.
        kind: "number", "bfloat16", "text" (``size`` bytes each) or "long text" (a reference into a heap).
        dtype: of numbers.
    """

    size: int
    kind: str
    dtype: str = ""


def read_datatype(cursor: Cursor) -> Datatype:
    """The datatype whose message the cursor stands before."""
    first = cursor.number(1)
    kind, version = first & 15, first >> 4
    cursor.expect("a datatype of version", version, 1, 2, 3, 4, 5)
    bits = cursor.number(1) | cursor.number(2) << 8
    size = cursor.number(4)
    if not 1 <= size <= 1 << 20:
        raise DamagedError(f"{cursor.what} has elements of {size} bytes")
    if kind == 0:
        return _integer(cursor, bits, size)
    if kind == 1:
        return _real(cursor, bits, size)
    if kind == 3:
        return Datatype(size, "text")
    if kind == 8:  # an enumeration, as truth values are
        base = read_datatype(cursor)
        if base.size != size or base.kind != "number":
            raise DamagedError(f"{cursor.what} enumerates something that is no integer of its size")
        return base
    if kind == 9 and bits & 15 == 1 and size == 16:
        return Datatype(size, "long text")
    raise UnreadableError(f"{cursor.what} holds {_CLASSES.get(kind, 'lists' if kind == 9 else f'class {kind}')}")


def _order(bits: int) -> str:
    return ">" if bits & 1 else "<"


def _integer(cursor: Cursor, bits: int, size: int) -> Datatype:
    offset, precision = cursor.number(2), cursor.number(2)
    if size not in (1, 2, 4, 8) or offset or precision != 8 * size:
        raise UnreadableError(f"{cursor.what} holds integers of {precision} bits")
    return Datatype(size, "number", f"{_order(bits)}{'i' if bits & 8 else 'u'}{size}")


def _real(cursor: Cursor, bits: int, size: int) -> Datatype:
    offset, precision = cursor.number(2), cursor.number(2)
    exponent_at, exponent, mantissa_at, mantissa = (cursor.number(1) for _ in range(4))
    cursor.skip(4)
    plain = offset == 0 and precision == 8 * size and mantissa_at == 0 and exponent_at == mantissa
    if plain and (size, exponent, mantissa) == (2, 8, 7) and not bits & 0x41:
        return Datatype(size, "bfloat16", "<u2")
    found = _FLOATS.get((size, exponent, mantissa))
    if found is None or not plain or bits & 0x40:
        raise UnreadableError(f"{cursor.what} holds floats of {precision} bits, {exponent} of them exponent")
    return Datatype(size, "number", _order(bits) + found[1:])


def read_dataspace(cursor: Cursor) -> tuple[int, ...]:
    """The shape; ``()`` of a single value."""
    version = cursor.expect("a dataspace of version", cursor.number(1), 1, 2)
    rank, _flags = cursor.number(1), cursor.number(1)
    kind = cursor.number(1)
    if version == 1:
        cursor.skip(4)
        kind = 1 if rank else 0
    if kind == 2:
        return (0,)
    if rank > _MAX_RANK:
        raise DamagedError(f"{cursor.what} has rank {rank}")
    shape = tuple(cursor.number(8) for _ in range(rank))
    if math.prod(max(s, 1) for s in shape) > MAX_TENSOR_ELEMENTS:
        raise DamagedError(f"{cursor.what} has shape {list(shape)}, which is too large")
    return shape


def numbers(data: bytes | memoryview, datatype: Datatype, shape: tuple[int, ...], what: str) -> Array:
    """The stored bytes as an array; bfloat16 becomes float32.

    Raises:
        UnreadableError: they are no numbers.
    """
    if not datatype.dtype:
        raise UnreadableError(f"{what} holds text, not numbers")
    array = np.frombuffer(data, datatype.dtype, math.prod(shape)).reshape(shape)
    if datatype.kind == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
