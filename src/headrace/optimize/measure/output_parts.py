# SPDX-License-Identifier: Apache-2.0
"""Which parts an output has: values of one meaning, which are judged apart from the others.

An output may join what means different things: boxes in pixels and scores in 0 … 1. Parts are found from the graph,
by walking back from the output through layers that keep values apart (moves, concatenations, element-wise functions):
every layer at which the walk ends is a *source*, and each of its channels a *cell*, the smallest set of values that is
measured. Channels are those of the last layer that sums (a convolution's, wherever reshapes and transposes put them).
Where one source gives channels of unlike size without a range that their meaning fixes (a convolution for four
distances and eighty logits), its cells fall into groups by their spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.tensors import tensor_of
from headrace.hn import Array, Layer, Network
from headrace.layers import Activation, Concat, Pad
from headrace.optimize.scales.ranges import has_meant_range

#: Channels belong to one group where their spread is within this factor of the group's largest.
LIKE = 8.0
#: A group of fewer of a source's varying channels than this part joins the next larger one: a few channels that
#: hardly ever move are no meaning of their own.
LEAST_CHANNELS = 1.0 / 16.0
#: Cells that an output may have; channels of sources beyond that are not told apart.
MOST_CELLS = 1 << 16


@dataclass(frozen=True)
class Source:
    """A layer whose values an output holds.

    Attributes:
        layer: its name; ``""`` for padding.
        bounded: whether a function on the way to the output fixes the range by its meaning.
        first: number of its first cell.
        count: how many cells it has.
    """

    layer: str
    bounded: bool
    first: int
    count: int


@dataclass(frozen=True)
class Part:
    """Values of one meaning in one output.

    Attributes:
        name: short: the source layer, with channels where it has several groups.
        layer: name of the source layer.
        cells: int64, numbers of its cells, ascending.
        index: int64, its places in a frame in row-major order, ascending.
        slices: per axis of the frame (start, stop, step), where the places are such a grid; else ``None``.
    """

    name: str
    layer: str
    cells: Array
    index: Array
    slices: tuple[tuple[int, int, int], ...] | None


@dataclass
class CellMap:
    """Cells of one output.

    Attributes:
        shape: of a frame of the output.
        sources: in the order in which the walk met them.
        cells: int64 ``[elements]``: the cell of every place of a frame, in row-major order.
        count: how many cells.
    """

    shape: tuple[int, ...]
    sources: list[Source]
    cells: Array
    count: int
    _order: Array = field(init=False)
    _starts: Array = field(init=False)
    _present: Array = field(init=False)

    def __post_init__(self) -> None:
        self._order = np.argsort(self.cells, kind="stable")
        self._present, self._starts = np.unique(self.cells[self._order], return_index=True)

    @property
    def sizes(self) -> Array:
        """int64 ``[count]``: places of a frame per cell."""
        return np.bincount(self.cells, minlength=self.count)

    def reduce(self, function: np.ufunc, values: Array, initial: float) -> Array:
        """``function`` over the places of every cell, float64 ``[count]``; ``initial`` where a cell has none.

        Args:
            values: ``[elements]``, one per place.
        """
        result = np.full(self.count, initial)
        result[self._present] = function.reduceat(values[self._order], self._starts)
        return result


def _moves(layer: Layer) -> bool:
    """Whether a layer carries values unchanged, to places that do not depend on them; padding is a value of its own."""
    return layer.operation.copies_codes or isinstance(layer.operation, Pad)


def _mixes_places(layer: Layer) -> bool:
    """Whether each channel of the result depends on that channel alone, but on several of its places."""
    return layer.operation.channelwise and not layer.operation.elementwise


class _Walk:
    """Finds the cell of every place of an output: first what is walked, back from the output, then the cells, in order.

    A step is (layer name, whether a function between it and the output bounds the values).
    """

    def __init__(self, network: Network, output: str) -> None:
        self.network = network
        self.sources = [Source("", True, 0, 1)]  # padding
        self._joined = joined_values(network)
        self._below: dict[tuple[str, bool], list[tuple[str, bool]]] = {}
        start = (output, False)
        waiting = [start]
        while waiting:
            step = waiting.pop()
            if step not in self._below:
                self._below[step] = self._steps(*step)
                waiting += self._below[step]
        found: dict[tuple[str, bool], Array] = {}
        for layer in network:
            for step in ((layer.name, False), (layer.name, True)):
                if step in self._below:
                    found[step] = self._cells(layer, step[1], [found[below] for below in self._below[step]])
        self.cells = found[start].reshape(-1).astype(np.int64)

    @property
    def count(self) -> int:
        return self.sources[-1].first + self.sources[-1].count

    def _steps(self, name: str, bounded: bool) -> list[tuple[str, bool]]:
        """The steps below one; none where the layer is a source."""
        layer = self.network[name]
        bounded = bounded or (isinstance(layer.operation, Activation) and has_meant_range(self.network, layer))
        if _moves(layer):
            return [(below, bounded) for below in layer.inputs]
        joined = [below for below in dict.fromkeys(layer.inputs) if below in self._joined]
        if len(joined) != 1:
            return []
        alone = layer.operation.elementwise and len(layer.inputs) == 1
        paired = layer.operation.elementwise and self.network[joined[0]].output_shape == layer.output_shape
        return [(joined[0], bounded)] if alone or paired or _mixes_places(layer) else []

    def _cells(self, layer: Layer, bounded: bool, inputs: Sequence[Array]) -> Array:
        """Cell numbers, float32 ``[1, …]`` in the shape of the tensor (small integers, exact)."""
        if not inputs:
            return self._source(layer, bounded)
        if _mixes_places(layer):
            flat = inputs[0].reshape(-1, inputs[0].shape[-1])
            if not bool((flat == flat[:1]).all()):  # a channel holds several: they are not apart behind this layer
                return self._source(layer, bounded)
            return np.broadcast_to(flat[0], (1, *layer.output_shape[1:]))
        if _moves(layer) and not layer.operation.is_boundary:
            return _moved(layer, inputs)
        return inputs[0]

    def _source(self, layer: Layer, bounded: bool) -> Array:
        bounded = bounded or has_meant_range(self.network, layer)
        channels = channel_numbers(self.network, layer.name)
        first = self.count
        present: Array
        numbers: Array
        present, numbers = np.unique(channels, return_inverse=True)
        if first + len(present) > MOST_CELLS:
            present, numbers = present[:1], np.zeros(channels.size, np.int64)
        self.sources.append(Source(layer.name, bounded, first, len(present)))
        return (numbers.reshape(channels.shape) + first).astype(np.float32)


def channel_numbers(network: Network, name: str) -> Array:
    """Which channel every value of a tensor belongs to, float32 ``[1, …]``: that of the last layer behind which values
    were only moved, scaled, added to others or looked up.
    """
    below: dict[str, list[str]] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in below:
            below[one] = _channels_from(network, network[one])
            waiting += below[one]
    found: dict[str, Array] = {}
    for layer in network:
        if layer.name in below:
            found[layer.name] = _channel_numbers(layer, [found[one] for one in below[layer.name]])
    return found[name]


def _channels_from(network: Network, layer: Layer) -> list[str]:
    """The inputs that decide a tensor's channels; none where it is the last axis."""
    if _moves(layer) or ((layer.operation.elementwise or layer.operation.channelwise) and len(layer.inputs) == 1):
        return list(layer.inputs)
    if layer.operation.elementwise:
        return [one for one in layer.inputs if network[one].output_shape == layer.output_shape][:1]
    return []


def _channel_numbers(layer: Layer, inputs: Sequence[Array]) -> Array:
    shape = (1, *layer.output_shape[1:])
    if _mixes_places(layer) and inputs:
        flat = inputs[0].reshape(-1, inputs[0].shape[-1])
        inputs = [np.broadcast_to(flat[0], shape)] if bool((flat == flat[:1]).all()) else []
    if not inputs:
        return np.broadcast_to(np.arange(shape[-1], dtype=np.float32), shape)
    if isinstance(layer.operation, Concat):  # channels of different inputs are different ones
        offsets = np.cumsum([0.0, *(float(one.max()) + 1 for one in inputs[:-1])])
        inputs = [one + np.float32(offset) for one, offset in zip(inputs, offsets, strict=True)]
    return _moved(layer, inputs) if _moves(layer) and not layer.operation.is_boundary else inputs[0]


def joined_values(network: Network) -> set[str]:
    """Layers whose values were kept apart since a concatenation."""
    found: set[str] = set()
    for layer in network:
        apart = _moves(layer) or layer.operation.elementwise or layer.operation.channelwise
        if isinstance(layer.operation, Concat) or (apart and any(name in found for name in layer.inputs)):
            found.add(layer.name)
    return found


def _moved(layer: Layer, inputs: Sequence[Array]) -> Array:
    """Cells where a moving layer puts them: its own rule, run on them."""
    tensors = [tensor_of(np.array(x, np.float32)) for x in inputs]
    with torch.inference_mode():
        return layer.operation.forward_float(TorchFloatOps(), {}, tensors).numpy()


def cell_map(network: Network, output: Layer) -> CellMap:
    """The cells of an output layer of a float network."""
    walk = _Walk(network, output.name)
    return CellMap(output.output_shape[1:], walk.sources, walk.cells, walk.count)


def parts_of(cells: CellMap, spread: Array) -> list[Part]:
    """The parts of an output: every place of a frame is in exactly one.

    Args:
        cells: of the output.
        spread: float64 ``[count]``: how far each cell's values vary in float; 0 where they do not.
    """
    found: list[Part] = []
    sizes = cells.sizes
    for source in cells.sources:
        own = np.arange(source.first, source.first + source.count)
        own = own[sizes[own] > 0]
        if not len(own):
            continue
        groups = [own] if source.bounded else _groups(own, spread)
        for group in groups:
            short = source.layer.rsplit("/", 1)[-1] or "padding"
            name = short if len(groups) == 1 else f"{short}[{_ranges(group - source.first)}]"
            member = np.zeros(cells.count, bool)
            member[group] = True
            index = np.flatnonzero(member[cells.cells])
            found.append(Part(name, source.layer, group, index, _grid(index, cells.shape)))
    return _named_apart(found)


def _groups(own: Array, spread: Array) -> list[Array]:
    """A source's cells, by spread; cells without any stay with the first group."""
    size = spread[own]
    varying = own[size > 0]
    if len(varying) < 2:
        return [own]
    order = varying[np.argsort(-spread[varying], kind="stable")]
    bounds = [0]
    for place in range(1, len(order)):
        if spread[order[place]] * LIKE < spread[order[bounds[-1]]]:
            bounds.append(place)
    pieces = [order[a:b] for a, b in zip(bounds, [*bounds[1:], len(order)], strict=True)]
    groups: list[Array] = [pieces[0]]
    for piece in pieces[1:]:
        if len(piece) >= LEAST_CHANNELS * len(varying):
            groups.append(piece)
        else:
            groups[-1] = np.concatenate([groups[-1], piece])
    groups[0] = np.concatenate([groups[0], own[size <= 0]])
    return sorted((np.sort(group) for group in groups), key=lambda group: int(group[0]))


def _named_apart(parts: list[Part]) -> list[Part]:
    """A source that an output holds twice, once behind a function that bounds it, has two parts: number them."""
    seen: dict[str, int] = {}
    result: list[Part] = []
    for part in parts:
        number = seen[part.name] = seen.get(part.name, 0) + 1
        name = part.name if number == 1 else f"{part.name} ({number})"
        result.append(Part(name, part.layer, part.cells, part.index, part.slices))
    return result


def _ranges(numbers: Array, most: int = 4) -> str:
    """``0:4,7`` for ascending numbers; the rest after ``most`` runs is left to ``…``."""
    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    runs = [f"{r[0]}" if len(r) == 1 else f"{r[0]}:{r[-1] + 1}" for r in np.split(numbers, cuts)]
    return ",".join(runs[:most]) + (",…" if len(runs) > most else "")


def _grid(index: Array, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...] | None:
    """(start, stop, step) per axis where the places are such a grid."""
    slices: list[tuple[int, int, int]] = []
    for numbers in np.unravel_index(index, shape):
        values = np.unique(numbers)
        steps = np.unique(np.diff(values))
        if len(steps) > 1:
            return None
        step = int(steps[0]) if len(steps) else 1
        slices.append((int(values[0]), int(values[-1]) + 1, step))
    size = math.prod(len(range(*one)) for one in slices)
    return tuple(slices) if size == len(index) else None


def place_text(part: Part, shape: tuple[int, ...]) -> str:
    """``[:, :, 0:4]``: where in a frame a part is; empty where that is no grid or the whole."""
    if part.slices is None or len(part.index) == math.prod(shape):
        return ""
    texts: list[str] = []
    for (start, stop, step), size in zip(part.slices, shape, strict=True):
        whole = (start, stop, step) == (0, size, 1)
        texts.append(":" if whole else f"{start}:{stop}" + (f":{step}" if step != 1 else ""))
    return f"[{', '.join(texts)}]"


def all_cells(network: Network) -> dict[str, CellMap]:
    """Output layer name → its cells."""
    return {layer.name: cell_map(network, layer) for layer in network.output_layers}


__all__ = ["CellMap", "Part", "Source", "all_cells", "cell_map", "parts_of", "place_text"]
