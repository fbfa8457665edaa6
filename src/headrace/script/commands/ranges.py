# SPDX-License-Identifier: Apache-2.0
"""The range of a layer's output, as a command gives it."""

from __future__ import annotations

import math

from headrace.script.forms import Resolving

CLIPPING_MODES = ("percentile", "percentile_force", "manual", "disabled")
WHOLE_RANGE = (0.0, 100.0)  # per cent


def range_of(
    resolving: Resolving, mode: str, key: str, numbers: tuple[float, ...] | None
) -> tuple[float, float] | None:
    """(low, high): per cent, or reals for ``manual``; None, with a problem noted, where the numbers make no range.

    Args:
        resolving: takes the problem.
        mode: one of :data:`CLIPPING_MODES`.
        key: of the argument.
        numbers: as read; None: it is not given, which only ``manual`` needs.
    """
    if mode == "disabled":
        return WHOLE_RANGE
    if numbers is None and mode != "manual":
        return (0.01, 99.99)
    low, high = numbers if numbers is not None and len(numbers) == 2 else (math.nan, math.nan)
    fits, need = math.isfinite(low) and math.isfinite(high) and low < high, "[low, high] with low < high"
    if mode != "manual":
        fits, need = fits and low >= 0 and high <= 100, "[low, high] per cent, 0 ≤ low < high ≤ 100"
    if fits:
        return (low, high)
    resolving.bad(f"the {key} do not make a range for mode={mode}", need, key)
    return None
