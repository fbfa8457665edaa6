# SPDX-License-Identifier: Apache-2.0
"""The fixed order in which a controller that several stages share takes their steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.hn import Array
from headrace.timing.work import Work

SHARE = 1 << 20


def order_of(works: Sequence[Work]) -> Array:
    """The fixed order in which a controller takes the steps of a frame, as places in all stages' steps put together.

    Each step stands where the part of the frame that it needs ends: the largest share of rows of any operand, for what
    another of the stages makes the place of that step, never before the step in front of it. Ties go to the earlier
    stage. Shares count in ``2^20``\\ ths, rounded down; the device does the same.
    """
    made: dict[str, tuple[Array, Array]] = {}
    places: list[Array] = []
    for work in works:
        place = np.zeros(work.steps.count, np.int64)
        for plane, last in zip(work.operands, work.steps.last, strict=True):
            inside = made.get(plane.tensor)
            if inside is None:
                share = (last + 1) * SHARE // plane.height
            else:
                maker, rows = inside
                share = np.where(last < 0, 0, maker[rows][last])
            place = np.maximum(place, share)
        place = np.maximum.accumulate(place)
        places.append(place)
        made[work.output.tensor] = (place, work.steps.rows)
    return np.argsort(np.concatenate(places), kind="stable")
