# SPDX-License-Identifier: Apache-2.0
"""The judge of trials: parts of outputs, quantized against float, on frames spread over the calibration data."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from headrace.emulator.executor import Executor
from headrace.hn import Array, Network, output_quantization
from headrace.numerics.quantization import dequantize
from headrace.optimize.chunks import ChunkRunner, chunk_size, evenly_spread, frames_of
from headrace.optimize.measure.noise import OutputNoise, PartNoise, Sums, parts_by_output
from headrace.optimize.measure.output_parts import all_cells

#: Multiply-accumulates (and as many element operations) that one trial may take, which bounds its frames.
TRIAL_WORK = 6e9
FEWEST_FRAMES, MOST_FRAMES = 8, 64


class Judge:
    """Compares quantized networks with one float network.

    Args:
        network: float network.
        data: calibration data, of which the first ``frames`` frames count.
        runner: computes chunks.

    Attributes:
        frames: numbers of the frames it judges on.
        data: these frames.
        cells, parts: by output layer.
        weights: output layer → float32 in the shape of a frame: Σ (weight · error)² over outputs is a frame's
            noise-to-signal ratio, mean over outputs of the mean over parts.
    """

    def __init__(self, network: Network, data: Mapping[str, Array], frames: int, runner: ChunkRunner) -> None:
        self.frames = evenly_spread(frames, trial_frames(network))
        self.data = frames_of(data, self.frames)
        self._size = chunk_size(network)
        self._runner = runner
        self._names = [layer.name for layer in network.output_layers]
        self._wanted = self._run(Executor(network, "fp_optimized"), "trying")
        self.cells = all_cells(network)
        sums = {name: self._sums(name) for name in self._names}
        self.parts = parts_by_output(self.cells, sums)
        self.weights = {name: self._weights(name, sums[name]) for name in self._names}

    def _sums(self, name: str) -> Sums:
        """Of an output's float values."""
        found = [Sums.of_map(self.cells[name], chunk[name].astype(np.float64)) for chunk in self._wanted]
        return functools.reduce(Sums.added, found)

    def _weights(self, name: str, sums: Sums) -> Array:
        """One over the root of what each part varies by in a frame, and of how many parts and outputs there are; 0
        where nothing varies.
        """
        weights = np.zeros(len(self.cells[name].cells))
        for part in self.parts[name]:
            whole = sums.whole(part.cells)
            if whole.basis != "constant":
                share = len(self.parts[name]) * len(self._names) / len(self.frames)
                weights[part.index] = (whole.signal * share) ** -0.5
        return weights.astype(np.float32).reshape(self.cells[name].shape)

    def _run(self, executor: Executor, text: str) -> list[dict[str, Array]]:
        def work(start: int, stop: int) -> dict[str, Array]:
            return executor.run(frames_of(self.data, slice(start, stop)), self._names, batch_size=stop - start)

        return self._runner.all(work, len(self.frames), self._size, text)

    def compare(self, quantized: Network, text: str) -> dict[str, list[PartNoise]]:
        """The parts of every output against float; sums in float64, chunk by chunk in order."""
        results = self._run(Executor(quantized, "quantized"), text)
        found: dict[str, list[PartNoise]] = {}
        for name in self._names:
            scale = output_quantization(quantized[name])
            total: OutputNoise | None = None
            for wanted, codes in zip(self._wanted, results, strict=True):
                got = dequantize(codes[name], scale)
                one = OutputNoise.of(name, self.cells[name], self.parts[name], wanted[name], got, codes[name])
                if total is None:
                    total = one
                else:
                    total.add(one)
            assert total is not None
            found[name] = total.measured()
        return found


def trial_frames(network: Network) -> int:
    """Frames per trial: a function of the network alone."""
    work = 0
    for layer in network:
        if layer.inputs:
            counts = layer.operation.counts(network.input_shapes(layer), layer.output_shape)
            work += counts.macs + 8 * counts.output_elements
    return int(min(max(TRIAL_WORK / max(work, 1), FEWEST_FRAMES), MOST_FRAMES))


__all__ = ["Judge", "trial_frames"]
