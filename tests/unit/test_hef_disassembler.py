# SPDX-License-Identifier: Apache-2.0
"""The listing of a program: stable, complete, and safe on programs nobody has verified."""

from __future__ import annotations

import json
import random
from dataclasses import fields

import numpy as np
import pytest

from headrace.errors import InputFileError
from headrace.hef import microcode as isa
from headrace.hef.container import Hef
from headrace.hef.disassembler import as_dict, disassemble


def sample() -> isa.Program:
    program = isa.Program(target=isa.TargetRecord(clusters=8, controllers_per_cluster=16, clock_hz=400_000_000))
    program.set_target_texts("hailo8", ["hailo8l"])
    for name, channels, role in (("net/input_layer1", 3, 1), ("net/conv1", 4, 0), ("net/maxpool1", 4, 2)):
        offset, length = program.add_string(name)
        program.tensors.append(isa.TensorRecord(offset, length, 8, 8, channels, 1, role, 0, 128, 0.5))
    weights = program.add_constant(np.zeros((4, 3, 3, 3), np.int8))
    multipliers = program.add_constant(np.array([5, -7, 9, 11], np.int32))
    shifts = program.add_constant(np.array([30, 31, 30, 30], np.uint8))
    offset, length = program.add_string("net/conv1")
    program.kernels.append(
        isa.KernelRecord(
            offset, length, isa.Opcode.CONVOLUTION, 0, 0, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1,
            weight_offset=weights, multiplier_offset=multipliers, shift_offset=shifts, requantise_terms=1,
            requantise_channels=4, requantise_zero=128, requantise_low=128, requantise_high=255, table_bits=0,
        )
    )  # fmt: skip
    offset, length = program.add_string("net/maxpool1")
    program.kernels.append(
        isa.KernelRecord(offset, length, isa.Opcode.POOL_MAX, 0, 1, 1, 2, 2, 2, 2, 2, requantise_channels=0)
    )
    program.operands = [0, 1]
    program.contexts.append(isa.ContextRecord(0, 2, 108))
    program.stages.append(isa.StageRecord(kernel=0, controllers=1, subclusters=2, rows=8, engine_cycles_per_row=31))
    program.buffers += [isa.BufferRecord(0, 0, 0, 4), isa.BufferRecord(2, isa.NONE, 0, 1)]
    return program


def test_listing_says_everything() -> None:
    text = disassemble(sample())
    for part in (
        "target hailo8",
        "t0  8x8x3 u8  input  zero 128  scale 0.5  net/input_layer1",
        "context 0  kernels k0..k1  weights 108 B",
        "k0  convolution  net/conv1  context 0",
        "t0 -> t1",
        "window 3x3  stride 1x1  dilation 1x1  pad top 1 left 1  groups 1",
        "requantize 1 terms x 4  M -7..11  s 30..31  zero 128  clamp 128..255",
        "k1  pool_max  net/maxpool1",
        "window 2x2  stride 2x2",
        "s0  k0  cluster 0  controllers 1  subclusters 2",
        "b0  t0 -> k0[0]  rows 4",
        "b1  t2 -> host  rows 1",
    ):
        assert part in text, part
    assert text == disassemble(isa.decode(isa.encode(sample())))
    assert text.endswith("\n")
    assert all(line == line.rstrip() for line in text.splitlines())


def test_data_has_every_field_and_is_json() -> None:
    data = json.loads(json.dumps(as_dict(sample())))
    assert data["kernels"][0]["inputs"] == [0]
    assert data["kernels"][0]["requantise"]["multiplier"] == [-7, 11]
    assert data["kernels"][1]["requantise"] is None
    assert data["kernels"][1]["weight_offset"] is None
    assert data["buffers"][1]["consumer"] is None
    hidden = {"name_offset", "name_length", "reserved", "operand_offset", "operand_count"}
    for key, record in (("kernels", isa.KernelRecord), ("tensors", isa.TensorRecord), ("stages", isa.StageRecord)):
        assert {f.name for f in fields(record)} - hidden <= set(data[key][0])


def test_every_opcode_has_a_line() -> None:
    for opcode in isa.Opcode:
        program = sample()
        program.kernels[0].opcode = opcode
        assert f"k0  {opcode.name.lower()}  net/conv1" in disassemble(program)


def test_unverified_programs_are_listed_without_trust() -> None:
    program = sample()
    program.strings += b"\x1b[31m\x00evil\xff"
    program.kernels[0].name_offset, program.kernels[0].name_length = 0, 2**32 - 1
    program.kernels[0].operand_count = 2**32 - 1
    text = disassemble(program)
    assert "\x1b" not in text
    assert "\0" not in text
    rng = random.Random(1)
    for _ in range(300):
        program = sample()
        for record in (program.kernels[0], program.tensors[1], program.stages[0], program.buffers[0]):
            item = rng.choice(fields(record))
            size = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "i32": 31, "i64": 63, "f32": 20}[item.metadata["kind"]]
            setattr(record, item.name, rng.choice((0, 1, 2**size - 1, rng.randrange(2**size))))
        json.dumps(as_dict(program))
        assert disassemble(program).isprintable() is False  # newlines
        assert all(c.isprintable() or c == "\n" for c in disassemble(program))


def test_damaged_programs_are_refused_or_listed() -> None:
    data = isa.encode(sample())
    rng = random.Random(2)
    listed = 0
    for _ in range(1500):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            broken[rng.randrange(len(broken))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        hef = Hef(None, bytes(broken), None)  # type: ignore[arg-type]
        try:
            program = hef.program()
        except InputFileError:
            continue
        listed += 1
        disassemble(program)
        json.dumps(as_dict(program), allow_nan=False)
    assert listed > 100
    for size in range(0, len(data), 7):
        with pytest.raises(InputFileError):
            Hef(None, data[:size], None).program()  # type: ignore[arg-type]
