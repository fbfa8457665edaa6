# SPDX-License-Identifier: Apache-2.0
"""MaxPool, AveragePool, the global pools, and ReduceMean over height and width."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported, integer, integer_list, integers
from headrace.frontends.layout import HEIGHT, WIDTH, View, regroup
from headrace.frontends.to_hn.base import IMAGE, Builder, Result, handles
from headrace.frontends.to_hn.convolution import as_image, output_size, padding_of, pair, widened


def _narrow(view: View, rank: int) -> View:
    if rank == 4:
        return view
    n, c, _, length = view.shape
    return regroup(view, [n, c, length])


@handles("MaxPool", "AveragePool")
def window_pool(builder: Builder, node: ir.Node) -> list[Result]:
    source = builder.view(node, 0)
    view, shown = as_image(source), widened(node, source.rank)
    kernel = pair(integers(shown, "kernel_shape", None) or [], "kernel_shape")
    strides = pair(integers(shown, "strides", [1, 1]) or [], "strides")
    dilations = integers(shown, "dilations", [1, 1])
    if dilations != [1, 1]:
        raise Unsupported(f"a pool with dilations {dilations}", "dilations of 1")
    if integer(node, "storage_order", 0):
        raise Unsupported("storage_order 1", "storage_order 0")
    padding = padding_of(shown, view.shape[2:], kernel, strides, (1, 1))
    ceil = integer(node, "ceil_mode", 0) == 1
    average = node.op_type == "AveragePool"
    count_padding = average and integer(node, "count_include_pad", 0) == 1 and any(padding)
    for axis in range(2):
        size = view.shape[2 + axis]
        _, reach = output_size(size, kernel[axis], strides[axis], padding[axis], padding[2 + axis], ceil)
        if reach and count_padding:
            raise Unsupported(
                "ceil_mode with count_include_pad where the last window leaves the padding", "one of the two"
            )
        padding[2 + axis] += reach
    attributes: dict[str, object] = {"kernel_shape": list(kernel), "strides": list(strides), "padding": padding}
    if average:
        attributes["count_padding"] = count_padding
    made = builder.emit("avgpool" if average else "maxpool", [builder.image(view)], attributes)
    return [_narrow(builder.output(made, IMAGE), source.rank)]


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(builder: Builder, node: ir.Node) -> list[Result]:
    source = builder.view(node, 0)
    layer = builder.image(as_image(source))
    height, width, _ = builder.extent(layer)
    if node.op_type == "GlobalAveragePool":
        made = builder.emit("global_avgpool", [layer])
    else:
        made = builder.emit("maxpool", [layer], {"kernel_shape": [height, width]})
    return [_narrow(builder.output(made, IMAGE), source.rank)]


@handles("ReduceMean")
def reduce_mean(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    given = builder.optional(node, 1, "axes")
    empty = given is None or given.size == 0
    if empty and integer(node, "noop_with_empty_axes", 0):
        return [view]
    if given is None or empty:
        raise Unsupported("ReduceMean over all axes mixes the frames of a batch", "axes of height and width")
    axes = sorted({axis_in(a, view.rank) for a in integer_list(given, "axes")})
    shape = [1 if i in axes else s for i, s in enumerate(view.shape)]
    layer, arrangement = builder.arranged(view)
    reduced = {arrangement[a] for a in axes if view.shape[a] > 1}
    extent = builder.extent(layer)
    spatial = {axis for axis in (HEIGHT, WIDTH) if extent[axis] > 1}
    if 0 in axes or reduced - {HEIGHT, WIDTH} or (reduced and reduced != spatial):
        raise Unsupported(
            f"ReduceMean over axes {axes} of a tensor {list(view.shape)}", "the mean over height and width together"
        )
    if reduced:
        layer = builder.emit("global_avgpool", [builder.same_rank([layer])[0]]).name
    result = View(layer, builder.extent(layer), builder.output(builder.network[layer], arrangement).dims)
    if integer(node, "keepdims", 1) == 0:
        result = regroup(result, [s for i, s in enumerate(shape) if i not in axes])
    return [result]
