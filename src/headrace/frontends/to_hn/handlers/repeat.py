# SPDX-License-Identifier: Apache-2.0
"""Expand and Tile: nothing where the operation behind broadcasts anyway, else copies."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.frontends.graph import MixesFrames, Unsupported, live_uses
from headrace.frontends.layout import View, with_rank
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.parts import MAX_PIECES, pick
from headrace.frontends.to_hn.compositions.repeat import repeated
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles

_BROADCASTING = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def _needless(builder: Builder, node: SourceNode, view: View, sizes: Sequence[int]) -> bool:
    """Whether every user is an element-wise operation whose other operand has the sizes already."""
    value = node.outputs[0]
    users = live_uses(value)
    if not users or value.is_graph_output():
        return False
    for user in users:
        others = [v for v in user.inputs if v is not value]
        if user.domain or user.op_type not in _BROADCASTING or len(others) != 1:
            return False
        other = others[0]
        if other is None or other not in builder.views or builder.views[other].shape != tuple(sizes):
            return False
    return len(sizes) == view.rank


@handles("Expand")
def expand(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    wanted = node.integer_list(1, "the shape")
    view = with_rank(view, max(view.rank, len(wanted)))
    ahead = view.rank - len(wanted)
    pairs = zip(view.shape[ahead:], wanted, strict=True)
    sizes = [*view.shape[:ahead], *(want if have == 1 else have for have, want in pairs)]
    if any(want not in (1, have) for have, want in zip(sizes[ahead:], wanted, strict=True)):
        raise Unsupported(f"Expand from {list(view.shape)} to {wanted}", "sizes that broadcast")
    batch = view.batch_dim
    if sizes[batch] != view.shape[batch] and builder.batch != 1 and builder.batch in (-1, sizes[batch]):
        sizes[batch] = view.shape[batch]  # the frames, whatever their number
    if tuple(sizes) == view.shape or _needless(builder, node, view, sizes):
        return [view]
    return [repeated(builder, view, sizes)]


@handles("Tile")
def tile(builder: Builder, node: SourceNode) -> list[Result]:
    view = node.view(0)
    repeats = node.integer_list(1, "repeats")
    if len(repeats) != view.rank or any(r < 1 for r in repeats):
        raise Unsupported(f"repeats {repeats} of a tensor of rank {view.rank}", "one positive number per dimension")
    if builder.mixes_frames(view, [d for d, r in enumerate(repeats) if r > 1]):
        raise MixesFrames("Tile of the batch", "other axes")
    if any(s > 1 and r > MAX_PIECES for s, r in zip(view.shape, repeats, strict=True)):
        raise Unsupported(f"repeats {repeats} of a tensor of shape {list(view.shape)}", f"at most {MAX_PIECES} copies")
    once = [s * r if s == 1 else s for s, r in zip(view.shape, repeats, strict=True)]
    for dim, count in enumerate(repeats):
        if count > 1 and view.shape[dim] > 1:
            view = pick(builder, view, dim, list(range(view.shape[dim])) * count)
            once[dim] = view.shape[dim]
    return [repeated(builder, view, once)]
