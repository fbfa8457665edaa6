# SPDX-License-Identifier: Apache-2.0
"""Every tensor of a file, and where it lies in the network as it was translated, before any pass changed it.

For comparing a network with the file's own runtime tensor by tensor: once passes have merged layers, most tensors of
the file are nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headrace.frontends.graph import SourceGraph, label, marks, name_of
from headrace.frontends.layout import BATCH, Atom, View
from headrace.frontends.options import ParseOptions
from headrace.frontends.parsing import PASSES, ParseResult, finish_parameters, parse_source
from headrace.frontends.reader import Reader, Source
from headrace.frontends.translate import Translation
from headrace.hn import Array, Network
from headrace.passes import run_passes


@dataclass(frozen=True)
class TracedTensor:
    """A tensor of the file.

    Attributes:
        name: in the file.
        node: label of the node that makes it; empty for an input.
        operator: of that node, as the file calls it.
        view: where it lies in the network before passes.
    """

    name: str
    node: str
    operator: str
    view: View

    def of_frames(self, frames: Array) -> Array:
        """The tensor as the file has it.

        Args:
            frames: results of the layer ``[N, …]``, N as the file's batch.
        """
        height, width, channels = self.view.extent
        count = frames.shape[0]
        split = [count, *(a.size for axis in range(3) for a in _stored(self.view, axis))]
        order = [-1, *((axis, -a.stride) for axis in range(3) for a in _stored(self.view, axis))]
        wanted = [-1 if atom.axis == BATCH else (atom.axis, -atom.stride) for atom in self.view.atoms]
        parts = frames.reshape(count, height, width, channels).reshape(split)
        return parts.transpose([order.index(key) for key in wanted]).reshape(self.view.shape_of(count))


def _stored(view: View, axis: int) -> list[Atom]:
    """The atoms of an axis as they lie in it, outermost first; those of one axis have different strides."""
    return sorted((a for a in view.atoms if a.axis == axis), key=lambda a: -a.stride)


@dataclass(frozen=True)
class Trace:
    """A parsed network, and how it was before passes.

    Attributes:
        result: what parsing gave.
        network: as translated, with parameters in float32; its layers have provisional names.
        tensors: of the file, in its order.
        frames: how many frames the file takes at once.
    """

    result: ParseResult
    network: Network
    tensors: tuple[TracedTensor, ...]
    frames: int


def trace_source(source: Source, reader: Reader, options: ParseOptions) -> Trace:
    """Parse, and keep what was translated; see :func:`headrace.frontends.parse`."""
    kept: list[tuple[Network, tuple[TracedTensor, ...], int]] = []

    def keep(state: Translation) -> None:
        network = state.builder.network.clone()
        finish_parameters(network)
        kept.append((network, tuple(_tensors(state)), state.builder.frames))

    result = parse_source(source, reader, options, keep)
    network, tensors, frames = kept[-1]
    return Trace(result, network, tensors, frames)


def _tensors(state: Translation) -> Iterator[TracedTensor]:
    builder = state.builder
    source: SourceGraph = builder.source
    for value in source.graph.inputs:
        if value in builder.views:
            yield TracedTensor(name_of(value), "", "input", builder.views[value])
    for node in source.graph:
        operator = source.operators.get(label(node), source.expanded.get(label(node), node.op_type))
        for value in node.outputs:
            view = builder.views.get(value)
            if view is not None and name_of(value) and "internal" not in marks(value) and _is_whole(view):
                yield TracedTensor(name_of(value), label(node), operator, view)


def _is_whole(view: View) -> bool:
    """Whether the tensor is all of its layer's result, every element once."""
    return view.elements == int(np.prod([a.size for a in view.atoms], dtype=np.int64))


def behind_each_pass(trace: Trace) -> Iterator[tuple[str, Network]]:
    """The network as each pass leaves it, with the pass's name."""
    network = trace.network.clone()
    for item in PASSES:
        run_passes(network, [item])
        finish_parameters(network)
        yield item.name, network
