# SPDX-License-Identifier: Apache-2.0
"""Several small stages on one controller, one row at a time.

Two kinds of neighbours in execution order share, as long as their cycles together fit the frame time:

- stages with one output row a frame (the gates of squeeze-and-excite, classifier heads), any number of them;
- pairs of a dense convolution and the convolution or concatenation that feeds it, or of two dense convolutions that
  read the same tensor, at most one pair for twelve stages. Public scripts have such merged layers; the bound is fitted.

The controller's activation units and input aligners serve its stages in turn as well, so the largest need counts;
sub-clusters and memory stay their own. Rows are taken in a fixed order, frame by frame, so that what is told about
buffers in :mod:`headrace.timing.rows` holds for shared controllers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace.layers.rows import Family
from headrace.mapping.options import Option
from headrace.mapping.resources import MEMORY, RESOURCES, Use, per_cluster, total
from headrace.targets import Target
from headrace.timing.work import Work

# The controller itself, its activation units and its input aligners.
IN_TURN = tuple(RESOURCES.index(name) for name in ("controllers", "activation_units", "input_aligners"))

STAGES_PER_PAIR = 12


@dataclass
class _Run:
    """Stages ``first`` … ``last - 1`` on one controller."""

    first: int
    last: int
    cycles: int
    use: Use
    one_slice: bool
    one_row: bool


def share_controllers(
    works: Sequence[Work], options: Sequence[Option], period: int, target: Target, limits: Sequence[int]
) -> list[int] | None:
    """The stage whose controller each stage runs on, so that all keep the limits; ``None``: it cannot be.

    Runs with the fewest cycles are joined first, those of one row before pairs. What a controller's stages take lies in
    one cluster.
    """
    most = per_cluster(target)
    runs = [
        _Run(i, i + 1, o.cycles, o.use, o.controllers == o.column_slices * o.feature_slices == 1, w.output.height == 1)
        for i, (w, o) in enumerate(zip(works, options, strict=True))
    ]
    pairs = len(works) // STAGES_PER_PAIR
    while any(total([r.use for r in runs])[i] > limits[i] for i in IN_TURN):
        best: tuple[bool, int, int] | None = None  # a pair, cycles, place
        for i, (a, b) in enumerate(pairwise(runs)):
            pair = not (a.one_row and b.one_row)
            if pair and not (pairs and b.last - a.first == 2 and _related(works[a.first], works[b.first])):
                continue
            fits = a.one_slice and b.one_slice and a.cycles + b.cycles <= period and _together(a.use, b.use, most)
            if fits and (best is None or (pair, a.cycles + b.cycles) < best[:2]):
                best = (pair, a.cycles + b.cycles, i)
        if best is None:
            return None
        pair, cycles, i = best
        pairs -= pair
        a, b = runs[i], runs[i + 1]
        runs[i : i + 2] = [_Run(a.first, b.last, cycles, _joined(a.use, b.use), True, a.one_row and b.one_row)]
    return [run.first for run in runs for _ in range(run.first, run.last)]


def least_controllers(works: Sequence[Work], options: Sequence[Sequence[Option]]) -> int:
    """Controllers that no choice of options goes below, however :func:`share_controllers` joins its stages.

    Only stages with one controller are joined, so that each joining saves one: of stages with one output row fewer
    than there are, of others at most the number of pairs.
    """
    least = sum(min((o.controllers for o in row), default=0) for row in options)
    return least - sum(w.output.height == 1 for w in works) - len(works) // STAGES_PER_PAIR


def _related(a: Work, b: Work) -> bool:
    """Whether two stages may be a pair: the second is a dense convolution, and see above."""
    if b.family is not Family.DENSE or not b.operands:
        return False
    feeds = b.operands[0].tensor == a.output.tensor
    same = a.family is Family.DENSE and a.operands[0].tensor == b.operands[0].tensor
    return same or (feeds and (a.family in (Family.DENSE, Family.GROUPED) or a.joins))


def _joined(a: Use, b: Use) -> Use:
    """What two runs on one controller take."""
    return tuple(max(x, y) if i in IN_TURN else x + y for i, (x, y) in enumerate(zip(a, b, strict=True)))


def _together(a: Use, b: Use, most: Use) -> bool:
    """Whether what two runs take fits one cluster; memory may spill."""
    return all(n <= m for i, (n, m) in enumerate(zip(_joined(a, b), most, strict=True)) if i != MEMORY)


def shared_uses(uses: Sequence[Use], roots: Sequence[int]) -> list[Use]:
    """Uses with what a shared controller does in turn counted once, with the stage that it belongs to."""
    if not roots:
        return list(uses)
    found = [list(use) for use in uses]
    for i in IN_TURN:
        for stage, root in enumerate(roots):
            if stage != root:
                found[root][i] = max(found[root][i], found[stage][i])
                found[stage][i] = 0
    return [tuple(use) for use in found]


def controller_loads(options: Sequence[Option], roots: Sequence[int]) -> list[int]:
    """Cycles per frame of the controller that each stage runs on, its sharers included."""
    owner = list(roots) or list(range(len(options)))
    sums = [0] * len(options)
    for option, root in zip(options, owner, strict=True):
        sums[root] += option.cycles
    return [sums[root] for root in owner]
