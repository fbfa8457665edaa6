# SPDX-License-Identifier: Apache-2.0
"""Members of a gzip tar, read as a stream and without trust.

Only what a HAR needs is understood: plain files with flat names in ustar headers. Nothing here makes up bytes that are
not in the file (sparse members) or reads a header of unbounded size, and what is unpacked is bounded by the file's
size, so a small file never becomes large memory.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from headrace.errors import Diagnostic, InputFileError

MAX_MEMBERS = 64
MAX_TOTAL_BYTES = 8 << 30
#: Unpacked bytes that any archive may have, and that each byte of the file may stand for on top.
FREE_BYTES = 64 << 20
EXPANSION = 64
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}\Z")
_BLOCK = 512
_CHUNK = 1 << 16
_MAX_PAX_BYTES = 1 << 16
# Extended headers that say nothing of contents; tools add them for times that are no whole seconds.
_IDLE_PAX = frozenset(["mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"])
_LEVERS = ("make the archive again, or check that the file was copied whole",)


def allowed_bytes(file_bytes: int) -> int:
    """What a compressed file of this size may unpack to; writers keep to it (``headrace.hn.archive.pack``)."""
    return min(MAX_TOTAL_BYTES, FREE_BYTES + EXPANSION * file_bytes)


def bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-HAR-CORRUPT", where, rule, str(got)[:300], str(need), _LEVERS))


class _Unpacked:
    """The unpacked bytes of a gzip stream, up to a limit."""

    def __init__(self, stream: BinaryIO, limit: int, where: str) -> None:
        self._stream, self._where, self._limit, self._left = stream, where, limit, limit
        self._engine = zlib.decompressobj(wbits=31)
        self._packed = b""

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        parts: list[bytes] = []
        while size > 0:
            part = self._some(size)
            if not part:
                break
            size -= len(part)
            self._left -= len(part)
            if self._left < 0:
                need = f"≤ {self._limit} bytes from a file of this size"
                levers = ("an archive of this network that Headrace wrote",)
                rule = "it unpacks to more than a file of its size may"
                raise InputFileError(
                    Diagnostic("E-HAR-EXPANSION", self._where, rule, f"> {self._limit} bytes", need, levers)
                )
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        while True:
            if not self._packed:
                self._packed = self._stream.read(_CHUNK)
            if self._engine.eof:
                self._packed = self._packed.lstrip(b"\0")  # padding, as tapes have it
                if not self._packed:
                    self._packed = self._stream.read(_CHUNK)
                    if not self._packed:
                        return b""
                    continue
                self._engine = zlib.decompressobj(wbits=31)  # the next of several gzip members
            if not self._packed and not self._engine.unconsumed_tail:
                raise EOFError("the compressed data end early")
            part = self._engine.decompress(self._packed, min(size, 1 << 20))
            self._packed = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            if part:
                return part


def members(stream: BinaryIO, file_bytes: int, where: str) -> Iterator[tuple[str, bytes]]:
    """Name and contents of each member, in order.

    Args:
        stream: the packed file, at its start.
        file_bytes: its size, which bounds what it may unpack to.
        where: how the file is called in errors.

    Raises:
        InputFileError: ``E-HAR-CORRUPT``, ``E-HAR-EXPANSION``.
    """
    limit = allowed_bytes(file_bytes)
    unpacked = _Unpacked(stream, limit, where)
    names: set[str] = set()
    try:
        while (found := _header(unpacked, where)) is not None:
            name, size = found
            if not NAME.match(name):
                raise bad(where, "a member's name is not allowed", name, "letters, digits, '.', '_', '-'; no folder")
            if name in names or len(names) >= MAX_MEMBERS:
                raise bad(where, "there are too many members, or one twice", name, f"≤ {MAX_MEMBERS}, each once")
            if size > limit:
                raise bad(where, f"member {name} is too large", f"{size} bytes", f"≤ {limit} in a file of this size")
            names.add(name)
            body = unpacked.read(size)
            if len(body) != size:
                raise bad(where, f"member {name} is cut short", len(body), size)
            unpacked.read(-size % _BLOCK)
            yield name, body
        while unpacked.read(1 << 20):  # to the end, so that gzip's own checksum is compared
            pass
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise bad(where, "it is not a readable HAR", f"{type(error).__name__}: {error}", "a gzip tar") from None
    if not names:
        raise bad(where, "the archive is empty", "no member", "metadata.json and a network")


def _header(unpacked: _Unpacked, where: str) -> tuple[str, int] | None:
    """Name and size of the next plain file; None at the end."""
    while True:
        block = unpacked.read(_BLOCK)
        if not block or block.count(0) == _BLOCK:
            return None
        if len(block) != _BLOCK or _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise bad(where, "a tar header is damaged", "a wrong checksum", "a gzip tar")
        size = _octal(block[124:136])
        name = block[:100].rstrip(b"\0").decode("ascii", "replace")
        kind = block[156:157]
        if kind in (b"0", b"\0"):
            if block[257:262] == b"ustar" and block[345:500].rstrip(b"\0") and block[257:265] == b"ustar\x0000":
                raise bad(where, "a member's name is not allowed", f"…/{name}", "flat names of at most 100 characters")
            return name, size
        if kind not in (b"x", b"g") or size > _MAX_PAX_BYTES:
            raise bad(where, "a member is not a plain file", name, "plain files")
        _check_pax(unpacked.read(size), where)
        unpacked.read(-size % _BLOCK)


def _check_pax(data: bytes, where: str) -> None:
    """An extended header may repeat what does not matter here, and nothing else."""
    while data:
        digits, _, rest = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 7 else 0
        if not len(digits) + 1 < length <= len(data):
            raise bad(where, "an extended tar header is damaged", digits[:20], "a gzip tar")
        key = rest[: length - len(digits) - 1].partition(b"=")[0].decode("ascii", "replace")
        if key not in _IDLE_PAX:
            raise bad(where, "an extended tar header changes a member", key, "plain files: tar --format=ustar")
        data = data[length:]


def _octal(field: bytes) -> int:
    text = field.rstrip(b"\0 ").lstrip(b" ")
    if not text or text.strip(b"01234567"):
        raise ValueError(f"{field[:12]!r} is no octal number")
    return int(text, 8)
