# SPDX-License-Identifier: Apache-2.0
"""The bytes of an HDF5 file, with a budget of work; everything is little-endian, addresses and lengths have 8 bytes."""

from __future__ import annotations

import struct

#: Structures (headers, nodes, entries, messages, chunks) that one file may make us look at, repeated readings counted.
MAX_WORK = 2_000_000
#: Bytes of values that one file may be read as, for each of its bytes: repeated and compressed ones included.
EXPANSION = 32
SPARE_BYTES = 64 << 20
#: An address that says there is nothing.
UNDEFINED = (1 << 64) - 1
_NUMBERS = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I"), 8: struct.Struct("<Q")}


class DamagedError(Exception):
    """The bytes are not a valid HDF5 file; the text says where and why."""


class UnreadableError(Exception):
    """The file is valid as far as it was read, and has something in a form that is not read; the text says what."""


class Buffer:
    """All bytes of the file, counted from its superblock.

    Attributes:
        size: how many there are.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.size = len(self.data)
        self._work = 0
        self._bytes_left = EXPANSION * self.size + SPARE_BYTES

    def spend(self, count: int = 1) -> None:
        """Count ``count`` structures as looked at."""
        self._work += count
        if self._work > MAX_WORK:
            raise DamagedError(f"it states more than {MAX_WORK} structures")

    def charge(self, count: int) -> None:
        """Count ``count`` bytes of values, before they are made."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise DamagedError(f"its values unpack to more than {EXPANSION} times its size")

    def take(self, position: int, length: int, what: str) -> memoryview:
        """``length`` bytes at ``position``."""
        if position < 0 or length < 0 or position + length > self.size:
            raise DamagedError(f"{what} at byte {position} would end at {position + length} of {self.size}")
        return self.data[position : position + length]

    def signed(self, position: int, signature: bytes, length: int, what: str) -> Cursor:
        """A cursor behind ``signature``, over a structure of ``length`` bytes."""
        self.spend()
        found = self.take(position, length, what)
        if bytes(found[: len(signature)]) != signature:
            raise DamagedError(f"{what} at byte {position} does not begin with {signature.decode()}")
        return Cursor(found, what, len(signature))


class Cursor:
    """Fields of one structure, one after the other."""

    def __init__(self, data: memoryview, what: str, position: int = 0) -> None:
        self.data, self.what, self.position = data, what, position

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, length: int) -> memoryview:
        """The next ``length`` bytes."""
        if length < 0 or length > self.left:
            raise DamagedError(f"{self.what} is cut short: {length} bytes are needed where {self.left} are left")
        self.position += length
        return self.data[self.position - length : self.position]

    def number(self, size: int) -> int:
        """The next unsigned integer of 1, 2, 4 or 8 bytes."""
        return int(_NUMBERS[size].unpack(self.take(size))[0])

    def skip(self, length: int) -> None:
        self.take(length)

    def expect(self, name: str, value: int, *allowed: int) -> int:
        """A value that must be one of those that are known."""
        if value not in allowed:
            raise UnreadableError(f"{self.what} has {name} {value}; {', '.join(map(str, allowed))} can be read")
        return value


def text_of(data: memoryview | bytes, what: str) -> str:
    """UTF-8 up to the first zero byte."""
    try:
        return bytes(data).partition(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError:
        raise DamagedError(f"{what} is not UTF-8") from None
