# SPDX-License-Identifier: Apache-2.0
"""Parameters as npz: members in fixed order with fixed dates, read without pickle and within limits."""

from __future__ import annotations

import io
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.network import Array, Network
from headrace.hn.unpack import allowed_bytes

MAX_ARRAYS = 200_000
MAX_PARAMETERS = 16  # of one layer
_END_BYTES, _END64_BYTES, _ENTRY_BYTES = 22, 76, 512
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PLAIN = ("write the arrays without compression: numpy.savez",)
# What numpy, zipfile and zlib raise on damaged files (numpy's header parser lets the tokenizer's errors through).
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    OverflowError,
    MemoryError,
)
DTYPES = frozenset(
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
)


def dump_arrays(arrays: Mapping[str, Array]) -> bytes:
    """The arrays as an uncompressed npz; same arrays, same bytes, whatever the insertion order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            array = np.asarray(arrays[name])
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            npy.write_array(member, little.reshape(array.shape), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def _bad(where: str, rule: str, got: object, need: object, levers: tuple[str, ...] = ()) -> InputFileError:
    return InputFileError(Diagnostic("E-NPZ-CORRUPT", where, rule, str(got)[:200], str(need), levers))


def directory_bytes(stream: BinaryIO) -> int:
    """The size of a zip file's directory, as the end of the file says; 0 where there is none.

    Each entry costs memory before a single one can be judged, so this is looked at first.
    """
    stream.seek(0, 2)
    size = stream.tell()
    start = max(0, size - _END_BYTES - 0xFFFF - _END64_BYTES)
    stream.seek(start)
    tail = stream.read(size - start)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + _END_BYTES > len(tail):
        return 0
    found = struct.unpack_from("<I", tail, end + 12)[0]
    if tail[max(0, end - 20) : end - 16] == b"PK\x06\x07" and end >= _END64_BYTES:
        found = max(found, struct.unpack_from("<Q", tail, end - _END64_BYTES + 40)[0])
    return found


def unpacked_limit(file_bytes: int) -> int:
    """What the arrays of an npz of this size may unpack to."""
    return max(file_bytes, allowed_bytes(file_bytes))


def members_of(
    stream: BinaryIO, file_bytes: int, where: str, max_arrays: int = MAX_ARRAYS, max_bytes: int | None = None
) -> list[Member]:
    """The arrays of an npz as its directory lists them, none of them read.

    Args:
        stream: the file; it has to stay open while members are read.
        file_bytes: its size, which bounds what its members may unpack to.
        where: how it is called in errors.
        max_arrays: more are refused.
        max_bytes: unpacked; by default what a file of this size may unpack to.

    Raises:
        InputFileError: it is no npz, or lists too much.
    """
    allowed = unpacked_limit(file_bytes) if max_bytes is None else max_bytes
    with _readable(where):
        if directory_bytes(stream) > max_arrays * _ENTRY_BYTES + (1 << 16):
            raise _bad(where, "there are too many arrays", "a longer directory", f"≤ {max_arrays}")
        stream.seek(0)
        archive = zipfile.ZipFile(stream)
        infos = archive.infolist()
        if len(infos) > max_arrays:
            raise _bad(where, "there are too many arrays", len(infos), f"≤ {max_arrays}")
        total = sum(info.file_size for info in infos)
        if total > allowed:
            need = f"≤ {allowed} for a file of {file_bytes} bytes"
            raise _bad(where, "the arrays unpack to more than a file of its size may", f"{total} bytes", need, _PLAIN)
        found: dict[str, Member] = {}
        for info in infos:
            if not info.filename.endswith(".npy"):
                raise _bad(where, "a member is not an array", info.filename, "*.npy")
            name = info.filename[:-4]
            if name in found:
                raise _bad(where, "two arrays have one name", name, "one each")
            found[name] = Member(name, info, archive, where)
        return list(found.values())
    raise AssertionError  # _readable re-raises


@dataclass(frozen=True)
class Member:
    """One array of an npz."""

    name: str
    info: zipfile.ZipInfo
    archive: zipfile.ZipFile
    where: str

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype, read without the data."""
        place = f"{self.where}, array {self.name}"
        with _readable(place), self.archive.open(self.info) as stream:
            shape, _, dtype = _read_header(stream, self.info.file_size, place)
            return shape, dtype
        raise AssertionError

    def read(self) -> Array:
        place = f"{self.where}, array {self.name}"
        with _readable(place), self.archive.open(self.info) as stream:
            return _read_member(stream, self.info.file_size, place)
        raise AssertionError


@contextmanager
def _readable(where: str) -> Generator[None]:
    """Turns what zipfile, zlib and numpy raise on damaged files into an InputFileError."""
    try:
        yield
    except InputFileError:
        raise
    except _DAMAGED as error:
        raise _bad(where, "it is not a readable npz", f"{type(error).__name__}: {error}", "an npz file") from None


def load_arrays(data: bytes, where: str, max_bytes: int | None = None) -> dict[str, Array]:
    """Read an npz without trusting it: no pickle, known dtypes only, sizes checked before anything is allocated.

    Raises:
        InputFileError: it is not an npz, or a member breaks a rule.
    """
    return {m.name: m.read() for m in members_of(io.BytesIO(data), len(data), where, max_bytes=max_bytes)}


def load_parameters(data: bytes, where: str, network: Network) -> dict[str, Array]:
    """The parameters of a network: every array belongs to one of its layers, and there are no more than it can have.

    Raises:
        InputFileError: as :func:`load_arrays`, and when an array belongs to no layer.
    """
    limit = (len(network.layers) + 1) * MAX_PARAMETERS
    found = members_of(io.BytesIO(data), len(data), where, min(limit, MAX_ARRAYS))
    for member in found:
        layer, _, key = member.name.rpartition("/")
        if layer not in network.layers or not _KEY.fullmatch(key):
            raise _bad(where, "an array belongs to no layer", member.name, "<layer>/<parameter>")
    return {member.name: member.read() for member in found}


def _read_header(stream: Any, size: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise _bad(where, "its format version is not supported", version, "1.0 or 2.0")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(stream, max_header_size=4096)
    if dtype.hasobject or dtype.name not in DTYPES:
        raise _bad(where, "its dtype is not allowed", dtype, ", ".join(sorted(DTYPES)))
    count = 1
    for dim in shape:
        count *= dim
    if len(shape) > 8 or min(shape, default=0) < 0 or count * dtype.itemsize > size:
        raise _bad(where, "its shape is larger than its data", shape, f"≤ {size} bytes")
    return tuple(shape), fortran, dtype


def _read_member(stream: Any, size: int, where: str) -> Array:
    shape, fortran, dtype = _read_header(stream, size, where)
    count = math.prod(shape)
    body = stream.read(count * dtype.itemsize + 1)
    if len(body) != count * dtype.itemsize:
        raise _bad(where, "its data do not fill its shape", len(body), count * dtype.itemsize)
    flat = np.frombuffer(body, dtype=dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("=")).reshape(shape)
