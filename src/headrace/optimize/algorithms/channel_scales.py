# SPDX-License-Identifier: Apache-2.0
"""Channels of unlike size share one scale without loss: gains behind an activation, taken off again by its readers.

Equalization moves scale through activations that let a positive factor pass. Behind SiLU, hard swish or ReLU6 the
factor has to be applied to the result: ``gain[c] · act(x)``, which on the device costs nothing, because each channel
may use a table of its own. The layers that read the tensor divide their weights by the gain; a depthwise layer has a
weight scale per channel and loses nothing at all by that.

Candidates are judged by the predicted noise at the outputs (:mod:`headrace.optimize.measure.sensitivity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.tensors import tensor_of
from headrace.hn import Array, Layer, Network
from headrace.layers import Activated, Activation, DepthwiseConvolution, Multiply, ScaleRule
from headrace.layers.activation import GAIN
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, State
from headrace.optimize.algorithms.equalization import homogeneous, scaled_inputs
from headrace.optimize.freeze.context import clamp_codes
from headrace.optimize.measure.sensitivity import Sensitivity, predicted_noise
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.requests import Requests
from headrace.optimize.scales.ranges import has_meant_range
from headrace.optimize.statistics.collect import Request, Statistics
from headrace.optimize.trial import Rewrite
from headrace.reports.optimize import Decision

#: Gains are 2^0 … 2^7: at most eight tables.
MOST_EXPONENT = 7
#: A layer gets gains when they are predicted to take away noise of at least this part of what is left.
LEAST_SHARE = 0.005
MOST_LAYERS = 16


@dataclass(frozen=True)
class Plan:
    """Gains for one layer's channels.

    Attributes:
        layer: its name.
        gain: float32 ``[C]``, powers of two.
        dense: whether a layer that sums over channels is among the readers, so that weights lose precision.
        before, after: predicted noise-to-signal ratio at the outputs from rounding this tensor.
    """

    layer: str
    gain: Array
    dense: bool
    before: float
    after: float

    @property
    def gained(self) -> float:
        return self.before - self.after


class ChannelScales(Algorithm):
    """Gains for channels: all plans, or, where these do not pay, those that cost no precision of weights."""

    name = "channel-scales"
    switch = "equalization"

    def wants(self, network: Network, requests: Requests, options: OptimizeOptions) -> Request:
        return request(network, requests.not_scaled)

    def proposals(self, state: State) -> Proposals:
        bench, network, statistics = state.bench, state.prepared, state.statistics
        alone = bench.requests.not_scaled
        if not candidates(network, alone):
            return []
        found = plans(network, statistics, state.best.tensors, bench.sensitivities(network), alone)
        decisions: list[Decision] = []
        kept: list[Plan] = []
        for chosen in _sets(found):
            rule = "channel scales changed the network's result"
            outcome = yield Rewrite(*apply(network, statistics, chosen), rule)
            decisions.append(outcome.decision(self.name, f"{len(chosen)} layers", ": the outputs do not gain"))
            if outcome.taken:
                kept = chosen
                break
        return decisions + _decisions(found, kept)


def _sets(found: list[Plan]) -> list[list[Plan]]:
    """Sets of plans to try in turn until one is kept: all, then those whose readers lose no precision of weights."""
    free = [plan for plan in found if not plan.dense]
    return [chosen for chosen in (found, free) if chosen and (chosen is found or len(free) < len(found))]


def _decisions(found: Sequence[Plan], taken: Sequence[Plan]) -> list[Decision]:
    """One decision per layer with a plan."""
    return [
        Decision(
            name=ChannelScales.name,
            layer=plan.layer,
            accepted=any(plan is one for one in taken),
            measure="predicted noise-to-signal ratio at the outputs from rounding this tensor",
            before=plan.before,
            after=plan.after,
            reason=f"gains 1 … {int(plan.gain.max())} in {len(np.unique(plan.gain))} tables; "
            "judged at the outputs together",
        )
        for plan in found
    ]


def candidates(network: Network, alone: frozenset[str] = frozenset()) -> list[Layer]:
    """Layers whose channels could have gains: weighted, with an activation that lets no factor pass; not ``alone``."""
    found: list[Layer] = []
    for layer in network:
        if layer.operation.weights is not None and not (
            layer.name in alone or homogeneous(layer) or layer.output.wish or has_meant_range(network, layer)
        ):
            found.append(layer)
    return found


def request(network: Network, alone: frozenset[str] = frozenset()) -> Request:
    """Extremes per channel of every tensor, where there is a candidate."""
    return Request(spans=frozenset(network.layers)) if candidates(network, alone) else Request()


def plans(
    network: Network,
    statistics: Statistics,
    tensors: Mapping[str, TensorQuantization],
    found: Mapping[str, Sensitivity],
    alone: frozenset[str] = frozenset(),
) -> list[Plan]:
    """Gains for the layers where they are predicted to pay, the most rewarding first.

    Args:
        network: float network.
        statistics: with what :func:`request` asks for.
        tensors: quantizations without gains.
        found: sensitivities of the network.
        alone: layers that are not touched.
    """
    possible: list[Plan] = []
    for layer in candidates(network, alone):
        # What became a candidate only when ranges were fitted (its reader reads a copy now) was not measured as one.
        if layer.name not in found or layer.name not in statistics.spans:
            continue
        if not _clamps_alike(network, layer, tensors[layer.name]):
            continue
        before = found[layer.name].noise(tensors[layer.name].scale)
        gain, after = best_gains(statistics.spans[layer.name], tensors[layer.name], found[layer.name])
        absorbed = absorb(network, layer, gain) if after < before else None
        touched = {k.rpartition("/")[0] for k in absorbed.params} | set(absorbed.factors) if absorbed else set[str]()
        if absorbed is not None and alone.isdisjoint(touched):
            possible.append(Plan(layer.name, gain, absorbed.dense, before, after))
    # What is left when all are applied decides which of them matter.
    left = sum(noise for _, noise in predicted_noise(found, tensors)) - sum(plan.gained for plan in possible)
    worth = [plan for plan in possible if plan.gained >= LEAST_SHARE * left]
    return sorted(worth, key=lambda plan: -plan.gained)[:MOST_LAYERS]


def _clamps_alike(network: Network, layer: Layer, output: TensorQuantization) -> bool:
    """Whether a clamp has the same codes at every gain: its upper end lies at or beyond the last code."""
    attributes = layer.operation
    if not isinstance(attributes, Activated) or attributes.clamp is None:
        return True
    low, high = attributes.clamp
    return low in (None, 0.0) and clamp_codes(output, low, high)[1] == output.high


def best_gains(span: Array, output: TensorQuantization, sensitivity: Sensitivity) -> tuple[Array, float]:
    """Gains (powers of two, float32 ``[C]``) that bring channels up to the range of the codes, and the noise left.

    A large gain also enlarges the lower end of an asymmetric range, which all channels pay for; so the largest
    exponent is the one with the least predicted noise.

    Args:
        span: float64 ``[2, C]``: smallest and largest value of each channel.
        output: quantization without gains.
        sensitivity: of the outputs to this tensor.
    """
    low, high = output.limits
    top = max(high, -low)
    size = np.maximum(np.abs(span).max(axis=0), top * 2.0**-30)
    room = np.clip(np.floor(np.log2(np.maximum(top / size, 1.0))), 0, MOST_EXPONENT)
    best: tuple[float, Array] | None = None
    for most in range(MOST_EXPONENT + 1):
        gain = 2.0 ** np.minimum(room, most)
        bottom = min(low, float((span[0] * gain).min()))
        upper = max(high, float((span[1] * gain).max()))
        noise = sensitivity.noise((upper - bottom) / output.high / gain)
        if best is None or noise < best[0]:
            best = noise, gain
    assert best is not None
    return best[1].astype(np.float32), best[0]


# --- taking gains off again ---------------------------------------------------------------------------------------


@dataclass
class Absorbed:
    """What changes behind a layer with gains.

    Attributes:
        params: parameter key → new value, of the layers that read the tensor.
        factors: layer name → float64 ``[C']``, by what each tensor on the way is larger than before, per channel.
        dense: whether a layer that sums over channels is among the readers.
    """

    params: dict[str, Array] = field(default_factory=dict)
    factors: dict[str, Array] = field(default_factory=dict)
    dense: bool = False


def absorb(network: Network, layer: Layer, gain: Array) -> Absorbed | None:
    """Follow a tensor's gains to the weights that can take them off; ``None`` where some reader cannot."""
    result = Absorbed()
    maps: dict[str, Array] = {layer.name: np.broadcast_to(gain.astype(np.float64), (1, *layer.output_shape[1:]))}
    for reader in network:
        carried = [name in maps for name in reader.inputs]
        if not any(carried):
            continue
        if reader.operation.weights is not None:
            if carried[0] and not any(carried[1:]) and _take_off(network, reader, maps[reader.inputs[0]], result):
                continue
            return None
        found = _through(network, reader, maps)
        if found is None:
            return None
        maps[reader.name] = found
    for name, values in maps.items():
        per_channel = _per_channel(values)
        own = network[name].operation.scale_rule is ScaleRule.OWN
        if per_channel is None and own:
            return None  # its new range does not follow from what was measured
        if per_channel is not None:
            result.factors[name] = per_channel
    return result


def _take_off(network: Network, reader: Layer, values: Array, result: Absorbed) -> bool:
    gain = _per_channel(values)
    if gain is None:
        return False
    key = f"{reader.name}/kernel"
    result.params[key] = scaled_inputs(reader, network.params[key], 1.0 / gain)
    result.dense |= not isinstance(reader.operation, DepthwiseConvolution)
    return True


def _through(network: Network, reader: Layer, maps: Mapping[str, Array]) -> Array | None:
    """By what a reader's output is larger, at every place of a frame; ``None`` where that is no constant."""
    operation = reader.operation
    if reader.output.wish or (isinstance(operation, Activated) and operation.activation != "linear"):
        return None
    shapes = [(1, *network[name].output_shape[1:]) for name in reader.inputs]
    inputs = [maps.get(name, np.ones(shape)) for name, shape in zip(reader.inputs, shapes, strict=True)]
    if isinstance(operation, Multiply):
        return np.multiply(*inputs)
    if operation.passes_factors or isinstance(operation, Activation):  # which is linear here
        per_channel = _per_channel(inputs[0])
        shape = (1, *reader.output_shape[1:])
        return None if per_channel is None else np.broadcast_to(per_channel, shape)
    if operation.copies_codes and not operation.is_boundary:
        return _moved(reader, inputs)
    return None


def _moved(reader: Layer, inputs: Sequence[Array]) -> Array:
    """The factors where a moving layer puts them: its own rule, run on them (powers of two, exact in float32)."""
    tensors = [tensor_of(np.array(x, np.float32)) for x in inputs]
    moved = reader.operation.forward_float(TorchFloatOps(), {}, tensors)
    return moved.numpy().astype(np.float64)


def _per_channel(values: Array) -> Array | None:
    """float64 ``[C]`` where the factors are the same at every position."""
    flat = values.reshape(-1, values.shape[-1])
    return flat[0].copy() if bool((flat == flat[:1]).all()) else None


# --- applying plans -----------------------------------------------------------------------------------------------


def apply(network: Network, statistics: Statistics, chosen: Sequence[Plan]) -> tuple[Network, Statistics]:
    """A network with the gains of several plans, and its statistics (ranges and extremes per channel)."""
    changed = network.clone()
    factors: dict[str, Array] = {}
    for plan in chosen:
        layer = changed[plan.layer]
        changed.params[f"{layer.name}/{GAIN}"] = plan.gain
        again = absorb(changed, layer, plan.gain)  # readers may have taken off another plan's gains before
        assert again is not None
        changed.params.update(again.params)
        for name, factor in again.factors.items():
            factors[name] = factors[name] * factor if name in factors else factor
    return changed, _rescaled(changed, statistics, factors, {plan.layer for plan in chosen})


def _rescaled(
    network: Network, statistics: Statistics, factors: Mapping[str, Array], with_gains: set[str]
) -> Statistics:
    """What would be measured with the gains; in front of an activation nothing changes."""
    result = statistics.copy()
    for layer in network:
        if layer.name in factors:
            span = statistics.spans[layer.name] * factors[layer.name]
            result.spans[layer.name] = span
            result.ranges.output[layer.name] = float(span[0].min()), float(span[1].max())
            if layer.name in result.ranges.before and layer.name not in with_gains:  # linear: it is the output
                result.ranges.before[layer.name] = result.ranges.output[layer.name]
        elif layer.operation.scale_rule is not ScaleRule.OWN and layer.inputs:
            # Codes pass: what its inputs' range covers, this one's does. It shares their scale anyway.
            pairs = [result.ranges.output[name] for name in layer.inputs]
            result.ranges.output[layer.name] = min(p[0] for p in pairs), max(p[1] for p in pairs)
    return result


__all__ = ["ChannelScales", "Plan", "absorb", "apply", "best_gains", "candidates", "plans", "request"]
