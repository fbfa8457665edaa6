# SPDX-License-Identifier: Apache-2.0
"""Outputs, what softmax reads, and operands of sums, in codes of 16 bits where 8 would be a good part of the noise.

Multiply-accumulate layers read 8-bit codes; they can write 16. So a tensor may have 16 bits where all that read it move
codes, or add, multiply or look up single values: graph outputs and logits. There, rounding to 8 bits is the last thing
that happens to a value, and nothing behind averages it out: class probabilities tie, boxes snap to a raster. Sixteen
bits also leave room for values beyond those calibration showed. And where values that lie far apart are added or
subtracted (the corners of boxes, whose difference is their size), the rounding of the operands is all of the noise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from headrace.hn import Layer, Network
from headrace.layers import Activated, InputLayer, OutputLayer, ReduceMax
from headrace.numerics.quantization import TensorQuantization, from_range, per_channel
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, State
from headrace.optimize.measure.sensitivity import Sensitivity, predicted_noise
from headrace.optimize.requests import wide_groups
from headrace.optimize.scales.offsets import fitted
from headrace.optimize.scales.parts import passed_on
from headrace.optimize.scales.precision import WIDE, reads_wide
from headrace.optimize.scales.ranges import ScaleGroups, has_meant_range

Pair = tuple[float, int]
#: Tried where rounding these tensors to 8 bits is predicted to make at least this part of the noise.
LEAST_SHARE = 0.1
#: Factor by which a 16-bit range goes beyond what was measured: one of the eight bits gained.
HEADROOM = 2.0


class OutputPrecision(Algorithm):
    """Sixteen bits: where the user asks for them, for operands of sums, and for outputs and logits."""

    name = "output-precision"
    least_gain = 0.3  # 16-bit outputs are twice the bytes

    def proposals(self, state: State) -> Proposals:
        decisions = yield from self._asked_for(state)
        if state.bench.options.output_bits == 8:
            return decisions
        groups, narrow = state.bench.groups, state.bench.requests.narrow
        best = state.best
        inner = candidates(best.prepared, groups, best.tensors, inner=True, narrow=narrow)
        if inner:
            inner = worthwhile(state.bench.sensitivities(best.prepared), best.tensors, inner)
        decisions += yield from self._wide(state, inner)
        best = state.best
        decisions += yield from self._wide(state, candidates(best.prepared, groups, best.tensors, narrow=narrow))
        return decisions

    def _asked_for(self, state: State) -> Proposals:
        """Sixteen bits where the user wants them, whatever they bring."""
        bench, best = state.bench, state.best
        wanted = wide_groups(best.prepared, bench.groups, bench.requests)
        chosen = [names for names in wanted if best.tensors[names[0]].bits == 8]
        if not chosen:
            return []
        label = "precision asked for"
        outcome = yield best.again(label, apply(best.prepared, bench.groups, best.tensors, chosen), wanted=True)
        return [outcome.decision(self.name, f"{len(chosen)} groups of tensors: {label}", "")]

    def _wide(self, state: State, chosen: list[list[str]]) -> Proposals:
        """These groups of tensors in 16 bits, where the outputs gain, or the user asks for it."""
        if not chosen:
            return []
        bench, best = state.bench, state.best
        asked = bench.options.output_bits
        names = {name for group in chosen for name in group}
        part = share(bench.sensitivities(best.prepared), best.tensors, names)
        if asked is None and part < LEAST_SHARE:
            return []
        tensors = apply(best.prepared, bench.groups, best.tensors, chosen)
        outcome = yield best.again(self.name, tensors, wanted=asked == WIDE)
        reason = f"{len(chosen)} groups of tensors, {100 * part:.0f} % of the predicted noise from rounding activations"
        return [outcome.decision(self.name, reason, ": the outputs do not gain")]


def candidates(
    network: Network,
    groups: ScaleGroups,
    tensors: Mapping[str, TensorQuantization],
    inner: bool = False,
    narrow: frozenset[str] = frozenset(),
) -> list[list[str]]:
    """Scale groups of 8 bits whose readers can all read 16: those at graph outputs or in front of a softmax, or, with
    ``inner``, the others.

    Groups with a member in ``narrow`` stay as they are.
    """
    found: list[list[str]] = []
    for names in groups.members().values():
        members = [network[name] for name in names]
        if tensors[names[0]].bits != 8 or any(isinstance(layer.operation, InputLayer) for layer in members):
            continue
        if not narrow.isdisjoint(names):
            continue
        readers = [user for layer in members for user in network.users(layer.name)]
        ends = any(isinstance(layer.operation, OutputLayer) for layer in members)
        # The largest of a row is taken of what softmax reads.
        ends = ends or any(isinstance(user.operation, ReduceMax) for user in readers)
        if ends is not inner and readers and all(reads_wide(user) for user in readers):
            found.append(names)
    return found


def worthwhile(
    found: Mapping[str, Sensitivity], tensors: Mapping[str, TensorQuantization], groups: list[list[str]]
) -> list[list[str]]:
    """The groups whose rounding makes a good part of the predicted noise, each by itself."""
    return [names for names in groups if share(found, tensors, set(names)) >= LEAST_SHARE]


def widened(quantization: TensorQuantization, fixed: Collection[Pair] = ()) -> TensorQuantization:
    """Sixteen bits for a tensor: a range fixed by its meaning stays, any other gets room.

    Args:
        quantization: of 8 bits.
        fixed: its pairs of scale and zero point whose range is fixed.
    """
    wide: dict[Pair, TensorQuantization] = {}
    for pair in quantization.pairs:
        if pair not in wide:
            low, high = TensorQuantization(*pair, quantization.bits).limits
            room = 1.0 if pair in fixed else HEADROOM
            wide[pair] = from_range(room * low, room * high, WIDE)
    own = [wide[pair] for pair in quantization.pairs]
    return per_channel([q.scale for q in own], [q.zero_point for q in own], WIDE, quantization.axis)


def _bounded(network: Network, layer: Layer) -> bool:
    """Whether no value can lie beyond the range: by meaning, or because a clamp ends it on both sides."""
    attributes = layer.operation
    if isinstance(attributes, Activated) and attributes.clamp is not None:
        return None not in attributes.clamp
    return has_meant_range(network, layer)


def share(found: Mapping[str, Sensitivity], tensors: Mapping[str, TensorQuantization], names: set[str]) -> float:
    """Part of the predicted noise at the outputs that rounding these tensors makes."""
    rows = predicted_noise(found, tensors)
    total = sum(noise for _, noise in rows)
    return sum(noise for name, noise in rows if name in names) / total if total > 0 else 0.0


def apply(
    network: Network, groups: ScaleGroups, tensors: Mapping[str, TensorQuantization], chosen: list[list[str]]
) -> dict[str, TensorQuantization]:
    """Quantizations of all tensors with 16 bits for these groups."""
    result = dict(tensors)
    for names in chosen:
        computed = [name for name in names if name not in groups.copied]
        fixed = {pair for name in computed if _bounded(network, network[name]) for pair in tensors[name].pairs}
        wide = {name: fitted(network, names, widened(tensors[name], fixed)) for name in computed}
        passed = passed_on(network, [name for name in names if name in groups.copied], wide)
        assert passed is not None  # as with 8 bits: scales differ where they did
        result.update(passed)
    return result


__all__ = ["OutputPrecision", "apply", "candidates", "share", "widened", "worthwhile"]
