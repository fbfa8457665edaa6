# SPDX-License-Identifier: Apache-2.0
"""Requantization on torch: float64 where that is provably exact, int64 elsewhere (docs/numerics.md, section 4).

An :class:`Accumulator` keeps a tensor as it came (uint8 codes, float32 sums …) and the constant that is to be added, so
that centring and bias cost no pass over the data: both end up in the one additive constant of the requantization.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from headrace.emulator.exact import FLOAT64_EXACT
from headrace.emulator.tensors import tensor_of
from headrace.hn import Array
from headrace.numerics.requantize import Requantization

SHORT_AXIS = 64
CHUNK_ELEMENTS = 1 << 18  # per thread; fewer gives more calls than work, more leaves the caches (measured)
NARROW = 2**15 - 1
SAFE_FLOAT64 = FLOAT64_EXACT * (1 - 2.0**-40)  # bounds are computed in float64 themselves


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; where all are equal, without numpy's microseconds."""
    return shapes[0] if all(s == shapes[0] for s in shapes[1:]) else np.broadcast_shapes(*shapes)


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

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.raw.shape)

    def load(self, frames: slice, rows: slice | None, out: torch.Tensor) -> None:
        """Write a piece of ``raw``, without the offset, into a float64 buffer of the output's shape."""
        out.copy_(_cut(self.raw, frames, rows))

    def integers(self, frames: slice, rows: slice | None) -> torch.Tensor:
        """A piece of ``raw``, without the offset, in int64."""
        return _cut(self.raw, frames, rows).to(torch.int64)

    def centered(self) -> torch.Tensor:
        """``raw + offset`` in the narrowest of float32, float64, int64 that is exact."""
        dtype = torch.float32 if self.reach < 2**24 else torch.float64 if self.reach < SAFE_FLOAT64 else torch.int64
        value = self.raw.to(dtype)
        if not np.any(self.offset):
            return value
        if self.offset.size == 1:
            return value + int(self.offset.reshape(-1)[0])
        offset = tensor_of(np.atleast_1d(self.offset).astype(np.int64)).to(dtype)
        return value + offset


NO_OFFSET = np.asarray(0, np.int64)


@dataclass
class Product:
    """The product of two accumulators; evaluated piece by piece, when it is requantized."""

    a: Accumulator
    b: Accumulator

    @property
    def offset(self) -> Array:
        return NO_OFFSET

    @property
    def bound(self) -> Array:
        return np.asarray(self.a.reach * self.b.reach)

    @property
    def shape(self) -> tuple[int, ...]:
        return broadcast_shape(self.a.shape, self.b.shape)

    def load(self, frames: slice, rows: slice | None, out: torch.Tensor) -> None:
        first, second = (self.a, self.b) if self.a.shape == self.shape else (self.b, self.a)
        first.load(frames, rows, out)
        if first.offset.size == 1:
            out.add_(int(first.offset.reshape(-1)[0]))
        else:
            out.add_(tensor_of(first.offset.astype(np.float64)))
        other = Accumulator(_cut(second.raw, frames, rows), second.offset, second.bound)
        out.mul_(other.centered())

    def folded(
        self, frames: slice, factor: torch.Tensor, constant: torch.Tensor
    ) -> tuple[Accumulator, torch.Tensor, torch.Tensor] | None:
        """A gate ``[N, 1, 1, C]`` times a map becomes the map with a factor and a constant of each frame and channel.

        ``((x + o)·g)·f + c = x·(g·f) + (o·g·f + c)``: two passes over the map less. No value exceeds the bound that
        the plan proved exact, because the bound of a product holds ``(|x| + |o|)·|g|``.
        """
        shape = self.shape
        whole, gate = (self.a, self.b) if self.a.shape == shape else (self.b, self.a)
        if len(shape) != 4 or gate.shape != (shape[0], 1, 1, shape[3]) or whole.offset.size != 1:
            return None
        scaled = (
            Accumulator(_cut(gate.raw, frames, None), gate.offset, gate.bound).centered().to(torch.float64) * factor
        )
        moved = constant + scaled * int(whole.offset.reshape(-1)[0])
        if shape[3] < SHORT_AXIS:
            scaled, moved = scaled.repeat(1, 1, shape[2], 1), moved.repeat(1, 1, shape[2], 1)
        return whole, scaled, moved

    def integers(self, frames: slice, rows: slice | None) -> torch.Tensor:
        parts = (Accumulator(_cut(x.raw, frames, rows), x.offset, x.bound).centered() for x in (self.a, self.b))
        a, b = (part.to(torch.int64) for part in parts)
        return a * b


@dataclass
class NegativePart:
    """``min(a, 0)`` of an accumulator; evaluated piece by piece, when it is requantized."""

    a: Accumulator

    @property
    def offset(self) -> Array:
        return NO_OFFSET

    @property
    def bound(self) -> Array:
        return np.asarray(self.a.bound + np.abs(self.a.offset))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.a.shape

    def load(self, frames: slice, rows: slice | None, out: torch.Tensor) -> None:
        self.a.load(frames, rows, out)
        offset = self.a.offset
        if offset.size == 1:
            out.add_(int(offset.reshape(-1)[0]))
        else:
            out.add_(tensor_of(offset.astype(np.float64)))
        out.clamp_(max=0)

    def integers(self, frames: slice, rows: slice | None) -> torch.Tensor:
        part = Accumulator(_cut(self.a.raw, frames, rows), self.a.offset, self.a.bound).centered()
        return part.to(torch.int64).clamp_(max=0)


Term = Accumulator | Product | NegativePart


def code_dtype(bits: int) -> torch.dtype:
    """Torch dtype of codes in the emulator: 16-bit codes are kept in int32, for which torch has every operation."""
    return torch.uint8 if bits == 8 else torch.int32


@dataclass
class ScalePlan:
    """Constants of one requantization, prepared once.

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
    bases: torch.Tensor | None  # int32 [channels]: where each channel's table begins; None: one table for all
    narrow: bool  # every value fits int16 before it is clamped
    single: tuple[float, list[float]] | None  # constant and factors as numbers, where they are one for all channels
    _tiled: dict[int, tuple[torch.Tensor, list[torch.Tensor]]] = field(default_factory=dict)

    def per_row(self, width: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Constant and factors repeated for a row of ``width`` pixels: torch is slow on short innermost axes."""
        found = self._tiled.get(width)
        if found is None:
            # A factor that is one for all channels stays as it is.
            tiled = [f if f.numel() == 1 else f.repeat(width) for f in self.factors]
            found = self.constant.repeat(width), tiled
            self._tiled[width] = found
        return found


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
    products = np.zeros(1)
    for (offset, bound), m in zip(terms, multipliers, strict=True):
        constant = constant + m * offset
        products = products + np.abs(m).astype(np.float64) * bound
    # The evaluation adds the products to the constant one by one, so no intermediate value exceeds this.
    reach = products + np.abs(constant).astype(np.float64)
    exact = bool(np.max(reach) < SAFE_FLOAT64)
    factors: list[Any]
    narrow = False
    if exact:
        # A power of two scales a float64 exactly, so Σ raw·M·2^-s + constant·2^-s is the sum scaled, without rounding.
        inside = bool(np.max(reach + rq.zero * np.exp2(shifts.astype(np.float64))) < SAFE_FLOAT64)
        zero = 0 if inside else rq.zero
        if inside:
            constant = constant + (np.int64(rq.zero) << shifts)
        scale = np.exp2(-shifts.astype(np.float64))
        narrow = bool(np.max(reach * scale) + rq.zero < NARROW) and rq.high < NARROW
        factors = [tensor_of(m.astype(np.float64) * scale) for m in multipliers]
        constants = tensor_of(constant.astype(np.float64) * scale)
    else:
        zero = rq.zero
        factors = [tensor_of(m.copy()) for m in multipliers]
        constants = tensor_of(np.asarray(constant))
    table = (
        None
        if rq.table is None
        else tensor_of(rq.table.astype(np.uint8 if rq.table.dtype == np.uint8 else np.int32).reshape(-1))
    )
    bases = None
    if rq.channel_tables is not None and rq.table is not None:
        bases = tensor_of(rq.channel_tables.astype(np.int32) * np.int32(rq.table.shape[-1]))
    single = (float(constants), [float(f) for f in factors]) if exact and constants.numel() == 1 else None
    shift = tensor_of(shifts.copy())
    return ScalePlan(exact, factors, constants, shift, zero, rq.low, rq.high, table, bases, narrow, single)


class Scratch(threading.local):
    """Per-thread buffers that are reused from call to call."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}
        self._views: dict[str, dict[tuple[int, ...], torch.Tensor]] = {}

    def get(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """The buffer of this name, seen with this shape; what it held before is lost."""
        views = self._views.setdefault(name, {})
        key = tuple(shape)
        found = views.get(key)
        if found is None:
            found = views[key] = self._buffer(name, math.prod(key), dtype).view(key)
        return found

    def _buffer(self, name: str, size: int, dtype: torch.dtype) -> torch.Tensor:
        buffer = self._buffers.get(name)
        # Not inference tensors, so that they may be written in and outside inference mode.
        with torch.inference_mode(False):
            if buffer is None or buffer.numel() < size:
                buffer = self._buffers[name] = torch.empty(max(size, CHUNK_ELEMENTS), dtype=dtype)
                self._views[name].clear()  # they would keep the former buffer alive
            return buffer[:size]


def _blocks(shape: Sequence[int], split_rows: bool) -> Iterator[tuple[slice, slice | None]]:
    """Cut the output into pieces of about :data:`CHUNK_ELEMENTS` over frames and, for large frames, rows."""
    frame = math.prod(shape[1:]) or 1
    chunk = CHUNK_ELEMENTS * torch.get_num_threads()
    if split_rows and len(shape) == 4 and frame > 2 * chunk:
        rows = max(1, chunk // (frame // shape[1]))
        for n in range(shape[0]):
            for y in range(0, shape[1], rows):
                yield slice(n, n + 1), slice(y, min(shape[1], y + rows))
        return
    frames = max(1, chunk // frame)
    for n in range(0, shape[0], frames):
        yield slice(n, min(shape[0], n + frames)), None


def _cut(x: torch.Tensor, frames: slice, rows: slice | None) -> torch.Tensor:
    piece = x if frames.stop - frames.start >= x.shape[0] else x[frames]
    return piece if rows is None or x.shape[1] == 1 else piece[:, rows]


def apply_plan(plan: ScalePlan, terms: Sequence[Term], bits: int, scratch: Scratch) -> torch.Tensor:
    """Evaluate a prepared requantization; gives contiguous codes of the broadcast shape."""
    shape = broadcast_shape(*(t.shape for t in terms))
    out = torch.empty(shape, dtype=code_dtype(bits))
    split = plan.constant.dim() < 3
    for frames, rows in _blocks(shape, split):
        target = _cut(out, frames, rows)
        if plan.exact_float:
            index = _float_block(plan, terms, frames, rows, target.shape, scratch)
        else:
            index = _integer_block(plan, terms, frames, rows)
        if plan.table is None:
            target.copy_(index)
        else:
            if plan.bases is not None:
                index = index.add_(plan.bases)
            # A block of the output is contiguous: it is cut by rows only inside one frame.
            torch.index_select(plan.table, 0, index.reshape(-1), out=target.view(-1))
    return out


def _float_block(
    plan: ScalePlan, terms: Sequence[Term], frames: slice, rows: slice | None, shape: Sequence[int], scratch: Scratch
) -> torch.Tensor:
    total = _float_total(plan, terms, frames, rows, shape, scratch)
    if plan.zero:
        total.floor_()
        total.add_(plan.zero)
    # The bounds are integers ≥ 0, so truncating in the conversion is floor, before or after clamping.
    if plan.narrow and plan.table is None:
        return scratch.get("narrow", shape, torch.int16).copy_(total).clamp_(plan.low, plan.high)
    return scratch.get("index", shape, torch.int32).copy_(total.clamp_(plan.low, plan.high))


def _float_total(
    plan: ScalePlan, terms: Sequence[Term], frames: slice, rows: slice | None, shape: Sequence[int], scratch: Scratch
) -> torch.Tensor:
    """``Σ raw·factor + constant`` of a block, exact, in a float64 buffer of its shape."""
    total = scratch.get("total", shape, torch.float64)
    first = terms[0]
    if isinstance(first, Product) and len(terms) == 1:
        folded = first.folded(frames, plan.factors[0], plan.constant)
        if folded is not None:
            whole, factor, constant = folded
            whole.load(frames, rows, total)
            return torch.addcmul(constant, total, factor, out=total)
    constant, factors, flat = plan.constant, plan.factors, tuple(shape)
    if constant.dim() == 1 and 1 < constant.numel() < SHORT_AXIS and len(shape) == 4:
        constant, factors = plan.per_row(shape[2])
        flat = (shape[0], shape[1], shape[2] * shape[3])
    for i, term in enumerate(terms):
        value = scratch.get("term", shape, torch.float64) if i else total
        term.load(frames, rows, value)
        if plan.single is None:
            torch.addcmul(total.view(flat) if i else constant, value.view(flat), factors[i], out=total.view(flat))
        elif i:
            total.add_(value, alpha=plan.single[1][i])
        else:
            total.mul_(plan.single[1][0]).add_(plan.single[0])  # torch is slow at broadcasting a tensor of one element
    return total


def _integer_block(plan: ScalePlan, terms: Sequence[Term], frames: slice, rows: slice | None) -> torch.Tensor:
    total: torch.Tensor = plan.constant
    for term, factor in zip(terms, plan.factors, strict=True):
        total = total + term.integers(frames, rows) * factor
    value = torch.bitwise_right_shift(total, plan.shifts) + plan.zero
    return value.clamp_(plan.low, plan.high).to(torch.int32)
