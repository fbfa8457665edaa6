# SPDX-License-Identifier: Apache-2.0
"""A stable listing of a program, as text for golden files and people, and as data.

The program may come from a hostile file and has only been decoded, not verified: indices may point nowhere, names may
be long or hold control characters, and records may share operands. So nothing here trusts an index, and every name and
operand list is cut to a fixed length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from headrace.hef.kernel import Role
from headrace.hef.microcode import (
    NONE,
    VERSION_MAJOR,
    VERSION_MINOR,
    AxisMask,
    KernelRecord,
    Opcode,
    Program,
    Record,
    StageRecord,
    TensorRecord,
    TensorRole,
)

_MAX_NAME = 256  # bytes of a name that are shown
_MAX_OPERANDS = 64  # operands of a kernel that are shown
_MAX_CONSTANTS = 1 << 16  # multipliers of a kernel that are looked at
# Fields of a kernel that no line of its own shows: neither names, operands, constants nor requantization.
_GEOMETRY = {
    item.name
    for item in fields(KernelRecord)
    if not item.name.startswith(("requantise_", "table_", "operand_", "name_")) and not item.name.endswith("_offset")
} - {"opcode", "context", "output"}
_HIDDEN = ("name_offset", "name_length", "reserved", "operand_offset", "operand_count")
_WINDOWED = (Opcode.CONVOLUTION, Opcode.DEPTHWISE, Opcode.POOL_MAX, Opcode.POOL_SUM)
_REDUCING = (Opcode.REDUCE_MAX, Opcode.REDUCE_SUM_RECIPROCAL)
_AXES = ("height", "width", "channels")


def printable_name(program: Program, offset: int, length: int) -> str:
    """A printable form of a name: control and invalid characters escaped, cut at 256 bytes."""
    text = program.string(offset, min(length, _MAX_NAME))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown + ("…" if length > _MAX_NAME else "")


def _enum(kind: type[Opcode] | type[TensorRole], value: int) -> str:
    try:
        return kind(value).name.lower()
    except ValueError:
        return f"unknown_{value}"


def _plain(record: Record) -> dict[str, Any]:
    """The fields of a record that mean something by themselves; absent offsets as None."""
    data: dict[str, Any] = {}
    for item in fields(record):
        if item.name not in _HIDDEN:
            value = getattr(record, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                value = str(value)  # JSON has no form for these
            data[item.name] = None if item.name.endswith("_offset") and value == NONE else value
    return data


def as_dict(program: Program) -> dict[str, Any]:
    """The whole program except its constants, ready for JSON."""
    tensors = [
        _plain(t) | {"name": printable_name(program, t.name_offset, t.name_length), "role": _enum(TensorRole, t.role)}
        for t in program.tensors
    ]
    kernels = [
        _plain(k)
        | {
            "name": printable_name(program, k.name_offset, k.name_length),
            "opcode": _enum(Opcode, k.opcode),
            "inputs": program.inputs_of(k)[:_MAX_OPERANDS],
            "input_count": k.operand_count,
            "requantise": requantize_summary(program, k),
        }
        for k in program.kernels
    ]
    target = program.target
    return {
        "version": f"{VERSION_MAJOR}.{VERSION_MINOR}",
        "target": {
            "name": printable_name(program, target.name_offset, target.name_length),
            "runs": printable_name(program, target.runs_offset, target.runs_length).split(),
        }
        | _plain(target),
        "tensors": tensors,
        "contexts": [_plain(c) for c in program.contexts],
        "kernels": kernels,
        "stages": [_plain(s) for s in program.stages],
        "buffers": [_plain(b) | {"consumer": None if b.consumer == NONE else b.consumer} for b in program.buffers],
        "constant_bytes": len(program.constants),
    }


def requantize_summary(program: Program, kernel: KernelRecord) -> dict[str, Any] | None:
    """Terms, channels, ranges of multipliers and shifts, zero, clamp and table; None where codes pass unchanged."""
    if kernel.requantise_terms == 0:
        return None
    count = kernel.requantise_channels
    multipliers = _constants(program, kernel.multiplier_offset, "<i4", kernel.requantise_terms * count)
    shifts = _constants(program, kernel.shift_offset, "u1", count)
    return {
        "terms": kernel.requantise_terms,
        "channels": count,
        "multiplier": None if multipliers is None else [int(multipliers.min()), int(multipliers.max())],
        "shift": None if shifts is None else [int(shifts.min()), int(shifts.max())],
        "zero": kernel.requantise_zero,
        "clamp": [kernel.requantise_low, kernel.requantise_high],
        "table_bits": kernel.table_bits,
        "tables": kernel.table_count if kernel.table_bits else 0,
    }


def _constants(program: Program, offset: int, dtype: str, count: int) -> np.ndarray[Any, Any] | None:
    """``count`` numbers at ``offset``, or None when they do not lie inside CONSTANTS."""
    size = np.dtype(dtype).itemsize * count
    if offset == NONE or not 0 < count <= _MAX_CONSTANTS or offset + size > len(program.constants):
        return None
    return np.frombuffer(program.constants, dtype, count, offset)


def disassemble(program: Program) -> str:
    """A listing that depends on the program only; ends with a newline."""
    lines = [f"program {VERSION_MAJOR}.{VERSION_MINOR}"]
    lines += _target_lines(program)
    lines += ["", f"tensors {len(program.tensors)}"]
    lines += [_tensor_line(program, i, t) for i, t in enumerate(program.tensors)]
    for index, context in enumerate(program.contexts):
        last = context.first_kernel + context.kernel_count - 1
        lines += [
            "",
            f"context {index}  kernels k{context.first_kernel}..k{last}  weights {context.weight_bytes} B"
            f"  cut in {context.cut_input_bytes} B  out {context.cut_output_bytes} B",
        ]
    lines += ["", f"kernels {len(program.kernels)}"]
    for index, kernel in enumerate(program.kernels):
        lines += _kernel_lines(program, index, kernel)
    lines += ["", f"stages {len(program.stages)}"]
    lines += [_stage_line(i, s) for i, s in enumerate(program.stages)]
    lines += ["", f"buffers {len(program.buffers)}"]
    for index, buffer in enumerate(program.buffers):
        consumer = "host" if buffer.consumer == NONE else f"k{buffer.consumer}[{buffer.operand}]"
        lines.append(f"  b{index}  t{buffer.tensor} -> {consumer}  rows {buffer.capacity_rows}")
    lines += ["", f"constants {len(program.constants)} B", f"strings {len(program.strings)} B"]
    return "\n".join(lines) + "\n"


def _target_lines(program: Program) -> Iterator[str]:
    t = program.target
    runs = printable_name(program, t.runs_offset, t.runs_length)
    yield f"target {printable_name(program, t.name_offset, t.name_length)}" + (f"  also runs {runs}" if runs else "")
    yield (
        f"  clusters {t.clusters}  controllers {t.controllers_per_cluster}  subclusters {t.subclusters_per_cluster}"
        f"  memory units {t.memory_units_per_cluster} x {t.memory_unit_bytes} B"
    )
    yield (
        f"  activation units {t.activation_units_per_cluster}  input aligners {t.input_aligners_per_cluster}"
        f"  macs {t.macs_per_subcluster}  clock {t.clock_hz} Hz  port {t.port_bytes_per_cycle} B/cycle"
    )
    yield (
        f"  busy {t.busy_numerator}/{t.busy_denominator}  row overhead {t.row_overhead_cycles}"
        f"  link {t.link_bytes_per_second} B/s  switch {t.context_switch_ns} ns  cut {t.cut_bytes_per_second} B/s"
    )


def _tensor_line(program: Program, index: int, tensor: TensorRecord) -> str:
    kind = {1: "u8", 2: "u16"}.get(tensor.element_bytes, f"{tensor.element_bytes} bytes")
    name = printable_name(program, tensor.name_offset, tensor.name_length)
    own = "  (first of a scale per channel)" if tensor.scales_offset != NONE else ""
    return (
        f"  t{index}  {tensor.height}x{tensor.width}x{tensor.channels} {kind}  {_enum(TensorRole, tensor.role)}"
        f"  zero {tensor.zero_point}  scale {tensor.scale:.9g}{own}  {name}"
    )


def _kernel_lines(program: Program, index: int, kernel: KernelRecord) -> Iterator[str]:
    name = printable_name(program, kernel.name_offset, kernel.name_length)
    yield f"  k{index}  {_enum(Opcode, kernel.opcode)}  {name}  context {kernel.context}"
    inputs = [f"t{i}" for i in program.inputs_of(kernel)[:_MAX_OPERANDS]]
    if kernel.operand_count > len(inputs):
        inputs.append(f"… ({kernel.operand_count} in all)")
    yield f"      {', '.join(inputs)} -> t{kernel.output}"
    geometry = _geometry(kernel)
    if geometry:
        yield f"      {geometry}"
    places = [(role.name.replace("_", " ").lower(), role.read(kernel)) for role in Role]
    offsets = [f"{label} @{value}" for label, value in places if value != NONE]
    if offsets:
        yield f"      {'  '.join(offsets)}"
    summary = requantize_summary(program, kernel)
    if summary is not None:
        low, high = summary["clamp"]
        many = f" x {summary['tables']}" if summary["tables"] > 1 else ""
        table = f"  table {summary['table_bits']} bits{many}" if summary["table_bits"] else ""
        yield (
            f"      requantize {summary['terms']} terms x {summary['channels']}  M {_range(summary['multiplier'])}"
            f"  s {_range(summary['shift'])}  zero {summary['zero']}  clamp {low}..{high}{table}"
        )


def _range(pair: list[int] | None) -> str:
    if pair is None:
        return "(outside the constants)"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}..{pair[1]}"


def _geometry(kernel: KernelRecord) -> str:
    """What the opcode's shape depends on, beside the shapes of its tensors."""
    k = kernel
    if k.opcode in _WINDOWED:
        text = (
            f"window {k.kernel_height}x{k.kernel_width}  stride {k.stride_height}x{k.stride_width}"
            f"  dilation {k.dilation_height}x{k.dilation_width}  pad top {k.pad_top} left {k.pad_left}"
        )
        return f"{text}  groups {k.groups}" if k.opcode == Opcode.CONVOLUTION else text
    if k.opcode in _REDUCING:
        axes = [a for bit, a in zip(AxisMask, _AXES, strict=True) if k.axis_mask & bit]
        return f"over {', '.join(axes) or 'nothing'}"
    if k.opcode == Opcode.CONCATENATE:
        return f"along {_AXES[k.axis] if k.axis < 3 else k.axis}"
    start = f"start {k.start_height},{k.start_width},{k.start_channel}"
    if k.opcode == Opcode.SLICE:
        return f"{start}  step {k.step_height},{k.step_width},{k.step_channel}"
    if k.opcode == Opcode.PAD:
        return f"{start}  outside {k.output_zero}"
    if k.opcode == Opcode.TRANSPOSE:
        return f"axes {','.join(str(k.permutation >> shift & 255) for shift in (0, 8, 16))}"
    others = ((item.name, getattr(k, item.name), item.default) for item in fields(k) if item.name in _GEOMETRY)
    return "  ".join(f"{name.replace('_', ' ')} {value}" for name, value, default in others if value != default)


def _stage_line(index: int, stage: StageRecord) -> str:
    return (
        f"  s{index}  k{stage.kernel}  cluster {stage.cluster}  controllers {stage.controllers}"
        f"  subclusters {stage.subclusters}  memory units {stage.memory_units}"
        f"  slices {stage.column_slices}x{stage.feature_slices}x{stage.subclusters_per_slice}"
        f"  rows {stage.rows}  engine {stage.engine_cycles_per_row}/row  in {stage.input_bytes_per_frame} B"
        f"  out {stage.output_bytes_per_frame} B  join {stage.join_bytes_per_frame} B"
    )
