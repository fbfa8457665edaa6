# SPDX-License-Identifier: Apache-2.0
"""Raw head outputs of YOLOX and PicoDet into boxes in the pixels of the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detection.boxes import Detections, candidates, suppress

Array = np.ndarray[Any, Any]

LEAST_SCORE = 0.01
CANDIDATES = 1000
MOST = 100


def grid(size: int, strides: Sequence[int]) -> tuple[Array, Array]:
    """Cell positions (x, y) ``[n, 2]`` and stride ``[n, 1]`` of every cell of every level, row by row."""
    cells, steps = [], []
    for stride in strides:
        side = -(-size // stride)
        y, x = np.divmod(np.arange(side * side), side)
        cells.append(np.stack([x, y], axis=1))
        steps.append(np.full((side * side, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(steps).astype(np.float64)


def yolox(output: Array, size: int = 416, threshold: float = 0.65) -> Detections:
    """YOLOX: ``[cells, 5 + classes]`` as x, y offsets, log width and height, objectness and class probabilities."""
    cells, steps = grid(size, (8, 16, 32))
    if output.shape[0] != len(cells):
        raise ValueError(f"{output.shape[0]} rows, expected {len(cells)} cells")
    raw = output.astype(np.float64)
    centre = (raw[:, :2] + cells) * steps
    half = np.exp(np.clip(raw[:, 2:4], -20, 20)) * steps / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    found = candidates(boxes, raw[:, 4:5] * raw[:, 5:], LEAST_SCORE, CANDIDATES)
    return suppress(found, threshold, MOST)


def expected_distances(raw: Array, bins: int = 8) -> Array:
    """Distribution focal loss: ``[n, 4·bins]`` logits → expected distance to the four sides ``[n, 4]`` in strides."""
    logits = raw.astype(np.float64).reshape(-1, 4, bins)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (weights / weights.sum(axis=2, keepdims=True)) @ np.arange(bins)


def picodet(outputs: Sequence[Array], size: int = 320, threshold: float = 0.6) -> Detections:
    """PicoDet: four heads ``[cells, classes]`` (probabilities), then four box heads ``[cells, 32]``; strides 8…64."""
    cells, steps = grid(size, (8, 16, 32, 64))
    scores, raw = np.concatenate(outputs[:4]), np.concatenate(outputs[4:])
    if len(scores) != len(cells) or len(raw) != len(cells):
        raise ValueError(f"{len(scores)} class rows and {len(raw)} box rows, expected {len(cells)} cells")
    centre = (cells + 0.5) * steps
    distances = expected_distances(raw) * steps
    boxes = np.clip(np.concatenate([centre - distances[:, :2], centre + distances[:, 2:]], axis=1), 0, size)
    return suppress(candidates(boxes, scores.astype(np.float64), LEAST_SCORE, CANDIDATES), threshold, MOST)
