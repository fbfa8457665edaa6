# SPDX-License-Identifier: Apache-2.0
"""Tensors continued beyond their borders."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import CHANNELS, View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.compositions.parts import axis_values, cut, pick
from headrace.layers import Pad

#: Positions of an axis that is continued by other things than a constant: each is named.
_MOST_POSITIONS = 1 << 20


def continued(size: int, before: int, after: int, mode: str = "edge") -> list[int]:
    """Which element stands at each position of an axis that is continued beyond its ends; sizes below 0 cut it."""
    if size + max(before, 0) + max(after, 0) > _MOST_POSITIONS:
        raise Unsupported(
            f"padding of an axis of {size} by {before} and {after}", f"at most {_MOST_POSITIONS} positions"
        )
    if min(before, after) < 0:
        whole = continued(size, max(before, 0), max(after, 0), mode)
        return whole[max(-before, 0) : len(whole) + min(after, 0)]
    if mode == "wrap":
        return [i % size for i in range(-before, size + after)]
    if mode != "reflect":
        return [min(max(i, 0), size - 1) for i in range(-before, size + after)]
    if max(before, after) >= size:
        raise Unsupported(f"reflection by {max(before, after)} of an axis of {size}", "less than its size")
    return [size - 1 - abs(size - 1 - abs(i)) for i in range(-before, size + after)]


def padded(builder: Builder, view: View, before: Sequence[int], after: Sequence[int], mode: str, value: float) -> View:
    """The tensor continued by the given sizes before and after each dimension."""
    if mode != "constant":
        for dim in range(1, view.rank):
            view = pick(builder, view, dim, continued(view.shape[dim], before[dim], after[dim], mode))
        return view
    if min(*before, *after) < 0:  # cut first
        ranges = [(max(-b, 0), s + min(b, 0) + min(a, 0), 1) for b, a, s in zip(before, after, view.shape, strict=True)]
        view = cut(builder, view, ranges)
        before, after = [max(b, 0) for b in before], [max(a, 0) for a in after]
        if not any((*before, *after)):
            return view
    if value:  # zero around x - value, then value everywhere
        view = per_channel(builder, view, 1.0, -value)
    padded = [d for d in range(1, view.rank) if before[d] or after[d]]
    layer, groups = builder.apart(view, padded)
    if any(d in group for group in groups[:CHANNELS] for d in padded):
        layer = builder.as_image(layer)
    operation = Pad(
        before=axis_values(builder, layer, groups, {d: before[d] for d in padded}, (0, 0, 0)),
        after=axis_values(builder, layer, groups, {d: after[d] for d in padded}, (0, 0, 0)),
    )
    sizes = [size + before[d] + after[d] for d, size in enumerate(view.shape)]
    result = builder.grouped(builder.emit(operation, [layer]).name, groups, sizes)
    return per_channel(builder, result, 1.0, value) if value else result
