# SPDX-License-Identifier: Apache-2.0
"""The oracle: every integer primitive in numpy int64, written to be read, not to be fast (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.numerics.array import Array
from headrace.numerics.forms import bilinear
from headrace.numerics.geometry import window_output
from headrace.numerics.requantize import Requantization


def _wide(x: Array) -> Array:
    return x.astype(np.int64)


def _windows(
    x: Array, window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int, Array]]:
    """(row, column, strided view ``[N, Ho, Wo, C]``) for each window position of an already padded tensor."""
    height = window_output(x.shape[1], window[0], strides[0], 0, 0, dilations[0])
    width = window_output(x.shape[2], window[1], strides[1], 0, 0, dilations[1])
    views: list[tuple[int, int, Array]] = []
    for i in range(window[0]):
        for j in range(window[1]):
            top, left = i * dilations[0], j * dilations[1]
            rows = slice(top, top + (height - 1) * strides[0] + 1, strides[0])
            columns = slice(left, left + (width - 1) * strides[1] + 1, strides[1])
            views.append((i, j, x[:, rows, columns, :]))
    return views


def _pad_hw(x: Array, padding: Sequence[int], value: int) -> Array:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


class ReferenceOps:
    """Implements :class:`headrace.numerics.ops.IntegerOps` for numpy arrays; accumulators are int64."""

    def convolve(
        self,
        x: Array,
        x_zero: int,
        kernel: Array,
        bias: Array,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Array:
        centered = _pad_hw(_wide(x) - x_zero, padding, 0)
        kernel_height, kernel_width, inputs, outputs = kernel.shape
        per_group = outputs // groups
        weights = _wide(kernel)
        total: Array | None = None
        for i, j, view in _windows(centered, (kernel_height, kernel_width), strides, dilations):
            parts = [
                np.matmul(
                    view[..., g * inputs : (g + 1) * inputs], weights[i, j, :, g * per_group : (g + 1) * per_group]
                )
                for g in range(groups)
            ]
            part = np.concatenate(parts, axis=-1)
            total = part if total is None else total + part
        assert total is not None
        return total + _wide(bias)

    def dense(self, x: Array, x_zero: int, kernel: Array, bias: Array) -> Array:
        return np.matmul(_wide(x) - x_zero, _wide(kernel)) + _wide(bias)

    def center(self, x: Array, zero: int) -> Array:
        return _wide(x) - zero

    def negative_part(self, a: Array) -> Array:
        return np.minimum(_wide(a), 0)

    def multiply(self, a: Array, b: Array) -> Array:
        return _wide(a) * _wide(b)

    def window_sum(
        self, x: Array, x_zero: int, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
    ) -> Array:
        centered = _pad_hw(_wide(x) - x_zero, padding, 0)
        return np.sum([view for _, _, view in _windows(centered, window, strides, (1, 1))], axis=0)

    def window_max(self, x: Array, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]) -> Array:
        padded = _pad_hw(_wide(x), padding, -1)
        return np.max([view for _, _, view in _windows(padded, window, strides, (1, 1))], axis=0).astype(x.dtype)

    def reduce_max(self, x: Array, axes: Sequence[int]) -> Array:
        return x.max(axis=tuple(axes), keepdims=True)

    def reduce_sum(self, x: Array, x_zero: int, axes: Sequence[int]) -> Array:
        return (_wide(x) - x_zero).sum(axis=tuple(axes), keepdims=True)

    def _scale(self, terms: Sequence[Array], multipliers: Array, shifts: Array, rq: Requantization, bits: int) -> Array:
        total = sum((_wide(a) * m for a, m in zip(terms, multipliers, strict=True)), np.int64(1) << (shifts - 1))
        value = np.clip(rq.zero + (total >> shifts), rq.low, rq.high)
        return rq.codes(value, bits)

    def requantize(self, terms: Sequence[Array], rq: Requantization, bits: int) -> Array:
        return self._scale(terms, _wide(rq.multipliers), _wide(rq.shifts), rq, bits)

    def requantize_by_position(self, total: Array, choice: Array, rq: Requantization, bits: int) -> Array:
        index = choice[None, :, :, None]
        return self._scale([total], _wide(rq.multipliers[0])[index][None], _wide(rq.shifts)[index], rq, bits)

    def reciprocal(self, v: Array, table: Array, rq: Requantization, bits: int) -> Array:
        value = np.maximum(_wide(v), 1)
        exponent = np.zeros_like(value)
        for step in (32, 16, 8, 4, 2, 1):
            large = value >> exponent >= np.int64(1) << step
            exponent = np.where(large, exponent + step, exponent)
        index_bits = int(table.size - 1).bit_length()
        index = ((value - (np.int64(1) << exponent)) << index_bits) >> exponent
        shift = int(rq.shifts[0]) + exponent
        total = _wide(table)[index] * int(rq.multipliers[0, 0]) + (np.int64(1) << (shift - 1))
        return np.clip(rq.zero + (total >> shift), rq.low, rq.high).astype(np.uint8 if bits == 8 else np.uint16)

    def depth_to_space(self, x: Array, block: int, blocks_first: bool) -> Array:
        n, h, w, c = x.shape
        small = c // (block * block)
        if blocks_first:
            parts = x.reshape(n, h, w, block, block, small).transpose(0, 1, 3, 2, 4, 5)
        else:
            parts = x.reshape(n, h, w, small, block, block).transpose(0, 1, 4, 2, 5, 3)
        return parts.reshape(n, h * block, w * block, small)

    def space_to_depth(self, x: Array, block: int, blocks_first: bool) -> Array:
        n, h, w, c = x.shape
        parts = x.reshape(n, h // block, block, w // block, block, c)
        order = (0, 1, 3, 2, 4, 5) if blocks_first else (0, 1, 3, 5, 2, 4)
        return parts.transpose(order).reshape(n, h // block, w // block, c * block * block)

    def gather(self, x: Array, rows: Array, columns: Array) -> Array:
        return x[:, rows][:, :, columns]

    def interpolate(self, x: Array, x_zero: int, rows: tuple[Array, Array], columns: tuple[Array, Array]) -> Array:
        return bilinear(x, x_zero, rows, columns)

    def concat(self, xs: Sequence[Array], axis: int) -> Array:
        return np.concatenate(list(xs), axis=axis)

    def slice(self, x: Array, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> Array:
        cut = tuple(slice(b, b + (n - 1) * d + 1, d) for b, d, n in zip(starts, steps, sizes, strict=True))
        return x[(slice(None), *cut)]

    def pad(self, x: Array, before: Sequence[int], after: Sequence[int], value: int) -> Array:
        widths = [(0, 0), *zip(before, after, strict=True)]
        return np.pad(x, widths, constant_values=value)

    def transpose(self, x: Array, permutation: Sequence[int]) -> Array:
        return np.transpose(x, (0, *(p + 1 for p in permutation)))

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return np.ascontiguousarray(x).reshape(x.shape[0], *shape)
