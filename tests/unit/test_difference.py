# SPDX-License-Identifier: Apache-2.0
"""``headrace compare``: which layer stands for which, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.cli.app import run
from headrace.profiler import profile
from headrace.profiler.difference import difference
from headrace.reports.profile import ProfileReport
from headrace.runner import ClientRunner
from small_onnx import small_model

NAMES = ("a.har", "b.har")


def parsed(name: str = "net", **how: int) -> ClientRunner:
    runner = ClientRunner()
    runner.translate_onnx_model(small_model(**how).SerializeToString(), name)
    return runner


def report(runner: ClientRunner) -> ProfileReport:
    return profile(runner.archive, runner.target)


@pytest.fixture(scope="module")
def native() -> ProfileReport:
    return report(parsed())


def test_a_network_does_not_differ_from_itself(native: ProfileReport) -> None:
    found = difference(native, native, NAMES)
    assert (found.totals, found.changed, found.only_first, found.only_second) == ((), (), (), ())
    assert found.same == len(native.layers)


def test_another_name_of_the_network_is_none_of_its_layers(native: ProfileReport) -> None:
    found = difference(native, report(parsed("other")), NAMES)
    assert found.same == len(native.layers)
    assert (found.first.name, found.second.name) == ("net", "other")


def test_other_sizes(native: ProfileReport) -> None:
    """Every layer is found again by its nodes, although no shape is as it was."""
    found = difference(native, report(parsed(width=12)), NAMES)
    assert found.only_first == () and found.only_second == ()
    conv = next(pair for pair in found.changed if pair.first == "net/conv2")
    assert conv.second == "net/conv2" and conv.matched_by == "nodes of the file"
    changes = {change.what: (change.before, change.after) for change in conv.changes}
    assert changes["output shape"] == ([-1, 16, 16, 8], [-1, 16, 16, 12])
    assert changes["weights"] == (8 * 8 * 9 + 8, 12 * 12 * 9 + 12)
    totals = {change.what: change.after for change in found.totals}
    assert totals["weights and biases"] == sum(layer.weights for layer in report(parsed(width=12)).layers)


def test_a_layer_more_and_names_that_moved(native: ProfileReport) -> None:
    """Without names and nodes in common, layers are found by their place; what is new is told."""
    layers = tuple(
        replace(x, name=f"net/moved{i}", original_names=(f"n{i}",), inputs=()) for i, x in enumerate(native.layers)
    )
    new = replace(layers[3], name="net/new", kind="softmax")
    found = difference(native, replace(native, layers=(*layers[:3], new, *layers[3:])), NAMES)
    assert found.only_second == ("net/new",) and found.only_first == ()
    assert {pair.matched_by for pair in found.changed} == {"place in the graph"}
    assert [pair.second for pair in found.changed] == [layer.name for layer in layers]


def test_states_and_precision(native: ProfileReport) -> None:
    frames = np.random.default_rng(0).normal(0, 1, (8, 16, 16, 3)).astype(np.float32)
    bytes_, words = parsed(), parsed()
    words.load_model_script("quantization_param({output_layer*}, precision_mode=a8_w8_a16)\n")
    for runner in (bytes_, words):
        runner.optimize(frames, min_snr=0)
    found = difference(report(bytes_), report(words), NAMES)
    changes = {change.what: (change.before, change.after) for pair in found.changed if pair.first == "net/fc1"
               for change in pair.changes}  # fmt: skip
    assert changes["bits"] == (8, 16)
    later = difference(native, report(words), NAMES)
    assert {change.what for change in later.totals} >= {"state"}
    assert all(change.before is not None for pair in later.changed for change in pair.changes)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    parsed().save_har("a.har")
    parsed(width=12).save_har("b.har")
    assert run(["compare", "a.har", "b.har"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("A: a.har") and "-1, 16, 16, 8" in text and "layers are the same in both" in text
    assert run(["compare", "a.har", "a.har"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("nothing differs")
    assert run(["compare", "a.har", "b.har", "--json", "-o", "d.json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("d.json").read_text())
    assert run(["compare", "a.har", "b.har", "-o", "d.json"]) == 0  # an older one is replaced
    assert run(["compare", "a.har", "b.har", "-o", "a.har"]) == 2
    assert run(["compare", "a.har", "none.har"]) == 3
