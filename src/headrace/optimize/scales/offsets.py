# SPDX-License-Identifier: Apache-2.0
"""Values far from zero at an output: 293 ± 0.03 (docs/numerics.md, section 8; decision 20).

A range with zero in it would leave one code for all of them. So a constant is taken out of the bias of the layer that
makes them and added at the output, where only the zero point says it. Layers between must keep constants: they move
values, or average them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.hn.passing import copied_labels
from headrace.layers import OutputLayer
from headrace.layers.activation import GAIN, Activated
from headrace.numerics.quantization import TensorQuantization, per_channel
from headrace.optimize.statistics.collect import Request, Statistics

#: Taken out where a channel's values lie at least so many times their spread away from zero: two of eight bits.
FAR = 4.0
#: At most so many times: a step of 8 bits is then one that float32 tells apart at that distance.
FARTHEST = 2.0**15
#: Least part of an offset that a step is: float32 has 24 bits, codes may have 16.
FINEST = 2.0**23
NAME = "output-offset"
NOWHERE = -1


class _Walk:
    """From one output back to the layers whose constants could be added at it.

    Attributes:
        sources: (layer, number of its first channel).
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.sources: list[tuple[Layer, int]] = []
        self._readers = dict.fromkeys(network.layers, 0)
        for layer in network:
            for name in layer.inputs:
                self._readers[name] += 1
        self._count = 0

    def labels(self, name: str) -> Array:
        """int32 ``[1, …]``: at each place the number of the source's channel, :data:`NOWHERE` where there is none."""
        layer = self.network[name]
        shape = (1, *layer.output_shape[1:])
        nowhere = np.broadcast_to(np.int32(NOWHERE), shape)
        if self._readers[name] > 1:
            return nowhere
        if layer.inputs and layer.operation.copies_codes:
            return copied_labels(layer, [self.labels(x) for x in layer.inputs])
        if layer.operation.channelwise and layer.operation.keeps_constants:
            below = self.labels(layer.inputs[0])
            flat = below.reshape(-1, below.shape[-1])
            same = np.array_equal(flat.min(axis=0), flat.max(axis=0))
            return np.broadcast_to(flat[0], shape) if same else nowhere
        if self._adds(layer):
            first, self._count = self._count, self._count + shape[-1]
            self.sources.append((layer, first))
            return np.broadcast_to(np.arange(first, self._count, dtype=np.int32), shape)
        return nowhere

    def _adds(self, layer: Layer) -> bool:
        """Whether a layer adds a constant per channel, and nothing comes behind that."""
        if layer.operation.additive is None or GAIN in layer.params:
            return False
        operation = layer.operation
        return not isinstance(operation, Activated) or operation.clamp == (None, None)


def request(network: Network) -> Request:
    """The range of each channel of layers whose constants could be added at an output."""
    names: set[str] = set()
    for output in network.output_layers:
        walk = _Walk(network)
        walk.labels(output.inputs[0])
        names |= {layer.name for layer, _ in walk.sources}
    return Request(spans=frozenset(names))


def centre(network: Network, statistics: Statistics) -> list[dict[str, Any]]:
    """Take constants out of biases and add them at outputs, where values lie far from zero; changes ``network``.

    Returns:
        One record per output that got an offset.
    """
    records: list[dict[str, Any]] = []
    for output in network.output_layers:
        walk = _Walk(network)
        operation = output.operation
        if not isinstance(operation, OutputLayer) or operation.offset or network.users(output.name):
            continue
        labels = walk.labels(output.inputs[0])
        offsets = np.concatenate([np.zeros(0), *(_middles(statistics.spans[x.name]) for x, _ in walk.sources)])
        if not offsets.any():
            continue
        values = np.where(labels == NOWHERE, 0.0, offsets[labels])[0]
        flat = values.reshape(-1, values.shape[-1])
        # Each channel of the output is shifted by one number; and every channel of a source must end in it.
        if not np.array_equal(flat.min(axis=0), flat.max(axis=0)):
            continue
        for layer, first in walk.sources:
            _take_out(layer, offsets[first : first + layer.output_shape[-1]])
        found = [float(v) for v in flat[0]]
        offset = found[:1] if len(set(found)) == 1 else found
        output.operation = replace(operation, offset=tuple(offset))
        records.append({"pass": NAME, "layer": output.name, "offset": offset})
    return records


def _offset_of(layer: Layer) -> tuple[float, ...]:
    return layer.operation.offset if isinstance(layer.operation, OutputLayer) else ()


def fitted(network: Network, names: Sequence[str], quantization: TensorQuantization) -> TensorQuantization:
    """A quantization whose steps suit the offsets that are added to it.

    They are not below float32's own at that distance, and one offset alone is a whole number of them.

    Args:
        names: of a group of tensors, the outputs among them.
    """
    offsets = sorted({abs(float(o)) for name in names for o in _offset_of(network[name])})
    if not offsets or not offsets[-1]:
        return quantization
    fine = np.float32(offsets[-1] / FINEST)
    own: dict[tuple[float, int], tuple[float, int]] = {}
    for scale, zero in quantization.pairs:
        step = max(scale, float(fine))
        if len(offsets) == 1:
            step = float(np.float32(offsets[0] / math.floor(offsets[0] / step)))
        own[scale, zero] = step, min(round(zero * scale / step), quantization.high)
    pairs = [own[pair] for pair in quantization.pairs]
    return per_channel([s for s, _ in pairs], [z for _, z in pairs], quantization.bits, quantization.axis)


def _middles(span: Array) -> Array:
    """float64 ``[C]``, float32 numbers: the middle of each channel's range that lies far from zero, else 0."""
    low, high = span
    spread = high - low
    distance = np.where(np.sign(low) == np.sign(high), np.maximum(np.abs(low), np.abs(high)), 0.0)
    far = (spread > 0) & (distance >= FAR * spread) & (distance <= FARTHEST * spread)
    return np.where(far, ((low + high) / 2).astype(np.float32), 0.0).astype(np.float64)


def _take_out(layer: Layer, offsets: Array) -> None:
    name = layer.operation.additive
    assert name is not None
    have = layer.params.get(name)
    values = np.zeros(len(offsets)) if have is None else have.astype(np.float64)
    layer.params[name] = (values - offsets).astype(np.float32)


__all__ = ["NAME", "centre", "fitted", "request"]
