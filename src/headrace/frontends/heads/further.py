# SPDX-License-Identifier: Apache-2.0
"""What a box has beside its edges and scores: the numbers of a mask, key points.

Each is taken only where the file has it beside its boxes, computed by the formula; angles belong to the boxes
themselves (:mod:`headrace.frontends.heads.distances`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from headrace.frontends.heads import decode
from headrace.frontends.heads.head import Tensors, operands_of
from headrace.frontends.heads.match import Found, find_boxes, has_scores, tensors_of
from headrace.frontends.heads.tail import Learned, Tail
from headrace.hn.nms import KeyPoints, Masks, NmsConfiguration, NmsTensor

#: Scale and offset of points that are coded against cells: YOLOv8 and 11, YOLO26, YuNet.
_GRIDS = ((2.0, 0.0), (1.0, 0.5), (1.0, 0.0))
_FEWEST = 4  # prototypes


def with_further(tail: Tail, c: NmsConfiguration) -> NmsConfiguration:
    """A configuration with masks or key points, where the file computes these."""
    if tail.arranges or not c.decoders:
        return c
    tensors = tensors_of(c, tail.probe)
    levels = [decode.boxes(c, d, tensors) for d in c.decoders]
    found = find_boxes(tail.made, levels, tail.image)
    if found is None:
        return c
    return next((one for one in _proposed(tail, c) if _computed(tail, one, found)), c)


def _computed(tail: Tail, c: NmsConfiguration, found: Found) -> bool:
    tensors = tensors_of(c, tail.probe)
    if c.key_points is not None:
        return has_scores(tail.made, [decode.key_points(c, d, tensors) for d in c.decoders], found.order)
    read = [decode.read(d.masks, d, c.prototypes, tensors) for d in c.decoders if d.masks is not None]
    return has_scores(tail.made, read, found.order)


def _proposed(tail: Tail, c: NmsConfiguration) -> Iterator[NmsConfiguration]:
    used = {c.tensors[o.tensor].name for d in c.decoders for o in operands_of(d)}
    grids = [d.grid for d in c.decoders]
    others = [[one for one in tail.learned if one.grid == grid and one.name not in used] for grid in grids]
    prototypes = [one for one in tail.learned if one.name not in used and len(one.shape) == 3 and _larger(one, grids)]
    if all(d.anchors == 1 for d in c.decoders):
        for members in zip(*others, strict=False):
            channels = members[0].channels
            if len(members) != len(grids) or any(one.channels != channels for one in members):
                continue
            for plane in (one for one in prototypes if one.channels == channels >= _FEWEST):
                yield _masked(c, plane, members)
            yield from _pointed(c, members, channels)
    else:
        yield from _behind_scores(c, prototypes)


def _larger(one: Learned, grids: Sequence[tuple[int, int]]) -> bool:
    return one.grid[0] > grids[0][0] and one.grid[1] > grids[0][1]


def _opened(c: NmsConfiguration) -> Tensors:
    tensors = Tensors()
    tensors.made += c.tensors
    return tensors


def _masked(c: NmsConfiguration, plane: Learned, members: Sequence[Learned]) -> NmsConfiguration:
    tensors = _opened(c)
    decoders = tuple(replace(d, masks=tensors.operand(one)) for d, one in zip(c.decoders, members, strict=True))
    index = _prototypes(tensors, plane)
    return replace(c, tensors=tuple(tensors.made), decoders=decoders, masks=Masks(index))


def _prototypes(tensors: Tensors, plane: Learned) -> int:
    """The number of the tensor, whose shape is told with its channels last, as configurations have it."""
    index = tensors.index(plane)
    channels, (rows, columns) = plane.channels, plane.grid
    tensors.made[index] = NmsTensor(plane.name, (rows, columns, channels))
    return index


def _behind_scores(c: NmsConfiguration, prototypes: Sequence[Learned]) -> Iterator[NmsConfiguration]:
    """One layer of a level has the numbers of a mask behind the scores of each anchor: YOLOv5 and 7."""
    for plane in prototypes:
        tensors = _opened(c)
        index = _prototypes(tensors, plane)
        each = [(d.boxes, d.scores.base + c.classes * d.scores.element) for d in c.decoders]
        if plane.channels < _FEWEST or any(b.anchor != (5 + c.classes + plane.channels) * b.element for b, _ in each):
            continue
        decoders = tuple(
            replace(d, masks=replace(d.scores, base=first)) for d, (_, first) in zip(c.decoders, each, strict=True)
        )
        yield replace(c, tensors=tuple(tensors.made), decoders=decoders, masks=Masks(index))


def _pointed(c: NmsConfiguration, members: Sequence[Learned], channels: int) -> Iterator[NmsConfiguration]:
    tensors = _opened(c)
    decoders = tuple(replace(d, key_points=tensors.operand(one)) for d, one in zip(c.decoders, members, strict=True))
    for numbers in (3, 2):
        if channels % numbers:
            continue
        for scale, offset in _GRIDS:
            for activation in ("sigmoid", "none") if numbers == 3 else ("none",):
                points = KeyPoints(channels // numbers, numbers, "grid", scale, offset, activation)
                yield replace(c, tensors=tuple(tensors.made), decoders=decoders, key_points=points)
