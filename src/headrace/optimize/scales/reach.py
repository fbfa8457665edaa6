# SPDX-License-Identifier: Apache-2.0
"""Which values of a tensor its readers tell apart: the rest sets no scale.

An additive attention mask of -3.4e38 means "never", and so does -100: softmax makes 0 of all that lies a few tens below
the largest value of its row. A clamp, a sigmoid, an exponential of what is far below zero make equal what lies beyond
an end of theirs too. Where every reader of a tensor does that, the tensor is clamped to what they tell apart, and has
that as its range. The network's meaning stays (``check_same_meaning`` proves it), and codes are spent on what counts.

The analysis goes from the outputs to the inputs. Through sums it uses the measured range of the other operand: with
logits below 7, a mask below -50 gives a sum below -43, whatever the logits are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.hn.value import Wish
from headrace.layers import (
    Activated,
    Activation,
    Add,
    BatchNorm,
    InputLayer,
    OutputLayer,
    ReduceMax,
    ScaleRule,
    Subtract,
)
from headrace.numerics.quantization import from_range
from headrace.optimize.freeze.lookup import changing_range
from headrace.optimize.statistics.collect import Request, Statistics
from headrace.passes import fresh_name

#: Below the largest value of its row by this much, softmax gives exp(-20) = 2e-9, or 2e-5 of a row of 10,000 together:
#: far below half a 16-bit code.
NEVER = 20.0
#: A sum's operand may go beyond what the other's measured range allows by this part of the sum's own range: in use the
#: other may exceed what was measured.
SLACK = 0.25
#: Tensors are clamped where what is left is at most this part of the measured range.
WORTHWHILE = 0.75
#: A mask whose least value is above this is no trouble to a range of 16 bits.
FAR = 1000.0
FLOAT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Interval:
    """Values below ``low`` are all alike to the readers, and so are those above ``high``."""

    low: float = -math.inf
    high: float = math.inf

    def joined(self, other: Interval) -> Interval:
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def clamped(self, low: float, high: float) -> tuple[float, float]:
        """[low, high] as the readers see it."""
        return min(max(low, self.low), self.high), max(min(high, self.high), self.low)

    def scaled(self, scale: float, offset: float) -> Interval:
        """The x whose ``scale · x + offset`` is inside."""
        ends = (self.low - offset) / scale, (self.high - offset) / scale
        return Interval(min(ends), max(ends))


EVERYTHING = Interval()


@dataclass
class Reach:
    """What the readers of every tensor of a network tell apart.

    Attributes:
        network: prepared float network.
        statistics: of it, with the largest values of softmax's rows (:func:`request`).
        intervals: layer name → of its output.
    """

    network: Network
    statistics: Statistics
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])

    def __post_init__(self) -> None:
        self._readers: dict[str, list[Layer]] = {name: [] for name in self.network.layers}
        for layer in self.network:
            for name in dict.fromkeys(layer.inputs):
                self._readers[name].append(layer)
        for layer in reversed(list(self.network)):
            self.intervals[layer.name] = self._of(layer)

    def _of(self, layer: Layer) -> Interval:
        readers = self._readers[layer.name]
        found: Interval | None = None
        for reader in readers:
            for position, name in enumerate(reader.inputs):
                if name == layer.name:
                    one = self._seen(reader, position)
                    found = one if found is None else found.joined(one)
        return found or EVERYTHING

    def _seen(self, reader: Layer, position: int) -> Interval:
        """What one reader tells apart of its operand."""
        operation = reader.operation
        if isinstance(operation, OutputLayer):
            return EVERYTHING
        source = _softmax_source(self.network, reader, self._readers)
        if source is not None:
            top = self.statistics.row_tops.get(source)
            return EVERYTHING if top is None else Interval(low=top - NEVER)
        if operation.passes_codes:
            return self.intervals[reader.name]
        if not isinstance(operation, (Activation, BatchNorm, Add, Subtract)):
            return EVERYTHING
        inside = self._before_activation(reader, operation)
        if inside == EVERYTHING or isinstance(operation, Activation):
            return inside
        if isinstance(operation, BatchNorm):
            return _of_channels(inside, *operation.scale_offset(reader.params))
        return self._of_operand(inside, reader, position)

    def _before_activation(self, layer: Layer, attributes: Activated) -> Interval:
        """What lies in front of a layer's activation, by what is told apart of its result."""
        seen = self.intervals[layer.name]
        if attributes.clamp is not None:
            low, high = attributes.clamp
            ends = -math.inf if low is None else low, math.inf if high is None else high
            # Of a clamp to [0, 6] whose readers tell 2 … 9 apart, 2 … 6 is left.
            return Interval(*Interval(*ends).clamped(seen.low, seen.high))
        if attributes.by_sign or attributes.function.decimal is None:
            return EVERYTHING
        ranges = self.statistics.ranges
        measured = ranges.before.get(layer.name)
        if measured is None:
            return EVERYTHING
        # Sixteen bits, even where the result has eight now: it may get more later.
        output = from_range(*ranges.output[layer.name], 16)
        low, high = changing_range(attributes.activation, dict(attributes.activation_params), measured, output)
        return Interval(
            -math.inf if low <= min(measured[0], 0.0) else low, math.inf if high >= max(measured[1], 0.0) else high
        )

    def _of_operand(self, inside: Interval, layer: Layer, position: int) -> Interval:
        """Of one operand of a sum or difference, by what is told apart of the result."""
        ranges = self.statistics.ranges
        low, high = ranges.output[layer.inputs[1 - position]]
        if isinstance(layer.operation, Subtract):
            if position == 1:
                inside, low, high = Interval(-inside.high, -inside.low), -high, -low
            else:
                low, high = -high, -low
        # Now it is x + y, with y in [low, high].
        measured = inside.clamped(*ranges.before.get(layer.name, ranges.output[layer.name]))
        room = SLACK * abs(measured[1] - measured[0])
        return Interval(inside.low - high - room, inside.high - low + room)


def _of_channels(inside: Interval, scale: Array, offset: Array) -> Interval:
    """Of the operand of a multiply-add per channel; channels that are constants see nothing."""
    found: Interval | None = None
    for s, o in sorted({(float(s), float(o)) for s, o in zip(scale, offset, strict=True)}):
        if s != 0.0:
            one = inside.scaled(s, o)
            found = one if found is None else found.joined(one)
    return found or EVERYTHING


def _softmax_source(network: Network, reader: Layer, readers: dict[str, list[Layer]]) -> str | None:
    """The tensor x, where a reader of it is a part of ``exp(x - max x)`` and sees no more of x than that."""
    if isinstance(reader.operation, ReduceMax):
        source = reader.inputs[0]
        users = readers[reader.name]
        fine = bool(users) and all(_is_exponential(user, source, reader.name) for user in users)
        return source if fine else None
    if not isinstance(reader.operation, Subtract):
        return None
    source, top = reader.inputs
    if not isinstance(network[top].operation, ReduceMax) or not _is_exponential(reader, source, top):
        return None
    return source if network[top].inputs[0] == source else None


def _is_exponential(layer: Layer, source: str, top: str) -> bool:
    return (
        isinstance(layer.operation, Subtract) and layer.inputs == (source, top) and layer.operation.activation == "exp"
    )


def softmax_sources(network: Network) -> list[str]:
    """Tensors of which ``exp(x - max x)`` is computed, in network order."""
    readers = {layer.name: network.users(layer.name) for layer in network.of(ReduceMax)}
    found = [_softmax_source(network, layer, readers) for layer in network.of(ReduceMax)]
    return list(dict.fromkeys(name for name in found if name is not None))


def request(network: Network) -> Request:
    """The largest values of the rows that softmax reads."""
    return Request(row_tops=frozenset(softmax_sources(network)))


def shift_masks(network: Network, statistics: Statistics) -> list[dict[str, Any]]:
    """Take its rows' maxima off a mask that is added in front of softmax, where calibration saw wholly masked rows.

    Softmax of such a row is that of the logits (unless float32 has lost them in the mask: then its values are all
    equal, and nothing is done). A common summand of a row changes nothing in softmax, so the row's own "never" can go.

    Returns:
        One record per mask. Where there are any, the statistics are those of the network before.
    """
    records: list[dict[str, Any]] = []
    for name in softmax_sources(network):
        total, top = network[name], statistics.row_tops.get(name)
        if not isinstance(total.operation, Add) or not total.operation.is_linear or top is None:
            continue
        lows = [statistics.ranges.output[operand][0] for operand in total.inputs]
        mask = network[total.inputs[int(lows[1] < lows[0])]]
        masked = top < min(lows) / 2  # half of "never" is far above what logits make of it
        if min(lows) > -FAR or not masked or mask.output_shape[-1] != total.output_shape[-1]:
            continue
        axis = len(mask.output_shape) - 2
        shape = (*mask.output_shape[:-1], 1)
        largest = Layer(fresh_name(network, ReduceMax), ReduceMax((axis,)), [mask.name], shape)
        network.insert_after(mask.name, largest)
        shifted = Layer(fresh_name(network, Subtract), Subtract(), [mask.name, largest.name], mask.output_shape)
        network.insert_after(largest.name, shifted)
        network.redirect(mask.name, shifted.name, [total])
        records.append({"pass": "shift-mask", "layer": shifted.name, "mask": mask.name, "row_top": top})
    return records


def clamp(network: Network, statistics: Statistics) -> list[dict[str, Any]]:
    """Clamp tensors of a prepared float network to what their readers tell apart, where that is much less.

    A tensor whose layer is linear or clamps already gets a clamp; of network inputs and results of tables only the
    range is narrowed, in the statistics and as ``{"precision": {"reach": [low, high]}}`` in the layer's hints.

    Returns:
        One record per tensor. Where there are any, the statistics of the other tensors are those of the network before.
    """
    reach = Reach(network, statistics)
    records: list[dict[str, Any]] = []
    for layer in network:
        if layer.operation.passes_codes and layer.inputs:
            continue
        measured = statistics.ranges.output[layer.name]
        seen = reach.intervals[layer.name]
        if _span(*seen.clamped(*measured)) > WORTHWHILE * _span(*measured):
            continue
        ends = max(seen.low, -FLOAT_MAX), min(seen.high, FLOAT_MAX)
        if not _add_clamp(layer, *ends):
            wish(layer, reach=ends)
        records.append(
            {"pass": "clamp-to-reach", "layer": layer.name, "measured": list(measured), "told_apart": list(ends)}
        )
    return records


def _span(low: float, high: float) -> float:
    """With zero, as ranges have it."""
    return max(high, 0.0) - min(low, 0.0)


def _add_clamp(layer: Layer, low: float, high: float) -> bool:
    attributes = layer.operation
    if not isinstance(attributes, Activated) or attributes.clamp is None:
        return False
    bottom, top = attributes.clamp
    least = min(max(low, -FLOAT_MAX if bottom is None else bottom), FLOAT_MAX if top is None else top)
    most = max(min(high, FLOAT_MAX if top is None else top), least)
    layer.operation = replace(attributes, activation="clip", activation_params={"min": least, "max": most})
    return True


def narrow(network: Network, statistics: Statistics) -> None:
    """Cut the measured ranges of the tensors with a hint ``reach``, and of what only moves them, to it."""
    ranges = statistics.ranges
    for layer in network:
        hint = reach_of(layer)
        if hint is None and layer.inputs and layer.operation.scale_rule is ScaleRule.PASSES:
            hint = reach_of(network[layer.inputs[0]])
            if hint is not None and not isinstance(layer.operation, OutputLayer):
                wish(layer, reach=hint)
        if hint is not None:
            ranges.output[layer.name] = Interval(*hint).clamped(*ranges.output[layer.name])


def reach_of(layer: Layer) -> tuple[float, float] | None:
    """The values that a tensor's readers tell apart, where they are fewer than it takes and no clamp says so."""
    return layer.wish.reach


def wish(
    layer: Layer, bits: int | None = None, interval: Sequence[float] | None = None, reach: Sequence[float] | None = None
) -> None:
    """Add to what is wished of the precision of a prepared layer's result."""
    old = layer.wish
    layer.output.wish = Wish(
        bits or old.bits,
        old.range if interval is None else (float(interval[0]), float(interval[1])),
        old.reach if reach is None else (float(reach[0]), float(reach[1])),
        old.codes,
    )


def logits(network: Network) -> Iterator[str]:
    """Computed tensors that only moves and sums lie between and a softmax, in network order."""
    found: set[str] = set()

    def walk(name: str) -> None:
        layer = network[name]
        operation = layer.operation
        if name in found or isinstance(operation, InputLayer):
            return
        if operation.scale_rule is ScaleRule.OWN:
            found.add(name)
        sums = isinstance(operation, (Add, Subtract)) and operation.clamp is not None
        if sums or operation.passes_codes:
            for source in layer.inputs:
                walk(source)

    for name in softmax_sources(network):
        walk(name)
    yield from (layer.name for layer in network if layer.name in found)
