# SPDX-License-Identifier: Apache-2.0
"""Layers that move codes without changing them: input, output, slice, pad, concat, reshape, transpose.

All axes are those of the HN tensor without the batch: 0 height, 1 width, 2 channels (or 0 channels of a vector).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.layers.base import (
    AttributeRuleError,
    Attributes,
    Counts,
    LayerDefinition,
    QuantizedLayer,
    ScaleRule,
    register,
)
from headrace.layers.shapes import shape_error
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps


class CodesPass(LayerDefinition):
    """Float and integer meaning are the same movement; :meth:`move` is written once for both."""

    scale_rule = ScaleRule.PASSES
    copies_codes = True

    @classmethod
    def move(cls, ops: Any, attributes: Any, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        raise NotImplementedError

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return cls.move(ops, attributes, inputs, 0.0)

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return cls.move(ops, attributes, inputs, quantized.inputs[0].zero_point)

    @classmethod
    def counts(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Counts:
        return Counts(output_elements=int(np.prod(output[1:], dtype=np.int64)))


@dataclass(frozen=True)
class InputAttributes(Attributes):
    """How the source file sees this tensor.

    The source tensor is ``hn.transpose(source_permutation).reshape(source_shape)``; -1 in the shape is the batch.
    """

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


@register
class InputLayer(CodesPass):
    kind = "input_layer"
    prefix = "input_layer"
    attributes = InputAttributes
    operands = (0, 0)
    scale_rule = ScaleRule.OWN
    copies_codes = False
    description = "A network input."

    @classmethod
    def output_shape(
        cls, attributes: InputAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        if len(attributes.shape) not in (2, 4) or attributes.shape[0] != -1 or min(attributes.shape[1:]) < 1:
            raise shape_error(
                where, "the input's shape is not valid", list(attributes.shape), "[-1, H, W, C] or [-1, C]"
            )
        return attributes.shape


@dataclass(frozen=True)
class OutputAttributes(InputAttributes):
    """offset: what is added to the values, one number or one per channel; `optimize` takes it out of a bias before, so
    that values far from zero keep their differences. Codes pass; the output's zero point says it.
    """

    offset: tuple[float, ...] = ()


@register
class OutputLayer(CodesPass):
    kind = "output_layer"
    prefix = "output_layer"
    attributes = OutputAttributes
    description = "A network output."

    @classmethod
    def output_shape(
        cls, attributes: OutputAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        if len(attributes.offset) not in (0, 1, shapes[0][-1]):
            raise shape_error(where, "offset has the wrong length", len(attributes.offset), f"1 or {shapes[0][-1]}")
        return tuple(shapes[0])

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: OutputAttributes, params: Mapping[str, Array], inputs: Sequence[Any]
    ) -> Any:
        if not attributes.offset:
            return inputs[0]
        return ops.add(inputs[0], ops.constant(np.array(attributes.offset, np.float32), inputs[0]))

    @classmethod
    def move(cls, ops: Any, attributes: OutputAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return inputs[0]


@dataclass(frozen=True)
class SliceAttributes(Attributes):
    """Per non-batch axis: ``sizes[i]`` elements from ``starts[i]`` in steps of ``steps[i]``."""

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


@register
class Slice(CodesPass):
    kind = "slice"
    prefix = "slice"
    attributes = SliceAttributes
    description = "A strided part of the input."

    @classmethod
    def output_shape(
        cls, attributes: SliceAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        sizes = shapes[0][1:]
        if len(attributes.starts) != len(sizes):
            raise shape_error(where, "a slice needs one entry per axis", len(attributes.starts), len(sizes))
        for size, start, step, count in zip(sizes, attributes.starts, attributes.steps, attributes.sizes, strict=True):
            if start + (count - 1) * step >= size:
                raise shape_error(where, "the slice leaves the input", f"{start} + {count - 1}·{step}", f"below {size}")
        return (-1, *attributes.sizes)

    @classmethod
    def move(cls, ops: Any, attributes: SliceAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.slice(inputs[0], attributes.starts, attributes.steps, attributes.sizes)


@dataclass(frozen=True)
class PadAttributes(Attributes):
    """Elements of real zero before and after each non-batch axis."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.before) != len(self.after) or any(v < 0 or v > 1 << 20 for v in (*self.before, *self.after)):
            raise AttributeRuleError("padding must have one length and sizes 0 … 2^20", self, "non-negative integers")


@register
class Pad(CodesPass):
    kind = "external_pad"
    prefix = "external_pad"
    attributes = PadAttributes
    copies_codes = False
    description = "Padding with real zero that no convolution absorbs."

    @classmethod
    def output_shape(cls, attributes: PadAttributes, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        sizes = shapes[0][1:]
        if len(attributes.before) != len(sizes):
            raise shape_error(where, "padding needs one entry per axis", len(attributes.before), len(sizes))
        return (-1, *(b + s + a for b, s, a in zip(attributes.before, sizes, attributes.after, strict=True)))

    @classmethod
    def move(cls, ops: Any, attributes: PadAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.pad(inputs[0], attributes.before, attributes.after, zero)


@dataclass(frozen=True)
class ConcatAttributes(Attributes):
    """axis counts from the first non-batch axis."""

    axis: int = 2


@register
class Concat(CodesPass):
    kind = "concat"
    prefix = "concat"
    attributes = ConcatAttributes
    operands = (1, 4096)
    scale_rule = ScaleRule.CONCAT
    description = (
        "Concatenation along one axis; an input with another scale is requantised by a rescale layer before it."
    )

    @classmethod
    def output_shape(
        cls, attributes: ConcatAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        axis = attributes.axis + 1
        first = shapes[0]
        if not 1 <= axis < len(first):
            raise shape_error(where, "the axis does not exist", attributes.axis, f"0 … {len(first) - 2}")
        rest = {tuple(s[:axis]) + tuple(s[axis + 1 :]) for s in shapes}
        if len(rest) != 1:
            raise shape_error(where, "inputs must agree in every other axis", [list(s) for s in shapes], "equal sizes")
        return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])

    @classmethod
    def move(cls, ops: Any, attributes: ConcatAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.concat(list(inputs), attributes.axis + 1)


@dataclass(frozen=True)
class ReshapeAttributes(Attributes):
    """shape without the batch; row-major order of the HN tensor is kept."""

    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3) or any(v < 1 for v in self.shape):
            raise AttributeRuleError("the shape must be [C] or [H, W, C]", self.shape, "positive sizes")


@register
class Reshape(CodesPass):
    kind = "reshape"
    prefix = "reshape"
    attributes = ReshapeAttributes
    description = "The same elements in the same order under another shape (flatten, squeeze, view)."

    @classmethod
    def output_shape(
        cls, attributes: ReshapeAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        have = int(np.prod(shapes[0][1:], dtype=np.int64))
        need = int(np.prod(attributes.shape, dtype=np.int64))
        if have != need:
            raise shape_error(where, "the number of elements changes", need, have)
        return (-1, *attributes.shape)

    @classmethod
    def move(cls, ops: Any, attributes: ReshapeAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.reshape(inputs[0], attributes.shape)


@dataclass(frozen=True)
class TransposeAttributes(Attributes):
    """Output axis i is input axis permutation[i] (non-batch axes, from 0)."""

    permutation: tuple[int, ...] = ()


@register
class Transpose(CodesPass):
    kind = "transpose"
    prefix = "transpose"
    attributes = TransposeAttributes
    description = "A permutation of height, width and channels."

    @classmethod
    def output_shape(
        cls, attributes: TransposeAttributes, shapes: Sequence[tuple[int, ...]], where: str
    ) -> tuple[int, ...]:
        if sorted(attributes.permutation) != list(range(len(shapes[0]) - 1)):
            raise shape_error(
                where,
                "it is not a permutation of the axes",
                list(attributes.permutation),
                f"of {len(shapes[0]) - 1} axes",
            )
        return (-1, *(shapes[0][p + 1] for p in attributes.permutation))

    @classmethod
    def move(cls, ops: Any, attributes: TransposeAttributes, inputs: Sequence[AnyTensor], zero: float) -> AnyTensor:
        return ops.transpose(inputs[0], attributes.permutation)
