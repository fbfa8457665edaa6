# SPDX-License-Identifier: Apache-2.0
"""Outputs that join unlike values keep a scale for each part (docs/numerics.md, section 8; decision 20).

On the way from a computing layer to a graph output codes are only copied: joined, cut, transposed. Nobody computes with
them, so nothing asks for one scale. Boxes in pixels and scores from 0 to 1 in one tensor then have 8 bits each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import definition_of, passed_quantization
from headrace.layers.activation import GAIN, ActivationAttributes
from headrace.numerics.quantization import TensorQuantization, from_range, per_channel
from headrace.optimize.statistics import Request

#: Joined tensors keep scales of their own where a common range is more than so many times the range of one of them.
UNLIKE = 4.0
#: Channels of one layer likewise: eight times costs them three of their eight bits.
UNLIKE_CHANNELS = 8.0
#: Channels of all inputs and outputs of a network that has scales per channel: the description lists a scale for each.
MOST_CHANNELS = 1 << 15
#: Layers that can requantise each channel to a scale and zero point of its own.
_PER_CHANNEL = ("conv", "dw", "dense", "batch_norm", "normalization")

Choice = Callable[[Sequence[str]], TensorQuantization]
Range = tuple[float, float]


def copied_only(network: Network) -> frozenset[str]:
    """Layers that copy codes on the way to outputs: only such layers read what they give."""
    users: dict[str, list[str]] = {name: [] for name in network.layers}
    for layer in network:
        for name in layer.inputs:
            users[name].append(layer.name)
    found: set[str] = set()
    for layer in reversed(list(network)):
        ends = layer.kind == "output_layer" or (bool(users[layer.name]) and found.issuperset(users[layer.name]))
        if ends and layer.inputs and definition_of(layer.kind).copies_codes:
            found.add(layer.name)
    return frozenset(found)


def request(network: Network) -> Request:
    """The range of each channel of layers whose channels may have scales of their own."""
    copied = copied_only(network)
    return Request(spans=frozenset(layer.name for layer in network if can_differ(network, layer, copied)))


def can_differ(network: Network, layer: Layer, copied: frozenset[str]) -> bool:
    """Whether a layer can give each channel a scale of its own: its result is only copied, and no table makes it."""
    if layer.kind not in _PER_CHANNEL or f"{layer.name}/{GAIN}" in network.params:
        return False
    attributes = definition_of(layer.kind).read(layer)
    if isinstance(attributes, ActivationAttributes):
        # One zero point and one clamp serve all channels: the ends of the codes, which is where relu and relu6 end.
        clamp = attributes.clamp
        if attributes.by_sign or clamp is None or clamp[0] not in (None, 0.0):
            return False
        if clamp[0] is None and clamp[1] is not None:
            return False
    users = network.users(layer.name)
    return bool(users) and all(user.name in copied for user in users)


def width(span: Range) -> float:
    """Length of a range with zero in it."""
    return max(span[1], 0.0) - min(span[0], 0.0)


def unlike(spans: Sequence[Range], factor: float) -> bool:
    """Whether a range for all of them would be more than ``factor`` times the range of one."""
    widths = [width(s) for s in spans if width(s) > 0]
    common = width((min(s[0] for s in spans), max(s[1] for s in spans)))
    return bool(widths) and common > factor * min(widths)


def channel_runs(span: Array, factor: float = UNLIKE_CHANNELS) -> list[tuple[int, int]]:
    """Runs (first, past the last) of neighbouring channels that are alike.

    Args:
        span: float64 ``[2, C]``, least and greatest value of each channel.
        factor: how much longer a run's range may be than that of any channel in it.
    """
    low, high = np.minimum(span[0], 0.0), np.maximum(span[1], 0.0)
    runs: list[tuple[int, int]] = []
    start, bottom, top, least = 0, low[0], high[0], high[0] - low[0]
    for c in range(1, span.shape[1]):
        own = high[c] - low[c]
        joined = max(top, high[c]) - min(bottom, low[c])
        smallest = min((w for w in (least, own) if w > 0), default=0.0)
        if smallest > 0 and joined > factor * smallest:
            runs.append((start, c))
            start, bottom, top, least = c, low[c], high[c], own
        else:
            bottom, top, least = min(bottom, low[c]), max(top, high[c]), smallest
    return [*runs, (start, span.shape[1])]


def by_channel(span: Array, bits: int) -> TensorQuantization:
    """A scale for each run of channels, from the ranges of its channels ``[2, C]``."""
    scales: list[float] = []
    zeros: list[int] = []
    for start, stop in channel_runs(span):
        chosen = from_range(float(span[0, start:stop].min()), float(span[1, start:stop].max()), bits)
        scales += [chosen.scale] * (stop - start)
        zeros += [chosen.zero_point] * (stop - start)
    return per_channel(scales, zeros, bits)


def describable(network: Network) -> bool:
    """Whether a HEF's description has room for a scale per channel."""
    ends = network.input_layers + network.output_layers
    return sum(layer.frame_shape[2] for layer in ends) <= MOST_CHANNELS


def passed_on(
    network: Network, names: Sequence[str], computed: Mapping[str, TensorQuantization]
) -> dict[str, TensorQuantization] | None:
    """Quantisations of layers that copy codes, from those of what they read.

    Args:
        names: the layers, in network order.
        computed: of everything else that they read.

    Returns:
        All of them with ``computed``; ``None`` where a tensor's scales do not go along one axis, or an output's not
        along its channels.
    """
    result = dict(computed)
    for name in names:
        layer = network[name]
        found = passed_quantization(layer, network.input_shapes(layer), [result[x] for x in layer.inputs])
        if found is None or (layer.kind == "output_layer" and found.axis != -1):
            return None
        result[name] = found
    return result


__all__ = [
    "by_channel",
    "can_differ",
    "channel_runs",
    "copied_only",
    "describable",
    "passed_on",
    "request",
    "unlike",
]
