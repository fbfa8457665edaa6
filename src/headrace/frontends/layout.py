# SPDX-License-Identifier: Apache-2.0
"""How a source tensor lies in an HN tensor, without moving anything.

HN tensors are H×W×C per frame. A source tensor (N,C,H,W, or any reshaped or transposed form of it) is described by a
:class:`View`: for each source dimension, the product of *atoms*, each a strided part of one HN axis. Transpose permutes
dimensions, Reshape and its relatives regroup atoms, and only a computing operation that needs another order than the
HN tensor has makes a layer move data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

BATCH = -1
HEIGHT, WIDTH, CHANNELS = 0, 1, 2
MAX_RANK = 16

#: source dimension → HN axis, or None for the batch and for dimensions of size 1 that have no axis
Arrangement = tuple["int | None", ...]

_CANONICAL: dict[int, Arrangement] = {
    1: (None,),
    2: (None, CHANNELS),
    3: (None, WIDTH, CHANNELS),
    4: (None, CHANNELS, HEIGHT, WIDTH),
}
CHANNELS_LAST: Arrangement = (None, HEIGHT, WIDTH, CHANNELS)


class LayoutError(Exception):
    """A source tensor cannot be seen or brought into the order that an operation needs; the text says why."""


class BatchCutError(LayoutError):
    """The batch would be cut apart."""


@dataclass(frozen=True)
class Atom:
    """``size`` positions of one HN axis, ``stride`` apart; the batch is an atom of size 1."""

    axis: int
    size: int
    stride: int = 1


_BATCH_ATOM = Atom(BATCH, 1)


@dataclass(frozen=True)
class View:
    """A source tensor as part of an HN tensor.

    Attributes:
        layer: name of the HN layer whose output it is.
        extent: height, width and channels of that output.
        dims: per source dimension its atoms, outermost first; a dimension of size 1 has none.
    """

    layer: str
    extent: tuple[int, int, int]
    dims: tuple[tuple[Atom, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The source shape, batch 1."""
        return tuple(math.prod(a.size for a in dim) for dim in self.dims)

    def shape_of(self, frames: int) -> tuple[int, ...]:
        """The source shape with a batch of ``frames``."""
        return tuple(s * frames if _BATCH_ATOM in d else s for s, d in zip(self.shape, self.dims, strict=True))

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def elements(self) -> int:
        return math.prod(self.extent)

    @property
    def atoms(self) -> list[Atom]:
        return [atom for dim in self.dims for atom in dim]

    @property
    def batch_first(self) -> bool:
        """Whether dimension 0 is the batch and nothing else."""
        return bool(self.dims) and self.dims[0] == (_BATCH_ATOM,)

    @property
    def batch_dim(self) -> int:
        """The dimension that the batch is, alone or with others; -1 for a single number, which has no dimension."""
        return next((i for i, dim in enumerate(self.dims) if _BATCH_ATOM in dim), -1)


def arranged_view(layer: str, extent: Sequence[int], arrangement: Arrangement) -> View:
    """The view of a tensor whose source dimensions are whole HN axes; dimension 0 is the batch."""
    height, width, channels = extent
    dims: list[tuple[Atom, ...]] = [(_BATCH_ATOM,)]
    for axis in arrangement[1:]:
        dims.append((Atom(axis, extent[axis]),) if axis is not None and extent[axis] > 1 else ())
    return View(layer, (height, width, channels), tuple(dims))


def stored_order(atom: Atom) -> tuple[int, int]:
    """Sorting key of atoms as they lie in the HN tensor."""
    return atom.axis, -atom.stride


def merge(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Join neighbouring atoms that are one run of one axis."""
    out: list[Atom] = []
    for atom in atoms:
        if out and atom.axis != BATCH and out[-1].axis == atom.axis and out[-1].stride == atom.stride * atom.size:
            out[-1] = Atom(atom.axis, out[-1].size * atom.size, atom.stride)
        else:
            out.append(atom)
    return tuple(out)


def lift_batch(view: View) -> tuple[View, Callable[[View], View]]:
    """The tensor with the batch as a dimension of its own, in front, and what puts it back in an operation's result.

    Attention puts the batch behind (query, key and value first) or together with other dimensions (parts of a picture
    as frames). Whatever is done to the other dimensions of such a tensor is the same for each frame.

    Raises:
        LayoutError: the batch lies inside another dimension.
    """
    at = view.batch_dim
    if not view.dims:
        return replace(view, dims=((_BATCH_ATOM,),)), without_batch
    if _BATCH_ATOM not in view.dims[at]:
        raise LayoutError("the batch is no whole dimension of this tensor")
    place = view.dims[at].index(_BATCH_ATOM)
    if place not in (0, len(view.dims[at]) - 1):
        raise LayoutError("the batch lies inside another dimension of this tensor")
    dims = tuple(tuple(a for a in dim if a.axis != BATCH) for dim in view.dims)

    def put_back(result: View) -> View:
        if result.rank != view.rank + 1:
            raise LayoutError("the operation changes the rank of a tensor whose first dimension is not the batch")
        dims = list(result.dims[1:])
        dims[at] = (_BATCH_ATOM, *dims[at]) if place == 0 else (*dims[at], _BATCH_ATOM)
        return replace(result, dims=tuple(dims))

    return replace(view, dims=((_BATCH_ATOM,), *dims)), put_back


def without_batch(view: View) -> View:
    """A tensor of one frame without the dimension of its batch, which is dimension 0; it joins the next one."""
    first, *rest = view.dims
    return replace(view, dims=((*first, *rest[0]), *rest[1:]) if rest else ())


def batch_in_front(view: View) -> View:
    """The view of a tensor of one frame with the batch, where it lies inside a dimension, in front of that dimension.

    A batch of one may stand anywhere: no element changes its place.
    """
    at = view.batch_dim
    if at < 0 or view.dims[at].index(_BATCH_ATOM) in (0, len(view.dims[at]) - 1):
        return view
    dim = (_BATCH_ATOM, *merge([a for a in view.dims[at] if a.axis != BATCH]))
    return replace(view, dims=(*view.dims[:at], dim, *view.dims[at + 1 :]))


def with_rank(view: View, rank: int) -> View:
    """The view with dimensions of size 1 in front, as broadcasting adds them."""
    return replace(view, dims=(*(() for _ in range(rank - view.rank)), *view.dims))


def permute(view: View, order: Sequence[int]) -> View:
    """Transpose: result dimension i is dimension ``order[i]``."""
    if sorted(order) != list(range(view.rank)):
        raise LayoutError(f"{list(order)} is not a permutation of {view.rank} dimensions")
    return replace(view, dims=tuple(view.dims[i] for i in order))


def _take(queue: list[Atom], size: int) -> list[Atom]:
    """Atoms from the front of ``queue`` whose sizes multiply to ``size``; splits the last one if needed."""
    taken: list[Atom] = []
    while size > 1:
        atom = queue[0]
        if size % atom.size == 0:
            taken.append(queue.pop(0))
            size //= atom.size
        elif atom.axis == BATCH:
            raise BatchCutError(f"the new shape cuts the batch of {atom.size} into parts of {size}")
        elif atom.size % size == 0:
            inner = atom.size // size
            taken.append(Atom(atom.axis, size, atom.stride * inner))
            queue[0] = Atom(atom.axis, inner, atom.stride)
            size = 1
        else:
            raise LayoutError(f"the new shape cuts an axis of {atom.size} into parts of {size}")
    return taken


def _place_batch(dims: list[list[Atom]], shape: Sequence[int], before: int, movable: bool, holder: int | None) -> None:
    """Put the batch atom where ``before`` elements' worth of dimensions stand outside of it, or in front.

    Between two dimensions it is part of the second, or of the first where that is the ``holder``.
    """
    done = 1
    for dim, size in zip(dims, shape, strict=True):
        if done == before and size == 1:
            dim.append(_BATCH_ATOM)
            return
        done *= size
    if holder is not None and math.prod(shape[: holder + 1]) == before:
        dims[holder].append(_BATCH_ATOM)
        return
    done = 1
    for dim in dims:
        for index, atom in enumerate(list(dim)):
            if done == before:
                dim.insert(index, _BATCH_ATOM)
                return
            done *= atom.size
    if done == before:
        dims[-1].append(_BATCH_ATOM)
    elif movable:
        dims[0].insert(0, _BATCH_ATOM)
    else:
        raise LayoutError("the batch would come to lie inside another dimension")


def regroup(
    view: View, shape: Sequence[int], frames: int = 1, movable: bool = False, holder: int | None = None
) -> View:
    """Reshape: the same elements in the same (source) order under another shape.

    Args:
        view: the tensor.
        shape: the new shape, with a batch of ``frames``.
        frames: how many frames the file computes at once; they stay whole and in one place.
        movable: there is one frame, and nothing depends on where its batch of one stands.
        holder: the dimension whose size the file leaves open, which an open batch is part of.

    Raises:
        LayoutError: another number of elements, or an axis (or the batch) would be cut unevenly.
    """
    if tuple(shape) == view.shape_of(frames):
        return view
    if len(shape) > MAX_RANK:
        raise LayoutError("the rank is above 16")
    if math.prod(shape) != view.elements * frames:
        have = list(view.shape_of(frames))
        raise LayoutError(f"shape {have} cannot become {list(shape)}: the number of elements changes")
    if not shape:
        return replace(view, dims=())  # one number, of one frame
    flat = view.atoms if view.dims else [_BATCH_ATOM]
    batch = flat.index(_BATCH_ATOM)
    if frames > 1:
        queue = list(merge([Atom(BATCH, frames) if a.axis == BATCH else a for a in flat]))
        dims = [_take(queue, size) for size in shape]
        dims = [[_BATCH_ATOM if a.axis == BATCH else a for a in dim] for dim in dims]
        return replace(view, dims=tuple(merge(d) for d in dims))
    before = math.prod(a.size for a in flat[:batch])
    queue = list(merge([a for a in flat if a.axis != BATCH]))
    dims = [_take(queue, size) for size in shape]
    _place_batch(dims, shape, before, movable, holder)
    return replace(view, dims=tuple(merge(d) for d in dims))


def arrangement_of(view: View, channels_last: bool = False) -> Arrangement | None:
    """Which HN axis each source dimension is, when each is one whole axis (or of size 1); otherwise None.

    Args:
        view: the tensor.
        channels_last: what to take for dimensions of size 1 where nothing tells.
    """
    if not view.batch_first or view.rank > 5:
        return None
    result: list[int | None] = [None]
    free: list[int] = []
    for index, dim in enumerate(view.dims[1:], start=1):
        if not dim:
            result.append(None)
            free.append(index)
        elif len(dim) == 1 and dim[0].size == view.extent[dim[0].axis]:
            result.append(dim[0].axis)
        else:
            return None
    unused = [axis for axis in (CHANNELS, WIDTH, HEIGHT) if axis not in result]
    wanted = _likely(result, view.rank, channels_last)
    for index in free:
        if index < len(wanted) and wanted[index] in unused:
            result[index] = wanted[index]
            unused.remove(result[index])  # pyright: ignore[reportArgumentType]
    for index in free:
        if result[index] is None and unused:
            result[index] = unused.pop(0)
    return tuple(result)


def _likely(known: Sequence[int | None], rank: int, channels_last: bool) -> Arrangement:
    """Channels first or last, whichever agrees with the dimensions whose axis is known."""
    if rank not in _CANONICAL:
        return ()
    choices = [canonical(rank, channels_last), canonical(rank, not channels_last)]
    fits = (c for c in choices if all(k in (None, w) for k, w in zip(known, c, strict=False)))
    return next(fits, choices[0])


def canonical(rank: int, channels_last: bool = False) -> Arrangement:
    """The arrangement used where nothing else decides: N,C / N,L,C / N,C,H,W or N,H,W,C."""
    if rank not in _CANONICAL:
        raise LayoutError(f"a tensor of rank {rank} has no height, width and channels")
    return CHANNELS_LAST if rank == 4 and channels_last else _CANONICAL[rank]


@dataclass(frozen=True)
class Step:
    """View an HN tensor as ``shape`` (height, width, channels); axis i of the result is axis ``permutation[i]``."""

    shape: tuple[int, int, int]
    permutation: tuple[int, int, int]


@dataclass(frozen=True)
class Move:
    """How to bring an HN tensor into another order: steps (none when it lies so already), then a view as ``result``."""

    steps: tuple[Step, ...]
    result: tuple[int, int, int]


def plan(view: View, axes: Sequence[Sequence[int]]) -> Move:
    """Plan an HN tensor whose height, width and channels are the given lists of source dimensions.

    Raises:
        LayoutError: the batch is not dimension 0 alone, or more than six groups of elements change places.
    """
    if not view.batch_first:
        raise LayoutError(
            f"the batch is not dimension 0 of this tensor of shape {list(view.shape)}: it has parts of one frame as if "
            "they were frames"
        )
    used = [index for group in axes for index in group]
    left = [i for i in range(1, view.rank) if i not in used and view.shape[i] > 1]
    if left:
        raise LayoutError(
            f"dimension {left[0]} (size {view.shape[left[0]]}) has no place in height, width and channels"
        )
    parts = [merge([a for i in group for a in view.dims[i]]) for group in axes]
    height, width, channels = (math.prod(a.size for a in part) for part in parts)
    result = (height, width, channels)
    wanted = merge([a for part in parts for a in part])
    stored = sorted(wanted, key=stored_order)
    if list(wanted) == stored:
        return Move((), result)
    direct = _whole_axes(view.extent, parts)
    if direct is not None:
        return Move((Step(view.extent, direct),), result)
    position = {atom: i for i, atom in enumerate(stored)}
    groups: list[list[Atom]] = []  # in the wanted order; each is one run of the stored order
    for atom in wanted:
        if groups and position[groups[-1][-1]] + 1 == position[atom]:
            groups[-1].append(atom)
        else:
            groups.append([atom])
    if len(groups) > 6:
        raise LayoutError(f"{len(groups)} groups of elements would have to change places; at most 6 can")
    order = sorted(range(len(groups)), key=lambda i: position[groups[i][0]])
    return Move(tuple(_steps([math.prod(a.size for a in g) for g in groups], order)), result)


def _steps(sizes: Sequence[int], order: list[int]) -> list[Step]:
    """Steps that sort ``order`` (which group stands where); each exchanges two neighbouring runs of groups."""
    if len(sizes) == 3:
        places = (order.index(0), order.index(1), order.index(2))
        return [Step((sizes[order[0]], sizes[order[1]], sizes[order[2]]), places)]
    steps: list[Step] = []

    def exchange(start: int, middle: int) -> None:
        """Exchange the runs [start, middle) and [middle, end)."""
        runs = (order[:start], order[start:middle], order[middle:])
        before, first, second = (math.prod(sizes[i] for i in run) for run in runs)
        steps.append(Step((before, first, second), (0, 2, 1)))
        order[start:] = order[middle:] + order[start:middle]

    for place in range(len(order)):
        at = order.index(place)
        if at > place:
            rest = len(order) - at - 1
            exchange(place, at)
            if rest and order != sorted(order):
                exchange(place + 1, place + 1 + rest)
    return steps


def _whole_axes(extent: tuple[int, int, int], parts: Sequence[tuple[Atom, ...]]) -> tuple[int, int, int] | None:
    """The axis permutation that gives ``parts`` when each is at most one whole axis."""
    chosen: list[int | None] = []
    for part in parts:
        if len(part) > 1 or (part and part[0].size != extent[part[0].axis]):
            return None
        chosen.append(part[0].axis if part else None)
    spare = [axis for axis in range(3) if axis not in chosen]
    for index in range(3):  # an empty place keeps its own axis when that is spare
        if chosen[index] is None and index in spare:
            chosen[index] = index
            spare.remove(index)
    done = [axis if axis is not None else spare.pop(0) for axis in chosen]
    return done[0], done[1], done[2]


def arrangement_axes(arrangement: Arrangement) -> tuple[list[int], list[int], list[int]]:
    """Source dimensions per HN axis, the inverse of an arrangement."""
    axes: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index, axis in enumerate(arrangement):
        if axis is not None:
            axes[axis].append(index)
    return axes


def source_permutation(view: View, hn_rank: int) -> tuple[int, ...] | None:
    """Permutation of the HN tensor's axes (batch included) after which a reshape gives the source tensor, if any.

    Args:
        view: the tensor.
        hn_rank: rank of the HN tensor with its batch, 4 or 2.
    """
    order: list[int] = []
    for atom in merge(view.atoms):
        if atom.axis != BATCH and atom.size != view.extent[atom.axis]:
            return None
        order.append(0 if atom.axis == BATCH else (atom.axis + 1 if hn_rank == 4 else 1))
    order = order or [0]  # a single number
    for axis in range(1, hn_rank):
        if axis not in order:  # of size 1: stands where it does in the HN tensor, so that often nothing moves
            order.insert(order.index(axis - 1) + 1, axis)
    return tuple(order)


def source_shape(view: View) -> list[int]:
    """The source shape with -1 where the batch is."""
    return [-1 if _BATCH_ATOM in dim else size for dim, size in zip(view.dims, view.shape, strict=True)]


#: Source dimensions of height, width and channels, each list outermost first.
Groups = tuple[list[int], list[int], list[int]]


def group_dimensions(view: View, marks: Sequence[object], alone: Sequence[int] = ()) -> Groups:
    """Source dimensions as height, width and channels, in the order in which they lie: mostly nothing has to move.

    Args:
        view: the tensor.
        marks: per source dimension; dimensions of different marks get different axes.
        alone: dimensions that need an axis even where their size is 1.

    Raises:
        LayoutError: dimensions of different marks alternate more than three axes can tell apart.
    """
    order = [d for d in range(1, view.rank) if view.dims[d]]
    order.sort(key=lambda d: stored_order(view.dims[d][0]))
    runs: list[list[int]] = [[d] for d in alone if not view.dims[d]]
    for d in order:
        if runs and view.dims[runs[-1][-1]] and marks[runs[-1][-1]] == marks[d]:
            runs[-1].append(d)
        else:
            runs.append([d])
    if len(runs) > 3:
        raise LayoutError(f"{len(runs)} groups of dimensions would need an axis each; there are three")
    none: list[list[int]] = [[], []]
    first, second = (runs[:-1] + none)[:2]
    return list(first), list(second), list(runs[-1]) if runs else []


def grouped_view(layer: str, extent: Sequence[int], groups: Groups, sizes: Sequence[int]) -> View:
    """The view of a layer whose axes are the given source dimensions; ``sizes`` is the source shape, batch 1."""
    dims: list[tuple[Atom, ...]] = [(_BATCH_ATOM,), *(() for _ in sizes[1:])]
    for axis, group in enumerate(groups):
        stride = 1
        for dim in reversed(group):
            if sizes[dim] > 1:
                dims[dim] = (Atom(axis, sizes[dim], stride),)
            stride *= sizes[dim]
    height, width, channels = extent
    return View(layer, (height, width, channels), tuple(dims))


def tail_as_channels(view: View, varying: Sequence[int]) -> tuple[tuple[int, int, int], tuple[tuple[Atom, ...], ...]]:
    """Extent and dimensions of the same elements, in the same order, with the given dimensions inside the channels.

    Everything from the outermost of them on becomes channels, what lies outside of it height.
    """
    stored = sorted((a for a in view.atoms if a.axis != BATCH), key=stored_order)
    wanted = {id(a) for d in varying for a in view.dims[d]}
    inner = next((i for i, a in enumerate(stored) if id(a) in wanted), len(stored))
    place: dict[int, Atom] = {}
    sizes = [1, 1]
    for index in reversed(range(len(stored))):
        part = int(index >= inner)
        place[id(stored[index])] = Atom(CHANNELS if part else HEIGHT, stored[index].size, sizes[part])
        sizes[part] *= stored[index].size
    dims = tuple(merge([place.get(id(a), a) for a in dim]) for dim in view.dims)
    return (sizes[0], 1, sizes[1]), dims
