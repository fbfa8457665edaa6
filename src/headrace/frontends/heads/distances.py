# SPDX-License-Identifier: Apache-2.0
"""Distances from a point to the four sides: YOLOv6, v8, v9, v10, 11, 12, 26, v5u, NanoDet, PicoDet, FCOS, PP-YOLOE."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from headrace.frontends.heads.head import (
    Level,
    Tensors,
    WhyNot,
    chosen,
    decoder_name,
    family,
    free_of_nms,
    is_probability,
    layers_of,
    levels,
    strides,
)
from headrace.frontends.heads.match import verified
from headrace.frontends.heads.tail import Tail
from headrace.hn.nms import Angle, BoxDecoder, NmsConfiguration

_MOST_BINS = 64
_MOST_MEMBERS = 5  # boxes, scores, centreness, and what belongs to masks or key points


@family("distances")
def distances(tail: Tail) -> NmsConfiguration | WhyNot:
    """Boxes that are computed in the file from distances, each of one number or of a distribution."""
    if tail.arranges:
        return WhyNot("the file decodes no boxes")
    found = levels(tail)
    if not found or len(found[0].members) > _MOST_MEMBERS:
        return WhyNot("its levels are not alike")
    made = verified(tail, sorted(_proposed(tail, found), key=_doubt))
    made = made or verified(tail, _turned(tail, found))
    return made or WhyNot("no tensor of the file has boxes at such distances")


def _doubt(c: NmsConfiguration) -> tuple[bool, bool]:
    """What is tried first: what leaves least to chance. Without an activation any numbers of the file would do for
    scores, and without the factor the scores' own one.
    """
    return c.score_activation == "none", c.objectness_activation is None


def _proposed(tail: Tail, found: list[Level]) -> Iterator[NmsConfiguration]:
    channels = found[0].channels
    for box, score in chosen(len(channels), 2):
        if channels[box] % 4 or channels[box] // 4 > _MOST_BINS:
            continue
        others = [i for i in range(len(channels)) if i not in (box, score) and channels[i] == 1]
        for objectness in (None, *others):
            for bins in dict.fromkeys((channels[box] // 4,)):
                yield from _coded(tail, found, (box, score, objectness), bins, (0, 0), channels[score])
    for only in range(len(channels)):  # one layer gives both
        for bins in (1, 8, 11, 16, 17, 32):
            classes = channels[only] - 4 * bins
            if classes > 0:
                yield from _coded(tail, found, (only, only, None), bins, (0, 4 * bins), classes)
                yield from _coded(tail, found, (only, only, None), bins, (classes, 0), classes)


#: How an angle follows from the number that was learned: YOLOv8 and 11, YOLO26.
_ANGLES = (Angle("sigmoid", math.pi, -math.pi / 4), Angle())


def _turned(tail: Tail, found: list[Level]) -> Iterator[NmsConfiguration]:
    """Boxes with an angle: a level has a layer more, of one number."""
    channels = found[0].channels
    for box, score, angle in chosen(len(channels), 3):
        if channels[box] % 4 or channels[angle] != 1 or channels[box] // 4 > _MOST_BINS:
            continue
        for c in _coded(tail, found, (box, score, None), channels[box] // 4, (0, 0), channels[score]):
            if c.box_activation != "none" or c.point != 0.5:
                continue
            tensors = Tensors()
            tensors.made += c.tensors
            decoders = tuple(
                replace(d, angles=tensors.operand(level.members[angle]))
                for d, level in zip(c.decoders, found, strict=True)
            )
            way = "none" if c.suppression == "none" else "fast"
            for one in _ANGLES:
                yield replace(c, tensors=tuple(tensors.made), decoders=decoders, angle=one, suppression=way)


def _coded(
    tail: Tail,
    found: list[Level],
    roles: tuple[int, int, int | None],
    bins: int,
    first: tuple[int, int],
    classes: int,
) -> Iterator[NmsConfiguration]:
    box, score, objectness = roles
    tensors = Tensors()
    decoders: list[BoxDecoder] = []
    for level in found:
        m, stride = level.members, strides(tail, level.grid)
        third = None if objectness is None else m[objectness]
        both = box == score
        names = layers_of(combined=m[box]) if both else layers_of(reg=m[box], cls=m[score], objectness=third)
        decoders.append(
            BoxDecoder(
                decoder_name(stride),
                level.grid,
                stride,
                tensors.operand(m[box], first[0]),
                tensors.operand(m[score], first[1]),
                None if third is None else tensors.operand(third),
                layers=names,
            )
        )
    probable = all(is_probability(level.members[score]) for level in found)
    free = free_of_nms(tail)
    name = "fcos" if objectness is not None else "yolov10" if free else "yolov8" if bins > 1 else "yolov6"
    for point in (0.5, 0.0):
        for box_activation in ("none",) if bins > 1 else ("none", "relu", "exponential"):
            for activation in ("sigmoid", "softmax", *(("none",) if probable else ())):
                for third, root in (
                    ((None, False),)
                    if objectness is None
                    else (("sigmoid", True), ("none", True), ("sigmoid", False), ("none", False))
                ):
                    yield NmsConfiguration(
                        family=name,
                        image=tail.image,
                        classes=classes,
                        coding="distances",
                        score_activation=activation,
                        tensors=tuple(tensors.made),
                        decoders=tuple(decoders),
                        suppression="none" if free else "class",
                        bins=bins,
                        point=point,
                        box_activation=box_activation,
                        objectness_activation=third,
                        score_root=root,
                    )
