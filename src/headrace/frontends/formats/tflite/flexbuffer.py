# SPDX-License-Identifier: Apache-2.0
"""The numbers of a FlexBuffer's map: options of custom operators (https://flatbuffers.dev/flexbuffers)."""

from __future__ import annotations

import struct

from headrace.frontends.formats.tflite.flatbuffer import DamagedError

_INT, _UINT, _FLOAT, _BOOL, _MAP = 1, 2, 3, 26, 9
#: Numbers that stand elsewhere: their place is what the map has.
_ELSEWHERE = {6: _INT, 7: _UINT, 8: _FLOAT}
_FORMATS = {_INT: "bhiq", _UINT: "BHIQ", _BOOL: "BHIQ", _FLOAT: " efd"}
_MOST = 256
_LONGEST = 100


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def number(self, place: int, width: int, kind: int = _UINT) -> int | float:
        """The number of ``width`` bytes, 1, 2, 4 or 8, at a place."""
        word = _FORMATS[kind][width.bit_length() - 1]
        if not 0 <= place <= len(self.data) - width or word == " ":
            raise DamagedError(f"a number of {width} bytes at byte {place} of {len(self.data)}")
        found: int | float = struct.unpack_from(f"<{word}", self.data, place)[0]
        return found

    def target(self, place: int, width: int) -> int:
        """The place that an offset leads back to."""
        return place - int(self.number(place, width))

    def key(self, place: int) -> str:
        end = self.data.find(b"\0", max(place, 0), max(place, 0) + _LONGEST)
        if place < 0 or end < 0:
            raise DamagedError("a name without an end")
        return self.data[place:end].decode("utf-8", "replace")


def numbers(data: bytes) -> dict[str, int | float]:
    """The numbers and truth values of a map, by key; other values are left out.

    Raises:
        DamagedError: it is no map, or its places are outside of it.
    """
    b = _Bytes(data)
    if len(data) < 3 or data[-1] not in (1, 2, 4, 8) or data[-2] >> 2 != _MAP:
        raise DamagedError("they are no map of a FlexBuffer")
    root = b.target(len(data) - 2 - data[-1], data[-1])
    width = 1 << (data[-2] & 3)
    count = int(b.number(root - width, width))
    wide = int(b.number(root - 2 * width, width))
    if count > _MOST or wide not in (1, 2, 4, 8):
        raise DamagedError(f"a map of {count} values, keys of {wide} bytes")
    keys = b.target(root - 3 * width, width)
    found: dict[str, int | float] = {}
    for index in range(count):
        name = b.key(b.target(keys + index * wide, wide))
        packed = int(b.number(root + count * width + index, 1))
        place, kind, size = root + index * width, packed >> 2, width
        if kind in _ELSEWHERE:
            place, kind, size = b.target(place, width), _ELSEWHERE[kind], 1 << (packed & 3)
        if kind in _FORMATS:
            found[name] = b.number(place, size, kind)
    return found
