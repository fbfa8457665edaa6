# SPDX-License-Identifier: Apache-2.0
"""Each fuzz target on cases with fixed numbers: a result or an error with a code, in time and memory (tests/fuzz/)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

from fuzz import mutators
from fuzz.targets import TARGETS, Finding, case_of, check

TESTS = Path(__file__).resolve().parents[1]
#: Cases of the fast run. A file of Keras takes the longest to read.
CASES = {"keras": 30, "keras-h5": 40, "onnx-external": 60, "saved-model": 60, "har": 80, "onnx": 60}
#: Seeds of a target that may be refused: what they hold is refused in some stage behind the reader.
MOST_REFUSED = 1


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_end_in_results_or_coded_errors(name: str) -> None:
    outcomes = Counter(check(name, case_of(name, 0, index)) for index in range(CASES.get(name, 100)))
    assert sum(outcomes.values()) - outcomes["read"] > 3, "nothing is refused: the changes change nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_the_files_that_are_changed_are_whole(name: str) -> None:
    """Otherwise nothing behind the first check is ever reached."""
    refused = [check(name, case, 60) for case in TARGETS[name].seeds()]
    assert len(refused) - refused.count("read") <= MOST_REFUSED, refused


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_minute_of_each_target(name: str, tmp_path: Path) -> None:
    """In processes of their own, as ``python -m fuzz`` does: whatever ends a process is a finding too."""
    command = [sys.executable, "-m", "fuzz", name, "--seconds", "60", "--seed", "7", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    found = sorted(tmp_path.glob(f"{name}/*.txt"))
    assert not found, "\n".join(place.read_text()[:3000] for place in found)


def test_findings_are_found() -> None:
    """A target that fails, hangs or ends without a code is told from one that refuses."""
    from headrace.errors import Diagnostic, InputFileError

    def failing(case: mutators.Case) -> object:
        return {}[case[""]]

    def hanging(case: mutators.Case) -> object:
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue

    def uncoded(case: mutators.Case) -> object:
        raise InputFileError(Diagnostic("", "x", ""))

    kept = TARGETS["hn"]
    for run, kind in ((failing, "KeyError"), (hanging, "too long"), (uncoded, "no code")):
        TARGETS["hn"] = type(kept)(kept.seeds, kept.change, run)
        try:
            with pytest.raises(Finding, match=kind):
                check("hn", {"": b""}, 0.3)
        finally:
            TARGETS["hn"] = kept


def test_messages_are_read_and_written_again() -> None:
    for case in TARGETS["onnx"].seeds():
        fields = mutators.fields_of(case[""])
        assert fields and mutators.written(fields) == case[""]
    assert mutators.fields_of(b"\x0a\x05abc") is None
    assert case_of("onnx", 3, 4) == case_of("onnx", 3, 4)
    assert mutators.plain(random.Random(0), b"") is not None
