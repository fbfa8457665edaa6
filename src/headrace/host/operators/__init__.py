# SPDX-License-Identifier: Apache-2.0
"""Operators of our own that run on the host in place of nodes of a file; one module here defines one.

A module registers a function with :func:`operator`; attributes and arrays come from files and are not trusted.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from headrace.errors import InputFileError, unknown_name
from headrace.hn import Array
from headrace.hn.registering import entering

#: Attributes and the arrays that it reads, to the arrays that it makes; the batch first, layouts as in the file.
Operator = Callable[[Mapping[str, Any], Sequence[Array]], Sequence[Array]]
_OPERATORS: dict[str, Operator] = {}


def operator(name: str) -> Callable[[Operator], Operator]:
    """Register a function as an operator."""
    return entering(_OPERATORS, [name])


@cache
def _load() -> None:
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")


def find_operator(name: str, where: str) -> Operator:
    """The operator of a name.

    Raises:
        InputFileError: there is none.
    """
    _load()
    found = _OPERATORS.get(name)
    if found is None:
        raise InputFileError(unknown_name("E-HOST-OPERATOR", "operator of the host", name, _OPERATORS, where))
    return found
