# SPDX-License-Identifier: Apache-2.0
"""What makes a layer fit that fits no context: nothing is offered that was not tried on the same layer.

Tried are fewer columns (tiles), both sides smaller, fewer channels, higher ceilings and the other built-in targets; the
layer is allocated and placed alone each time, as it is when contexts are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from headrace.errors import HeadraceError
from headrace.layers.rows import Family, RowKind
from headrace.mapping.allocate import allocate_alone
from headrace.mapping.stages import ALL, Allocation, Shares, Stage, StageGraph
from headrace.targets import Target, list_targets, load_target
from headrace.timing.work import Plane, Work


def fits_alone(work: Work, target: Target, shares: Shares = ALL) -> bool:
    """Whether the work, by itself, makes a context of the target."""
    graph = StageGraph((Stage(work),), tuple({p.tensor: p for p in work.operands}.values()), (work.output,))
    try:
        found = allocate_alone(graph, 0, target, shares, placing=True)
    except HeadraceError:
        return False
    return isinstance(found, Allocation)


def levers_of(work: Work, target: Target, shares: Shares) -> list[str]:
    """What was tried and makes the layer fit; empty where nothing does."""
    return list(_levers(work, target, shares))


def _levers(work: Work, target: Target, shares: Shares) -> Iterator[str]:
    if shares != ALL and fits_alone(work, target):
        yield "leave out the utilization ceilings: the layer then fits"
    # A reshape of other sizes is no smaller one of these: its sides follow from those of other layers.
    if not any(rule.kind is RowKind.RESHAPE for rule in work.rules):
        yield from _smaller(work, target, shares)
    others = [t for t in map(load_target, list_targets()) if t.name != target.name and fits_alone(work, t)]
    if others:
        yield f"use a larger target: --hw-arch {' or '.join(t.name for t in others)} (the layer fits there)"


def _smaller(work: Work, target: Target, shares: Shares) -> Iterator[str]:
    """Fewer columns, both sides smaller, fewer channels."""
    width, height = (max(getattr(p, side) for p in (*work.operands, work.output)) for side in ("width", "height"))
    channels = max(p.channels for p in (*work.operands, work.output))
    columns = _most(width, lambda n: fits_alone(_sized(work, width=(n, width)), target, shares))
    if columns:
        yield f"cut the image into tiles of at most {columns} columns: the layer then fits"
    side = _most(max(width, height), lambda n: _fits_small(work, n, max(width, height), target, shares))
    if side and side * min(width, height) // max(width, height) and height > 1:
        small = f"{max(1, height * side // max(width, height))}×{max(1, width * side // max(width, height))}"
        yield f"use a smaller input resolution: at {small} instead of {height}×{width} the layer fits"
    fewer = _most(channels, lambda n: fits_alone(_fewer_channels(work, n, channels), target, shares))
    if fewer:
        yield f"use fewer channels: with at most {fewer} instead of {channels} the layer fits"


def _most(size: int, fits: Callable[[int], bool]) -> int:
    """The most of 1 … size - 1 for which a layer fits, by halving; 0: not even with 1."""
    if size < 2 or not fits(1):
        return 0
    low, high = 1, size - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _fits_small(work: Work, size: int, of: int, target: Target, shares: Shares) -> bool:
    return fits_alone(_sized(work, width=(size, of), height=(size, of)), target, shares)


def _sized(work: Work, width: tuple[int, int] = (1, 1), height: tuple[int, int] = (1, 1)) -> Work:
    """The work with its sides multiplied by fractions; rows that are listed one by one stay as they are."""
    if height[0] != height[1] and any(r.kind in (RowKind.TABLE, RowKind.STACK, RowKind.SLICE) for r in work.rules):
        return work

    def plane(p: Plane) -> Plane:
        return replace(
            p, width=max(1, p.width * width[0] // width[1]), height=max(1, p.height * height[0] // height[1])
        )

    return replace(work, operands=tuple(plane(p) for p in work.operands), output=plane(work.output))


def _fewer_channels(work: Work, channels: int, of: int) -> Work:
    """The work with its channels multiplied by ``channels / of``; its weights follow."""

    def plane(p: Plane) -> Plane:
        return replace(p, channels=max(1, p.channels * channels // of))

    grouped = work.family is Family.GROUPED
    size = work.weight_bytes * channels // of
    return replace(
        work,
        operands=tuple(plane(p) for p in work.operands),
        output=plane(work.output),
        groups=max(1, work.groups * channels // of) if grouped else work.groups,
        weight_bytes=size if grouped else size * channels // of,
    )
