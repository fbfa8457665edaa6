# SPDX-License-Identifier: Apache-2.0
"""The formulas of the families in numpy, with which a head is recognized; the native library computes the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headrace.hn import Array
from headrace.hn.nms import BoxDecoder, NmsConfiguration, Operand


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(−x)), for numbers of any size."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x.astype(np.float64))))


def softmax(x: Array) -> Array:
    """Along the last axis."""
    weights = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _plain(x: Array) -> Array:
    return x.astype(np.float64)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0).astype(np.float64)


def _exponential(x: Array) -> Array:
    return np.asarray(np.exp(x.astype(np.float64)))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": _plain,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "relu": _relu,
    "exponential": _exponential,
}


def activated(name: str, x: Array) -> Array:
    """An activation by the name that configurations have for it, in float64."""
    return _ACTIVATIONS[name](x)


def addresses(operand: Operand, decoder: BoxDecoder, elements: int) -> Array:
    """Flat places in the operand's tensor: int64 ``[positions, anchors, elements]``."""
    positions = np.arange(decoder.grid[0] * decoder.grid[1])[:, None, None] * operand.position
    anchors = np.arange(decoder.anchors)[None, :, None] * operand.anchor
    return np.asarray(operand.base + positions + anchors + np.arange(elements) * operand.element)


def read(operand: Operand, decoder: BoxDecoder, elements: int, tensors: Sequence[Array]) -> Array:
    """The numbers of an operand, ``[positions, anchors, elements]``."""
    return np.asarray(tensors[operand.tensor].reshape(-1)[addresses(operand, decoder, elements)])


def box_numbers(c: NmsConfiguration) -> int:
    """Numbers that a box is coded with."""
    return 4 * c.bins if c.coding == "distances" else 2 if c.coding == "centres" else 4


def boxes(c: NmsConfiguration, decoder: BoxDecoder, tensors: Sequence[Array]) -> Array:
    """Left, top, right, bottom in pixels: float64 ``[positions, anchors, 4]``."""
    t = read(decoder.boxes, decoder, box_numbers(c), tensors).astype(np.float64)
    t = t[..., [1, 0, 3, 2]] if c.y_first else t
    rows, columns = decoder.grid
    y, x = np.divmod(np.arange(rows * columns, dtype=np.float64), columns)
    cell = np.stack([x, y], axis=1)[:, None, :]
    stride = np.array(decoder.strides[::-1], np.float64)
    anchor = np.stack([decoder.widths or (0.0,), decoder.heights or (0.0,)], axis=1)[None]
    if c.coding == "distances":
        sides = t.reshape(*t.shape[:2], 4, c.bins)
        sides = softmax(sides) @ np.arange(c.bins) if c.bins > 1 else activated(c.box_activation, sides[..., 0])
        point = cell + c.point
        if c.angle is not None:
            return _turned(point, sides, angles(c, decoder, tensors), stride)
        unit = stride if decoder.units is None else np.array(decoder.units[::-1], np.float64)
        return np.concatenate([point * stride - sides[..., :2] * unit, point * stride + sides[..., 2:] * unit], axis=-1)
    if c.coding == "grid_offsets":
        return _around((t[..., :2] + cell) * stride, np.exp(t[..., 2:]) * stride)
    if c.coding == "anchors_exponential":
        centre = c.offset_scale * sigmoid(t[..., :2]) - (c.offset_scale - 1) / 2
        return _around((centre + cell) * stride, np.exp(t[..., 2:]) * anchor)
    if c.coding == "anchors_squared":
        size = (2 * sigmoid(t[..., 2:])) ** 2
        return _around((2 * sigmoid(t[..., :2]) - 0.5 + cell) * stride, size * anchor)
    if c.coding == "priors":
        anchor = anchor * np.array(c.image[::-1], np.float64)
        centre = (cell + c.point) * stride + t[..., :2] / c.centre_scale * anchor
        return _around(centre, np.exp(t[..., 2:] / c.size_scale) * anchor)
    if c.coding == "centres":
        assert decoder.sizes is not None
        return _around((t + cell) * stride, read(decoder.sizes, decoder, 2, tensors).astype(np.float64) * stride)
    if c.coding == "normalized_centres":
        t = activated(c.box_activation, t) * np.array([*c.image[::-1], *c.image[::-1]], np.float64)
        return _around(t[..., :2], t[..., 2:])
    return t


def angles(c: NmsConfiguration, decoder: BoxDecoder, tensors: Sequence[Array]) -> Array:
    """Radians: float64 ``[positions, anchors, 1]``; of a configuration that has angles."""
    assert c.angle is not None
    assert decoder.angles is not None
    turned = activated(c.angle.activation, read(decoder.angles, decoder, 1, tensors))
    return np.asarray(turned * c.angle.scale + c.angle.offset)


def _turned(point: Array, sides: Array, angle: Array, stride: Array) -> Array:
    """Boxes before they are turned about their centre, which the angle moves (``dist2rbox`` of ultralytics)."""
    low, high = sides[..., :2], sides[..., 2:]
    x, y = np.split((high - low) / 2, 2, axis=-1)
    cos, sin = np.cos(angle), np.sin(angle)
    centre = np.concatenate([x * cos - y * sin, x * sin + y * cos], axis=-1) + point
    return _around(centre * stride, (low + high) * stride)


def key_points(c: NmsConfiguration, decoder: BoxDecoder, tensors: Sequence[Array]) -> Array:
    """Points of a grid, in pixels, each with its score behind it where it has one: ``[positions, 1, numbers]``."""
    assert c.key_points is not None
    assert decoder.key_points is not None
    k = c.key_points
    t = read(decoder.key_points, decoder, k.count * k.numbers, tensors).astype(np.float64)
    t = t.reshape(*t.shape[:2], k.count, k.numbers)
    rows, columns = decoder.grid
    y, x = np.divmod(np.arange(rows * columns, dtype=np.float64), columns)
    cell = np.stack([x, y], axis=1)[:, None, None, :]
    points = (k.scale * t[..., :2] + cell + k.offset) * np.array(decoder.strides[::-1], np.float64)
    return np.concatenate([points, activated(k.activation, t[..., 2:])], axis=-1).reshape(len(t), 1, -1)


def _around(centre: Array, size: Array) -> Array:
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def factors(c: NmsConfiguration, decoder: BoxDecoder, tensors: Sequence[Array]) -> tuple[Array, Array | None]:
    """Class probabilities ``[positions, anchors, classes]``, and objectness ``[positions, anchors, 1]`` if there is."""
    found = activated(c.score_activation, read(decoder.scores, decoder, c.classes, tensors))
    if c.objectness_activation is None or decoder.objectness is None:
        return found, None
    return found, activated(c.objectness_activation, read(decoder.objectness, decoder, 1, tensors))


def scores(c: NmsConfiguration, decoder: BoxDecoder, tensors: Sequence[Array]) -> Array:
    """float64 ``[positions, anchors, classes]``."""
    found, objectness = factors(c, decoder, tensors)
    if objectness is None:
        return found
    found = found * objectness
    return np.sqrt(np.maximum(found, 0)) if c.score_root else found
