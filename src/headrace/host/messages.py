# SPDX-License-Identifier: Apache-2.0
"""What two processes say to one another: a head of plain data, and arrays behind it, through pipes.

The length of the head, the head as JSON, then the elements of each array that the head lists. Strings go as JSON.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headrace.hn import Array

Head = dict[str, Any]
#: Fills a buffer; EOFError: the other side has ended.
Fill = Callable[[memoryview], None]
_LENGTH = struct.Struct("<Q")
_MAX_HEAD_BYTES = 64 << 20


class TooLargeError(Exception):
    """A message holds more bytes than it may."""


def packed(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[bytes | memoryview]:
    """A message in pieces.

    Args:
        head: plain data; the name ``arrays`` is taken.
        arrays: numbers, truth values or strings (str objects) of any shape, by name.

    Raises:
        TypeError: an array holds something else.
    """
    listed: list[Head] = []
    bodies: list[bytes | memoryview] = []
    for name, array in arrays.items():
        entry: Head = {"name": name, "shape": list(array.shape)}
        if array.dtype.kind in "OU":
            texts: list[Any] = array.ravel().tolist()
            if not all(type(text) is str for text in texts):
                raise TypeError(f"{name!r} holds neither numbers nor strings")
            body: bytes | memoryview = json.dumps(texts).encode()
            entry |= {"dtype": "string", "bytes": len(body)}
        elif array.dtype.kind in "fiubc":
            flat = np.ascontiguousarray(array).reshape(-1)
            body = flat.view(np.uint8).data if flat.size else b""
            entry |= {"dtype": array.dtype.str, "bytes": len(body)}
        else:
            raise TypeError(f"{name!r} holds neither numbers nor strings but {array.dtype}")
        listed.append(entry)
        bodies.append(body)
    text = json.dumps({**head, "arrays": listed}).encode()
    return [_LENGTH.pack(len(text)), text, *bodies]


def received(fill: Fill, most: int) -> tuple[Head, dict[str, Array]]:
    """The next message.

    Args:
        fill: reads from the other side.
        most: bytes that its arrays may have.

    Raises:
        EOFError: there is none. TooLargeError: it has more. ValueError, KeyError: it is none.
    """
    head: Head = json.loads(_bytes(fill, _size_of_head(fill)))
    listed: list[Head] = head.pop("arrays")
    total = sum(int(entry["bytes"]) for entry in listed)
    if total > most:
        raise TooLargeError(f"{total} bytes, and at most {most}")
    return head, {str(entry["name"]): _array(fill, entry) for entry in listed}


def _size_of_head(fill: Fill) -> int:
    size = int(_LENGTH.unpack(_bytes(fill, _LENGTH.size))[0])
    if size > _MAX_HEAD_BYTES:
        raise TooLargeError(f"a head of {size} bytes")
    return size


def _bytes(fill: Fill, size: int) -> bytearray:
    made = bytearray(size)
    if size:
        fill(memoryview(made))
    return made


def _array(fill: Fill, entry: Head) -> Array:
    shape, size = tuple(int(n) for n in entry["shape"]), int(entry["bytes"])
    if entry["dtype"] == "string":
        texts: list[str] = json.loads(_bytes(fill, size))
        made = np.empty(len(texts), object)
        made[:] = texts
        return made.reshape(shape)
    dtype = np.dtype(str(entry["dtype"]))
    if dtype.kind not in "fiubc" or math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of {dtype} and shape {shape} in {size} bytes")
    array = np.empty(math.prod(shape), dtype)
    if size:
        fill(array.view(np.uint8).data)
    return array.reshape(shape)


__all__ = ["Fill", "Head", "TooLargeError", "packed", "received"]
