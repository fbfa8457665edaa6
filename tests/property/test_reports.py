# SPDX-License-Identifier: Apache-2.0
"""Reports of any content through JSON and back, and JSON of any content into reports."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputFileError
from headrace.reports.infeasibility import InfeasibilityReport
from headrace.reports.optimize import OptimizeReport
from headrace.reports.parse import ParseReport
from headrace.reports.profile import ProfileReport
from headrace.reports.record import INLINE, REST, Record, Report, field_rules
from headrace.reports.schedule import CompileReport, ScheduleReport
from headrace.reports.script import ScriptReport
from headrace.reports.timing import TimingReport

REPORTS = (
    CompileReport, InfeasibilityReport, OptimizeReport, ParseReport, ProfileReport, ScheduleReport, ScriptReport,
    TimingReport,
)  # fmt: skip
_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(1 << 62), 1 << 62),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=6),
    bool: st.booleans(),
    type(None): st.none(),
}
JSON = st.recursive(
    st.one_of(*_SCALARS.values()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([values(a) for a in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(_SCALARS[str], values(arguments[1]), max_size=2)
    return records(hint) if is_dataclass(hint) else _SCALARS[hint]


def records(cls: Any) -> st.SearchStrategy[Any]:
    """Any record of a class."""
    found: dict[str, st.SearchStrategy[Any]] = {}
    for rule in field_rules(cls):
        found[rule.name] = rest(rule.hint) if rule.place is REST else values(rule.hint)
    return st.fixed_dictionaries(found).map(lambda fields: cls(**fields))


def rest(hint: Any) -> st.SearchStrategy[Any]:
    """Keys that are no fields: of the type that is given, or any JSON."""
    of_values = get_args(hint)[1]
    anything = get_origin(of_values) in (Union, types.UnionType)
    return st.just({"other": [1, {"x": None}]}) if anything else st.fixed_dictionaries({"other": values(of_values)})


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = changed(data[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("cls", REPORTS, ids=lambda c: c.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_written_reads_back(cls: type[Report], data: st.DataObject) -> None:
    report = data.draw(records(cls))
    text = json.dumps(report.as_dict(), allow_nan=False)
    again = cls.from_dict(json.loads(text), "here")
    assert again == report
    assert json.dumps(again.as_dict()) == text


@pytest.mark.parametrize("cls", REPORTS, ids=lambda c: c.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_damaged_is_an_error_with_a_code_or_another_report(cls: type[Report], data: st.DataObject) -> None:
    plain = json.loads(json.dumps(data.draw(records(cls)).as_dict()))
    damaged = changed(plain, data.draw(st.sampled_from(places(plain))), data.draw(JSON))
    try:
        report = cls.from_dict(damaged, "net.har")
    except InputFileError as error:
        assert error.code in ("E-REPORT-FIELD", "E-REPORT-VERSION")
        assert error.diagnostics[0].where.startswith("net.har") and error.diagnostics[0].need
    else:
        # JSON knows one zero, and a version that is the oldest need not be written.
        assert {k: v for k, v in report.as_dict().items() if k != "version"}.keys() <= damaged.keys()


@given(JSON)
def test_any_json_is_no_report(value: Any) -> None:
    for cls in REPORTS:
        with pytest.raises(InputFileError, match="E-REPORT"):
            cls.from_dict(value, "net.har")


def test_every_field_says_what_it_means_and_no_key_stands_twice() -> None:
    waiting: list[Any] = list(REPORTS)
    seen: set[Any] = set()
    while waiting:
        cls = waiting.pop()
        if cls in seen:
            continue
        seen.add(cls)
        assert cls.__doc__, cls
        for rule in field_rules(cls):
            assert rule.meaning and not rule.meaning.endswith("."), (cls, rule.name)
            waiting += [hint for hint in _inside(rule.hint) if is_dataclass(hint) and issubclass(hint, Record)]
        for keys in _keys(cls):
            assert len(keys) == len(set(keys)), cls
    assert len(seen) > 40


def _inside(hint: Any) -> list[Any]:
    return [hint, *(inner for argument in get_args(hint) for inner in _inside(argument))]


def _keys(cls: Any) -> list[list[str]]:
    """The keys of a record, for every way to fill its inline fields."""
    found: list[list[str]] = [[]]
    for rule in field_rules(cls):
        if rule.place is INLINE:
            options = get_args(rule.hint) or (rule.hint,)
            found = [keys + inner for keys in found for option in options for inner in _keys(option)]
        elif rule.place is None:
            found = [[*keys, rule.key] for keys in found]
    return found
