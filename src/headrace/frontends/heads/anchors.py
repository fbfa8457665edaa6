# SPDX-License-Identifier: Apache-2.0
"""Anchors in the pixels of the input, one layer per level: YOLOv3, v4, v5, v7.

The anchors are no pattern of constants but what the file computes where every learned result is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from headrace.frontends.heads.head import Level, Tensors, WhyNot, decoder_name, family, layers_of, levels, strides
from headrace.frontends.heads.match import FORMS, ORDERS, Order, tables, verified
from headrace.frontends.heads.tail import Tail
from headrace.hn import Array
from headrace.hn.nms import BoxDecoder, NmsConfiguration

_MOST_ANCHORS = 9
_LARGE = 30.0  # a logit whose sigmoid is 1


@family("anchors")
def anchors(tail: Tail) -> NmsConfiguration | WhyNot:
    """Boxes that the file computes from anchors."""
    if tail.arranges:
        return WhyNot("the file decodes no boxes")
    found = [level for level in levels(tail) if len(level.members) == 1]
    if not found:
        return WhyNot("its levels do not have one layer each")
    others = [one.channels for one in tail.learned if one.grid not in [level.grid for level in found]]
    channels = found[0].channels[0]
    proposed = (
        configuration
        for count in range(1, _MOST_ANCHORS + 1)
        if channels % count == 0 and channels // count > 5
        for sizes in _sizes(found, count, tail.still)
        for configuration in _coded(tail, found, count, sizes, others)
    )
    return verified(tail, proposed) or WhyNot("no tensor of the file has boxes around anchors")


def _sizes(found: Sequence[Level], count: int, still: dict[str, Array]) -> Iterator[list[Array]]:
    """Widths and heights of anchors, ``[anchors, 2]`` for each level, from boxes of a network that found nothing."""
    cells = [level.grid[0] * level.grid[1] for level in found]
    rows = sum(cells) * count
    seen: list[list[Array]] = []
    for _, table in tables(still, rows):
        if table.shape[1] < 4:
            continue
        for order in ORDERS:
            split = split_levels(table[:, :4], cells, [count] * len(cells), order)
            sizes = [level[..., 2:] for level in split]
            if all(np.ptp(s, axis=0).max() <= 1e-3 * max(float(s.max()), 1e-6) and s.min() > 0 for s in sizes):
                one = [s[0].astype(np.float64) for s in sizes]
                if not any(all(np.allclose(a, b) for a, b in zip(one, other, strict=True)) for other in seen):
                    seen.append(one)
                    yield one


def split_levels(table: Array, cells: Sequence[int], counts: Sequence[int], order: Order) -> list[Array]:
    """Rows of a table by level, the largest first: ``[positions, anchors, columns]`` each."""
    sizes = [c * n for c, n in zip(cells, counts, strict=True)]
    turned = sizes if order.rising else sizes[::-1]
    parts = np.split(table, np.cumsum(turned)[:-1])
    parts = parts if order.rising else parts[::-1]
    return [
        part.reshape(n, c, -1).transpose(1, 0, 2) if order.anchors_first else part.reshape(c, n, -1)
        for part, c, n in zip(parts, cells, counts, strict=True)
    ]


def _coded(
    tail: Tail, found: Sequence[Level], count: int, sizes: Sequence[Array], others: Sequence[int]
) -> Iterator[NmsConfiguration]:
    each = found[0].channels[0] // count
    # Behind the scores may stand the numbers of a mask, as many as the prototypes are.
    for classes in dict.fromkeys([each - 5, *(each - 5 - n for n in others if each - 5 - n > 0)]):
        tensors = Tensors()
        decoders: list[BoxDecoder] = []
        for level, size in zip(found, sizes, strict=True):
            one, stride = level.members[0], strides(tail, level.grid)
            boxes, scores, objectness = (tensors.operand(one, first, each) for first in (0, 5, 4))
            wide, high = ([round(float(v), 4) for v in size[:, axis]] for axis in (0, 1))
            names = layers_of(encoded=one)
            decoders.append(
                BoxDecoder(
                    decoder_name(stride), level.grid, stride, boxes,
                    scores,
                    objectness,
                    anchors=count, widths=tuple(wide), heights=tuple(high), layers=names,
                )
            )  # fmt: skip
        for coding, name in (("anchors_squared", "yolov5"), ("anchors_exponential", "yolov3")):
            for scale in (1.0, 1.05, 1.1, 1.2) if coding == "anchors_exponential" else (1.0,):
                for activation in ("sigmoid", "softmax", "none"):
                    yield NmsConfiguration(
                        family=name,
                        image=tail.image,
                        classes=classes,
                        coding=coding,
                        score_activation=activation,
                        tensors=tuple(tensors.made),
                        decoders=tuple(decoders),
                        objectness_activation="sigmoid",
                        offset_scale=scale,
                    )


__all__ = ["FORMS", "anchors", "split_levels"]
