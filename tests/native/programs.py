# SPDX-License-Identifier: Apache-2.0
"""Tiny programs for the device, and an interpreter of their records in numpy int64, written from the instruction set's
definition and sharing no code with the device, the emulator or ``headrace.numerics``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headrace.hef.container import write_hef
from headrace.hef.description import HefDescription, StreamDescription
from headrace.hef.microcode import (
    NONE,
    AxisMask,
    BufferRecord,
    ContextRecord,
    KernelRecord,
    Opcode,
    Program,
    StageRecord,
    TargetRecord,
    TensorRecord,
    TensorRole,
    encode,
)

Array = np.ndarray[Any, Any]


def new_program(name: str = "hailo8", runs: Sequence[str] = ()) -> Program:
    target = TargetRecord(
        clusters=8,
        controllers_per_cluster=16,
        subclusters_per_cluster=64,
        memory_units_per_cluster=128,
        memory_unit_bytes=32768,
        activation_units_per_cluster=20,
        input_aligners_per_cluster=32,
        macs_per_subcluster=64,
        clock_hz=400_000_000,
        port_bytes_per_cycle=8,
        busy_numerator=17,
        busy_denominator=20,
        row_overhead_cycles=64,
        link_bytes_per_second=3_500_000_000,
        context_switch_ns=1_200_000,
        cut_bytes_per_second=2_500_000_000,
    )
    program = Program(target=target)
    program.set_target_texts(name, runs)
    return program


class Builder:
    """Adds tensors and kernels; ``build`` closes the context and gives the HEF."""

    def __init__(self, target: str = "hailo8", runs: Sequence[str] = ()) -> None:
        self.program = new_program(target, runs)

    def tensor(
        self,
        name: str,
        shape: tuple[int, int, int],
        zero: int = 0,
        role: TensorRole = TensorRole.INTERNAL,
        size: int = 1,
        scale: float = 0.5,
        channels: tuple[Array, Array] | None = None,
    ) -> int:
        """``channels`` are the scales and zero points of an output's channels."""
        p = self.program
        offset, length = p.add_string(name)
        p.tensors.append(TensorRecord(offset, length, *shape, size, int(role), 0, zero, scale))
        if channels is not None:
            p.tensors[-1].scales_offset = p.add_constant(channels[0].astype(np.float32))
            p.tensors[-1].zeros_offset = p.add_constant(channels[1].astype(np.int32))
        return len(p.tensors) - 1

    def kernel(self, name: str, opcode: Opcode, inputs: list[int], output: int, **fields: Any) -> KernelRecord:
        """``fields`` that are arrays become constants of that name + ``_offset``."""
        p = self.program
        offset, length = p.add_string(name)
        record = KernelRecord(offset, length, int(opcode), 0, len(p.operands), len(inputs), output)
        p.operands += inputs
        for key, value in fields.items():
            if isinstance(value, np.ndarray):
                setattr(record, f"{key}_offset", p.add_constant(value))
            else:
                setattr(record, key, value)
        p.kernels.append(record)
        return record

    def build(self) -> bytes:
        p = self.program
        if not p.contexts:
            p.contexts = [ContextRecord(0, len(p.kernels))]
        return hef_of(p)


def hef_of(program: Program, resources: Mapping[str, bytes] | None = None) -> bytes:
    streams = []
    for record in program.tensors:
        if record.role not in (int(TensorRole.INPUT), int(TensorRole.OUTPUT)):
            continue
        streams.append(
            StreamDescription(
                name=program.name_of(record),
                direction="input" if record.role == int(TensorRole.INPUT) else "output",
                height=record.height,
                width=record.width,
                features=record.channels,
                data_bytes=record.element_bytes,
                scale=record.scale,
                zero_point=record.zero_point,
                channel_scales=tuple(_own(program, record.scales_offset, "f4", record)),
                channel_zero_points=tuple(_own(program, record.zeros_offset, "i4", record)),
            )
        )
    return write_hef(HefDescription("net", tuple(streams)), encode(program), resources)


def _own(program: Program, offset: int, dtype: str, record: TensorRecord) -> list[Any]:
    return [] if offset == NONE else constant(program, offset, dtype, record.channels).tolist()


# --- the interpreter ------------------------------------------------------------------------------------------------


def constant(p: Program, offset: int, dtype: str, count: int) -> Array:
    return np.frombuffer(bytes(p.constants), np.dtype(dtype).newbyteorder("<"), count, offset)


def clamp(p: Program, k: KernelRecord, value: Array, out: TensorRecord) -> Array:
    value = np.clip(value, k.requantise_low, k.requantise_high)
    if k.table_bits and k.opcode != Opcode.REDUCE_SUM_RECIPROCAL:
        entries = constant(p, k.table_offset, f"u{out.element_bytes}", k.table_count << k.table_bits)
        if k.channel_table_offset != NONE:
            value = value + (constant(p, k.channel_table_offset, "u1", out.channels).astype(np.int64) << k.table_bits)
        value = entries[value]
    return value.astype(f"u{out.element_bytes}")


def requantize(p: Program, k: KernelRecord, terms: list[Array], out: TensorRecord) -> Array:
    """Python integers where int64 might overflow; they cannot."""
    n = k.requantise_channels
    m = constant(p, k.multiplier_offset, "i4", len(terms) * n).reshape(len(terms), n).astype(np.int64)
    s = constant(p, k.shift_offset, "u1", n).astype(np.int64)
    total = sum(t.astype(object) * m[i].astype(object) for i, t in enumerate(terms))
    value = (total + (1 << (s.astype(object) - 1))) >> s.astype(object)
    value = np.clip(value + k.requantise_zero, -(1 << 40), 1 << 40).astype(np.int64)
    return clamp(p, k, value, out)


def windows(x: Array, k: KernelRecord, out: TensorRecord, fill: int) -> Array:
    """[OH, OW, KH, KW, C] of x padded with ``fill``."""
    span_h = (out.height - 1) * k.stride_height + (k.kernel_height - 1) * k.dilation_height + 1
    span_w = (out.width - 1) * k.stride_width + (k.kernel_width - 1) * k.dilation_width + 1
    padded = np.full((max(span_h, k.pad_top + x.shape[0]), max(span_w, k.pad_left + x.shape[1]), x.shape[2]), fill)
    padded[k.pad_top : k.pad_top + x.shape[0], k.pad_left : k.pad_left + x.shape[1]] = x
    rows = np.arange(out.height)[:, None] * k.stride_height + np.arange(k.kernel_height)[None] * k.dilation_height
    cols = np.arange(out.width)[:, None] * k.stride_width + np.arange(k.kernel_width)[None] * k.dilation_width
    return padded[rows[:, None, :, None], cols[None, :, None, :]]


def terms_of(k: KernelRecord, sums: Array, wide: list[Array]) -> list[Array]:
    """A residual is the second term; without one it is the negative part of the first."""
    by_sign = len(wide) == 1 and k.requantise_terms == 2
    return [sums, *wide[1:], *([sums * (sums < 0)] if by_sign else [])]


def weight_zeros(p: Program, k: KernelRecord, out: TensorRecord) -> Array:
    if k.weight_zero_offset == NONE:
        return np.zeros(out.channels, np.int64)
    return constant(p, k.weight_zero_offset, "i1", out.channels).astype(np.int64)


def step(p: Program, k: KernelRecord, xs: list[Array], ins: list[TensorRecord], out: TensorRecord) -> Array:
    op = Opcode(k.opcode)
    wide = [x.astype(np.int64) - t.zero_point for x, t in zip(xs, ins, strict=True)]
    shape = (out.height, out.width, out.channels)
    if op == Opcode.CONVOLUTION:
        cin = ins[0].channels // k.groups
        count = out.channels * k.kernel_height * k.kernel_width * cin
        w = constant(p, k.weight_offset, "i1", count).astype(np.int64)
        w = w.reshape(out.channels, -1) - weight_zeros(p, k, out)[:, None]
        w = w.reshape(k.groups, out.channels // k.groups, k.kernel_height, k.kernel_width, cin)
        v = windows(wide[0], k, out, 0).reshape(*shape[:2], k.kernel_height, k.kernel_width, k.groups, cin)
        acc = np.einsum("hwijgc,goijc->hwgo", v, w).reshape(shape)
        acc = acc + constant(p, k.bias_offset, "i4", out.channels).astype(np.int64)
        return requantize(p, k, terms_of(k, acc, wide), out)
    if op == Opcode.DEPTHWISE:
        w = constant(p, k.weight_offset, "i1", out.channels * k.kernel_height * k.kernel_width).astype(np.int64)
        w = w.reshape(k.kernel_height, k.kernel_width, out.channels) - weight_zeros(p, k, out)
        acc = np.einsum("hwijc,ijc->hwc", windows(wide[0], k, out, 0), w)
        acc = acc + constant(p, k.bias_offset, "i4", out.channels).astype(np.int64)
        return requantize(p, k, terms_of(k, acc, wide), out)
    if op == Opcode.ELEMENTWISE_ADD:
        return requantize(p, k, [np.broadcast_to(x, shape) for x in wide], out)
    if op == Opcode.ELEMENTWISE_MULTIPLY:
        return requantize(p, k, [np.broadcast_to(wide[0] * wide[1], shape)], out)
    if op == Opcode.RESCALE:
        return requantize(p, k, terms_of(k, wide[0], wide), out)
    if op == Opcode.POOL_MAX:
        return windows(xs[0].astype(np.int64), k, out, -1).max(axis=(2, 3)).astype(xs[0].dtype)
    if op == Opcode.POOL_SUM:
        sums = windows(wide[0], k, out, 0).sum(axis=(2, 3))
        ones = windows(np.ones_like(wide[0][:, :, :1]), k, out, 0).sum(axis=(2, 3))[..., 0]
        listed = constant(p, k.count_offset, "u4", k.requantise_channels)
        index = np.searchsorted(listed, ones)
        m = constant(p, k.multiplier_offset, "i4", len(listed)).astype(np.int64)[index][..., None]
        s = constant(p, k.shift_offset, "u1", len(listed)).astype(np.int64)[index][..., None]
        value = (sums.astype(object) * m + (1 << (s.astype(object) - 1))) >> s.astype(object)
        return clamp(p, k, (value + k.requantise_zero).astype(np.int64), out)
    axes = tuple(i for i in range(3) if k.axis_mask & (1 << i))
    if op == Opcode.REDUCE_MAX:
        return xs[0].max(axis=axes, keepdims=True)
    if op == Opcode.REDUCE_SUM_RECIPROCAL:
        sums = wide[0].sum(axis=axes, keepdims=True)
        table = constant(p, k.table_offset, "u2", 1 << k.table_bits)
        m = constant(p, k.multiplier_offset, "i4", k.requantise_channels)
        s = constant(p, k.shift_offset, "u1", k.requantise_channels)
        result = np.zeros(shape, np.int64)
        for at in np.ndindex(*shape):
            v = max(1, int(sums[at]))
            n = v.bit_length() - 1
            c = at[2] if k.requantise_channels > 1 else 0
            entry = int(table[((v - (1 << n)) << k.table_bits) >> n])
            shift = int(s[c]) + n
            result[at] = k.requantise_zero + ((entry * int(m[c]) + (1 << (shift - 1))) >> shift)
        return clamp(p, k, result, out)
    if op == Opcode.CONCATENATE:
        return np.concatenate(xs, axis=k.axis)
    if op == Opcode.SLICE:
        start = (k.start_height, k.start_width, k.start_channel)
        stride = (k.step_height, k.step_width, k.step_channel)
        return xs[0][tuple(slice(a, a + (n - 1) * d + 1, d) for a, d, n in zip(start, stride, shape, strict=True))]
    if op == Opcode.PAD:
        result = np.full(shape, k.output_zero, xs[0].dtype)
        start = (k.start_height, k.start_width, k.start_channel)
        result[tuple(slice(a, a + n) for a, n in zip(start, xs[0].shape, strict=True))] = xs[0]
        return result
    if op == Opcode.TRANSPOSE:
        return xs[0].transpose([(k.permutation >> (8 * i)) & 255 for i in range(3)])
    if op in (Opcode.DEPTH_TO_SPACE, Opcode.SPACE_TO_DEPTH):
        return blocks(xs[0], k, shape, op == Opcode.DEPTH_TO_SPACE)
    if op == Opcode.RESIZE_NEAREST:
        rows, columns = (constant(p, o, "u4", n) for o, n in zip(tables(k), shape, strict=False))
        return xs[0][rows][:, columns]
    if op == Opcode.RESIZE_BILINEAR:
        rows, columns = (constant(p, o, "u4", 3 * n).reshape(n, 3) for o, n in zip(tables(k), shape, strict=False))
        acc = np.zeros(shape, np.int64)
        for y, (top, bottom, v) in enumerate(rows.tolist()):
            for x, (left, right, h) in enumerate(columns.tolist()):
                for i, cv in ((top, 2048 - v), (bottom, v)):
                    for j, ch in ((left, 2048 - h), (right, h)):
                        acc[y, x] += wide[0][i, j] * cv * ch
        return requantize(p, k, [acc], out)
    assert op == Opcode.RESHAPE
    return xs[0].reshape(shape)


def tables(k: KernelRecord) -> tuple[int, int]:
    return k.row_table_offset, k.column_table_offset


def blocks(x: Array, k: KernelRecord, shape: tuple[int, int, int], to_space: bool) -> Array:
    """Element by element, from the definition: deep channel = (row, column, c) or (c, row, column) of a block."""
    b, result = k.block, np.zeros(shape, x.dtype)
    shallow = shape if to_space else x.shape
    for y, w, c in np.ndindex(*shallow):
        place = (y % b) * b + w % b
        deep = (y // b, w // b, place * shallow[2] + c if k.axis == 0 else c * b * b + place)
        if to_space:
            result[y, w, c] = x[deep]
        else:
            result[deep] = x[y, w, c]
    return result


def interpret(p: Program, inputs: dict[str, Array]) -> dict[str, Array]:
    """Every kernel's output for one frame; ``inputs`` are (H, W, C) codes by tensor name."""
    values: dict[int, Array] = {}
    for i, tensor in enumerate(p.tensors):
        if tensor.role == int(TensorRole.INPUT):
            values[i] = inputs[p.name_of(tensor)]
    result: dict[str, Array] = {}
    for k in p.kernels:
        operands = p.inputs_of(k)
        value = step(p, k, [values[i] for i in operands], [p.tensors[i] for i in operands], p.tensors[k.output])
        values[k.output] = value
        result[p.name_of(k)] = value
    return result


# --- random parameters ----------------------------------------------------------------------------------------------


def requantization(
    rng: np.random.Generator,
    reach: float,
    channels: int,
    terms: int = 1,
    out_size: int = 1,
    table_bits: int = 0,
    spread: float = 0.5,
    tables: int = 1,
) -> dict[str, Any]:
    """Fields whose results use much of the output range; both signs of M, each channel its own shift."""
    top = (1 << (8 * out_size)) - 1 if not table_bits else (1 << table_bits) - 1
    # Shifts of 32 and more take another way through the vector kernels, and so do a few less where sums are small.
    least = int(rng.choice([8, 27, 32]))
    shift = rng.integers(least, 41, channels)
    scale = top * spread / max(1.0, reach)
    m = np.rint(
        np.exp2(shift) * scale * rng.uniform(0.3, 1, (terms, channels)) * rng.choice([-1, 1], (terms, channels))
    )
    limit = min(2**31 - 1, int(2**61 / max(1.0, reach * terms)))
    fields: dict[str, Any] = {
        "requantise_terms": terms,
        "requantise_channels": channels,
        "multiplier": np.clip(m, -limit, limit).astype(np.int32),
        "shift": shift.astype(np.uint8),
        "requantise_zero": int(rng.integers(0, top + 1)),
        "requantise_low": int(rng.integers(0, top // 8 + 1)),
        "requantise_high": int(rng.integers(top - top // 8, top + 1)),
    }
    if table_bits:
        entries = rng.integers(0, 1 << (8 * out_size), tables << table_bits)
        fields |= {"table_bits": table_bits, "table": entries.astype(f"u{out_size}"), "table_count": tables}
    return fields


def output_size(size: int, before: int, after: int, taps: int, stride: int, dilation: int) -> int:
    return (size + before + after - ((taps - 1) * dilation + 1)) // stride + 1


def add_pipeline(p: Program, capacity: int = 8, engine: int = 200) -> None:
    """A stage for every kernel and a buffer on every edge."""
    for i, k in enumerate(p.kernels):
        out = p.tensors[k.output]
        size = out.height * out.width * out.channels
        entering = sum(math.prod((t.height, t.width, t.channels)) for t in (p.tensors[j] for j in p.inputs_of(k)))
        p.stages.append(StageRecord(i, 0, 1, 1, 1, rows=out.height, engine_cycles_per_row=engine,
                                    input_bytes_per_frame=entering, output_bytes_per_frame=size))  # fmt: skip
        p.buffers += [BufferRecord(t, i, j, capacity) for j, t in enumerate(p.inputs_of(k))]
    for i, t in enumerate(p.tensors):
        if t.role == int(TensorRole.OUTPUT):
            p.buffers.append(BufferRecord(i, NONE, 0, capacity))


def in_shared_contexts(p: Program, count: int = 3, run: int = 3, weights: int = 4096) -> Program:
    """The same pipeline in ``count`` contexts, whose stages share controllers in runs of ``run``."""
    edges = [len(p.kernels) * i // count for i in range(count + 1)]
    p.contexts = [ContextRecord(a, b - a, weights, batch=2) for a, b in pairwise(edges)]
    for number, (a, b) in enumerate(pairwise(edges)):
        for i in range(a, b):
            p.kernels[i].context = number
            p.stages[i].shares = (i - a) % run
            p.stages[i].controllers = 0 if p.stages[i].shares else 1
    home = {k.output: k.context for k in p.kernels}
    crossing = {t for k in p.kernels for t in p.inputs_of(k) if home.get(t, k.context) != k.context}
    hosted = {b.tensor for b in p.buffers if b.consumer == NONE}
    p.buffers += [BufferRecord(t, NONE, 0, 16) for t in sorted(crossing - hosted)]
    return p


__all__ = [
    "AxisMask",
    "Builder",
    "add_pipeline",
    "hef_of",
    "in_shared_contexts",
    "interpret",
    "output_size",
    "requantization",
]
