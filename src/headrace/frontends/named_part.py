# SPDX-License-Identifier: Apache-2.0
"""The part of a file between start and end nodes that the user named: the rest of the file stays on the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.frontends.graph import Reason, SourceGraph, name_of
from headrace.frontends.largest_part import Side
from headrace.frontends.options import ParseOptions
from headrace.frontends.partition import File, Part
from headrace.hn import Network

_BEFORE = Reason("it is before the start nodes that were named", "start nodes before it, or none")
_BEHIND = Reason("it is behind the end nodes that were named", "end nodes behind it, or none")
_BESIDE = Reason("no end node that was named depends on it", "an end node that depends on it, or none")


@dataclass(frozen=True)
class NamedPart:
    """The part that was named.

    Attributes:
        part: as of a part that was found.
        again: nodes on the device that the host computes too, for what it needs of them is no end of the network.
        ends: those of their tensors that would be ends then.
    """

    part: Part
    again: tuple[int, ...] = ()
    ends: tuple[str, ...] = ()


class Unkept(Exception):
    """Why the rest of the file cannot run around the part that was named, a clause."""


def named_part(file: File, options: ParseOptions, cut: SourceGraph, network: Network) -> NamedPart:
    """The sides of all nodes of a file, of which a part was named and translated.

    Args:
        file: all of it.
        options: the user's.
        cut: the part as it was translated.
        network: the part, translated.

    Raises:
        Unkept: a tensor at a border is none of the file, or its frames are not those of the file.
    """
    starts = [layer.boundary.source_name for layer in network.input_layers]
    ends = [layer.boundary.source_name for layer in network.output_layers]
    maker = {name: node.index for node in file.nodes for name in node.makes}
    for name in (*starts, *ends):
        if name not in maker and name not in file.model.inputs:
            raise Unkept(f"{name!r} is no tensor of the file as it is before the network")
    _check_frames(file, cut, network, starts)
    inside = _above(file, maker, ends, starts)
    for index in inside:  # a branch that no output of the file needs is on the device all the same
        if file.unused[index]:
            file.unused[index] = file.free[index] = False
    before = _above(file, maker, starts, ()) - inside
    sides: list[Side] = []
    reasons: dict[int, Reason] = {}
    after = _below(file, inside)
    for node in file.nodes:
        i = node.index
        sides.append(Side.INSIDE if i in inside else Side.BEFORE if i in before else Side.BEHIND)
        if i not in inside and not file.free[i]:
            reasons[i] = _BEFORE if i in before else _BEHIND if i in after else _BESIDE
    again, missing = _again(file, maker, inside, starts, ends)
    outer = [name for name in starts if name not in file.model.inputs]
    return NamedPart(Part(file, sides, outer, ends, options, reasons), again, missing)


def _check_frames(file: File, cut: SourceGraph, network: Network, starts: Sequence[str]) -> None:
    """Raises Unkept where a start has its frames along another size than the file's batch."""
    if {name_of(v) for v in cut.single} - {name_of(v) for v in file.source.single}:
        raise Unkept("all that the file computes at once is one frame of the network")
    batches = {size for size in cut.batch_sizes.values() if size > 0} or {1}
    one = {name for name in starts if name not in file.model.inputs}
    for layer in network.input_layers:
        end = layer.boundary
        shape = file.shapes.get(end.source_name)
        if end.source_name not in one or shape is None or -1 not in end.source_shape:
            continue
        axis = end.source_shape.index(-1)
        if len(shape) != len(end.source_shape) or shape[axis] not in batches:
            raise Unkept(f"the first dimension of {end.source_name!r} does not count the frames of the file")


def _above(file: File, maker: dict[str, int], wanted: Iterable[str], stop: Iterable[str]) -> set[int]:
    """Nodes that tensors depend on, back to tensors that are there."""
    there = {*stop, *file.constants}
    found: set[int] = set()
    waiting = [name for name in wanted if name not in there]
    while waiting:
        index = maker.get(waiting.pop())
        if index is not None and index not in found and not (file.free[index] and not file.unused[index]):
            found.add(index)
            waiting += [name for name in file.nodes[index].reads if name not in there]
    return found


def _below(file: File, inside: set[int]) -> set[int]:
    """Nodes that depend on the part."""
    made = {name for index in inside for name in file.nodes[index].makes}
    found: set[int] = set()
    for node in file.nodes:
        if node.index not in inside and any(name in made for name in node.reads):
            found.add(node.index)
            made.update(node.makes)
    return found


def _again(
    file: File, maker: dict[str, int], inside: set[int], starts: Sequence[str], ends: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Nodes of the part that the host computes too, and those of their tensors that something outside of it reads."""
    needed = _above(file, maker, file.model.outputs, ends) | _above(file, maker, starts, ())
    again = needed & inside
    read = {name for index in needed - inside for name in file.nodes[index].reads} | {*file.model.outputs, *starts}
    missing = [name for i in sorted(again) for name in file.nodes[i].makes if name in read and name not in ends]
    return tuple(sorted(again)), tuple(missing)


__all__ = ["NamedPart", "Unkept", "named_part"]
