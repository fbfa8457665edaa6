# SPDX-License-Identifier: Apache-2.0
"""Whether the tail of a network computes what a configuration says: the same numbers for numbers taken at random."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.heads import decode
from headrace.frontends.heads.tail import Tail
from headrace.hn import Array
from headrace.hn.nms import NmsConfiguration

#: Parts of the largest number that float32 arithmetic in another order may lose.
_TOLERANCE = 2e-4
#: How files write a box, from left, top, right, bottom.
FORMS: dict[str, Callable[[Array], Array]] = {
    "corners": lambda b: b,
    "centres": lambda b: np.concatenate([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], axis=1),
    "corner and size": lambda b: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1),
    "corners, y first": lambda b: b[:, [1, 0, 3, 2]],
}


@dataclass(frozen=True)
class Order:
    """In which order a tensor of the file has the boxes of all levels."""

    rising: bool
    anchors_first: bool

    def joined(self, levels: Sequence[Array]) -> Array:
        """``[positions, anchors, k]`` of each level as ``[boxes, k]``."""
        parts = [a.transpose(1, 0, 2) if self.anchors_first else a for a in levels]
        parts = parts if self.rising else parts[::-1]
        return np.concatenate([p.reshape(-1, p.shape[-1]) for p in parts])


ORDERS = tuple(Order(*one) for one in itertools.product((True, False), (False, True)))


def tables(made: Mapping[str, Array], rows: int) -> Iterator[tuple[str, Array]]:
    """Tensors that have a row for every box: ``[rows, columns]``, the last one of the file first."""
    for name, array in reversed(list(made.items())):
        if array.dtype.kind != "f" or not array.size or array.size % rows or array.ndim < 2:
            continue
        plain = array.reshape([d for d in array.shape if d > 1] or [1])
        if plain.ndim == 2 and plain.shape[1] == rows:
            yield name, plain.T
        if array.shape[-1] > 1 and array.size // array.shape[-1] == rows:
            yield name, array.reshape(rows, array.shape[-1])
        elif plain.ndim == 1 and plain.shape[0] == rows:
            yield name, plain[:, None]


def same(a: Array, b: Array) -> bool:
    """Equal up to rounding."""
    scale = max(float(np.abs(b).max(initial=0)), 1e-6)
    return (
        a.shape == b.shape and bool(np.isfinite(a).all()) and float(np.abs(a - b).max(initial=0)) <= _TOLERANCE * scale
    )


@dataclass(frozen=True)
class Found:
    """Where a file has its boxes."""

    tensor: str
    order: Order
    form: str


def find_boxes(made: Mapping[str, Array], levels: Sequence[Array], image: tuple[int, int]) -> Found | None:
    """The tensor that has these boxes.

    Args:
        made: tensors of the tail.
        levels: boxes in pixels, ``[positions, anchors, 4]`` each.
        image: height and width, for boxes that are parts of the picture.
    """
    rows = sum(a.shape[0] * a.shape[1] for a in levels)
    parts = np.array([image[1], image[0]] * 2, np.float64)
    wanted = [
        (order, form, write(joined))
        for order in (ORDERS if max(a.shape[1] for a in levels) > 1 else ORDERS[::2])
        for pixels in [order.joined(levels)]
        for joined in (pixels, pixels / parts)
        for form, write in FORMS.items()
    ]
    for name, table in tables(made, rows):
        if table.shape[1] < 4:
            continue
        for order, form, boxes in wanted:
            if same(table[:8, :4].astype(np.float64), boxes[:8]) and same(table[:, :4].astype(np.float64), boxes):
                return Found(name, order, form)
    return None


def has_scores(made: Mapping[str, Array], levels: Sequence[Array], order: Order) -> bool:
    """Whether some tensor has these scores, in a table of their own or beside boxes."""
    joined = order.joined(levels)
    count = joined.shape[1]
    for _, table in tables(made, len(joined)):
        for first in dict.fromkeys((0, 4, 5, table.shape[1] - count)):
            if first < 0 or first + count > table.shape[1]:
                continue
            part = table[:, first : first + count].astype(np.float64)
            if same(part[:8], joined[:8]) and same(part, joined):
                return True
    return False


def tensors_of(configuration: NmsConfiguration, given: Mapping[str, Array]) -> list[Array]:
    """The tensors that a configuration reads, in its order."""
    return [given[one.name] for one in configuration.tensors]


def _box_key(c: NmsConfiguration) -> Hashable:
    """What boxes depend on; many configurations differ only in their scores."""
    each = tuple((c.tensors[d.boxes.tensor], d.boxes, d.angles, d.sizes, d.widths, d.heights) for d in c.decoders)
    scales = (c.centre_scale, c.size_scale, c.offset_scale)
    return c.coding, c.bins, c.point, c.box_activation, c.y_first, c.angle, scales, each


def verified(tail: Tail, proposed: Iterable[NmsConfiguration]) -> NmsConfiguration | None:
    """The first configuration whose boxes and scores the file computes; None where there is none.

    Files of anchors leave the product of class and objectness to their reader; a file that has scores that are whole
    has these factors, too, so whole scores go first, whichever configuration they are of.
    """
    apart: NmsConfiguration | None = None
    known: dict[Hashable, Found | None] = {}
    for configuration in proposed:
        tensors = tensors_of(configuration, tail.probe)
        key = _box_key(configuration)
        if key not in known:
            levels = [decode.boxes(configuration, d, tensors) for d in configuration.decoders]
            known[key] = find_boxes(tail.made, levels, tail.image)
        found = known[key]
        if found is None:
            continue
        scores = [decode.scores(configuration, d, tensors) for d in configuration.decoders]
        if has_scores(tail.made, scores, found.order):
            return configuration
        if apart is None and not configuration.score_root and _has_factors(tail, configuration, tensors, found.order):
            apart = configuration
    return apart


def _has_factors(tail: Tail, configuration: NmsConfiguration, tensors: Sequence[Array], order: Order) -> bool:
    both = [decode.factors(configuration, d, tensors) for d in configuration.decoders]
    objectness = [third for _, third in both if third is not None]
    if not objectness:
        return False
    return has_scores(tail.made, [first for first, _ in both], order) and has_scores(tail.made, objectness, order)
