# SPDX-License-Identifier: Apache-2.0
"""Blocks as Snappy compresses them (its format description, raw blocks): literals, and copies of what went before."""

from __future__ import annotations


class DamagedSnappyError(Exception):
    """The block breaks a rule; the text says which."""


#: The largest piece for the fewest bytes: a copy of 64 in three.
_MOST_GROWTH = 64


def snappy_size(data: memoryview) -> tuple[int, int]:
    """The bytes of a block once it is written out, and where its pieces begin.

    Raises:
        DamagedSnappyError: no size, or one that the block cannot have.
    """
    size = 0
    for at in range(min(5, len(data))):
        size |= (data[at] & 0x7F) << 7 * at
        if data[at] < 0x80:
            if size > _MOST_GROWTH * len(data):
                raise DamagedSnappyError(f"{len(data)} bytes cannot stand for {size}")
            return size, at + 1
    raise DamagedSnappyError("it does not say its size")


def _integer(data: memoryview, at: int, count: int) -> int:
    if at + count > len(data):
        raise DamagedSnappyError("a piece runs over the end")
    return int.from_bytes(data[at : at + count], "little")


def snappy_block(data: memoryview) -> bytes:
    """A block written out.

    Raises:
        DamagedSnappyError: it breaks a rule of the format.
    """
    size, at = snappy_size(data)
    made = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:  # bytes as they are; a long one's length follows in 1 to 4 bytes
            extra = max(length - 60, 0)
            if extra:
                length, at = _integer(data, at, extra) + 1, at + extra
            if length > len(data) - at:
                raise DamagedSnappyError("a piece runs over the end")
            made += data[at : at + length]
            at += length
        else:
            if kind == 1:
                length = ((tag >> 2) & 7) + 4
                distance, at = (tag >> 5) << 8 | _integer(data, at, 1), at + 1
            else:
                count = 2 if kind == 2 else 4
                distance, at = _integer(data, at, count), at + count
            if not 1 <= distance <= len(made):
                raise DamagedSnappyError("a copy of what is before the beginning")
            piece = bytes(made[-distance:][:length])
            made += (piece * (length // len(piece) + 1))[:length]  # one longer than its distance repeats
        if len(made) > size:
            break
    if len(made) != size:
        raise DamagedSnappyError(f"it is not of the {size} bytes that it says")
    return bytes(made)
