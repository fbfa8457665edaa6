# SPDX-License-Identifier: Apache-2.0
"""Cubic interpolation by whole factors: its weights repeat from pixel to pixel, so it is a convolution of each channel.

Growing by s gives every pixel s·s weighted sums of its neighbours, which depth_to_space lays out; shrinking by s is the
same with a stride. Beyond the borders the outermost pixels continue, as the operator says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from headrace.frontends.layout import Arrangement, View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.padding import continued
from headrace.frontends.to_hn.compositions.parts import pick
from headrace.hn import Array
from headrace.layers import Convolution, DepthToSpace, DepthwiseConvolution

MAX_FACTOR = 16
_MAX_OUTPUTS = 1 << 16
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric")


def _factor(value: float) -> tuple[int, int]:
    """(growth, shrinkage) of an axis, one of them 1; (0, 0) where neither is whole."""
    for number, pair in ((value, (round(value), 1)), (1.0 / value, (1, round(1.0 / value)))):
        if 1 <= round(number) <= MAX_FACTOR and math.isclose(number, round(number), rel_tol=1e-6):
            return pair
    return 0, 0


def repeats(view: View, spatial: Sequence[int], factors: Sequence[float], coordinates: str) -> bool:
    """Whether the weights repeat from pixel to pixel: one whole factor, or one over one, of both dimensions."""
    growth, shrinkage = _factor(factors[0])
    whole = growth > 1 or not any(view.shape[d] % max(shrinkage, 1) for d in spatial)
    channels = view.elements // math.prod(view.shape[d] for d in spatial)
    few = channels * growth * growth <= _MAX_OUTPUTS
    return coordinates in _COORDINATES and (growth, shrinkage) == _factor(factors[1]) != (0, 0) and whole and few


def _weights(distance: float, coefficient: float) -> list[float]:
    """Of the four pixels from one before to two behind the one ``distance`` to the left."""

    def cubic(x: float) -> float:
        a, x = coefficient, abs(x)
        if x <= 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [cubic(distance + 1), cubic(distance), cubic(1 - distance), cubic(2 - distance)]


def _taps(growth: int, shrinkage: int, coordinates: str, coefficient: float) -> tuple[int, Array]:
    """The first pixel read, counted from the output's own, and ``[growth, taps]`` weights."""
    places: list[float] = []
    for phase in range(growth):
        centred = (phase + 0.5) / growth * shrinkage - 0.5
        places.append(phase / growth * shrinkage if coordinates == "asymmetric" else centred)
    first = min(math.floor(p) for p in places) - 1
    last = max(math.floor(p) for p in places) + 2
    rows = np.zeros((growth, last - first + 1))
    for phase, place in enumerate(places):
        start = math.floor(place) - 1 - first
        rows[phase, start : start + 4] = _weights(place - math.floor(place), coefficient)
    return first, rows


def cubic(
    builder: Builder, view: View, arrangement: Arrangement, spatial: Sequence[int], factors: Sequence[float],
    coordinates: str, coefficient: float,
) -> View:  # fmt: skip
    """Resize the two ``spatial`` dimensions of a tensor of rank 4 by ``factors``, which make weights that repeat."""
    growth, shrinkage = _factor(factors[0])
    first, rows = _taps(growth, shrinkage, coordinates, coefficient)
    count = rows.shape[1]
    for dim in spatial:
        size = view.shape[dim]
        after = max((size // shrinkage - 1) * shrinkage + first + count - size, 0)
        view = pick(builder, view, dim, continued(size, max(-first, 0), after))
    layer = builder.arrange(view, arrangement, vector=False)
    channels = builder.extent(layer)[2]
    phases = np.einsum("pi,qj->ijpq", rows, rows).reshape(count, count, 1, growth * growth)
    kind = DepthwiseConvolution if growth == 1 and channels > 1 else Convolution
    shape = (count, count, 1, channels * growth * growth)
    operation = kind(kernel_shape=shape, groups=channels, strides=(shrinkage, shrinkage))
    params = {"kernel": np.tile(phases, (1, 1, 1, channels)), "bias": np.zeros(channels * growth * growth)}
    made = builder.emit(operation, [layer], params)
    if growth > 1:
        made = builder.emit(DepthToSpace(growth, "CRD"), [made.name])
    return builder.output(made, arrangement)
