# SPDX-License-Identifier: Apache-2.0
"""From measured ranges to one quantization per tensor: scale groups (docs/numerics.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from headrace.hn import Array, Layer, Network
from headrace.layers import Activation, OutputLayer, ScaleRule
from headrace.layers.activation import Activated
from headrace.numerics.quantization import TensorQuantization, from_range
from headrace.optimize.scales import offsets, parts
from headrace.optimize.statistics.collect import Ranges
from headrace.passes import fresh_name

RAW_IMAGE = TensorQuantization(1.0, 0, 8)


class RangeChoice(Protocol):
    """Chooses the range of tensors that share a scale, inside the one that was measured."""

    def choose(
        self, network: Network, names: Sequence[str], low: float, high: float, bits: int
    ) -> tuple[float, float]: ...

    def asks(self, names: Sequence[str]) -> bool:
        """Whether the user gave one of these tensors a range."""
        ...


class ScaleGroups:
    """Union-find over tensors (named by their layers); a group's name is its first member in network order.

    Attributes:
        copied: layers that copy codes on the way to outputs. They share a group with what they read, but not always a
            scale: see :mod:`headrace.optimize.scales.parts`.
    """

    def __init__(self, network: Network) -> None:
        self._parent = {name: name for name in network.layers}
        self._order = {name: i for i, name in enumerate(network.layers)}
        self.copied = parts.copied_only(network)

    def find(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def union(self, a: str, b: str) -> None:
        first, second = sorted((self.find(a), self.find(b)), key=self._order.__getitem__)
        self._parent[second] = first

    def computed(self, network: Network, names: Sequence[str]) -> list[list[str]]:
        """The tensors of a group that are not only copied, in sets that must share a scale in any case."""
        rest = [name for name in names if name not in self.copied]
        inside, sets = set(rest), {name: [name] for name in rest}
        for name in rest:
            if not network[name].operation.passes_codes:
                continue
            for source in network[name].inputs:
                mine, theirs = sets[name], sets.get(source, [])
                if source in inside and mine is not theirs:
                    joined = sorted(mine + theirs, key=self._order.__getitem__)
                    sets.update(dict.fromkeys(joined, joined))
        return list({id(members): members for members in sets.values()}.values())

    def members(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for name in self._order:
            groups.setdefault(self.find(name), []).append(name)
        return groups


def scale_groups(network: Network) -> ScaleGroups:
    """Tensors that must share a scale, and concatenation inputs that may.

    A concatenation's input joins its group when nobody else reads the input, and neither group is tied to a network
    input (whose scale the data decide). A concatenation that is only copied to outputs takes no input of whose group
    something is computed: scores sliced from a tensor of which boxes are made would have the codes of boxes.
    """
    ends = parts.copied_only(network)
    groups = ScaleGroups(network)
    has_codes = any(layer.wish.codes is not None for layer in network)
    for layer in network:
        if layer.operation.scale_rule is ScaleRule.PASSES:
            for name in layer.inputs:
                groups.union(layer.name, name)
    for layer in network:
        if layer.operation.scale_rule is not ScaleRule.CONCAT:
            continue
        roots = [groups.find(name) for name in layer.inputs]
        if len(set(roots)) == 1:
            groups.union(layer.name, roots[0])
            continue
        fixed = {groups.find(x.name) for x in network.input_layers}
        if has_codes:
            _join_stated(network, groups, layer)
        members = groups.members() if layer.name in ends else {}
        for name in dict.fromkeys(layer.inputs):
            if has_codes and stated(network, groups.members()[groups.find(name)]) is not None:
                continue
            alone = len(network.users(name)) == 1
            alone = alone and not any(_computed_from(network, one) for one in members.get(groups.find(name), ()))
            if alone and groups.find(name) not in fixed:
                groups.union(layer.name, name)
    return groups


def _join_stated(network: Network, groups: ScaleGroups, concat: Layer) -> None:
    """Let a concatenation share the codes that the model's file states of its inputs, where it is to have the same."""
    members = groups.members()
    own = stated(network, members[groups.find(concat.name)])
    given = {name: stated(network, members[groups.find(name)]) for name in concat.inputs}
    wanted = own if own is not None else next(iter(given.values()))
    if wanted is None or (own is None and any(codes != wanted for codes in given.values())):
        return
    for name, codes in given.items():
        if codes == wanted:
            groups.union(concat.name, name)


def _computed_from(network: Network, name: str) -> bool:
    """Whether a layer that does not only copy codes reads a tensor."""
    return not all(user.operation.passes_codes for user in network.users(name))


def stated(network: Network, names: Iterable[str]) -> TensorQuantization | None:
    """The codes that the model's file states of tensors that share a scale."""
    return next((codes for name in names if (codes := network[name].wish.codes) is not None), None)


def insert_rescales(network: Network, groups: ScaleGroups) -> list[dict[str, Any]]:
    """Put a linear activation (a rescale) in front of every concatenation input whose group differs."""
    records: list[dict[str, Any]] = []
    for layer in network:
        if layer.operation.scale_rule is not ScaleRule.CONCAT:
            continue
        for position, name in enumerate(layer.inputs):
            if groups.find(name) == groups.find(layer.name):
                continue
            rescale = Layer(fresh_name(network, Activation), Activation(), [name], network[name].output_shape)
            network.insert_after(name, rescale)
            network.set_operand(layer, position, rescale.output)
            records.append({"pass": "rescale-concat-input", "layer": rescale.name, "concat": layer.name, "input": name})
    return records


def has_meant_range(network: Network, layer: Layer) -> bool:
    """Whether a layer's meaning, not the data, gives the range of its output."""
    return natural_range(network, layer, None) is not None


@overload
def natural_range(network: Network, layer: Layer, measured: tuple[float, float]) -> tuple[float, float]: ...
@overload
def natural_range(network: Network, layer: Layer, measured: None) -> tuple[float, float] | None: ...
def natural_range(network: Network, layer: Layer, measured: tuple[float, float] | None) -> tuple[float, float] | None:
    """The range a layer's own output needs: what its meaning fixes, else what was measured."""
    hint = layer.wish.range
    if hint is not None:
        return float(hint[0]), float(hint[1])
    attributes = layer.operation
    fixed = attributes.fixed_range()
    if fixed is not None:
        return fixed
    if isinstance(attributes, Activated) and attributes.clamp is None:
        low, high = attributes.range
        if low is not None and high is not None:
            return low, high
    return measured


def tensor_quantizations(
    network: Network,
    groups: ScaleGroups,
    ranges: Ranges,
    raw_inputs: Mapping[str, bool],
    bits: int,
    calibrator: RangeChoice | None = None,
    spans: Mapping[str, Array] | None = None,
) -> dict[str, TensorQuantization]:
    """One quantization per layer name; members of a group get equal ones.

    Args:
        network: float network.
        groups: its scale groups.
        ranges: what was measured.
        raw_inputs: which inputs take raw bytes.
        bits: of tensors that ask for nothing else.
        calibrator: narrows a group's range; by default all that was measured is covered.
        spans: range of each channel, of layers that have them.
    """
    result: dict[str, TensorQuantization] = {}
    measured = _Measured(network, ranges, spans or {}, calibrator)
    for names in groups.members().values():
        wide = max(network[n].wish.bits or bits for n in names)
        codes = stated(network, names)
        if codes is not None:
            result.update(dict.fromkeys(names, codes))
            continue
        if any(raw_inputs.get(n, False) for n in names):
            result.update(dict.fromkeys(names, RAW_IMAGE))
            continue
        apart = measured.apart(groups, names, wide)
        if apart is None:
            one = offsets.fitted(network, names, measured.choose(names, wide))
            copied = [n for n in names if n in groups.copied]
            # Offsets of outputs shift their zero points.
            apart = parts.passed_on(network, copied, {n: one for n in names if n not in groups.copied})
        result.update(apart if apart is not None else dict.fromkeys(names, measured.choose(names, wide)))
    return result


@dataclass(frozen=True)
class _Measured:
    """What ranges are chosen from."""

    network: Network
    ranges: Ranges
    spans: Mapping[str, Array]
    calibrator: RangeChoice | None

    def span(self, names: Sequence[str]) -> tuple[float, float]:
        """The union of the tensors' natural ranges; an output's offset is no part of it."""
        layers = [
            self.network[n] for n in names if not (isinstance(o := self.network[n].operation, OutputLayer) and o.offset)
        ]
        pairs = [natural_range(self.network, layer, self.ranges.output[layer.name]) for layer in layers]
        return min(p[0] for p in pairs), max(p[1] for p in pairs)

    def choose(self, names: Sequence[str], bits: int) -> TensorQuantization:
        """One quantization for the tensors ``names``."""
        low, high = self.span(names)
        if self.calibrator is not None:
            low, high = self.calibrator.choose(self.network, names, low, high, bits)
        return from_range(low, high, bits)

    def apart(self, groups: ScaleGroups, names: Sequence[str], bits: int) -> dict[str, TensorQuantization] | None:
        """A quantization for each part of a group; ``None`` where its parts are alike or cannot be kept apart."""
        copied = [name for name in names if name in groups.copied]
        asked = self.calibrator is not None and self.calibrator.asks(copied)
        if not copied or asked or not parts.describable(self.network):
            return None
        sets = groups.computed(self.network, names)
        units = parts.units_of(self.network, sets, groups.copied, self.span, self.spans)
        return parts.apart(
            self.network,
            copied,
            units,
            lambda some: self.choose(some, bits),
            lambda chosen: offsets.fitted(self.network, names, chosen),
            bits,
        )
