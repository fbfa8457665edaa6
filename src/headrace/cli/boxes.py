# SPDX-License-Identifier: Apache-2.0
"""Boxes for `run`: made of a detector's outputs, in the pixels of the pictures that they were found in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from headrace.cli.output import table
from headrace.data.geometry import in_picture, mask_in_picture, points_in_picture
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


@dataclass(frozen=True)
class PackedMask:
    """A mask in an eighth of its size.

    Attributes:
        corner: top and left in the frame.
        shape: height and width.
        bits: of its pixels, row by row.
    """

    corner: tuple[int, int]
    shape: tuple[int, int]
    bits: Array

    def inside(self) -> Array:
        """The mask itself: bool ``[height, width]``."""
        size = self.shape[0] * self.shape[1]
        return np.unpackbits(self.bits, count=size).reshape(self.shape).astype(bool)


@dataclass(frozen=True)
class Found:
    """Boxes of a frame; ``boxes``, ``turned`` and ``key_points`` are those of :class:`headrace.runtime.Objects`."""

    boxes: Array
    turned: Array | None = None
    key_points: Array | None = None
    masks: Sequence[PackedMask] | None = None


def found_in(postprocess: Postprocess, outputs: Mapping[str, Array]) -> list[Found]:
    """What post-processing finds in each frame; nothing of the outputs is held."""
    if not postprocess.configuration.further:
        return [Found(boxes) for boxes in postprocess.detect(outputs)]
    all_found: list[Found] = []
    for objects in postprocess.find(outputs):
        masks = None
        if objects.has_masks:
            drawn = (objects.mask(i) for i in range(len(objects)))
            masks = [PackedMask((m.top, m.left), m.inside.shape, np.packbits(m.inside)) for m in drawn]
        all_found.append(Found(objects.boxes, objects.turned, objects.key_points, masks))
    return all_found


def run_lengths(columns: Array, first: int, size: tuple[int, int]) -> dict[str, Any]:
    """A mask as lengths of runs, column by column, the first outside of it (the uncompressed RLE of COCO).

    Args:
        columns: bool ``[height, columns]`` of the mask; the others are empty.
        first: number of the first of them.
        size: height and width of the whole.
    """
    flat = columns.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat, prepend=False)) + first * size[0]
    edges = np.concatenate([[0], changes, [size[0] * size[1]]])
    # Where the last run ends in the middle, what follows is outside.
    if flat.size and flat[-1]:
        edges = np.insert(edges, -1, first * size[0] + flat.size)
    counts = np.diff(edges).tolist()
    return {"size": list(size), "counts": counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts}


def _corners(turned: Array) -> Array:
    """``[n, 4, 2]``: corners of ``[n, 5]`` turned boxes, one after the other around the box, in the frame's pixels."""
    x, y, width, height, angle = (turned[:, i].astype(np.float64) for i in range(5))
    along = np.stack([np.cos(angle), np.sin(angle)], -1) * (width / 2)[:, None]
    across = np.stack([-np.sin(angle), np.cos(angle)], -1) * (height / 2)[:, None]
    centre = np.stack([x, y], -1)
    return np.stack([centre - along - across, centre + along - across, centre + along + across,
                     centre - along + across], 1)  # fmt: skip


def _plain(points: Array, digits: int) -> list[list[float]]:
    return [[round(float(x), digits), round(float(y), digits)] for x, y in points]


def _further(found: Found, size: tuple[int, int], frame: tuple[int, int], how: str | None) -> list[dict[str, Any]]:
    """What each box has beside its sides."""
    out: list[dict[str, Any]] = [{} for _ in found.boxes]
    if found.turned is not None:
        corners = points_in_picture(_corners(found.turned), size, frame, how)
        for i, entry in enumerate(out):
            entry |= {"angle": round(float(found.turned[i, 4]), 6), "corners": _plain(corners[i], 3)}
    if found.key_points is not None:
        pixels = found.key_points[..., :2] * np.array([frame[1], frame[0]])
        points = points_in_picture(pixels, size, frame, how)
        for i, entry in enumerate(out):
            scores: list[float] = found.key_points[i, :, 2].tolist()
            entry["key_points"] = [[*xy, round(s, 6)] for xy, s in zip(_plain(points[i], 3), scores, strict=True)]
    if found.masks is not None:
        for entry, mask in zip(out, found.masks, strict=True):
            entry["mask"] = run_lengths(*mask_in_picture(mask.inside(), mask.corner, size, frame, how), size)
    return out


def box_facts(
    found: Sequence[Found], frame: tuple[int, int], pictures: Sequence[str], resize: str | None
) -> list[dict[str, Any]]:
    """Boxes of each frame as data.

    Args:
        found: for each frame what was found.
        frame: height and width of the network's input.
        pictures: files that the frames were made of; none for arrays.
        resize: how they were resized.

    Returns:
        For each frame its picture where there is one, its size (height, width), and of each box ``class``, ``score``
        and ``box``: left, top, right, bottom in pixels of the picture, or else of the frame. Where the head makes them,
        ``corners`` of turned boxes and their ``angle`` in the frame, ``key_points`` (x, y, score), and ``mask`` as
        :func:`run_lengths`, in the same pixels.
    """
    from headrace.data.pictures import picture_size

    facts: list[dict[str, Any]] = []
    for number, one in enumerate(found):
        picture = pictures[number] if number < len(pictures) else None
        size = frame if picture is None else picture_size(Path(picture))
        how = resize if picture is not None else None
        sides = in_picture(one.boxes[:, :4], size, frame, how)
        entries = [
            {"class": int(row[5]), "score": round(float(row[4]), 6), "box": [round(float(v), 3) for v in box], **more}
            for row, box, more in zip(one.boxes, sides, _further(one, size, frame, how), strict=True)
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
