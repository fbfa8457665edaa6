# SPDX-License-Identifier: Apache-2.0
"""Ranges that a meaning fixes, where the data use a small part of them.

A sigmoid is in [0, 1], and so is a share of a softmax. Those ranges stay where calibration reaches a quarter of them:
the codes are used, and whatever comes in use fits. Where it stays below, 8 bits over the whole range would leave few
codes, and what was measured alone would clip what calibration did not show: no object was in its pictures, no row had
a peak. So such a tensor gets 16 bits: the whole range where that leaves enough codes to what was measured, else the
part that does. Readers that take 8 bits get a copy with 8, of a range nearer to what was measured.

A range through zero has two sides. Where the data use one side well and the other hardly (a tanh that gives pixels from
0 to 1), half of the codes would be for nothing: that side ends at four times what was measured there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.hn import Layer, Network
from headrace.layers import Activation, InputLayer, OutputLayer
from headrace.optimize.scales.precision import reads_wide
from headrace.optimize.scales.ranges import natural_range
from headrace.optimize.scales.reach import wish
from headrace.optimize.statistics.collect import Statistics
from headrace.passes import fresh_name

WIDE = 16
#: Nothing is changed where data use at least this part of the range.
ENOUGH = 0.25
#: A side of a range through zero is hardly used where the data reach less than this part of it.
HARDLY = 0.0625


@dataclass(frozen=True)
class _Room:
    """How far a range goes beyond what was measured, but never beyond the meaning: factors for 16 and for 8 bits."""

    wide: float
    narrow: float


#: A share of a row of 8,400 is small because there are many: what was measured keeps 1,024 codes of 16 bits, 128 of 8.
SHARE = _Room(64.0, 2.0)
#: A single score is small because nothing was there, and in use something will be: 16 codes of 16 bits, 64 of 8.
SCORE = _Room(4096.0, 4.0)
#: Through zero a function is as steep as anywhere, and the 12 bits of a table's index have to tell apart what was
#: measured: 128 steps on each side (at the flat end of a sigmoid its index is fine enough).
THROUGH_ZERO = _Room(16.0, 4.0)


@dataclass(frozen=True)
class _Use:
    """How much of its meaning a tensor's data use: the largest magnitudes measured and meant, and the meant ends."""

    measured: float
    whole: float
    low: float
    high: float
    room: _Room

    def range(self, room: float) -> list[float]:
        """The meant range, cut at ``room`` times what was measured."""
        size = self.measured * room
        return [max(self.low, -size), min(self.high, size)]


def fit(
    network: Network, statistics: Statistics, bytes_at_outputs: bool, keep: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """Give precision hints to tensors whose data use less than a quarter of what their meaning allows.

    Args:
        network: prepared float network; its layers' hints change, and layers that make 8 bits of 16 are put in.
        statistics: of it; ranges of the new layers are added.
        bytes_at_outputs: the user asked for 8 bits there.
        keep: layers that keep 8 bits.

    Returns:
        One record per tensor.
    """
    records: list[dict[str, Any]] = []
    record: dict[str, Any]
    if bytes_at_outputs:
        keep |= {layer.name for layer in network.output_layers}
    for layer in network:
        use = _use(network, statistics, layer)
        if use is None:
            shorter = _shorter_side(network, statistics, layer)
            if shorter is not None:
                wish(layer, interval=shorter)
                record = {"pass": "fit-meant-range", "layer": layer.name, "measured": _measured(statistics, layer)}
                records.append({**record, **_hints(layer)})
            continue
        wide, narrow = _readers(network, layer.name, keep)
        record = {"pass": "fit-meant-range", "layer": layer.name, "measured": use.measured}
        if wide:
            wish(layer, bits=WIDE, interval=use.range(use.room.wide))
            if narrow:
                record["copy_with_8_bits"] = _narrow_copy(network, statistics, layer, narrow, use)
        else:
            wish(layer, interval=use.range(use.room.narrow))
        records.append({**record, **_hints(layer)})
    return records


def _use(network: Network, statistics: Statistics, layer: Layer) -> _Use | None:
    """Of a tensor whose data use a small part of a range that its meaning fixes."""
    meant = natural_range(network, layer, None)
    if meant is None or not layer.inputs:
        return None
    measured = _measured(statistics, layer)
    # A hint comes from the decomposition of softmax.
    share = layer.wish.range is not None
    room = SHARE if share else THROUGH_ZERO if meant[0] < 0 < meant[1] else SCORE
    use = _Use(measured, max(map(abs, meant)), *meant, room)
    return use if 0.0 < measured < ENOUGH * use.whole else None


def _measured(statistics: Statistics, layer: Layer) -> float:
    """The largest magnitude."""
    return max(map(abs, statistics.ranges.output[layer.name]))


def _shorter_side(network: Network, statistics: Statistics, layer: Layer) -> tuple[float, float] | None:
    """A range through zero that its meaning fixes, cut on the one side that data hardly use; ``None``: as it is."""
    meant = natural_range(network, layer, None)
    if meant is None or not layer.inputs or layer.wish.range is not None or not meant[0] < 0 < meant[1]:
        return None
    below, above = statistics.ranges.output[layer.name]
    low, high = max(-below, 0.0), max(above, 0.0)
    room = THROUGH_ZERO.narrow
    if low < HARDLY * -meant[0] and high >= ENOUGH * meant[1]:
        return -room * low, meant[1]
    if high < HARDLY * meant[1] and low >= ENOUGH * -meant[0]:
        return meant[0], room * high
    return None


def _readers(network: Network, name: str, keep: frozenset[str]) -> tuple[list[Layer], list[Layer]]:
    """Direct readers that can take 16 bits, with all that reads what they move; and the others."""
    if name in keep:
        return [], network.users(name)
    wide: list[Layer] = []
    narrow: list[Layer] = []
    for user in network.users(name):
        (wide if _takes_wide(network, user, keep) else narrow).append(user)
    return wide, narrow


def _takes_wide(network: Network, reader: Layer, keep: frozenset[str]) -> bool:
    if isinstance(reader.operation, OutputLayer) or reader.name in keep:
        return reader.name not in keep
    if reader.operation.passes_codes:
        beside = [network[name] for name in reader.inputs]
        moved = all(_takes_wide(network, user, keep) for user in network.users(reader.name))
        return moved and not any(isinstance(layer.operation, InputLayer) for layer in beside)
    return reads_wide(reader)


def _narrow_copy(network: Network, statistics: Statistics, layer: Layer, readers: list[Layer], use: _Use) -> str:
    """A linear layer behind this one that makes 8 bits of its 16, for these readers."""
    copy = Layer(fresh_name(network, Activation), Activation(), [layer.name], layer.output_shape)
    network.insert_after(layer.name, copy)
    wish(copy, bits=8, interval=use.range(use.room.narrow))
    network.redirect(layer.name, copy.name, readers)
    ranges = statistics.ranges
    ranges.output[copy.name] = ranges.before[copy.name] = ranges.output[layer.name]
    if layer.name in statistics.histograms:
        statistics.histograms[copy.name] = statistics.histograms[layer.name]
    if layer.name in statistics.spans:
        statistics.spans[copy.name] = statistics.spans[layer.name]
    return copy.name


def _hints(layer: Layer) -> dict[str, Any]:
    return {"bits": layer.wish.bits or 8, "range": list(layer.wish.range or ())}
