# SPDX-License-Identifier: Apache-2.0
"""Reports of a network in each state, as data and text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compiler_support import resnet
from headrace.compiler import compile_network
from headrace.errors import InputFileError, UsageError
from headrace.hn import Network
from headrace.hn.archive import Archive, State
from headrace.mapping import estimate, stages_of
from headrace.passes.fuse_elementwise_add import FuseElementwiseAdd
from headrace.profiler import profile, render_text
from headrace.reports.profile import ProfileReport, TargetEstimate
from headrace.targets import list_targets, load_target
from made_reports import layer_accuracy, optimize_report, output_accuracy, timing_report
from random_graphs import GraphBuilder


def freeze_like_optimize(network: Network) -> Network:
    prepared = network.clone()
    assert len(FuseElementwiseAdd().run(prepared)) == 3
    return prepared


def native() -> Archive:
    b = GraphBuilder(1)
    x = b.gate(b.convolution(b.input((8, 8, 3)), 8, 3, same=True, activation="relu"))
    b.output(b.add("softmax", [b.add("reshape", [x], {"shape": [512]})], {}))
    return Archive("net", native=b.net)


def compiled() -> Archive:
    network = resnet(blocks=1)
    result = compile_network(network, load_target("hailo8"))
    archive = Archive("resnet", State.COMPILED_MODEL, quantized=network, native=network)
    archive.reports["schedule"] = result.schedule.as_dict()
    outputs = {"resnet/output_layer1": output_accuracy(28.5)}
    archive.reports["optimize"] = optimize_report(
        outputs, ["odd data"], {"resnet/conv1": layer_accuracy(31.25)}
    ).as_dict()
    archive.reports["timing"] = timing_report(1234.5, 0.5, "resnet/conv2", {"resnet/conv1": 9999}).as_dict()
    return archive


def test_native_report_estimates_every_target() -> None:
    report = json.loads(json.dumps(profile(native()).as_dict(), allow_nan=False))
    assert report["state"] == "hailo_model"
    assert [e["target"] for e in report["estimates"]] == list_targets()
    assert all(e["basis"] == "closed form" and e["devices_needed"] >= 1 for e in report["estimates"])
    assert "compiled" not in report
    softmax = next(x for x in report["layers"] if x["kind"] == "softmax")
    assert softmax["output_shape"] == [-1, 512]


def test_estimates_know_the_fusions_of_optimize() -> None:
    b = GraphBuilder(0)
    x = b.input((8, 8, 8))
    for _ in range(3):
        x = b.add("ew_add", [x, b.convolution(x, 8, 3, same=True, activation="linear")], {"activation": "relu"})
    b.output(x)
    for key in ("native", "fp_optimized"):
        report = profile(Archive("net", **{key: b.net}))
        assert report.network.layers == 6
        fused = estimate(stages_of(freeze_like_optimize(b.net)), load_target("hailo8"))
        found = next(e for e in report.estimates if e.target == "hailo8")
        assert isinstance(found, TargetEstimate)
        assert (found.fps, found.need, found.have) == (round(fused.fps, 2), fused.need, fused.have)
    assert len(b.net.layers) == 8  # the caller's network is as it was


def test_totals_are_the_sum_of_layers() -> None:
    report = profile(compiled())
    for key in ("macs", "weights", "operations"):
        assert getattr(report.network, key) == sum(getattr(x, key) for x in report.layers)
    conv = next(x for x in report.layers if x.name == "resnet/conv2")
    assert conv.macs == 9 * 16 * 16 * 32 * 32


def test_compiled_report_carries_every_group() -> None:
    report = json.loads(json.dumps(profile(compiled()).as_dict(), allow_nan=False))
    assert report["compiled"]["basis"] == "closed form"
    assert report["simulation"]["basis"] == "event simulation"
    assert report["accuracy"]["outputs"]["resnet/output_layer1"]["snr_db"] == 28.5
    conv = next(x for x in report["layers"] if x["name"] == "resnet/conv1")
    assert conv["accuracy"]["snr_db"] == 31.25
    assert conv["schedule"]["cycles"] > 0
    assert conv["simulation"]["cycles_per_frame"] == 9999


def test_text_shows_what_each_figure_is() -> None:
    text = render_text(profile(compiled()))
    for part in ("closed form", "event simulation", "1,234.5 fps", "28.5 dB", "odd data", "Next better", "hailo8l"):
        assert part in text
    assert render_text(profile(native())).isprintable() or "\n" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_estimate_of_the_compiled_target_is_the_schedule() -> None:
    report = profile(compiled())
    estimate = next(e for e in report.estimates if e.target == "hailo8")
    assert isinstance(estimate, TargetEstimate) and report.compiled is not None
    assert estimate.fps == pytest.approx(report.compiled.figures.whole.fps, rel=0.05)


def test_a_target_file_of_the_user(tmp_path: Path) -> None:
    import headrace.targets

    source = Path(headrace.targets.__file__).parent / "hailo8l.toml"
    mine = tmp_path / "mine.toml"
    mine.write_text(source.read_text().replace('name = "hailo8l"', 'name = "mine"'))
    assert profile(native(), str(mine)).estimates[0].target == "mine"


@pytest.mark.parametrize("name", ["schedule", "optimize", "timing"])
@pytest.mark.parametrize(
    "damage",
    [
        None,
        3,
        "x",
        [],
        {},
        {"layers": 7, "stages": [1, {"name": 5}], "outputs": [1], "clusters": {}, "fps": "fast"},
        {"version": "2"},
        [[[[[[[[]]]]]]]],
        {"warnings": ["x"] * 100_000},
    ],
)
def test_damaged_reports_are_an_error_with_a_place(name: str, damage: Any) -> None:
    archive = compiled()
    archive.reports[name] = damage
    with pytest.raises(InputFileError, match=f"resnet, report '{name}'") as caught:
        profile(archive)
    assert caught.value.code.startswith("E-REPORT-") and caught.value.diagnostics[0].levers


def test_a_value_of_another_type_is_found_wherever_it_stands() -> None:
    archive = compiled()
    archive.reports["schedule"]["layers"][3]["row_cycles"]["engine"] = "9"
    with pytest.raises(InputFileError, match=r"report 'schedule', layers\[3\].row_cycles.engine"):
        profile(archive)


def test_terminal_codes_in_names_are_shown_as_text() -> None:
    archive = compiled()
    archive.name = "evil\x1b[2J"
    assert "\x1b" not in render_text(profile(archive))


def test_empty_archive() -> None:
    with pytest.raises(UsageError, match="no network"):
        profile(Archive("net"))


def test_no_line_is_wider_than_a_terminal_of_100_columns() -> None:
    report = profile(compiled())
    assert max(map(len, render_text(report).splitlines())) <= 100
    data = json.dumps(report.as_dict()).replace(f"{report.name}/", f"{report.name}/" + "block_of_many/" * 4)
    lines = render_text(ProfileReport.from_dict(json.loads(data), "long")).splitlines()
    # Names of inputs and outputs stand whole, to be copied.
    assert [
        line for line in lines if len(line) > 100 and "output_layer1" not in line and "input_layer1" not in line
    ] == []
    assert sum(len(line) > 100 for line in lines) <= 3
