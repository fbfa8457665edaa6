# SPDX-License-Identifier: Apache-2.0
"""Integer primitives on torch, exact and fast (see :class:`headrace.numerics.ops.IntegerOps`).

Codes are uint8, or int32 for 16-bit codes; accumulators are :class:`headrace.emulator.scaling.Accumulator`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from headrace.emulator.constants import ConstantCache
from headrace.emulator.exact import FLOAT32_EXACT, FLOAT64_EXACT, check_backend, verify_convolution
from headrace.emulator.float_ops import (
    TorchMoves,
    interpolate_rows_columns,
    pad_hw,
    symmetric,
    to_nchw,
    to_nhwc,
)
from headrace.emulator.scaling import (
    NO_OFFSET,
    Accumulator,
    NegativePart,
    Product,
    Scratch,
    Term,
    apply_plan,
    code_dtype,
    make_plan,
)
from headrace.emulator.tensors import tensor_of
from headrace.hn import Array
from headrace.numerics.forms import BILINEAR_BITS
from headrace.numerics.requantize import Requantization


def _high(x: torch.Tensor) -> int:
    """The largest code a tensor's dtype stands for."""
    return 255 if x.dtype == torch.uint8 else 65535


def _reach(x: torch.Tensor, zero: int) -> int:
    return max(zero, _high(x) - zero)


def _every(x: torch.Tensor, axis: int, start: int, step: int, count: int) -> torch.Tensor:
    """A view of ``count`` positions along an axis, from ``start`` in steps."""
    index = [slice(None)] * x.dim()
    index[axis] = slice(start, start + (count - 1) * step + 1, step)
    return x[tuple(index)]


@dataclass
class ConvolutionSums:
    """What is known of a convolution's sums before any input is seen.

    Attributes:
        x_zero: what is still to be subtracted from the input's codes: 0 where the offset holds it.
        offset: int64 ``[channels]``, to be added to the sums.
        bound: float64 ``[channels]``, the largest magnitude of a sum.
        worst: the largest bound.
    """

    x_zero: int
    offset: Array
    bound: Array
    worst: float


def _convolution_sums(
    kernel: Array, bias: Array, x: torch.Tensor, x_zero: int, padding: Sequence[int]
) -> ConvolutionSums:
    wide = kernel.astype(np.int64)
    positive, negative = np.maximum(wide, 0).sum(axis=(0, 1, 2)), np.maximum(-wide, 0).sum(axis=(0, 1, 2))
    bound = (positive + negative).astype(np.float64) * _reach(x, x_zero)
    offset = bias.astype(np.int64)
    if x_zero and not any(padding):
        # Without padding Σ(x - zx)w = Σ x·w - zx·Σw, and centring costs no pass over the data. Taken where the
        # larger offset leaves the requantization its float64 form (at most one bit more than it was frozen for).
        folded = np.maximum(positive, negative).astype(np.float64) * _high(x)
        moved = offset - x_zero * (positive - negative)
        if np.all(folded + np.abs(moved) <= 2 * (bound + np.abs(offset))):
            bound, offset, x_zero = folded, moved, 0
    return ConvolutionSums(x_zero, offset, bound, float(bound.max(initial=0.0)))


class TorchIntegerOps(TorchMoves):
    """Implements :class:`headrace.numerics.ops.IntegerOps` for torch tensors.

    Args:
        backend: ``"onednn"`` or ``"matmul"``; ``None`` chooses for this machine.
        self_check: compare each convolution's first batch (of each shape) with int64 sums.
    """

    def __init__(self, backend: str | None = None, self_check: bool = True) -> None:
        self.backend = check_backend(backend)
        self.self_check = self_check
        self._constants = ConstantCache()
        self._scratch = Scratch()
        self._checked: set[tuple[int, tuple[int, ...]]] = set()

    # --- multiply-accumulate -------------------------------------------------------------------------------------

    def convolve(
        self,
        x: torch.Tensor,
        x_zero: int,
        kernel: Array,
        bias: Array,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Accumulator:
        key = ("sums", x_zero, x.dtype, any(padding), bias.tobytes())  # layers may share a kernel
        sums = self._constants.get(kernel, key, lambda: _convolution_sums(kernel, bias, x, x_zero, padding))
        x_zero, worst = sums.x_zero, sums.worst
        if worst < FLOAT32_EXACT and self.backend == "onednn":
            raw = self._convolve_float32(x, x_zero, kernel, strides, padding, dilations, groups)
        else:
            dtype = torch.float64 if worst < FLOAT64_EXACT else torch.int64
            raw = self._convolve_matmul(x, x_zero, kernel, strides, padding, dilations, groups, dtype)
        return Accumulator(raw, sums.offset, sums.bound)

    def _convolve_float32(
        self,
        x: torch.Tensor,
        x_zero: int,
        kernel: Array,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> torch.Tensor:
        def prepare() -> torch.Tensor:
            oihw = tensor_of(kernel.astype(np.float32)).permute(3, 2, 0, 1)
            return oihw.contiguous(memory_format=torch.channels_last)

        weights = self._constants.get(kernel, "float32", prepare)
        centered = self._scratch.get("centered", x.shape, torch.float32).copy_(x)
        if x_zero:
            centered.sub_(x_zero)
        even = symmetric(padding)
        source = centered if even is not None else pad_hw(centered, padding, 0.0)
        result = to_nhwc(
            F.conv2d(
                to_nchw(source),
                weights,
                None,
                stride=tuple(strides),
                padding=even or (0, 0),
                dilation=tuple(dilations),
                groups=groups,
            )
        )
        key = (id(kernel), tuple(x.shape))
        if self.self_check and key not in self._checked:
            padded = source if even is None else pad_hw(centered, padding, 0.0)
            verify_convolution(result, padded, kernel, strides, dilations, groups)
            self._checked.add(key)
        return result

    def _convolve_matmul(
        self,
        x: torch.Tensor,
        x_zero: int,
        kernel: Array,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        kh, kw, per_group, outputs = kernel.shape

        def prepare() -> torch.Tensor:
            shaped = kernel.reshape(kh * kw * per_group, groups, outputs // groups).transpose(1, 0, 2)
            return tensor_of(np.ascontiguousarray(shaped)).to(dtype)

        weights = self._constants.get(kernel, ("matmul", dtype), prepare)
        padded = pad_hw(x.to(dtype) - x_zero, padding, 0.0 if dtype.is_floating_point else 0)
        height = (padded.shape[1] - ((kh - 1) * dilations[0] + 1)) // strides[0] + 1
        width = (padded.shape[2] - ((kw - 1) * dilations[1] + 1)) // strides[1] + 1
        pieces: list[torch.Tensor] = []
        for frame in padded:  # one frame at a time bounds the memory of the unfolded patches
            s = frame.contiguous().stride()
            patches = frame.contiguous().as_strided(
                (height, width, groups, kh, kw, per_group),
                (s[0] * strides[0], s[1] * strides[1], per_group, s[0] * dilations[0], s[1] * dilations[1], 1),
            )
            rows = patches.permute(2, 0, 1, 3, 4, 5).reshape(groups, height * width, kh * kw * per_group)
            product = torch.matmul(rows, weights)  # [groups, pixels, outputs per group]
            pieces.append(product.permute(1, 0, 2).reshape(height, width, outputs))
        return torch.stack(pieces) if pieces else torch.zeros((0, height, width, outputs), dtype=dtype)

    def dense(self, x: torch.Tensor, x_zero: int, kernel: Array, bias: Array) -> Accumulator:
        magnitude = self._constants.get(kernel, "magnitude", lambda: np.abs(kernel.astype(np.int64)).sum(axis=0))
        bound = magnitude.astype(np.float64) * _reach(x, x_zero)
        dtype = torch.float64 if float(bound.max(initial=0.0)) < FLOAT64_EXACT else torch.int64
        weights = self._constants.get(kernel, ("dense", dtype), lambda: tensor_of(kernel.copy()).to(dtype))
        raw = torch.matmul(x.to(dtype) - x_zero, weights)
        return Accumulator(raw, bias.astype(np.int64), bound)

    # --- element-wise and reductions -----------------------------------------------------------------------------

    def center(self, x: torch.Tensor, zero: int) -> Accumulator:
        return Accumulator(x, np.asarray(-zero, np.int64), np.asarray(float(_high(x))))

    def negative_part(self, a: Accumulator) -> NegativePart:
        return NegativePart(a)

    def multiply(self, a: Accumulator, b: Accumulator) -> Product:
        return Product(a, b)

    def window_sum(
        self, x: torch.Tensor, x_zero: int, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
    ) -> Accumulator:
        bound = float(_reach(x, x_zero) * window[0] * window[1])
        if tuple(window) == tuple(x.shape[1:3]) and not any(padding):
            return self.reduce_sum(x, x_zero, (1, 2))
        dtype = torch.float32 if bound < FLOAT32_EXACT else torch.float64
        centered = pad_hw(x.to(dtype) - x_zero, padding, 0.0)
        # A divisor of one makes the average a sum: integers below 2^24 (2^53), added only, so exact.
        raw = to_nhwc(F.avg_pool2d(to_nchw(centered), tuple(window), tuple(strides), divisor_override=1))
        return Accumulator(raw, NO_OFFSET, np.asarray(bound))

    def window_max(
        self, x: torch.Tensor, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
    ) -> torch.Tensor:
        # Every window covers at least one position, and no code is below 0, so padding with 0 never wins. The maximum
        # is taken along rows, then along columns; torch's own max_pool2d refuses uint8 tensors of some sizes.
        result = pad_hw(x, padding, 0)
        for axis, (size, step) in enumerate(zip(window, strides, strict=True), start=1):
            count = (result.shape[axis] - size) // step + 1
            views = [_every(result, axis, offset, step, count) for offset in range(size)]
            result = views[0]
            for view in views[1:]:
                result = torch.maximum(result, view)
        return result

    def reduce_max(self, x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return torch.amax(x, dim=tuple(axes), keepdim=True)

    def reduce_sum(self, x: torch.Tensor, x_zero: int, axes: Sequence[int]) -> Accumulator:
        count = math.prod(x.shape[a] for a in axes)
        bound = float(_high(x) * count)
        # Below 2^24 every partial sum is exact in float32, in whatever order, and twice as fast as in int64.
        raw = x.sum(dim=tuple(axes), keepdim=True, dtype=torch.float32 if bound < FLOAT32_EXACT else torch.int64)
        return Accumulator(raw, np.asarray(-x_zero * count, np.int64), np.asarray(bound))

    # --- requantization ------------------------------------------------------------------------------------------

    def requantize(self, terms: Sequence[Term], rq: Requantization, bits: int) -> torch.Tensor:
        key = ("plan", *((t.offset.tobytes(), t.bound.tobytes()) for t in terms))
        plan = self._constants.get(rq, key, lambda: make_plan(rq, [(t.offset, t.bound) for t in terms]))
        return apply_plan(plan, terms, bits, self._scratch)

    def requantize_by_position(self, total: Accumulator, choice: Array, rq: Requantization, bits: int) -> torch.Tensor:
        key = ("position", choice.tobytes(), choice.shape, total.offset.tobytes(), total.bound.tobytes())
        plan = self._constants.get(rq, key, lambda: make_plan(rq, [(total.offset, total.bound)], choice))
        return apply_plan(plan, [total], bits, self._scratch)

    def reciprocal(self, v: Accumulator, table: Array, rq: Requantization, bits: int) -> torch.Tensor:
        value = v.centered().to(torch.int64).clamp_(min=1)
        # frexp of an integer below 2^53 is exact: value = m·2^e with 1/2 ≤ m < 1, so floor(log2) is e - 1.
        exponent = torch.frexp(value.to(torch.float64)).exponent.to(torch.int64) - 1
        index_bits = int(table.size - 1).bit_length()
        one = torch.ones_like(value)
        index = torch.bitwise_right_shift(
            torch.bitwise_left_shift(value - torch.bitwise_left_shift(one, exponent), index_bits), exponent
        )
        entries = self._constants.get(table, "int64", lambda: tensor_of(table.astype(np.int64)))
        shift = exponent + int(rq.shifts[0])
        total = entries[index] * int(rq.multipliers[0, 0]) + torch.bitwise_left_shift(one, shift - 1)
        result = torch.bitwise_right_shift(total, shift) + rq.zero
        return result.clamp_(rq.low, rq.high).to(code_dtype(bits))

    def interpolate(
        self, x: torch.Tensor, x_zero: int, rows: tuple[Array, Array], columns: tuple[Array, Array]
    ) -> Accumulator:
        # The coefficients of a position sum to 2^22: the zero point's part is one constant, 8-bit sums fit int32.
        wide = torch.int32 if _high(x) < 256 else torch.int64
        total = interpolate_rows_columns(x.to(wide), rows, columns)
        whole = 1 << (2 * BILINEAR_BITS)
        return Accumulator(total, np.asarray(-x_zero * whole, np.int64), np.asarray(float(_high(x) * whole)))


def to_codes(array: Array) -> torch.Tensor:
    """Codes (uint8 or uint16) as the tensor this module computes on."""
    if array.dtype == np.uint8:
        return tensor_of(np.ascontiguousarray(array)) if array.flags.writeable else tensor_of(array.copy())
    return tensor_of(array.astype(np.int32))


def from_codes(tensor: torch.Tensor) -> Array:
    """Codes as a contiguous numpy array, uint8 or uint16."""
    array: Any = tensor.contiguous().numpy()
    return array if array.dtype == np.uint8 else array.astype(np.uint16)
