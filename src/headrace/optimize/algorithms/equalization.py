# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalization: scale moves from a layer's output channels into the weights of the layer that reads them.

``act(x)/s = act(x/s)`` for every s > 0 where the activation is positively homogeneous, so dividing channel c of one
layer's weights and bias by ``s[c]`` and multiplying the reader's weights for that channel by it changes nothing in
real numbers. With one scale per tensor for activations and one per output channel for weights, channels of like size
lose less. A chain of layers is tried as a whole, run alone in integers on real frames, and kept only where its last
layer's error falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from headrace.emulator.executor import Executor
from headrace.hn import Array, Layer, Network
from headrace.layers import Activated, Convolving, DepthwiseConvolution, InputLayer, OutputLayer
from headrace.layers.activation import GAIN
from headrace.layers.pool import Pool
from headrace.numerics.quantization import from_range
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, State
from headrace.optimize.chunks import ChunkRunner, chunk_size, evenly_spread, frames_of
from headrace.optimize.freeze import FreezeContext, freeze_network
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.requests import Requests
from headrace.optimize.statistics.collect import Request, Statistics, extremes
from headrace.optimize.trial import Rewrite
from headrace.passes.rewriting import sole_user
from headrace.reports.optimize import Decision

CLIP = (0.01, 100.0)
#: A chain is taken when at least this part of its error goes away; less is chance.
LEAST_GAIN = 0.02
SAMPLE_FRAMES = 16
SAMPLE_BYTES = 256 << 20
STRENGTHS = (0.5, 0.8, 1.0)


class Equalization(Algorithm):
    """Scale moved between neighbouring layers: every chain that gains by itself, all of them together."""

    name = "equalization"
    switch = "equalization"

    def wants(self, network: Network, requests: Requests, options: OptimizeOptions) -> Request:
        return request(network, requests.not_scaled)

    def proposals(self, state: State) -> Proposals:
        bench = state.bench
        data, alone = bench.judge.data, bench.requests.not_scaled
        network, statistics, chains = equalize(state.prepared, state.statistics, data, bench.runner.quiet, alone)
        if not any(chain.accepted for chain in chains):
            return chains
        outcome = yield Rewrite(network, statistics, "equalization changed the network's result")
        if not outcome.taken:
            given_up = "; given up with all others, because the outputs do not gain"
            chains = [
                replace(chain, accepted=False, reason=chain.reason + given_up) if chain.accepted else chain
                for chain in chains
            ]
        reason = f"all accepted chains together ({outcome.trial.label})"
        return [*chains, outcome.decision(self.name, reason, ": the outputs do not gain")]


@dataclass(frozen=True)
class Link:
    """Two weighted layers, the second alone reading the first, through ``between`` (in order)."""

    first: str
    between: tuple[str, ...]
    second: str


@dataclass(frozen=True)
class Chain:
    """Links, each beginning where the one before it ends."""

    links: tuple[Link, ...]

    @property
    def layers(self) -> list[str]:
        """Every layer of the chain in order."""
        names = [self.links[0].first]
        for link in self.links:
            names += [*link.between, link.second]
        return names


def find_chains(network: Network, alone: frozenset[str] = frozenset()) -> list[Chain]:
    """Maximal chains of layers outside ``alone``, in network order; a layer begins or continues at most one."""
    links = {
        link.first: link
        for layer in network
        if layer.operation.weights is not None
        and (link := _link(network, layer)) is not None
        and alone.isdisjoint((link.first, *link.between, link.second))
    }
    seconds = {link.second for link in links.values()}
    chains: list[Chain] = []
    for name in network.layers:
        if name in links and name not in seconds:
            chain = [links[name]]
            while chain[-1].second in links:
                chain.append(links[chain[-1].second])
            chains.append(Chain(tuple(chain)))
    return chains


def homogeneous(layer: Layer) -> bool:
    """Whether a positive factor passes the layer's activation."""
    return layer.operation.homogeneous if isinstance(layer.operation, Activated) else True


def _link(network: Network, layer: Layer) -> Link | None:
    if len(layer.inputs) != 1 or not homogeneous(layer) or layer.output.wish:
        return None
    between: list[str] = []
    current = layer
    while True:
        user = sole_user(network, current.name)
        if user is None or user.inputs[0] != current.name:
            return None
        if user.operation.weights is not None:
            return Link(layer.name, tuple(between), user.name)
        if not isinstance(user.operation, Pool):
            return None
        between.append(user.name)
        current = user


def request(network: Network, alone: frozenset[str] = frozenset()) -> Request:
    """Extremes per channel of every tensor inside a chain."""
    links = [link for chain in find_chains(network, alone) for link in chain.links]
    return Request(spans=frozenset(name for link in links for name in (link.first, *link.between)))


def equalize(
    network: Network,
    statistics: Statistics,
    data: Mapping[str, Array],
    runner: ChunkRunner,
    alone: frozenset[str] = frozenset(),
) -> tuple[Network, Statistics, list[Decision]]:
    """Equalize every chain for which it pays.

    Args:
        network: float network; unchanged.
        statistics: with what :func:`request` asks for.
        data: frames to measure on.
        runner: computes chunks of them.
        alone: layers that no chain may hold.

    Returns:
        A new network with the same meaning, its statistics, and a decision per chain.
    """
    chains = find_chains(network, alone)
    if not chains:
        return network, statistics, []
    samples = _samples(network, {network[chain.links[0].first].inputs[0] for chain in chains}, data, runner)
    result, after_all = network.clone(), statistics.copy()
    decisions: list[Decision] = []
    sizes = {name: np.abs(span).max(axis=0) for name, span in statistics.spans.items()}
    for chain in chains:
        sample = samples[network[chain.links[0].first].inputs[0]]
        before = _error(network, chain, {}, sample)
        trials: list[tuple[float, float, dict[str, Array]]] = []
        for strength in STRENGTHS:
            params = rescaled(network, chain, sizes, strength)
            trials.append((_error(network, chain, params, sample), strength, params))
            if trials[-1][0] >= before:
                break
        after, strength, params = min(trials, key=lambda t: t[:2])
        accepted = after < before * (1.0 - LEAST_GAIN)
        if accepted:
            result.params.update(params)
            _rescale_statistics(after_all, chain, link_factors(network, chain, sizes, strength))
        gain = f"{100 * (1 - after / before):.1f} % less error" if before > 0 else "no error to lower"
        decisions.append(
            Decision(
                name=Equalization.name,
                layer=chain.layers[-1],
                chain=tuple(chain.layers),
                accepted=accepted,
                measure="squared error of the chain's last layer, mean",
                before=before,
                after=after,
                reason=f"strength {strength:g}: {gain}; taken from {100 * LEAST_GAIN:g} % on",
            )
        )
    return result, after_all, decisions


def _rescale_statistics(statistics: Statistics, chain: Chain, factors: Sequence[Array]) -> None:
    """What would be measured in an equalized chain; its last tensor stays as it was."""
    for link, factor in zip(chain.links, factors, strict=True):
        for name in (link.first, *link.between):
            span = statistics.spans[name] = statistics.spans[name] / factor
            statistics.ranges.output[name] = float(span[0].min()), float(span[1].max())


def link_factors(network: Network, chain: Chain, sizes: Mapping[str, Array], strength: float) -> list[Array]:
    """By what each link divides its first layer's channels, float64 ``[C]`` (see :func:`rescaled`)."""
    return _equalized(network, chain, sizes, strength)[1]


def rescaled(network: Network, chain: Chain, channels: Mapping[str, Array], strength: float) -> dict[str, Array]:
    """The parameters of a chain after equalization.

    Args:
        network: float network.
        chain: the chain.
        channels: layer name → largest absolute output per channel.
        strength: 0.5 gives channel c of a tensor the size √(r₁ r₂) of its own and its readers' weights (paper), 1 makes
            all channels equally large. Where the reader is depthwise its weights have a scale per channel and bear any
            factor, so strength 1 is used.
    """
    return _equalized(network, chain, channels, strength)[0]


def _equalized(
    network: Network, chain: Chain, channels: Mapping[str, Array], strength: float
) -> tuple[dict[str, Array], list[Array]]:
    factors: list[Array] = []
    params: dict[str, Array] = {}

    def param(name: str) -> Array:
        return params.get(name, network.params[name])

    for link in chain.links:
        first, second = network[link.first], network[link.second]
        size = channels[link.first]
        weights = _input_sizes(second, param(f"{second.name}/kernel"), len(size))
        if isinstance(second.operation, DepthwiseConvolution):
            wanted = size
        else:
            # Factor r^strength / w^(1-strength), each relative to the geometric mean over live channels.
            wanted = _relative(size) ** strength / _relative(weights) ** (1.0 - strength)
        factor = np.clip(_relative(wanted), *CLIP)
        factor[(size <= 0) | (weights <= 0)] = 1.0
        factors.append(factor)
        params[f"{first.name}/kernel"] = (param(f"{first.name}/kernel") / factor).astype(np.float32)
        if f"{first.name}/bias" in network.params:
            params[f"{first.name}/bias"] = (param(f"{first.name}/bias") / factor).astype(np.float32)
        params[f"{second.name}/kernel"] = scaled_inputs(second, param(f"{second.name}/kernel"), factor)
    return params, factors


def _relative(values: Array) -> Array:
    """Values over their largest; 1 where there is none."""
    values = values.astype(np.float64)
    live = values[values > 0]
    if not live.size:
        return np.ones_like(values)
    return np.where(values > 0, values / live.max(), 1.0)


def _by_input(layer: Layer, kernel: Array) -> Array:
    """A kernel ``[…, inputs per group, outputs]`` as ``[taps, groups, inputs per group, outputs per group]``."""
    *taps, inputs, outputs = kernel.shape
    groups = layer.operation.groups if isinstance(layer.operation, Convolving) else 1
    split = kernel.reshape(math.prod(taps), inputs, groups, outputs // groups)
    return split.transpose(0, 2, 1, 3)


def _input_sizes(layer: Layer, kernel: Array, channels: int) -> Array:
    """Largest absolute weight that each input channel meets."""
    return np.abs(_by_input(layer, kernel)).max(axis=(0, 3)).reshape(channels).astype(np.float64)


def scaled_inputs(layer: Layer, kernel: Array, factor: Array) -> Array:
    """A kernel whose weights for each input channel are multiplied by its factor."""
    split = _by_input(layer, kernel)
    scaled = split * factor.reshape(1, split.shape[1], split.shape[2], 1)
    return scaled.transpose(0, 2, 1, 3).reshape(kernel.shape).astype(np.float32)


# --- measuring a chain alone --------------------------------------------------------------------------------------


def _samples(network: Network, wanted: set[str], data: Mapping[str, Array], runner: ChunkRunner) -> dict[str, Array]:
    """Float tensors on a few frames, within a fixed amount of memory."""
    per_frame = 4 * sum(int(np.prod(network[name].output_shape[1:], dtype=np.int64)) for name in sorted(wanted))
    frames = min(len(value) for value in data.values())
    chosen = evenly_spread(frames, max(1, min(SAMPLE_FRAMES, SAMPLE_BYTES // max(per_frame, 1))))
    executor = Executor(network, "fp_optimized")

    def work(start: int, stop: int) -> dict[str, Array]:
        found: dict[str, Array] = {}

        def see(layer: Layer, before: torch.Tensor | None, output: torch.Tensor) -> None:
            del before
            if layer.name in wanted:
                found[layer.name] = output.numpy().copy()

        executor.visit(frames_of(data, chosen[start:stop]), see)
        return found

    parts = runner.all(work, len(chosen), chunk_size(network))
    return {name: np.concatenate([part[name] for part in parts]) for name in wanted}


def _alone(network: Network, chain: Chain, params: Mapping[str, Array]) -> Network:
    """The chain as a network of its own: one input, the last layer without residual and activation."""
    alone = Network(network.name)
    first = network[chain.links[0].first]
    shape = network[first.inputs[0]].output_shape
    entry = Layer(f"{network.name}/chain_input", InputLayer(shape=shape), [], shape)
    alone.add(entry)
    previous = entry.name
    for name in chain.layers:
        source = network[name]
        operation = source.operation
        if name == chain.layers[-1]:
            assert isinstance(operation, Activated)
            operation = replace(operation, activation="linear", activation_params={})
            if isinstance(operation, Convolving):
                operation = replace(operation, elementwise_add=False)
        layer = Layer(name, operation, [previous], source.output_shape)
        own = {key: params.get(f"{name}/{key}", value) for key, value in network[name].params.items()}
        if name == chain.layers[-1]:
            own.pop(GAIN, None)
        alone.add(layer, own)
        previous = name
    alone.add(Layer(f"{network.name}/chain_output", OutputLayer(), [previous], alone[previous].output_shape))
    return alone


def _error(network: Network, chain: Chain, params: Mapping[str, Array], sample: Array) -> float:
    """Mean squared error at the chain's end when its inside is quantized, on the sample of its input.

    The last tensor gets 16 bits, so that its own rounding hides nothing.
    """
    alone = _alone(network, chain, params)
    last = chain.layers[-1]
    names = list(alone.layers)
    ranges: dict[str, tuple[float, float]] = {}
    before: dict[str, tuple[float, float]] = {}
    wanted: list[torch.Tensor] = []

    def see(layer: Layer, pre: torch.Tensor | None, output: torch.Tensor) -> None:
        ranges[layer.name] = extremes(output)
        if pre is not None:
            before[layer.name] = extremes(pre)
        if layer.name == last:
            wanted.append(output.clone())

    Executor(alone, "fp_optimized", threads=1).visit({names[0]: sample}, see)
    tensors = {n: from_range(*ranges[n], 16 if n in (last, names[-1]) else 8) for n in names}
    for name in names[1:-2]:
        if alone[name].operation.passes_codes:
            tensors[name] = tensors[alone[name].inputs[0]]
    context = FreezeContext(alone, tensors, before)
    freeze_network(context)
    got = Executor(alone, "quantized", threads=1, self_check=False).run({names[0]: sample}, [last], dequantize=True)
    reference = wanted[0].numpy()
    # Against float with the chain's own parameters: the rewriting itself is exact but for float32 rounding.
    return float(np.square(got[last].astype(np.float64) - reference).mean())


__all__ = ["Chain", "Equalization", "Link", "equalize", "find_chains", "request", "rescaled"]
