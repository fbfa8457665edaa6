# SPDX-License-Identifier: Apache-2.0
"""Target files: the built-in ones say what the public figures say, and a user's file is checked."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest

from headrace.errors import InputFileError, UsageError
from headrace.hef.microcode import TargetRecord
from headrace.targets.description import Target, list_targets, load_target, parse_target


def text_of(name: str) -> str:
    return resources.files("headrace.targets").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def test_builtin_targets() -> None:
    assert list_targets() == ["hailo10h", "hailo15h", "hailo15l", "hailo8", "hailo8l"]
    clusters = {name: load_target(name).clusters for name in list_targets()}
    assert clusters == {"hailo10h": 5, "hailo15h": 5, "hailo15l": 3, "hailo8": 8, "hailo8l": 4}
    assert all(load_target(name).name == name for name in list_targets())
    for target in map(load_target, list_targets()):
        assert set(target.runs) <= set(list_targets()) - {target.name}


def test_hailo8_totals_are_the_published_ones() -> None:
    target = load_target("hailo8")
    assert (target.controllers, target.memory_units) == (128, 1024)
    assert target.clusters * target.subclusters_per_cluster == 512
    assert target.subclusters == 460  # 0.90 of 512
    assert target.tera_operations_per_second == pytest.approx(26.2, abs=0.05)
    assert load_target("hailo8l").tera_operations_per_second == pytest.approx(13.1, abs=0.05)
    assert float(target.busy_share) == 0.85
    assert target.runs == ("hailo8l",)


def test_share_is_taken_of_the_written_decimal() -> None:
    source = text_of("hailo8").replace("clusters = 8\n", "clusters = 10\n", 1)
    source = source.replace("subclusters_per_cluster = 64", "subclusters_per_cluster = 1")
    for share in range(1, 101):
        text = source.replace("usable_subclusters = 0.90", f"usable_subclusters = {share / 100}")
        assert parse_target(text, "x").subclusters == share // 10


def test_every_number_has_a_comment_before_it() -> None:
    for name in list_targets():
        commented = False
        for line in text_of(name).splitlines():
            if line.startswith("#"):
                commented = True
            elif not line.strip():
                commented = False
            else:
                assert commented, f"{name}: {line}"
                assert re.fullmatch(r"[a-z_]+ = .+", line)


def test_fields_are_those_of_the_microcode_record() -> None:
    record = {f.name for f in fields(TargetRecord)} - {"name_offset", "name_length", "runs_offset", "runs_length"}
    extra = {"name", "title", "runs", "usable_controllers", "usable_subclusters", "usable_memory_units"}
    assert {f.name for f in fields(Target)} == record | extra
    for name in list_targets():  # every value fits its field in the record
        values = load_target(name).as_dict()
        TargetRecord(**{key: values[key] for key in sorted(record)}).pack()


def test_unknown_name_suggests() -> None:
    with pytest.raises(UsageError) as caught:
        load_target("hailo8m")
    assert "did you mean 'hailo8' or 'hailo8l'" in str(caught.value)
    assert "hailo15h" in str(caught.value)


def test_user_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        text_of("hailo8").replace('name = "hailo8"', 'name = "mine"').replace("clusters = 8", "clusters = 2")
    )
    assert load_target(path).name == "mine"
    assert load_target(str(path)).controllers == 32


def test_all_problems_are_reported_together() -> None:
    text = (
        text_of("hailo8")
        .replace("clusters = 8", "clusters = 0")
        .replace("clock_hz = 400_000_000", "clok_hz = 400_000_000")
        .replace("port_bytes_per_cycle = 8", "port_bytes_per_cycle = true")
        .replace("busy_numerator = 17", "busy_numerator = 21")
        .replace("usable_subclusters = 0.90", "usable_subclusters = nan")
        .replace('name = "hailo8"', 'name = "Hailo 8"')
        .replace('runs = ["hailo8l"]', "runs = [1]")
        .replace('title = "Hailo', 'title = "\\u001bHailo')
    )
    with pytest.raises(InputFileError) as caught:
        parse_target(text, "mine.toml")
    message = str(caught.value)
    for part in (
        "clusters is out of range", "there is no target key", "did you mean 'clock_hz'", "'clock_hz' is missing",
        "port_bytes_per_cycle is out of range", "busy share is above 1", "usable_subclusters is not a share",
        "the name is not usable", "runs is not a list", "the title is not usable",
    ):  # fmt: skip
        assert part in message, part


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"name =",
        b"\xff\xfe",
        b"x = " + b"[" * 5000,
        b"a" * 70000,
        b"clusters = " + b"9" * 5000,
        b"clusters = 1e400",
    ],
)
def test_hostile_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(InputFileError):
        load_target(path)


def test_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path, "a/b", "nul\0.toml"):
        with pytest.raises(InputFileError) as caught:
            load_target(path)
        assert caught.value.code == "E-FILE-READ"


# --- what users type -----------------------------------------------------------------------------------------------


def test_names_may_be_in_upper_case() -> None:
    assert load_target("HAILO8") == load_target("Hailo8") == load_target("hailo8")


@pytest.mark.parametrize("name", ["hailo8r", "HAILO8R", "hailo8p", "hailo15m", "hailo10p", "hailo12l", "mars", "pluto"])
def test_real_devices_without_a_description_say_why_and_name_the_nearest(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_target(name)
    (found,) = caught.value.diagnostics
    assert "real device" in found.rule
    assert found.levers[0].partition(",")[0] in list_targets()


def test_every_real_device_is_described_or_known_to_be_absent(reference: Path) -> None:
    named = set(re.findall(r"hailo\d+[a-z]*", (reference / "targets.md").read_text()))
    assert named > set(list_targets())
    for name in sorted(named - set(list_targets())):
        with pytest.raises(UsageError, match="real device"):
            load_target(name)


@pytest.mark.parametrize("name", ["hailo99", "hailo_8", "", " ", "8", "x" * 10_000, "hailo8\n\x1b[31m"])
def test_other_names_get_suggestions(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_target(name)
    assert len(str(caught.value)) < 600 and "\x1b" not in str(caught.value)
    if name.startswith("hailo"):
        assert "did you mean" in str(caught.value)
