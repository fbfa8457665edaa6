# SPDX-License-Identifier: Apache-2.0
"""A network as pipeline stages: what each layer reads, writes and computes per output row.

A :class:`Work` is a layer seen by the device's clock. It is made from attributes and shapes alone, so a network of any
state (native, prepared, quantised) has one; what a kind of layer means for it is registered per kind in
:mod:`headrace.timing.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import Array, Layer, Network, output_quantization
from headrace.targets import Target

MAX_ROWS = 1 << 16  # rows, and columns, of one tensor; beyond it the row schedule itself would not be worth its memory
MAX_FRAME_BYTES = 1 << 32


class Family(Enum):
    """How the engine spends its cycles (reference cost model)."""

    DENSE = "dense"  # every output feature reads every input feature; accumulators drain
    GROUPED = "grouped"  # depthwise and grouped convolution; the drain is hidden
    POOL = "pool"  # window without weights
    MOVE = "move"  # element-wise and data movement: the ports are the work


class RowKind(Enum):
    """Which input rows an output row reads."""

    WINDOW = "window"
    SAME = "same"
    WHOLE = "whole"  # accumulated over the frame, row by row
    GATHER = "gather"  # needs the whole frame at once (transposes)
    SLICE = "slice"
    STACK = "stack"  # the operand occupies rows offset … offset + height - 1 of the output (pad, concat on height)
    RESHAPE = "reshape"
    TABLE = "table"  # (first, last) row of each output row, listed; never decreasing


@dataclass(frozen=True)
class RowRule:
    """Row geometry of one operand; ``offset`` is padding before (WINDOW), the start (SLICE) or the place (STACK)."""

    kind: RowKind = RowKind.SAME
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    offset: int = 0
    table: tuple[tuple[int, int], ...] = ()


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

Builder = Callable[["LayerView"], Work]
_BUILDERS: dict[str, Builder] = {}


@dataclass(frozen=True)
class LayerView:
    """What a builder sees of a layer: its planes and typed attributes."""

    layer: Layer
    attributes: object
    operands: tuple[Plane, ...]
    output: Plane
    weights: int
    macs: int

    def work(self, family: Family, rules: tuple[RowRule, ...] | None = None, **more: object) -> Work:
        """A work of this layer; every operand is read row by row unless ``rules`` says otherwise."""
        base = Work(
            self.layer.name,
            self.layer.kind,
            family,
            self.operands,
            rules or tuple(RowRule() for _ in self.operands),
            self.output,
            weight_bytes=self.weights,
            macs=self.macs,
        )
        return replace(base, **more)  # pyright: ignore[reportArgumentType]


def work_of(*kinds: str) -> Callable[[Builder], Builder]:
    """Register the builder of some layer kinds."""

    def add(builder: Builder) -> Builder:
        for kind in kinds:
            _BUILDERS[kind] = builder
        return builder

    return add


def known_kinds() -> list[str]:
    """Kinds that have a work."""
    return sorted(_BUILDERS)


def is_quantized(layer: Layer) -> bool:
    """Whether the layer's output has its quantisation (passes leave hints for ``optimize`` in the same place)."""
    return layer.output.quantization is not None


def plane_of(layer: Layer) -> Plane:
    """The plane of a layer's output tensor; one byte per element until quantisation says otherwise.

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
        InputFileError: the kind has no work (it is unknown, or no pass has decomposed it).
    """
    builder = _BUILDERS.get(layer.kind)
    if builder is None:
        raise InputFileError(
            Diagnostic(
                "E-TIMING-KIND",
                layer.name,
                f"layers of kind {layer.kind!r} have no cost rule",
                layer.kind,
                ", ".join(known_kinds()),
            )
        )
    counts = layer.operation.counts(network.input_shapes(layer), layer.output_shape)
    operands = tuple(plane_of(network[name]) for name in layer.inputs)
    return builder(LayerView(layer, layer.operation, operands, plane_of(layer), counts.weights, counts.macs))


def flow_of(network: Network) -> Flow:
    """The dataflow graph of a network of any state; input and output layers are the host's side of the link."""
    works = tuple(work_of_layer(network, layer) for layer in network if not layer.operation.is_boundary)
    inputs = tuple(plane_of(layer) for layer in network.input_layers)
    outputs = tuple(plane_of(network[layer.inputs[0]]) for layer in network.output_layers)
    return Flow(works, inputs, outputs)
