# SPDX-License-Identifier: Apache-2.0
"""Slices of slices become one; a convolution that reads blocks of pixels as channels reads the pixels instead.

YOLO's "Focus" (Glenn Jocher, YOLOv5; kept by YOLOX) puts every second pixel of every second row into channels, four
slices and a concatenation, before a convolution of k×k with stride 1. The same sums are a convolution of 2k×2k with
stride 2 on the pixels themselves: the same products, and nothing to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import Concat, Convolution, Slice, SpaceToDepth
from headrace.passes.rewriting import Facts, Pass, sole_user


@dataclass(frozen=True)
class MergeSlices(Pass):
    """A slice of a slice reads the first one's input."""

    name: ClassVar[str] = "merge-slices"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for layer in network.of(Slice):
            before = network[layer.inputs[0]]
            inner, outer = before.operation, layer.operation
            if not isinstance(inner, Slice) or not isinstance(outer, Slice):
                continue
            starts = (a + s * b for a, s, b in zip(inner.starts, inner.steps, outer.starts, strict=True))
            steps = (a * b for a, b in zip(inner.steps, outer.steps, strict=True))
            layer.operation = replace(outer, starts=tuple(starts), steps=tuple(steps))
            network.set_operands(layer, before.operands or ())
            layer.original_names = [*before.original_names, *layer.original_names]
            records.append({"layer": layer.name, "skipped": before.name})
        return records


@dataclass(frozen=True)
class Blocks:
    """Pixels of ``source`` as channels: ``places[n]`` is the row, column and channel that channel ``n`` reads."""

    source: str
    side: int
    places: tuple[tuple[int, int, int], ...]


def _of_layer(network: Network, layer: Layer, operation: SpaceToDepth) -> Blocks:
    """The blocks that a space_to_depth layer makes."""
    side, channels = operation.block, network[layer.inputs[0]].output_shape[3]
    block_first = operation.mode == "DCR"
    outer = [(row, column) for row in range(side) for column in range(side)]
    places = (
        [(row, column, c) for row, column in outer for c in range(channels)]
        if block_first
        else [(row, column, c) for c in range(channels) for row, column in outer]
    )
    return Blocks(layer.inputs[0], side, tuple(places))


def _of_slices(network: Network, concat: Layer, operation: Concat) -> Blocks | None:
    """The blocks that a concatenation of strided slices of one tensor makes, in any order; None if it is not that."""
    layers = [network[name] for name in concat.inputs]
    slices = [layer.operation for layer in layers if isinstance(layer.operation, Slice)]
    if operation.axis != 2 or len(slices) < len(layers):
        return None
    sources = list(dict.fromkeys(layer.inputs[0] for layer in layers))
    shape = network[sources[0]].output_shape
    side = slices[0].steps[0]
    if len(sources) > 1 or len(shape) != 4 or side < 2 or len(slices) != side * side:
        return None
    height, width, channels = shape[1:]
    starts: list[tuple[int, int]] = []
    for item in slices:
        whole = item.sizes == (height // side, width // side, channels)
        row, column, channel = item.starts
        if item.steps != (side, side, 1) or not whole or channel or max(row, column) >= side:
            return None
        starts.append((row, column))
    if height % side or width % side or len(dict.fromkeys(starts)) < len(starts):
        return None
    return Blocks(sources[0], side, tuple((row, column, c) for row, column in starts for c in range(channels)))


def _unfolded(kernel: Array, blocks: Blocks) -> Array:
    """(k·side, k·side, C, O): the kernel on pixels, of a kernel (k, k, side²·C, O) on blocks."""
    height, width, _, outputs = kernel.shape
    side = blocks.side
    channels = len(blocks.places) // (side * side)
    pixels = np.zeros((height * side, width * side, channels, outputs), kernel.dtype)
    for n, (row, column, channel) in enumerate(blocks.places):
        pixels[row::side, column::side, channel] = kernel[:, :, n]
    return pixels


@dataclass(frozen=True)
class FoldSpaceToDepth(Pass):
    """Fold space_to_depth, and slices concatenated to the same effect, into the one convolution that reads it."""

    name: ClassVar[str] = "fold-space-to-depth"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for layer in network.of(Concat, SpaceToDepth):
            if isinstance(layer.operation, SpaceToDepth):
                blocks, passed = _of_layer(network, layer, layer.operation), [layer]
            else:
                assert isinstance(layer.operation, Concat)
                blocks = _of_slices(network, layer, layer.operation)
                passed = [*map(network.__getitem__, layer.inputs), layer]
            user = sole_user(network, layer.name)
            if blocks is None or user is None or not _can_fold(user, layer):
                continue
            _fold(network, user, blocks, passed)
            records.append({"layer": user.name, "folded": layer.kind, "block": blocks.side})
        return records


def _can_fold(user: Layer, layer: Layer) -> bool:
    operation = user.operation
    return (
        isinstance(operation, Convolution)
        and user.inputs[0] == layer.name
        and operation.groups == 1
        and operation.dilations == (1, 1)
    )


def _fold(network: Network, conv: Layer, blocks: Blocks, passed: Sequence[Layer]) -> None:
    side = blocks.side
    kernel = _unfolded(network.param(conv, "kernel"), blocks)
    network.params[f"{conv.name}/kernel"] = kernel
    operation = conv.operation
    assert isinstance(operation, Convolution)
    rows, columns = operation.strides
    top, left, bottom, right = (p * side for p in operation.padding)
    height, width, inputs, outputs = kernel.shape
    conv.operation = replace(
        operation,
        kernel_shape=(height, width, inputs, outputs),
        strides=(rows * side, columns * side),
        padding=(top, left, bottom, right),
    )
    network.set_operand(conv, 0, network.value(blocks.source))
    names = dict.fromkeys(name for layer in (*passed, conv) for name in layer.original_names)
    conv.original_names = list(names)
