# SPDX-License-Identifier: Apache-2.0
"""The one definition of the device's instruction set.

A program is a byte string of little-endian, unpadded records. :func:`encode` and :func:`decode` are its only
Python reader and writer; ``native/src/microcode_generated.hpp`` is generated from the tables below by
``python -m headrace.hef.microcode_header`` and a test fails when the two differ.

Layout of a program::

    ProgramHeader | SectionEntry × section_count | sections …

Offsets in section entries count from the first byte of the program. Every section starts on a multiple of 64 bytes;
gaps are zero. What the fields *mean* for execution is in ``docs/formats/microcode.md`` and ``docs/numerics.md``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum, IntFlag
from typing import Any, TypeVar

import numpy as np

from headrace.errors import Diagnostic, InputFileError

MAGIC = b"HRMC"
# A device runs exactly its own version; a test demands another one when the layout changes.
VERSION_MAJOR = 2  # records, opcodes or their meaning
VERSION_MINOR = 3
RESOURCE_NAME = "headrace.microcode"
SECTION_ALIGNMENT = 64
TARGET_TEXT_BYTES = 16  # of a TargetRecord, before its numbers: where its texts are stored
MAX_BATCH = 1 << 16  # frames between two switches of context
NONE = 0xFFFFFFFF  # "no such index or offset"


class Opcode(IntEnum):
    """Primitives of the device; each is exact on integers (docs/numerics.md)."""

    CONVOLUTION = 1  # dense or grouped; inputs x[, residual]; weights [cout][kh][kw][cin/groups] int8
    DEPTHWISE = 2  # cout == cin == groups; inputs x[, residual]; weights [kh][kw][c] int8
    ELEMENTWISE_ADD = 3  # inputs x, y; two terms; H, W, C of an operand may be 1 (broadcast)
    ELEMENTWISE_MULTIPLY = 4  # inputs x, y; one term (x - zx)(y - zy); broadcast as above
    RESCALE = 5  # input x; one term x - zx, per tensor or per channel, optional table
    POOL_MAX = 6  # codes pass; positions outside the input are ignored
    POOL_SUM = 7  # Σ(x - zx) over covered positions; (M, s) chosen by the number of covered positions
    REDUCE_MAX = 8  # codes pass; over the axes in axis_mask
    REDUCE_SUM_RECIPROCAL = 9  # normalized look-up of max(1, Σ(x - zx)) over the axes in axis_mask
    CONCATENATE = 10  # codes pass; along `axis`
    SLICE = 11  # codes pass; out[i] = x[start + i * step] per axis
    PAD = 12  # codes pass; `output_zero` outside; start = positions before
    TRANSPOSE = 13  # codes pass; permutation of (H, W, C): output axis i is input axis permutation[i]
    RESHAPE = 14  # codes pass; row-major H, W, C order is kept
    DEPTH_TO_SPACE = 15  # codes pass; blocks of `block`² channels become pixels; axis 0: block first, 1: channel first
    SPACE_TO_DEPTH = 16  # codes pass; the inverse of DEPTH_TO_SPACE
    RESIZE_NEAREST = 17  # codes pass; row and column tables u32[output]: the input element copied, never decreasing
    RESIZE_BILINEAR = (
        18  # one term Σ(x - zx)·c; tables u32[output][3]: first, second element, coefficient of the second
    )


class TensorRole(IntEnum):
    INTERNAL = 0
    INPUT = 1
    OUTPUT = 2


class SectionKind(IntEnum):
    TARGET = 1
    TENSORS = 2
    CONTEXTS = 3
    KERNELS = 4
    OPERANDS = 5  # u32 tensor indices, referred to by kernels
    STAGES = 6
    BUFFERS = 7
    CONSTANTS = 8
    STRINGS = 9


class AxisMask(IntFlag):
    HEIGHT = 1
    WIDTH = 2
    CHANNELS = 4


_FORMATS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "i64": "q", "f32": "f", "bytes32": "32s"}


def _f(kind: str, doc: str, default: Any = 0) -> Any:
    return field(default=default, metadata={"kind": kind, "doc": doc})


R = TypeVar("R", bound="Record")


@dataclass(slots=True)
class Record:
    """Base of all records: the dataclass fields, in order, are the byte layout; there are no others."""

    @classmethod
    def layout(cls) -> list[tuple[str, str, str]]:
        """(field name, kind, documentation) in byte order."""
        return [(f.name, f.metadata["kind"], f.metadata["doc"]) for f in fields(cls)]

    @classmethod
    def struct(cls) -> struct.Struct:
        return struct.Struct("<" + "".join(_FORMATS[kind] for _, kind, _ in cls.layout()))

    def pack(self) -> bytes:
        return self.struct().pack(*(getattr(self, f.name) for f in fields(self)))

    @classmethod
    def unpack(cls: type[R], data: bytes | memoryview) -> R:
        return cls(*cls.struct().unpack(data))


@dataclass(slots=True)
class ProgramHeader(Record):
    magic: int = _f("u32", "bytes 'HRMC'", int.from_bytes(MAGIC, "little"))
    version_major: int = _f("u16", "instruction-set version; a device refuses any other", VERSION_MAJOR)
    version_minor: int = _f("u16", "the same", VERSION_MINOR)
    total_size: int = _f("u64", "bytes of the whole program")
    section_count: int = _f("u32", "number of section entries that follow")
    layout_hash: int = _f(
        "u32", "first bytes of layout_digest(), little-endian: records and opcodes; a device refuses any other"
    )
    target_hash: bytes = _f("bytes32", "see target_digest(): SHA-256 of the target record and its texts", b"\0" * 32)


@dataclass(slots=True)
class SectionEntry(Record):
    kind: int = _f("u32", "SectionKind")
    record_size: int = _f("u32", "bytes of one record; 1 for CONSTANTS and STRINGS, 4 for OPERANDS")
    offset: int = _f("u64", "from the first byte of the program, a multiple of 64")
    size: int = _f("u64", "bytes, without the gap to the next section")


@dataclass(slots=True)
class TargetRecord(Record):
    """The full description of the target the program was compiled for (docs/formats/target.md)."""

    name_offset: int = _f("u32", "in STRINGS")
    name_length: int = _f("u32", "bytes")
    runs_offset: int = _f("u32", "other targets whose programs it also runs, names with spaces between, in STRINGS")
    runs_length: int = _f("u32", "bytes; 0: no other's")
    clusters: int = _f("u32", "clusters")
    controllers_per_cluster: int = _f("u32", "layer controllers (LCU) of one cluster")
    subclusters_per_cluster: int = _f("u32", "sub-clusters (SC) of one cluster")
    memory_units_per_cluster: int = _f("u32", "memory units of one cluster")
    memory_unit_bytes: int = _f("u32", "bytes of one memory unit")
    activation_units_per_cluster: int = _f("u32", "activation units (APU) of one cluster")
    input_aligners_per_cluster: int = _f("u32", "input aligners of one cluster")
    macs_per_subcluster: int = _f("u32", "8-bit multiply-accumulates of one sub-cluster per cycle")
    clock_hz: int = _f("u64", "cycles per second")
    port_bytes_per_cycle: int = _f("u32", "bytes a controller's port moves per cycle, each way")
    busy_numerator: int = _f("u32", "engine and ports do useful work in numerator/denominator of the cycles")
    busy_denominator: int = _f("u32", "see busy_numerator")
    row_overhead_cycles: int = _f("u32", "cycles per output row and stage")
    link_bytes_per_second: int = _f("u64", "host link, both directions together")
    context_switch_ns: int = _f("u64", "fixed time of one context switch")
    cut_bytes_per_second: int = _f("u64", "rate of tensors that cross contexts")


@dataclass(slots=True)
class TensorRecord(Record):
    name_offset: int = _f("u32", "in STRINGS")
    name_length: int = _f("u32", "bytes")
    height: int = _f("u32", "rows")
    width: int = _f("u32", "columns")
    channels: int = _f("u32", "channels, innermost in memory")
    element_bytes: int = _f("u8", "1 or 2 (little-endian unsigned codes)")
    role: int = _f("u8", "TensorRole")
    reserved: int = _f("u16", "0")
    zero_point: int = _f("i32", "code of real zero, 0 … 2^(8·element_bytes) - 1; an output's may lie outside of them")
    scale: float = _f("f32", "real = scale · (code - zero_point)", 1.0)
    scales_offset: int = _f("u32", "outputs: f32[channels], each channel's own scale, in CONSTANTS, or NONE", NONE)
    zeros_offset: int = _f("u32", "outputs: i32[channels], each channel's own zero point, in CONSTANTS, or NONE", NONE)


@dataclass(slots=True)
class ContextRecord(Record):
    first_kernel: int = _f("u32", "index in KERNELS")
    kernel_count: int = _f("u32", "kernels of this context, in execution order")
    weight_bytes: int = _f("u64", "bytes loaded when the context starts")
    cut_input_bytes: int = _f("u64", "bytes per frame read from earlier contexts")
    cut_output_bytes: int = _f("u64", "bytes per frame kept for later contexts")
    batch: int = _f("u32", "frames that run before the next context is loaded; the same in every context", 1)
    reserved: int = _f("u32", "0")


@dataclass(slots=True)
class KernelRecord(Record):
    name_offset: int = _f("u32", "HN layer name, in STRINGS")
    name_length: int = _f("u32", "bytes")
    opcode: int = _f("u16", "Opcode")
    context: int = _f("u16", "index in CONTEXTS")
    operand_offset: int = _f("u32", "first input, index in OPERANDS")
    operand_count: int = _f("u32", "number of inputs")
    output: int = _f("u32", "index in TENSORS; each tensor is written by exactly one kernel or is an input")
    kernel_height: int = _f("u32", "window rows", 1)
    kernel_width: int = _f("u32", "window columns", 1)
    stride_height: int = _f("u32", "rows", 1)
    stride_width: int = _f("u32", "columns", 1)
    dilation_height: int = _f("u32", "rows", 1)
    dilation_width: int = _f("u32", "columns", 1)
    pad_top: int = _f("u32", "rows before the first (those after follow from the output size)")
    pad_left: int = _f("u32", "columns before the first")
    groups: int = _f("u32", "CONVOLUTION: channel groups", 1)
    weight_offset: int = _f("u32", "int8 weights, in CONSTANTS, or NONE", NONE)
    bias_offset: int = _f("u32", "int32[cout], in CONSTANTS, or NONE", NONE)
    multiplier_offset: int = _f("u32", "int32[terms][requantise_channels], in CONSTANTS, or NONE", NONE)
    shift_offset: int = _f("u32", "u8[requantise_channels], in CONSTANTS, or NONE", NONE)
    requantise_terms: int = _f("u8", "0 where codes pass, else 1 or 2")
    table_bits: int = _f("u8", "k: the requantized value is an index of k bits into the table; 0: no table")
    axis_mask: int = _f("u8", "REDUCE_*: AxisMask")
    axis: int = _f("u8", "CONCATENATE: 0 height, 1 width, 2 channels")
    requantise_channels: int = _f("u32", "1, or the channels of the output; POOL_SUM: number of counts")
    requantise_zero: int = _f("i32", "added after the shift (output zero point, or the table's index of zero)")
    requantise_low: int = _f("i32", "lower clamp bound, after requantise_zero")
    requantise_high: int = _f("i32", "upper clamp bound")
    table_offset: int = _f("u32", "u8 or u16 [table_count][2^table_bits] by element_bytes, in CONSTANTS, or NONE", NONE)
    count_offset: int = _f("u32", "POOL_SUM: ascending u32[requantise_channels] of covered counts, or NONE", NONE)
    start_height: int = _f("i32", "SLICE start, PAD rows before")
    start_width: int = _f("i32", "SLICE start, PAD columns before")
    start_channel: int = _f("i32", "SLICE start, PAD channels before")
    step_height: int = _f("i32", "SLICE step (>= 1)", 1)
    step_width: int = _f("i32", "SLICE step (>= 1)", 1)
    step_channel: int = _f("i32", "SLICE step (>= 1)", 1)
    permutation: int = _f("u32", "TRANSPOSE: p0 | p1 << 8 | p2 << 16")
    output_zero: int = _f("i32", "PAD: code outside the input")
    block: int = _f("u32", "DEPTH_TO_SPACE, SPACE_TO_DEPTH: side of a block", 1)
    row_table_offset: int = _f("u32", "RESIZE_*: table of rows, in CONSTANTS, or NONE", NONE)
    column_table_offset: int = _f("u32", "RESIZE_*: table of columns, in CONSTANTS, or NONE", NONE)
    table_count: int = _f("u32", "tables, one after the other; 1, or with channel_table_offset up to 256", 1)
    channel_table_offset: int = _f("u32", "u8[output channels]: each channel's table, in CONSTANTS, or NONE", NONE)
    weight_zero_offset: int = _f(
        "u32", "CONVOLUTION, DEPTHWISE: int8[output channels], zero points of the weights, or NONE: all 0", NONE
    )


@dataclass(slots=True)
class StageRecord(Record):
    """One pipeline stage: the resources and rates of one kernel (docs/formats/microcode.md, 'Time')."""

    kernel: int = _f("u32", "index in KERNELS")
    cluster: int = _f("u32", "cluster that holds the stage's first controller")
    controllers: int = _f("u16", "layer controllers, helpers included")
    subclusters: int = _f("u16", "sub-clusters, helpers included")
    memory_units: int = _f("u16", "memory units for weights and buffers")
    column_slices: int = _f("u8", "dw", 1)
    feature_slices: int = _f("u8", "df", 1)
    subclusters_per_slice: int = _f("u8", "n", 1)
    flags: int = _f("u8", "0")
    shares: int = _f("u16", "0: controllers of its own; n: runs on the controller of the stage n records before")
    rows: int = _f("u32", "output rows per frame")
    engine_cycles_per_row: int = _f("u32", "useful engine cycles per output row (before the busy share)")
    input_bytes_per_frame: int = _f("u64", "bytes through the input port of the busiest slice")
    output_bytes_per_frame: int = _f("u64", "bytes through the output port of the busiest slice")
    join_bytes_per_frame: int = _f("u64", "bytes through the joining controller; 0 when the stage is one slice")


@dataclass(slots=True)
class BufferRecord(Record):
    """A line buffer on one edge of the graph."""

    tensor: int = _f("u32", "index in TENSORS: what is buffered")
    consumer: int = _f("u32", "index in KERNELS, or NONE for the host (network output)", NONE)
    operand: int = _f("u32", "which input of the consumer")
    capacity_rows: int = _f("u32", "rows held; at least 1; may exceed one frame")


RECORDS: tuple[type[Record], ...] = (
    ProgramHeader,
    SectionEntry,
    TargetRecord,
    TensorRecord,
    ContextRecord,
    KernelRecord,
    StageRecord,
    BufferRecord,
)

_TABLES: dict[SectionKind, type[Record]] = {
    SectionKind.TARGET: TargetRecord,
    SectionKind.TENSORS: TensorRecord,
    SectionKind.CONTEXTS: ContextRecord,
    SectionKind.KERNELS: KernelRecord,
    SectionKind.STAGES: StageRecord,
    SectionKind.BUFFERS: BufferRecord,
}


@dataclass
class Program:
    """A decoded program; records refer to names and constants by offset into ``strings`` and ``constants``."""

    target: TargetRecord
    tensors: list[TensorRecord] = field(default_factory=list)
    contexts: list[ContextRecord] = field(default_factory=list)
    kernels: list[KernelRecord] = field(default_factory=list)
    operands: list[int] = field(default_factory=list)
    stages: list[StageRecord] = field(default_factory=list)
    buffers: list[BufferRecord] = field(default_factory=list)
    constants: bytearray = field(default_factory=bytearray)
    strings: bytearray = field(default_factory=bytearray)

    def add_string(self, text: str) -> tuple[int, int]:
        """Intern ``text``; returns (offset, length in bytes)."""
        data = text.encode()
        offset = bytes(self.strings).find(data)
        if offset < 0:
            offset = len(self.strings)
            self.strings += data
        return offset, len(data)

    def add_constant(self, array: np.ndarray[Any, Any]) -> int:
        """Append a C-contiguous little-endian array on a 64-byte boundary; returns its offset."""
        self.constants += b"\0" * (-len(self.constants) % SECTION_ALIGNMENT)
        offset = len(self.constants)
        little = np.ascontiguousarray(array)
        self.constants += little.astype(little.dtype.newbyteorder("<"), copy=False).tobytes()
        return offset

    def string(self, offset: int, length: int) -> str:
        return bytes(self.strings[offset : offset + length]).decode("utf-8", "replace")

    def name_of(self, record: TensorRecord | KernelRecord | TargetRecord) -> str:
        return self.string(record.name_offset, record.name_length)

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the other targets whose programs the target also runs."""
        return tuple(self.string(self.target.runs_offset, self.target.runs_length).split())

    def set_target_texts(self, name: str, runs: Sequence[str] = ()) -> None:
        """Store the target's name and the other targets whose programs it runs."""
        target = self.target
        target.name_offset, target.name_length = self.add_string(name)
        target.runs_offset, target.runs_length = self.add_string(" ".join(runs))

    def inputs_of(self, kernel: KernelRecord) -> list[int]:
        return self.operands[kernel.operand_offset : kernel.operand_offset + kernel.operand_count]


def encode(program: Program) -> bytes:
    """Serialize; the same program always gives the same bytes."""
    target_bytes = program.target.pack()
    # The hash covers the texts too, so that two targets that differ only in name differ.
    digest = target_digest(program)
    bodies: list[tuple[SectionKind, int, bytes]] = [
        (SectionKind.TARGET, TargetRecord.struct().size, target_bytes),
        (SectionKind.TENSORS, TensorRecord.struct().size, b"".join(r.pack() for r in program.tensors)),
        (SectionKind.CONTEXTS, ContextRecord.struct().size, b"".join(r.pack() for r in program.contexts)),
        (SectionKind.KERNELS, KernelRecord.struct().size, b"".join(r.pack() for r in program.kernels)),
        (SectionKind.OPERANDS, 4, struct.pack(f"<{len(program.operands)}I", *program.operands)),
        (SectionKind.STAGES, StageRecord.struct().size, b"".join(r.pack() for r in program.stages)),
        (SectionKind.BUFFERS, BufferRecord.struct().size, b"".join(r.pack() for r in program.buffers)),
        (SectionKind.CONSTANTS, 1, bytes(program.constants)),
        (SectionKind.STRINGS, 1, bytes(program.strings)),
    ]
    offset = ProgramHeader.struct().size + len(bodies) * SectionEntry.struct().size
    entries: list[bytes] = []
    out = bytearray()
    for kind, record_size, body in bodies:
        offset += -offset % SECTION_ALIGNMENT
        entries.append(SectionEntry(int(kind), record_size, offset, len(body)).pack())
        offset += len(body)
    header = ProgramHeader(
        total_size=offset, section_count=len(bodies), layout_hash=layout_number(), target_hash=digest
    )
    out += header.pack() + b"".join(entries)
    for _, _, body in bodies:
        out += b"\0" * (-len(out) % SECTION_ALIGNMENT)
        out += body
    return bytes(out)


def layout_digest() -> bytes:
    """SHA-256 of what decides how a program's bytes are read: every record's fields and every enumeration's values."""
    lines = [f"{r.__name__} {' '.join(f'{name}:{kind}' for name, kind, _ in r.layout())}" for r in RECORDS]
    lines += [
        f"{e.__name__} {' '.join(f'{m.name}={m.value}' for m in e)}"
        for e in (Opcode, TensorRole, SectionKind, AxisMask)
    ]
    return hashlib.sha256("\n".join(lines).encode()).digest()


def layout_number() -> int:
    """What of :func:`layout_digest` a header carries."""
    return int.from_bytes(layout_digest()[:4], "little")


def target_digest(program: Program) -> bytes:
    """SHA-256 of the target record's numbers (not where its texts are stored), the name, a zero byte and ``runs``."""
    record = program.target.pack()[TARGET_TEXT_BYTES:]
    target = program.target
    texts = f"{program.name_of(target)}\0{program.string(target.runs_offset, target.runs_length)}"
    return hashlib.sha256(record + texts.encode()).digest()


def _corrupt(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(
        Diagnostic(
            "E-MICROCODE-CORRUPT", f"microcode, {where}", rule, str(got), str(need), ("compile the network again",)
        )
    )


def _sections(data: bytes, header: ProgramHeader) -> dict[int, bytes]:
    """Section kind → body; every section once, aligned, inside the program."""
    header_size, entry_size = ProgramHeader.struct().size, SectionEntry.struct().size
    if header.section_count > 64 or header_size + header.section_count * entry_size > len(data):
        raise _corrupt("section table", "it does not fit the program", f"{header.section_count} sections", "at most 64")
    bodies: dict[int, bytes] = {}
    for i in range(header.section_count):
        entry = SectionEntry.unpack(data[header_size + i * entry_size : header_size + (i + 1) * entry_size])
        end = entry.offset + entry.size
        if entry.offset % SECTION_ALIGNMENT or end > len(data) or entry.kind in bodies:
            place = f"{entry.offset}..{end}"
            raise _corrupt(f"section {entry.kind}", "its place is not valid", place, "inside the program, once")
        bodies[entry.kind] = data[entry.offset : end]
    missing = [kind.name for kind in SectionKind if kind not in bodies]
    if missing:
        raise _corrupt("section table", "sections are missing", ", ".join(missing), "every section once")
    return bodies


def _rows(kind: SectionKind, body: bytes) -> list[Any]:
    record = _TABLES[kind]
    size = record.struct().size
    if len(body) % size:
        raise _corrupt(kind.name, "its size is not a whole number of records", len(body), f"a multiple of {size}")
    rows = [record.unpack(body[i : i + size]) for i in range(0, len(body), size)]
    if kind == SectionKind.TARGET and len(rows) != 1:
        raise _corrupt("TARGET", "there must be one target", len(rows), 1)
    return rows


def _check_version(header: ProgramHeader) -> None:
    """Raises InputFileError unless the program was written for exactly this instruction set."""
    got, need = (header.version_major, header.version_minor), (VERSION_MAJOR, VERSION_MINOR)
    rule = "the program is of another version of the instruction set"
    if got == need and header.layout_hash != layout_number():
        rule = "the program's records are laid out otherwise than this version's"
    elif got == need:
        return
    raise InputFileError(
        Diagnostic(
            "E-MICROCODE-VERSION",
            "microcode, header",
            rule,
            f"version {got[0]}.{got[1]}, layout {header.layout_hash:08x}",
            f"version {need[0]}.{need[1]}, layout {layout_number():08x}",
            ("compile the network again with this version",),
        )
    )


def decode(data: bytes) -> Program:
    """Read a program without trusting it; indices inside records are checked by the native verifier, not here."""
    header_size = ProgramHeader.struct().size
    if len(data) < header_size:
        raise _corrupt("header", "the program is shorter than its header", f"{len(data)} bytes", f"{header_size} bytes")
    header = ProgramHeader.unpack(data[:header_size])
    if data[:4] != MAGIC:
        raise _corrupt("header", "the magic number is wrong", data[:4], MAGIC)
    _check_version(header)
    if header.total_size != len(data):
        raise _corrupt("header", "the length does not match", f"{len(data)} bytes", f"{header.total_size} bytes")
    bodies = _sections(data, header)
    operands = bodies[SectionKind.OPERANDS]
    if len(operands) % 4:
        raise _corrupt("OPERANDS", "its size is not a whole number of indices", len(operands), "a multiple of 4")
    tables = {kind: _rows(kind, bodies[kind]) for kind in _TABLES}
    program = Program(
        target=tables[SectionKind.TARGET][0],
        tensors=tables[SectionKind.TENSORS],
        contexts=tables[SectionKind.CONTEXTS],
        kernels=tables[SectionKind.KERNELS],
        operands=[value for (value,) in struct.iter_unpack("<I", operands)],
        stages=tables[SectionKind.STAGES],
        buffers=tables[SectionKind.BUFFERS],
        constants=bytearray(bodies[SectionKind.CONSTANTS]),
        strings=bytearray(bodies[SectionKind.STRINGS]),
    )
    digest = target_digest(program)
    if digest != header.target_hash:
        raise _corrupt("TARGET", "the hash of the target does not match", header.target_hash.hex(), digest.hex())
    return program
