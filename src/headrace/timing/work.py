# SPDX-License-Identifier: Apache-2.0
"""A network as pipeline stages: what each layer reads, writes and computes per output row.

A :class:`Work` is a layer seen by the device's clock. It is made from attributes and shapes alone, so a network of any
state (native, prepared, quantized) has one; what a kind of layer means for it, the layer says
(:meth:`headrace.layers.Operation.row_cost`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import Array, Layer, Network, output_quantization
from headrace.layers import UnknownOperation, operation_type
from headrace.layers.rows import Family, RowKind, RowRule
from headrace.targets import Target

MAX_ROWS = 1 << 16  # rows, and columns, of one tensor; beyond it the row schedule itself would not be worth its memory
MAX_FRAME_BYTES = 1 << 32


@dataclass(frozen=True)
class Plane:
    """One tensor as the device holds it: rows of width × channels elements."""

    tensor: str
    height: int
    width: int
    channels: int
    element_bytes: int = 1

    @property
    def row_elements(self) -> int:
        return self.width * self.channels

    @property
    def row_bytes(self) -> int:
        return self.row_elements * self.element_bytes

    @property
    def frame_bytes(self) -> int:
        return self.row_bytes * self.height


@dataclass(frozen=True)
class Work:
    """One stage's work per frame.

    Attributes:
        name: layer name (or the name of a kernel the compiler adds).
        kind: layer kind, for reports.
        family: cost family.
        operands, rules: inputs in order, and the rows of each that an output row reads.
        output: the result.
        window: (rows, columns) of the kernel; taps are their product.
        stride, dilation: along the width (they decide the halo of column slices).
        groups: channel groups (GROUPED).
        weight_bytes: parameters resident with the stage.
        macs: multiply-accumulates per frame.
        controllers: controllers of one slice (1, or more where one layer stands for several stages).
        joins: it puts tensors side by side.
    """

    name: str
    kind: str
    family: Family
    operands: tuple[Plane, ...]
    rules: tuple[RowRule, ...]
    output: Plane
    window: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    weight_bytes: int = 0
    macs: int = 0
    controllers: int = 1
    joins: bool = False

    @cached_property
    def steps(self) -> Steps:
        """Its steps, made once: searches ask for them thousands of times."""
        return _steps_of(self)


class Steps:
    """What a stage does in one frame, step by step; a step is a row of its output, or of its first operand where it
    accumulates a whole frame into one row.

    Attributes:
        accumulates: see :func:`accumulates`.
        count: steps of one frame.
        last: per operand, the last row that each step needs, -1 where it needs none.
        held: per operand, the most rows that one step reads, first to last; at least 1.
        rows: the step that starts and ends each output row.
        keepers: per operand, the step whose end frees each row: the last that may still read it or an earlier one; no
            row leaves out of turn.
    """

    def __init__(self, work: Work, windows: list[tuple[Array, Array]], rows: Array) -> None:
        self.accumulates = accumulates(work)
        self.count = windows[0][1].size
        self.last = [last for _, last in windows]
        self.held = [max(1, int((last - first).max(initial=0)) + 1) for first, last in windows]
        self.rows = rows
        self.keepers: list[Array] = []
        self._heights = [p.height for p in work.operands]
        self._needed: dict[tuple[int, int], tuple[Array, Array | None]] = {}
        for (first, _), height in zip(windows, self._heights, strict=True):
            least = np.minimum.accumulate(first[::-1])[::-1]
            self.keepers.append(np.maximum(np.searchsorted(least, np.arange(height), side="right") - 1, 0))

    def needed(self, operand: int, frames: int) -> tuple[Array, Array | None]:
        """Row of all frames that each step needs last, int64 ``[frames · steps]``; where it needs none, or ``None``."""
        key = operand, frames
        if key not in self._needed:
            last = self.last[operand]
            rows = np.arange(frames, dtype=np.int64)[:, None] * self._heights[operand] + np.maximum(last, 0)
            none = np.tile(last < 0, frames) if (last < 0).any() else None
            self._needed[key] = rows.reshape(-1), none
        return self._needed[key]


@dataclass(frozen=True)
class Flow:
    """The dataflow graph: works in topological order, tensors that come from and go to the host.

    Attributes:
        cuts: inputs and outputs that come from, or go to, other contexts; they move at another rate.
    """

    works: tuple[Work, ...]
    inputs: tuple[Plane, ...]
    outputs: tuple[Plane, ...]
    cuts: tuple[str, ...] = ()

    @property
    def link_bytes(self) -> int:
        """Bytes per frame over the host link."""
        return sum(p.frame_bytes for p in (*self.inputs, *self.outputs))

    def link_cycles(self, plane: Plane, size: int, target: Target) -> int:
        """Cycles the host link is busy with ``size`` bytes of an input or output."""
        rate = target.cut_bytes_per_second if plane.tensor in self.cuts else target.link_bytes_per_second
        return -(-size * target.clock_hz // rate)


def row_windows(work: Work, operand: int) -> tuple[Array, Array]:
    """(first, last) input rows of every output row, int64 ``[output rows]``, both inclusive.

    An output row that reads nothing of the operand has first > last: (0, -1) before the operand's part, (h, h - 1)
    behind it.
    """
    rule, source = work.rules[operand], work.operands[operand]
    h = source.height
    y = np.arange(work.output.height, dtype=np.int64)
    match rule.kind:
        case RowKind.SAME:
            first = last = np.zeros_like(y) if h == 1 else y
        case RowKind.WHOLE | RowKind.GATHER:
            first, last = np.zeros_like(y), np.full_like(y, h - 1)
        case RowKind.SLICE:
            first = last = rule.offset + y * rule.stride
        case RowKind.WINDOW:
            start = y * rule.stride - rule.offset
            first, last = np.clip(start, 0, h - 1), np.clip(start + (rule.kernel - 1) * rule.dilation, -1, h - 1)
        case RowKind.STACK:
            first, last = np.clip(y - rule.offset, 0, h), np.clip(y - rule.offset, -1, h - 1)
        case RowKind.RESHAPE:
            first = y * work.output.row_elements // source.row_elements
            last = ((y + 1) * work.output.row_elements - 1) // source.row_elements
        case RowKind.TABLE:
            first, last = np.array(rule.table, np.int64).T
    return first, last


def accumulates(work: Work) -> bool:
    """Whether the one output row is summed up while the rows of the first operand arrive (global pools, large windows).

    Such a stage needs no whole frame in its buffer: it takes each input row when it comes.
    """
    height = work.operands[0].height
    gathers = work.rules[0].kind in (RowKind.WINDOW, RowKind.WHOLE, RowKind.RESHAPE)
    return gathers and work.output.height == 1 and height > 1 and row_window(work, 0, 0)[1] == height - 1


def _steps_of(work: Work) -> Steps:
    if not accumulates(work):
        windows = [row_windows(work, i) for i in range(len(work.operands))]
        return Steps(work, windows, np.arange(work.output.height))
    count = work.operands[0].height
    step = np.arange(count, dtype=np.int64)
    # The other operands (a fused residual) are read with the last step.
    others = [(np.zeros_like(step), np.where(step < count - 1, -1, p.height - 1)) for p in work.operands[1:]]
    return Steps(work, [(step, step), *others], np.array([count - 1]))


def row_window(work: Work, operand: int, y: int) -> tuple[int, int]:
    """(first, last) input rows, inclusive, that output row ``y`` reads of one operand; see :func:`row_windows`."""
    first, last = row_windows(work, operand)
    return int(first[y]), int(last[y])


# --- from a network ------------------------------------------------------------------------------------------------


def is_quantized(layer: Layer) -> bool:
    """Whether the layer's output has its quantization (passes leave hints for ``optimize`` in the same place)."""
    return layer.output.quantization is not None


def plane_of(layer: Layer) -> Plane:
    """The plane of a layer's output tensor; one byte per element until quantization says otherwise.

    Raises:
        InputFileError: the shape is beyond what a row schedule is made for.
    """
    height, width, channels = layer.frame_shape
    size = output_quantization(layer).bits // 8 if is_quantized(layer) else 1
    plane = Plane(layer.name, height, width, channels, size)
    if min(height, width, channels) < 1 or max(height, width) > MAX_ROWS or plane.frame_bytes > MAX_FRAME_BYTES:
        raise InputFileError(
            Diagnostic(
                "E-TIMING-SHAPE",
                layer.name,
                "the tensor is too large to schedule",
                f"{height}×{width}×{channels}",
                f"positive sizes, at most {MAX_ROWS} rows and columns and {MAX_FRAME_BYTES} bytes",
            )
        )
    return plane


def work_of_layer(network: Network, layer: Layer) -> Work:
    """The work of one computing layer.

    Raises:
        InputFileError: the kind is not known.
    """
    if isinstance(layer.operation, UnknownOperation):
        operation_type(layer.kind, layer.name)  # raises: there is no such kind
    shapes = network.input_shapes(layer)
    cost = layer.operation.row_cost(shapes, layer.output_shape)
    counts = layer.operation.counts(shapes, layer.output_shape)
    return Work(
        layer.name,
        layer.kind,
        cost.family,
        tuple(plane_of(network[name]) for name in layer.inputs),
        cost.rules,
        plane_of(layer),
        window=cost.window,
        stride=cost.stride,
        dilation=cost.dilation,
        groups=cost.groups,
        weight_bytes=counts.weights,
        macs=counts.macs,
        controllers=cost.controllers,
        joins=cost.joins,
    )


def flow_of(network: Network) -> Flow:
    """The dataflow graph of a network of any state; input and output layers are the host's side of the link."""
    works = tuple(work_of_layer(network, layer) for layer in network if not layer.operation.is_boundary)
    inputs = tuple(plane_of(layer) for layer in network.input_layers)
    outputs = tuple(plane_of(network[layer.inputs[0]]) for layer in network.output_layers)
    return Flow(works, inputs, outputs)
