# SPDX-License-Identifier: Apache-2.0
"""Whether data can be what a quantized input was calibrated for.

A frame is judged by what is left of it in 8-bit codes over the calibrated range: where clipping far away, or rounding
near zero, destroys a good part of its variation, it was scaled otherwise than the calibration data. Ordinary frames
that go a little beyond calibration keep nearly all of it; dark and constant frames, which say nothing about scaling,
are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.data.dtypes import as_values
from headrace.data.notes import Notes, problem_text
from headrace.errors import Diagnostic
from headrace.hn import Array, Layer, output_quantization
from headrace.numerics.quantization import TensorQuantization

#: Frames and elements of each that are looked at, evenly spread.
FRAMES, ELEMENTS = 32, 1 << 16
#: Far outside: clipping takes this share of a frame's variance, by this part of the range (root of the mean square).
CLIPPED, BEYOND = 0.10, 1 / 16
#: Scaled down: all values nearer to zero than this part of the range, and codes lose this share of the variance.
NEAR_ZERO, LOST = 1 / 20, 0.07
#: Share of the frames with variation that have to be implausible.
SHARE = 0.25
#: Frames with fewer elements are judged together.
SMALL = 64


@dataclass(frozen=True)
class Expected:
    """What an input was calibrated for: its codes, and the smallest and largest value that calibration saw."""

    quantization: TensorQuantization
    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        """What codes or calibration cover, whichever is wider; of an end where values are all alike, the codes."""
        first, last = self.quantization.limits
        low, high = self.alike
        return first if math.isfinite(low) else min(self.low, first), last if math.isfinite(high) else max(
            self.high, last
        )

    @property
    def alike(self) -> tuple[float, float]:
        """Values below the first are all alike to the network, and those above the second; infinite where none are.

        Calibration went far beyond the codes there: an attention mask of -3.4e38, of which readers tell nothing apart
        below -30.
        """
        first, last = self.quantization.limits
        width = last - first
        return first if self.low < first - width else -math.inf, last if self.high > last + width else math.inf


def expected_of(layer: Layer) -> Expected:
    """What an input layer of a quantized network was calibrated for."""
    quantization = output_quantization(layer)
    return Expected(quantization, *(layer.output.calibrated or quantization.limits))


def raw_images_expected(mean: Array, std: Array) -> Expected | None:
    """What an input takes that the device normalizes by these numbers; None unless they are those of bytes."""
    if float(np.max(np.abs(mean) + np.abs(std))) <= 10:
        return None
    return Expected(TensorQuantization(1.0, 0), 0.0, 255.0)


def range_problem(name: str, array: Array, expected: Expected) -> Diagnostic | None:
    """Why data (real values, ``[N, …]``) cannot be what the input was calibrated for; None when they can.

    Returns:
        ``E-DATA-NORMALIZED``: scaled down, as by a normalization that the network does itself. ``E-DATA-RANGE``: far
        outside.
    """
    q = expected.quantization
    if array.dtype == q.dtype and (q.scale, q.zero_point) == (1.0, 0):
        return None  # the codes are the values
    low, high = expected.range
    chosen = np.unique(np.linspace(0, len(array) - 1, min(len(array), FRAMES)).round().astype(np.int64))
    frames = [_spread(as_values(array[i]).reshape(-1)) for i in chosen]
    if frames[0].size < SMALL:
        frames = [_spread(as_values(array[: FRAMES * SMALL]).reshape(-1))]
    verdicts = [_verdict(np.clip(frame, *expected.alike), low, high) for frame in frames]
    telling = [v for v in verdicts if v is not None]
    bad = [v for v in telling if v]
    if not bad or len(bad) < SHARE * len(telling):
        return None
    least, most = min(float(f.min()) for f in frames), max(float(f.max()) for f in frames)
    outside = float(np.mean([np.mean((f < low) | (f > high)) for f in frames]))
    looked = f" ({len(bad)} of {len(frames)} frames looked at)" if len(frames) > 1 else ""
    need = f"values as in calibration, {expected.low:.4g} … {expected.high:.4g}"
    if bad.count("down") * 2 >= len(bad):
        rule = "these look already normalized, and the network takes values as they were in calibration"
        got = f"{least:.4g} … {most:.4g}{looked}"
        levers = ("give raw values (images 0 … 255): the network does the rest",)
        return Diagnostic("E-DATA-NORMALIZED", name, rule, got, need, levers)
    rule = "the values lie far outside what calibration saw"
    got = f"{least:.4g} … {most:.4g}, {outside:.1%} outside{looked}"
    levers = ("scale the data as in calibration",)
    if least >= 0 and 128 < most <= 255:
        levers = ("these look like raw images: scale them as in calibration, or put normalization(...) into the model "
                  "script and optimize with raw images; bytes that are codes already go with --quantized",)  # fmt: skip
    return Diagnostic("E-DATA-RANGE", name, rule, got, need, levers)


def plausible_values(data: Mapping[str, Array], expected: Mapping[str, Expected], notes: Notes) -> dict[str, Array]:
    """Real values as a quantized network's executors take them: float32, or the codes that are the same numbers.

    What is implausible is noted.
    """
    result: dict[str, Array] = {}
    for name, array in data.items():
        q = expected[name].quantization
        problem = range_problem(name, array, expected[name])
        if problem is not None:
            notes.say(problem_text(problem))
        result[name] = array if array.dtype == q.dtype and (q.scale, q.zero_point) == (1.0, 0) else as_values(array)
    return result


def _spread(values: Array) -> Array:
    """At most :data:`ELEMENTS` of the values, evenly spread, in float64."""
    step = -(-values.size // ELEMENTS)
    # An odd step meets every channel of two, three or four; a multiple of three would see one of three only.
    while step > 1 and (step % 2 == 0 or step % 3 == 0):
        step += 1
    return values[::step].astype(np.float64)


def _verdict(x: Array, low: float, high: float) -> str | None:
    """``"down"`` (scaled down), ``"outside"``, ``""`` (plausible), None (says nothing about scaling)."""
    span, step = high - low, (high - low) / 255.0
    if not span > 0.0:
        return None
    spread = float(x.max() - x.min())
    if spread < step / 2:
        # A constant frame: black is ordinary, a constant that is far from everything calibrated is not.
        return "outside" if x[0] < low - span / 2 or x[0] > high + span / 2 else None
    variance = float(x.var())
    clipped = np.clip(x, low, high)
    beyond = x - clipped
    if float(beyond.var()) > CLIPPED * variance and float(np.sqrt(np.square(beyond).mean())) > BEYOND * span:
        return "outside"
    kept = low + np.rint((clipped - low) / step) * step
    if float(np.abs(x).max()) < NEAR_ZERO * span and float((x - kept).var()) > LOST * variance:
        return "down"
    return ""
