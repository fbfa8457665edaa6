# SPDX-License-Identifier: Apache-2.0
"""Codes that a model's own file states: where it quantizes a value, and how they come to the layer that makes it.

While a network is parsed every such place is a layer of its own, so that no pass computes across it: a convolution, the
file's rounding of it and an addition stay three things. At the end each goes into the layer in front of it, as a wish
for exactly these codes, and as its clamp: what a file's codes cannot show is cut off in its float meaning too (a relu
that a converter left out because the codes begin at 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from headrace.hn import Layer, Network
from headrace.hn.value import Wish
from headrace.layers import Activation, Operation, ScaleRule
from headrace.layers.activation import Activated
from headrace.layers.mac import KERNEL_SCALE
from headrace.layers.operation import Shape
from headrace.layers.rows import RowCost, row_by_row
from headrace.numerics.ops import AnyTensor, FloatOps
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Array
from headrace.passes.bypasses import Bypasses
from headrace.passes.rewriting import Facts, Pass, fresh_name


@dataclass(frozen=True)
class Coded(Operation):
    """The values as a file's codes show them, rounding apart; only between reading and the end of parsing.

    Attributes:
        low, high: reals of the least and the greatest code.
    """

    kind = "coded"
    prefix = "coded"
    elementwise = True

    low: float = 0.0
    high: float = 0.0

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        return tuple(shapes[0])

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return ops.clip(inputs[0], self.low, self.high)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        return row_by_row(shapes)

    @property
    def alone(self) -> Activation:
        """The same as a layer that stays."""
        return Activation("clip", {"min": self.low, "max": self.high})


def codes_of(layer: Layer) -> TensorQuantization | None:
    """What the file says of the codes of a layer's result."""
    return layer.wish.codes


def _moved_from(network: Network, name: str) -> Layer:
    """The layer whose codes a tensor holds: behind it codes only pass."""
    layer = network[name]
    while layer.operation.scale_rule is ScaleRule.PASSES and len(layer.inputs) == 1:
        layer = network[layer.inputs[0]]
    return layer


def _has_codes(network: Network, name: str, codes: TensorQuantization | None) -> bool:
    """Whether a tensor has such codes already."""
    layer = _moved_from(network, name)
    if layer.operation.scale_rule is ScaleRule.CONCAT:
        return all(_has_codes(network, source, codes) for source in layer.inputs)
    return isinstance(layer.operation, Coded) and codes_of(layer) == codes


@dataclass(frozen=True)
class DropRepeatedCodes(Pass):
    """Remove what states the codes that a tensor has already, or a second time for another reader."""

    name: ClassVar[str] = "drop-repeated-codes"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        first: dict[tuple[str, Operation, TensorQuantization | None], Layer] = {}
        for layer in network.of(Coded):
            if _has_codes(network, layer.inputs[0], codes_of(layer)):
                records.append({"layer": bypasses.source(layer).name, "dropped": list(layer.original_names)})
                bypasses.bypass(layer)
        bypasses.apply()
        for layer in network.of(Coded):
            key = layer.inputs[0], layer.operation, codes_of(layer)
            if key not in first:
                first[key] = layer
                continue
            names = first[key].original_names
            names += [n for n in layer.original_names if n not in names]
            records.append({"layer": first[key].name, "dropped": list(layer.original_names)})
            network.redirect(layer.name, first[key].name)
            network.remove(layer.name)
        return records


@dataclass(frozen=True)
class AbsorbCodes(Pass):
    """Give the layers that make values the codes that the file states of them; what is left stays a clamp."""

    name: ClassVar[str] = "absorb-codes"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        bypasses = Bypasses(network)
        for layer in network.of(Coded):
            operation = layer.operation
            assert isinstance(operation, Coded)
            home = _home(network, bypasses, layer)
            if home is None:
                records.append({"layer": layer.name, "becomes": [operation.alone.kind]})
                layer.operation = operation.alone
                continue
            home.output.wish = replace(home.output.wish or Wish(), codes=codes_of(layer))
            if isinstance(home.operation, Activated):
                home.operation = _limited(home.operation, operation, layer)
            records.append({"layer": home.name, "absorbed": list(layer.original_names)})
            bypasses.bypass(layer)
        bypasses.apply()
        return records


def _home(network: Network, bypasses: Bypasses, layer: Layer) -> Layer | None:
    """The layer that can make a value with the codes that ``layer`` states, and that nothing else reads."""
    reader, source = layer, bypasses.source(layer)
    while True:
        if bypasses.sole_user(source.name) is not reader or len(source.results) != 1 or codes_of(source) is not None:
            return None
        if source.operation.scale_rule is not ScaleRule.PASSES:
            return source
        if len(source.inputs) != 1:
            return None
        reader, source = source, bypasses.source(source)


def _limited(operation: Activated, codes: Coded, layer: Layer) -> Activated:
    """The operation with a clamp that ends where the codes do, where it can have one; ends that agree stay."""
    clamp, found = operation.clamp, codes_of(layer)
    if clamp is None or found is None:
        return operation
    half = found.scale / 2
    low = codes.low if clamp[0] is None or clamp[0] < codes.low - half else clamp[0]
    high = codes.high if clamp[1] is None or clamp[1] > codes.high + half else clamp[1]
    if (low, high) == clamp or low > high:
        return operation
    return replace(operation, activation="clip", activation_params={"min": low, "max": high})


@dataclass(frozen=True)
class SeparateCodes(Pass):
    """Put a change of codes between a layer that passes codes and what it reads, where the file gives it other ones."""

    name: ClassVar[str] = "separate-codes"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        known: dict[str, TensorQuantization | None] = {}
        for layer in list(network):
            own = codes_of(layer)
            if layer.operation.passes_codes and layer.inputs:
                given = [known[name] or known[_moved_from(network, name).name] for name in layer.inputs]
                stated = [codes for codes in given if codes is not None]
                if own is None and len(stated) == len(given) and all(codes == stated[0] for codes in stated):
                    own = stated[0]
                for position, codes in enumerate(given):
                    if own is not None and codes is not None and codes != own:
                        records.append(self._separate(network, layer, position, own))
                    elif own is not None and codes is None:
                        known[_moved_from(network, layer.inputs[position]).name] = own
            known[layer.name] = own
        return records

    @staticmethod
    def _separate(network: Network, layer: Layer, position: int, codes: TensorQuantization) -> Facts:
        source = layer.inputs[position]
        made = Layer(fresh_name(network, Activation), Activation(), [source], network[source].output_shape)
        made.output.wish = Wish(codes=codes)
        network.insert_after(source, made)
        network.set_operand(layer, position, made.output)
        return {"layer": made.name, "input": source}


def forgotten(network: Network) -> Network:
    """The float meaning of a network alone: a copy without the codes and the steps of weights that its file stated.

    Clamps stay that begin at 0; those that only say where signed codes end go.
    """
    copy = network.clone()
    for layer in copy:
        layer.params.pop(KERNEL_SCALE, None)
        codes = codes_of(layer)
        if codes is None:
            continue
        layer.output.wish = replace(layer.wish, codes=None)
        operation = layer.operation
        if isinstance(operation, Activated) and operation.activation == "clip":
            bounds = operation.function_params
            if codes.zero_point and (bounds["min"], bounds["max"]) == codes.limits:
                layer.operation = replace(operation, activation="linear", activation_params={})
    return copy


def stated_facts(network: Network) -> dict[str, dict[str, int]]:
    """How much the file says, for the report of parsing; empty where it says nothing."""
    tensors = sum(codes_of(layer) is not None for layer in network)
    weights = sum(KERNEL_SCALE in layer.params for layer in network)
    return {"quantized": {"tensors": tensors, "weights": weights}} if tensors or weights else {}


def has_codes(network: Network) -> bool:
    """Whether the file that a network was read from states codes of one of its values."""
    return any(codes_of(layer) is not None for layer in network)


__all__ = [
    "AbsorbCodes",
    "Coded",
    "DropRepeatedCodes",
    "SeparateCodes",
    "codes_of",
    "forgotten",
    "has_codes",
    "stated_facts",
]
