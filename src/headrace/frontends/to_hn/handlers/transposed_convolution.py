# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import IMAGE, Builder
from headrace.frontends.to_hn.compositions.transposed_convolution import TransposedAxis, transposed
from headrace.frontends.to_hn.compositions.volume import as_volume, check_frames, transposed_convolved
from headrace.frontends.to_hn.compositions.window import line_as_image, narrowed
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array

#: Most output phases; more would be a primitive's work.
MAX_PHASES = 64
_MAX_OUTPUT = 1 << 16


def _placement(
    node: SourceNode, size: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """(padding before, output size) of each axis."""
    count = len(size)
    mode = node.text("auto_pad", "NOTSET")
    wanted = node.optional_integers("output_shape")
    extra = node.integers("output_padding", [0] * count)
    if len(extra) != count or any(not 0 <= e <= _MAX_OUTPUT for e in extra) or math.prod(strides) > MAX_PHASES:
        raise Unsupported(f"output_padding {extra}, strides {list(strides)}", f"at most {MAX_PHASES} output phases")
    full = [(n - 1) * s + e + o for n, s, e, o in zip(size, strides, extents, extra, strict=True)]
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {mode!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = node.integers("pads", [0] * 2 * count) if mode == "NOTSET" else [0] * 2 * count
        if len(pads) != 2 * count or any(not 0 <= p <= _MAX_OUTPUT for p in pads):
            raise Unsupported(f"pads {pads}", f"{2 * count} sizes that are not negative")
        return pads[:count], [f - pads[i] - pads[count + i] for i, f in enumerate(full)]
    if wanted is None:
        output = [n * s for n, s in zip(size, strides, strict=True)]
    elif len(wanted) in (count, count + 2):
        output = wanted[-count:]
    else:
        raise Unsupported(f"output_shape {wanted}", f"{count} sizes")
    missing = [max(f - o, 0) for f, o in zip(full, output, strict=True)]
    return [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in missing], output


@dataclass(frozen=True)
class _Parameters:
    """What a ConvTranspose states, per axis.

    Attributes:
        weight: [inputs, outputs per group, …].
        bias: [outputs].
        axes: stride, dilation, extent, padding before and size of the result of each axis.
    """

    weight: Array
    bias: Array
    groups: int
    axes: tuple[tuple[int, int, int, int, int], ...]

    @classmethod
    def of(cls, node: SourceNode, source: View) -> _Parameters:
        weight = node.weights(1, "the kernel")
        if weight.ndim != source.rank or weight.ndim < 3 or 0 in weight.shape:
            raise Unsupported(f"the kernel has shape {list(weight.shape)}", f"rank {source.rank}, sizes above 0")
        inputs, per_group, *window = weight.shape
        groups = node.integer("group", 1)
        if groups < 1 or source.shape[1] != inputs or inputs % groups:
            raise Unsupported(
                f"{source.shape[1]} input channels, {groups} groups, kernel {list(weight.shape)}", "that they fit"
            )
        declared = node.integers("kernel_shape", window)
        if declared != window:
            raise Unsupported(f"kernel_shape {declared} is not that of the weights {window}")
        count = len(window)
        strides, dilations = (node.integers(name, [1] * count) for name in ("strides", "dilations"))
        for what, values in (("strides", strides), ("dilations", dilations)):
            if len(values) != count or any(not 0 < v < 1 << 31 for v in values):
                raise Unsupported(f"{what} {values}", f"{count} positive integers")
        extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
        before, size = _placement(node, source.shape[2:], extents, strides)
        if any(not 1 <= s <= _MAX_OUTPUT for s in size):
            raise Unsupported(f"ConvTranspose to {size}", f"sizes 1 to {_MAX_OUTPUT}")
        outputs = per_group * groups
        bias = node.weights(2, "the bias") if node.has(2) else np.zeros(outputs)
        if bias.shape != (outputs,):
            raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{outputs}]")
        return cls(weight, bias, groups, tuple(zip(strides, dilations, extents, before, size, strict=True)))


def _axis(size: int, numbers: tuple[int, int, int, int, int]) -> TransposedAxis:
    stride, dilation, extent, before, output = numbers
    return TransposedAxis.of(size, extent, stride, dilation, before, output)


@handles("ConvTranspose")
def transposed_convolution(builder: Builder, node: SourceNode) -> list[Result]:
    source = node.view(0)
    if source.rank not in (3, 4, 5):
        raise Unsupported(f"its input has {source.rank - 2} spatial dimensions", "one to three")
    given = _Parameters.of(node, source)
    weight, groups = given.weight, given.groups
    if source.rank == 5 or (source.rank == 4 and not source.batch_first):
        check_frames(builder, source)
        view, put_back = as_volume(source)
        weight, numbers = (weight[:, :, None], ((1, 1, 1, 0, view.shape[1]), *given.axes)) if source.rank == 4 else (
            weight, given.axes
        )  # fmt: skip
        axes = [_axis(size, axis) for size, axis in zip(view.shape[3:], numbers[1:], strict=True)]
        stride, dilation, _, before, output = numbers[0]
        depth = (stride, dilation, before, output)
        return [put_back(transposed_convolved(builder, view, weight, given.bias, axes, groups, depth))]
    view, numbers = line_as_image(source), given.axes
    if source.rank == 3:
        weight, numbers = weight[:, :, None, :], ((1, 1, 1, 0, 1), *numbers)
    inputs, per_group, *window = weight.shape
    # [cin, cout/g, kh, kw] → HWIO, output channels group by group
    kernel = weight.reshape(groups, inputs // groups, per_group, *window).transpose(3, 4, 1, 0, 2)
    kernel = kernel.reshape(*window, inputs // groups, per_group * groups)
    axes = [_axis(size, axis) for size, axis in zip(view.shape[2:], numbers, strict=True)]
    made = transposed(builder, builder.image(view), kernel, given.bias, axes, groups)
    return [narrowed(builder.output(builder.network[made], IMAGE), source.rank)]
