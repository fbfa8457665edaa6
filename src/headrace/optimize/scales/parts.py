# SPDX-License-Identifier: Apache-2.0
"""Outputs that join unlike values keep a scale for each part (docs/numerics.md, section 8; decision 20).

On the way from a computing layer to a graph output codes are only copied: joined, cut, transposed. Nobody computes with
them, so nothing asks for one scale. Boxes in pixels and scores from 0 to 1 in one tensor then have 8 bits each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headrace.hn import Array, Layer, Network, passed_quantization
from headrace.hn.passing import MAX_ELEMENTS, copied_labels
from headrace.layers import OutputLayer
from headrace.layers.activation import GAIN, Activated
from headrace.numerics.quantization import TensorQuantization, from_range, per_channel
from headrace.optimize.statistics.collect import Request

#: Joined tensors keep scales of their own where a common range is more than so many times the range of one of them.
UNLIKE = 4.0
#: Channels of one layer likewise: eight times costs them three of their eight bits.
UNLIKE_CHANNELS = 8.0
#: Channels of all inputs and outputs of a network that has scales per channel: the description lists a scale for each.
MOST_CHANNELS = 1 << 15

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
        own = users[layer.name]
        ends = isinstance(layer.operation, OutputLayer) or (bool(own) and found.issuperset(own))
        if ends and layer.inputs and layer.operation.copies_codes:
            found.add(layer.name)
    return frozenset(found)


def request(network: Network) -> Request:
    """The range of each channel of layers whose channels may have scales of their own."""
    copied = copied_only(network)
    return Request(spans=frozenset(layer.name for layer in network if can_differ(network, layer, copied)))


def can_differ(network: Network, layer: Layer, copied: frozenset[str]) -> bool:
    """Whether a layer can give each channel a scale of its own: its result is only copied, and no table makes it."""
    if not layer.operation.requantizes_by_channel or f"{layer.name}/{GAIN}" in network.params:
        return False
    attributes = layer.operation
    if isinstance(attributes, Activated):
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


@dataclass
class Unit:
    """What gets one scale at the least: a set of tensors, or one channel of a layer whose channels may differ.

    Attributes:
        members: names of the tensors.
        channel: of the one tensor, or ``None``: all.
        span: its range.
    """

    members: list[str]
    channel: int | None
    span: Range


def units_of(
    network: Network,
    sets: Sequence[list[str]],
    copied: frozenset[str],
    span: Callable[[Sequence[str]], Range],
    spans: Mapping[str, Array],
) -> list[Unit]:
    """The units of sets of tensors that share a scale in any case."""
    units: list[Unit] = []
    for members in sets:
        layer = network[members[0]]
        own = spans.get(layer.name)
        if len(members) == 1 and own is not None and can_differ(network, layer, copied):
            units += [Unit(members, c, (float(own[0, c]), float(own[1, c]))) for c in range(own.shape[1])]
        else:
            units.append(Unit(members, None, span(members)))
    return units


def channels_of_outputs(network: Network, names: Sequence[str], units: Sequence[Unit]) -> list[list[int]] | None:
    """Numbers of the units that stand in one channel of an output, channel by channel, output by output.

    Args:
        names: layers that copy codes, in network order.
        units: of all that they read.

    Returns:
        ``None`` where a tensor is too large to be followed.
    """
    labels: dict[str, Array] = {}
    for number, unit in enumerate(units):
        for name in unit.members:
            shape = network[name].output_shape[1:]
            if unit.channel is None:
                labels[name] = np.broadcast_to(np.int32(number), (1, *shape))
            elif unit.channel == 0:
                labels[name] = np.broadcast_to(np.arange(number, number + shape[-1], dtype=np.int32), (1, *shape))
    found: list[list[int]] = []
    for name in names:
        layer = network[name]
        if max(math.prod(network[x].output_shape[1:]) for x in (name, *layer.inputs)) > MAX_ELEMENTS:
            return None
        labels[name] = copied_labels(layer, [labels[x] for x in layer.inputs])
        if isinstance(layer.operation, OutputLayer):
            flat = labels[name].reshape(-1, labels[name].shape[-1])
            low, high = flat.min(axis=0), flat.max(axis=0)
            several = [np.unique(flat[:, c]).tolist() if low[c] < high[c] else [int(low[c])] for c in range(low.size)]
            found += several
    return found


def runs_of(units: Sequence[Unit], channels: Sequence[Sequence[int]]) -> list[list[int]]:
    """Units that get one scale: those that share a channel of an output, and neighbours that are alike."""
    parent = list(range(len(units)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    spans = [unit.span for unit in units]
    least = [width(span) for span in spans]  # of the units in it; 0: of constants only

    def join(a: int, b: int) -> None:
        a, b = sorted((find(a), find(b)))
        if a != b:
            parent[b] = a
            spans[a] = min(spans[a][0], spans[b][0]), max(spans[a][1], spans[b][1])
            least[a] = min((w for w in (least[a], least[b]) if w > 0), default=0.0)

    for together in channels:
        for unit in together[1:]:
            join(together[0], unit)
    inside = [(i, i + 1) for i in range(len(units) - 1) if units[i].members is units[i + 1].members]
    beside = [(before[0], after[0]) for before, after in pairwise(channels)]
    for first, second in [*inside, *beside]:
        a, b = find(first), find(second)
        common = width((min(spans[a][0], spans[b][0]), max(spans[a][1], spans[b][1])))
        narrow = min((w for w in (least[a], least[b]) if w > 0), default=0.0)
        one_layer = units[first].members is units[second].members
        if common <= (UNLIKE_CHANNELS if one_layer else UNLIKE) * narrow or narrow == 0.0:
            join(a, b)
    runs: dict[int, list[int]] = {}
    for number in range(len(units)):
        runs.setdefault(find(number), []).append(number)
    return list(runs.values())


def apart(
    network: Network,
    names: Sequence[str],
    units: Sequence[Unit],
    choose: Choice,
    fit: Callable[[TensorQuantization], TensorQuantization],
    bits: int,
) -> dict[str, TensorQuantization] | None:
    """A quantization for each part of outputs.

    Args:
        names: layers that copy codes, in network order.
        units: of all that they read.
        choose: the quantization of some tensors together.
        fit: what becomes of a quantization whose values get an offset at an output.

    Returns:
        By layer name, of ``names`` and of the units' tensors; ``None`` where all are alike or cannot be told apart.
    """
    channels = channels_of_outputs(network, names, units)
    runs = [] if channels is None else runs_of(units, channels)
    if len(runs) < 2:
        return None
    whole = {id(unit.members): 0 for unit in units}
    for unit in units:
        whole[id(unit.members)] += 1
    chosen: dict[int, TensorQuantization] = {}
    for run in runs:
        own = [units[i] for i in run]
        complete = all(sum(u.members is v.members for v in own) == whole[id(u.members)] for u in own)
        if complete:
            quantization = choose([name for u in own if not u.channel for name in u.members])
        else:
            quantization = from_range(min(u.span[0] for u in own), max(u.span[1] for u in own), bits)
        chosen.update(dict.fromkeys(run, fit(quantization)))
    computed: dict[str, TensorQuantization] = {}
    for number, unit in enumerate(units):
        if unit.channel is None:
            computed.update(dict.fromkeys(unit.members, chosen[number]))
        elif unit.channel == 0:
            own = [chosen[i] for i in range(number, number + whole[id(unit.members)])]
            computed[unit.members[0]] = per_channel([q.scale for q in own], [q.zero_point for q in own], bits)
    found = passed_on(network, names, computed)
    if found is None and any(unit.channel is not None for unit in units):
        # Turned and joined, a layer's channels lie along another axis than the parts do: whole layers then.
        return apart(network, names, _whole_layers(units), choose, fit, bits)
    return found


def _whole_layers(units: Sequence[Unit]) -> list[Unit]:
    """One unit for each set of tensors."""
    spans: dict[int, list[Range]] = {}
    for unit in units:
        spans.setdefault(id(unit.members), []).append(unit.span)
    joined = {key: (min(s[0] for s in some), max(s[1] for s in some)) for key, some in spans.items()}
    return [Unit(u.members, None, joined[id(u.members)]) for u in units if not u.channel]


def describable(network: Network) -> bool:
    """Whether a HEF's description has room for a scale per channel."""
    ends = network.input_layers + network.output_layers
    return sum(layer.frame_shape[2] for layer in ends) <= MOST_CHANNELS


def passed_on(
    network: Network, names: Sequence[str], computed: Mapping[str, TensorQuantization]
) -> dict[str, TensorQuantization] | None:
    """Quantizations of layers that copy codes, from those of what they read.

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
        if found is None or (isinstance(layer.operation, OutputLayer) and found.axis != -1):
            return None
        result[name] = found
    return result


__all__ = ["Unit", "apart", "can_differ", "copied_only", "describable", "passed_on", "request", "units_of"]
