# SPDX-License-Identifier: Apache-2.0
"""Pools with a window, and over everything."""

from __future__ import annotations

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts
from headrace.frontends.formats.keras.layers.convolution import (
    check_rank,
    dimensions,
    finished,
    image,
    split_shape,
    window_size,
)
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute


@converts(*(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)))
def window_pool(call: LayerCall) -> Tensor:
    count = check_rank(call)
    channels, sizes = split_shape(call)
    window = call.integers("pool_size", count, 2)
    strides = window if call.option("strides") is None else call.integers("strides", count)
    same = call.word("padding", "valid", "valid", "same") == "same"
    attributes: dict[str, Attribute] = {"kernel_shape": window, "strides": strides}
    if same:
        attributes["auto_pad"] = "SAME_UPPER"
    value = call.emit("MaxPool" if call.kind.startswith("Max") else "AveragePool", [image(call)], attributes)
    made = [window_size(size, w, s, same) for size, w, s in zip(sizes, window, strides, strict=True)]
    return finished(call, value, made, channels)


@converts(*(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)))
def global_pool(call: LayerCall) -> Tensor:
    x = call.x
    if call.kind == "GlobalAveragePooling1D":
        call.unmasked()
    if x.rank != dimensions(call.kind) + 2:
        raise Unsupported(f"its input has rank {x.rank}", f"rank {dimensions(call.kind) + 2}")
    first, keep = call.channels_first, call.flag("keepdims")
    axes = list(range(2, x.rank) if first else range(1, x.rank - 1))
    kind = "ReduceMax" if "Max" in call.kind else "ReduceMean"
    value = call.emit(kind, [x.value, call.list(axes)], {"keepdims": int(keep)})
    shape = tuple(1 if i in axes else s for i, s in enumerate(x.shape) if keep or i not in axes)
    return Tensor(value, shape)


@converts(*(f"Adaptive{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)))
def adaptive_pool(call: LayerCall) -> Tensor:
    """Windows that divide the image, into as many parts as are asked for."""
    x, count = call.x, dimensions(call.kind)
    if x.rank != count + 2:
        raise Unsupported(f"its input has rank {x.rank}", f"rank {count + 2}")
    parts, first = call.integers("output_size", count), call.channels_first
    axes = list(range(2, x.rank) if first else range(1, x.rank - 1))
    sizes = [x.size(a) for a in axes]
    if any(size % part for size, part in zip(sizes, parts, strict=True)):
        raise Unsupported(f"{parts} parts of {sizes}", "parts of one size")
    window = [size // part for size, part in zip(sizes, parts, strict=True)]
    kind = "MaxPool" if "Max" in call.kind else "AveragePool"
    image = x.value if first else call.channels_second(x)
    value = call.emit(kind, [image], {"kernel_shape": window, "strides": window})
    value = value if first else call.channels_last(value, x.rank)
    return Tensor(value, tuple(parts[axes.index(i)] if i in axes else s for i, s in enumerate(x.shape)))
