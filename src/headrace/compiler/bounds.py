# SPDX-License-Identifier: Apache-2.0
"""Proof that no accumulator and no requantised sum of a kernel can overflow.

``optimize`` chooses its integers so that this holds; a quantised network that was edited or damaged may break it. The
device proves the same at load; here the layer is named while it can still be mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from headrace.compiler.lower import Kernel
from headrace.errors import Diagnostic
from headrace.hef.microcode import Opcode
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import INT64_LIMIT, MAX_MULTIPLIER, MAX_SHIFT

ACCUMULATOR_LIMIT = 2**31
Shape = tuple[int, int, int]
Tensors = Mapping[str, tuple[Shape, TensorQuantization]]


def check_bounds(kernel: Kernel, tensors: Tensors) -> list[Diagnostic]:
    """Every broken bound of one kernel.

    Args:
        kernel: lowered.
        tensors: shape and quantisation of each tensor it reads.
    """
    if "multiplier_offset" not in kernel.constants:
        return []
    multipliers = np.abs(kernel.constants["multiplier_offset"].astype(np.int64))
    shifts = kernel.constants["shift_offset"].astype(np.int64)
    terms = _accumulators(kernel, tensors, multipliers.shape[1])
    if len(kernel.inputs) == 1 and multipliers.shape[0] == 2:
        terms = [terms[0], terms[0]]  # the second is the negative part of the first
    found: list[Diagnostic] = []
    if "weight_offset" in kernel.constants and max(terms[0]) >= ACCUMULATOR_LIMIT:
        found.append(_problem(kernel, "an accumulator may not fit 32 bits", max(terms[0]), "< 2^31"))
    if int(multipliers.max()) > MAX_MULTIPLIER:
        found.append(_problem(kernel, "a multiplier is out of range", int(multipliers.max()), "|M| ≤ 2^31 − 1"))
    extra = _exponent(kernel, tensors)
    for c, shift in enumerate(shifts.tolist()):
        # Python integers: the sums that would overflow are the ones looked for.
        total = sum(int(m[c]) * a[c] for m, a in zip(multipliers, terms, strict=True)) + (1 << (shift + extra - 1))
        if total >= INT64_LIMIT or shift + extra > MAX_SHIFT:
            need = "|Σ a·M| + 2^(s−1) < 2^62, shifts of at most 62"
            found.append(_problem(kernel, f"the requantised sum of channel {c} may overflow", total, need))
            break
    return found


def _problem(kernel: Kernel, rule: str, got: object, need: str) -> Diagnostic:
    return Diagnostic("E-COMPILE-BOUND", kernel.name, rule, str(got), need, ("run optimize again",))


def _accumulators(kernel: Kernel, tensors: Tensors, columns: int) -> list[list[int]]:
    """Largest \\|a\\| of each term, per column of the multipliers."""
    reach = [tensors[name][1].magnitude for name in kernel.inputs]
    if kernel.opcode in (Opcode.CONVOLUTION, Opcode.DEPTHWISE):
        weights = np.abs(kernel.constants["weight_offset"].astype(np.int16))
        outside = (1, 2, 3) if kernel.opcode == Opcode.CONVOLUTION else (0, 1)
        bias = np.abs(kernel.constants["bias_offset"].astype(np.int64))
        bounds = weights.sum(axis=outside, dtype=np.int64) * reach[0] + bias
        first = bounds.tolist() if columns == bounds.size else [int(bounds.max())] * columns
        return [first, *([r] * columns for r in reach[1:])]
    if kernel.opcode == Opcode.ELEMENTWISE_MULTIPLY:
        return [[reach[0] * reach[1]] * columns]
    if kernel.opcode == Opcode.RESIZE_BILINEAR:
        return [[reach[0] << 22] * columns]  # coefficients of 11 bits per axis
    if kernel.opcode == Opcode.POOL_SUM:
        return [[int(count) * reach[0] for count in kernel.constants["count_offset"]]]
    if kernel.opcode == Opcode.REDUCE_SUM_RECIPROCAL:
        return [[int(kernel.constants["table_offset"].max())] * columns]
    return [[r] * columns for r in reach]


def _exponent(kernel: Kernel, tensors: Tensors) -> int:
    """What a normalised look-up may add to the shift: the exponent of the largest sum."""
    if kernel.opcode != Opcode.REDUCE_SUM_RECIPROCAL:
        return 0
    shape, quantization = tensors[kernel.inputs[0]]
    mask = kernel.fields["axis_mask"]
    count = prod(size for axis, size in enumerate(shape) if mask >> axis & 1)
    return max(1, count * quantization.magnitude).bit_length() - 1
