# SPDX-License-Identifier: Apache-2.0
"""The one mechanism of reports: a frozen dataclass whose fields are the keys of a JSON object (decision 30).

A field is declared with its type and its meaning, ``fps: Annotated[float, "frames per second"]``; from these follow
what is written, what is accepted when it is read back from a file that nobody vouches for, and the page
``docs/formats/reports.md``. The rules:

- the key is the field's name, without an underscore at its end (``pass_`` is ``"pass"``), in the order of declaration;
- a field with a default is left out of the JSON where it has that value, and may be absent; any other is always there;
- :data:`INLINE`: a record whose keys stand beside those around it;
- :data:`REST`: the keys that no other field has, with values of one type, or any (:data:`Json`).
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from headrace.errors import Diagnostic, InputFileError, unknown_name
from headrace.typeguards import is_list, is_mapping, is_number, is_object, is_sequence, is_text

#: A value that JSON can hold.
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_MOST_INTEGER = 1 << 63
_DEEPEST = 64
_T = TypeVar("_T")


class Place(Enum):
    """Where the keys of a field stand that are not under its own name."""

    INLINE = "inline"
    REST = "rest"


INLINE, REST = Place.INLINE, Place.REST


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[_T]) -> type[_T]:
    """Make a subclass of :class:`Record` a frozen dataclass with slots, whose fields are given by name."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one field stands in JSON.

    Attributes:
        name: of the attribute.
        key: in the JSON object; empty for fields that have a ``place``.
        hint: type of the value.
        meaning: for people.
        place: where its keys stand instead.
        required: it has no default.
        default: its default, where it has one.
    """

    name: str
    key: str
    hint: Any
    meaning: str
    place: Place | None
    required: bool
    default: Any


@cache
def field_rules(cls: type[Any]) -> tuple[FieldRule, ...]:
    """The rules of a record's fields, in order.

    Raises:
        TypeError: a field of a :class:`Record` does not say what it means.
    """
    hints = get_type_hints(cls, include_extras=True)
    found: list[FieldRule] = []
    for field in fields(cls):
        hint, marks = hints[field.name], ()
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
        meaning = next((mark for mark in marks if isinstance(mark, str)), "")
        if not meaning and issubclass(cls, Record):
            raise TypeError(f"{cls.__name__}.{field.name} does not say what it means")
        place = next((mark for mark in marks if isinstance(mark, Place)), None)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        key = "" if place else field.name.removesuffix("_")
        found.append(FieldRule(field.name, key, hint, meaning, place, default is MISSING, default))
    return tuple(found)


class Record:
    """Part of a report; see :func:`record`."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Json]:
        """The JSON object, its keys in the order of declaration."""
        data: dict[str, Json] = {}
        for rule in field_rules(type(self)):
            value = getattr(self, rule.name)
            if rule.place is not None:
                data |= cast("dict[str, Json]", _plain(value))
            elif rule.required or value != rule.default:
                data[rule.key] = _plain(value)
        return data

    @classmethod
    def from_dict(cls, data: object, where: str) -> Self:
        """The record of a JSON object.

        Args:
            data: the object.
            where: what it is of, for errors.

        Raises:
            InputFileError: ``E-REPORT-FIELD``, with the place in the object: a field is absent, unknown or of another
                type.
        """
        return _from_dict(cls, data, where, newer=False)


class Report(Record):
    """A whole report: a record that has versions.

    A new field raises ``VERSION`` and has a default, so that older reports open. A report of a newer version opens too:
    what is unknown in it is left out of the record (a HAR keeps the JSON itself), and what is known must be as it was.
    In one of this version or an older one an unknown field is an error. The first version is not written.
    """

    __slots__ = ()
    VERSION: ClassVar[int] = 1
    VERSION_KEY: ClassVar[str] = "version"
    #: The version that a report without one has.
    UNWRITTEN: ClassVar[int] = 1

    def as_dict(self) -> dict[str, Json]:
        version: dict[str, Json] = {} if self.VERSION == self.UNWRITTEN else {self.VERSION_KEY: self.VERSION}
        return version | super().as_dict()

    @classmethod
    def from_dict(cls, data: object, where: str) -> Self:
        """As :meth:`Record.from_dict`.

        Raises:
            InputFileError: also ``E-REPORT-VERSION``, where the version is no version.
        """
        try:
            data, newer = _without_version(cls, data)
        except _FieldError as error:
            raise InputFileError(Diagnostic("E-REPORT-VERSION", where, error.rule, error.got, error.need)) from None
        return _from_dict(cls, data, where, newer)


# --- writing ---------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Json:
    if isinstance(value, Record | Diagnostic):
        return value.as_dict()
    if is_sequence(value):
        return [_plain(item) for item in value]
    if is_mapping(value):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


# --- reading ---------------------------------------------------------------------------------------------------------


class _FieldError(Exception):
    """A rule that a value breaks; ``path`` grows from the inside outwards."""

    def __init__(self, rule: str, got: object, need: object, levers: tuple[str, ...] = ()) -> None:
        super().__init__(rule)
        self.rule, self.got, self.need, self.levers = rule, str(got)[:200], str(need), levers
        self.path: list[str] = []


def _without_version(cls: type[Report], data: object) -> tuple[object, bool]:
    """A report's object without its version, and whether that is newer than what is known here."""
    if not is_object(data):
        return data, False
    rest = dict(data)
    version = rest.pop(cls.VERSION_KEY, cls.UNWRITTEN)
    if type(version) is not int or version < 1:
        raise _FieldError("the report's version is not valid", repr(version)[:60], f"1 … {cls.VERSION}")
    return rest, version > cls.VERSION


def _from_dict(cls: type[_T], data: object, where: str, newer: bool) -> _T:
    try:
        return _read_record(cls, data, newer)
    except _FieldError as error:
        place = "".join(reversed(error.path)).removeprefix(".")
        where = f"{where}, {place}" if place else where
        raise InputFileError(
            Diagnostic("E-REPORT-FIELD", where, error.rule, error.got, error.need, error.levers)
        ) from None


def _read_nested(cls: type[Any], value: object, newer: bool) -> Any:
    """A record in a record; one that is a report has a version of its own."""
    if issubclass(cls, Report):
        value, newest = _without_version(cls, value)
        newer = newer or newest
    return _read_record(cls, value, newer)


def _read_record(cls: type[_T], data: object, newer: bool) -> _T:
    values, known = _read_fields(cls, _object_of(data), newer)
    rest = [rule for rule in field_rules(cls) if rule.place is REST]
    unknown = {key: value for key, value in _object_of(data).items() if key not in known}
    for rule in rest:
        values[rule.name] = _read_rest(rule.hint, unknown, newer)
    if unknown and not rest and not newer:
        found = unknown_name("E-REPORT-FIELD", "field", next(iter(unknown)), known)
        raise _FieldError(found.rule, found.got, found.need, found.levers)
    return cls(**values)


def _read_rest(hint: Any, values: dict[str, object], newer: bool) -> dict[str, Any]:
    """Values of one type, or, where the hint says :data:`Json`, any."""
    of_values = get_args(hint)[1]
    if get_origin(of_values) not in (Union, types.UnionType):
        return {key: _at(f".{key[:80]}", of_values, value, newer) for key, value in values.items()}
    _check_json(values, 0)
    return values


def _object_of(data: object) -> dict[str, object]:
    if not is_object(data) or not all(is_text(key) for key in data):
        raise _FieldError("the value is not an object", type(data).__name__, "an object")
    return data


def _read_fields(cls: type[Any], data: dict[str, object], newer: bool) -> tuple[dict[str, Any], set[str]]:
    """The values of a record's fields (without the rest), and all keys that they have."""
    values: dict[str, Any] = {}
    known: set[str] = set()
    for rule in field_rules(cls):
        if rule.place is INLINE:
            inner = _alternative(rule.hint, data)
            found, keys = _read_fields(inner, data, newer)
            values[rule.name] = inner(**found)
            known |= keys
        elif rule.place is None:
            known.add(rule.key)
            if rule.key in data:
                try:
                    values[rule.name] = _read(rule.hint, data[rule.key], newer)
                except _FieldError as error:
                    error.path.append(f".{rule.key}")
                    raise
            elif rule.required:
                raise _FieldError(f"the field {rule.key!r} is absent", "nothing", "a value")
    return values, known


@cache
def _keys(cls: type[Any]) -> frozenset[str]:
    """The keys that an object must have to be this record."""
    found: set[str] = set()
    for rule in field_rules(cls):
        if rule.place is INLINE:
            found |= _keys(_records(rule.hint)[0])
        elif rule.place is None and rule.required:
            found.add(rule.key)
    return frozenset(found)


def _records(hint: Any) -> list[type[Any]]:
    """The record of a hint, or those of a union."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [cast("type[Any]", option) for option in options if is_dataclass(option)]


def _alternative(hint: Any, data: dict[str, object]) -> type[Any]:
    """The record that an object is of: the first of a union whose required keys it has, else the last."""
    records = _records(hint)
    return next((option for option in records if _keys(option) <= data.keys()), records[-1])


def _read_union(hint: Any, value: object, newer: bool) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    for option in options:
        if is_dataclass(option):
            if is_object(value):
                return _read_nested(_alternative(hint, value), value, newer)
        elif _could_be(option, value):
            return _read(option, value, newer)
    names = " or ".join(dict.fromkeys(type_text(option) for option in options))
    raise _FieldError("the value has the wrong type", type(value).__name__, names)


def _could_be(option: Any, value: object) -> bool:
    origin = get_origin(option)
    if origin is tuple:
        return is_sequence(value)
    if origin is not None and issubclass(origin, Mapping):
        return is_object(value)
    if option is float:
        return is_number(value)
    return type(value) is option


def _read(hint: Any, value: object, newer: bool) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _read_union(hint, value, newer)
    if is_dataclass(hint):
        return _read_nested(cast("type[Any]", hint), value, newer)
    if origin is tuple:
        return _read_tuple(get_args(hint), value, newer)
    if origin is Literal:
        if value not in get_args(hint):
            raise _FieldError("the value is none of those that there are", repr(value), type_text(hint))
        return value
    if origin is not None and issubclass(origin, Mapping):
        return {key: _at(f"[{key[:80]!r}]", get_args(hint)[1], item, newer) for key, item in _object_of(value).items()}
    return _scalar(hint, value)


def _read_tuple(arguments: tuple[Any, ...], value: object, newer: bool) -> tuple[Any, ...]:
    if not is_sequence(value):
        raise _FieldError("the value is not a list", type(value).__name__, "a list")
    items = value
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple([_at(f"[{i}]", arguments[0], item, newer) for i, item in enumerate(items)])
    if len(items) != len(arguments):
        raise _FieldError("the list has the wrong length", len(items), len(arguments))
    return tuple(_at(f"[{i}]", a, item, newer) for i, (a, item) in enumerate(zip(arguments, items, strict=True)))


def _at(place: str, hint: Any, value: object, newer: bool) -> Any:
    try:
        return _read(hint, value, newer)
    except _FieldError as error:
        error.path.append(place)
        raise


def _scalar(hint: Any, value: object) -> Any:
    if not _could_be(hint, value):
        raise _FieldError("the value has the wrong type", type(value).__name__, type_text(hint))
    if isinstance(value, int) and abs(value) >= _MOST_INTEGER:
        raise _FieldError("the number is too large", str(value)[:40], "below 2^63")
    if isinstance(value, float) and not math.isfinite(value):
        raise _FieldError("the number is not finite", value, "a finite number")
    return value  # an int stays one where a float may stand, so that it is written as it was


def _check_json(value: object, depth: int) -> None:
    if depth > _DEEPEST:
        raise _FieldError("the value is nested too deeply", f"more than {_DEEPEST} levels", f"≤ {_DEEPEST} levels")
    if is_object(value):
        for item in _object_of(value).values():
            _check_json(item, depth + 1)
    elif is_list(value):
        for item in value:
            _check_json(item, depth + 1)
    elif value is not None and type(value) is not bool:
        _scalar(float if is_number(value) else str, value)


# --- for people ------------------------------------------------------------------------------------------------------

_WORDS = {int: "integer", float: "number", str: "text", bool: "boolean", type(None): "null"}


def type_text(hint: Any) -> str:
    """A type in the words of JSON: ``list of integers``, ``number or null``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(f'"{argument}"' for argument in arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {type_text(arguments[0])}"
        return f"list of {len(arguments)} × {type_text(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {type_text(arguments[1])}"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))
