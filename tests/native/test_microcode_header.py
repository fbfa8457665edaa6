# SPDX-License-Identifier: Apache-2.0
"""The C++ header of the instruction set is what its one definition generates, and its version follows its layout."""

from __future__ import annotations

import json
from dataclasses import field, make_dataclass
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import InputFileError
from headrace.hef import microcode as isa
from headrace.hef.microcode_header import generate
from native.programs import Builder, hef_of, requantization

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ROOT / "tests" / "golden" / "microcode_versions.json"


def test_header_is_up_to_date() -> None:
    header = ROOT / "native" / "src" / "microcode_generated.hpp"
    assert header.read_text(encoding="utf-8") == generate(), (
        "run: python -m headrace.hef.microcode_header native/src/microcode_generated.hpp"
    )


def test_the_version_follows_the_layout() -> None:
    """Every layout that there was has a version of its own, so a changed record or opcode needs a new one."""
    versions = json.loads(VERSIONS.read_text(encoding="utf-8"))
    now, digest = f"{isa.VERSION_MAJOR}.{isa.VERSION_MINOR}", isa.layout_digest().hex()
    assert versions.get(now) == digest, (
        f"records or opcodes are not those of version {now}: raise the version in hef/microcode.py and add its digest, "
        f"{digest}, to {VERSIONS.name}; a digest that is there stays"
    )
    assert now == max(versions, key=lambda v: tuple(map(int, v.split("."))))
    assert len(set(versions.values())) == len(versions)


def test_any_change_of_a_record_or_opcode_is_another_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    before = isa.layout_number()
    extra = ("extra", int, field(default=0, metadata={"kind": "u32", "doc": ""}))
    longer = make_dataclass("KernelRecord", [extra], bases=(isa.KernelRecord,))
    monkeypatch.setattr(isa, "RECORDS", tuple(longer if r is isa.KernelRecord else r for r in isa.RECORDS))
    assert isa.layout_number() != before
    monkeypatch.undo()
    monkeypatch.setattr(isa, "AxisMask", isa.TensorRole)
    assert isa.layout_number() != before


@pytest.mark.parametrize(("place", "size"), [(4, 2), (6, 2), (20, 4)], ids=["major", "minor", "layout"])
@pytest.mark.parametrize("step", [-1, 1])
def test_programs_of_another_version_are_refused(
    monkeypatch: pytest.MonkeyPatch, place: int, size: int, step: int
) -> None:
    """By the reader and by the device: what it is, what is needed, and what to do."""
    native = pytest.importorskip("headrace.runtime._native")
    b = Builder()
    x, y = (
        b.tensor(name, (4, 4, 8), 0, role) for name, role in (("x", isa.TensorRole.INPUT), ("y", isa.TensorRole.OUTPUT))
    )
    b.kernel("y", isa.Opcode.RESCALE, [x], y, **requantization(np.random.default_rng(0), 255, 1))
    b.build()
    data = bytearray(isa.encode(b.program))
    value = (int.from_bytes(data[place : place + size], "little") + step) % (1 << 8 * size)
    data[place : place + size] = value.to_bytes(size, "little")
    with pytest.raises(InputFileError) as refusal:
        isa.decode(bytes(data))
    (found,) = refusal.value.diagnostics
    assert found.code == "E-MICROCODE-VERSION" and "compile" in found.levers[0]
    assert f"version {isa.VERSION_MAJOR}.{isa.VERSION_MINOR}" in found.need and found.got != found.need
    monkeypatch.setattr("native.programs.encode", lambda program: bytes(data))
    with pytest.raises(native.NativeError) as error:
        native.Device(None, threads=1).load(hef_of(b.program))
    assert error.value.status == 92
    (problem,) = error.value.problems
    assert f"version {isa.VERSION_MAJOR}.{isa.VERSION_MINOR}" in problem.need and problem.got != problem.need
    assert "compile the network again" in problem.lever
