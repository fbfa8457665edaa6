# SPDX-License-Identifier: Apache-2.0
"""What becomes of a line of a script, of a command and of each of its values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from headrace.script.parser import Name, Value


class Fate(Enum):
    """What becomes of a command or a value, in plain words."""

    ACTS = "acts"
    #: asks for what is done without it, too
    ANYWAY = "is what happens anyway"
    #: steers another device or its compiler: means nothing here
    HINT = "hint without effect on this device"
    #: makes a result better or a run faster, and is not built: skipped with a warning
    LEFT_OUT = "not built yet, left out with a warning; the result is valid without it"
    #: changes what the network computes, or how precisely, and is not built: refused, never skipped
    REFUSED = "not built yet, refused"


ACTS, ANYWAY, HINT, LEFT_OUT, REFUSED = Fate
#: Of a command's parts the one that comes first here decides what is said of the whole.
SEVERITY = (REFUSED, LEFT_OUT, ACTS, ANYWAY, HINT)
OTHER = "*"  # any value that is not named
#: Value, as one word → what becomes of it.
Values = Mapping[str, Fate]

#: Words of ``policy``; True and False are the first two.
POLICIES = ("enabled", "disabled", "allowed")


def word_of(value: Value) -> str:
    """A value as one word: true and false as ``enabled`` and ``disabled``; "" for lists, sets and long texts."""
    if isinstance(value, bool):
        return POLICIES[0] if value else POLICIES[1]
    if value is None:
        return "none"
    if isinstance(value, int | float):
        return f"{value:g}" if abs(value) < 1e6 else ""
    return value.lower() if isinstance(value, Name) or (isinstance(value, str) and len(value) < 64) else ""
