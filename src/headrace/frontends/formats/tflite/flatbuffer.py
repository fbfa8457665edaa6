# SPDX-License-Identifier: Apache-2.0
"""Reading FlatBuffers that nobody has verified.

The Python FlatBuffers package follows offsets without looking; here every table, vector and string is checked against
the end of the file, and the amount of work one file may cause is bounded. Offsets other than a table's to its field
list only point forward, so no structure can contain itself.
"""

from __future__ import annotations

import struct

import numpy as np

from headrace.hn import Array

#: Scalars by their one-letter kind: size in bytes and how to read one.
_SCALARS: dict[str, struct.Struct] = {
    "bool": struct.Struct("<B"),
    "i8": struct.Struct("<b"),
    "u8": struct.Struct("<B"),
    "i32": struct.Struct("<i"),
    "i64": struct.Struct("<q"),
    "u32": struct.Struct("<I"),
    "u64": struct.Struct("<Q"),
    "f32": struct.Struct("<f"),
}
_VECTORS = {"u8": "<u1", "i32": "<i4", "i64": "<i8", "f32": "<f4"}
_U16 = struct.Struct("<H")
#: Elements of tables and vectors that one file may make us look at, counting repeated readings.
MAX_WORK = 20_000_000
MAX_STRING_BYTES = 1 << 16


class DamagedError(Exception):
    """The bytes are not a FlatBuffer of this schema; the text says where and why."""


class Buffer:
    """The bytes of a file, with a budget of work."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.size = len(data)
        self._work = 0

    def spend(self, count: int) -> None:
        self._work += count
        if self._work > MAX_WORK:
            raise DamagedError(f"it states more than {MAX_WORK} elements of structure")

    def need(self, position: int, length: int, what: str) -> None:
        """Check that ``length`` bytes at ``position`` lie in the file."""
        if position < 0 or length < 0 or position + length > self.size:
            raise DamagedError(f"{what} at byte {position} would end at {position + length} of {self.size}")

    def scalar(self, position: int, kind: str, what: str) -> int | float:
        reader = _SCALARS[kind]
        self.need(position, reader.size, what)
        return reader.unpack_from(self.data, position)[0]

    def root(self) -> Table:
        return Table(self, self.follow(0, "the root"))

    def follow(self, position: int, what: str) -> int:
        """Where the offset stored at ``position`` points."""
        target = position + int(self.scalar(position, "u32", what))
        if target <= position:
            raise DamagedError(f"{what} at byte {position} points at itself")
        self.need(target, 4, what)
        return target


class Table:
    """One table: scalars, vectors, strings and tables by slot number; what the file leaves out has its default."""

    def __init__(self, buffer: Buffer, position: int) -> None:
        buffer.spend(1)
        self.buffer, self.position = buffer, position
        listing = position - int(buffer.scalar(position, "i32", "a table"))
        buffer.need(listing, 4, "a table's field list")
        length, self._size = _U16.unpack_from(buffer.data, listing)[0], _U16.unpack_from(buffer.data, listing + 2)[0]
        if length < 4 or length % 2 or self._size < 4:
            raise DamagedError(f"the field list at byte {listing} states {length} and {self._size} bytes")
        buffer.need(listing, length, "a table's field list")
        buffer.need(position, self._size, "a table")
        self._slots = struct.unpack_from(f"<{(length - 4) // 2}H", buffer.data, listing + 4)

    def _field(self, slot: int, size: int) -> int | None:
        """The byte where a field stands, or None when it is left out."""
        offset = self._slots[slot] if slot < len(self._slots) else 0
        if offset == 0:
            return None
        if offset < 4 or offset + size > self._size:
            raise DamagedError(f"field {slot} of the table at byte {self.position} lies outside of it")
        return self.position + offset

    def scalar(self, slot: int, kind: str, default: float = 0) -> int | float:
        place = self._field(slot, _SCALARS[kind].size)
        return default if place is None else self.buffer.scalar(place, kind, "a field")

    def integer(self, slot: int, kind: str, default: int = 0) -> int:
        return int(self.scalar(slot, kind, default))

    def _target(self, slot: int, what: str) -> int | None:
        place = self._field(slot, 4)
        return None if place is None else self.buffer.follow(place, what)

    def table(self, slot: int) -> Table | None:
        target = self._target(slot, "a table")
        return None if target is None else Table(self.buffer, target)

    def _vector(self, slot: int, width: int) -> tuple[int, int] | None:
        """First byte and number of elements of a vector."""
        target = self._target(slot, "a vector")
        if target is None:
            return None
        count = int(self.buffer.scalar(target, "u32", "a vector"))
        self.buffer.need(target + 4, count * width, "a vector")
        return target + 4, count

    def numbers(self, slot: int, kind: str, limit: int) -> list[int] | list[float]:
        """A short vector of numbers; empty when left out."""
        dtype = np.dtype(_VECTORS[kind])
        found = self._vector(slot, dtype.itemsize)
        if found is None:
            return []
        start, count = found
        if count > limit:
            raise DamagedError(f"a list of at most {limit} numbers has {count}")
        self.buffer.spend(count)
        array: Array = np.frombuffer(self.buffer.data, dtype, count, start)
        return array.tolist()

    def array(self, slot: int, dtype: str) -> Array:
        """A vector of numbers of any length, not copied; empty when left out."""
        found = self._vector(slot, np.dtype(dtype).itemsize)
        if found is None:
            return np.zeros(0, dtype)
        self.buffer.spend(found[1] // 64)
        return np.frombuffer(self.buffer.data, dtype, found[1], found[0])

    def integers(self, slot: int, limit: int, kind: str = "i32") -> list[int]:
        return [int(v) for v in self.numbers(slot, kind, limit)]

    def data(self, slot: int) -> memoryview | None:
        """A vector of bytes, not copied."""
        found = self._vector(slot, 1)
        return None if found is None else self.buffer.data[found[0] : found[0] + found[1]]

    def string(self, slot: int) -> str:
        found = self._vector(slot, 1)
        if found is None:
            return ""
        start, count = found
        if count > MAX_STRING_BYTES:
            raise DamagedError(f"a name of {count} bytes")
        self.buffer.spend(count // 4)
        return bytes(self.buffer.data[start : start + count]).decode("utf-8", "replace")

    def count(self, slot: int) -> int:
        """Number of tables in a vector of tables."""
        found = self._vector(slot, 4)
        return 0 if found is None else found[1]

    def tables(self, slot: int, limit: int, what: str) -> list[Table]:
        found = self._vector(slot, 4)
        if found is None:
            return []
        start, count = found
        if count > limit:
            raise DamagedError(f"there are {count} {what}; at most {limit} are read")
        return [Table(self.buffer, self.buffer.follow(start + 4 * i, what)) for i in range(count)]
