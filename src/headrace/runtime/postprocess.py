# SPDX-License-Identifier: Apache-2.0
"""Boxes of a detector's outputs, made by the native library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from headrace.hn import nms
from headrace.hn.nms import NmsConfiguration
from headrace.numerics.array import Array
from headrace.runtime import native

if TYPE_CHECKING:
    from headrace.runtime import _native

#: Columns of a frame's boxes.
TOP, LEFT, BOTTOM, RIGHT, SCORE, CLASS = range(6)


@dataclass(frozen=True)
class Mask:
    """Which pixels of a box are of its object.

    Attributes:
        top, left: first pixel of the network's input that the mask is of.
        inside: bool ``[height, width]``; outside of it the mask is empty.
    """

    top: int
    left: int
    inside: Array


class Objects:
    """Boxes of a frame with what else a head says of them.

    Attributes:
        boxes: float32 ``[boxes, 6]``, as :meth:`Postprocess.detect` gives them; of a turned box the upright one
            about it.
        turned: float32 ``[boxes, 5]``: x, y, width, height in pixels of the network's input, and the angle in radians,
            0 to π/2, from the x axis to the y axis, in which ``width`` points; None where boxes have no angle.
        key_points: float32 ``[boxes, points, 3]``: x, y as parts of the frame, score; None where there are none.
        has_masks: whether :meth:`mask` gives masks.
    """

    def __init__(self, found: _native.Objects, frame: int, where: str, has_masks: bool) -> None:
        self._found, self._frame, self._where = found, frame, where
        self.boxes: Array = found.boxes(frame)
        self.turned: Array | None = found.turned(frame)
        self.key_points: Array | None = found.key_points(frame)
        self.has_masks = has_masks

    def __len__(self) -> int:
        return len(self.boxes)

    def mask(self, index: int) -> Mask:
        """The mask of a box, drawn when it is asked for.

        Raises:
            DeviceError: there is no such box, or the head has no masks.
        """
        top, left, inside = native.call(self._where, self._found.mask, self._frame, index)
        return Mask(top, left, inside.astype(bool))


class Postprocess:
    """Decoding, threshold and suppression, ready to run. May be used from several threads.

    Args:
        configuration: what to do; checked again by the native library.

    Raises:
        DeviceError: a rule is broken, or the native library is not there.
    """

    def __init__(self, configuration: NmsConfiguration) -> None:
        self.configuration = configuration
        self._where = f"boxes of {configuration.family}"
        self._native = native.call(self._where, native.native_module().Postprocess, nms.dumps(configuration))

    def detect(self, outputs: Mapping[str, Array]) -> list[Array]:
        """Boxes of each frame, best first.

        Args:
            outputs: real values by name, a batch of frames each: every tensor of the configuration.

        Returns:
            float32 ``[boxes, 6]`` for each frame: top, left, bottom, right as parts of the picture, score, class.

        Raises:
            DeviceError: a tensor is missing or has another shape.
        """
        return native.call(self._where, self._native.detect, self._frames(outputs))

    def find(self, outputs: Mapping[str, Array]) -> list[Objects]:
        """The same boxes of each frame with masks, key points and angles.

        Args:
            outputs: as of :meth:`detect`.

        Raises:
            DeviceError: a tensor is missing or has another shape.
        """
        frames = self._frames(outputs)
        found = native.call(self._where, self._native.find, frames)
        count = len(next(iter(frames.values())))
        make = partial(Objects, found, where=self._where, has_masks=self.configuration.masks is not None)
        return [make(i) for i in range(count)]

    def _frames(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        return {
            one.name: np.ascontiguousarray(outputs[one.name], np.float32).reshape(-1, *one.shape)
            for one in self.configuration.tensors
            if one.name in outputs
        }

    def by_class(self, boxes: Sequence[Array]) -> Array:
        """Boxes of frames in one array: float32 ``[frames, classes, 5, max per class]``, (top, left, bottom, right,
        score) of each, zeros where there are no more.
        """
        c = self.configuration
        out = np.zeros((len(boxes), c.classes, 5, c.per_class), np.float32)
        for frame, found in enumerate(boxes):
            for kind in np.unique(found[:, CLASS].astype(int)):
                rows = found[found[:, CLASS] == kind][: c.per_class]
                out[frame, kind, :, : len(rows)] = rows[:, :CLASS].T
        return out


__all__ = ["BOTTOM", "CLASS", "LEFT", "RIGHT", "SCORE", "TOP", "Mask", "Objects", "Postprocess"]
