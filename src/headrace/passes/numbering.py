# SPDX-License-Identifier: Apache-2.0
"""The numbers in the names of layers: those that model scripts and post-processing configurations mean (``conv42``).

Layers are numbered from the inputs on, along the shortest way to an output first. The order in which they are executed
is another one, and stays.
"""

from __future__ import annotations

import heapq

from headrace.hn import Layer, Network
from headrace.layers import Convolution, DepthToSpace


def renumber(network: Network) -> None:
    """Give every layer its name by kind and place (``conv1``, ``conv2``, …, ``dw1`` …).

    Inputs and outputs have the places that the file gives them; other layers those of :func:`by_nearest_output`.
    """
    counters: dict[str, int] = {}
    mapping: dict[str, str] = {}
    outputs = network.output_layers
    for layer in [layer for layer in by_nearest_output(network) if layer not in outputs] + outputs:
        prefix = _prefix(layer)
        counters[prefix] = counters.get(prefix, 0) + 1
        mapping[layer.name] = f"{network.name}/{prefix}{counters[prefix]}"
    network.rename(mapping)


def _prefix(layer: Layer) -> str:
    """What a layer is called: by its kind, or ``deconv`` where it computes the products of a transposed convolution."""
    readers = _readers(layer)
    if isinstance(layer.operation, Convolution) and len(readers) == 1:
        node = readers[0].original_names[:1]
        if isinstance(readers[0].operation, DepthToSpace) and node and node[0] in layer.original_names:
            return "deconv"  # its pixels are put in place by the layer behind it, both of one source node
    return layer.operation.prefix


def by_nearest_output(network: Network) -> list[Layer]:
    """The layers in the order of their numbers.

    A layer gets its number when the last of what it reads has been visited; of several at once, by their present order.
    Visited next is, of the numbered layers, one on the shortest way from an input to an output; of several, the first.
    So two branches of a detection head that are equally long are numbered side by side, a shorter one before a longer
    one, and what leads to the next head after both.
    """
    position = {layer: i for i, layer in enumerate(network)}
    way = _shortest_ways(network)
    waiting = {layer: len({value.producer for value in layer.operands or ()}) for layer in position}
    order: list[Layer] = []
    numbered: list[tuple[int, int]] = []  # the way's length and the number, of layers not visited yet

    def number(layers: list[Layer]) -> None:
        for layer in sorted(layers, key=position.__getitem__):
            heapq.heappush(numbered, (way[layer], len(order)))
            order.append(layer)

    number([layer for layer, count in waiting.items() if not count])
    while numbered:
        _, index = heapq.heappop(numbered)
        ready: list[Layer] = []
        for reader in _readers(order[index]):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
        number(ready)
    return order


def _readers(layer: Layer) -> list[Layer]:
    """The layers that read any of its results, each once."""
    return list(dict.fromkeys(use.layer for value in layer.results for use in value.uses))


def _shortest_ways(network: Network) -> dict[Layer, int]:
    """Of every layer, the steps of the shortest way through it from a layer that reads nothing to one nobody reads."""
    layers = list(network)
    down: dict[Layer, int] = {}
    up: dict[Layer, int] = {}
    for layer in layers:
        up[layer] = min((up[value.producer] + 1 for value in layer.operands or ()), default=0)
    for layer in reversed(layers):
        down[layer] = min((down[reader] + 1 for reader in _readers(layer)), default=0)
    return {layer: up[layer] + down[layer] for layer in layers}
