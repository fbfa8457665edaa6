# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose, put together exactly from a plain convolution per output phase and a move that interleaves them.

Equal strides make it one convolution and a depth_to_space. Others interleave by layers that pass codes: in row-major
H×W×C order a concatenation along channels followed by a reshape interleaves columns, one along columns rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, integer, integers, text
from headrace.frontends.layout import regroup
from headrace.frontends.to_hn.base import IMAGE, Builder, Result, handles
from headrace.frontends.to_hn.convolution import as_image, pair, widened
from headrace.hn import Array

#: Most layers that one node may become; more would be a primitive's work.
MAX_PIECES = 64
_MAX_OUTPUT = 1 << 16


def _cut(builder: Builder, layer: str, axis: int, start: int, size: int, step: int = 1) -> str:
    """Part of one axis; the layer itself where that is all of it."""
    extent = list(builder.extent(layer))
    if (start, size) == (0, extent[axis]):
        return layer
    starts, steps, sizes = [0, 0, 0], [1, 1, 1], extent
    starts[axis], steps[axis], sizes[axis] = start, step, size
    return builder.emit("slice", [layer], {"starts": starts, "steps": steps, "sizes": sizes}).name


def _join(builder: Builder, layers: Sequence[str], axis: int) -> str:
    return layers[0] if len(layers) == 1 else builder.emit("concat", layers, {"axis": axis}).name


def _shaped(builder: Builder, layer: str, shape: Sequence[int]) -> str:
    if builder.extent(layer) == tuple(shape):
        return layer
    return builder.emit("reshape", [layer], {"shape": list(shape)}).name


def interleave_rows(builder: Builder, rows: Sequence[str], width_block: int) -> str:
    """The same, each row of phases joined along channels already."""
    height, width, channels = builder.extent(rows[0])
    outputs = channels // width_block
    wide = [_shaped(builder, row, (height, width * width_block, outputs)) for row in rows]
    return _shaped(builder, _join(builder, wide, 1), (height * len(rows), width * width_block, outputs))


def _transposed_padding(
    node: ir.Node, size: Sequence[int], extents: Sequence[int], strides: Sequence[int], extra: Sequence[int]
) -> tuple[list[int], list[int]]:
    """(padding before, output size) per axis."""
    mode = text(node, "auto_pad", "NOTSET") or "NOTSET"
    wanted = integers(node, "output_shape", None)
    full = [(n - 1) * s + e + o for n, s, e, o in zip(size, strides, extents, extra, strict=True)]
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {mode!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = (integers(node, "pads", [0, 0, 0, 0]) or []) if mode == "NOTSET" else [0, 0, 0, 0]
        if len(pads) != 4 or any(not 0 <= p <= _MAX_OUTPUT for p in pads):
            raise Unsupported(f"pads {pads}", "four sizes that are not negative")
        return pads[:2], [f - pads[i] - pads[2 + i] for i, f in enumerate(full)]
    output = [n * s for n, s in zip(size, strides, strict=True)] if wanted is None else wanted[-2:]
    total = [max(f - o, 0) for f, o in zip(full, output, strict=True)]
    return [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total], list(output)


def _phase_kernel(weight: Array, axis: int, taps: int, stride: int, dilation: int, phase: int) -> Array:
    """The taps of one output phase along one axis, as a plain convolution's, padded with zeros to ``taps``.

    Output position ``stride·m + phase`` reads input ``m - (t·dilation - phase) / stride`` for every tap t that divides.
    """
    shape = list(weight.shape)
    shape[axis] = taps
    kernel = np.zeros(shape)
    for t in range(weight.shape[axis]):
        distance = t * dilation - phase
        if distance % stride == 0 and distance >= 0:
            to, source = [slice(None)] * weight.ndim, [slice(None)] * weight.ndim
            to[axis], source[axis] = taps - 1 - distance // stride, t  # pyright: ignore[reportCallIssue, reportArgumentType]
            kernel[tuple(to)] = weight[tuple(source)]
    return kernel


@handles("ConvTranspose")
def transposed_convolution(builder: Builder, node: ir.Node) -> list[Result]:
    source = builder.view(node, 0)
    view, shown = as_image(source), widened(node, source.rank)
    weight = builder.weights(node, 1, "the kernel")
    if weight.ndim != source.rank or 0 in weight.shape:
        raise Unsupported(f"the kernel has shape {list(weight.shape)}", f"rank {source.rank}, sizes above 0")
    weight = weight[:, :, None, :] if weight.ndim == 3 else weight
    inputs, per_group, *window = weight.shape
    groups = integer(node, "group", 1)
    if groups < 1 or view.shape[1] != inputs or inputs % groups:
        raise Unsupported(
            f"{view.shape[1]} input channels, {groups} groups, kernel {list(weight.shape)}", "that they fit"
        )
    outputs = per_group * groups
    if integers(shown, "kernel_shape", window) != window:
        raise Unsupported(f"kernel_shape {integers(shown, 'kernel_shape', None)} is not that of the weights {window}")
    strides = pair(integers(shown, "strides", [1, 1]) or [], "strides")
    dilations = pair(integers(shown, "dilations", [1, 1]) or [], "dilations")
    extra = [0] * (4 - source.rank) + (integers(node, "output_padding", [0] * (source.rank - 2)) or [])
    if len(extra) != 2 or any(not 0 <= e <= _MAX_OUTPUT for e in extra) or strides[0] * strides[1] > MAX_PIECES:
        raise Unsupported(f"output_padding {extra}, strides {list(strides)}", f"at most {MAX_PIECES} output phases")
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    before, size = _transposed_padding(shown, view.shape[2:], extents, strides, extra)
    if any(not 1 <= s <= _MAX_OUTPUT for s in size):
        raise Unsupported(f"ConvTranspose to {size}", f"sizes 1 to {_MAX_OUTPUT}")
    bias = np.zeros(outputs)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = builder.weights(node, 2, "the bias")
    if bias.shape != (outputs,):
        raise Unsupported(f"the bias has shape {list(bias.shape)}", f"[{outputs}]")
    # [cin, cout/g, kh, kw] → HWIO, output channels group by group
    kernel = weight.reshape(groups, inputs // groups, per_group, *window).transpose(3, 4, 1, 0, 2)
    kernel = kernel.reshape(*window, inputs // groups, outputs)
    geometry = [
        _Axis.of(n, e, s, b, o) for n, e, s, b, o in zip(view.shape[2:], extents, strides, before, size, strict=True)
    ]
    made = _phased(builder, builder.image(view), kernel, bias, strides, dilations, geometry, groups)
    for axis in (0, 1):
        made = _cut(builder, made, axis, geometry[axis].crop, size[axis])
    result = builder.output(builder.network[made], IMAGE)
    return [regroup(result, [result.shape[0], result.shape[1], result.shape[3]]) if source.rank == 3 else result]


class _Axis:
    """How one axis of a transposed convolution is computed: taps and padding of the plain one, and what is cut off."""

    def __init__(self, taps: int, top: int, bottom: int, crop: int, shrink: int) -> None:
        self.taps, self.top, self.bottom, self.crop, self.shrink = taps, top, bottom, crop, shrink

    @classmethod
    def of(cls, size: int, extent: int, stride: int, before: int, output: int) -> _Axis:
        taps = -(-extent // stride)
        skipped = min(before // stride, taps - 1)  # whole positions before the first that is wanted
        positions = -(-(before + output) // stride) - skipped
        # positions = size + top + bottom - taps + 1
        bottom = positions - size - (taps - 1 - skipped) + taps - 1
        return cls(taps, taps - 1 - skipped, max(bottom, 0), before - skipped * stride, max(-bottom, 0))


def _phased(
    builder: Builder, layer: str, kernel: Array, bias: Array, strides: Sequence[int], dilations: Sequence[int],
    axes: Sequence[_Axis], groups: int,
) -> str:  # fmt: skip
    for index, axis in enumerate(axes):
        layer = _cut(builder, layer, index, 0, builder.extent(layer)[index] - axis.shrink)
    taps = [a.taps for a in axes]
    after = [max(a.bottom - a.taps + 1, 0) for a in axes]  # a convolution's padding stays below its kernel's extent
    if any(after):
        layer = builder.emit("external_pad", [layer], {"before": [0, 0, 0], "after": [*after, 0]}).name
    padding = [axes[0].top, axes[1].top, axes[0].bottom - after[0], axes[1].bottom - after[1]]
    inputs, outputs = kernel.shape[2:]

    def convolve(weights: list[Array]) -> list[str]:
        if groups == 1:  # one convolution gives all of them
            weights = [np.concatenate(weights, axis=3)]
        names: list[str] = []
        for weight in weights:
            count = weight.shape[3]
            depthwise = groups > 1 and inputs == 1 and outputs == groups
            attributes = {"kernel_shape": [*taps, inputs, count], "padding": padding, "groups": groups}
            params = {"kernel": weight, "bias": np.tile(bias, count // outputs)}
            names.append(builder.emit("dw" if depthwise else "conv", [layer], attributes, params).name)
        return names

    phases: list[list[Array]] = []
    for i in range(strides[0]):
        row = _phase_kernel(kernel, 0, taps[0], strides[0], dilations[0], i)
        phases.append([_phase_kernel(row, 1, taps[1], strides[1], dilations[1], j) for j in range(strides[1])])
    if strides[0] == strides[1]:
        deep = _join(builder, convolve([phase for row in phases for phase in row]), 2)
        return builder.emit("depth_to_space", [deep], {"block": strides[0]}).name if strides[0] > 1 else deep
    rows = [_join(builder, convolve(row), 2) for row in phases]
    return interleave_rows(builder, rows, strides[1])
