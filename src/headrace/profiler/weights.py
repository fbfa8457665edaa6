# SPDX-License-Identifier: Apache-2.0
"""How the weights of layers are distributed, in float and in codes."""

from __future__ import annotations

import numpy as np

from headrace.hn import Network
from headrace.hn.archive import Archive
from headrace.numerics.requantize import Array
from headrace.reports.page import Bars, WeightFacts

_PARTS = 32
FLOAT, CODES = "kernel", "kernel_q"


def weight_facts(archive: Archive) -> tuple[WeightFacts, ...]:
    """Of every layer with weights, in the order of the latest network."""
    before = archive.fp_optimized or archive.native
    latest = archive.quantized or before
    if latest is None:
        return ()
    found: list[WeightFacts] = []
    for layer in latest:
        codes = layer.params.get(CODES) if archive.quantized is not None else None
        real = _kernel(before, layer.name)
        if codes is None and real is None:
            continue
        found.append(
            WeightFacts(
                layer=layer.name,
                float_=None if real is None else _bars(real),
                codes=None if codes is None else _code_bars(codes),
                scaled_apart=0 if codes is None else int(codes.shape[-1]),
                half_used=0 if codes is None else _half_used(codes),
            )
        )
    return tuple(found)


def _kernel(network: Network | None, name: str) -> Array | None:
    if network is None or name not in network.layers:
        return None
    return network.layers[name].params.get(FLOAT)


def _bars(values: Array) -> Bars | None:
    """Equal parts from the least to the greatest value; None where there is none, or one is no number."""
    if values.size == 0 or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Bars(low=low, high=high, counts=(int(values.size),))
    counts, _ = np.histogram(values.astype(np.float64), _PARTS, (low, high))
    return Bars(low=low, high=high, counts=tuple(map(int, counts)))


def _most(codes: Array) -> int:
    return int(np.iinfo(codes.dtype).max)


def _code_bars(codes: Array) -> Bars:
    """Parts of the whole range of codes, so that what of it is used is seen."""
    most = _most(codes)
    counts, _ = np.histogram(codes.astype(np.float64), _PARTS, (-most - 1, most + 1))
    return Bars(low=float(-most - 1), high=float(most + 1), counts=tuple(map(int, counts)))


def _half_used(codes: Array) -> int:
    """Channels (the last axis) that are not all zero and whose largest absolute code is below half of what there is."""
    largest = np.abs(codes.astype(np.int64)).reshape(-1, codes.shape[-1]).max(axis=0)
    return int(((largest > 0) & (largest < _most(codes) / 2)).sum())
