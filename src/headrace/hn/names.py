# SPDX-License-Identifier: Apache-2.0
"""Which one of several things a name means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Thing = TypeVar("Thing")


def meant(name: str, things: Iterable[Thing], names_of: Callable[[Thing], Sequence[str]]) -> Thing | None:
    """The thing that a name means: the one of this full name, else the only one that has it among its other names.

    Args:
        name: as a user or a file gives it.
        things: layers, inputs, streams.
        names_of: the names of one of them, its full name first.
    """
    known = [(thing, names_of(thing)) for thing in things]
    for thing, names in known:
        if names[0] == name:
            return thing
    found = [thing for thing, names in known if name in names]
    return found[0] if len(found) == 1 else None
