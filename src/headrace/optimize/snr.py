# SPDX-License-Identifier: Apache-2.0
"""Signal-to-noise ratio of the quantised network against float, per layer, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from headrace.emulator.executor import Executor
from headrace.hn import Array, Layer, Network
from headrace.layers import output_quantization
from headrace.numerics.quantization import dequantize
from headrace.optimize.options import OptimizeOptions, Progress
from headrace.optimize.statistics import chunk_size, in_chunks


@dataclass
class Comparison:
    """Sums for one layer, float64, added in chunk order.

    Attributes:
        signal: Σ float².
        noise: Σ (float - quantised)².
        saturated: codes at either end of the range whose float lies beyond it by more than half a code.
        elements: how many.
        used: bool ``[2^bits]``: which codes occurred.
    """

    signal: float = 0.0
    noise: float = 0.0
    saturated: int = 0
    elements: int = 0
    used: Array | None = None

    def add(self, other: Comparison) -> None:
        self.signal += other.signal
        self.noise += other.noise
        self.saturated += other.saturated
        self.elements += other.elements
        if other.used is not None:
            self.used = other.used if self.used is None else self.used | other.used

    @property
    def snr_db(self) -> float | None:
        """10·log10(signal / noise) in dB, two decimals; ``None`` where there is no noise at all."""
        if self.noise == 0.0:
            return None
        if self.signal == 0.0:
            return -200.0
        return round(max(-200.0, min(200.0, 10.0 * math.log10(self.signal / self.noise))), 2)

    @property
    def distinct_codes(self) -> int:
        return 0 if self.used is None else int(self.used.sum())


def measure(
    fp_network: Network,
    quantized: Network,
    data: Mapping[str, Array],
    options: OptimizeOptions,
    progress: Progress | None,
) -> dict[str, Comparison]:
    """Run both networks on the same frames and compare every layer that both have."""
    reals, codes = Executor(fp_network, "fp_optimized"), Executor(quantized, "quantized")
    names = [layer.name for layer in quantized if layer.name in fp_network.layers]
    wanted = set(names)
    scales = {name: output_quantization(quantized[name]) for name in names}
    frames = min(len(v) for v in data.values())

    def work(start: int, stop: int) -> dict[str, Comparison]:
        part = {name: np.ascontiguousarray(value[start:stop]) for name, value in data.items()}
        integers = codes.run(part, names, batch_size=stop - start)
        result: dict[str, Comparison] = {}

        def see(layer: Layer, before: torch.Tensor | None, output: torch.Tensor) -> None:
            del before
            if layer.name in wanted:
                q, scale = integers.pop(layer.name), scales[layer.name]
                used = np.zeros(scale.high + 1, bool)
                used[q] = True
                real = output.numpy().astype(np.float64)
                low, high = scale.limits
                beyond = (real < low - scale.scale / 2) | (real > high + scale.scale / 2)
                error = real - dequantize(q, scale)
                result[layer.name] = Comparison(
                    float(np.square(real).sum()), float(np.square(error).sum()), int(beyond.sum()), real.size, used
                )

        reals.visit(part, see)
        return result

    # All tensors of a chunk are held together, so chunks are smaller than in calibration.
    total = {name: Comparison() for name in names}
    size = max(1, chunk_size(fp_network) // 4)
    with closing(in_chunks(work, frames, size, options, progress, "measuring accuracy")) as parts:
        for part in parts:
            for name, comparison in part.items():
                total[name].add(comparison)
    return total


def float_snr_db(a: Array, b: Array) -> float:
    """SNR of two float arrays in dB; infinity when equal."""
    signal, noise = float(np.square(a, dtype=np.float64).sum()), float(np.square(a.astype(np.float64) - b).sum())
    if noise == 0:
        return math.inf
    return -200.0 if signal == 0 else 10.0 * math.log10(signal / noise)
