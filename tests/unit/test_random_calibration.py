# SPDX-License-Identifier: Apache-2.0
"""Calibration with noise leaves a trace in everything that is made of it; calibration with data leaves none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from headrace.hef.container import read_hef_file
from headrace.runner import ClientRunner
from hef_validator import validate
from small_onnx import write_small

pytest.importorskip("headrace.runtime._native")


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(arguments) == 0
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.parametrize("random", [True, False])
def test_every_product_says_it(
    random: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small(tmp_path)
    source = ["--use-random-calib-set"] if random else ["--calib-set", "calibration.npy"]
    said = told(["optimize", "small.onnx", *source, "-o", "q.har"], capsys)
    assert ("MEANINGLESS" in said) == random
    # Later stages start from the file alone.
    assert ("meaningless" in told(["compile", "q.har", "-o", "n.hef", "--output-har-path", "c.har"], capsys)) == random
    for har in ("q.har", "c.har"):
        shown = told(["har", "info", har], capsys)
        shown = "".join(shown.split())  # the table folds long lines
        assert ("calibration=randomnoise" in shown) == random
        assert "calibration_frames=" in shown
        assert ("RANDOM NOISE" in told(["profile", har], capsys)) == random
        found: Any = json.loads(told(["profile", har, "--json"], capsys))
        assert found["accuracy"]["calibration"].get("random", False) is random
        assert found["accuracy"]["calibration"]["frames"] > 0
    assert ("RANDOM NOISE (64 frames)" in told(["hef", "info", "n.hef"], capsys)) == random
    facts = json.loads(told(["hef", "info", "n.hef", "--json"], capsys))
    assert facts["random_calibration_frames"] == (64 if random else 0)
    # A reader of the public format sees nothing that it would act on, and the device runs it.
    assert validate((tmp_path / "n.hef").read_bytes()) == []
    told(["run", "n.hef", "-c", "2"], capsys)


def test_python_says_it_too(tmp_path: Path) -> None:
    import numpy as np

    write_small(tmp_path)
    runner = ClientRunner()
    runner.translate_onnx_model(tmp_path / "small.onnx")
    report = runner.optimize(np.load(tmp_path / "calibration.npy"), min_snr=0, random=True)
    assert "RANDOM NOISE" in report["warnings"][0]
    (tmp_path / "n.hef").write_bytes(runner.compile())
    assert read_hef_file(tmp_path / "n.hef").description.random_calibration == report["calibration"]["frames"]
