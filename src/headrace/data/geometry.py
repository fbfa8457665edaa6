# SPDX-License-Identifier: Apache-2.0
"""Where a picture lies in a frame, and boxes of a frame in the pixels of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.numerics.array import Array


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a frame, in the frame's pixels; parts of it may be outside."""

    left: float
    top: float
    width: float
    height: float


def placed(picture: tuple[int, int], frame: tuple[int, int], how: str | None) -> Placement:
    """Where a picture lies in a frame after it was resized.

    Args:
        picture, frame: height and width.
        how: one of :data:`headrace.data.pictures.RESIZES`; None: they have the same size.
    """
    height, width = frame
    if how in ("letterbox", "letterbox-corner"):
        inner = letterbox_size(picture, frame)
        if how == "letterbox-corner":
            return Placement(0, 0, inner[1], inner[0])
        return Placement((width - inner[1]) // 2, (height - inner[0]) // 2, inner[1], inner[0])
    if how == "crop":
        scale = max(width / picture[1], height / picture[0])
        whole = picture[1] * scale, picture[0] * scale
        return Placement((width - whole[0]) / 2, (height - whole[1]) / 2, whole[0], whole[1])
    return Placement(0, 0, width, height)


def letterbox_size(picture: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a whole picture gets inside a frame."""
    scale = min(frame[1] / picture[1], frame[0] / picture[0])
    return min(frame[0], max(1, round(picture[0] * scale))), min(frame[1], max(1, round(picture[1] * scale)))


def in_picture(boxes: Array, picture: tuple[int, int], frame: tuple[int, int], how: str | None) -> Array:
    """Boxes of a frame in the pixels of the picture that it was made of.

    Args:
        boxes: ``[n, 4]``: top, left, bottom, right as parts of the frame.
        picture, frame: height and width.
        how: see :func:`placed`.

    Returns:
        float64 ``[n, 4]``: left, top, right, bottom, none of it outside of the picture.
    """
    sides = boxes[:, [1, 0, 3, 2]].astype(np.float64) * np.array([frame[1], frame[0]] * 2)
    inside = points_in_picture(sides.reshape(-1, 2, 2), picture, frame, how).reshape(-1, 4)
    return np.clip(inside, 0, np.array([picture[1], picture[0]] * 2))


def points_in_picture(points: Array, picture: tuple[int, int], frame: tuple[int, int], how: str | None) -> Array:
    """Points of a frame in the pixels of the picture that it was made of.

    Args:
        points: ``[…, 2]``: x, y in the frame's pixels.
        picture, frame: height and width.
        how: see :func:`placed`.

    Returns:
        float64 ``[…, 2]``: x, y; outside of the picture where they were outside.
    """
    place = placed(picture, frame, how)
    parts = (points.astype(np.float64) - [place.left, place.top]) / [place.width, place.height]
    return parts * [picture[1], picture[0]]


def mask_in_picture(
    inside: Array, corner: tuple[int, int], picture: tuple[int, int], frame: tuple[int, int], how: str | None
) -> tuple[Array, int]:
    """A mask of a frame in the pixels of the picture that it was made of, by the nearest pixel.

    Args:
        inside: bool ``[height, width]``, a part of the frame.
        corner: top and left of this part.
        picture, frame: height and width.
        how: see :func:`placed`.

    Returns:
        bool ``[height of the picture, columns]``: columns of the picture without those beside the mask, and the first.
    """
    place = placed(picture, frame, how)
    down = np.floor(place.top + (np.arange(picture[0]) + 0.5) * (place.height / picture[0])).astype(int) - corner[0]
    right = np.floor(place.left + (np.arange(picture[1]) + 0.5) * (place.width / picture[1])).astype(int) - corner[1]
    rows = np.flatnonzero((down >= 0) & (down < inside.shape[0]))
    columns = np.flatnonzero((right >= 0) & (right < inside.shape[1]))
    out = np.zeros((picture[0], len(columns)), bool)
    if rows.size and columns.size:
        out[rows] = inside[down[rows]][:, right[columns]]
    return out, int(columns[0]) if columns.size else 0
