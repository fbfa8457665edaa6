# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.transposed_convolution import TransposedAxis, transposed
from headrace.frontends.to_hn.compositions.window import attribute_of, line_as_image, narrowed, pair
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles

#: Most output phases; more would be a primitive's work.
MAX_PHASES = 64
_MAX_OUTPUT = 1 << 16


def _placement(
    node: SourceNode, rank: int, size: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """(padding before, output size) of height and width."""
    mode = node.text("auto_pad", "NOTSET")
    wanted = node.optional_integers("output_shape")
    extra = [0] * (4 - rank) + node.integers("output_padding", [0] * (rank - 2))
    if len(extra) != 2 or any(not 0 <= e <= _MAX_OUTPUT for e in extra) or strides[0] * strides[1] > MAX_PHASES:
        raise Unsupported(f"output_padding {extra}, strides {list(strides)}", f"at most {MAX_PHASES} output phases")
    full = [(n - 1) * s + e + o for n, s, e, o in zip(size, strides, extents, extra, strict=True)]
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {mode!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = attribute_of(node, "pads", rank, [0, 0, 0, 0], 0) if mode == "NOTSET" else [0, 0, 0, 0]
        if len(pads) != 4 or any(not 0 <= p <= _MAX_OUTPUT for p in pads):
            raise Unsupported(f"pads {pads}", "four sizes that are not negative")
        return pads[:2], [f - pads[i] - pads[2 + i] for i, f in enumerate(full)]
    if wanted is None:
        output = [n * s for n, s in zip(size, strides, strict=True)]
    elif len(wanted) in (rank - 2, rank):
        output = [1] * (4 - rank) + wanted[2 - rank :]
    else:
        raise Unsupported(f"output_shape {wanted}", f"{rank - 2} sizes")
    missing = [max(f - o, 0) for f, o in zip(full, output, strict=True)]
    return [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in missing], output


@handles("ConvTranspose")
def transposed_convolution(builder: Builder, node: SourceNode) -> list[Result]:
    source = node.view(0)
    view = line_as_image(source)
    weight = node.weights(1, "the kernel")
    if weight.ndim != source.rank or 0 in weight.shape:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", f"rank {source.rank}, sizes above 0")
    weight = weight[:, :, None, :] if weight.ndim == 3 else weight
    inputs, per_group, *window = weight.shape
    groups = node.integer("group", 1)
    if groups < 1 or view.shape[1] != inputs or inputs % groups:
        raise Unsupported(
            f"{view.shape[1]} input channels, {groups} groups, kernel {list(weight.shape)}", "that they fit"
        )
    outputs = per_group * groups
    declared = attribute_of(node, "kernel_shape", source.rank, window)
    if declared != window:
        raise Unsupported(f"kernel_shape {declared} is not that of the weights {window}")
    strides = pair(attribute_of(node, "strides", source.rank, [1, 1]), "strides")
    dilations = pair(attribute_of(node, "dilations", source.rank, [1, 1]), "dilations")
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    before, size = _placement(node, source.rank, view.shape[2:], extents, strides)
    if any(not 1 <= s <= _MAX_OUTPUT for s in size):
        raise Unsupported(f"ConvTranspose to {size}", f"sizes 1 to {_MAX_OUTPUT}")
    bias = node.weights(2, "the bias") if node.has(2) else np.zeros(outputs)
    if bias.shape != (outputs,):
        raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{outputs}]")
    # [cin, cout/g, kh, kw] → HWIO, output channels group by group
    kernel = weight.reshape(groups, inputs // groups, per_group, *window).transpose(3, 4, 1, 0, 2)
    kernel = kernel.reshape(*window, inputs // groups, outputs)
    axes = [
        TransposedAxis.of(*values)
        for values in zip(view.shape[2:], extents, strides, dilations, before, size, strict=True)
    ]
    made = transposed(builder, builder.image(view), kernel, bias, axes, groups)
    return [narrowed(builder.output(builder.network[made], IMAGE), source.rank)]
