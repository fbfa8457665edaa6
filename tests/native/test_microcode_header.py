# SPDX-License-Identifier: Apache-2.0
"""The C++ header of the instruction set is what its one definition generates."""

from __future__ import annotations

from pathlib import Path

from headrace.hef.microcode_header import generate

HEADER = Path(__file__).resolve().parents[2] / "native" / "src" / "microcode_generated.hpp"


def test_header_is_up_to_date() -> None:
    assert HEADER.read_text(encoding="utf-8") == generate(), (
        "run: python -m headrace.hef.microcode_header native/src/microcode_generated.hpp"
    )
