# SPDX-License-Identifier: Apache-2.0
"""Weight rounding that minds what the layer computes: each weight's error is made up for by the weights after it.

Rounding weights to the nearest code minimizes the error of the weights; what counts is the error of the sums. With the
second moments H of a layer's inputs (its patches) that is ``(w - q)ᵀ H (w - q)`` per output channel. Weights are
rounded in order, and the rest moves by what least squares asks for (optimal brain quantization with a fixed order,
as in GPTQ): closed form, no gradient, no random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from headrace.emulator.exact import thread_count
from headrace.emulator.executor import Executor
from headrace.emulator.float_ops import pad_hw
from headrace.emulator.tensors import cholesky, tensor_of
from headrace.hn import Array, Layer, Network
from headrace.layers import Convolving, Dense
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, Role, State
from headrace.optimize.chunks import ChunkRunner, chunk_size, evenly_spread, frames_of
from headrace.optimize.freeze import Correction, FreezeContext, Steps

FRAMES = 64
MOST_INPUTS = 1152  # the largest system that is solved
#: Patches looked at per weight of a channel, and the fewest positions per frame.
SAMPLES, LEAST_POSITIONS = 8, 256
#: Steps of the R2 sequence: 1/g and 1/g² of the real g with g³ = g + 1.
R2 = 0.7548776662466927, 0.5698402909980532
#: A layer is left alone with fewer patches per weight than this: they would be fitted, not the use.
LEAST_SAMPLES = 4
#: Added to the diagonal, as a part of its mean: what the sample does not show counts a little.
DAMPING = 0.01
LIMIT = 127


class WeightRounding(Algorithm):
    """Weights rounded for the sums they make."""

    name = "weight-rounding"
    role = Role.CORRECTION
    switch = "weight_rounding"
    least_gain = 0.3  # gains of less did not come back on other frames

    def proposals(self, state: State) -> Proposals:
        bench, best = state.bench, state.best
        moments = second_moments(best.prepared, bench.judge.data, bench.runner)
        if not moments:
            return []
        alone = bench.requests.alone(self.switch)
        rounders = {name: Rounder(value) for name, value in moments.items() if name not in alone}
        outcome = yield best.again("weight rounding", corrections=[RoundedWeights(rounders)])
        otherwise = ": the outputs do not gain enough"
        whole = outcome.decision(self.name, f"{len(rounders)} layers together", otherwise)
        # What other corrections decide on the rounded weights stands where these do.
        return [whole, *(outcome.trial.decisions if outcome.taken else ())]


@dataclass(frozen=True)
class RoundedWeights(Correction):
    """Layers round their weights by rounders of their own.

    Attributes:
        rounders: by layer.
    """

    name = WeightRounding.name

    rounders: Mapping[str, Rounder]

    def begin(self, context: FreezeContext) -> Steps:
        context.rounders.update(self.rounders)
        return Steps()


def second_moments(network: Network, data: Mapping[str, Array], runner: ChunkRunner) -> dict[str, Array]:
    """Layer name → float64 ``[groups, K, K]``: mean of patch·patchᵀ over frames and positions.

    Layers with large patches (:data:`MOST_INPUTS`) or too few of them (:data:`LEAST_SAMPLES`) are left out: they round
    to nearest.
    """
    chosen = evenly_spread(min(len(value) for value in data.values()), FRAMES)
    readers: dict[str, list[Layer]] = {}
    for layer in network:
        if layer.operation.weights is None:
            continue
        size = _patch_size(layer)
        if size <= MOST_INPUTS and len(chosen) * _positions(layer, len(chosen)) >= LEAST_SAMPLES * size:
            readers.setdefault(layer.inputs[0], []).append(layer)
    executor = Executor(network, "fp_optimized")
    frames_used = len(chosen)

    def work(start: int, stop: int) -> dict[str, Array]:
        found: dict[str, Array] = {}

        def see(layer: Layer, before: torch.Tensor | None, output: torch.Tensor) -> None:
            del before
            for reader in readers.get(layer.name, ()):
                found[reader.name] = _gram(reader, output, frames_used)

        executor.visit(frames_of(data, chosen[start:stop]), see)
        return found

    return runner.sums(work, len(chosen), chunk_size(network), "second moments")


def _patch_size(layer: Layer) -> int:
    assert isinstance(layer.operation, (Convolving, Dense))
    shape = layer.operation.kernel_shape
    return int(np.prod(shape[:-1]))


def _positions(layer: Layer, frames: int) -> int:
    """How many positions of each frame are looked at."""
    wanted = max(LEAST_POSITIONS, -(-SAMPLES * _patch_size(layer) // frames))
    return min(wanted, int(np.prod(layer.output_shape[1:-1])))


def _places(height: int, width: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns, int64 ``[count]``, spread over a map: all of it, or the R2 sequence (Roberts), which has no
    period in common with any width. Every n-th of all, row by row, is a single column where n is the width: the left
    edge, whose patches are half padding.
    """
    if count >= height * width:
        place = torch.arange(height * width)
        return place.div(width, rounding_mode="floor"), place % width
    number = torch.arange(1, count + 1, dtype=torch.float64)
    row, column = (((number * step) % 1.0 * size).long() for step, size in zip(R2, (height, width), strict=True))
    return row, column


def _gram(layer: Layer, x: torch.Tensor, frames: int) -> Array:
    """Sum of patch·patchᵀ, float64 ``[groups, K, K]``, over frames and evenly spread positions."""
    attributes = layer.operation
    if isinstance(attributes, Dense):
        flat = x.reshape(-1, x.shape[-1]).double()
        return (flat.T @ flat)[None].numpy()
    assert isinstance(attributes, Convolving)
    kh, kw, per_group, _ = attributes.kernel_shape
    padded = pad_hw(x, attributes.padding, 0.0)
    _, height, width, _ = layer.output_shape
    row, column = _places(height, width, _positions(layer, frames))
    rows, columns = row * attributes.strides[0], column * attributes.strides[1]
    down, right = torch.arange(kh) * attributes.dilations[0], torch.arange(kw) * attributes.dilations[1]
    patches = padded[:, rows[:, None, None] + down[:, None], columns[:, None, None] + right]  # [N, P, kh, kw, C]
    groups = attributes.groups
    split = patches.reshape(-1, kh * kw, groups, per_group).permute(2, 0, 1, 3)
    flat = split.reshape(groups, -1, kh * kw * per_group)
    return torch.matmul(flat.transpose(1, 2), flat).numpy().astype(np.float64)


def rounded(kernel: Array, scale: Array, moments: Array) -> Array:
    """Integer weights, in the kernel's shape.

    Args:
        kernel: float, output channels last; ``[kh, kw, inputs per group, outputs]`` or ``[inputs, outputs]``.
        scale: float64 ``[outputs]``, the weight scale per output channel.
        moments: float64 ``[groups, K, K]`` of the layer's patches.
    """
    groups, size, _ = moments.shape
    outputs = kernel.shape[-1]
    wanted = (kernel.astype(np.float64) / scale).reshape(size, groups, outputs // groups).transpose(1, 0, 2)
    factors = _factors(moments)
    rest = np.ascontiguousarray(wanted)
    result = np.empty_like(rest)
    for k in range(size):
        result[:, k] = np.clip(np.rint(rest[:, k]), -LIMIT, LIMIT)
        error = (rest[:, k] - result[:, k]) / factors[:, k, k, None]
        rest[:, k + 1 :] -= factors[:, k, k + 1 :, None] * error[:, None, :]
    return result.transpose(1, 0, 2).reshape(kernel.shape).astype(np.int64)


def _factors(moments: Array) -> Array:
    """Upper Cholesky factor of the inverse of each damped matrix.

    Where there is none (sums that overflowed, in a network whose values do), the identity: rounding to the nearest.
    """
    with thread_count(1):
        matrix = tensor_of(moments.copy())
        diagonal = torch.diagonal(matrix, dim1=1, dim2=2)
        mean = diagonal.mean(dim=1, keepdim=True)
        diagonal += torch.where(mean > 0, DAMPING * mean, torch.ones_like(mean))
        lower = _or_identity(*cholesky(matrix))
        return _or_identity(*cholesky(torch.cholesky_inverse(lower), upper=True)).numpy()


def _or_identity(factors: torch.Tensor, failed: torch.Tensor) -> torch.Tensor:
    bad = (failed != 0) | ~torch.isfinite(factors).flatten(1).all(dim=1)
    factors[bad] = torch.eye(factors.shape[-1], dtype=factors.dtype)
    return factors


class Rounder:
    """Rounds one layer's weights; remembers the last result, for weights are frozen more than once.

    Args:
        moments: float64 ``[groups, K, K]`` of the layer's patches.
    """

    def __init__(self, moments: Array) -> None:
        self._moments = moments
        self._last: tuple[bytes, Array] | None = None

    def __call__(self, kernel: Array, scale: Array) -> Array:
        key = kernel.tobytes() + scale.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, rounded(kernel, scale, self._moments)
        return self._last[1]


__all__ = ["RoundedWeights", "Rounder", "WeightRounding", "rounded", "second_moments"]
