# SPDX-License-Identifier: Apache-2.0
"""Conv, and the window arithmetic that convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, attributes_read, integer, integers, text
from headrace.frontends.layout import View, regroup
from headrace.frontends.to_hn.base import IMAGE, Builder, Result, handles
from headrace.numerics.geometry import window_output

_MAX_PAD = 1 << 20


def pair(values: Sequence[int], what: str) -> tuple[int, int]:
    if len(values) != 2 or any(not 0 < v < 1 << 31 for v in values):
        raise Unsupported(f"{what} {list(values)}", "two positive integers")
    return values[0], values[1]


def padding_of(
    node: ir.Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Padding as top, left, bottom, right, from ``pads`` or ``auto_pad``."""
    mode = text(node, "auto_pad", "NOTSET") or "NOTSET"
    if mode == "NOTSET":
        pads = integers(node, "pads", [0, 0, 0, 0])
        if pads is None or len(pads) != 4 or any(not 0 <= p <= _MAX_PAD for p in pads):
            raise Unsupported(f"pads {pads}", "four sizes that are not negative")
        return pads
    if mode == "VALID":
        return [0, 0, 0, 0]
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {mode!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    before, after = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return [*before, *after]


def as_image(view: View) -> View:
    """N,C,L as N,C,1,L; N,C,H,W as it is."""
    if view.rank == 3:
        n, c, length = view.shape
        return regroup(view, [n, c, 1, length])
    if view.rank != 4:
        raise Unsupported(f"its input has {view.rank - 2} spatial dimensions", "one or two")
    return view


def widen(values: Sequence[int] | None, rank: int, default: int) -> list[int] | None:
    """Per-axis values of a 1-D window as those of a 2-D one (a leading 1 or 0)."""
    if values is None or rank == 4:
        return None if values is None else list(values)
    half = len(values) // 2 if default == 0 else len(values)
    out: list[int] = []
    for start in range(0, len(values), max(half, 1)):
        out += [default, *values[start : start + half]]
    return out


def widened(node: ir.Node, rank: int) -> ir.Node:
    """A detached copy of a 1-D node with 2-D attributes; 2-D nodes come back unchanged."""
    if rank == 4:
        return node
    attributes = dict(node.attributes)
    for name, default in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 0)):
        values = widen(integers(node, name, None), rank, default)
        if values is not None:
            attributes[name] = ir.AttrInt64s(name, values)
    copy = ir.Node("", node.op_type, [], attributes, num_outputs=1)
    copy.meta["read"] = attributes_read(node)
    return copy


def absorb_excess(
    builder: Builder, layer: str, padding: Sequence[int], extents: Sequence[int]
) -> tuple[str, list[int]]:
    """Padding of a kernel's extent or more stands in a pad layer of its own (the same zeros)."""
    excess = [max(p - e + 1, 0) for p, e in zip(padding, [*extents, *extents], strict=True)]
    if not any(excess):
        return layer, list(padding)
    before, after = [*excess[:2], 0], [*excess[2:], 0]
    layer = builder.emit("external_pad", [layer], {"before": before, "after": after}, names=()).name
    return layer, [p - e for p, e in zip(padding, excess, strict=True)]


@handles("Conv")
def convolution(builder: Builder, node: ir.Node) -> list[Result]:
    source = builder.view(node, 0)
    view = as_image(source)
    shown = widened(node, source.rank)
    weight = builder.weights(node, 1, "the kernel")
    if weight.ndim != source.rank:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", f"rank {source.rank}")
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    if 0 in weight.shape:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", "sizes above 0")
    out_channels, per_group, height, width = weight.shape
    declared = integers(shown, "kernel_shape", [height, width])
    if declared != [height, width]:
        raise Unsupported(f"kernel_shape {declared} is not that of the weights {[height, width]}")
    strides = pair(integers(shown, "strides", [1, 1]) or [], "strides")
    dilations = pair(integers(shown, "dilations", [1, 1]) or [], "dilations")
    groups = integer(node, "group", 1)
    channels = view.shape[1]
    if groups < 1 or channels != per_group * groups or out_channels % groups:
        raise Unsupported(
            f"{channels} input channels, {groups} groups and a kernel {list(weight.shape)} do not fit",
            "input channels = groups × the kernel's second size, and groups a divisor of the output channels",
        )
    padding = padding_of(shown, view.shape[2:], (height, width), strides, dilations)
    extents = [(k - 1) * d + 1 for k, d in zip((height, width), dilations, strict=True)]
    layer, padding = absorb_excess(builder, builder.image(view), padding, extents)
    depthwise = groups == channels == out_channels and groups > 1
    attributes = {
        "kernel_shape": [height, width, per_group, out_channels], "strides": list(strides), "padding": padding,
        "dilations": list(dilations), "groups": groups,
    }  # fmt: skip
    bias = (
        builder.weights(node, 2, "the bias")
        if len(node.inputs) > 2 and node.inputs[2] is not None
        else np.zeros(out_channels)
    )
    if bias.shape != (out_channels,):
        raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{out_channels}]")
    made = builder.emit(
        "dw" if depthwise else "conv", [layer], attributes, {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias}
    )
    result = builder.output(made, IMAGE)
    if source.rank == 3:
        shape = result.shape
        result = regroup(result, [shape[0], shape[1], shape[3]])
    return [result]


def output_size(size: int, kernel: int, stride: int, before: int, after: int, ceil: bool) -> tuple[int, int]:
    """Output positions of a pool along one axis, and how far the last window reaches past the padded input."""
    count = window_output(size, kernel, stride, before, after)
    # A last, partial window counts only if it starts on the input or the padding before it.
    if ceil and (size + before + after - kernel) % stride and count * stride < size + before:
        count += 1
    return count, max((count - 1) * stride + kernel - (size + before + after), 0)
