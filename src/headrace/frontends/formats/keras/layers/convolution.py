# SPDX-License-Identifier: Apache-2.0
"""Convolutions of one, two and three dimensions: plain, depthwise, separable, transposed."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts
from headrace.frontends.formats.keras.layers.activation import activated
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute
from headrace.hn import Array


def dimensions(kind: str) -> int:
    """How many dimensions a layer's window has: its class says it."""
    return int(kind.removesuffix("Transpose")[-2])


def check_rank(call: LayerCall) -> int:
    """The dimensions of the window, which the input must have besides batch and channels."""
    count = dimensions(call.kind)
    if call.x.rank != count + 2:
        raise Unsupported(f"its input has rank {call.x.rank}", f"rank {count + 2}")
    return count


def split_shape(call: LayerCall) -> tuple[int, list[int | None]]:
    """(channels, sizes of the other dimensions) of the input."""
    x = call.x
    if call.channels_first:
        return x.size(1), list(x.shape[2:])
    return x.channels, list(x.shape[1:-1])


def image(call: LayerCall) -> ir.Value:
    """The input with its channels behind the batch."""
    return call.x.value if call.channels_first else call.channels_second(call.x)


def finished(call: LayerCall, value: ir.Value, sizes: Sequence[int | None], channels: int) -> Tensor:
    """A result with its channels behind the batch, brought to Keras' order."""
    shape: Shape = (None, channels, *sizes) if call.channels_first else (None, *sizes, channels)
    return Tensor(value if call.channels_first else call.channels_last(value, len(shape)), shape)


def window_size(size: int | None, window: int, stride: int, same: bool) -> int | None:
    """How many places a window takes along one dimension."""
    if size is None:
        return None
    places = -(-size // stride) if same else (size - window) // stride + 1
    if places < 1:
        raise Unsupported(f"a window of {window} does not fit into {size}", "a smaller window")
    return places


def _bias(call: LayerCall, index: int, count: int) -> list[ir.Value]:
    return [call.make(call.weight(index, [count], "bias"))] if call.flag("use_bias", True) else []


def _end(call: LayerCall, value: ir.Value, sizes: Sequence[int | None], channels: int) -> Tensor:
    """The activation of a layer: of one over the last dimension, there; else on the image, as TFLite fuses it."""
    pointwise = call.option("activation")
    if call.channels_first or (isinstance(pointwise, str) and pointwise not in ("softmax", "log_softmax", "glu")):
        if call.channels_first and pointwise in ("softmax", "log_softmax", "glu"):
            raise Unsupported(f"activation {pointwise!r} over the columns of images", "channels_last")
        return finished(call, activated(call, value), sizes, channels)
    made = finished(call, value, sizes, channels)
    return Tensor(activated(call, made.value), made.shape)


def _convolved(
    call: LayerCall, value: ir.Value, kernel: Array, bias: Sequence[ir.Value], sizes: Sequence[int | None], groups: int
) -> tuple[ir.Value, list[int | None]]:
    """One convolution of an image whose channels are second; ``kernel`` is [outputs, inputs of a group, window]."""
    count = len(sizes)
    strides, dilations = call.integers("strides", count), call.integers("dilation_rate", count)
    mode = call.word("padding", "valid", "valid", "same", "causal")
    window = list(kernel.shape[2:])
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    attributes: dict[str, Attribute] = {
        "group": groups, "kernel_shape": window, "strides": strides, "dilations": dilations,
    }  # fmt: skip
    if mode == "causal":
        attributes["pads"] = [*(e - 1 for e in extents), *[0] * count]
        sizes = [None if s is None else s + e - 1 for s, e in zip(sizes, extents, strict=True)]
    elif mode == "same":
        attributes["auto_pad"] = "SAME_UPPER"
    made = call.emit("Conv", [value, call.make(kernel), *bias], attributes)
    steps = zip(sizes, extents, strides, strict=True)
    return made, [window_size(size, e, s, mode == "same") for size, e, s in steps]


@converts("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
def convolution(call: LayerCall) -> Tensor:
    count = check_rank(call)
    channels, sizes = split_shape(call)
    filters, groups = call.integer("filters"), call.integer("groups", 1)
    if channels % groups or filters % groups:
        raise Unsupported(f"{channels} channels and {filters} filters in {groups} groups", "groups that divide both")
    window = call.integers("kernel_size", count)
    kernel = call.weight(0, [*window, channels // groups, filters], "kernel")
    kernel = kernel.transpose(count + 1, count, *range(count))
    value, sizes = _convolved(call, image(call), kernel, _bias(call, 1, filters), sizes, groups)
    return _end(call, value, sizes, filters)


def _depthwise_kernel(call: LayerCall, count: int, channels: int, multiplier: int) -> Array:
    window = call.integers("kernel_size", count)
    kernel = call.weight(0, [*window, channels, multiplier], "depthwise kernel")
    return kernel.reshape(*window, 1, channels * multiplier).transpose(count + 1, count, *range(count))


@converts("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(call: LayerCall) -> Tensor:
    count = check_rank(call)
    channels, sizes = split_shape(call)
    multiplier = call.integer("depth_multiplier", 1)
    call.ignore("groups", "filters")  # what Keras 2 writes of the class above
    kernel = _depthwise_kernel(call, count, channels, multiplier)
    bias = _bias(call, 1, channels * multiplier)
    value, sizes = _convolved(call, image(call), kernel, bias, sizes, channels)
    return _end(call, value, sizes, channels * multiplier)


@converts("SeparableConv1D", "SeparableConv2D")
def separable(call: LayerCall) -> Tensor:
    count = check_rank(call)
    channels, sizes = split_shape(call)
    multiplier, filters = call.integer("depth_multiplier", 1), call.integer("filters")
    call.ignore("groups")
    kernel = _depthwise_kernel(call, count, channels, multiplier)
    value, sizes = _convolved(call, image(call), kernel, [], sizes, channels)
    wide = channels * multiplier
    point = call.weight(1, [*[1] * count, wide, filters], "pointwise kernel").transpose(count + 1, count, *range(count))
    ones = [1] * count
    attributes: dict[str, Attribute] = {"group": 1, "kernel_shape": ones, "strides": ones, "dilations": ones}
    value = call.emit("Conv", [value, call.make(point), *_bias(call, 2, filters)], attributes)
    return _end(call, value, sizes, filters)


@converts("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Deconvolution2D", "Convolution2DTranspose")
def transposed(call: LayerCall) -> Tensor:
    """The result of the same padding has ``stride`` places for each of the input, and what overhangs is cut evenly."""
    count = check_rank(call)
    channels, sizes = split_shape(call)
    filters, window = call.integer("filters"), call.integers("kernel_size", count)
    strides, dilations = call.integers("strides", count), call.integers("dilation_rate", count)
    call.ignore("groups")
    same = call.word("padding", "valid", "valid", "same") == "same"
    extra = call.integers("output_padding", count, least=0) if call.option("output_padding") is not None else None
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    if extra is not None and any(e >= s for e, s in zip(extra, strides, strict=True)):
        raise Unsupported(f"output_padding {extra} and strides {strides}", "less than the stride")
    # More places than the input's times the stride.
    if extra is not None:
        more = [e - s - 2 * (e // 2 if same else 0) + o for e, s, o in zip(extents, strides, extra, strict=True)]
    else:
        more = [0 if same else max(e - s, 0) for e, s in zip(extents, strides, strict=True)]
    cut = [e - s - m for e, s, m in zip(extents, strides, more, strict=True)]
    before = [max(c, 0) // 2 for c in cut]
    after = [max(c - b, 0) for c, b in zip(cut, before, strict=True)]
    attributes: dict[str, Attribute] = {
        "kernel_shape": window, "strides": strides, "dilations": dilations, "pads": [*before, *after],
        "output_padding": [max(-c, 0) for c in cut],
    }  # fmt: skip
    kernel = call.weight(0, [*window, filters, channels], "kernel").transpose(count + 1, count, *range(count))
    value = call.emit("ConvTranspose", [image(call), call.make(kernel), *_bias(call, 1, filters)], attributes)
    made = [None if n is None else n * s + m for n, s, m in zip(sizes, strides, more, strict=True)]
    return _end(call, value, made, filters)


__all__ = ["check_rank", "finished", "image", "split_shape", "window_size"]
