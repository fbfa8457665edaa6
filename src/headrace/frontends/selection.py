# SPDX-License-Identifier: Apache-2.0
"""How a file itself selects boxes, where one of its operators says so: noted on a node that stands for the operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from headrace.frontends.graph import marks


@dataclass(frozen=True)
class Selection:
    """What an operator that selects boxes is told.

    Attributes:
        classes: scores of a box that are of classes.
        first: scores before these, of the background.
        score_threshold, iou_threshold: limits.
        in_all: boxes of a frame.
        per_class: boxes of a class; None: as many as of a frame.
        apart: classes are suppressed apart; else a box has its best class only, and suppression is of all boxes.
        per_box: classes that a box may have.
    """

    classes: int
    first: int
    score_threshold: float
    iou_threshold: float
    in_all: int
    per_class: int | None = None
    apart: bool = True
    per_box: int = 1


def note_selection(value: ir.Value, selection: Selection) -> None:
    """Note it on the node that makes a value."""
    node = value.producer()
    if node is not None:
        marks(node)["selection"] = selection


def selection_of(node: ir.Node) -> Selection | None:
    """What was noted on a node."""
    found = marks(node).get("selection")
    return found if isinstance(found, Selection) else None
