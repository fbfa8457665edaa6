# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose, Resize, DepthToSpace and SpaceToDepth, put together exactly from layers the device has.

Interleaving needs no layer of its own: in row-major H×W×C order a concatenation along channels followed by a reshape
interleaves columns, and one along columns followed by a reshape interleaves rows. Codes pass through both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Unsupported, integer, integer_list, integers, text
from headrace.frontends.layout import CHANNELS_LAST, Arrangement, View, regroup
from headrace.frontends.to_hn.base import IMAGE, Builder, Result, handles
from headrace.frontends.to_hn.convolution import as_image, pair, widened
from headrace.hn import Array

#: Most layers that one node may become; more would be a primitive's work.
MAX_PIECES = 64
_MAX_BLOCK = 64
_MAX_OUTPUT = 1 << 16


# --- moves -----------------------------------------------------------------------------------------------------------


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


def interleave(builder: Builder, phases: Sequence[Sequence[str]]) -> str:
    """``out[y·bh + i, x·bw + j] = phases[i][j][y, x]`` for layers of one shape.

    A row of phases may also hold one layer whose channels are those of all its columns, one after the other.
    """
    width_block = max(len(row) for row in phases)
    rows = [_join(builder, row, 2) for row in phases]
    return interleave_rows(builder, rows, width_block)


def interleave_rows(builder: Builder, rows: Sequence[str], width_block: int) -> str:
    """The same, each row of phases joined along channels already."""
    height, width, channels = builder.extent(rows[0])
    outputs = channels // width_block
    wide = [_shaped(builder, row, (height, width * width_block, outputs)) for row in rows]
    return _shaped(builder, _join(builder, wide, 1), (height * len(rows), width * width_block, outputs))


def _block(node: ir.Node, what: str) -> int:
    size = integer(node, "blocksize", 0)
    if not 1 <= size <= _MAX_BLOCK:
        raise Unsupported(f"{what} with blocks of {size}", f"1 to {_MAX_BLOCK}")
    return size


@handles("DepthToSpace")
def depth_to_space(builder: Builder, node: ir.Node) -> list[Result]:
    size, mode = _block(node, "DepthToSpace"), text(node, "mode", "DCR") or "DCR"
    layer = builder.image(builder.view(node, 0))
    channels = builder.extent(layer)[2]
    if mode not in ("DCR", "CRD") or channels % (size * size):
        raise Unsupported(
            f"DepthToSpace of {channels} channels, mode {mode!r}", f"a multiple of {size * size}; DCR or CRD"
        )
    outputs = channels // (size * size)
    if mode == "DCR":
        rows = [_cut(builder, layer, 2, i * size * outputs, size * outputs) for i in range(size)]
        return [builder.output(builder.network[interleave_rows(builder, rows, size)], IMAGE)]
    if size * size > MAX_PIECES:
        raise Unsupported(f"DepthToSpace of mode CRD with blocks of {size}", "blocks of at most 8")
    phases = [[_cut(builder, layer, 2, i * size + j, outputs, size * size) for j in range(size)] for i in range(size)]
    return [builder.output(builder.network[interleave(builder, phases)], IMAGE)]


@handles("SpaceToDepth")
def space_to_depth(builder: Builder, node: ir.Node) -> list[Result]:
    size = _block(node, "SpaceToDepth")
    layer = builder.image(builder.view(node, 0))
    height, width, _ = builder.extent(layer)
    if height % size or width % size or size * size > MAX_PIECES:
        raise Unsupported(f"SpaceToDepth of {height}×{width} with blocks of {size}", "sizes divisible by it, at most 8")
    parts: list[str] = []
    for i in range(size):
        row = _cut(builder, layer, 0, i, height // size, size)
        parts += [_cut(builder, row, 1, j, width // size, size) for j in range(size)]
    return [builder.output(builder.network[_join(builder, parts, 2)], IMAGE)]


# --- Resize ----------------------------------------------------------------------------------------------------------


def coordinates(mode: str, size: int, output: int, scale: float) -> Array:
    """Real input coordinate of each output position, float32 as runtimes compute it."""
    x, half = np.arange(output, dtype=np.float32), np.float32(0.5)
    factor = np.float32(scale)
    match mode:
        case "half_pixel":
            return (x + half) / factor - half
        case "pytorch_half_pixel":
            return (x + half) / factor - half if output > 1 else np.zeros_like(x)
        case "asymmetric":
            return x / factor
        case "tf_half_pixel_for_nn":
            return (x + half) / factor
        case "align_corners":
            return x * np.float32(size - 1) / np.float32(output - 1) if output > 1 else np.zeros_like(x)
        case _:
            need = "half_pixel, pytorch_half_pixel, asymmetric, align_corners or tf_half_pixel_for_nn"
            raise Unsupported(f"Resize with coordinates {mode!r}", need)


def nearest_indices(mode: str, positions: Array, size: int, scale: float) -> Array:
    """Input index of each output position, int64."""
    match mode:
        case "floor":
            index = np.floor(positions)
        case "ceil":
            index = np.ceil(positions)
        case "round_prefer_ceil":
            index = np.floor(positions + np.float32(0.5))
        case "round_prefer_floor":
            index = np.ceil(positions - np.float32(0.5))
        case "simple":  # operator set 10
            index = np.floor(positions) if scale >= 1 else np.ceil(positions)
        case _:
            raise Unsupported(
                f"Resize with nearest_mode {mode!r}", "floor, ceil, round_prefer_floor, round_prefer_ceil"
            )
    return np.clip(index, 0, size - 1).astype(np.int64)


def _runs(index: Array) -> list[tuple[int, int, int]]:
    """(start, size, step) of slices that, joined, give ``index``; a repeated element starts a new slice."""
    runs: list[tuple[int, int, int]] = []
    at = 0
    while at < len(index):
        step = int(index[at + 1] - index[at]) if at + 1 < len(index) else 1
        end = at + 1
        while step > 0 and end < len(index) and index[end] - index[end - 1] == step:
            end += 1
        runs.append((int(index[at]), end - at, max(step, 1)))
        at = end
    return runs


def take(builder: Builder, layer: str, axis: int, index: Array) -> str:
    """Positions ``index`` (ascending) of one spatial axis: repeats, strided parts, or slices joined."""
    extent = builder.extent(layer)
    size, output = extent[axis], len(index)
    if output % size == 0 and np.array_equal(index, np.repeat(np.arange(size), output // size)):
        factor = output // size
        if factor == 1:
            return layer
        shape = [*extent]
        shape[axis] = output
        return _shaped(builder, _join(builder, [layer] * factor, axis + 1), shape)
    runs = _runs(index)
    if len(runs) > MAX_PIECES:
        raise Unsupported(
            f"nearest Resize from {size} to {output} repeats elements unevenly, in {len(runs)} parts",
            f"a whole factor, or at most {MAX_PIECES} parts",
        )
    return _join(builder, [_cut(builder, layer, axis, *run) for run in runs], axis)


def _phases(positions: Array, size: int, factor: int) -> list[tuple[int, float]] | None:
    """Per phase (first neighbour's distance from the input position, weight of the second), if the same everywhere."""
    place = positions.astype(np.float64).reshape(size, factor)
    offset = place - np.arange(size)[:, None]
    # Clamping to the input is what repeating the edge does, so only unclamped coordinates need to be regular.
    if np.abs(offset - offset[0]).max() > 1e-3 or np.abs(offset[0]).max() > 1:
        return None
    first = np.floor(offset[0] + 1e-4)  # float32 coordinates
    return [(int(f), max(float(o - f), 0.0)) for f, o in zip(first, offset[0], strict=True)]


def _repeat_edges(builder: Builder, layer: str, axis: int) -> str:
    size = builder.extent(layer)[axis]
    return _join(builder, [_cut(builder, layer, axis, 0, 1), layer, _cut(builder, layer, axis, size - 1, 1)], axis)


def bilinear(builder: Builder, layer: str, positions: Sequence[Array]) -> str:
    """Bilinear enlargement by whole factors: one depthwise 3×3 window per phase over the edge-repeated input."""
    extent = builder.extent(layer)
    factors = [len(p) // n for p, n in zip(positions, extent, strict=False)]
    whole = all(len(p) == f * n for p, f, n in zip(positions, factors, extent, strict=False)) and min(factors) >= 1
    phases = [_phases(p, n, f) for p, n, f in zip(positions, extent, factors, strict=False)] if whole else [None]
    if any(p is None for p in phases) or factors[0] * factors[1] > MAX_PIECES:
        sizes = f"{extent[0]}×{extent[1]} to {len(positions[0])}×{len(positions[1])}"
        raise Unsupported(f"bilinear Resize from {sizes}", f"a whole factor, {MAX_PIECES} at most, corners not aligned")
    channels = extent[2]
    taps: list[list[Array]] = []
    for axis in (0, 1):
        layer = _repeat_edges(builder, layer, axis)
        found: list[Array] = []
        for first, weight in phases[axis] or []:
            tap = np.zeros(4)
            tap[first + 1], tap[first + 2] = 1 - weight, weight
            found.append(tap[:3])
        taps.append(found)
    rows: list[list[str]] = []
    for row in taps[0]:
        rows.append([])
        for column in taps[1]:
            kernel = np.broadcast_to(np.outer(row, column)[:, :, None, None], (3, 3, 1, channels)).copy()
            attributes = {"kernel_shape": [3, 3, 1, channels], "groups": channels}
            params = {"kernel": kernel, "bias": np.zeros(channels)}
            kind = "dw" if channels > 1 else "conv"
            rows[-1].append(builder.emit(kind, [layer], attributes, params).name)
    return interleave(builder, rows)


def _target(builder: Builder, node: ir.Node, view: View) -> tuple[list[int], list[float]]:
    """Output sizes and scales per source dimension."""
    scales, sizes = builder.optional(node, 2, "the scales"), builder.optional(node, 3, "the sizes")
    axes = [axis_in(a, view.rank) for a in integers(node, "axes", range(view.rank)) or []]
    factor, out = [1.0] * view.rank, list(view.shape)
    if sizes is not None and sizes.size:
        given = integer_list(sizes, "the sizes")
        if len(given) != len(axes) or (text(node, "keep_aspect_ratio_policy", "stretch") or "stretch") != "stretch":
            raise Unsupported("Resize that keeps the aspect ratio, or has not one size per axis", "policy 'stretch'")
        for axis, size in zip(axes, given, strict=True):
            if axis == 0:
                continue  # the frames of the batch, whatever their number
            out[axis], factor[axis] = size, size / max(view.shape[axis], 1)
    elif scales is not None and scales.size == len(axes) and scales.dtype.kind == "f":
        for axis, value in zip(axes, scales.reshape(-1).tolist(), strict=True):
            if not 0 < value < _MAX_OUTPUT or (axis == 0 and value != 1):
                raise Unsupported(f"Resize by {value}", "positive scales, 1 for the batch")
            factor[axis], out[axis] = float(value), int(np.floor(np.float32(view.shape[axis]) * np.float32(value)))
    else:
        raise Unsupported("Resize without scales or sizes", "one of them, constant")
    if any(not 1 <= s <= _MAX_OUTPUT for s in out):
        raise Unsupported(f"Resize to {out}", f"sizes 1 to {_MAX_OUTPUT}")
    return out, factor


@handles("Resize")
def resize(builder: Builder, node: ir.Node) -> list[Result]:
    view = builder.view(node, 0)
    mode = text(node, "mode", "nearest") or "nearest"
    if mode not in ("nearest", "linear") or integer(node, "antialias", 0):
        raise Unsupported(f"Resize with mode {mode!r}, antialias {integer(node, 'antialias', 0)}", "nearest or linear")
    out, scales = _target(builder, node, view)
    changed = [i for i in range(view.rank) if out[i] != view.shape[i] or scales[i] != 1.0]
    if not changed:
        return [view]
    arrangement: Arrangement
    spatial: tuple[int, ...]
    if view.rank == 4 and set(changed) <= {2, 3}:
        arrangement, spatial = IMAGE, (2, 3)
    elif view.rank == 4 and set(changed) <= {1, 2}:
        arrangement, spatial = CHANNELS_LAST, (1, 2)
    elif view.rank == 3 and changed == [2]:
        arrangement, spatial = (None, 2, 1), (2,)
    else:
        raise Unsupported(f"Resize from {list(view.shape)} to {out}", "height and width of N,C,H,W or N,H,W,C")
    layer = builder.arrange(view, arrangement, vector=False)
    coordinate = text(node, "coordinate_transformation_mode", "half_pixel") or "half_pixel"
    axes = [0, 1] if len(spatial) == 2 else [1]
    positions = [coordinates(coordinate, view.shape[d], out[d], scales[d]) for d in spatial]
    if mode == "linear":
        if len(axes) == 1:
            positions.insert(0, np.zeros(1, np.float32))
        layer = bilinear(builder, layer, positions)
    else:
        rounding = text(node, "nearest_mode", "round_prefer_floor") or "round_prefer_floor"
        for axis, dim, place in reversed(list(zip(axes, spatial, positions, strict=True))):
            if scales[dim] != 1.0:  # runtimes leave such an axis alone, whatever the rounding
                layer = take(builder, layer, axis, nearest_indices(rounding, place, view.shape[dim], scales[dim]))
    return [builder.output(builder.network[layer], arrangement)]


# --- ConvTranspose ---------------------------------------------------------------------------------------------------


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
    rows: list[list[str]] = []
    for i in range(strides[0]):
        row = _phase_kernel(kernel, 0, taps[0], strides[0], dilations[0], i)
        phases = [_phase_kernel(row, 1, taps[1], strides[1], dilations[1], j) for j in range(strides[1])]
        if groups == 1:  # one convolution gives all columns' phases
            phases = [np.concatenate(phases, axis=3)]
        rows.append([])
        for phase in phases:
            count = phase.shape[3]
            depthwise = groups > 1 and inputs == 1 and outputs == groups
            attributes = {"kernel_shape": [*taps, inputs, count], "padding": padding, "groups": groups}
            params = {"kernel": phase, "bias": np.tile(bias, count // outputs)}
            rows[-1].append(builder.emit("dw" if depthwise else "conv", [layer], attributes, params).name)
    return interleave_rows(builder, [_join(builder, row, 2) for row in rows], strides[1])


__all__ = ["bilinear", "coordinates", "interleave", "nearest_indices", "take"]
