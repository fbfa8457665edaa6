# SPDX-License-Identifier: Apache-2.0
"""Offsets from the cell and logarithms of the size: YOLOX, where the file itself computes the boxes."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.frontends.heads.head import (
    Level,
    Tensors,
    WhyNot,
    chosen,
    decoder_name,
    family,
    layers_of,
    levels,
    strides,
)
from headrace.frontends.heads.match import verified
from headrace.frontends.heads.tail import Learned, Tail
from headrace.hn.nms import BoxDecoder, NmsConfiguration


@family("grid_offsets")
def grid_offsets(tail: Tail) -> NmsConfiguration | WhyNot:
    """YOLOX with its decoding in the file."""
    if tail.arranges:
        return WhyNot("the file decodes no boxes")
    found = levels(tail)
    if not found or sorted(found[0].channels)[:1] != [1] or 4 not in found[0].channels or len(found[0].members) != 3:
        return WhyNot("a level does not have boxes, objectness and scores")
    proposed = (
        configuration
        for roles in chosen(3, 3)
        if [found[0].channels[i] for i in roles[:2]] == [4, 1]
        for configuration in yolox(tail, [(level, [level.members[i] for i in roles]) for level in found])
    )
    return verified(tail, proposed) or WhyNot("no tensor of the file has boxes at such offsets")


def yolox(tail: Tail, found: list[tuple[Level, list[Learned]]]) -> Iterator[NmsConfiguration]:
    """Configurations of levels with boxes, objectness and scores, whichever activations are still to do."""
    tensors = Tensors()
    decoders: list[BoxDecoder] = []
    for level, (box, objectness, score) in found:
        stride = strides(tail, level.grid)
        boxes, scores, third = (tensors.operand(one) for one in (box, score, objectness))
        names = layers_of(reg=box, cls=score, objectness=objectness)
        decoders.append(BoxDecoder(decoder_name(stride), level.grid, stride, boxes, scores, third, layers=names))
    for activation in ("sigmoid", "none"):
        yield NmsConfiguration(
            family="yolox",
            image=tail.image,
            classes=found[0][1][2].channels,
            coding="grid_offsets",
            score_activation=activation,
            tensors=tuple(tensors.made),
            decoders=tuple(decoders),
            objectness_activation=activation,
        )
