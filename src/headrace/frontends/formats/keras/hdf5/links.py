# SPDX-License-Identifier: Apache-2.0
"""Names in a group: symbol tables (B-trees of version 1), and links that stand in the header itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.frontends.formats.keras.hdf5.buffer import (
    UNDEFINED,
    Buffer,
    Cursor,
    DamagedError,
    UnreadableError,
    text_of,
)
from headrace.frontends.formats.keras.hdf5.objects import LINK, LINK_INFO, SYMBOL_TABLE, Message

MAX_DEPTH = 16
_MAX_NAME = 4096


def links(buffer: Buffer, messages: Sequence[Message], what: str) -> dict[str, int]:
    """Names in a group → addresses of their objects. Links to other places of this file or of others are left out."""
    found: dict[str, int] = {}
    for message in messages:
        if message.kind == SYMBOL_TABLE:
            cursor = message.cursor(what)
            found |= _symbols(buffer, cursor.number(8), cursor.number(8), what)
        elif message.kind == LINK:
            found |= _link(message.cursor(what))
        elif message.kind == LINK_INFO:
            cursor = message.cursor(what)
            cursor.skip(1)
            if cursor.number(1) & 1:
                cursor.skip(8)
            if cursor.number(8) != UNDEFINED:
                raise UnreadableError(f"{what} keeps its links in a heap, as writers with libver='latest' do")
    return found


def _link(cursor: Cursor) -> dict[str, int]:
    cursor.expect("a link of version", cursor.number(1), 1)
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 8 else 0
    cursor.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = text_of(cursor.take(min(cursor.number(1 << (flags & 3)), _MAX_NAME)), "a name")
    return {name: cursor.number(8)} if kind == 0 else {}


def _symbols(buffer: Buffer, tree: int, heap: int, what: str) -> dict[str, int]:
    """The entries of a symbol table, whose names stand in a heap of the group."""
    cursor = buffer.signed(heap, b"HEAP", 32, f"the names of {what}")
    cursor.skip(4)
    size, _free, address = cursor.number(8), cursor.number(8), cursor.number(8)
    names = buffer.take(address, size, f"the names of {what}")
    found: dict[str, int] = {}
    for leaf, _key in leaves(buffer, tree, 0, 8, what):
        cursor = buffer.signed(leaf, b"SNOD", 8, what)
        cursor.expect("a symbol table of version", cursor.number(1), 1)
        cursor.skip(1)
        count = cursor.number(2)
        buffer.spend(count)
        entries = Cursor(buffer.take(leaf + 8, 40 * count, what), what)
        for _ in range(count):
            offset, header, kind = entries.number(8), entries.number(8), entries.number(4)
            entries.skip(20)
            if offset >= len(names):
                raise DamagedError(f"a name of {what} lies outside its heap")
            if kind != 2:  # 2 is a link by name
                found[text_of(names[offset : offset + _MAX_NAME], "a name")] = header
    return found


def leaves(buffer: Buffer, address: int, kind: int, key_bytes: int, what: str) -> Iterator[tuple[int, memoryview]]:
    """What the leaves of a B-tree of version 1 point to, with the key before each.

    Args:
        buffer: the file.
        address: of the root; undefined: an empty tree.
        kind: 0: of a group, 1: of chunks.
        key_bytes: how long its keys are.
        what: the object, for messages.
    """
    waiting = [(address, -1)] if address != UNDEFINED else []
    seen: set[int] = set()
    while waiting:
        position, wanted = waiting.pop()
        if position in seen:
            raise DamagedError(f"the tree of {what} contains itself")
        seen.add(position)
        head = buffer.signed(position, b"TREE", 24, f"the tree of {what}")
        level_kind, level, count = head.number(1), head.number(1), head.number(2)
        if level_kind != kind or level > MAX_DEPTH or wanted not in (-1, level):
            raise DamagedError(f"the tree of {what} has a node of kind {level_kind} at level {level}")
        buffer.spend(count)
        rows = Cursor(buffer.take(position + 24, count * (key_bytes + 8), f"the tree of {what}"), what)
        children: list[tuple[int, memoryview]] = []
        for _ in range(count):
            key = rows.take(key_bytes)
            children.append((rows.number(8), key))
        if level == 0:
            yield from children
        else:
            waiting += [(child, level - 1) for child, _ in reversed(children)]
