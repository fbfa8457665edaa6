# SPDX-License-Identifier: Apache-2.0
"""Parameters as npz: members in fixed order with fixed dates, read without pickle and within limits."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.network import Array

MAX_ARRAYS = 200_000
MAX_TOTAL_BYTES = 16 << 30
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


def _bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-NPZ-CORRUPT", where, rule, str(got)[:200], str(need)))


def load_arrays(data: bytes, where: str, max_bytes: int = MAX_TOTAL_BYTES) -> dict[str, Array]:
    """Read an npz without trusting it: no pickle, known dtypes only, sizes checked before anything is allocated.

    Raises:
        InputFileError: it is not an npz, or a member breaks a rule.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_ARRAYS:
                raise _bad(where, "there are too many arrays", len(infos), f"≤ {MAX_ARRAYS}")
            if sum(info.file_size for info in infos) > max_bytes:
                raise _bad(
                    where, "the arrays are too large", f"{sum(i.file_size for i in infos)} bytes", f"≤ {max_bytes}"
                )
            for info in infos:
                if not info.filename.endswith(".npy"):
                    raise _bad(where, "a member is not an array", info.filename, "*.npy")
                name = info.filename[:-4]
                if name in arrays:
                    raise _bad(where, "two arrays have one name", name, "one each")
                with archive.open(info) as member:
                    arrays[name] = _read_member(member, info.file_size, f"{where}, array {name}")
    except InputFileError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        SyntaxError,
        OverflowError,
    ) as error:
        raise _bad(where, "it is not a readable npz", f"{type(error).__name__}: {error}", "an npz file") from None
    return arrays


def _read_member(member: Any, size: int, where: str) -> Array:
    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise _bad(where, "its format version is not supported", version, "1.0 or 2.0")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(member, max_header_size=4096)
    if dtype.hasobject or dtype.name not in DTYPES:
        raise _bad(where, "its dtype is not allowed", dtype, ", ".join(sorted(DTYPES)))
    count = 1
    for dim in shape:
        count *= dim
    if len(shape) > 8 or count < 0 or count * dtype.itemsize > size:
        raise _bad(where, "its shape is larger than its data", shape, f"≤ {size} bytes")
    body = member.read(count * dtype.itemsize + 1)
    if len(body) != count * dtype.itemsize:
        raise _bad(where, "its data do not fill its shape", len(body), count * dtype.itemsize)
    flat = np.frombuffer(body, dtype=dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("=")).reshape(shape)
