# SPDX-License-Identifier: Apache-2.0
"""Float primitives on torch: float32 tensors of shape N,H,W,C or N,C (see :class:`headrace.numerics.ops.FloatOps`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows)

from headrace.emulator.constants import ConstantCache
from headrace.emulator.tensors import tensor_of
from headrace.hn import Array


def to_nchw(x: torch.Tensor) -> torch.Tensor:
    """A view of an NHWC tensor as NCHW (channels_last in memory)."""
    return x.permute(0, 3, 1, 2)


def to_nhwc(x: torch.Tensor) -> torch.Tensor:
    """A view of an NCHW tensor as NHWC."""
    return x.permute(0, 2, 3, 1)


def pad_hw(x: torch.Tensor, padding: Sequence[int], value: float) -> torch.Tensor:
    """Pad an NHWC tensor by (top, left, bottom, right); no copy when nothing is padded."""
    top, left, bottom, right = padding
    if not any(padding):
        return x
    return F.pad(x, (0, 0, left, right, top, bottom), value=value)


def symmetric(padding: Sequence[int]) -> tuple[int, int] | None:
    """(height, width) padding when both sides are equal, else ``None``."""
    top, left, bottom, right = padding
    return (top, left) if top == bottom and left == right else None


class TorchMoves:
    """What moves values without changing them: the same for reals and for codes."""

    def concat(self, xs: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
        return torch.cat(list(xs), dim=axis)

    def depth_to_space(self, x: torch.Tensor, block: int, blocks_first: bool) -> torch.Tensor:
        return depth_to_space(x, block, blocks_first)

    def space_to_depth(self, x: torch.Tensor, block: int, blocks_first: bool) -> torch.Tensor:
        return space_to_depth(x, block, blocks_first)

    def gather(self, x: torch.Tensor, rows: Array, columns: Array) -> torch.Tensor:
        return gather_rows_columns(x, rows, columns)

    def slice(self, x: torch.Tensor, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
        return slice_axes(x, starts, steps, sizes)

    def pad(self, x: torch.Tensor, before: Sequence[int], after: Sequence[int], value: float) -> torch.Tensor:
        return pad_axes(x, before, after, value)

    def transpose(self, x: torch.Tensor, permutation: Sequence[int]) -> torch.Tensor:
        return x.permute(0, *(p + 1 for p in permutation))

    def reshape(self, x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return x.reshape(x.shape[0], *shape)


class TorchFloatOps(TorchMoves):
    """Implements :class:`headrace.numerics.ops.FloatOps` for torch tensors."""

    def __init__(self) -> None:
        self._constants = ConstantCache()

    def _kernel(self, kernel: Array) -> torch.Tensor:
        def prepare() -> torch.Tensor:
            oihw = tensor_of(kernel.astype("float32", copy=True)).permute(3, 2, 0, 1)
            return oihw.contiguous(memory_format=torch.channels_last)

        return self._constants.get(kernel, "oihw", prepare)

    def _vector(self, value: Array | None) -> torch.Tensor | None:
        if value is None:
            return None
        return self._constants.get(value, "float32", lambda: tensor_of(value.astype("float32", copy=True)))

    def convolve(
        self,
        x: torch.Tensor,
        kernel: Array,
        bias: Array | None,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> torch.Tensor:
        even = symmetric(padding)
        source = x if even is not None else pad_hw(x, padding, 0.0)
        y = F.conv2d(
            to_nchw(source),
            self._kernel(kernel),
            self._vector(bias),
            stride=tuple(strides),
            padding=even or (0, 0),
            dilation=tuple(dilations),
            groups=groups,
        )
        return to_nhwc(y)

    def dense(self, x: torch.Tensor, kernel: Array, bias: Array | None) -> torch.Tensor:
        weights = self._constants.get(kernel, "dense", lambda: tensor_of(kernel.astype("float32", copy=True)))
        y = torch.matmul(x, weights)
        offset = self._vector(bias)
        return y if offset is None else y + offset

    def constant(self, value: Array, like: torch.Tensor) -> torch.Tensor:
        return tensor_of(value.astype("float32", copy=True)).to(like.device)

    def add(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b

    def subtract(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - b

    def multiply(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a * b

    def affine(self, x: torch.Tensor, scale: float, offset: float) -> torch.Tensor:
        return x * scale + offset

    def clip(self, x: torch.Tensor, low: float | None, high: float | None) -> torch.Tensor:
        return x if low is None and high is None else torch.clamp(x, low, high)

    def where_negative(self, x: torch.Tensor, if_negative: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        return torch.where(x < 0, if_negative, otherwise)

    def floor(self, x: torch.Tensor) -> torch.Tensor:
        return torch.floor(x)

    def round(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    def exp(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x)

    def log(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x)

    def sqrt(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(x)

    def erf(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erf(x)

    def sin(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)

    def sigmoid(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)

    def tanh(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    def reciprocal(self, x: torch.Tensor) -> torch.Tensor:
        return torch.reciprocal(x)

    def window_mean(
        self,
        x: torch.Tensor,
        *,
        window: Sequence[int],
        strides: Sequence[int],
        padding: Sequence[int],
        count_padding: bool,
    ) -> torch.Tensor:
        if tuple(window) == tuple(x.shape[1:3]) and not any(padding):
            return x.mean(dim=(1, 2), keepdim=True)
        even = symmetric(padding)
        if even is not None and all(2 * p <= w for p, w in zip(even, window, strict=True)):
            return to_nhwc(
                F.avg_pool2d(to_nchw(x), tuple(window), tuple(strides), padding=even, count_include_pad=count_padding)
            )

        def pool(value: torch.Tensor) -> torch.Tensor:
            return to_nhwc(
                F.avg_pool2d(to_nchw(pad_hw(value, padding, 0.0)), tuple(window), tuple(strides), divisor_override=1)
            )

        area = float(window[0] * window[1])
        return pool(x) / (area if count_padding else pool(torch.ones_like(x[:1, :, :, :1])))

    def window_max(
        self, x: torch.Tensor, *, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
    ) -> torch.Tensor:
        padded = pad_hw(x, padding, float("-inf"))
        return to_nhwc(F.max_pool2d(to_nchw(padded), tuple(window), tuple(strides)))

    def reduce_max(self, x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return torch.amax(x, dim=tuple(axes), keepdim=True)

    def reduce_sum(self, x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return torch.sum(x, dim=tuple(axes), keepdim=True)

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=-1)

    def matmul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)

    def interpolate(self, x: torch.Tensor, rows: tuple[Array, Array], columns: tuple[Array, Array]) -> torch.Tensor:
        return interpolate_rows_columns(x, rows, columns)


def depth_to_space(x: torch.Tensor, block: int, blocks_first: bool) -> torch.Tensor:
    n, h, w, c = x.shape
    small = c // (block * block)
    if blocks_first:
        parts = x.reshape(n, h, w, block, block, small).permute(0, 1, 3, 2, 4, 5)
    else:
        parts = x.reshape(n, h, w, small, block, block).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, h * block, w * block, small)


def space_to_depth(x: torch.Tensor, block: int, blocks_first: bool) -> torch.Tensor:
    n, h, w, c = x.shape
    parts = x.reshape(n, h // block, block, w // block, block, c)
    order = (0, 1, 3, 2, 4, 5) if blocks_first else (0, 1, 3, 5, 2, 4)
    return parts.permute(order).reshape(n, h // block, w // block, c * block * block)


def gather_rows_columns(x: torch.Tensor, rows: Array, columns: Array) -> torch.Tensor:
    """``y[i, j] = x[rows[i], columns[j]]`` on height and width."""
    return x.index_select(1, tensor_of(rows)).index_select(2, tensor_of(columns))


def interpolate_rows_columns(x: torch.Tensor, rows: tuple[Array, Array], columns: tuple[Array, Array]) -> torch.Tensor:
    """Two neighbours per axis, rows first; coefficients are taken in the type of ``x``."""
    for axis, (indices, coefficients) in ((1, rows), (2, columns)):
        shape = [1] * x.ndim
        shape[axis] = -1
        parts = [
            x.index_select(axis, tensor_of(np.ascontiguousarray(indices[:, k])))
            * tensor_of(np.ascontiguousarray(coefficients[:, k])).to(x.dtype).reshape(shape)
            for k in range(2)
        ]
        x = parts[0] + parts[1]
    return x


def slice_axes(x: torch.Tensor, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """A view: per non-batch axis ``size`` elements from ``start`` in steps of ``step``."""
    cut = tuple(slice(b, b + (n - 1) * d + 1, d) for b, d, n in zip(starts, steps, sizes, strict=True))
    return x[(slice(None), *cut)]


def pad_axes(x: torch.Tensor, before: Sequence[int], after: Sequence[int], value: float) -> torch.Tensor:
    """Pad every non-batch axis with one value."""
    widths: list[int] = []
    for low, high in zip(reversed(before), reversed(after), strict=True):
        widths += [low, high]
    return F.pad(x, widths, value=value)
