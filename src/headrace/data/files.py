# SPDX-License-Identifier: Apache-2.0
"""Reading data files without trusting them: headers before contents, no pickle, limits."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from headrace.data.inputs import InputSpec
from headrace.data.limits import MAX_BYTES
from headrace.data.notes import Notes
from headrace.data.pictures import SUFFIXES, check_resize, is_picture_file, pictures_in, read_pictures
from headrace.errors import DataError, Diagnostic, InputFileError
from headrace.hn import Array
from headrace.hn.arrays import directory_bytes, unpacked_limit
from headrace.hn.files import missing_file, open_regular
from headrace.text import printable

MAX_MEMBERS = 1000
KINDS = ".npy, .npz, a picture or a folder of pictures"
# What numpy, zipfile and zlib raise on damaged files (numpy's header parser lets the tokenizer's errors through).
CORRUPT = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    tokenize.TokenError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    IndexError,
    SyntaxError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
)


def load_path(
    path: Path,
    specs: Sequence[InputSpec],
    *,
    resize: str | None = None,
    limit: int | None = None,
    notes: Notes | None = None,
) -> Any:
    """A ``.npy`` file (memory-mapped), a ``.npz`` file (dict), a picture or a folder of pictures (uint8 array).

    Args:
        path: file or folder.
        specs: what the network's inputs take.
        resize: how pictures get the input's size; None takes only pictures that have it.
        limit: read only the first pictures.
        notes: told what was done to pictures.

    Raises:
        InputFileError: it does not exist or cannot be read; DataError: its contents cannot be used.
    """
    check_resize(resize)
    try:
        if path.is_dir() or is_picture_file(path):
            if not path.exists():
                raise InputFileError(missing_file(path, "picture", SUFFIXES))
            folder = path if path.is_dir() else None
            paths = pictures_in(path) if folder is not None else [path]
            spec = _only(specs, path)
            return read_pictures(paths[:limit], spec, folder=folder, resize=resize, notes=notes)
        if not path.exists():
            raise InputFileError(missing_file(path, "data file", (".npy", ".npz", *SUFFIXES)))
        suffix = path.suffix.lower()
        if not path.is_file():
            rule = "it is not a regular file"
            raise InputFileError(Diagnostic("E-FILE-READ", printable(str(path)), rule, "a device or a pipe", KINDS))
        if suffix in (".npy", ".npz"):
            check_only_pictures(resize, specs[0].channels if specs else None, str(path))
            return load_npy(path) if suffix == ".npy" else load_npz(path)
    except OSError as error:
        reason = error.strerror or str(error)
        problem = Diagnostic("E-FILE-READ", printable(str(path)), "the data cannot be read", reason, "a readable file")
        raise InputFileError(problem) from None
    rule, got = "this kind of file is not known", path.suffix or "no suffix"
    raise DataError(Diagnostic("E-DATA-FORMAT", printable(str(path)), rule, got, KINDS))


def check_only_pictures(resize: str | None, channels: str | None, where: str) -> None:
    """Raises DataError when resizing, or an order of channels, was asked for data that are no pictures."""
    if resize is not None:
        rule, levers = "only pictures are resized", ("leave --resize (resize=) out",)
        raise DataError(Diagnostic("E-DATA-RESIZE", printable(where), rule, "arrays", "picture files", levers))
    if channels is not None:
        rule, got = "only the channels of pictures are put in order", "arrays"
        levers = ("leave --channels (channels=) out", "give arrays with their channels as the network takes them")
        raise DataError(Diagnostic("E-DATA-CHANNELS", printable(where), rule, got, "picture files", levers))


def _only(specs: Sequence[InputSpec], path: Path) -> InputSpec:
    if len(specs) == 1:
        return specs[0]
    rule, need = "pictures suit a network with one input", "a .npz with one array per input"
    got = f"{len(specs)} inputs: {', '.join(s.name for s in specs)}"
    raise DataError(Diagnostic("E-DATA-FORMAT", printable(str(path)), rule, got, need))


def _corrupt(where: str, reason: object) -> DataError:
    return DataError(
        Diagnostic(
            "E-DATA-CORRUPT",
            where,
            "the file is not a valid array of numbers",
            str(reason)[:200],
            "an array written by numpy.save (no pickle)",
        )
    )


def load_npy(path: Path) -> Array:
    """The array, memory-mapped read-only; the header is checked against the file's length."""
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise _corrupt(str(path), "the file does not begin like one")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except CORRUPT as error:
        raise _corrupt(str(path), error) from None


def load_npz(path: Path) -> dict[str, Array]:
    """Every numeric array of the archive; sizes are checked before anything is unpacked."""
    result: dict[str, Array] = {}
    try:
        with open_regular(path, "data") as file:
            _check_directory(file, path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(path, len(members), sum(m.file_size for m in members))
            for member in members:
                if not member.filename.endswith(".npy"):
                    continue
                name = member.filename[:-4]
                if name in result:
                    rule, got = "two arrays have one name", repr(name)
                    raise DataError(
                        Diagnostic("E-DATA-NAME", printable(str(path)), rule, got, "one array of each name")
                    )
                with archive.open(member) as stream:
                    result[name] = _read_member(stream, member.file_size, f"{path}: {member.filename}")
    except CORRUPT as error:
        raise _corrupt(str(path), error) from None
    if not result:
        raise DataError(
            Diagnostic("E-DATA-EMPTY", str(path), "the archive holds no array", "nothing", "at least one .npy member")
        )
    return result


def _check_directory(file: BinaryIO, path: Path) -> None:
    """Entries cost memory before one of them can be judged, so their number is bounded by the directory's size."""
    if directory_bytes(file) > MAX_MEMBERS << 10:
        raise DataError(
            Diagnostic("E-DATA-TOO-LARGE", str(path), "the archive is too large", "", f"≤ {MAX_MEMBERS} members")
        )


def _check_sizes(path: Path, count: int, total: int) -> None:
    """The arrays unpack to what a file of this size may, however well they are compressed."""
    limit = min(MAX_BYTES, unpacked_limit(path.stat().st_size))
    if count <= MAX_MEMBERS and total <= limit:
        return
    got, need = f"{count} members, {total} bytes", f"≤ {MAX_MEMBERS} members, ≤ {limit} bytes in a file of this size"
    levers = ("write it without compression: numpy.savez, or one array as .npy",)
    raise DataError(Diagnostic("E-DATA-TOO-LARGE", str(path), "the archive is too large", got, need, levers))


def _read_member(stream: Any, length: int, where: str) -> Array:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "uifbSUV":
        raise DataError(Diagnostic("E-DATA-DTYPE", where, "the dtype cannot be used", str(dtype), "numbers"))
    count = 1
    for size in shape:
        count *= size
    if count < 0 or count * dtype.itemsize > length:
        raise ValueError(f"{shape} of {dtype} is larger than the member")
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError("the member ends early")
    array = np.frombuffer(bytearray(data), dtype, count)
    return array.reshape(shape, order="F" if fortran else "C")
