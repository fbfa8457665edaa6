# SPDX-License-Identifier: Apache-2.0
"""NMS configurations changed at random: each reader refuses one with its code, or takes it and is harmless."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from hypothesis import strategies as st

from headrace.errors import InputFileError
from headrace.hn import nms
from headrace.hn.nms import NmsConfiguration

#: Values that take the place of good ones.
WILD: tuple[Any, ...] = (
    0, -1, 1, 2**31, 2**53, 1e308, -0.5, 0.5, "", "x" * 300, None, True, [], {}, [1, 2, 3], 268435456, 1e-9,
)  # fmt: skip
_MOST_ELEMENTS = 1 << 20  # of the tensors that a test makes for what is left


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += _paths(one, (*path, key))
    return found


def mutated(data: st.DataObject, configuration: NmsConfiguration) -> dict[str, Any]:
    """The configuration as JSON values, of which one to three are gone or others."""
    raw: dict[str, Any] = copy.deepcopy(nms.to_dict(configuration))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_paths(raw)))
        holder: Any = raw
        for key in path[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()) and isinstance(holder, dict):
            holder.pop(path[-1])
        else:
            holder[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(WILD)))  # lists may be changed next
    return raw


def opened(native: Any, raw: dict[str, Any]) -> tuple[Any, NmsConfiguration | None] | None:
    """What the native library and Python make of it; None where the native library refuses it.

    The second is also None where it is refused, or where it reads too much for a test.
    """
    text = json.dumps(raw).encode()
    try:
        read = nms.loads(text, "hostile")
    except InputFileError as error:
        assert error.code == "E-NMS-CORRUPT"
        read = None
    try:
        made = native.Postprocess(text)
    except native.NativeError as error:
        assert error.status == 26 and error.problems[0].rule
        return None
    assert made.info["max_total"] <= nms.MAX_BOXES
    small = read is not None and sum(np.prod(t.shape) for t in read.tensors) < _MOST_ELEMENTS
    return made, read if small else None
