# SPDX-License-Identifier: Apache-2.0
"""The form of what pages show is one declaration: schema, TypeScript and data agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from headrace.profiler import profile
from headrace.profiler.page import profile_page, render_csv
from headrace.reports.page import ProfilePage
from headrace.reports.schema import json_schema
from headrace.runner import ClientRunner
from small_onnx import small_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, ProfilePage]:
    """The page of one network in every state."""
    runner, found = ClientRunner(), {}
    runner.translate_onnx_model(small_model().SerializeToString(), "small")
    found["native"] = profile_page(runner.archive, profile(runner.archive, runner.target), Path("small.har"))
    runner.optimize(np.random.default_rng(0).normal(0, 1, (8, 16, 16, 3)).astype(np.float32))
    found["quantized"] = profile_page(runner.archive, profile(runner.archive, runner.target), Path("small.har"))
    runner.compile()
    found["compiled"] = profile_page(runner.archive, profile(runner.archive, runner.target), Path("small.har"))
    return found


def test_generated_files_are_fresh() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import ui_types
    finally:
        sys.path.pop(0)
    stale = [str(path) for path, text in ui_types.files().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run python tools/ui_types.py"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(ProfilePage))


@pytest.mark.parametrize("state", ["native", "quantized", "compiled"])
def test_pages_keep_to_the_schema(pages: dict[str, ProfilePage], state: str) -> None:
    data: Any = pages[state].as_dict()
    jsonschema.Draft202012Validator(json_schema(ProfilePage)).validate(data)
    assert ProfilePage.from_dict(data, "page").as_dict() == data


@pytest.mark.parametrize("wrong", ["absent", "unknown", "type"])
def test_what_breaks_the_schema(pages: dict[str, ProfilePage], wrong: str) -> None:
    data: Any = pages["compiled"].as_dict()
    layer = data["profile"]["layers"][1]
    if wrong == "absent":
        del layer["kind"]
    elif wrong == "unknown":
        layer["colour"] = "red"
    else:
        layer["macs"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema(ProfilePage)).validate(data)


def test_layers_as_csv(pages: dict[str, ProfilePage]) -> None:
    import csv

    profile = pages["compiled"].profile
    rows = list(csv.DictReader(render_csv(profile).splitlines()))
    assert [row["layer"] for row in rows] == [layer.name for layer in profile.layers]
    for row, layer in zip(rows, profile.layers, strict=True):
        assert int(row["macs"]) == layer.macs
        assert row["cycles"] == ("" if layer.schedule is None else str(layer.schedule.cycles))
    assert {row["snr_db"] for row in csv.DictReader(render_csv(pages["native"].profile).splitlines())} == {""}
