# SPDX-License-Identifier: Apache-2.0
"""The vocabulary in which layers state their integer meaning.

An executor passes an implementation of :class:`IntegerOps`: numpy int64 (:mod:`headrace.numerics.reference`, the
oracle) or torch (:mod:`headrace.emulator`). Activation tensors are codes of shape N,H,W,C or N,C; accumulators are
integers of the same shapes. Windows, strides and dilations are (height, width); padding is (top, left, bottom, right).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from headrace.numerics.requantize import Array, Requantization

T = TypeVar("T")


class IntegerOps(Protocol[T]):
    """Exact integer primitives (docs/numerics.md). ``T`` is the executor's tensor type."""

    def convolve(
        self,
        x: T,
        x_zero: int,
        kernel: Array,
        bias: Array,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> T:
        """``bias + Σ (x - x_zero)·w``; kernel int8 ``[kh, kw, cin/groups, cout]``, bias int32; padding adds 0."""
        ...

    def dense(self, x: T, x_zero: int, kernel: Array, bias: Array) -> T:
        """``bias + Σ (x - x_zero)·w``; x ``[N, cin]``, kernel int8 ``[cin, cout]``."""
        ...

    def center(self, x: T, zero: int) -> T:
        """``x - zero`` as an accumulator."""
        ...

    def multiply(self, a: T, b: T) -> T:
        """Product of two accumulators, broadcast over H, W and C."""
        ...

    def window_sum(
        self, x: T, x_zero: int, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
    ) -> T:
        """``Σ (x - x_zero)`` over the covered positions of each window."""
        ...

    def window_max(self, x: T, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]) -> T:
        """Largest code among the covered positions of each window."""
        ...

    def reduce_max(self, x: T, axes: Sequence[int]) -> T:
        """Largest code over ``axes`` (kept with size 1)."""
        ...

    def reduce_sum(self, x: T, x_zero: int, axes: Sequence[int]) -> T:
        """``Σ (x - x_zero)`` over ``axes`` (kept with size 1)."""
        ...

    def requantize(self, terms: Sequence[T], rq: Requantization, bits: int) -> T:
        """Requantise and, where ``rq.table`` is present, look up; gives codes of ``bits`` bits.

        ``rq.multipliers`` has one channel or as many as the last axis.
        """
        ...

    def requantize_by_position(self, total: T, choice: Array, rq: Requantization, bits: int) -> T:
        """As :meth:`requantize` with one term; ``choice`` ``[H, W]`` gives the column of ``rq`` for each position."""
        ...

    def reciprocal(self, v: T, table: Array, rq: Requantization, bits: int) -> T:
        """Normalised look-up of ``max(1, v)`` (docs/numerics.md, section 7)."""
        ...

    def concat(self, xs: Sequence[T], axis: int) -> T: ...

    def slice(self, x: T, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> T:
        """Per non-batch axis: ``size`` elements from ``start`` in steps of ``step``."""
        ...

    def pad(self, x: T, before: Sequence[int], after: Sequence[int], value: int) -> T: ...

    def transpose(self, x: T, permutation: Sequence[int]) -> T:
        """``permutation`` is of the non-batch axes, from 0."""
        ...

    def depth_to_space(self, x: T, block: int, blocks_first: bool) -> T:
        """``[H, W, b·b·C]`` to ``[H·b, W·b, C]``; channels count (block row, block column, c) or (c, row, column)."""
        ...

    def space_to_depth(self, x: T, block: int, blocks_first: bool) -> T:
        """The inverse of :meth:`depth_to_space`."""
        ...

    def gather(self, x: T, rows: Array, columns: Array) -> T:
        """``y[i, j] = x[rows[i], columns[j]]`` on height and width; index arrays are int64."""
        ...

    def interpolate(self, x: T, x_zero: int, rows: tuple[Array, Array], columns: tuple[Array, Array]) -> T:
        """``Σ (x - x_zero)·c_h·c_w`` of four neighbours; per axis (indices, coefficients), int64 ``[output, 2]``."""
        ...

    def reshape(self, x: T, shape: Sequence[int]) -> T:
        """``shape`` without the batch."""
        ...


class FloatOps(Protocol[T]):
    """Float primitives; same conventions. Shapes of parameters as in :class:`IntegerOps`, values float32."""

    def convolve(
        self,
        x: T,
        kernel: Array,
        bias: Array | None,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> T: ...
    def dense(self, x: T, kernel: Array, bias: Array | None) -> T: ...
    def constant(self, value: Array, like: T) -> T: ...
    def add(self, a: T, b: T) -> T: ...
    def subtract(self, a: T, b: T) -> T: ...
    def multiply(self, a: T, b: T) -> T: ...
    def affine(self, x: T, scale: float, offset: float) -> T: ...
    def clip(self, x: T, low: float | None, high: float | None) -> T: ...
    def where_negative(self, x: T, if_negative: T, otherwise: T) -> T: ...
    def exp(self, x: T) -> T: ...
    def sigmoid(self, x: T) -> T: ...
    def tanh(self, x: T) -> T: ...
    def reciprocal(self, x: T) -> T: ...
    def window_mean(
        self, x: T, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int], count_padding: bool
    ) -> T: ...
    def window_max(self, x: T, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]) -> T: ...
    def reduce_max(self, x: T, axes: Sequence[int]) -> T: ...
    def reduce_sum(self, x: T, axes: Sequence[int]) -> T: ...
    def softmax(self, x: T) -> T: ...
    def concat(self, xs: Sequence[T], axis: int) -> T: ...
    def slice(self, x: T, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> T: ...
    def pad(self, x: T, before: Sequence[int], after: Sequence[int], value: float) -> T: ...
    def transpose(self, x: T, permutation: Sequence[int]) -> T: ...
    def depth_to_space(self, x: T, block: int, blocks_first: bool) -> T: ...
    def space_to_depth(self, x: T, block: int, blocks_first: bool) -> T: ...
    def gather(self, x: T, rows: Array, columns: Array) -> T: ...
    def interpolate(self, x: T, rows: tuple[Array, Array], columns: tuple[Array, Array]) -> T: ...
    def reshape(self, x: T, shape: Sequence[int]) -> T: ...


AnyTensor = Any
