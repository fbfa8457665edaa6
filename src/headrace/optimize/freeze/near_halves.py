# SPDX-License-Identifier: Apache-2.0
"""Multipliers of layers whose codes a file states: where its runtime rounds a result that is nearly half a code.

The kernels behind LiteRT (XNNPACK) and onnxruntime (MLAS) multiply an accumulator by a float32 ratio and round to even;
the product is rounded to 24 bits first, so a result within 2^-24 of a half is one for them. The device's multiplier has
31 bits, of which the last few are free: among those next to the ratio one is taken that puts the most of such
accumulators on the runtime's side. One accumulator can be frequent (a channel's constant border), so one in ten
thousand is worth it: a deep network multiplies differences.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headrace.hn import Array
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import FLOAT64_LIMIT, MAX_MULTIPLIER, Requantization

#: How far a multiplier may move, as a part of itself: a float32 ratio of three rounded factors is no nearer.
_FREEDOM = 2.0**-22


def float32_ratio(x: TensorQuantization, steps: Array, output: TensorQuantization) -> Array:
    """float32 ``[channels]``: the ratio as those kernels compute it, ``x · w / y`` in float32."""
    return np.float32(x.scale) * steps.astype(np.float32) / np.float32(output.scale)


def on_the_runtimes_side(rq: Requantization, ratios: Array, bounds: Array, channels: Array) -> Requantization:
    """The same requantization with multipliers that agree with float32 ratios for more accumulators.

    Args:
        rq: of one term, without a table.
        ratios: float32 ``[channels]``.
        bounds: int64 ``[channels]``, the largest \\|accumulator\\|.
        channels: bool ``[channels]``, those that may change.
    """
    if rq.multipliers.shape[0] != 1 or rq.table is not None:
        return rq
    channels = channels & np.isfinite(ratios) & (ratios > 0)
    # Results k and k + 1 part at k + ½; one accumulator at most is near enough to that.
    parts = np.arange(rq.low - rq.zero, rq.high - rq.zero, dtype=np.int64) + 1
    chosen = rq.multipliers[0].copy()
    for c in np.flatnonzero(channels):
        m, shift, bound = int(rq.multipliers[0, c]), int(rq.shifts[c]), int(bounds[c])
        if m <= 0:
            continue
        near = np.rint((parts - 0.5) / np.float64(ratios[c]))
        seen = (np.abs(near) <= bound) & (np.abs(near) < 2.0**24) & (near != 0)
        accumulators, above = near[seen].astype(np.int64), parts[seen]
        wanted = np.rint(accumulators.astype(np.float32) * ratios[c]).astype(np.int64) >= above
        chosen[c] = _multiplier(m, shift, bound, accumulators, above, wanted)
    return rq if np.array_equal(chosen, rq.multipliers[0]) else replace(rq, multipliers=chosen[None])


def _multiplier(m: int, shift: int, bound: int, accumulators: Array, above: Array, wanted: Array) -> int:
    """The multiplier near ``m`` with which ``(a·M + 2^(s-1)) >> s ≥ k`` holds for ``wanted`` most often."""
    if np.array_equal(_reaches(m, shift, accumulators, above), wanted):
        return m
    # The multipliers at which an accumulator changes sides: (2k - 1)·2^(s-1) / a. Only those within reach matter.
    turns = (above - 0.5) * 2.0**shift / accumulators
    freedom = m * _FREEDOM
    near = np.abs(turns - m) <= freedom + 2
    accumulators, above, wanted = accumulators[near], above[near], wanted[near]
    places = {m, *(int(turn) + step for turn in turns[near] for step in (-1, 0, 1, 2))}
    half, best = 1 << (shift - 1), (len(wanted) + 1, 0, m)
    for place in places:
        exact = bound * place + half < FLOAT64_LIMIT or bound * m + half >= FLOAT64_LIMIT
        if abs(place - m) <= freedom and place <= MAX_MULTIPLIER and exact:
            count = int(np.count_nonzero(_reaches(place, shift, accumulators, above) != wanted))
            best = min(best, (count, abs(place - m), place))
    return best[2]


def _reaches(m: int, shift: int, accumulators: Array, above: Array) -> Array:
    """Whether results are at least ``above``, exactly: below 2^55 and 2^62."""
    return ((accumulators * m + (1 << (shift - 1))) >> shift) >= above


__all__ = ["float32_ratio", "on_the_runtimes_side"]
