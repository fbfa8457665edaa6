# SPDX-License-Identifier: Apache-2.0
"""Conv."""

from __future__ import annotations

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.correlation import correlated
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.compositions.volume import Window, as_volume, check_frames, convolved
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
from headrace.hn import Array
from headrace.layers import Convolution, DepthwiseConvolution


def _checked(node: SourceNode, channels: int, weight: Array) -> tuple[int, Array]:
    """The groups and the bias of a convolution of ``channels`` by ``weight`` [outputs, inputs per group, …]."""
    groups, (outputs, per_group, *window) = node.integer("group", 1), weight.shape
    if 0 in weight.shape:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", "sizes above 0")
    if groups < 1 or channels != per_group * groups or outputs % groups:
        raise Unsupported(
            f"{channels} input channels, {groups} groups and a kernel {list(weight.shape)} do not fit",
            "input channels = groups × the kernel's second size, and groups a divisor of the output channels",
        )
    declared = node.integers("kernel_shape", window)
    if declared != window:
        raise Unsupported(f"kernel_shape {declared} is not that of the weights {window}")
    bias = node.weights(2, "the bias") if node.has(2) else np.zeros(outputs)
    if bias.shape != (outputs,):
        raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{outputs}]")
    return groups, bias


def _volume(builder: Builder, node: SourceNode, source: View, weight: Array) -> View:
    """Over depth, height and width, or of pictures that are parts of one frame."""
    groups, bias = _checked(node, source.shape[1], weight)
    check_frames(builder, source)
    view, put_back = as_volume(source)
    window = Window.of(node, source.shape[2:], weight.shape[2:])
    if source.rank == 4:
        window, weight = window.with_depth(), weight[:, :, None]
    return put_back(convolved(builder, view, weight, bias, window, groups))


def _correlation(builder: Builder, node: SourceNode, source: View) -> View:
    """By a computed kernel."""
    kernel = node.view(1)
    if source.rank != 4 or kernel.rank != 4:
        raise Unsupported(f"a computed kernel of shape {list(kernel.shape)} on {list(source.shape)}", "four sizes each")
    if node.integers("kernel_shape", kernel.shape[2:]) != list(kernel.shape[2:]):
        raise Unsupported("kernel_shape is not that of the kernel")
    window = Window.of(node, source.shape[2:], kernel.shape[2:])
    made = correlated(builder, source, kernel, window, node.integer("group", 1))
    if not node.has(2):
        return made
    bias = node.weights(2, "the bias")
    if bias.shape != (kernel.shape[0],):
        raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{kernel.shape[0]}]")
    return per_channel(builder, made, 1.0, bias.reshape(-1, 1, 1))


@handles("Conv")
def convolution(builder: Builder, node: SourceNode) -> list[Result]:
    source = node.view(0)
    if len(node.inputs) > 1 and node.inputs[1] in builder.views:
        return [_correlation(builder, node, source)]
    weight = node.weights(1, "the kernel")
    if weight.ndim != source.rank:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", f"rank {source.rank}")
    if source.rank == 5 or (source.rank == 4 and not source.batch_first):
        return [_volume(builder, node, source, weight)]
    view = line_as_image(source)
    groups, bias = _checked(node, source.shape[1], weight)
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    out_channels, per_group, height, width = weight.shape
    strides = pair(attribute_of(node, "strides", source.rank, [1, 1]), "strides")
    dilations = pair(attribute_of(node, "dilations", source.rank, [1, 1]), "dilations")
    padding = padding_of(node, source.rank, view.shape[2:], (height, width), strides, dilations)
    extents = [(k - 1) * d + 1 for k, d in zip((height, width), dilations, strict=True)]
    layer, padding = absorb_excess(builder, builder.image(view), padding, extents)
    depthwise = groups == per_group * groups == out_channels and groups > 1
    kind = DepthwiseConvolution if depthwise else Convolution
    operation = kind(
        kernel_shape=(height, width, per_group, out_channels), strides=strides, padding=padding, dilations=dilations,
        groups=groups,
    )  # fmt: skip
    made = builder.emit(operation, [layer], {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias})
    return [narrowed(builder.output(made, IMAGE), source.rank)]
