# SPDX-License-Identifier: Apache-2.0
"""Operations from JSON attributes and back: names, types and rules are checked once, when a file is read."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from headrace.errors import Diagnostic, InputFileError, unknown_name
from headrace.typeguards import is_object, is_sequence, is_text, is_tuple

#: The largest integer that an attribute may be.
MAX_INTEGER = (1 << 31) - 1


def _bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-LAYER-ATTRIBUTE", where, rule, str(got)[:200], str(need)))


def _convert(value: Any, hint: Any, where: str, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), where, name)
    if origin is tuple:
        if not is_sequence(value):
            raise _bad(where, f"attribute {name!r} is not a list", type(value).__name__, "a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(v, arguments[0], where, name) for v in value)
        if len(value) != len(arguments):
            raise _bad(where, f"attribute {name!r} has the wrong length", len(value), len(arguments))
        return tuple(_convert(v, a, where, name) for v, a in zip(value, arguments, strict=True))
    if origin is dict:
        if not is_object(value) or not all(is_text(k) for k in value):
            raise _bad(where, f"attribute {name!r} is not an object", type(value).__name__, "an object")
        return {k: _convert(v, arguments[1], where, name) for k, v in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise _bad(where, f"attribute {name!r} is too large", value, "below 2^31")
        return value
    raise _bad(where, f"attribute {name!r} has the wrong type", type(value).__name__, getattr(hint, "__name__", hint))


@cache
def _type_hints(cls: type[Any]) -> dict[str, Any]:
    # get_type_hints evaluates annotation strings: half of a parse when asked for each layer.
    return get_type_hints(cls)


def read_attributes(cls: type[Any], raw: Mapping[str, Any], where: str) -> Any:
    """Build a frozen attribute dataclass from JSON values; checks names, types and its own rules."""
    hints = _type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    for name in raw:
        if name not in known:
            raise InputFileError(unknown_name("E-LAYER-ATTRIBUTE", "attribute", name, known, where))
    values: dict[str, Any] = {}
    for name, definition in known.items():
        if name in raw:
            values[name] = _convert(raw[name], hints[name], where, name)
        elif definition.default is MISSING and definition.default_factory is MISSING:
            raise _bad(where, f"attribute {name!r} is absent", "nothing", "a value")
    try:
        return cls(**values)
    except AttributeRuleError as rule:
        raise _bad(where, rule.rule, rule.got, rule.need) from None


class AttributeRuleError(Exception):
    """Raised by an attribute class's ``__post_init__``: a rule, what was got, what is needed."""

    def __init__(self, rule: str, got: object, need: object) -> None:
        super().__init__(rule)
        self.rule, self.got, self.need = rule, got, need


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if is_tuple(value) else value


def attribute_values(operation: Any) -> dict[str, Any]:
    """The JSON values of an operation's fields, all of them."""
    return {f.name: _plain(getattr(operation, f.name)) for f in fields(operation)}


def write_attributes(operation: Any) -> dict[str, Any]:
    """The JSON values of an operation's fields; those that have their default are left out."""
    out: dict[str, Any] = {}
    for f in fields(operation):
        value = getattr(operation, f.name)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if (f.default is MISSING and f.default_factory is MISSING) or value != default:
            out[f.name] = _plain(value)
    return out
