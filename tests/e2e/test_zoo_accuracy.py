# SPDX-License-Identifier: Apache-2.0
"""Answers of real models on the device, held to the aims beside them; `make results` writes the same figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_accuracy import COMMANDS, TASKS, judge

pytest.importorskip("headrace.runtime._native")
pytest.importorskip("ai_edge_litert")


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_the_answers_are_as_near_as_they_should_be(name: str, zoo: Path) -> None:
    if name in COMMANDS:
        pytest.importorskip("pycocotools")
    row, reached = judge(name, zoo), TASKS[name].reached
    assert row.met or (reached is not None and abs(row.own - row.device) <= reached), row


def test_a_file_of_codes_answers_as_litert(zoo: Path) -> None:
    """Without data; all codes of the result are those of LiteRT."""
    row = judge("kws_int8", zoo)
    assert row.met and row.same == 100.0, row
