# SPDX-License-Identifier: Apache-2.0
"""Groups, datasets and attributes of one file."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from headrace.frontends.formats.keras.hdf5.buffer import (
    UNDEFINED,
    Buffer,
    Cursor,
    DamagedError,
    UnreadableError,
    text_of,
)
from headrace.frontends.formats.keras.hdf5.links import leaves, links
from headrace.frontends.formats.keras.hdf5.objects import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILTERS,
    LAYOUT,
    Message,
    read_messages,
)
from headrace.frontends.formats.keras.hdf5.types import Datatype, numbers, read_dataspace, read_datatype
from headrace.hn import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3
_MAX_TEXTS = 1 << 20
Value = Array | str | list[str]


def _one(messages: list[Message], kind: int, what: str) -> Message:
    found = next((m for m in messages if m.kind == kind), None)
    if found is None:
        raise DamagedError(f"the header of {what} lacks the message {kind:#x}")
    return found


@dataclass(frozen=True)
class Dataset:
    """An array in the file; nothing of its values is read before :meth:`read`."""

    buffer: Buffer
    messages: list[Message]
    what: str

    @property
    def shape(self) -> tuple[int, ...]:
        return read_dataspace(_one(self.messages, DATASPACE, self.what).cursor(self.what))

    def attribute(self, name: str) -> Value | None:
        """An attribute of the dataset."""
        return _attribute(self.buffer, self.messages, name, self.what)

    def read(self) -> Array:
        """Its numbers, in the machine's byte order.

        Raises:
            DamagedError: its storage lies outside the file, or does not hold what it should.
            UnreadableError: it is stored in a form that is not read.
        """
        datatype = read_datatype(_one(self.messages, DATATYPE, self.what).cursor(self.what))
        shape = self.shape
        size = math.prod(shape) * datatype.size
        if any(m.kind == EXTERNAL for m in self.messages):
            raise UnreadableError(f"{self.what} is stored in another file")
        self.buffer.charge(size)
        return numbers(self._stored(shape, datatype, size), datatype, shape, self.what)

    def _stored(self, shape: tuple[int, ...], datatype: Datatype, size: int) -> bytes | memoryview:
        cursor = _one(self.messages, LAYOUT, self.what).cursor(self.what)
        version = cursor.number(1)
        if version not in (3, 4):
            raise UnreadableError(f"{self.what} has a layout of version {version}; 3 and 4 can be read")
        kind = cursor.number(1)
        if size == 0:
            return b""
        if kind == 0:
            found = cursor.take(cursor.number(2))
        elif kind == 1:
            address, length = cursor.number(8), cursor.number(8)
            if address == UNDEFINED:  # nothing was ever written: all zeros
                raise UnreadableError(f"{self.what} was declared and never written")
            found = self.buffer.take(address, length, self.what)
        elif kind == 2 and version == 3:
            return self._chunks(cursor, shape, datatype)
        else:
            stored = {2: "in chunks as writers with libver='latest' do", 3: "as a view of other datasets"}
            raise UnreadableError(f"{self.what} is stored {stored.get(kind, f'as layout {kind}')}")
        if len(found) < size:
            raise DamagedError(f"{self.what} has {len(found)} bytes where its shape needs {size}")
        return found[:size]

    # --- chunks --------------------------------------------------------------------------------------------------

    def _chunks(self, cursor: Cursor, shape: tuple[int, ...], datatype: Datatype) -> bytes:
        rank = cursor.number(1) - 1
        tree = cursor.number(8)
        chunk = tuple(cursor.number(4) for _ in range(max(rank, 0)))
        if rank != len(shape) or rank < 1 or min(chunk) < 1 or cursor.number(4) != datatype.size:
            raise DamagedError(f"{self.what} has chunks {list(chunk)} and shape {list(shape)}")
        size = math.prod(chunk) * datatype.size
        if math.prod(chunk) > 4 * math.prod(shape) + (1 << 20):
            raise DamagedError(f"{self.what} has chunks {list(chunk)}, larger than its shape {list(shape)}")
        filters = self._filters()
        grid = tuple(-(-s // c) for s, c in zip(shape, chunk, strict=True))
        missing, result = math.prod(grid), np.zeros((*shape, datatype.size), np.uint8)
        seen: set[tuple[int, ...]] = set()
        for address, key in leaves(self.buffer, tree, 1, 8 + 8 * (rank + 1), self.what):
            entry = Cursor(key, self.what)
            length, mask = entry.number(4), entry.number(4)
            start = tuple(entry.number(8) for _ in range(rank))
            if any(a % c or a >= s for a, c, s in zip(start, chunk, shape, strict=True)) or start in seen:
                raise DamagedError(f"{self.what} has a chunk at {list(start)}")
            seen.add(start)
            missing -= 1
            self.buffer.charge(size)
            data = self._unpacked(self.buffer.take(address, length, self.what), filters, mask, size, datatype.size)
            block = np.frombuffer(data, np.uint8).reshape(*chunk, datatype.size)
            kept = tuple(min(c, s - a) for a, c, s in zip(start, chunk, shape, strict=True))
            place = tuple(slice(a, a + k) for a, k in zip(start, kept, strict=True))
            result[place] = block[tuple(slice(k) for k in kept)]
        if missing:
            raise DamagedError(f"{self.what} lacks {missing} of its {math.prod(grid)} chunks")
        return result.tobytes()

    def _filters(self) -> list[int]:
        """What was done to each chunk, in order."""
        message = next((m for m in self.messages if m.kind == FILTERS), None)
        if message is None:
            return []
        cursor = message.cursor(self.what)
        version = cursor.expect("filters of version", cursor.number(1), 1, 2)
        count = cursor.number(1)
        cursor.skip(6 if version == 1 else 0)
        found: list[int] = []
        for _ in range(count):
            kind = cursor.number(2)
            name = cursor.number(2) if version == 1 or kind >= 256 else 0
            cursor.skip(2)
            values = cursor.number(2)
            cursor.skip(name + -name % 8 if version == 1 else name)
            cursor.skip(4 * values + (4 if version == 1 and values % 2 else 0))
            if kind not in (_DEFLATE, _SHUFFLE, _CHECKSUM):
                raise UnreadableError(f"{self.what} is packed with filter {kind}; gzip and shuffle can be read")
            found.append(kind)
        return found

    def _unpacked(self, data: memoryview, filters: list[int], mask: int, size: int, width: int) -> bytes:
        found = bytes(data)
        for index in reversed(range(len(filters))):
            if mask >> index & 1:
                continue
            if filters[index] == _CHECKSUM:
                found = found[:-4]
            elif filters[index] == _SHUFFLE:
                if len(found) % width:
                    raise DamagedError(f"a chunk of {self.what} has {len(found)} bytes")
                found = np.frombuffer(found, np.uint8).reshape(width, -1).T.tobytes()
            else:
                engine = zlib.decompressobj()
                try:
                    found = engine.decompress(found, size + 8)
                except zlib.error as error:
                    raise DamagedError(f"a chunk of {self.what} cannot be unpacked: {error}") from None
        if len(found) != size:
            raise DamagedError(f"a chunk of {self.what} has {len(found)} bytes, not {size}")
        return found


class Group:
    """Names and what they stand for.

    Attributes:
        buffer: the file.
        what: how the group is called in messages.
    """

    def __init__(self, buffer: Buffer, messages: list[Message], what: str) -> None:
        self.buffer, self.what = buffer, what
        self._messages = messages
        self._links = links(buffer, messages, what)
        self._children: dict[str, Group | Dataset] = {}

    def names(self) -> list[str]:
        """What stands in the group, in the file's order."""
        return list(self._links)

    def attribute(self, name: str) -> Value | None:
        """An attribute: numbers, text, or texts; None where there is none of the name."""
        return _attribute(self.buffer, self._messages, name, self.what)

    def get(self, path: str) -> Group | Dataset | None:
        """What stands at a path of names with ``/`` between; None where there is nothing."""
        found: Group | Dataset = self
        for name in path.split("/"):
            if not name:
                continue
            if not isinstance(found, Group) or name not in found._links:
                return None
            if name not in found._children:
                found._children[name] = found._child(name)
            found = found._children[name]
        return found

    def group(self, path: str) -> Group | None:
        found = self.get(path)
        return found if isinstance(found, Group) else None

    def dataset(self, path: str) -> Dataset | None:
        found = self.get(path)
        return found if isinstance(found, Dataset) else None

    def _child(self, name: str) -> Group | Dataset:
        what = f"{self.what}/{name}"[-200:]
        messages = read_messages(self.buffer, self._links[name], what)
        if any(m.kind == LAYOUT for m in messages):
            return Dataset(self.buffer, messages, what)
        return Group(self.buffer, messages, what)


class File(Group):
    """A whole file in memory.

    Raises:
        DamagedError: it is no HDF5 file, or its first structures are damaged.
        UnreadableError: it has a form that is not read.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        buffer = Buffer(data)
        super().__init__(buffer, read_messages(buffer, _root(buffer), "the file"), "")


def _root(buffer: Buffer) -> int:
    """The address of the root group's header."""
    if bytes(buffer.take(0, min(8, buffer.size), "the file")) != SIGNATURE:
        raise DamagedError("it does not begin as an HDF5 file")
    cursor = Cursor(buffer.take(0, min(96, buffer.size), "the superblock"), "the superblock", 8)
    version = cursor.expect("version", cursor.number(1), 0, 1, 2, 3)
    if version < 2:
        cursor.skip(4)
    sizes = cursor.number(1), cursor.number(1)
    if sizes != (8, 8):
        raise UnreadableError(f"its addresses and lengths have {sizes[0]} and {sizes[1]} bytes; 8 and 8 can be read")
    if version < 2:
        cursor.skip(9 if version == 0 else 13)
        base = cursor.number(8)
        cursor.skip(8)
        end = cursor.number(8)
        cursor.skip(16)
    else:
        cursor.skip(1)
        base = cursor.number(8)
        cursor.skip(8)
        end = cursor.number(8)
    if base:
        raise UnreadableError(f"its addresses count from byte {base}")
    if end > buffer.size:
        raise DamagedError(f"it ends at byte {buffer.size} of {end}")
    return cursor.number(8)


# --- attributes -------------------------------------------------------------------------------------------------------


def _attribute(buffer: Buffer, messages: list[Message], name: str, what: str) -> Value | None:
    for message in messages:
        if message.kind == ATTRIBUTE_INFO:
            cursor = message.cursor(what)
            cursor.skip(1)
            if cursor.number(1) & 1:
                cursor.skip(2)
            if cursor.number(8) != UNDEFINED:
                raise UnreadableError(f"{what or 'the file'} keeps its attributes in a heap")
        if message.kind != ATTRIBUTE:
            continue
        cursor = message.cursor(f"an attribute of {what or 'the file'}")
        version = cursor.expect("version", cursor.number(1), 1, 2, 3)
        flags = cursor.number(1)
        lengths = [cursor.number(2) for _ in range(3)]
        if version == 3:
            cursor.skip(1)
        parts: list[memoryview] = []
        for length in lengths:
            parts.append(cursor.take(length))
            cursor.skip(min(-length % 8, cursor.left) if version == 1 else 0)
        if text_of(parts[0], "a name") != name:
            continue
        if flags & 3:
            raise UnreadableError(f"the type of attribute {name!r} is shared with other objects")
        place = f"attribute {name!r} of {what or 'the file'}"
        datatype, shape = read_datatype(Cursor(parts[1], place)), read_dataspace(Cursor(parts[2], place))
        return _value(buffer, datatype, shape, cursor.take(math.prod(shape) * datatype.size), place)
    return None


def _value(buffer: Buffer, datatype: Datatype, shape: tuple[int, ...], data: memoryview, what: str) -> Value:
    count = math.prod(shape)
    buffer.charge(len(data))
    if datatype.dtype:
        return numbers(data, datatype, shape, what)
    if count > _MAX_TEXTS:
        raise DamagedError(f"{what} has {count} texts")
    buffer.spend(count)
    if datatype.kind == "text":
        size = datatype.size
        texts = [text_of(data[size * i : size * (i + 1)], what) for i in range(count)]
    else:
        texts = [_long_text(buffer, data[16 * i : 16 * (i + 1)], what) for i in range(count)]
    return texts if shape else texts[0]


def _long_text(buffer: Buffer, reference: memoryview, what: str) -> str:
    """A text in a heap of the file, by its length, the heap's address and its number there."""
    cursor = Cursor(reference, what)
    length, address, wanted = cursor.number(4), cursor.number(8), cursor.number(4)
    if length == 0 or address in (0, UNDEFINED):
        return ""
    head = buffer.signed(address, b"GCOL", 16, f"the heap of {what}")
    head.skip(4)
    heap = Cursor(buffer.take(address, head.number(8), f"the heap of {what}"), f"the heap of {what}", 16)
    while heap.left >= 16:
        buffer.spend()
        number = heap.number(2)
        heap.skip(6)
        size = heap.number(8)
        if number == wanted and number:
            if size < length:
                raise DamagedError(f"{what} has {size} bytes of {length}")
            buffer.charge(length)
            return text_of(heap.take(size)[:length], what)
        if number == 0:
            break
        heap.skip(min(size + -size % 8, heap.left) if size + -size % 8 <= heap.left else size)
    raise DamagedError(f"{what} names object {wanted} of a heap that does not have it")
