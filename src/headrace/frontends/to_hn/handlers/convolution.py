# SPDX-License-Identifier: Apache-2.0
"""Conv."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.window import (
    absorb_excess,
    attribute_of,
    line_as_image,
    narrowed,
    padding_of,
    pair,
)
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import Convolution, DepthwiseConvolution


@handles("Conv")
def convolution(builder: Builder, node: SourceNode) -> list[Result]:
    source = node.view(0)
    view = line_as_image(source)
    weight = node.weights(1, "the kernel")
    if weight.ndim != source.rank:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", f"rank {source.rank}")
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    if 0 in weight.shape:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", "sizes above 0")
    out_channels, per_group, height, width = weight.shape
    declared = attribute_of(node, "kernel_shape", source.rank, [height, width])
    if declared != [height, width]:
        raise Unsupported(f"kernel_shape {declared} is not that of the weights {[height, width]}")
    strides = pair(attribute_of(node, "strides", source.rank, [1, 1]), "strides")
    dilations = pair(attribute_of(node, "dilations", source.rank, [1, 1]), "dilations")
    groups = node.integer("group", 1)
    channels = view.shape[1]
    if groups < 1 or channels != per_group * groups or out_channels % groups:
        raise Unsupported(
            f"{channels} input channels, {groups} groups and a kernel {list(weight.shape)} do not fit",
            "input channels = groups × the kernel's second size, and groups a divisor of the output channels",
        )
    padding = padding_of(node, source.rank, view.shape[2:], (height, width), strides, dilations)
    extents = [(k - 1) * d + 1 for k, d in zip((height, width), dilations, strict=True)]
    layer, padding = absorb_excess(builder, builder.image(view), padding, extents)
    depthwise = groups == channels == out_channels and groups > 1
    bias = node.weights(2, "the bias") if node.has(2) else np.zeros(out_channels)
    if bias.shape != (out_channels,):
        raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{out_channels}]")
    kind = DepthwiseConvolution if depthwise else Convolution
    operation = kind(
        kernel_shape=(height, width, per_group, out_channels), strides=strides, padding=padding, dilations=dilations,
        groups=groups,
    )  # fmt: skip
    made = builder.emit(operation, [layer], {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias})
    return [narrowed(builder.output(made, IMAGE), source.rank)]
