# SPDX-License-Identifier: Apache-2.0
"""MaxPool, AveragePool and the global pools."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.volume import Window, as_volume, check_frames, pooled, pooled_whole
from headrace.frontends.to_hn.compositions.window import (
    attribute_of,
    line_as_image,
    narrowed,
    output_size,
    padding_of,
    padding_of_maxima,
    pair,
)
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import AveragePool, DepthToSpace, MaxPool, SpaceToDepth


@handles("MaxPool", "AveragePool")
def window_pool(builder: Builder, node: SourceNode) -> list[Result]:
    source = node.view(0)
    if source.rank == 5 or (source.rank == 4 and not source.batch_first):
        return [_volume(builder, node, source)]
    view = line_as_image(source)
    kernel = pair(attribute_of(node, "kernel_shape", source.rank, []), "kernel_shape")
    strides = pair(attribute_of(node, "strides", source.rank, [1, 1]), "strides")
    dilations = pair(attribute_of(node, "dilations", source.rank, [1, 1]), "dilations")
    if node.integer("storage_order", 0):
        raise Unsupported("storage_order 1", "storage_order 0")
    padding = list(padding_of(node, source.rank, view.shape[2:], kernel, strides, dilations))
    first = node.node.inputs[0]
    before = padding_of_maxima(None if first is None else first.producer())
    padding = [own + more for own, more in zip(padding, before or (0, 0, 0, 0), strict=True)]
    block = max(dilations)
    if block > 1:
        _check_dilated(view, dilations, strides, padding)
        padding = [p // block for p in padding]
    ceil = node.integer("ceil_mode", 0) == 1
    average = node.op_type == "AveragePool"
    count_padding = average and node.integer("count_include_pad", 0) == 1 and any(padding)
    for axis in range(2):
        size = view.shape[2 + axis]
        _, reach = output_size(size, kernel[axis], strides[axis], padding[axis], padding[2 + axis], ceil)
        if reach and count_padding:
            raise Unsupported(
                "ceil_mode with count_include_pad where the last window leaves the padding", "one of the two"
            )
        padding[2 + axis] += reach
    top, left, bottom, right = padding
    pool = MaxPool(kernel, strides, (top, left, bottom, right))
    if average:
        pool = AveragePool(kernel, strides, (top, left, bottom, right), count_padding)
    layer = builder.image(view)
    if block > 1:  # the pixels that one window reads stand together in one of block × block smaller pictures
        layer = builder.emit(SpaceToDepth(block), [layer]).name
    made = builder.emit(pool, [layer])
    if block > 1:
        made = builder.emit(DepthToSpace(block), [made.name])
    return [narrowed(builder.output(made, IMAGE), source.rank)]


def _volume(builder: Builder, node: SourceNode, source: View) -> View:
    """Over depth, height and width, or of pictures that are parts of one frame."""
    if node.integer("storage_order", 0):
        raise Unsupported("storage_order 1", "storage_order 0")
    check_frames(builder, source)
    view, put_back = as_volume(source)
    window = Window.of(node, source.shape[2:], node.integers("kernel_shape", []))
    if source.rank == 4:
        window = window.with_depth()
    average = node.op_type == "AveragePool"
    count_padding = average and node.integer("count_include_pad", 0) == 1 and any((*window.before, *window.after))
    return put_back(pooled(builder, view, window, average, count_padding, node.integer("ceil_mode", 0) == 1))


def _check_dilated(view: View, dilations: Sequence[int], strides: Sequence[int], padding: Sequence[int]) -> None:
    block = max(dilations)
    fits = not any(n % block for n in (*view.shape[2:], *padding))
    if min(dilations) != block or max(strides) > 1 or not fits:
        raise Unsupported(
            f"a pool with dilations {list(dilations)}, strides {list(strides)}, padding {list(padding)} of "
            f"{list(view.shape[2:])}",
            "dilations of 1, or one dilation that divides height, width and padding, with strides of 1",
        )


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(builder: Builder, node: SourceNode) -> list[Result]:
    source = node.view(0)
    if source.rank == 5 or (source.rank == 4 and not source.batch_first):
        check_frames(builder, source)
        volume, put_back = as_volume(source)
        if source.rank == 4:
            window = Window.whole(volume.shape[3:]).with_depth()
            return [put_back(pooled(builder, volume, window, node.op_type == "GlobalAveragePool", False, False))]
        return [put_back(pooled_whole(builder, volume, node.op_type == "GlobalAveragePool"))]
    layer = builder.image(line_as_image(source))
    height, width, _ = builder.extent(layer)
    pool = AveragePool if node.op_type == "GlobalAveragePool" else MaxPool
    return [narrowed(builder.output(builder.emit(pool((height, width)), [layer]), IMAGE), source.rank)]
