# SPDX-License-Identifier: Apache-2.0
"""Boxes coded against priors: SSD, RetinaNet, EfficientDet, UltraFace.

Priors and variances are what the file computes where every learned result is 0, and where it is 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.heads.anchors import split_levels
from headrace.frontends.heads.head import Level, Tensors, WhyNot, decoder_name, family, layers_of, levels
from headrace.frontends.heads.match import FORMS, ORDERS, Order, tables, verified
from headrace.frontends.heads.selected import stated
from headrace.frontends.heads.tail import Tail
from headrace.hn import Array
from headrace.hn.nms import BoxDecoder, NmsConfiguration

_MOST_ANCHORS = 64


@dataclass(frozen=True)
class Priors:
    """Of one level, parts of the picture: where a point lies, stride, and the sizes."""

    offset: tuple[float, float]  # y, x
    strides: tuple[float, float]
    sizes: Array  # [anchors, 2], width and height


@family("priors")
def priors(tail: Tail) -> NmsConfiguration | WhyNot:
    """Boxes that the file computes from priors."""
    if tail.arranges:
        return WhyNot("the file decodes no boxes")
    own = stated(tail)
    if own is not None and own.per_box != 1:
        return WhyNot("a box of the file may have several classes", near=True)
    found = [level for level in levels(tail, alike=False) if len(level.members) == 2]
    if not found:
        return WhyNot("its levels do not have one layer for boxes and one for scores")
    moved = tail.compute({one.name: np.ones(one.shape, np.float32) for one in tail.learned})
    return verified(tail, _proposed(tail, found, moved)) or WhyNot("no tensor of the file has boxes around priors")


def _proposed(tail: Tail, found: Sequence[Level], moved: dict[str, Array]) -> Iterator[NmsConfiguration]:
    for roles in role_choices(found):
        counts = [level.members[box].channels // 4 for level, box in zip(found, roles, strict=True)]
        for name, order, form, known in _known(tail, found, counts, tail.still):
            scales = scales_of(tail, found, counts, known, (moved.get(name), order, form))
            if scales is not None:
                yield from coded(tail, found, roles, known, scales)


def role_choices(found: Sequence[Level]) -> Iterator[list[int]]:
    """Which member of each level gives boxes: of all levels the same one in the file's order, or that which fits."""
    for swap in (False, True):
        roles: list[int] = []
        classes: list[int] = []
        for level in found:
            first, second = level.members
            box = int(second.channels % 4 == 0 and (first.channels % 4 != 0 or swap))
            one, other = level.members[box], level.members[1 - box]
            count = one.channels // 4
            if one.channels % 4 or not 0 < count <= _MOST_ANCHORS or other.channels % count:
                break
            roles.append(box)
            classes.append(other.channels // count)
        if len(roles) == len(found) and min(classes) == max(classes):
            yield roles


def _known(
    tail: Tail, found: Sequence[Level], counts: Sequence[int], still: dict[str, Array]
) -> Iterator[tuple[str, Order, str, list[Priors]]]:
    cells = [level.grid[0] * level.grid[1] for level in found]
    rows = sum(c * n for c, n in zip(cells, counts, strict=True))
    for name, table in tables(still, rows):
        if table.shape[1] < 4:
            continue
        for order in ORDERS:
            split = split_levels(table[:, :4].astype(np.float64), cells, counts, order)
            for form in FORMS:
                known = [
                    fitted(centred(part, form), level.grid, tail.image)
                    for part, level in zip(split, found, strict=True)
                ]
                if all(one is not None for one in known):
                    yield name, order, form, [one for one in known if one is not None]


def centred(boxes: Array, form: str) -> Array:
    """Boxes of a form as centre and size, ``[…, 4]``."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if form == "centres":
        return boxes
    if form == "corner and size":
        return np.concatenate([first + second / 2, second], axis=-1)
    if form == "corners, y first":
        first, second = first[..., ::-1], second[..., ::-1]
    return np.concatenate([(first + second) / 2, second - first], axis=-1)


def fitted(boxes: Array, grid: tuple[int, int], image: tuple[int, int]) -> Priors | None:
    """Priors ``[positions, anchors, 4]`` as a grid of points with the same sizes at each, or None."""
    boxes = boxes / (1.0 if float(np.abs(boxes).max()) < 3 else np.array([image[1], image[0]] * 2, np.float64))
    sizes = boxes[0, :, 2:]
    if sizes.min() <= 0 or float(np.abs(boxes[..., 2:] - sizes).max()) > 1e-4:
        return None
    rows, columns = grid
    table = boxes[..., :2].reshape(rows, columns, -1, 2)
    x, y = table[0, :, 0, 0], table[:, 0, 0, 1]
    right = float(x[-1] - x[0]) / (columns - 1) if columns > 1 else 1 / columns
    down = float(y[-1] - y[0]) / (rows - 1) if rows > 1 else 1 / rows
    if right <= 0 or down <= 0:
        return None
    point_y, point_x = float(y[0]) / down, float(x[0]) / right
    fits = np.stack(
        np.broadcast_arrays(x[0] + right * np.arange(columns)[None, :], y[0] + down * np.arange(rows)[:, None]), -1
    )
    if float(np.abs(table - fits[:, :, None]).max()) > 1e-4:
        return None
    return Priors((point_y, point_x), (round(down * image[0], 4), round(right * image[1], 4)), np.round(sizes, 7))


def scales_of(
    tail: Tail,
    found: Sequence[Level],
    counts: Sequence[int],
    known: Sequence[Priors],
    ones: tuple[Array | None, Order, str],
    code: float = 1.0,
) -> tuple[float, float] | None:
    """Divisors of the centre and the logarithm of the size, from boxes whose code is one number everywhere."""
    array, order, form = ones
    if array is None:
        return None
    cells = [level.grid[0] * level.grid[1] for level in found]
    rows = sum(c * n for c, n in zip(cells, counts, strict=True))
    table = next((t for _, t in tables({"": array}, rows) if t.shape[1] >= 4), None)
    if table is None:
        return None
    boxes = centred(split_levels(table[:, :4].astype(np.float64), cells, counts, order)[0][0, 0], form)
    boxes = boxes / (np.array([tail.image[1], tail.image[0]] * 2) if float(np.abs(boxes).max()) > 8 else 1.0)
    one, level = known[0], found[0]
    width = float(one.sizes[0, 0])
    moved = (float(boxes[0]) - one.offset[1] * one.strides[1] / tail.image[1]) / width
    grown = float(np.log(max(float(boxes[2]) / width, 1e-9)))
    del level
    if moved <= 1e-6 or grown <= 1e-6:
        return None
    return round(code / moved, 4), round(code / grown, 4)


def coded(
    tail: Tail, found: Sequence[Level], roles: Sequence[int], known: Sequence[Priors], scales: tuple[float, float]
) -> Iterator[NmsConfiguration]:
    offsets = [offset for one in known for offset in one.offset]
    if max(offsets) - min(offsets) > 1e-3 and not all(level.grid == (1, 1) for level in found):
        offsets = [o for one, level in zip(known, found, strict=True) for o in one.offset if level.grid != (1, 1)]
    point = round(float(np.median(offsets)), 4)
    own = stated(tail)
    first = 0 if own is None else own.first  # classes of such a file are counted behind its background
    tensors = Tensors()
    decoders: list[BoxDecoder] = []
    classes = 0
    for level, box, one in zip(found, roles, known, strict=True):
        boxes, scores = level.members[box], level.members[1 - box]
        count = boxes.channels // 4
        classes = scores.channels // count
        # A level of one position has its point where it has it: the stride follows from that.
        stride = tuple(
            round(o * s / point, 6) if size == 1 and point > 0 else round(s, 6)
            for o, s, size in zip(one.offset, one.strides, level.grid, strict=True)
        )
        decoders.append(
            BoxDecoder(
                decoder_name(stride), level.grid, (stride[0], stride[1]),
                tensors.operand(boxes, 0, 4), tensors.operand(scores, first, classes), anchors=count,
                widths=tuple(float(v) for v in one.sizes[:, 0]), heights=tuple(float(v) for v in one.sizes[:, 1]),
                layers=layers_of(reg=boxes, cls=scores),
            )
        )  # fmt: skip
    for activation, y_first in itertools.product(("softmax", "sigmoid", "none"), (False, True)):
        yield NmsConfiguration(
            family="ssd",
            image=tail.image,
            classes=classes - first,
            coding="priors",
            score_activation=activation,
            tensors=tuple(tensors.made),
            decoders=tuple(decoders),
            background=0 if activation == "softmax" and classes > 1 and not first else None,
            y_first=y_first,
            point=point,
            centre_scale=scales[0],
            size_scale=scales[1],
        )
