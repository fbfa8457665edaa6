# SPDX-License-Identifier: Apache-2.0
"""The table of keys and values that the ``.index`` of a checkpoint is: a sorted string table, bounds-checked.

Blocks of prefix-compressed entries, an index of blocks, and a footer with a magic number at the end. Every offset,
length and checksum is checked, and how far a table may grow when its keys are written out is bounded.
"""

from __future__ import annotations

from headrace.frontends.formats.tensorflow.checksum import crc32c, masked
from headrace.frontends.formats.tensorflow.snappy import DamagedSnappyError, snappy_block, snappy_size

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER_BYTES = 48
_TRAILER = 5  # kind of compression, checksum
_MAX_ENTRIES = 400_000
_MAX_KEY = 4096
#: Bytes of keys and values for each byte of the file, and some to begin with.
_GROWTH, _SPARE = 64, 1 << 20


class DamagedTableError(Exception):
    """The table breaks a rule; the text says which."""


def _number(data: memoryview, at: int) -> tuple[int, int]:
    """A varint and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise DamagedTableError("a number runs over the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise DamagedTableError("a number has more than 64 bits")


class _Table:
    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.left = len(data) * _GROWTH + _SPARE
        self.entries = 0
        self.unread = len(data)

    def block(self, offset: int, size: int) -> memoryview:
        """The contents of a block, its checksum checked."""
        end = offset + size
        if end + _TRAILER > len(self.data) - FOOTER_BYTES:
            raise DamagedTableError(f"a block lies outside of the file (offset {offset}, {size} bytes)")
        kind = self.data[end]
        self.unread -= size + _TRAILER  # each byte belongs to one block
        if self.unread < 0:
            raise DamagedTableError("its blocks overlap")
        stored = int.from_bytes(self.data[end + 1 : end + _TRAILER], "little")
        if masked(crc32c(self.data[offset : end + 1])) != stored:
            raise DamagedTableError(f"the checksum of the block at {offset} is wrong")
        if kind == 0:
            return self.data[offset:end]
        if kind != 1:
            raise DamagedTableError(f"the block at {offset} is compressed by codec {kind}, not by Snappy")
        try:
            self.left -= snappy_size(self.data[offset:end])[0]
            if self.left < 0:
                raise DamagedTableError("its blocks grow too large when they are written out")
            return memoryview(snappy_block(self.data[offset:end]))
        except DamagedSnappyError as error:
            raise DamagedTableError(f"the block at {offset}, compressed by Snappy: {error}") from None

    def rows(self, block: memoryview) -> list[tuple[bytes, memoryview]]:
        """The entries of a block."""
        if len(block) < 4:
            raise DamagedTableError("a block is too short")
        restarts = int.from_bytes(block[-4:], "little")
        end = len(block) - 4 - 4 * restarts
        if end < 0:
            raise DamagedTableError("the restarts of a block do not fit into it")
        rows: list[tuple[bytes, memoryview]] = []
        key, at = b"", 0
        while at < end:
            shared, at = _number(block, at)
            fresh, at = _number(block, at)
            size, at = _number(block, at)
            if shared > len(key) or at + fresh + size > end:
                raise DamagedTableError("an entry runs over the end of its block")
            key = key[:shared] + bytes(block[at : at + fresh])
            at += fresh
            self.entries += 1
            self.left -= len(key) + size
            if len(key) > _MAX_KEY or self.entries > _MAX_ENTRIES or self.left < 0:
                raise DamagedTableError("its keys grow too large when they are written out")
            rows.append((key, block[at : at + size]))
            at += size
        return rows


def is_table(tail: bytes) -> bool:
    """Whether a file that ends so is a table."""
    return tail[-8:] == MAGIC


def read_table(data: bytes) -> dict[bytes, memoryview]:
    """All keys and values.

    Raises:
        DamagedTableError: it is no table, or breaks one of its rules.
    """
    if len(data) < FOOTER_BYTES or not is_table(data):
        raise DamagedTableError("it does not end as a table does")
    view = memoryview(data)
    footer = view[-FOOTER_BYTES:]
    at = 0
    handles: list[int] = []
    for _ in range(4):  # offset and size of the index of metadata, and of the index of blocks
        number, at = _number(footer, at)
        handles.append(number)
    table = _Table(view)
    found: dict[bytes, memoryview] = {}
    last = None
    for _, handle in table.rows(table.block(handles[2], handles[3])):
        offset, at = _number(handle, 0)
        size, _ = _number(handle, at)
        for key, value in table.rows(table.block(offset, size)):
            if last is not None and key <= last:
                raise DamagedTableError("its keys are not in order")
            last = key
            found[key] = value
    return found


__all__ = ["FOOTER_BYTES", "DamagedTableError", "is_table", "read_table"]
