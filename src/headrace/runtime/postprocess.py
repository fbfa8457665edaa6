# SPDX-License-Identifier: Apache-2.0
"""Boxes of a detector's outputs, made by the native library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.hn import nms
from headrace.hn.nms import NmsConfiguration
from headrace.numerics.array import Array
from headrace.runtime import native

#: Columns of a frame's boxes.
TOP, LEFT, BOTTOM, RIGHT, SCORE, CLASS = range(6)


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
        frames = {
            one.name: np.ascontiguousarray(outputs[one.name], np.float32).reshape(-1, *one.shape)
            for one in self.configuration.tensors
            if one.name in outputs
        }
        return native.call(self._where, self._native.detect, frames)

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


__all__ = ["BOTTOM", "CLASS", "LEFT", "RIGHT", "SCORE", "TOP", "Postprocess"]
