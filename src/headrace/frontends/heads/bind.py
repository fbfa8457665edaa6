# SPDX-License-Identifier: Apache-2.0
"""A configuration whose tensors are called as in the file → one that reads the outputs of the translated network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from headrace.frontends.graph import SourceGraph, label, name_of
from headrace.frontends.heads import decode
from headrace.hn import Array, Layer, Network
from headrace.hn.nms import BoxDecoder, NmsConfiguration, NmsTensor, Operand


def affine(places: Array, tensor: int) -> Operand | None:
    """Places ``[positions, anchors, elements]`` as steps from the first; None where they are irregular."""
    first = int(places[0, 0, 0])
    position, anchor, element = (
        int(places[index]) - first if size > 1 else 0
        for size, index in zip(places.shape, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), strict=True)
    )
    steps = np.array([position, anchor, element])
    counts = [int(n) for n in places.shape]
    fits: Array = first + np.tensordot(steps, np.indices(counts), 1)
    if min(position, anchor, element) < 0 or not np.array_equal(fits, places):
        return None
    return Operand(tensor, first, position, anchor, element)


def bound(configuration: NmsConfiguration, network: Network, source: SourceGraph) -> NmsConfiguration | None:
    """The configuration for a network's outputs; None where these are not what it reads.

    Args:
        configuration: its tensors and layers are called as in the file.
        network: translated from the file.
        source: the file, for the layers that stand for its nodes.
    """
    outputs = {layer.boundary.source_name: layer for layer in network.output_layers}
    maps: list[Array] = []
    tensors: list[NmsTensor] = []
    for tensor in configuration.tensors:
        layer = outputs.get(tensor.name)
        if layer is None or math.prod(layer.output_shape[1:]) != math.prod(tensor.shape):
            return None
        shape = layer.output_shape[1:]
        count = math.prod(shape)
        places = layer.boundary.to_source(np.arange(count).reshape(1, *shape), layer.output_shape)
        maps.append(places.reshape(-1))
        height, width, channels = shape if len(shape) == 3 else (1, 1, shape[0])
        tensors.append(NmsTensor(layer.name, (height, width, channels)))
    names = _layer_names(network, source, outputs)
    decoders: list[BoxDecoder] = []
    for decoder in configuration.decoders:
        moved = _moved(configuration, decoder, maps, names)
        if moved is None:
            return None
        decoders.append(moved)
    return replace(configuration, tensors=tuple(tensors), decoders=tuple(decoders))


def _moved(c: NmsConfiguration, decoder: BoxDecoder, maps: list[Array], names: Mapping[str, str]) -> BoxDecoder | None:
    def moved(operand: Operand, elements: int) -> Operand | None:
        places = maps[operand.tensor][decode.addresses(operand, decoder, elements)]
        return affine(places, operand.tensor)

    points = 0 if c.key_points is None else c.key_points.count * c.key_points.numbers
    sizes = {
        "boxes": decode.box_numbers(c), "scores": c.classes, "objectness": 1, "sizes": 2,
        "masks": c.prototypes, "key_points": points, "angles": 1,
    }  # fmt: skip
    given = {key: getattr(decoder, key) for key in sizes}
    operands = {key: moved(one, sizes[key]) for key, one in given.items() if one is not None}
    if None in operands.values():
        return None
    layers = {key: names[tensor] for key, tensor in decoder.layers.items() if tensor in names}
    return replace(decoder, layers=layers, **operands)


def _layer_names(network: Network, source: SourceGraph, outputs: Mapping[str, Layer]) -> dict[str, str]:
    """Layers by the tensor of the file that they make."""
    names = {tensor: layer.inputs[0].partition(":")[0] for tensor, layer in outputs.items()}
    by_node = {name: layer.name for layer in reversed(list(network)) for name in layer.original_names}
    for node in source.graph:
        for value in node.outputs:
            if label(node) in by_node:
                names.setdefault(name_of(value), by_node[label(node)])
    return names
