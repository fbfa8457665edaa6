# SPDX-License-Identifier: Apache-2.0
"""Which scale stands where behind a layer that copies codes (docs/numerics.md, section 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from headrace.hn.network import Array, Layer
from headrace.layers.move import OutputLayer
from headrace.layers.operation import QuantizedLayer
from headrace.numerics.quantization import MAX_SCALES, MAX_ZERO_POINT, TensorQuantization, per_channel
from headrace.numerics.reference import ReferenceOps

#: Larger tensors are not followed element by element: they keep one scale.
MAX_ELEMENTS = 1 << 26

Pair = tuple[float, int]


def copied_labels(layer: Layer, labels: Sequence[Array]) -> Array:
    """What becomes of one number per element of each input: the same movement as that of the codes.

    Args:
        layer: of a kind that copies codes.
        labels: int32 ``[1, …]`` of each input's shape.
    """
    plain = TensorQuantization(1.0, 0, 16)
    view = QuantizedLayer(layer.name, layer.output_shape, [plain for _ in labels], plain, None, {})
    return layer.operation.forward_integer(ReferenceOps(), view, list(labels))


def along_one_axis(labels: Array) -> tuple[int, Array] | None:
    """(axis from the last, label of each of its elements) of labels ``[1, …]`` that depend on one axis only."""
    frame = labels[0]
    for axis in range(-1, -frame.ndim - 1, -1):
        others = tuple(i for i in range(-frame.ndim, 0) if i != axis)
        low = frame.min(axis=others) if others else frame
        high = frame.max(axis=others) if others else frame
        if np.array_equal(low, high) and low.size <= MAX_SCALES:
            return axis, low
    return None


def passed_quantization(
    layer: Layer, shapes: Sequence[tuple[int, ...]], inputs: Sequence[TensorQuantization]
) -> TensorQuantization | None:
    """The quantization of what a code-copying layer gives.

    Args:
        layer: of a kind that copies codes.
        shapes: of its inputs, with the batch.
        inputs: their quantizations.

    Returns:
        ``None`` where the inputs differ in bits, or where scales do not depend on one axis of the result alone.
    """
    if any(q.bits != inputs[0].bits for q in inputs):
        return None
    if all(q == inputs[0] for q in inputs) and inputs[0].uniform:
        return _with_offset(layer, inputs[0])
    if sum(math.prod(shape[1:]) for shape in shapes) > MAX_ELEMENTS or math.prod(layer.output_shape[1:]) > MAX_ELEMENTS:
        return None
    numbers: dict[Pair, int] = {}
    labels = [_labels(shape[1:], q, numbers) for shape, q in zip(shapes, inputs, strict=True)]
    found = along_one_axis(copied_labels(layer, labels))
    if found is None:
        return None
    pairs = list(numbers)
    axis, along = found
    chosen = [pairs[int(i)] for i in along]
    return _with_offset(layer, per_channel([s for s, _ in chosen], [z for _, z in chosen], inputs[0].bits, axis))


def _labels(shape: tuple[int, ...], quantization: TensorQuantization, numbers: dict[Pair, int]) -> Array:
    """Numbers of (scale, zero point) pairs, ``[1, *shape]``."""
    along = np.array([numbers.setdefault(pair, len(numbers)) for pair in quantization.pairs], np.int32)
    trailing = (1,) * (-1 - quantization.axis) if not quantization.uniform else ()
    return np.broadcast_to(along.reshape(-1, *trailing), shape)[None]


def _with_offset(layer: Layer, quantization: TensorQuantization) -> TensorQuantization | None:
    """The zero points that add an output layer's offset to the values."""
    operation = layer.operation
    if not isinstance(operation, OutputLayer) or not operation.offset:
        return quantization
    channels = layer.output_shape[-1]
    if quantization.axis != -1:
        return None
    pairs = quantization.pairs * (channels if quantization.uniform else 1)
    offsets = list(operation.offset) * (channels if len(operation.offset) == 1 else 1)
    zeros = [zero - round(offset / scale) for (scale, zero), offset in zip(pairs, offsets, strict=True)]
    if any(abs(zero) > MAX_ZERO_POINT for zero in zeros):
        return None
    return per_channel([scale for scale, _ in pairs], zeros, quantization.bits)


__all__ = ["along_one_axis", "copied_labels", "passed_quantization"]
