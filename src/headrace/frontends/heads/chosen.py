# SPDX-License-Identifier: Apache-2.0
"""Detectors that choose candidates by their scores and decode only these: RetinaNet and FCOS of torchvision.

They have no table of all boxes. The choice is put aside: where the file takes the places of scores over its threshold,
it is given one class of every box, and where it takes the best of them, all. What it computes then is a table as other
files have it. Boxes are compared as the file has them at last, which is inside the picture's edges.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import Budget
from headrace.frontends.graph import name_of
from headrace.frontends.heads import decode
from headrace.frontends.heads.anchors import split_levels
from headrace.frontends.heads.head import Level, Tensors, WhyNot, chosen, decoder_name, family, layers_of, levels
from headrace.frontends.heads.limits import limited
from headrace.frontends.heads.match import FORMS, Order, find_boxes, same, tables, tensors_of
from headrace.frontends.heads.priors import Priors, centred, coded, fitted, role_choices, scales_of
from headrace.frontends.heads.tail import Tail
from headrace.hn import Array
from headrace.hn.nms import MAX_BOXES, BoxDecoder, NmsConfiguration

_SOME = 0.5  # a learned number
_LARGE = (80.0, 1e5)  # learned numbers that put every box's right and bottom sides there
_ORDERS = (Order(True, False), Order(True, True))


@dataclass
class _AllChosen(Tail):
    """A tail whose file chooses every box, each with one class.

    Attributes:
        rows: boxes of each level.
        classes: scores of a box.
    """

    rows: tuple[int, ...] = ()
    classes: int = 0
    _numbers: dict[float, dict[str, Array]] = field(default_factory=dict[float, dict[str, Array]], repr=False)

    def results(self, node: ir.Node, operands: list[Array | None], budget: Budget) -> list[Array]:
        x = operands[0] if operands else None
        if x is not None and not node.domain:
            rows = next((n for n in self.rows if x.shape == (n * self.classes,)), None)
            if node.op_type == "NonZero" and rows is not None:
                return [(np.arange(rows) * self.classes + self.class_of(rows))[None]]
            if node.op_type == "TopK" and x.shape in [(n,) for n in self.rows]:
                return [x, np.arange(x.size)]
        return super().results(node, operands, budget)

    def compute(self, given: Mapping[str, Array], linear: bool = False) -> dict[str, Array]:
        """As of any tail, without the tensors that are too large to be of one number for a side or a score."""
        made = super().compute(given, linear)
        return {name: array for name, array in made.items() if array.size <= 4 * sum(self.rows)}

    def class_of(self, rows: int) -> Array:
        """The class that each box of a level is given: int64 ``[rows]``."""
        return np.random.Generator(np.random.PCG64(rows)).integers(0, self.classes, rows)

    def of(self, number: float) -> dict[str, Array]:
        """The tensors where every learned result is this number."""
        if number not in self._numbers:
            given = {one.name: np.full(one.shape, number, np.float32) for one in self.learned}
            self._numbers[number] = self.compute(given)
        return self._numbers[number]


@family("chosen")
def chosen_first(tail: Tail) -> NmsConfiguration | WhyNot:
    """Boxes around priors, or at distances, of candidates that the file chooses level by level."""
    kinds = {node.op_type for node in tail.nodes if not node.domain}
    if not {"NonZero", "TopK"} <= kinds:
        return WhyNot("the file does not choose among its scores before it decodes")
    found, near = levels(tail, alike=False), False
    for classes, counts, proposed in itertools.chain(_around_priors(tail, found), _at_distances(tail, found)):
        rows = tuple(n * level.grid[0] * level.grid[1] for n, level in zip(counts, found, strict=True))
        view = _AllChosen(tail.source, tail.learned, tail.nodes, tail.image, tail.sizes, rows=rows, classes=classes)
        frame = _frame(view)
        if frame is None:
            continue
        view.image, near = frame, True
        for one in proposed.of(view):
            if _agrees(view, one):
                return _limited(tail, _scaled(one, tail.image))
    return WhyNot("the candidates that the file chooses have boxes of no known form", near=near)


# --- forms -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PriorForm:
    """Boxes coded against priors; ``roles``: which member of each level has the boxes."""

    found: Sequence[Level]
    roles: Sequence[int]
    counts: Sequence[int]

    def of(self, view: _AllChosen) -> Iterator[NmsConfiguration]:
        known: list[Priors] = []
        scales: set[tuple[float, float]] = set()
        for level, count in zip(self.found, self.counts, strict=True):
            one = next(_priors(view, level, count), None)
            if one is None:
                return
            known.append(one[0])
            scales.add(one[1])
        if len(scales) == 1:
            yield from coded(view, self.found, self.roles, known, scales.pop())


def _around_priors(tail: Tail, found: Sequence[Level]) -> Iterator[tuple[int, list[int], _PriorForm]]:
    if any(len(level.members) != 2 for level in found):
        return
    for roles in role_choices(found):
        counts = [level.members[box].channels // 4 for level, box in zip(found, roles, strict=True)]
        yield found[0].members[1 - roles[0]].channels // counts[0], counts, _PriorForm(found, roles, counts)


def _priors(view: _AllChosen, level: Level, count: int) -> Iterator[tuple[Priors, tuple[float, float]]]:
    """What the boxes of a level are coded against, from a tensor of this level alone, which no edge has cut yet."""
    cells = level.grid[0] * level.grid[1]
    for name, table in tables(view.still, cells * count):
        if table.shape[1] != 4:
            continue
        for order, form in itertools.product(_ORDERS, FORMS):
            boxes = split_levels(table.astype(np.float64), [cells], [count], order)[0]
            one = fitted(centred(boxes, form), level.grid, view.image)
            if one is None:
                continue
            moved = view.of(_SOME).get(name)
            scales = scales_of(view, [level], [count], [one], (moved, order, form), _SOME)
            if scales is not None:
                yield one, scales


@dataclass(frozen=True)
class _DistanceForm:
    """Distances from points; ``roles``: which members of a level have boxes, scores and centreness."""

    found: Sequence[Level]
    roles: tuple[int, int, int]

    def of(self, view: _AllChosen) -> Iterator[NmsConfiguration]:
        box, score, third = self.roles
        tensors = Tensors()
        decoders: list[BoxDecoder] = []
        point = 0.0
        for number, level in enumerate(self.found):
            places = next(_points(view, level), None)
            if places is None:
                return
            offset, strides, units = places
            point = offset if number == 0 else point
            m = level.members
            decoders.append(
                BoxDecoder(
                    decoder_name(strides), level.grid, strides, tensors.operand(m[box]), tensors.operand(m[score]),
                    tensors.operand(m[third]), layers=layers_of(reg=m[box], cls=m[score], objectness=m[third]),
                    units=None if units == strides else units,
                )
            )  # fmt: skip
        for activation, root in itertools.product(("none", "relu", "exponential"), (True, False)):
            yield NmsConfiguration(
                family="fcos", image=view.image, classes=view.classes, coding="distances", score_activation="sigmoid",
                tensors=tuple(tensors.made), decoders=tuple(decoders), point=point, box_activation=activation,
                objectness_activation="sigmoid", score_root=root,
            )  # fmt: skip


def _at_distances(tail: Tail, found: Sequence[Level]) -> Iterator[tuple[int, list[int], _DistanceForm]]:
    if any(len(level.members) != 3 or level.channels != found[0].channels for level in found):
        return
    for box, score, third in chosen(3, 3):
        if found[0].channels[box] == 4 and found[0].channels[third] == 1:
            yield found[0].channels[score], [1] * len(found), _DistanceForm(found, (box, score, third))


def _points(view: _AllChosen, level: Level) -> Iterator[tuple[float, tuple[float, float], tuple[float, float]]]:
    """Where in its cell a level's point lies, its strides, and the units of distances, both down and right."""
    rows, columns = level.grid
    for (_, table), (_, moved) in _still_and_moved(view, rows * columns):
        if table.shape[1] != 4 or moved.shape != table.shape:
            continue
        points = table[:, :2].reshape(rows, columns, 2).astype(np.float64)
        sides = (moved - table).astype(np.float64) / _SOME
        units = np.round(sides[0, 2:], 4)
        if (table[:, :2] != table[:, 2:]).any() or np.abs(sides - np.concatenate([-units, units])).max() > 1e-2:
            continue
        right = float(points[0, 1, 0] - points[0, 0, 0]) if columns > 1 else float(units[0])
        down = float(points[1, 0, 1] - points[0, 0, 1]) if rows > 1 else float(units[1])
        if min(right, down, *units) > 0:
            yield round(float(points[0, 0, 0]) / right, 4), (down, right), (float(units[1]), float(units[0]))


def _still_and_moved(view: _AllChosen, rows: int) -> Iterator[tuple[tuple[str, Array], tuple[str, Array]]]:
    """Tables of so many rows, where every learned number is 0 and where it is another one."""
    moved = view.of(_SOME)
    still = {name: array for name, array in view.still.items() if name in moved}
    yield from zip(tables(still, rows), tables({name: moved[name] for name in still}, rows), strict=False)


# --- comparison ------------------------------------------------------------------------------------------------------


def _frame(view: _AllChosen) -> tuple[int, int] | None:
    """Height and width of the picture that boxes end in: where sides lie that learned numbers move far out."""
    for number in _LARGE:
        for _, table in tables(view.of(number), sum(view.rows)):
            sides = table[:, 2:4]
            if table.shape[1] == 4 and np.ptp(sides, axis=0).max(initial=0) == 0 and sides.min(initial=1) >= 1:
                return round(float(sides[0, 1])), round(float(sides[0, 0]))
    return None


def _agrees(view: _AllChosen, c: NmsConfiguration) -> bool:
    """Whether all boxes of the file, inside the picture, and the score of each in its class are a configuration's."""
    tensors = tensors_of(c, view.probe)
    edges = np.array([c.image[1], c.image[0]] * 2, np.float64)
    boxes = [np.clip(decode.boxes(c, d, tensors), 0, edges) for d in c.decoders]
    found = find_boxes(view.made, boxes, c.image)
    if found is None:
        return False
    scores: list[Array] = []
    for d, rows in zip(c.decoders, view.rows, strict=True):
        all_of = decode.scores(c, d, tensors)
        shape = all_of.shape[1::-1] if found.order.anchors_first else all_of.shape[:2]
        classes = view.class_of(rows).reshape(shape)
        classes = classes.T if found.order.anchors_first else classes
        scores.append(np.take_along_axis(all_of, classes[..., None], axis=2))
    joined = found.order.joined(scores)[:, 0]
    return any(array.ndim == 1 and same(array.astype(np.float64), joined) for array in view.made.values())


def _scaled(c: NmsConfiguration, image: tuple[int, int]) -> NmsConfiguration:
    """A configuration of the picture that the file resizes, as one of the network's input."""
    down, right = image[0] / c.image[0], image[1] / c.image[1]

    def moved(pair: tuple[float, float]) -> tuple[float, float]:
        return round(pair[0] * down, 6), round(pair[1] * right, 6)

    decoders = tuple(
        replace(d, strides=moved(d.strides), units=None if d.units is None else moved(d.units)) for d in c.decoders
    )
    return replace(c, image=image, decoders=decoders, clipped=True)


# --- limits ----------------------------------------------------------------------------------------------------------


def _limited(tail: Tail, c: NmsConfiguration) -> NmsConfiguration:
    """A configuration with the file's limits; how many candidates of a level it takes is seen where all may be."""
    c = limited(tail, c)
    every = tail.compute({one.name: np.full(one.shape, 30, np.float32) for one in tail.learned})
    best = [(name_of(n.inputs[0]), name_of(n.outputs[0])) for n in tail.nodes if n.op_type == "TopK"]
    sizes = [(every[given].size, every[taken].size) for given, taken in best if given in every and taken in every]
    most = max((taken for given, taken in sizes if taken < given), default=0)
    if 0 < most <= MAX_BOXES and all(taken == min(given, most) for given, taken in sizes):
        c = replace(c, per_level=most)
    return c
