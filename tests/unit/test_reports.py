# SPDX-License-Identifier: Apache-2.0
"""The rules by which reports are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

from headrace.errors import InputFileError
from headrace.reports.record import INLINE, REST, Json, Record, Report, field_rules, record


@record
class Point(Record):
    """A place."""

    x: Annotated[int, "along"]
    y: Annotated[float | None, "across; null: anywhere"]


@record
class Named(Record):
    """A name."""

    name: Annotated[str, "what it is called"]


@record
class Numbered(Record):
    """A number."""

    number: Annotated[int, "which it is"]


@record
class Sample(Report):
    """Every kind of field."""

    pass_: Annotated[str, "a word that Python keeps for itself"]
    title: Annotated[Named | Numbered, "one or the other", INLINE]
    points: Annotated[tuple[Point, ...], "places"]
    by_name: Annotated[dict[str, tuple[int, int]], "pairs"]
    scale: Annotated[float | tuple[float, ...], "one or several"]
    extra: Annotated[int | None, "absent where there is none"] = None
    rest: Annotated[dict[str, Json], "all else", REST]


@record
class Switches(Record):
    """Keys that are not known beforehand, with values of one type."""

    name: Annotated[str, "what it is called"]
    others: Annotated[dict[str, bool], "what is on", REST]


@record
class Second(Report):
    """A report that got a field."""

    VERSION = 2

    a: Annotated[int, "of the first version"]
    b: Annotated[int, "of the second"] = 7


SAMPLE: dict[str, Any] = {
    "pass": "p",
    "name": "n",
    "points": [{"x": 1, "y": 2.5}, {"x": 3, "y": None}],
    "by_name": {"k": [1, 2]},
    "scale": [1, 2.5],
    "other": {"deep": [True]},
}


def test_the_form_of_every_kind_of_field() -> None:
    sample = Sample.from_dict(SAMPLE, "here")
    assert sample.pass_ == "p" and isinstance(sample.title, Named) and sample.points[1].y is None
    assert sample.by_name == {"k": (1, 2)} and sample.extra is None and sample.rest == {"other": {"deep": [True]}}
    assert sample.as_dict() == SAMPLE
    other = Sample.from_dict({k: v for k, v in SAMPLE.items() if k != "name"} | {"number": 3, "extra": 4}, "here")
    assert other.title == Numbered(number=3) and other.as_dict()["extra"] == 4
    # An integer stays one, so that it is written as it was read.
    assert type(sample.scale[0]) is int  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("key", "value", "place", "rule"),
    [
        ("points", [{"x": 1, "y": 2}, {"x": "1", "y": 2}], "here, points[1].x", "wrong type"),
        ("points", [{"x": True, "y": 2}], "here, points[0].x", "wrong type"),
        ("points", [{"x": 1.0, "y": 2}], "here, points[0].x", "wrong type"),
        ("points", [{"x": 1 << 63, "y": 2}], "here, points[0].x", "too large"),
        ("points", [{"x": 1, "y": float("nan")}], "here, points[0].y", "not finite"),
        ("points", [{"x": 1}], "here, points[0]", "'y' is absent"),
        ("points", [{"x": 1, "y": 2, "z": 3}], "here, points[0]", "no field of this name"),
        ("points", [7], "here, points[0]", "not an object"),
        ("points", {}, "here, points", "not a list"),
        ("by_name", {"k": [1, 2, 3]}, "here, by_name['k']", "wrong length"),
        ("by_name", [], "here, by_name", "not an object"),
        ("scale", "1", "here, scale", "wrong type"),
        ("scale", ["1"], "here, scale[0]", "wrong type"),
        ("other", [float("inf")], "here", "not finite"),
        ("version", 0, "here", "version is not valid"),
        ("version", "2", "here", "version is not valid"),
    ],
)
def test_what_breaks_a_rule_is_told_with_its_place(key: str, value: Any, place: str, rule: str) -> None:
    with pytest.raises(InputFileError, match=rule) as caught:
        Sample.from_dict(SAMPLE | {key: value}, "here")
    assert caught.value.diagnostics[0].where == place and caught.value.diagnostics[0].need


def test_the_rest_may_have_a_type() -> None:
    data: dict[str, Any] = {"name": "n", "a": True, "b": False}
    assert Switches.from_dict(data, "here").others == {"a": True, "b": False}
    with pytest.raises(InputFileError, match="wrong type") as caught:
        Switches.from_dict(data | {"c": 1}, "here")
    assert caught.value.diagnostics[0].where == "here, c"


def test_a_misspelt_field_is_told_with_the_right_one() -> None:
    with pytest.raises(InputFileError) as caught:
        Second.from_dict({"a": 1, "bb": 2}, "here")
    assert "'a'" in str(caught.value) or "'b'" in str(caught.value)


def test_nesting_has_an_end() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InputFileError, match="nested too deeply"):
        Sample.from_dict(SAMPLE | {"other": deep}, "here")


def test_versions() -> None:
    assert Second.from_dict({"a": 1}, "here") == Second(a=1)  # the first version, which is not written
    assert Second(a=1, b=8).as_dict() == {"version": 2, "a": 1, "b": 8}
    assert Second.from_dict({"version": 2, "a": 1, "b": 8}, "here").b == 8
    # What a later version adds is left out of the record; what is known must be as it was.
    assert Second.from_dict({"version": 3, "a": 1, "c": [], "b": 2}, "here") == Second(a=1, b=2)
    with pytest.raises(InputFileError, match="no field of this name"):
        Second.from_dict({"version": 2, "a": 1, "c": []}, "here")
    with pytest.raises(InputFileError, match="wrong type"):
        Second.from_dict({"version": 3, "a": "1"}, "here")


def test_a_field_without_a_meaning_is_refused() -> None:
    @record
    class Silent(Record):
        """A record."""

        x: int

    with pytest.raises(TypeError, match="does not say what it means"):
        field_rules(Silent)


def test_the_page_of_reports_is_current() -> None:
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "tools"))
    from reports_page import page

    assert (root / "docs" / "formats" / "reports.md").read_text(encoding="utf-8") == page(), "run tools/reports_page.py"
