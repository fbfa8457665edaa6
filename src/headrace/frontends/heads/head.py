# SPDX-License-Identifier: Apache-2.0
"""What a family of detectors is: a function from the tail of a network to a configuration, or why it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.frontends.heads.tail import Learned, Tail
from headrace.hn.nms import BoxDecoder, NmsConfiguration, NmsTensor, Operand


@dataclass(frozen=True)
class WhyNot:
    """Why a network's end is not of a family; ``near`` where most of it was there."""

    reason: str
    near: bool = False


Family = Callable[[Tail], "NmsConfiguration | WhyNot"]
FAMILIES: dict[str, Family] = {}


def family(name: str) -> Callable[[Family], Family]:
    """Registers a family; the files of this folder are imported in order of name."""

    def enter(function: Family) -> Family:
        FAMILIES[name] = function
        return function

    return enter


@dataclass(frozen=True)
class Level:
    """Learned results of one size, those of fewer channels first."""

    grid: tuple[int, int]
    members: tuple[Learned, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(one.channels for one in self.members)


def levels(tail: Tail, alike: bool = True) -> list[Level]:
    """The learned results by size, the largest first.

    Args:
        tail: of the network.
        alike: only the most numerous ones that have the same channels; else all.
    """
    groups: dict[tuple[int, int], list[Learned]] = {}
    for one in tail.learned:
        groups.setdefault(one.grid, []).append(one)
    found = [
        Level(grid, tuple(sorted(members, key=lambda m: m.channels)))
        for grid, members in sorted(groups.items(), key=lambda g: (-g[0][0] * g[0][1], g[0]))
    ]
    if not alike or not found:
        return found
    kinds: dict[tuple[int, ...], int] = {}
    for level in found:
        kinds[level.channels] = kinds.get(level.channels, 0) + 1
    most = max(kinds.values())
    kind = next(c for c in kinds if kinds[c] == most)
    return [level for level in found if level.channels == kind]


def strides(tail: Tail, grid: tuple[int, int]) -> tuple[float, float]:
    """Pixels from row to row and from column to column."""
    return tail.image[0] / grid[0], tail.image[1] / grid[1]


class Tensors:
    """The tensors of a configuration that is being made, and operands in them."""

    def __init__(self) -> None:
        self.made: list[NmsTensor] = []

    def index(self, one: Learned) -> int:
        """The number of a learned result among the tensors."""
        names = [t.name for t in self.made]
        if one.name in names:
            return names.index(one.name)
        shape = one.shape if len(one.shape) == 3 else (1, *one.shape)
        self.made.append(NmsTensor(one.name, (shape[0], shape[1], shape[2])))
        return len(self.made) - 1

    def operand(self, one: Learned, first: int = 0, anchor: int = 0) -> Operand:
        """Channels from ``first`` on; ``anchor``: channels from anchor to anchor."""
        position, channel = one.steps
        return Operand(self.index(one), first * channel, position, anchor * channel, channel)


def layers_of(**roles: Learned | None) -> dict[str, str]:
    """The tensors of a decoder by the public form's keys; the layers' names come when the network has them."""
    return {f"{role}_layer": one.name for role, one in roles.items() if one is not None}


def chosen(count: int, roles: int) -> Iterator[tuple[int, ...]]:
    """Every way to give members of a level to roles."""
    from itertools import permutations

    yield from permutations(range(count), roles)


def free_of_nms(tail: Tail) -> bool:
    """Whether the file takes the best boxes and suppresses none: its head gives one box for each object."""
    operators = [node.op_type for node in tail.nodes]
    return "TopK" in operators and "NonMaxSuppression" not in operators


def is_probability(one: Learned) -> bool:
    """Whether a learned result ends in a sigmoid."""
    return one.activation == "Sigmoid"


def decoder_name(stride: Sequence[float]) -> str:
    """As public configurations call decoders."""
    return f"bbox_decoder_{stride[0]:g}"


def operands_of(decoder: BoxDecoder) -> tuple[Operand, ...]:
    """Every operand of a decoder."""
    d = decoder
    found = (d.boxes, d.scores, d.objectness, d.sizes, d.masks, d.key_points, d.angles)
    return tuple(one for one in found if one is not None)
