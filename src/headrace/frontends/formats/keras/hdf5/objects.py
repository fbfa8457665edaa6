# SPDX-License-Identifier: Apache-2.0
"""Object headers: the messages that say what a group or dataset is, of both versions of the format."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.frontends.formats.keras.hdf5.buffer import UNDEFINED, Buffer, Cursor, DamagedError, UnreadableError

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x0B, 0x0C, 0x10, 0x11, 0x15
_SHARED = 0x02
_MAX_BLOCKS = 4096


@dataclass(frozen=True)
class Message:
    """One message of a header: its kind, its flags, and its bytes."""

    kind: int
    flags: int
    data: memoryview

    def cursor(self, what: str) -> Cursor:
        """Its fields.

        Raises:
            UnreadableError: it stands elsewhere and is shared with other objects.
        """
        if self.flags & _SHARED:
            raise UnreadableError(f"{what} is shared with other objects")
        return Cursor(self.data, what)


def read_messages(buffer: Buffer, address: int, what: str) -> list[Message]:
    """All messages of the object whose header stands at ``address``."""
    start = bytes(buffer.take(address, 4, f"the header of {what}"))
    return _new(buffer, address, what) if start == b"OHDR" else _old(buffer, address, what)


def _old(buffer: Buffer, address: int, what: str) -> list[Message]:
    head = Cursor(buffer.take(address, 16, f"the header of {what}"), f"the header of {what}")
    head.expect("version", head.number(1), 1)
    head.skip(1)
    count, _references, size = head.number(2), head.number(4), head.number(4)
    blocks, found = [(address + 16, size)], list[Message]()
    for position, length in blocks:  # grows while it is read
        cursor = Cursor(buffer.take(position, length, f"the header of {what}"), f"the header of {what}")
        while cursor.left >= 8 and len(found) < count:
            buffer.spend()
            kind, size, flags = cursor.number(2), cursor.number(2), cursor.number(1)
            cursor.skip(3)
            found.append(Message(kind, flags, cursor.take(size)))
            if kind == CONTINUATION:
                _continue(blocks, found[-1], what)
    return found


def _new(buffer: Buffer, address: int, what: str) -> list[Message]:
    head = Cursor(buffer.take(address, 6, f"the header of {what}"), f"the header of {what}", 4)
    head.expect("version", head.number(1), 2)
    flags = head.number(1)
    # Times, limits of attribute storage, and the size of the first block, in as many bytes as the flags say.
    before = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = Cursor(buffer.take(address + before, width, f"the header of {what}"), what).number(width)
    blocks, found = [(address + before + width, size)], list[Message]()
    for index, (position, length) in enumerate(blocks):
        if index:  # a continuation has a signature before and a checksum behind
            buffer.signed(position, b"OCHK", length, f"the header of {what}")
            position, length = position + 4, length - 8
        cursor = Cursor(buffer.take(position, length, f"the header of {what}"), f"the header of {what}")
        extra = 2 if flags & 4 else 0
        while cursor.left >= 4 + extra:
            buffer.spend()
            kind, size, marks = cursor.number(1), cursor.number(2), cursor.number(1)
            cursor.skip(extra)
            found.append(Message(kind, marks, cursor.take(size)))
            if kind == CONTINUATION:
                _continue(blocks, found[-1], what)
    return found


def _continue(blocks: list[tuple[int, int]], message: Message, what: str) -> None:
    cursor = message.cursor(f"the header of {what}")
    following = (cursor.number(8), cursor.number(8))
    if following in blocks or len(blocks) >= _MAX_BLOCKS or following[0] == UNDEFINED:
        raise DamagedError(f"the header of {what} continues in itself")
    blocks.append(following)
