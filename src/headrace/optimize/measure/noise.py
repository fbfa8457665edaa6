# SPDX-License-Identifier: Apache-2.0
"""Noise of quantized values against float, measured about the mean: per cell (a channel), per part of an output.

What a value tells is how it differs from frame to frame and from place to place. So the signal is the variation about
the mean of each channel over frames and positions: an offset of 293 hides no loss of a variation of 0.03, and the
size of boxes hides nothing of the scores beside them. Sums are float64, added in chunk order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.optimize.measure.output_parts import CellMap, Part, parts_of, place_text
from headrace.reports.optimize import OutputAccuracy, PartAccuracy

#: Values that differ by less than this part of the largest are equal: float32 arithmetic rounds more.
EQUAL = 2.0**-20
#: A constant smaller than this part of its output's largest value is nothing: the width of one 16-bit code.
NOTHING = 2.0**-16
#: No figure lies beyond these dB; an exact result counts as this many.
MOST_DB = 120.0
#: A part with this many codes or fewer has lost what it varies by, unless these codes are all it takes (a mask).
FEW_CODES, MASK_DB = 2, 10.0


@dataclass
class Sums:
    """Of cells; float64 ``[cells]`` each.

    Attributes:
        count: values.
        total, squares: Σ x and Σ x² of the float values.
        low, high: the least and the greatest float value.
        noise: Σ (float - quantized)².
        least, most: the least and the greatest code.
    """

    count: Array
    total: Array
    squares: Array
    low: Array
    high: Array
    noise: Array
    least: Array
    most: Array

    @classmethod
    def of_channels(cls, real: Array, error: Array | None = None, codes: Array | None = None) -> Sums:
        """A cell per entry of the last axis.

        Args:
            real: float64 ``[N, …, C]``.
            error: float - quantized, in the same shape.
            codes: in the same shape.
        """
        flat = real.reshape(-1, real.shape[-1])
        zero = np.zeros(flat.shape[1])
        return cls(
            np.full(flat.shape[1], float(len(flat))),
            flat.sum(axis=0),
            np.square(flat).sum(axis=0),
            flat.min(axis=0),
            flat.max(axis=0),
            zero if error is None else np.square(error.reshape(flat.shape)).sum(axis=0),
            zero if codes is None else codes.reshape(flat.shape).min(axis=0).astype(np.float64),
            zero if codes is None else codes.reshape(flat.shape).max(axis=0).astype(np.float64),
        )

    @classmethod
    def of_map(cls, cells: CellMap, real: Array, error: Array | None = None, codes: Array | None = None) -> Sums:
        """The same for the cells of an output."""
        frames = len(real)
        flat = real.reshape(frames, -1)
        zero = np.zeros(cells.count)

        def summed(values: Array) -> Array:
            return cells.reduce(np.add, values, 0.0)

        def ends(values: Array) -> tuple[Array, Array]:
            low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
            return cells.reduce(np.minimum, low, math.inf), cells.reduce(np.maximum, high, -math.inf)

        low, high = ends(flat)
        least, most = (zero, zero) if codes is None else ends(codes.reshape(frames, -1))
        return cls(
            cells.sizes * float(frames),
            summed(flat.sum(axis=0)),
            summed(np.square(flat).sum(axis=0)),
            low,
            high,
            zero if error is None else summed(np.square(error.reshape(frames, -1)).sum(axis=0)),
            least,
            most,
        )

    def added(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.noise + other.noise,
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
        )

    @property
    def variation(self) -> Array:
        """Σ (x - mean)² of every cell; 0 where its values are equal."""
        return np.where(_equal(self.low, self.high), 0.0, self._about_mean(self.count, self.total, self.squares))

    @property
    def spread(self) -> Array:
        """Standard deviation of every cell."""
        return np.sqrt(self.variation / np.maximum(self.count, 1.0))

    def whole(self, cells: Array) -> Whole:
        """These cells together."""
        count, noise = float(self.count[cells].sum()), float(self.noise[cells].sum())
        low, high = float(self.low[cells].min()), float(self.high[cells].max())
        # With per-channel scales, or several constant channels, codes differ although no channel's do.
        codes = int((self.most[cells] - self.least[cells]).max()) + 1
        signal = float(self.variation[cells].sum())
        basis = "channels"
        if signal == 0.0 and not _equal(low, high):
            total, squares = self.total[cells].sum(), self.squares[cells].sum()
            signal, basis = float(self._about_mean(count, total, squares)), "values"
        if signal == 0.0:
            signal, basis = float(self.squares[cells].sum()), "constant"
        return Whole(count, signal, noise, low, high, basis, codes)

    @staticmethod
    def _about_mean(count: Any, total: Any, squares: Any) -> Any:
        return np.maximum(squares - np.square(total) / np.maximum(count, 1.0), 0.0)


def _equal(low: Any, high: Any) -> Any:
    return high - low <= EQUAL * np.maximum(np.abs(low), np.abs(high))


@dataclass(frozen=True)
class Whole:
    """Some cells together.

    Attributes:
        count: values.
        signal: Σ (x - mean)² by ``basis``.
        noise: Σ (float - quantized)².
        low, high: of the float values.
        basis: what the mean is of: ``"channels"`` (each one's own), ``"values"`` (all together, where none varies:
            a vector of one frame), ``"constant"`` (nothing varies: Σ x², about zero).
        codes: at most this many distinct codes in any channel.
    """

    count: float
    signal: float
    noise: float
    low: float
    high: float
    basis: str
    codes: int

    @property
    def spread(self) -> float:
        """Standard deviation by the basis; 0 where nothing varies."""
        return 0.0 if self.basis == "constant" else math.sqrt(self.signal / max(self.count, 1.0))

    @property
    def snr_db(self) -> float | None:
        """dB, two decimals; ``None`` where there is no noise at all."""
        found = decibels(self.signal, self.noise)
        return None if found is None else round(found, 2)


def decibels(signal: float, noise: float) -> float | None:
    """10·log10(signal / noise) within ±120 dB; ``None`` where there is no noise."""
    if noise == 0.0:
        return None
    if signal == 0.0:
        return -MOST_DB
    return max(-MOST_DB, min(MOST_DB, 10.0 * math.log10(signal / noise)))


@dataclass(frozen=True)
class PartNoise:
    """One part of an output, measured.

    Attributes:
        output: output layer.
        part: which values.
        whole: their sums.
        codes: distinct codes.
        nothing: whether it is a constant too small to count.
        concentration: Σ n² / (Σ n)² of the noise n of each frame: 1 / frames where it is even, 1 where one has it all.
        frames: how many.
    """

    output: str
    part: Part
    whole: Whole
    codes: int
    nothing: bool
    concentration: float
    frames: int

    @property
    def uncertainty_db(self) -> float:
        """Standard error of the noise, as dB: how far these frames tell it."""
        return 10.0 / math.log(10.0) * math.sqrt(max(self.concentration - 1.0 / self.frames, 0.0))

    @property
    def varies(self) -> bool:
        return self.whole.basis != "constant"

    @property
    def snr_db(self) -> float | None:
        """``None``: exact, or nothing to lose."""
        return None if self.nothing else self.whole.snr_db

    @property
    def judged_db(self) -> float:
        """Decibels for comparisons: an exact part has :data:`MOST_DB`."""
        found = None if self.nothing else decibels(self.whole.signal, self.whole.noise)
        return MOST_DB if found is None else found

    @property
    def dead(self) -> bool:
        """Whether one or two codes are left of values that vary, and they are not all there is."""
        return self.varies and self.codes <= FEW_CODES and self.judged_db < MASK_DB

    def accuracy(self, shape: tuple[int, ...]) -> PartAccuracy:
        """For the report; ``shape`` is that of a frame of the output."""
        return PartAccuracy(
            name=self.part.name,
            layer=self.part.layer,
            place=place_text(self.part, shape),
            slices=self.part.slices,
            elements=len(self.part.index),
            snr_db=self.snr_db,
            distinct_codes=self.codes,
            range=(self.whole.low, self.whole.high),
            spread=self.whole.spread,
            constant=not self.varies,
            dead=self.dead,
        )


@dataclass
class OutputNoise:
    """Of one output: what is measured, chunk by chunk.

    Attributes:
        name: output layer.
        cells: where its values come from.
        parts: of it.
        sums: of its cells.
        frames: how many so far.
        used: bool ``[parts, 2^bits]``: which codes occurred.
        squares: float64 ``[parts]``: Σ n² of the noise n of each frame.
    """

    name: str
    cells: CellMap
    parts: Sequence[Part]
    sums: Sums
    frames: int
    used: Array
    squares: Array

    @classmethod
    def of(cls, name: str, cells: CellMap, parts: Sequence[Part], real: Array, got: Array, codes: Array) -> OutputNoise:
        """Of some frames.

        Args:
            real: float values ``[N, …]``.
            got: quantized values, as reals.
            codes: quantized values.
        """
        wanted = real.astype(np.float64)
        used = np.zeros((len(parts), 1 << (8 * codes.itemsize)), bool)
        flat = codes.reshape(len(codes), -1)
        for row, part in zip(used, parts, strict=True):
            row[flat if len(parts) == 1 else flat[:, part.index]] = True
        error = wanted - got
        noise = np.square(error).reshape(len(real), -1)
        squares = [float(np.square(noise[:, part.index].sum(axis=1)).sum()) for part in parts]
        return cls(
            name, cells, parts, Sums.of_map(cells, wanted, error, codes), len(real), used, np.array(squares, np.float64)
        )

    def add(self, other: OutputNoise) -> None:
        """Take in the frames that follow."""
        self.sums = self.sums.added(other.sums)
        self.frames += other.frames
        self.used |= other.used
        self.squares = self.squares + other.squares

    def measured(self) -> list[PartNoise]:
        """Every part."""
        wholes = [self.sums.whole(part.cells) for part in self.parts]
        largest = max(max(abs(whole.low), abs(whole.high)) for whole in wholes)
        found: list[PartNoise] = []
        for part, whole, used, squares in zip(self.parts, wholes, self.used, self.squares, strict=True):
            nothing = whole.basis == "constant" and max(abs(whole.low), abs(whole.high)) <= NOTHING * largest
            codes = min(int(used.sum()), whole.codes)
            concentration = float(squares) / whole.noise**2 if whole.noise**2 > 0.0 else 0.0
            found.append(PartNoise(self.name, part, whole, codes, nothing, concentration, self.frames))
        return found

    @property
    def snr_db(self) -> float | None:
        """DB of all parts that vary, two decimals; ``None`` where there is no noise at all."""
        parts = self.measured()
        varying = [part for part in parts if part.varies] or [part for part in parts if not part.nothing]
        whole = decibels(sum(part.whole.signal for part in varying), sum(part.whole.noise for part in varying))
        return None if whole is None else round(whole, 2)

    def accuracy(self) -> OutputAccuracy:
        """Of the output as a whole and of every part, for the report."""
        parts = self.measured()
        worst = worst_of(parts)
        return OutputAccuracy(
            snr_db=self.snr_db,
            distinct_codes=int(self.used.any(axis=0).sum()),
            worst=worst.part.name,
            worst_snr_db=worst.snr_db,
            parts=tuple(part.accuracy(self.cells.shape) for part in parts),
        )


def worst_of(parts: Sequence[PartNoise]) -> PartNoise:
    """The part with the least dB; the first of equals."""
    return min(parts, key=lambda part: part.judged_db)


def parts_by_output(cells: Mapping[str, CellMap], sums: Mapping[str, Sums]) -> dict[str, list[Part]]:
    """The parts of every output, by what float values did."""
    return {name: parts_of(one, sums[name].spread) for name, one in cells.items()}


__all__ = ["OutputNoise", "PartNoise", "Sums", "Whole", "decibels", "parts_by_output", "worst_of"]
