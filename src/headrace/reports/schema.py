# SPDX-License-Identifier: Apache-2.0
"""The form of reports for other languages: JSON Schema (2020-12), and types of TypeScript, of the same declarations."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from inspect import getdoc
from typing import Any, Literal, Union, cast, get_args, get_origin

from headrace.reports.record import INLINE, REST, FieldRule, Json, Record, Report, field_rules

_SCALARS = {int: ("integer", "number"), float: ("number", "number"), str: ("string", "string"),
            bool: ("boolean", "boolean"), type(None): ("null", "null")}  # fmt: skip


def records_of(roots: Iterable[type[Record]]) -> list[type[Record]]:
    """The records that ``roots`` are made of, themselves included, each once, in the order in which they are met."""
    found: dict[type[Record], None] = {}

    def visit(cls: type[Record]) -> None:
        if cls not in found:
            found[cls] = None
            for rule in field_rules(cls):
                for inner in records_in(rule.hint):
                    visit(inner)

    for root in roots:
        visit(root)
    return list(found)


def json_schema(root: type[Record]) -> dict[str, Json]:
    """The schema of the JSON that ``root.as_dict()`` gives."""
    records = records_of([root])
    beside = {found for cls in records for found in _beside(cls)}
    definitions: dict[str, Json] = {cls.__name__: _object_schema(cls, cls not in beside) for cls in records}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/$defs/{root.__name__}",
        "$defs": definitions,
    }


def typescript(roots: Iterable[type[Record]]) -> str:
    """Declarations of every record, with the meaning of each field."""
    head = "export type Json = boolean | number | string | null | Json[] | { [key: string]: Json };\n"
    return "\n".join([head, *(_declaration(cls) for cls in records_of(roots))])


def records_in(hint: Any) -> list[type[Record]]:
    """The records that a type is made of."""
    if is_dataclass(hint):
        return [cast("type[Record]", hint)] if isinstance(hint, type) and issubclass(hint, Record) else []
    return [found for argument in get_args(hint) for found in records_in(argument)]


def _version(cls: type[Record]) -> str | None:
    return cls.VERSION_KEY if issubclass(cls, Report) and cls.VERSION != cls.UNWRITTEN else None


def _parts(cls: type[Record]) -> tuple[list[FieldRule], list[FieldRule], FieldRule | None]:
    """Fields with keys of their own; those whose keys stand beside them; the one that takes all others."""
    rules = field_rules(cls)
    rest = next((rule for rule in rules if rule.place is REST), None)
    return [r for r in rules if r.place is None], [r for r in rules if r.place is INLINE], rest


def _is_json(hint: Any) -> bool:
    """Whether any JSON may stand there: :data:`~headrace.reports.record.Json` is the one type with lists in it."""
    return any(get_origin(argument) is list for argument in get_args(hint))


# --- JSON Schema -----------------------------------------------------------------------------------------------------


def _object_schema(cls: type[Record], alone: bool) -> dict[str, Json]:
    """``alone``: no other record's keys stand beside its own, so that there are no others."""
    own, inline, rest = _parts(cls)
    properties: dict[str, Json] = {}
    version = _version(cls)
    if version is not None:
        properties[version] = {"type": "integer"}
    for rule in own:
        properties[rule.key] = {**_schema(rule.hint), "description": rule.meaning}
    required: list[Json] = [rule.key for rule in own if rule.required]
    schema: dict[str, Json] = {"type": "object", "properties": properties, "required": required}
    if inline:
        schema["allOf"] = [_schema(rule.hint) for rule in inline]
    if rest is not None:
        schema["additionalProperties"] = _schema(get_args(rest.hint)[1])
    elif alone:
        schema["unevaluatedProperties"] = False
    return schema


def _beside(cls: type[Record]) -> list[type[Record]]:
    """Records whose keys stand beside those of ``cls``."""
    return [found for rule in _parts(cls)[1] for found in records_in(rule.hint)]


def _schema(hint: Any) -> dict[str, Json]:
    origin, arguments = get_origin(hint), get_args(hint)
    if _is_json(hint):
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": _schema(arguments[0])}
        count = len(arguments)
        return {"type": "array", "prefixItems": [_schema(a) for a in arguments], "minItems": count, "maxItems": count}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if is_dataclass(hint):
        return {"$ref": f"#/$defs/{cast('type[Any]', hint).__name__}"}
    return {"type": _SCALARS[hint][0]}


# --- TypeScript ------------------------------------------------------------------------------------------------------


def _declaration(cls: type[Record]) -> str:
    own, inline, rest = _parts(cls)
    lines = [f"/** {(getdoc(cls) or '').splitlines()[0]} */"]
    beside = "".join(f" & ({_type(rule.hint)})" for rule in inline)
    if rest is not None:
        beside += f" & {{ [key: string]: {_type(get_args(rest.hint)[1])} }}"
    lines.append(f"export type {cls.__name__} = {{")
    version = _version(cls)
    if version is not None:
        lines.append(f"  {version}: number;")
    for rule in own:
        lines.append(f"  /** {rule.meaning.replace('*/', '* /')} */")
        lines.append(f"  {rule.key}{'' if rule.required else '?'}: {_type(rule.hint)};")
    lines.append(f"}}{beside};\n")
    return "\n".join(lines)


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if _is_json(hint):
        return "Json"
    if origin in (Union, types.UnionType):
        return " | ".join(_type(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(f'"{argument}"' for argument in arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"readonly ({_type(arguments[0])})[]"
        return f"readonly [{', '.join(_type(argument) for argument in arguments)}]"
    if origin is not None and issubclass(origin, Mapping):
        return f"{{ readonly [key: string]: {_type(arguments[1])} }}"
    if is_dataclass(hint):
        return cast("type[Any]", hint).__name__
    return _SCALARS[hint][1]
