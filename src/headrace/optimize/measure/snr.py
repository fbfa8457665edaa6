# SPDX-License-Identifier: Apache-2.0
"""Signal-to-noise ratio of the quantized network against float, per layer, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch

from headrace.emulator.executor import Executor
from headrace.hn import Array, Layer, Network, output_quantization
from headrace.numerics.quantization import dequantize
from headrace.optimize.chunks import ChunkRunner, chunk_size, frames_of
from headrace.optimize.measure.judge import Judge
from headrace.optimize.measure.noise import OutputNoise, Sums, Whole
from headrace.optimize.scales.reach import reach_of


@dataclass
class Comparison:
    """Sums for one layer, float64, added in chunk order.

    Attributes:
        sums: of its channels.
        saturated: codes at either end of the range whose float lies beyond it by more than half a code.
        elements: how many.
        used: bool ``[2^bits]``: which codes occurred.
    """

    sums: Sums
    saturated: int
    elements: int
    used: Array

    def add(self, other: Comparison) -> None:
        self.sums = self.sums.added(other.sums)
        self.saturated += other.saturated
        self.elements += other.elements
        self.used = self.used | other.used

    @property
    def whole(self) -> Whole:
        """All channels together: signal about each channel's mean."""
        return self.sums.whole(np.arange(len(self.sums.count)))

    @property
    def saturated_percent(self) -> float:
        share = self.saturated / self.elements if self.elements else 0.0
        return round(100.0 * share, 4)

    @property
    def distinct_codes(self) -> int:
        return int(self.used.sum())


@dataclass
class Measured:
    """Both networks compared.

    Attributes:
        layers: every layer that both have.
        outputs: output layers, part by part.
    """

    layers: dict[str, Comparison] = field(default_factory=dict)
    outputs: dict[str, OutputNoise] = field(default_factory=dict)

    def add(self, other: Measured) -> None:
        for name, comparison in other.layers.items():
            if name in self.layers:
                self.layers[name].add(comparison)
            else:
                self.layers[name] = comparison
        for name, output in other.outputs.items():
            if name in self.outputs:
                self.outputs[name].add(output)
            else:
                self.outputs[name] = output


def measure(
    fp_network: Network,
    quantized: Network,
    data: Mapping[str, Array],
    judge: Judge,
    runner: ChunkRunner,
) -> Measured:
    """Run both networks on the same frames and compare every layer that both have, outputs by the judge's parts."""
    reals, codes = Executor(fp_network, "fp_optimized"), Executor(quantized, "quantized")
    names = [layer.name for layer in quantized if layer.name in fp_network.layers]
    wanted = set(names)
    scales = {name: output_quantization(quantized[name]) for name in names}
    frames = min(len(v) for v in data.values())

    def work(start: int, stop: int) -> Measured:
        part = frames_of(data, slice(start, stop))
        integers = codes.run(part, names, batch_size=stop - start)
        result = Measured()

        def see(layer: Layer, before: torch.Tensor | None, output: torch.Tensor) -> None:
            del before
            if layer.name in wanted:
                q, scale = integers.pop(layer.name), scales[layer.name]
                used = np.zeros(scale.high + 1, bool)
                used[q] = True
                real = output.numpy().astype(np.float64)
                told_apart = reach_of(layer)
                if told_apart is not None:
                    real = np.clip(real, *told_apart)  # what lies beyond is all the same to those who read it
                low, high = scale.spans
                beyond = (real < low - scale.steps / 2) | (real > high + scale.steps / 2)
                got = dequantize(q, scale)
                sums = Sums.of_channels(real, real - got, q)
                result.layers[layer.name] = Comparison(sums, int(beyond.sum()), real.size, used)
                if layer.name in judge.parts:
                    cells, parts = judge.cells[layer.name], judge.parts[layer.name]
                    result.outputs[layer.name] = OutputNoise.of(layer.name, cells, parts, real, got, q)

        reals.visit(part, see)
        return result

    # All tensors of a chunk are held together, so chunks are smaller than in calibration.
    total = Measured()
    size = max(1, chunk_size(fp_network) // 4)
    with closing(runner.results(work, frames, size, "measuring accuracy")) as parts:
        for part in parts:
            total.add(part)
    return total


def float_snr_db(a: Array, b: Array) -> float:
    """SNR of two float arrays in dB; infinity when equal."""
    signal, noise = float(np.square(a, dtype=np.float64).sum()), float(np.square(a.astype(np.float64) - b).sum())
    if noise == 0:
        return math.inf
    return -200.0 if signal == 0 else 10.0 * math.log10(signal / noise)
