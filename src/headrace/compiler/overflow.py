# SPDX-License-Identifier: Apache-2.0
"""Proof that no accumulator and no requantized sum of a kernel can overflow.

``optimize`` chooses its integers so that this holds; a quantized network that was edited or damaged may break it. The
device proves the same at load; here the layer is named while it can still be mended.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.errors import Diagnostic
from headrace.hef.kernel import Kernel, Role
from headrace.numerics.requantize import INT64_LIMIT, MAX_MULTIPLIER, MAX_SHIFT

#: Of sums of products of 8-bit codes; where an operand has 16 bits sums have 64.
ACCUMULATOR_LIMIT = 2**31
WIDE_LIMIT = 2**62


def check_bounds(
    kernel: Kernel, accumulators: Sequence[Sequence[int]], exponent: int = 0, limit: int = ACCUMULATOR_LIMIT
) -> list[Diagnostic]:
    """Every broken bound of one kernel that requantizes.

    Args:
        kernel: lowered.
        accumulators: largest \\|a\\| of each term, for all columns of the multipliers or for each of several; the
            negative part of a single term reaches as far as the term.
        exponent: the most that the primitive adds to the shift.
        limit: of sums of products.
    """
    multipliers = np.abs(kernel.array(Role.MULTIPLIERS).astype(np.int64))
    shifts = kernel.array(Role.SHIFTS).astype(np.int64)
    terms = [_per_column(a, shifts.size) for a in accumulators]
    if len(terms) == 1 and multipliers.shape[0] == 2:
        terms = [terms[0], terms[0]]
    found: list[Diagnostic] = []
    if any(c.role is Role.WEIGHTS for c in kernel.own) and max(terms[0]) >= limit:
        found.append(_problem(kernel, "an accumulator may not fit", max(terms[0]), f"< 2^{limit.bit_length() - 1}"))
    if int(multipliers.max()) > MAX_MULTIPLIER:
        found.append(_problem(kernel, "a multiplier is out of range", int(multipliers.max()), "|M| ≤ 2^31 − 1"))
    for c, shift in enumerate(shifts.tolist()):
        # Python integers: the sums that would overflow are the ones looked for.
        total = sum(int(m[c]) * a[c] for m, a in zip(multipliers, terms, strict=True)) + (1 << (shift + exponent - 1))
        if total >= INT64_LIMIT or shift + exponent > MAX_SHIFT:
            need = "|Σ a·M| + 2^(s−1) < 2^62, shifts of at most 62"
            found.append(_problem(kernel, f"the requantized sum of channel {c} may overflow", total, need))
            break
    return found


def _per_column(largest: Sequence[int], columns: int) -> Sequence[int]:
    return largest if len(largest) == columns else [max(largest)] * columns


def _problem(kernel: Kernel, rule: str, got: object, need: str) -> Diagnostic:
    return Diagnostic("E-COMPILE-BOUND", kernel.name, rule, str(got), need, ("run optimize again",))
