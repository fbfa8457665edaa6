# SPDX-License-Identifier: Apache-2.0
"""Operations that move, cut, join and reshape."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts_operation
from headrace.frontends.formats.keras.config import Range, Rest
from headrace.frontends.formats.keras.layers.merge import joined
from headrace.frontends.formats.keras.layers.shape import reshaped
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_integer, is_list

_FAR = int(np.iinfo(np.int64).max)


def _dimension(value: object, rank: int) -> int:
    if not is_integer(value) or not -rank <= value < rank:
        raise Unsupported(f"dimension {str(value)[:40]}", f"one of a tensor of rank {rank}")
    return value % rank


def _dimensions(value: object, rank: int) -> list[int]:
    values = value if is_list(value) else [value]
    return [_dimension(v, rank) for v in values]


@converts_operation("Reshape")
def reshape(call: LayerCall) -> Tensor:
    target = call.argument(1, "newshape")
    if not is_list(target) or not target or not all(s is None or (is_integer(s) and s >= -1) for s in target):
        raise Unsupported(f"a shape of {str(target)[:80]}", "sizes, the batch's -1")
    if target[0] not in (-1, None, 1):
        raise Unsupported(f"a shape of {target}, which joins the batch with more", "a batch of -1")
    return reshaped(call, call.x, tuple(None if s in (-1, None) else s for s in target[1:]))


@converts_operation("Transpose")
def transpose(call: LayerCall) -> Tensor:
    x, given = call.x, call.argument(1, "axes")
    order = list(range(x.rank))[::-1] if given is None else _dimensions(given, x.rank)
    if sorted(order) != list(range(x.rank)):
        raise Unsupported(f"an order of {str(given)[:80]}", f"each of {x.rank} dimensions once")
    return Tensor(call.transposed(x.value, order, glue=False), tuple(x.shape[i] for i in order))


@converts_operation("Swapaxes", "Moveaxis")
def moved(call: LayerCall) -> Tensor:
    x = call.x
    names = ("axis1", "axis2") if call.kind == "Swapaxes" else ("source", "destination")
    a, b = (_dimensions(call.argument(i + 1, n), x.rank) for i, n in enumerate(names))
    if call.kind == "Swapaxes":
        order = list(range(x.rank))
        order[a[0]], order[b[0]] = order[b[0]], order[a[0]]
    else:
        order = [n for n in range(x.rank) if n not in a]
        for target, source in sorted(zip(b, a, strict=True)):
            order.insert(target, source)
    return Tensor(call.transposed(x.value, order, glue=False), tuple(x.shape[i] for i in order))


@converts_operation("ExpandDims")
def expand_dims(call: LayerCall) -> Tensor:
    x = call.x
    given = call.argument(1, "axis")
    axes = sorted(_dimensions(given, x.rank + (len(given) if is_list(given) else 1)))
    shape = list(x.shape)
    for axis in axes:
        shape.insert(axis, 1)
    return Tensor(call.emit("Unsqueeze", [x.value, call.list(axes)]), tuple(shape))


@converts_operation("Squeeze")
def squeeze(call: LayerCall) -> Tensor:
    x, given = call.x, call.argument(1, "axis")
    axes = [i for i, s in enumerate(x.shape) if s == 1] if given is None else _dimensions(given, x.rank)
    shape = tuple(s for i, s in enumerate(x.shape) if i not in axes)
    return Tensor(call.emit("Squeeze", [x.value, call.list(axes)]), shape)


@converts_operation("Concatenate")
def concatenate(call: LayerCall) -> Tensor:
    return joined(call, _dimension(call.argument(1, "axis", 0), call.tensors[0].rank if call.tensors else 1))


@converts_operation("Stack")
def stack(call: LayerCall) -> Tensor:
    tensors = call.tensors
    axis = _dimension(call.argument(1, "axis", 0), tensors[0].rank + 1 if tensors else 1)
    rows = [call.emit("Unsqueeze", [t.value, call.list([axis])], glue=True) for t in tensors]
    shape = list(tensors[0].shape)
    shape.insert(axis, len(tensors))
    return Tensor(call.emit("Concat", rows, {"axis": axis}), tuple(shape))


class _Index:
    """What an index does, key by key: what is cut, which dimensions go, which are new."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.axis = 0
        self.cuts: list[tuple[int, int, int, int]] = []  # start, end, axis, step
        self.gone: list[int] = []
        self.new: list[int] = []
        self.made: list[int | None] = []

    def skip(self, count: int) -> None:
        self.made += self.shape[self.axis : self.axis + count]
        self.axis += count

    def add(self, key: object) -> None:
        if key is None:
            self.new.append(len(self.made))
            self.made.append(1)
            return
        if is_integer(key):
            self.cuts.append((key, key + 1 if key != -1 else _FAR, self.axis, 1))
            self.gone.append(self.axis)
        elif isinstance(key, Range):
            self.made.append(self._range(key))
        else:
            raise Unsupported(f"an index that holds {str(key)[:40]}", "numbers and ranges")
        self.axis += 1

    def _range(self, key: Range) -> int | None:
        size, step = self.shape[self.axis], 1 if key.step is None else key.step
        if step == 0:
            raise Unsupported("a range with a step of 0", "another step")
        if key == Range(None, None, None):
            return size
        start = (0 if step > 0 else _FAR) if key.start is None else key.start
        stop = (_FAR if step > 0 else -_FAR) if key.stop is None else key.stop
        self.cuts.append((start, stop, self.axis, step))
        return None if size is None else len(range(*slice(key.start, key.stop, step).indices(size)))


@converts_operation("GetItem")
def get_item(call: LayerCall) -> Tensor:
    """Per dimension a range, an index whose dimension then goes, or a new dimension."""
    x, given = call.x, call.argument(1, "key")
    keys = given if is_list(given) else [given]
    rests = sum(isinstance(k, Rest) for k in keys)
    rest = x.rank - sum(k is not None and not isinstance(k, Rest) for k in keys)
    if rest < 0 or rests > 1:
        raise Unsupported(f"an index of {x.rank - rest} dimensions", f"at most {x.rank}, and one '...'")
    index = _Index(x.shape)
    for key in keys:
        if isinstance(key, Rest):
            index.skip(rest)
        else:
            index.add(key)
    index.skip(x.rank - index.axis)
    value = x.value
    if index.cuts:
        value = call.emit("Slice", [value, *(call.list([cut[i] for cut in index.cuts]) for i in range(4))])
    if index.gone:
        value = call.emit("Squeeze", [value, call.list(index.gone)])
    if index.new:
        value = call.emit("Unsqueeze", [value, call.list(index.new)])
    return Tensor(value, tuple(index.made))


@converts_operation("Split")
def split(call: LayerCall) -> list[Tensor]:
    x, given = call.x, call.argument(1, "indices_or_sections")
    axis = _dimension(call.argument(2, "axis", 0), x.rank)
    size = x.size(axis)
    if is_integer(given) and given > 0 and size % given == 0:
        sizes = [size // given] * given
    elif is_list(given) and all(is_integer(g) for g in given):
        edges = [0, *given, size]
        sizes = [b - a for a, b in pairwise(edges)]
    else:
        raise Unsupported(f"sections {str(given)[:40]}", "a number that divides the size, or places")
    if len(sizes) > 1024 or min(sizes) < 1:
        raise Unsupported(f"parts of {str(sizes)[:40]}", "parts of at least 1")
    values = call.emit_all("Split", [x.value, call.list(sizes)], {"axis": axis}, len(sizes))
    return [
        Tensor(v, tuple(n if i == axis else s for i, s in enumerate(x.shape)))
        for v, n in zip(values, sizes, strict=True)
    ]


@converts_operation("Flip")
def flip(call: LayerCall) -> Tensor:
    x, given = call.x, call.argument(1, "axis")
    axes = list(range(x.rank)) if given is None else _dimensions(given, x.rank)
    edges = ([-1] * len(axes), [-_FAR] * len(axes), axes, [-1] * len(axes))
    return Tensor(call.emit("Slice", [x.value, *(call.list(e) for e in edges)]), x.shape)


@converts_operation("Tile")
def tile(call: LayerCall) -> Tensor:
    x, given = call.x, call.argument(1, "repeats")
    if not is_list(given) or len(given) != x.rank or not all(is_integer(g) and 0 < g < 1 << 16 for g in given):
        raise Unsupported(f"repeats {str(given)[:40]}", "one number per dimension")
    shape = tuple(None if s is None else s * g for s, g in zip(x.shape, given, strict=True))
    return Tensor(call.emit("Tile", [x.value, call.list(given)]), shape)


@converts_operation("Pad")
def pad(call: LayerCall) -> Tensor:
    x, given = call.x, call.argument(1, "pad_width")
    mode, fill = call.argument(2, "mode", "constant"), call.argument(3, "constant_values")
    if not is_list(given) or len(given) != x.rank or not all(is_list(p) and len(p) == 2 for p in given):
        raise Unsupported(f"pad_width {str(given)[:40]}", "two numbers per dimension")
    if mode not in ("constant", "reflect", "symmetric") or not all(is_integer(n) and n >= 0 for p in given for n in p):
        raise Unsupported(f"pad_width {str(given)[:40]}, mode {str(mode)[:20]}", "numbers that are not negative")
    edges = call.list([p[0] for p in given] + [p[1] for p in given])
    inputs = [x.value, edges]
    if mode == "constant" and fill:
        inputs.append(call.number(float(fill)))
    shape = tuple(None if s is None else s + p[0] + p[1] for s, p in zip(x.shape, given, strict=True))
    return Tensor(call.emit("Pad", inputs, {"mode": mode}), shape)


@converts_operation("Ravel")
def ravel(call: LayerCall) -> Tensor:
    sizes = [s for s in call.x.shape[1:] if s is not None]
    raise Unsupported(f"it joins the batch with {math.prod(sizes)} elements", "a batch of its own")


@converts_operation("Identity", "StopGradient")
def identity(call: LayerCall) -> Tensor:
    return call.x
