# SPDX-License-Identifier: Apache-2.0
"""Affine quantisation: ``real = scale · (code - zero_point)``, unsigned codes (docs/numerics.md, section 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorQuantization:
    """How codes of one tensor map to reals.

    Attributes:
        scale: a positive float32 value (kept as Python float, exactly).
        zero_point: the code of real zero, 0 … 2^bits - 1.
        bits: 8 or 16.
    """

    scale: float
    zero_point: int
    bits: int = 8

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def magnitude(self) -> int:
        """The largest ``|code - zero_point|``."""
        return max(self.zero_point, self.high - self.zero_point)

    @property
    def limits(self) -> tuple[float, float]:
        """The reals of the smallest and largest code."""
        return self.scale * (0 - self.zero_point), self.scale * (self.high - self.zero_point)

    def as_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "zero_point": self.zero_point, "bits": self.bits}

    @classmethod
    def from_dict(cls, raw: Any, where: str) -> TensorQuantization:
        """Read JSON values; raises InputFileError when they are not a quantisation."""
        scale, zero, bits = 0.0, 0, 0
        try:
            scale, zero, bits = raw["scale"], raw["zero_point"], raw["bits"]
            fine = (
                isinstance(scale, (int, float))
                and math.isfinite(scale)
                and scale > 0
                and float(np.float32(scale)) == scale
                and type(zero) is int
                and type(bits) is int
                and bits in (8, 16)
                and 0 <= zero < 1 << bits
            )
        except (TypeError, KeyError):
            fine = False
        if not fine:
            raise InputFileError(
                Diagnostic(
                    "E-HN-QUANTIZATION",
                    where,
                    "the quantisation of a tensor is not valid",
                    repr(raw)[:200],
                    "scale (positive float32), zero_point, bits (8 or 16)",
                )
            )
        return cls(float(scale), zero, bits)


def from_range(low: float, high: float, bits: int = 8) -> TensorQuantization:
    """The asymmetric quantisation that covers [low, high] and zero, with zero exactly representable.

    The scale is the smallest float32 for which both ends are covered after the zero point is rounded.
    """
    low, high = min(0.0, float(low)), max(0.0, float(high))
    top = (1 << bits) - 1
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return TensorQuantization(1.0, 0, bits)
    scale = float(np.float32(span / top))
    tiny = float(np.finfo(np.float32).tiny)
    if scale < tiny:
        scale = tiny
    zero = min(max(round(-low / scale), 0), top)
    return TensorQuantization(scale, zero, bits)


def quantize_input(x: Array, quantization: TensorQuantization) -> Array:
    """Host side: ``q = clamp(rint_half_even(float32(x) / float32(scale)) + zero_point)``; NaN gives the zero point."""
    with np.errstate(all="ignore"):
        q = np.rint(x.astype(np.float32) / np.float32(quantization.scale)).astype(np.float32)
    q = np.nan_to_num(q, nan=0.0, posinf=2.0**24, neginf=-(2.0**24))
    clipped = np.clip(q, -(2.0**24), 2.0**24).astype(np.int64) + quantization.zero_point
    return np.clip(clipped, 0, quantization.high).astype(quantization.dtype)


def dequantize(q: Array, quantization: TensorQuantization) -> Array:
    """Host side: ``x = float32(scale) · float32(q - zero_point)``."""
    return np.float32(quantization.scale) * (q.astype(np.int32) - quantization.zero_point).astype(np.float32)
