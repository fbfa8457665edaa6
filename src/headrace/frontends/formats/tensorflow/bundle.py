# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's values: the bundle of an ``.index`` and its ``.data-00000-of-00001``, every offset and checksum
checked.

An entry states type, shape, shard, offset, size and checksum. A partitioned variable has an entry that lists slices,
and each slice an entry of its own, whose key is the name and the extents in a code that sorts as they do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from headrace.errors import Diagnostic, InputFileError
from headrace.frontends.formats.tensorflow.checksum import crc32c, masked
from headrace.frontends.formats.tensorflow.records import sizes_of
from headrace.frontends.formats.tensorflow.schema import (
    NUMPY_TYPES,
    BundleEntryMessage,
    BundleHeaderMessage,
    type_name,
)
from headrace.frontends.formats.tensorflow.table import DamagedTableError, read_table
from headrace.frontends.formats.tensorflow.tensors import array_of_bytes
from headrace.frontends.graph import MAX_TENSOR_ELEMENTS, Unsupported
from headrace.frontends.reader import corrupt
from headrace.hn import Array
from headrace.hn.files import missing_file, open_regular, read_bytes

MAX_INDEX_BYTES = 64 << 20
_MAX_SHARDS = 10_000
_MAX_SLICES = 4096
Extents = Sequence[tuple[int, int]]


class Bundle:
    """The values of a checkpoint, read when they are asked for.

    Attributes:
        where: name of the index, for messages.
        size: bytes of the index and its shards.
    """

    def __init__(self, prefix: Path) -> None:
        """Read the index.

        Raises:
            InputFileError: missing, no table, or damaged.
        """
        self._prefix = prefix
        path = prefix.with_name(f"{prefix.name}.index")
        self.where = path.name
        data = read_bytes(path, "index of the checkpoint", MAX_INDEX_BYTES)
        try:
            self._rows = read_table(data)
        except DamagedTableError as error:
            raise InputFileError(self._bad(self.where, str(error))) from None
        self._entries: dict[str, Any] = {}
        header = self._message(BundleHeaderMessage, b"")
        if header is None or header.endianness != 0 or not 1 <= header.shards <= _MAX_SHARDS:
            got = "no header" if header is None else f"{header.shards} shards, byte order {header.endianness}"
            raise InputFileError(self._bad(self.where, "its header is not one that is read", got, "little-endian"))
        self.shards = int(header.shards)
        self.size = len(data) + sum(self._length(k) for k in range(self.shards))

    def _bad(self, where: str, rule: str, got: object = "", need: str = "") -> Diagnostic:
        return corrupt("tensorflow", where, rule, got, need, "save the checkpoint again")

    def _message(self, kind: Any, key: bytes) -> Any:
        row = self._rows.get(key)
        if row is None:
            return None
        try:
            return kind.FromString(bytes(row))
        except DecodeError as error:
            raise InputFileError(self._bad(self.where, f"the entry {key[:80]!r} is damaged", error)) from None

    def _shard(self, number: int) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}.data-{number:05d}-of-{self.shards:05d}")

    def _length(self, number: int) -> int:
        try:
            return os.stat(self._shard(number)).st_size
        except OSError:
            return 0

    @property
    def keys(self) -> list[str]:
        """Names of the variables, as far as they are text."""
        return [key.decode("utf-8", "replace") for key in self._rows if key and not key.startswith(b"\x00")]

    def __contains__(self, key: str) -> bool:
        return key.encode() in self._rows

    def shape(self, key: str) -> list[int] | None:
        """The shape of a value, or None where there is none of this name."""
        entry = self._message(BundleEntryMessage, key.encode())
        return None if entry is None else sizes_of(entry.shape)

    def array(self, key: str, part: Extents | None = None) -> Array:
        """A value, or a part of one: per dimension first index and count (-1: all).

        Raises:
            InputFileError: missing, outside of its file, or damaged.
            Unsupported: it is not a tensor of numbers.
        """
        entry = self._message(BundleEntryMessage, key.encode())
        if entry is None:
            raise Unsupported(f"the checkpoint has no value {key!r}", "the checkpoint that the graph was saved with")
        shape = sizes_of(entry.shape)
        if shape is None or min(shape, default=1) < 0 or math.prod(shape) > MAX_TENSOR_ELEMENTS:
            raise InputFileError(self._bad(self.where, f"the value {key!r} has no valid shape", shape, "known sizes"))
        if not entry.slices:
            whole = self._read(entry, key, shape)
        else:
            whole = self._joined(entry, key, shape)
        if part is None:
            return whole
        if len(part) != len(shape):
            raise Unsupported(f"a part of {len(part)} dimensions of the value {key!r} of shape {shape}")
        return whole[tuple(slice(s, None if n < 0 else s + n) for s, n in part)]

    def _read(self, entry: Any, key: str, shape: list[int]) -> Array:
        kind = type_name(entry.dtype)
        dtype = NUMPY_TYPES.get(kind)
        if dtype is None:
            raise Unsupported(f"the value {key!r} of the checkpoint has type {kind}", "a tensor of numbers")
        number, offset, size = int(entry.shard), int(entry.offset), int(entry.size)
        if not 0 <= number < self.shards or size != math.prod(shape) * dtype.itemsize or offset < 0:
            got = f"{size} bytes at {offset} of shard {number} for {shape} of {kind}"
            raise InputFileError(self._bad(self.where, f"the entry of {key!r} is inconsistent", got))
        path = self._shard(number)
        if not path.exists():
            raise InputFileError(missing_file(path, "data of the checkpoint"))
        with open_regular(path, "data of the checkpoint") as file:
            length = os.fstat(file.fileno()).st_size
            if offset + size > length:
                got = f"{size} bytes at {offset} of {length}"
                raise InputFileError(self._bad(path.name, f"the value {key!r} lies outside of the file", got))
            file.seek(offset)
            data = file.read(size)
        if len(data) != size or masked(crc32c(data)) != entry.crc:
            raise InputFileError(self._bad(path.name, f"the checksum of the value {key!r} is wrong"))
        return array_of_bytes(data, kind, shape)

    def _joined(self, entry: Any, key: str, shape: list[int]) -> Array:
        """The slices of a partitioned variable, put together."""
        kind = type_name(entry.dtype)
        if len(entry.slices) > _MAX_SLICES or kind not in NUMPY_TYPES or kind == "bfloat16":
            raise Unsupported(f"the value {key!r} of the checkpoint is in {len(entry.slices)} parts of type {kind}")
        stored = sum(self._length(k) for k in range(self.shards))
        if math.prod(shape) * NUMPY_TYPES[kind].itemsize > stored:
            raise InputFileError(self._bad(self.where, f"the parts of {key!r} are not in the files", shape))
        whole = np.zeros(shape, NUMPY_TYPES[kind])
        filled = np.zeros(shape, np.bool_)
        for item in entry.slices:
            extents = [(int(e.start), int(e.length) if e.HasField("length") else -1) for e in item.extents]
            where = f"the part {extents} of {key!r}"
            if len(extents) != len(shape) or any(
                s < 0 or (n >= 0 and s + n > size) for (s, n), size in zip(extents, shape, strict=True)
            ):
                raise InputFileError(self._bad(self.where, f"{where} does not fit into it", shape))
            part = self._message(BundleEntryMessage, slice_key(key, extents))
            places = tuple(slice(s, None if n < 0 else s + n) for s, n in extents)
            target = whole[places]
            if part is None or sizes_of(part.shape) != list(target.shape) or part.dtype != entry.dtype:
                raise InputFileError(self._bad(self.where, f"{where} is missing"))
            target[...] = self._read(part, key, list(target.shape))
            filled[places] = True
        if not filled.all():
            raise InputFileError(self._bad(self.where, f"the parts of {key!r} do not make it up", shape))
        return whole


def _increasing(number: int) -> bytes:
    """A number that is not negative, so that longer ones sort later."""
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(data)]) + data


def _signed(number: int) -> bytes:
    """A number of any sign: the length of the code stands in its first bits, inverted for negative ones."""
    magnitude = ~number if number < 0 else number
    length = 1
    while magnitude >= 1 << (7 * length - 1):
        length += 1
    if length > 8:
        length = 9 if magnitude < 1 << 62 else 10
    coded = number & ((1 << (8 * length)) - 1)
    ones = ((1 << length) - 1) << (8 * length - length)  # as many leading ones as the code has bytes
    return (coded ^ ones).to_bytes(length, "big")


def slice_key(name: str, extents: Extents) -> bytes:
    """The key of a slice: 0, the name, the rank, and first index and length of each dimension."""
    text = name.encode().replace(b"\x00", b"\x00\xff")
    key = _increasing(0) + text + b"\x00\x01" + _increasing(len(extents))
    for start, length in extents:
        key += _signed(start) + _signed(length)
    return key


__all__ = ["Bundle", "Extents", "slice_key"]
