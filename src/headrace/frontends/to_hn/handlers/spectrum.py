# SPDX-License-Identifier: Apache-2.0
"""DFT of a known length: products by cosines and sines."""

from __future__ import annotations

import numpy as np

from headrace.frontends.fold import axis_in
from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import combine
from headrace.frontends.to_hn.compositions.parts import cut, join
from headrace.frontends.to_hn.compositions.rows import along
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.layers import Add

#: Elements of one transform; its weights are this many squared.
MAX_LENGTH = 2048
#: The operator set from which the axis is an operand.
_AXIS_OPERAND = 20


def _axis(builder: Builder, node: SourceNode, view: View) -> int:
    if node.has(2):
        given = node.integer_list(2, "the axis")
        if len(given) != 1:
            raise Unsupported(f"axes {given}", "one axis")
        return axis_in(given[0], view.rank)
    default = -2 if int(builder.source.facts.get("opset", _AXIS_OPERAND)) >= _AXIS_OPERAND else 1
    return axis_in(node.integer("axis", default), view.rank)


@handles("DFT")
def fourier(builder: Builder, node: SourceNode) -> list[Result]:
    """The last dimension is the real part, or real and imaginary part."""
    view, lengths = node.view(0), node.optional_integer_list(1, "the length")
    inverse, onesided = node.integer("inverse", 0) != 0, node.integer("onesided", 0) != 0
    if view.rank < 2 or view.shape[-1] not in (1, 2) or (inverse and onesided and view.shape[-1] != 2):
        raise Unsupported(f"DFT of {list(view.shape)}, inverse {inverse}, onesided {onesided}", "[…, 1] or […, 2]")
    axis, last = _axis(builder, node, view), view.rank - 1
    if axis == last or builder.mixes_frames(view, [axis, last]):
        raise MixesFrames(f"DFT along dimension {axis}", "a dimension that is neither the batch nor the last")
    size = view.shape[axis]
    length = lengths[0] if lengths else (2 * (size - 1) if inverse and onesided else size)
    if not 1 <= length <= MAX_LENGTH or size > MAX_LENGTH:
        raise Unsupported(f"DFT of {length} elements", f"1 to {MAX_LENGTH}")
    count = length // 2 + 1 if onesided and not inverse else length
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(count)) / length
    used = (np.arange(size) < length)[:, None] / (length if inverse else 1)
    cosine, sine = np.cos(angles) * used, np.sin(angles) * (used if inverse else -used)
    parts: list[View] = []
    for index in range(view.shape[-1]):
        ranges = [(0, s, 1) for s in view.shape]
        ranges[last] = (index, 1, 1)
        parts.append(cut(builder, view, ranges))
    if inverse and onesided:  # the other half is the mirror of this one, and the result is real
        twice = np.where((np.arange(size) == 0) | (2 * np.arange(size) == length), 1.0, 2.0)[:, None]
        first = along(builder, parts[0], axis, cosine * twice)
        return [combine(builder, Add(), first, along(builder, parts[1], axis, -sine * twice))]
    real, imaginary = along(builder, parts[0], axis, cosine), along(builder, parts[0], axis, sine)
    if len(parts) > 1:
        real = combine(builder, Add(), real, along(builder, parts[1], axis, -sine))
        imaginary = combine(builder, Add(), imaginary, along(builder, parts[1], axis, cosine))
    return [join(builder, [real, imaginary], last)]
