# SPDX-License-Identifier: Apache-2.0
"""The one rule for element types: numbers of any type are values; codes are taken only where codes were asked for.

Values become float32, rounded to nearest. docs/guide/calibration.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.errors import Diagnostic
from headrace.hn import Array

_CHUNK_BYTES = 64 << 20


def is_number(dtype: np.dtype[Any]) -> bool:
    """bool, integers, floats of any size and byte order, and the small floats of ml_dtypes (bfloat16, float8)."""
    return dtype.kind in "biuf" or _is_small_float(dtype)


def _is_small_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "V" and dtype.type is not np.void and dtype.type.__module__.startswith("ml_dtypes")


def dtype_problem(dtype: np.dtype[Any], where: str, code: str = "E-DATA-DTYPE") -> Diagnostic | None:
    """Why arrays of this type hold no real numbers; None when they do."""
    if is_number(dtype):
        return None
    levers: tuple[str, ...] = ()
    if dtype.kind == "c":
        levers = ("give real and imaginary part as channels",)
    elif dtype.type is np.void and dtype.names is None and dtype.itemsize <= 2:
        levers = ("a .npy file cannot say bfloat16 or float8: save array.astype('float32')",)
    need = "bool, an integer type, float16, float32, float64 or bfloat16"
    return Diagnostic(code, where, "the elements are not real numbers", f"dtype {dtype}", need, levers)


def as_values(array: Array) -> Array:
    """The array as contiguous float32 of this machine's byte order; shares memory when it is that already."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def as_codes(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """The array as contiguous codes of this unsigned type; None when a value is no code (a fraction, out of range)."""
    with np.errstate(invalid="ignore", over="ignore"):
        codes = array.astype(dtype)
        if not np.array_equal(codes, array):
            return None
    return np.ascontiguousarray(codes)


def chunks(array: Array) -> Iterator[tuple[int, Array]]:
    """(first frame, frames) in parts of bounded memory; for arrays that may be mapped from a file."""
    frame = max(1, array[:1].size * 4)
    step = max(1, _CHUNK_BYTES // frame)
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def first_not_finite(array: Array) -> int | None:
    """The first frame that holds NaN, infinity, or a number beyond float32."""
    if array.dtype.kind in "biu":
        return None
    for start, part in chunks(array):
        fine = np.isfinite(as_values(part)).reshape(len(part), -1).all(axis=1)
        if not fine.all():
            return start + int(np.argmin(fine))
    return None
