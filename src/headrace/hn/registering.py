# SPDX-License-Identifier: Apache-2.0
"""Tables of functions by name that modules enter themselves into."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

F = TypeVar("F")


def entering(table: dict[str, F], names: Iterable[str]) -> Callable[[F], F]:
    """A decorator that enters what it decorates into ``table``, once for each of ``names``."""

    def enter(function: F) -> F:
        table.update(dict.fromkeys(names, function))
        return function

    return enter
