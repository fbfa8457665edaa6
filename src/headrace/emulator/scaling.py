# SPDX-License-Identifier: Apache-2.0
"""Requantisation on torch: float64 where that is provably exact, int64 elsewhere (docs/numerics.md, section 4).

An :class:`Accumulator` keeps a tensor as it came (uint8 codes, float32 sums …) and the constant that is to be added, so
that centring and bias cost no pass over the data: both end up in the one additive constant of the requantisation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headrace.emulator.exact import FLOAT64_EXACT
from headrace.hn import Array
from headrace.numerics.requantize import Requantization

CHUNK_ELEMENTS = 1 << 16  # half a megabyte of float64: stays in the second-level cache
SAFE_FLOAT64 = FLOAT64_EXACT * (1 - 2.0**-40)  # bounds are computed in float64 themselves


@dataclass
class Accumulator:
    """The value ``raw + offset``, exact.

    Attributes:
        raw: integers in a tensor of any numeric dtype.
        offset: int64, scalar or per channel.
        bound: float64, scalar or per channel: the largest ``|raw|`` that can occur.
    """

    raw: torch.Tensor
    offset: Array
    bound: Array

    @property
    def reach(self) -> float:
        """An upper bound of ``|raw + offset|``."""
        return float(np.max(self.bound + np.abs(self.offset)))

    def centered(self) -> torch.Tensor:
        """``raw + offset`` in the narrowest of float32, float64, int64 that is exact."""
        dtype = torch.float32 if self.reach < 2**24 else torch.float64 if self.reach < SAFE_FLOAT64 else torch.int64
        value = self.raw.to(dtype)
        if not np.any(self.offset):
            return value
        offset = torch.from_numpy(np.atleast_1d(self.offset).astype(np.int64)).to(dtype)
        return value + offset


def code_dtype(bits: int) -> torch.dtype:
    """Torch dtype of codes in the emulator: 16-bit codes are kept in int32, for which torch has every operation."""
    return torch.uint8 if bits == 8 else torch.int32


@dataclass
class ScalePlan:
    """Constants of one requantisation, prepared once.

    ``factors[i]`` and ``constant`` broadcast against the output. In float64 form they carry 2^-s already:
    ``y = floor(Σ raw_i·factor_i + constant) + zero`` with every product and sum exact.
    """

    exact_float: bool
    factors: list[torch.Tensor]
    constant: torch.Tensor
    shifts: torch.Tensor
    zero: int
    low: int
    high: int
    table: torch.Tensor | None


def make_plan(rq: Requantization, terms: Sequence[tuple[Array, Array]], choice: Array | None = None) -> ScalePlan:
    """Prepare the constants.

    Args:
        rq: the frozen integers.
        terms: (offset, bound) of each accumulator.
        choice: ``[H, W]`` column of ``rq`` per position (average pools), or ``None``.
    """
    multipliers = rq.multipliers.astype(np.int64)
    shifts = rq.shifts.astype(np.int64)
    if choice is not None:
        multipliers, shifts = multipliers[:, choice][..., None], shifts[choice][..., None]
    constant = np.int64(1) << (shifts - 1)
    reach = np.zeros(1)
    for (offset, bound), m in zip(terms, multipliers, strict=True):
        constant = constant + m * offset
        # Any partial sum of the evaluation stays below this.
        reach = reach + np.abs(m).astype(np.float64) * (bound + np.abs(offset))
    reach = reach + (np.int64(1) << (shifts - 1)).astype(np.float64) + np.abs(constant).astype(np.float64)
    exact = bool(np.max(reach) < SAFE_FLOAT64)
    factors: list[Any]
    if exact:
        # A power of two scales a float64 exactly, so Σ raw·M·2^-s + constant·2^-s is the sum scaled, without rounding.
        with_zero = np.abs(constant).astype(np.float64) + rq.zero * np.exp2(shifts.astype(np.float64))
        inside = bool(np.max(reach + with_zero) < SAFE_FLOAT64)
        zero = 0 if inside else rq.zero
        if inside:
            constant = constant + (np.int64(rq.zero) << shifts)
        scale = np.exp2(-shifts.astype(np.float64))
        factors = [torch.from_numpy(m.astype(np.float64) * scale) for m in multipliers]
        constants = torch.from_numpy(constant.astype(np.float64) * scale)
    else:
        zero = rq.zero
        factors = [torch.from_numpy(m.copy()) for m in multipliers]
        constants = torch.from_numpy(np.asarray(constant))
    table = None if rq.table is None else torch.from_numpy(rq.table.astype(np.uint8 if rq.table.dtype == np.uint8 else np.int32))
    return ScalePlan(exact, factors, constants, torch.from_numpy(shifts.copy()), zero, rq.low, rq.high, table)


class Scratch(threading.local):
    """Per-thread buffers that are reused from call to call."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def get(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        size = int(np.prod(shape, dtype=np.int64))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            # Not an inference tensor, so that it may be written in and outside inference mode.
            with torch.inference_mode(False):
                buffer = torch.empty(max(size, CHUNK_ELEMENTS), dtype=dtype)
            self._buffers[name] = buffer
        return buffer[:size].view(*shape)


def _blocks(shape: Sequence[int], split_rows: bool) -> Iterator[tuple[slice, slice | None]]:
    """Cut the output into pieces of about :data:`CHUNK_ELEMENTS` over frames and, for large frames, rows."""
    frame = int(np.prod(shape[1:], dtype=np.int64)) or 1
    if split_rows and len(shape) == 4 and frame > 2 * CHUNK_ELEMENTS:
        rows = max(1, CHUNK_ELEMENTS // (frame // shape[1]))
        for n in range(shape[0]):
            for y in range(0, shape[1], rows):
                yield slice(n, n + 1), slice(y, min(shape[1], y + rows))
        return
    frames = max(1, CHUNK_ELEMENTS // frame)
    for n in range(0, shape[0], frames):
        yield slice(n, min(shape[0], n + frames)), None


def _cut(x: torch.Tensor, frames: slice, rows: slice | None) -> torch.Tensor:
    piece = x[frames]
    return piece if rows is None or x.shape[1] == 1 else piece[:, rows]


def apply_plan(plan: ScalePlan, terms: Sequence[torch.Tensor], bits: int, scratch: Scratch) -> torch.Tensor:
    """Evaluate a prepared requantisation; gives contiguous codes of the broadcast shape."""
    shape = tuple(torch.broadcast_shapes(*(t.shape for t in terms)))
    out = torch.empty(shape, dtype=code_dtype(bits))
    split = plan.constant.dim() < 3
    for frames, rows in _blocks(shape, split):
        target = _cut(out, frames, rows)
        pieces = [_cut(t, frames, rows) for t in terms]
        index = _float_block(plan, pieces, target, scratch) if plan.exact_float else _integer_block(plan, pieces)
        if plan.table is None:
            target.copy_(index)
        else:
            looked_up = torch.index_select(plan.table, 0, index.reshape(-1))
            target.copy_(looked_up.view(target.shape))
    return out


def _float_block(plan: ScalePlan, pieces: Sequence[torch.Tensor], target: torch.Tensor, scratch: Scratch) -> torch.Tensor:
    total = scratch.get("total", target.shape, torch.float64)
    total.copy_(pieces[0])
    torch.addcmul(plan.constant, total, plan.factors[0], out=total)
    for i, piece in enumerate(pieces[1:], start=1):
        term = scratch.get("term", target.shape, torch.float64)
        term.copy_(piece)
        torch.addcmul(total, term, plan.factors[i], out=total)
    if plan.zero:
        total.floor_()
        total.add_(plan.zero)
    # The bounds are integers ≥ 0, so clamping first and truncating in the conversion is floor, then clamp.
    total.clamp_(plan.low, plan.high)
    index = scratch.get("index", target.shape, torch.int32)
    return index.copy_(total)


def _integer_block(plan: ScalePlan, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    total: torch.Tensor = plan.constant
    for piece, factor in zip(pieces, plan.factors, strict=True):
        total = total + piece.to(torch.int64) * factor
    value = torch.bitwise_right_shift(total, plan.shifts) + plan.zero
    return value.clamp_(plan.low, plan.high).to(torch.int32)
