# SPDX-License-Identifier: Apache-2.0
"""Help for the compiler's tests: networks with made-up integers, and a simulator of the pipeline, row by row, that
reads nothing but the decoded microcode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.hef.microcode import NONE, AxisMask, KernelRecord, Opcode, Program, TensorRole
from headrace.hn import Layer, Network, store_requantization
from headrace.layers import AveragePool, ResizeBilinear, ScaleRule
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization
from headrace.numerics.tables import reciprocal_table
from random_graphs import GraphBuilder

Array = np.ndarray[Any, Any]


# --- networks --------------------------------------------------------------------------------------------------------


def freeze(network: Network, seed: int = 0) -> Network:
    """Give a network random but valid integers; every tensor has one scale, so that codes may pass anywhere."""
    rng = np.random.default_rng(seed)
    everywhere = TensorQuantization(0.125, int(rng.integers(0, 256)))
    for layer in network:
        passes = layer.operation.scale_rule in (ScaleRule.PASSES, ScaleRule.CONCAT) or layer.kind == "input_layer"
        rq = None if passes else _integers(network, layer, rng, everywhere)
        store_requantization(layer, everywhere, rq)
        layer.params.update(layer.operation.integers_of_attributes(network.input_shapes(layer)))
    network.net_params["stage"] = "quantized"
    return network


def _integers(network: Network, layer: Layer, rng: Any, q: TensorQuantization) -> Requantization:
    channels = layer.output_shape[-1]
    terms, columns, magnitude = len(layer.inputs), channels, 2000
    if ("kernel_shape" in layer.attributes and layer.kind in ("conv", "dw", "dense")) or layer.kind in (
        "batch_norm",
        "normalization",
    ):
        shape = layer.attributes.get("kernel_shape", [1, 1, 1, channels])
        network.params[f"{layer.name}/kernel_q"] = rng.integers(-127, 128, shape).astype(np.int8)
        network.params[f"{layer.name}/bias_q"] = rng.integers(-2000, 2000, channels).astype(np.int32)
        magnitude = 8000
    elif isinstance(layer.operation, AveragePool):
        divisors = layer.operation.divisors(network[layer.inputs[0]].output_shape)
        counts = np.unique(divisors).astype(np.uint32)
        network.params[f"{layer.name}/counts"] = counts
        multipliers = np.round(2.0**20 / counts).astype(np.int32)[None]
        return Requantization(multipliers, np.full(counts.size, 20, np.uint8), q.zero_point, 0, 255)
    elif layer.kind == "ew_mult":
        terms = 1
    if layer.kind == "reciprocal_sum":
        network.params[f"{layer.name}/reciprocal_table"] = reciprocal_table(6)
        return Requantization(np.array([[3000]], np.int32), np.array([10], np.uint8), q.zero_point, 0, 255)
    one = bool(rng.integers(0, 2))
    table = None
    zero, high = q.zero_point, 255
    if rng.integers(0, 3) == 0:
        table = rng.integers(0, 256, 1 << 9).astype(np.uint8)
        zero, high = 256, 511
    numbers = None
    if table is not None and layer.kind in ("conv", "dw", "dense") and rng.integers(0, 2):
        table = rng.integers(0, 256, (3, 1 << 9)).astype(np.uint8)
        numbers = rng.integers(0, 3, channels).astype(np.uint8)
    columns = 1 if one else columns
    multipliers = rng.integers(1 << 17, 1 << 19, (terms, columns)).astype(np.int32) * (128 if magnitude == 2000 else 4)
    # The coefficients of a bilinear element sum to 2^22.
    shift = 26 + 22 * isinstance(layer.operation, ResizeBilinear)
    return Requantization(multipliers, np.full(columns, shift, np.uint8), zero, 0, high, table, numbers)


def softmax_tail(builder: GraphBuilder, x: str) -> str:
    """Softmax as optimize decomposes it (8-bit here)."""
    axes = {"axes": [len(builder.shape(x)) - 2]}
    largest = builder.add("reduce_max", [x], axes)
    e = builder.add("ew_sub", [x, largest], {"activation": "exp"})
    return builder.add("ew_mult", [e, builder.add("reciprocal_sum", [e], axes)], {})


def random_network(seed: int, layers: int = 6) -> Network:
    """A small random network with branches, gates and moves, and random integers."""
    builder = GraphBuilder(seed)
    x = builder.input((builder.integer(2, 12), builder.integer(2, 10), builder.integer(1, 8)))
    steps = (
        "convolution",
        "depthwise",
        "pool",
        "batch_norm",
        "residual",
        "gate",
        "concat",
        "slice",
        "pad",
        "transpose",
        "standalone",
    )
    for _ in range(layers):
        x = getattr(builder, str(builder.rng.choice(steps)))(x)
    if builder.rng.integers(0, 2):
        _, h, w, c = builder.shape(x)
        x = builder.add("reshape", [x], {"shape": [h * w * c]})
        x = softmax_tail(builder, builder.add("dense", [x], {"kernel_shape": [h * w * c, 5]}, {}))
    builder.output(x)
    for key in list(builder.net.params):
        del builder.net.params[key]
    return freeze(builder.net, seed)


def convolution(b: GraphBuilder, x: str, cout: int, k: int, stride: int = 1, add: str | None = None) -> str:
    """A convolution of the same size that ends in a ReLU, with the sum of ``add`` where one is given; no parameters."""
    attributes: dict[str, Any] = {
        "kernel_shape": [k, k, b.shape(x)[3], cout],
        "strides": [stride, stride],
        "padding": [k // 2] * 4,
        "activation": "relu",
        "elementwise_add": add is not None,
    }
    return b.add("conv", [x] if add is None else [x, add], attributes)


def resnet(blocks: int = 3, width: int = 16, size: int = 32, classes: int = 10) -> Network:
    """A CIFAR ResNet (blocks 3: ResNet-20) with fused residuals and random integers."""
    b = GraphBuilder(0, "resnet")
    x = convolution(b, b.add("normalization", [b.input((size, size, 3))], {}), width, 3, 1)
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            skip = x if stride == 1 else convolution(b, x, width << stage, 1, 2)
            x = convolution(b, convolution(b, x, width << stage, 3, stride), width << stage, 3, 1, skip)
    x = b.add("reshape", [b.add("global_avgpool", [x], {})], {"shape": [width * 4]})
    b.output(softmax_tail(b, b.add("dense", [x], {"kernel_shape": [width * 4, classes]})))
    return freeze(b.net)


def random_codes(network: Network, count: int = 2, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {x.name: rng.integers(0, 256, (count, *x.output_shape[1:])).astype(np.uint8) for x in network.input_layers}


# --- the pipeline, one row at a time ---------------------------------------------------------------------------------


@dataclass
class _Edge:
    tensor: int
    consumer: int | None
    capacity: int
    height: int
    operand: int


@dataclass
class _Step:
    """One step of a stage: per edge the rows (of its frame) it needs and has released when done."""

    needs: list[int]
    releases: list[int]
    cycles: int
    writes: bool


class RowSimulator:
    """Self-timed pipeline with finite buffers, read from a program's records; steps of a stage are strictly in order.

    A row claims a place in every buffer of its tensor before its production starts, and gives it back when the last
    step that reads it is complete. The link is free.
    """

    def __init__(self, program: Program) -> None:
        self.p = program
        self.edges = [
            _Edge(
                b.tensor,
                None if b.consumer == NONE else b.consumer,
                b.capacity_rows,
                program.tensors[b.tensor].height,
                b.operand,
            )
            for b in program.buffers
        ]
        self.mine = {i: [e for e, x in enumerate(self.edges) if x.consumer == i] for i in range(len(program.kernels))}
        self.readers = {i: [e for e, x in enumerate(self.edges) if x.tensor == i] for i in range(len(program.tensors))}
        self.steps = {s.kernel: self._plan(s) for s in program.stages}

    def _plan(self, s: Any) -> list[_Step]:
        t, k, edges = self.p.target, self.p.kernels[s.kernel], [self.edges[e] for e in self.mine[s.kernel]]
        rate = t.port_bytes_per_cycle * t.busy_numerator * s.rows
        taken = -(-s.input_bytes_per_frame * t.busy_denominator // rate)
        engine = -(-s.engine_cycles_per_row * t.busy_denominator // t.busy_numerator)
        given = -(-max(s.output_bytes_per_frame, s.join_bytes_per_frame) * t.busy_denominator // rate)
        cost = max(taken, engine, given) + t.row_overhead_cycles
        rows = self.p.tensors[k.output].height
        if _accumulates(self.p, k):
            h, share = edges[0].height, max(taken, engine)
            cuts = [-(-share * i // h) for i in range(h + 1)]
            return [
                _Step(
                    [y + 1 if i == 0 else (e.height if y == h - 1 else 0) for i, e in enumerate(edges)],
                    [y + 1 if i == 0 else (e.height if y == h - 1 else 0) for i, e in enumerate(edges)],
                    cuts[y + 1] - cuts[y] + (cost - share if y == h - 1 else 0),
                    y == h - 1,
                )
                for y in range(h)
            ]
        windows = [[row_window(self.p, k, e.operand, y) for y in range(rows)] for e in edges]
        return [
            _Step(
                [w[y][1] + 1 for w in windows],
                [min((f for f, _ in w[y + 1 :]), default=e.height) for w, e in zip(windows, edges, strict=True)],
                cost,
                True,
            )
            for y in range(rows)
        ]

    def run(self, frames: int) -> list[int]:
        """End cycle of each frame's last output row; AssertionError on deadlock."""
        p = self.p
        ends: dict[int, list[int]] = {i: [] for i in range(len(p.tensors))}
        freed: list[list[int]] = [[] for _ in self.edges]
        state = {k: [0, 0] for k in self.steps}  # next step, when the stage is free
        moving = True
        while moving:
            moving = False
            for i, t in enumerate(p.tensors):
                while t.role == TensorRole.INPUT and len(ends[i]) < frames * t.height:
                    start = self._room(i, len(ends[i]), freed)
                    if start is None:
                        break
                    ends[i].append(max(start, ends[i][-1] if ends[i] else 0))
                    moving = True
            for ki in self.steps:
                while self._step(ki, frames, ends, freed, state):
                    moving = True
            for e, edge in enumerate(self.edges):
                while edge.consumer is None and len(freed[e]) < len(ends[edge.tensor]):
                    freed[e].append(ends[edge.tensor][len(freed[e])])
                    moving = True
        stuck = [p.name_of(k) for i, k in enumerate(p.kernels) if state[i][0] < frames * len(self.steps[i])]
        assert not stuck, f"deadlock: {stuck}"
        outputs = [(i, t.height) for i, t in enumerate(p.tensors) if t.role == TensorRole.OUTPUT]
        return [max(ends[i][(f + 1) * h - 1] for i, h in outputs) for f in range(frames)]

    def _room(self, tensor: int, row: int, freed: list[list[int]]) -> int | None:
        start = 0
        for e in self.readers[tensor]:
            behind = row - self.edges[e].capacity
            if behind >= len(freed[e]):
                return None
            if behind >= 0:
                start = max(start, freed[e][behind])
        return start

    def _step(self, ki: int, frames: int, ends: Any, freed: Any, state: dict[int, list[int]]) -> bool:
        index, free = state[ki]
        frame, inside = divmod(index, len(self.steps[ki]))
        if frame >= frames:
            return False
        step, output = self.steps[ki][inside], self.p.kernels[ki].output
        start = self._room(output, len(ends[output]), freed) if step.writes else 0
        if start is None:
            return False
        for e, need in zip(self.mine[ki], step.needs, strict=True):
            edge = self.edges[e]
            if need > 0:
                if frame * edge.height + need > len(ends[edge.tensor]):
                    return False
                start = max(start, ends[edge.tensor][frame * edge.height + need - 1])
        time = max(start, free) + step.cycles
        state[ki] = [index + 1, time]
        if step.writes:
            ends[output].append(time)
        for e, count in zip(self.mine[ki], step.releases, strict=True):
            while len(freed[e]) < frame * self.edges[e].height + count:
                freed[e].append(time)
        return True


def _accumulates(program: Program, k: KernelRecord) -> bool:
    """A stage that sums a whole frame into one row takes its input row by row."""
    h = program.tensors[program.inputs_of(k)[0]].height
    sums = (
        Opcode.CONVOLUTION, Opcode.DEPTHWISE, Opcode.POOL_MAX, Opcode.POOL_SUM, Opcode.REDUCE_MAX,
        Opcode.REDUCE_SUM_RECIPROCAL, Opcode.RESHAPE,
    )  # fmt: skip
    return k.opcode in sums and program.tensors[k.output].height == 1 < h and row_window(program, k, 0, 0)[1] == h - 1


def row_window(program: Program, k: KernelRecord, operand: int, y: int) -> tuple[int, int]:
    """First and last input row that output row ``y`` reads, from the record's geometry."""
    tensor = program.inputs_of(k)[operand]
    h = program.tensors[tensor].height
    out = program.tensors[k.output]
    match Opcode(k.opcode):
        case Opcode.CONVOLUTION | Opcode.DEPTHWISE | Opcode.POOL_MAX | Opcode.POOL_SUM if operand == 0:
            rows = [y * k.stride_height - k.pad_top + i * k.dilation_height for i in range(k.kernel_height)]
            rows = [r for r in rows if 0 <= r < h] or [min(max(rows[0], 0), h - 1)]
            return rows[0], rows[-1]
        case Opcode.SLICE:
            return (k.start_height + y * k.step_height,) * 2
        case Opcode.PAD:
            r = y - k.start_height
            return (0, -1) if r < 0 else (h, h - 1) if r >= h else (r, r)
        case Opcode.CONCATENATE if k.axis == 0:
            before = sum(program.tensors[t].height for t in program.inputs_of(k)[:operand])
            r = y - before
            return (0, -1) if r < 0 else (h, h - 1) if r >= h else (r, r)
        case Opcode.TRANSPOSE if k.permutation & 255:
            return 0, h - 1
        case Opcode.RESHAPE:
            source = program.tensors[tensor]
            a, b = out.width * out.channels, source.width * source.channels
            return y * a // b, ((y + 1) * a - 1) // b
        case Opcode.REDUCE_MAX | Opcode.REDUCE_SUM_RECIPROCAL if k.axis_mask & AxisMask.HEIGHT:
            return 0, h - 1
        case _:
            return (0, 0) if h == 1 else (y, y)
