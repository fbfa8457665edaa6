# SPDX-License-Identifier: Apache-2.0
"""Type guards: what a value from a file, a caller or an untyped library is; of arrays see ``numerics.array``.

A guard looks at the value itself, so it also holds where an annotation promises something and the caller runs no type
checker. Unlike ``isinstance`` of a bare ``dict``, ``list`` or ``ndarray`` it leaves no unknown type behind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeGuard


def is_integer(value: object) -> TypeGuard[int]:
    """A Python integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """A Python integer or float; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_text(value: object) -> TypeGuard[str]:
    """A ``str``."""
    return isinstance(value, str)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """An object as JSON has it: a ``dict`` (whose keys JSON makes text)."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """A ``list`` of anything."""
    return isinstance(value, list)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """A ``list`` or ``tuple`` of anything."""
    return isinstance(value, list | tuple)


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    """A ``tuple`` of anything."""
    return isinstance(value, tuple)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Any mapping."""
    return isinstance(value, Mapping)


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """A path as text or as an object."""
    return isinstance(value, str | os.PathLike)
