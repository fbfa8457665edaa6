# SPDX-License-Identifier: Apache-2.0
"""Boxes for `run`: made of a detector's outputs, in the pixels of the pictures that they were found in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from headrace.cli.output import table
from headrace.data.geometry import in_picture
from headrace.errors import Diagnostic, UsageError
from headrace.hn.outputs import FileKind, Outputs
from headrace.numerics.array import Array

if TYPE_CHECKING:
    from headrace.runtime import Postprocess

FILE = "boxes.json"
_BEGINS = b'{\n "headrace": "boxes"'
_SHOWN = 10


def _recognizes(handle: BinaryIO) -> bool:
    return handle.read(len(_BEGINS)) == _BEGINS


BOXES = FileKind("boxes", (".json",), _recognizes)


def with_thresholds(found: Postprocess | None, score: float | None, iou: float | None) -> Postprocess | None:
    """The same with thresholds of the command line.

    Raises:
        UsageError: a threshold is given for a network without boxes.
    """
    from dataclasses import replace

    from headrace.runtime import Postprocess

    if score is None and iou is None:
        return found
    if found is None:
        rule, levers = "the option is about boxes, and none are made", ("leave it out",)
        where = "--score-threshold" if score is not None else "--iou-threshold"
        need = "a HEF with a detection head, without --raw-outputs and --quantized"
        raise UsageError(Diagnostic("E-CLI-CONTRADICTION", where, rule, "", need, levers))
    c = found.configuration
    changed = replace(
        c,
        score_threshold=c.score_threshold if score is None else score,
        iou_threshold=c.iou_threshold if iou is None else iou,
    )
    return Postprocess(changed)


class BoxFile:
    """``boxes.json`` in a folder.

    Raises:
        UsageError, InputFileError: it cannot stand there; nothing has been run yet.
    """

    def __init__(self, folder: Path, inputs: Sequence[str | Path], force: bool) -> None:
        self._outputs = Outputs(inputs, force)
        self._path = self._outputs.add("--output-dir", folder / FILE, BOXES, makes_folder=True)
        self._outputs.check()

    def write(self, frames: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Write what :func:`box_facts` gave."""
        text = json.dumps({"headrace": "boxes", "frames": list(frames)}, indent=1, ensure_ascii=False, allow_nan=False)
        self._outputs.write({self._path: (text + "\n").encode()})
        return [self._path]


def box_facts(
    found: Sequence[Array], frame: tuple[int, int], pictures: Sequence[str], resize: str | None
) -> list[dict[str, Any]]:
    """Boxes of each frame as data.

    Args:
        found: for each frame ``[boxes, 6]``: top, left, bottom, right as parts of the frame, score, class.
        frame: height and width of the network's input.
        pictures: files that the frames were made of; none for arrays.
        resize: how they were resized.

    Returns:
        For each frame its picture where there is one, its size (height, width), and of each box ``class``, ``score``
        and ``box``: left, top, right, bottom in pixels of the picture, or else of the frame.
    """
    from headrace.data.pictures import picture_size

    facts: list[dict[str, Any]] = []
    for number, boxes in enumerate(found):
        picture = pictures[number] if number < len(pictures) else None
        size = frame if picture is None else picture_size(Path(picture))
        sides = in_picture(boxes[:, :4], size, frame, resize if picture is not None else None)
        entries = [
            {"class": int(row[5]), "score": round(float(row[4]), 6), "box": [round(float(v), 3) for v in box]}
            for row, box in zip(boxes, sides, strict=True)
        ]
        facts.append({**({} if picture is None else {"picture": picture}), "size": list(size), "boxes": entries})
    return facts


def describe_boxes(frames: Sequence[Mapping[str, Any]]) -> str:
    """The first boxes as a table, for people."""
    rows = [
        (
            str(frame.get("picture", number)),
            str(box["class"]),
            f"{box['score']:.3f}",
            "  ".join(f"{v:.1f}" for v in box["box"]),
        )
        for number, frame in enumerate(frames)
        for box in frame["boxes"]
    ]
    if not rows:
        return "no boxes"
    shown = table(rows[:_SHOWN], ("frame", "class", "score", "left  top  right  bottom"))
    return shown + (f"\n… {len(rows) - _SHOWN} more boxes" if len(rows) > _SHOWN else "")
