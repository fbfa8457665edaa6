# SPDX-License-Identifier: Apache-2.0
"""Layers that move, cut, pad or repeat, and those that do nothing once a network is trained."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts
from headrace.frontends.formats.keras.layers.convolution import dimensions
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_integer, is_sequence

_FAR = int(np.iinfo(np.int64).max)
_NOTHING = (
    "ActivityRegularization", "AlphaDropout", "AugMix", "CutMix", "Dropout", "GaussianDropout", "GaussianNoise",
    "Identity", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue",
    "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D",
)  # fmt: skip


@converts(*_NOTHING)
def nothing(call: LayerCall) -> Tensor:
    call.ignore(*call.layer.config)  # all about training
    return call.x


@converts("Flatten")
def flatten(call: LayerCall) -> Tensor:
    x = call.x
    value, shape = x.value, x.shape
    if call.channels_first and x.rank > 2:
        value = call.transposed(value, [0, *range(2, x.rank), 1])
    sizes = [s for s in shape[1:] if s is not None]
    size = math.prod(sizes) if len(sizes) == x.rank - 1 else None
    return Tensor(call.emit("Flatten", [value], {"axis": 1}), (None, size))


def reshaped(call: LayerCall, x: Tensor, target: Shape) -> Tensor:
    """``x`` with the given sizes behind the batch, of which one may be left open."""
    sizes = list(target)
    known = [s for s in x.shape[1:] if s is not None]
    if sizes.count(None) == 1 and len(known) == x.rank - 1:
        rest = math.prod(s for s in sizes if s is not None)
        if rest < 1 or math.prod(known) % rest:
            raise Unsupported(f"{list(x.shape)} does not become {sizes}", "the same number of elements")
        sizes[sizes.index(None)] = math.prod(known) // rest
    elif sizes.count(None) > 1:
        raise Unsupported(f"a target shape of {sizes}", "one open size at most")
    shape: Shape = (None, *sizes)
    return Tensor(call.emit("Reshape", [x.value, call.sizes(shape)]), shape)


@converts("Reshape")
def reshape(call: LayerCall) -> Tensor:
    target = call.option("target_shape")
    sizes = [target] if is_integer(target) else target
    if not is_sequence(sizes) or not all(s is None or (is_integer(s) and s >= -1 and s != 0) for s in sizes):
        raise Unsupported(f"target_shape {str(target)[:80]}", "sizes, one of them -1 at most")
    return reshaped(call, call.x, tuple(None if s in (-1, None) else s for s in sizes))


@converts("Permute")
def permute(call: LayerCall) -> Tensor:
    x, given = call.x, call.option("dims")
    if not is_sequence(given) or sorted(given) != list(range(1, x.rank)):
        raise Unsupported(f"dims {str(given)[:80]}", f"an order of 1 to {x.rank - 1}")
    order = [0, *given]
    return Tensor(call.transposed(x.value, order, glue=False), tuple(x.shape[i] for i in order))


@converts("RepeatVector")
def repeat_vector(call: LayerCall) -> Tensor:
    x, count = call.x, call.integer("n")
    if x.rank != 2:
        raise Unsupported(f"its input has rank {x.rank}", "rank 2")
    value = call.emit("Unsqueeze", [x.value, call.list([1])], glue=True)
    return Tensor(call.emit("Tile", [value, call.list([1, count, 1])]), (None, count, x.shape[1]))


def _edges(call: LayerCall, name: str, count: int) -> list[tuple[int, int]]:
    """(before, after) per dimension: one number for all, one per dimension, or two; a line has two of its own."""
    given = call.option(name, 1)
    if is_integer(given):
        given = [given] * count if count > 1 else [[given, given]]
    if count == 1 and is_sequence(given) and len(given) == 2 and all(is_integer(g) for g in given):
        given = [given]
    if not is_sequence(given) or len(given) != count:
        raise Unsupported(f"{name} {str(given)[:80]}", f"numbers for {count} dimensions")
    pairs = [[g, g] if is_integer(g) else g for g in given]
    if not all(is_sequence(p) and len(p) == 2 and all(is_integer(n) and 0 <= n < 1 << 20 for n in p) for p in pairs):
        raise Unsupported(f"{name} {str(given)[:80]}", "numbers that are not negative")
    return [(p[0], p[1]) for p in pairs]


def _spatial(call: LayerCall) -> list[int]:
    count = dimensions(call.kind)
    if call.x.rank != count + 2:
        raise Unsupported(f"its input has rank {call.x.rank}", f"rank {count + 2}")
    return list(range(2, count + 2) if call.channels_first else range(1, count + 1))


@converts("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(call: LayerCall) -> Tensor:
    x, axes = call.x, _spatial(call)
    edges = dict(zip(axes, _edges(call, "padding", len(axes)), strict=True))
    before, after = ([edges.get(i, (0, 0))[k] for i in range(x.rank)] for k in (0, 1))
    shape = tuple(None if s is None else s + before[i] + after[i] for i, s in enumerate(x.shape))
    return Tensor(call.emit("Pad", [x.value, call.list([*before, *after])], {"mode": "constant"}), shape)


@converts("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(call: LayerCall) -> Tensor:
    x, axes = call.x, _spatial(call)
    edges = _edges(call, "cropping", len(axes))
    starts, ends = [b for b, _ in edges], [-a if a else _FAR for _, a in edges]
    shape = list(x.shape)
    for axis, (before, after) in zip(axes, edges, strict=True):
        size = shape[axis]
        shape[axis] = None if size is None else size - before - after
        if size is not None and size <= before + after:
            raise Unsupported(f"cropping {before} and {after} of {size}", "that something is left")
    inputs = [x.value, call.list(starts), call.list(ends), call.list(axes)]
    return Tensor(call.emit("Slice", inputs), tuple(shape))


@converts("UpSampling1D", "UpSampling2D")
def up_sampling(call: LayerCall) -> Tensor:
    x, axes = call.x, _spatial(call)
    factors = call.integers("size", len(axes), 2)
    mode = call.word("interpolation", "nearest", "nearest", "bilinear")
    first = call.channels_first
    image = x.value if first else call.channels_second(x)
    scales = call.make(np.array([1, 1, *factors], np.float32))
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if mode == "nearest":
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    value = call.emit("Resize", [image, None, scales], attributes)
    by = dict(zip(axes, factors, strict=True))
    shape = tuple(None if s is None else s * by.get(i, 1) for i, s in enumerate(x.shape))
    return Tensor(value if first else call.channels_last(value, x.rank), shape)


@converts("UpSampling3D")
def up_sampling_3d(call: LayerCall) -> Tensor:
    """Every element again, one dimension after the other."""
    x, axes = call.x, _spatial(call)
    value, shape = x.value, list(x.shape)
    for axis, factor in zip(axes, call.integers("size", 3, 2), strict=True):
        value, shape[axis] = repeated(call, value, tuple(shape), axis, factor)
    return Tensor(value, tuple(shape))


def repeated(call: LayerCall, value: ir.Value, shape: Shape, axis: int, factor: int) -> tuple[ir.Value, int]:
    """Every element ``factor`` times along a dimension, and its new size."""
    size = shape[axis]
    if size is None:
        raise Unsupported(f"the file leaves dimension {axis} of its input open", "a known size")
    index = call.list(np.repeat(np.arange(size), factor).tolist())
    return call.emit("Gather", [value, index], {"axis": axis}), size * factor
