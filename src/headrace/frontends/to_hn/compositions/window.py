# SPDX-License-Identifier: Apache-2.0
"""What convolutions and pools share: sizes per axis, padding, lines as pictures of one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from headrace.frontends.graph import Unsupported, constant, integers, live_uses, text
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.operands import SourceNode
from headrace.layers import Pad
from headrace.numerics.geometry import window_output

_MAX_PAD = 1 << 20
#: Values up to this are no maximum of what a network computes: −∞, and the lowest that frameworks pad with.
_LOWEST = -3.0e38
#: Top, left, bottom, right.
Padding = tuple[int, int, int, int]


def pair(values: Sequence[int], what: str) -> tuple[int, int]:
    """Positive sizes of height and width."""
    if len(values) != 2 or any(not 0 < v < 1 << 31 for v in values):
        raise Unsupported(f"{what} {list(values)}", "two positive integers")
    return values[0], values[1]


def attribute_of(node: SourceNode, name: str, rank: int, default: Sequence[int], filler: int = 1) -> list[int]:
    """A window's attribute per axis of height and width.

    Args:
        node: a node with a window.
        name: of the attribute.
        rank: of its input: 4, or 3 for a line, which is a picture of one row.
        default: what holds where the attribute is absent, per axis of height and width.
        filler: the value of a line's height.
    """
    given = node.optional_integers(name)
    return list(default) if given is None else _widened(given, rank, filler)


def padding_of(
    node: SourceNode, rank: int, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> Padding:  # fmt: skip
    """Padding as top, left, bottom, right, from ``pads`` or ``auto_pad``."""
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = attribute_of(node, "pads", rank, [0, 0, 0, 0], 0)
        if len(pads) != 4 or any(not 0 <= p <= _MAX_PAD for p in pads):
            raise Unsupported(f"pads {pads}", "four sizes that are not negative")
        return pads[0], pads[1], pads[2], pads[3]
    if mode == "VALID":
        return 0, 0, 0, 0
    before, after = same_padding(mode, size, kernel, strides, dilations)
    return before[0], before[1], after[0], after[1]


def padding_of_maxima(node: ir.Node | None) -> Padding | None:
    """What a Pad adds to pictures that nobody but MaxPool reads, with a value that is never a maximum (−∞, or float32's
    lowest): they can have it as their own padding, of which no window sees more. None for any other node.
    """
    if node is None or node.op_type != "Pad" or node.domain or text(node, "mode", "constant") != "constant":
        return None
    amounts, value = (constant(v) for v in node.inputs[1:3]) if len(node.inputs) == 3 else (None, None)
    made, readers = node.outputs[0], live_uses(node.outputs[0])
    if amounts is None or value is None or amounts.shape != (8,) or value.size != 1 or made.is_graph_output():
        return None
    pads = [int(a) for a in amounts]
    if not float(value.reshape(-1)[0]) <= _LOWEST or any(pads[i] for i in (0, 1, 4, 5)) or min(pads) < 0:
        return None
    found = pads[2], pads[3], pads[6], pads[7]
    return found if readers and all(_takes_padding(reader, found) for reader in readers) else None


def _takes_padding(reader: ir.Node, padding: Padding) -> bool:
    """Whether a reader is a MaxPool whose windows are larger than this and its own padding together."""
    if reader.op_type != "MaxPool" or reader.domain or text(reader, "auto_pad", "NOTSET") != "NOTSET":
        return False
    kernel, own = integers(reader, "kernel_shape", None), integers(reader, "pads", None) or [0] * 4
    if (
        kernel is None
        or len(kernel) != 2
        or len(own) != 4
        or any(d != 1 for d in integers(reader, "dilations", None) or ())
    ):
        return False
    return all(own[i] >= 0 and own[i] + padding[i] < kernel[i % 2] for i in range(4))


def same_padding(
    mode: str, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis that ``auto_pad`` means."""
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {mode!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    before: list[int] = []
    after: list[int] = []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def line_as_image(view: View) -> View:
    """N,C,L as N,C,1,L; N,C,H,W as it is."""
    if view.rank == 3:
        return replace(view, dims=(*view.dims[:2], (), view.dims[2]))
    if view.rank != 4:
        raise Unsupported(f"its input has {view.rank - 2} spatial dimensions", "one or two")
    return view


def narrowed(view: View, rank: int) -> View:
    """N,C,1,L as N,C,L where the source has rank 3."""
    if rank == 4:
        return view
    return replace(view, dims=(*view.dims[:2], view.dims[3]))


def _widened(values: Sequence[int], rank: int, filler: int) -> list[int]:
    """Values of a line's axis (or its begin and end) as those of height and width."""
    if rank == 4:
        return list(values)
    count = len(values) // 2 if filler == 0 else len(values)
    out: list[int] = []
    for start in range(0, len(values), max(count, 1)):
        out += [filler, *values[start : start + count]]
    return out


def absorb_excess(builder: Builder, layer: str, padding: Padding, extents: Sequence[int]) -> tuple[str, Padding]:
    """Padding of a kernel's extent or more stands in a pad layer of its own (the same zeros)."""
    excess = [max(p - e + 1, 0) for p, e in zip(padding, [*extents, *extents], strict=True)]
    if not any(excess):
        return layer, padding
    pad = Pad(before=(*excess[:2], 0), after=(*excess[2:], 0))
    layer = builder.emit(pad, [layer], names=()).name
    top, left, bottom, right = (p - e for p, e in zip(padding, excess, strict=True))
    return layer, (top, left, bottom, right)


def output_size(size: int, kernel: int, stride: int, before: int, after: int, ceil: bool) -> tuple[int, int]:
    """Output positions of a pool along one axis, and how far the last window reaches past the padded input."""
    count = window_output(size, kernel, stride, before, after)
    # A last, partial window counts only if it starts on the input or the padding before it.
    if ceil and (size + before + after - kernel) % stride and count * stride < size + before:
        count += 1
    return count, max((count - 1) * stride + kernel - (size + before + after), 0)
