# SPDX-License-Identifier: Apache-2.0
"""Limits and suppression that a file states itself, in the configuration."""

from __future__ import annotations

from dataclasses import replace

from headrace.frontends.heads.tail import Tail
from headrace.frontends.selection import Selection, selection_of
from headrace.hn.nms import MAX_BOXES, MAX_PER_CLASS, NmsConfiguration


def stated(tail: Tail) -> Selection | None:
    """How the file selects, where one operator says so."""
    found = [one for node in tail.nodes if (one := selection_of(node)) is not None]
    return found[0] if len(found) == 1 else None


def selected(tail: Tail, configuration: NmsConfiguration) -> NmsConfiguration:
    """The configuration with the file's own limits; the same where the file states none."""
    found = stated(tail)
    if found is None or found.per_box != 1 or configuration.classes != found.classes:
        return configuration
    return replace(
        configuration,
        score_threshold=min(max(found.score_threshold, 0.0), 1.0),
        iou_threshold=found.iou_threshold,
        in_all=min(found.in_all, MAX_BOXES),
        per_class=min(found.in_all if found.per_class is None else found.per_class, MAX_PER_CLASS),
        suppression="class" if found.apart else "best",
    )
