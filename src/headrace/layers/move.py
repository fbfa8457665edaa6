# SPDX-License-Identifier: Apache-2.0
"""Layers that move codes without changing them: input, output, slice, pad, concat, reshape, transpose.

All axes are those of the HN tensor without the batch: 0 height, 1 width, 2 channels (or 0 channels of a vector).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from headrace.layers.attributes import AttributeRuleError
from headrace.layers.operation import Counts, Operation, QuantizedLayer, ScaleRule, Shape, register
from headrace.layers.rows import GATHER, RESHAPED, RowCost, RowKind, RowRule, has_rows, height_of, row_by_row
from headrace.layers.shapes import shape_error
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array


@dataclass(frozen=True)
class CodesPass(Operation):
    """Float and integer meaning are the same movement; :meth:`move` is written once for both."""

    scale_rule = ScaleRule.PASSES
    copies_codes = True

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        raise NotImplementedError

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return self.move(ops, inputs, 0.0)

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return self.move(ops, inputs, quantized.inputs[0].zero_point)

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        return Counts(output_elements=int(np.prod(output[1:], dtype=np.int64)))


@dataclass(frozen=True)
class Boundary(CodesPass):
    """How the source file sees this tensor.

    The source tensor is ``hn.transpose(source_permutation).reshape(source_shape)``; -1 in the shape is the batch.
    """

    is_boundary = True

    shape: tuple[int, ...] = ()  # HN shape with batch -1; input layers only
    source_name: str = ""
    source_shape: tuple[int, ...] = ()
    source_permutation: tuple[int, ...] = ()

    def to_source(self, array: Array, shape: Sequence[int]) -> Array:
        """Frames of HN shape ``shape`` (batch first) laid out as in the source file, where that is known."""
        frames = array.reshape(array.shape[0], *shape[1:])
        if not self.source_permutation:
            return frames
        return frames.transpose(self.source_permutation).reshape(self.source_shape)

    def from_source(self, array: Array, shape: Sequence[int]) -> Array:
        """What :meth:`to_source` undoes: frames of HN shape ``shape`` (batch first) of a tensor of the source file."""
        if not self.source_permutation:
            return array.reshape(-1, *shape[1:])
        permuted = array.reshape([-1 if axis == 0 else shape[axis] for axis in self.source_permutation])
        order = sorted(range(len(self.source_permutation)), key=self.source_permutation.__getitem__)
        return permuted.transpose(order)


@register
@dataclass(frozen=True)
class InputLayer(Boundary):
    """A network input."""

    kind = "input_layer"
    prefix = "input_layer"
    arity = (0, 0)
    scale_rule = ScaleRule.OWN
    copies_codes = False
    description = "A network input."

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        if len(self.shape) not in (2, 4) or self.shape[0] != -1 or min(self.shape[1:]) < 1:
            raise shape_error(where, "the input's shape is not valid", list(self.shape), "[-1, H, W, C] or [-1, C]")
        return self.shape


@register
@dataclass(frozen=True)
class OutputLayer(Boundary):
    """offset: what is added to the values, one number or one per channel; `optimize` takes it out of a bias before, so
    that values far from zero keep their differences. Codes pass; the output's zero point says it.
    """

    kind = "output_layer"
    prefix = "output_layer"
    reads_wide = True
    description = "A network output."

    offset: tuple[float, ...] = ()

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        if len(self.offset) not in (0, 1, shapes[0][-1]):
            raise shape_error(where, "offset has the wrong length", len(self.offset), f"1 or {shapes[0][-1]}")
        return tuple(shapes[0])

    def forward_float(self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[Any]) -> Any:
        if not self.offset:
            return inputs[0]
        return ops.add(inputs[0], ops.constant(np.array(self.offset, np.float32), inputs[0]))

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return inputs[0]


@register
@dataclass(frozen=True)
class Slice(CodesPass):
    """Per non-batch axis: ``sizes[i]`` elements from ``starts[i]`` in steps of ``steps[i]``."""

    kind = "slice"
    prefix = "slice"
    description = "A strided part of the input."

    starts: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.starts) == len(self.steps) == len(self.sizes):
            raise AttributeRuleError("starts, steps and sizes must have one length", self, "equal lengths")
        if any(v < 0 for v in self.starts) or any(v < 1 for v in (*self.steps, *self.sizes)):
            raise AttributeRuleError(
                "starts must not be negative, steps and sizes positive", self, "non-negative integers"
            )

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        sizes = shapes[0][1:]
        if len(self.starts) != len(sizes):
            raise shape_error(where, "a slice needs one entry per axis", len(self.starts), len(sizes))
        for size, start, step, count in zip(sizes, self.starts, self.steps, self.sizes, strict=True):
            if start + (count - 1) * step >= size:
                raise shape_error(where, "the slice leaves the input", f"{start} + {count - 1}·{step}", f"below {size}")
        return (-1, *self.sizes)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        if not has_rows(output):
            return row_by_row(shapes)
        return RowCost((RowRule(RowKind.SLICE, stride=self.steps[0], offset=self.starts[0]),))

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.slice(inputs[0], self.starts, self.steps, self.sizes)


@register
@dataclass(frozen=True)
class Pad(CodesPass):
    """Elements of real zero before and after each non-batch axis."""

    kind = "external_pad"
    prefix = "external_pad"
    copies_codes = False
    description = "Padding with real zero that no convolution absorbs."

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.before) != len(self.after) or any(v < 0 or v > 1 << 20 for v in (*self.before, *self.after)):
            raise AttributeRuleError("padding must have one length and sizes 0 … 2^20", self, "non-negative integers")

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        sizes = shapes[0][1:]
        if len(self.before) != len(sizes):
            raise shape_error(where, "padding needs one entry per axis", len(self.before), len(sizes))
        return (-1, *(b + s + a for b, s, a in zip(self.before, sizes, self.after, strict=True)))

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        if not has_rows(output):
            return row_by_row(shapes)
        return RowCost((RowRule(RowKind.STACK, offset=self.before[0]),))

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.pad(inputs[0], self.before, self.after, zero)


@register
@dataclass(frozen=True)
class Concat(CodesPass):
    """axis counts from the first non-batch axis."""

    kind = "concat"
    prefix = "concat"
    arity = (1, 4096)
    scale_rule = ScaleRule.CONCAT
    description = (
        "Concatenation along one axis; an input with another scale is requantized by a rescale layer before it."
    )

    axis: int = 2

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        axis = self.axis + 1
        first = shapes[0]
        if not 1 <= axis < len(first):
            raise shape_error(where, "the axis does not exist", self.axis, f"0 … {len(first) - 2}")
        rest = {tuple(s[:axis]) + tuple(s[axis + 1 :]) for s in shapes}
        if len(rest) != 1:
            raise shape_error(where, "inputs must agree in every other axis", [list(s) for s in shapes], "equal sizes")
        return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        if self.axis != 0 or not has_rows(output):
            return replace(row_by_row(shapes), joins=True)
        places = accumulate((height_of(shape) for shape in shapes[:-1]), initial=0)
        return RowCost(tuple(RowRule(RowKind.STACK, offset=place) for place in places), joins=True)

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.concat(list(inputs), self.axis + 1)


@register
@dataclass(frozen=True)
class Reshape(CodesPass):
    """shape without the batch; row-major order of the HN tensor is kept."""

    kind = "reshape"
    prefix = "reshape"
    description = "The same elements in the same order under another shape (flatten, squeeze, view)."

    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3) or any(v < 1 for v in self.shape):
            raise AttributeRuleError("the shape must be [C] or [H, W, C]", self.shape, "positive sizes")

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        have = int(np.prod(shapes[0][1:], dtype=np.int64))
        need = int(np.prod(self.shape, dtype=np.int64))
        if have != need:
            raise shape_error(where, "the number of elements changes", need, have)
        return (-1, *self.shape)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return RowCost((RESHAPED,))

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.reshape(inputs[0], self.shape)


@register
@dataclass(frozen=True)
class Transpose(CodesPass):
    """Output axis i is input axis permutation[i] (non-batch axes, from 0)."""

    kind = "transpose"
    prefix = "transpose"
    description = "A permutation of height, width and channels."

    permutation: tuple[int, ...] = ()

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        if sorted(self.permutation) != list(range(len(shapes[0]) - 1)):
            raise shape_error(
                where,
                "it is not a permutation of the axes",
                list(self.permutation),
                f"of {len(shapes[0]) - 1} axes",
            )
        return (-1, *(shapes[0][p + 1] for p in self.permutation))

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        keeps_rows = not has_rows(output) or self.permutation[0] == 0
        return row_by_row(shapes) if keeps_rows else RowCost((GATHER,))

    def move(self, ops: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.transpose(inputs[0], self.permutation)
