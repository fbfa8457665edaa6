# SPDX-License-Identifier: Apache-2.0
"""Affine quantization: ``real = scale · (code - zero_point)``, unsigned codes (docs/numerics.md, section 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.numerics.array import Array

TINY = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


#: Largest |zero point|: a code minus a zero point is then exact in float32.
MAX_ZERO_POINT = 2**24 - 2**16
#: Weights that are so many steps off zero or fewer have codes: differences of two 8-bit codes.
MOST_STEPS = 255
#: How far a weight may be from a whole number of steps: float32 loses less.
_OFF_GRID = 1e-3
#: Most scales of one tensor; what has more has one.
MAX_SCALES = 1 << 16


@dataclass(frozen=True)
class TensorQuantization:
    """How codes of one tensor map to reals.

    Attributes:
        scale: a positive float32 value (kept as Python float, exactly); of the first channel, where they differ.
        zero_point: the code of real zero. Where a layer computes with the codes it is one, 0 … 2^bits - 1; elsewhere it
            may lie outside of them. Of the first channel, where they differ.
        bits: 8 or 16.
        scales: one per channel (element of ``axis``), where channels have scales or zero points of their own; else ().
        zero_points: likewise.
        axis: which axis of a frame ``scales`` goes along, from the last: -1 channels, -2 width, -3 height.
    """

    scale: float
    zero_point: int
    bits: int = 8
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = -1

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def uniform(self) -> bool:
        """Whether all elements have one scale and zero point."""
        return not self.scales

    @property
    def computable(self) -> bool:
        """Whether a layer may compute with such codes: one scale, and real zero is a code."""
        return self.uniform and 0 <= self.zero_point <= self.high

    @property
    def magnitude(self) -> int:
        """The largest ``|code - zero_point|`` of a computable tensor."""
        return max(self.zero_point, self.high - self.zero_point)

    @property
    def steps(self) -> Array:
        """float32, to be broadcast against ``[…, H, W, C]``: every element's scale."""
        return self._along(np.array(self.scales or self.scale, np.float32))

    @property
    def zeros(self) -> Array:
        """int32, to be broadcast against ``[…, H, W, C]``: every element's zero point."""
        return self._along(np.array(self.zero_points or self.zero_point, np.int32))

    def _along(self, values: Array) -> Array:
        return values if self.uniform else values.reshape(-1, *(1,) * (-1 - self.axis))

    @property
    def pairs(self) -> list[tuple[float, int]]:
        """(scale, zero point) of each element of the axis; one pair of a uniform tensor."""
        return list(zip(self.scales, self.zero_points, strict=True)) or [(self.scale, self.zero_point)]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(first, past the last) elements of the axis that share scale and zero point; (0, 1) of a uniform tensor."""
        pairs = self.pairs
        starts = [i for i in range(len(pairs)) if i == 0 or pairs[i] != pairs[i - 1]]
        return list(zip(starts, [*starts[1:], len(pairs)], strict=True))

    @property
    def limits(self) -> tuple[float, float]:
        """The least and greatest real of any code."""
        return (
            min(scale * (0 - zero) for scale, zero in self.pairs),
            max(scale * (self.high - zero) for scale, zero in self.pairs),
        )

    @property
    def spans(self) -> tuple[Array, Array]:
        """float64, to be broadcast against ``[…, H, W, C]``: the reals of each element's smallest and largest code."""
        steps, zeros = self.steps.astype(np.float64), self.zeros.astype(np.float64)
        return steps * (0 - zeros), steps * (self.high - zeros)

    def as_dict(self) -> dict[str, Any]:
        if self.uniform:
            return {"scale": self.scale, "zero_point": self.zero_point, "bits": self.bits}
        plain = {"scale": list(self.scales), "zero_point": list(self.zero_points), "bits": self.bits}
        return plain if self.axis == -1 else {**plain, "axis": self.axis}

    @classmethod
    def from_dict(cls, raw: Any, where: str) -> TensorQuantization:
        """Read JSON values; raises InputFileError when they are not a quantization."""
        scales: Any = None
        zeros: Any = None
        bits, axis, several = 0, -1, False
        try:
            scales, zeros, bits, axis = raw["scale"], raw["zero_point"], raw["bits"], raw.get("axis", -1)
            several = isinstance(scales, list)
            fine = (
                isinstance(zeros, list) == several
                and type(bits) is int
                and bits in (8, 16)
                and type(axis) is int
                and axis in (-1, -2, -3)
                and (not several or 1 <= len(scales) == len(zeros) <= MAX_SCALES)
                and all(_is_scale(s) for s in (scales if several else [scales]))
                and all(type(z) is int and abs(z) <= MAX_ZERO_POINT for z in (zeros if several else [zeros]))
            )
        except (TypeError, KeyError, AttributeError):
            fine = False
        if not fine:
            raise InputFileError(
                Diagnostic(
                    "E-HN-QUANTIZATION",
                    where,
                    "the quantization of a tensor is not valid",
                    repr(raw)[:200],
                    "scale (positive float32), zero_point, bits (8 or 16); or a list of as many scales as zero points",
                )
            )
        if not several:
            return cls(float(scales), zeros, bits)
        return per_channel([float(s) for s in scales], zeros, bits, axis)


def _is_scale(value: Any) -> bool:
    """Whether a JSON value is a normal, positive float32."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and TINY <= value <= LARGEST
        and float(np.float32(value)) == value
    )


def per_channel(scales: Sequence[float], zero_points: Sequence[int], bits: int, axis: int = -1) -> TensorQuantization:
    """A quantization of one scale and zero point per channel; a uniform one where they are all alike."""
    first = (scales[0], zero_points[0])
    if all(pair == first for pair in zip(scales, zero_points, strict=True)):
        return TensorQuantization(*first, bits)
    return TensorQuantization(*first, bits, tuple(scales), tuple(zero_points), axis)


def from_range(low: float, high: float, bits: int = 8) -> TensorQuantization:
    """The asymmetric quantization that covers [low, high] and zero, with zero exactly representable.

    The scale is the smallest float32 for which both ends are covered after the zero point is rounded.
    """
    low, high = min(0.0, float(low)), max(0.0, float(high))
    top = (1 << bits) - 1
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return TensorQuantization(1.0, 0, bits)
    scale = float(np.float32(span / top))
    scale = max(scale, TINY)
    zero = min(max(round(-low / scale), 0), top)
    return TensorQuantization(scale, zero, bits)


def quantize_input(x: Array, quantization: TensorQuantization) -> Array:
    """Host side: ``q = clamp(rint_half_even(float32(x) / float32(scale)) + zero_point)``; NaN gives the zero point."""
    with np.errstate(all="ignore"):
        q = np.rint(x.astype(np.float32) / quantization.steps).astype(np.float32)
    q = np.nan_to_num(q, nan=0.0, posinf=2.0**25, neginf=-(2.0**25))
    clipped = np.clip(q, -(2.0**25), 2.0**25).astype(np.int64) + quantization.zeros
    return np.clip(clipped, 0, quantization.high).astype(quantization.dtype)


def dequantize(q: Array, quantization: TensorQuantization) -> Array:
    """Host side: ``x = float32(scale) · float32(q - zero_point)``, with each channel's own where they differ."""
    return quantization.steps * (q.astype(np.int32) - quantization.zeros).astype(np.float32)


def on_grid(flat: Array, steps: Array) -> Array | None:
    """int64: how many steps each weight ``[…, channels]`` is, where that is a whole number of at most 255."""
    counts = flat.astype(np.float64) / steps
    whole = np.rint(counts)
    fits = bool(np.all(np.abs(counts - whole) <= _OFF_GRID)) and bool(np.all(np.abs(whole) <= MOST_STEPS))
    return whole.astype(np.int64) if fits else None
