# SPDX-License-Identifier: Apache-2.0
"""Resizing of height and width: nearest neighbour (codes pass) and bilinear (integer coefficients, one rounding).

Which input row an output row reads is fixed by the attributes alone, in float32 arithmetic as the formats' own run
times do it (ONNX operator Resize, attribute coordinate_transformation_mode): every machine gets the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.layers.attributes import AttributeRuleError
from headrace.layers.move import CodesPass
from headrace.layers.operation import Counts, Frozen, Operation, Parameter, QuantizedLayer, Shape, register
from headrace.layers.rows import RowCost, listed
from headrace.layers.shapes import need_rank
from headrace.numerics.forms import BILINEAR_BITS
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array

COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn")
# "simple" is that of ONNX operator set 10: floor where the axis grows, ceil where it shrinks.
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
MAX_SIZE = 1 << 16
COEFFICIENTS = ("row_coefficients", "column_coefficients")


@dataclass(frozen=True)
class _Resize(Operation):
    """sizes are the output's height and width; scales the factors per axis (0: output size / input size)."""

    prefix = "resize"

    sizes: tuple[int, int] = (1, 1)
    scales: tuple[float, float] = (0.0, 0.0)
    coordinates: str = "asymmetric"
    rounding: str = "floor"  # of nearest neighbours

    def __post_init__(self) -> None:
        if not all(1 <= s <= MAX_SIZE for s in self.sizes) or not all(0 <= s <= 65536 for s in self.scales):
            raise AttributeRuleError(
                "sizes or scales are out of range", self, f"sizes 1 … {MAX_SIZE}, scales 0 … 65536"
            )
        if self.coordinates not in COORDINATES or self.rounding not in ROUNDINGS:
            got = f"{self.coordinates}, {self.rounding}"
            raise AttributeRuleError("the mode is not known", got, ", ".join((*COORDINATES, *ROUNDINGS)))

    def positions(self, axis: int, size: int) -> Array:
        """float32 ``[output]``: the input coordinate of every output element along an axis (0 height, 1 width)."""
        output = self.sizes[axis]
        half = np.float32(0.5)
        x = np.arange(output, dtype=np.float32)
        scale = np.float32(self.scales[axis]) if self.scales[axis] else np.float32(output) / np.float32(size)
        if self.coordinates == "align_corners":
            if output == 1:
                return np.zeros(1, np.float32)
            return x * np.float32(size - 1) / np.float32(output - 1)
        if self.coordinates == "asymmetric":
            return x / scale
        if self.coordinates == "tf_half_pixel_for_nn":
            return (x + half) / scale
        if self.coordinates == "pytorch_half_pixel" and output == 1:
            return np.zeros(1, np.float32)
        return (x + half) / scale - half

    def nearest(self, axis: int, size: int) -> Array:
        """int64 ``[output]``: the input element that each output element copies; never decreasing."""
        if self.sizes[axis] == size and self.scales[axis] in (0.0, 1.0):
            return np.arange(size, dtype=np.int64)  # runtimes leave such an axis alone, whatever the rounding
        x = self.positions(axis, size)
        grows = self.scales[axis] >= 1 if self.scales[axis] else self.sizes[axis] >= size
        if self.rounding == "floor" or (self.rounding == "simple" and grows):
            index = np.floor(x)
        elif self.rounding in ("ceil", "simple"):
            index = np.ceil(x)
        elif self.rounding == "round_prefer_ceil":
            index = np.floor(x + np.float32(0.5))
        else:
            index = np.ceil(x - np.float32(0.5))
        return np.clip(index.astype(np.int64), 0, size - 1)

    def neighbours(self, axis: int, size: int) -> tuple[Array, Array]:
        """int64 ``[output, 2]`` input elements; float32 ``[output]``, the part of the second, 0 … 1."""
        x = np.clip(self.positions(axis, size), np.float32(0), np.float32(size - 1))
        first = np.minimum(np.floor(x).astype(np.int64), size - 1)
        second = np.minimum(first + 1, size - 1)
        return np.stack([first, second], 1), x - first.astype(np.float32)

    def fractions(self, axis: int, size: int) -> tuple[Array, Array]:
        """int64 ``[output, 2]`` input elements and float32 coefficients ``[output, 2]`` that sum to 1."""
        indices, part = self.neighbours(axis, size)
        return indices, np.stack([np.float32(1) - part, part], 1)

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        need_rank(shapes[0], 4, where)
        return (-1, *self.sizes, shapes[0][3])


@register
@dataclass(frozen=True)
class ResizeNearest(_Resize, CodesPass):
    """Copies of the nearest elements."""

    kind = "resize_nearest"
    description = "Resize height and width by copying the nearest element; codes pass."

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return listed([(int(row), int(row)) for row in self.nearest(0, shapes[0][1])])

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        x = inputs[0]
        return ops.gather(x, self.nearest(0, int(x.shape[1])), self.nearest(1, int(x.shape[2])))


@register
@dataclass(frozen=True)
class ResizeBilinear(_Resize):
    """Weighted means of the four neighbours."""

    kind = "resize_bilinear"
    channelwise = True
    passes_factors = True
    description = (
        "Resize height and width by bilinear interpolation; params (quantized): row_coefficients uint16 [H], "
        "column_coefficients uint16 [W], of the second neighbour, in 2^-11."
    )

    @property
    def keeps_constants(self) -> bool:
        return True

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        needed = {
            name: Parameter((size,), "uint16", most=1 << BILINEAR_BITS)
            for name, size in zip(COEFFICIENTS, self.sizes, strict=True)
        }
        return Frozen(needed, (1,), output[-1])

    def integers_of_attributes(self, shapes: Sequence[Shape]) -> dict[str, Array]:
        parts = (self.neighbours(axis, shapes[0][axis + 1])[1] for axis in (0, 1))
        whole = 1 << BILINEAR_BITS
        return {
            name: np.rint(part.astype(np.float64) * whole).astype(np.uint16)
            for name, part in zip(COEFFICIENTS, parts, strict=True)
        }

    def forward_float(
        self,
        ops: FloatOps[AnyTensor],
        params: Mapping[str, Array],
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        x = inputs[0]
        return ops.interpolate(x, self.fractions(0, int(x.shape[1])), self.fractions(1, int(x.shape[2])))

    def forward_integer(
        self,
        ops: IntegerOps[AnyTensor],
        quantized: QuantizedLayer,
        inputs: Sequence[AnyTensor],
    ) -> AnyTensor:
        x = inputs[0]
        rows, columns = (self._taps(axis, int(x.shape[axis + 1]), quantized) for axis in (0, 1))
        total = ops.interpolate(x, quantized.inputs[0].zero_point, rows, columns)
        return ops.requantize([total], quantized.rq, quantized.output.bits)

    def _taps(self, axis: int, size: int, quantized: QuantizedLayer) -> tuple[Array, Array]:
        """int64 ``[output, 2]`` input elements and their frozen coefficients, which sum to 2^11."""
        indices, _ = self.neighbours(axis, size)
        second = quantized.param(COEFFICIENTS[axis], np.uint16, 1).astype(np.int64)
        return indices, np.stack([(1 << BILINEAR_BITS) - second, second], 1)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        rows, _ = self.neighbours(0, shapes[0][1])
        return listed([(int(first), int(last)) for first, last in rows])

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(operations=8 * elements, output_elements=elements)
