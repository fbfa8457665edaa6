# SPDX-License-Identifier: Apache-2.0
"""Cuts behind a join move in front of it, so that what was only carried together keeps scales of its own.

Detectors join boxes and scores of a level, join the levels, and cut boxes and scores apart again to decode them. A join
gives its inputs one scale: scores from 0 to 1 would have the codes of boxes. Cut first, boxes and scores never meet.
Exact: only moves of values change places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, NamedTuple

from headrace.hn import Layer, Network
from headrace.layers import Concat, Operation, Reshape, Slice, Transpose
from headrace.passes.rewriting import Facts, Pass, fresh_name, sole_user


class Cut(NamedTuple):
    """Elements ``start`` to ``stop`` of one axis (counted without the batch), and all of the others."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class CutBeforeJoin(Pass):
    """``slice(concat(a, b))`` becomes ``a``, through reshapes, transpositions and joins along other axes too."""

    name: ClassVar[str] = "cut-before-join"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for joined in list(network):
            if joined.name not in network.layers:
                continue
            cuts = {user.name: _cut_of(network, user) for user in network.users(joined.name)}
            if not cuts or any(cut is None or not _leads(network, joined.name, cut) for cut in cuts.values()):
                continue
            old = set(network.layers)
            for name, cut in cuts.items():
                assert cut is not None
                made = _cut(network, joined.name, cut)
                if made in old:
                    network[made].original_names.extend(network[name].original_names)
                else:
                    network[made].original_names[:] = network[name].original_names
                network.redirect(name, made)
                network.remove(name)
                records.append({"layer": made, "cut": name, "join": joined.name})
            _remove_unread(network, joined.name)
        return records


def _cut_of(network: Network, layer: Layer) -> Cut | None:
    """The cut that a layer makes, when it is a slice of neighbours along one axis."""
    attributes = layer.operation
    if not isinstance(attributes, Slice):
        return None
    sizes = network[layer.inputs[0]].output_shape[1:]
    changed = [i for i, (size, whole) in enumerate(zip(attributes.sizes, sizes, strict=True)) if size != whole]
    if len(changed) != 1 or (attributes.steps[changed[0]] != 1 and attributes.sizes[changed[0]] > 1):
        return None
    start = attributes.starts[changed[0]]
    return Cut(changed[0], start, start + attributes.sizes[changed[0]])


def _inputs_of(network: Network, concat: Layer, cut: Cut) -> tuple[list[str], int] | None:
    """The inputs of a join along the cut's axis that a cut takes, and where it starts in the first.

    ``None`` where it takes several and not all of each.
    """
    sizes = [network[name].output_shape[1 + cut.axis] for name in concat.inputs]
    ends = list(accumulate(sizes))
    starts = [end - size for end, size in zip(ends, sizes, strict=True)]
    taken = [i for i in range(len(sizes)) if starts[i] < cut.stop and ends[i] > cut.start]
    aligned = starts[taken[0]] == cut.start and ends[taken[-1]] == cut.stop
    if len(taken) > 1 and not aligned:
        return None
    return [concat.inputs[i] for i in taken], cut.start - starts[taken[0]]


def _before(network: Network, layer: Layer, cut: Cut) -> Cut | None:
    """The same cut of the input of a reshape or transposition."""
    if isinstance(layer.operation, Transpose):
        return cut._replace(axis=layer.operation.permutation[cut.axis])
    inside, outside = layer.output_shape[1:], network[layer.inputs[0]].output_shape[1:]
    behind = math.prod(inside[cut.axis + 1 :])
    for axis, size in enumerate(outside):
        if size == inside[cut.axis] and math.prod(outside[axis + 1 :]) == behind:
            return cut._replace(axis=axis)
    return None


def _leads(network: Network, name: str, cut: Cut) -> bool:
    """Whether a cut of a tensor takes inputs of a join apart, and nobody else needs what is joined on the way."""
    layer, operation = network[name], network[name].operation
    if layer.wish.codes is not None:  # the model's file gives what is joined codes of its own
        return False
    if isinstance(operation, Concat) and operation.axis == cut.axis:
        return len(layer.inputs) > 1 and _inputs_of(network, layer, cut) is not None
    if isinstance(operation, Concat):
        return all(sole_user(network, x) is layer and _leads(network, x, cut) for x in layer.inputs)
    if isinstance(operation, (Reshape, Transpose)):
        before = _before(network, layer, cut)
        source = layer.inputs[0]
        return before is not None and sole_user(network, source) is layer and _leads(network, source, before)
    return False


def _cut(network: Network, name: str, cut: Cut) -> str:
    """The tensor that a cut of ``name`` gives, made in front of the join."""
    layer, operation = network[name], network[name].operation
    shape = list(layer.output_shape)
    shape[1 + cut.axis] = cut.stop - cut.start
    if isinstance(operation, Concat) and operation.axis == cut.axis:
        found = _inputs_of(network, layer, cut)
        assert found is not None
        taken, start = found
        if len(taken) > 1:
            return _added(network, layer, operation, taken, shape)
        if network[taken[0]].output_shape[1 + cut.axis] == cut.stop - cut.start:
            return taken[0]
        starts = [0] * (len(shape) - 1)
        starts[cut.axis] = start
        part = Slice(tuple(starts), (1,) * len(starts), tuple(shape[1:]))
        return _added(network, layer, part, taken, shape)
    if isinstance(operation, Concat):
        parts = [_cut(network, x, cut) for x in layer.inputs]
        return _added(network, layer, operation, parts, shape)
    before = _before(network, layer, cut)
    assert before is not None
    source = _cut(network, layer.inputs[0], before)
    moved = Reshape(tuple(shape[1:])) if isinstance(operation, Reshape) else operation
    return _added(network, layer, moved, [source], shape)


def _added(network: Network, like: Layer, operation: Operation, inputs: list[str], shape: list[int]) -> str:
    made = Layer(fresh_name(network, operation), operation, inputs, tuple(shape), list(like.original_names))
    network.insert_after(like.name, made)
    return made.name


def _remove_unread(network: Network, name: str) -> None:
    """Remove a layer that nobody reads, and moves before it that then nobody reads."""
    layer = network[name]
    if network.users(name) or not isinstance(layer.operation, (Concat, Reshape, Transpose)):
        return
    network.remove(name)
    for source in dict.fromkeys(layer.inputs):
        _remove_unread(network, source)
