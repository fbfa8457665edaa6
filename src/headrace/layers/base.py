# SPDX-License-Identifier: Apache-2.0
"""What a layer kind is, and the registry of kinds (design, section 4).

A layer family's module holds everything that is true of it whatever the file format or device: attributes, shape
rule, float meaning, integer meaning, what carries scales, counts. Nothing else branches on a layer's kind.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from functools import cache
from typing import Any, ClassVar, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError, unknown_name
from headrace.hn import Array, Layer, Network
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization


class ScaleRule(Enum):
    """How a layer's output scale comes about."""

    OWN = "own"  # its range is measured, its codes are computed
    PASSES = "passes"  # codes pass unchanged: output and all inputs share one scale
    FIXED = "fixed"  # the layer's meaning fixes the range (softmax, sigmoid …)
    CONCAT = "concat"  # inputs take the output's scale when nobody else reads them, else are requantised


@dataclass(frozen=True)
class Counts:
    """Work of one layer per frame."""

    macs: int = 0
    weights: int = 0
    operations: int = 0
    output_elements: int = 0


class Parameter(NamedTuple):
    """What an array of a layer has to be.

    Attributes:
        shape: the shape; ``None``: any vector with at least one element.
        dtype: ``"float"`` for any float type, else the exact dtype.
        required: the layer cannot do without.
        nonzero: it is divided by.
    """

    shape: tuple[int, ...] | None
    dtype: str = "float"
    required: bool = True
    nonzero: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} {'[n]' if self.shape is None else list(self.shape)}"


class Frozen(NamedTuple):
    """What ``optimize`` leaves of a layer that computes.

    Attributes:
        parameters: integer arrays beside the requantisation.
        terms: numbers of terms that its requantisation may have.
        channels: of the output; its multipliers have so many columns, or one.
        divisors: of an average; its multipliers have one column for each entry of ``counts``, which has all of them.
    """

    parameters: dict[str, Parameter]
    terms: tuple[int, ...]
    channels: int
    divisors: Array | None = None


@dataclass(frozen=True)
class Attributes:
    """Base of typed attributes; field types may be int, float, str, bool, tuples of int, or dict[str, float]."""


@dataclass
class QuantizedLayer:
    """A typed view of one layer of a quantised network: the integers that ``optimize`` froze.

    Attributes:
        inputs: quantisation of each operand.
        output: quantisation of the result.
        requantization: ``None`` where codes pass unchanged.
        params: the layer's parameters (``kernel_q``, ``bias_q``, ``counts`` …).
    """

    layer: Layer
    inputs: list[TensorQuantization]
    output: TensorQuantization
    requantization: Requantization | None
    params: dict[str, Array]

    @property
    def rq(self) -> Requantization:
        if self.requantization is None:
            raise InputFileError(
                Diagnostic(
                    "E-HN-QUANTIZATION", self.layer.name, "the layer's requantisation is absent", "nothing", "integers"
                )
            )
        return self.requantization

    def param(self, key: str, dtype: type[np.generic], ndim: int) -> Array:
        """A parameter with its dtype and rank checked."""
        value = self.params.get(key)
        if value is None or value.dtype != np.dtype(dtype) or value.ndim != ndim:
            got = "nothing" if value is None else f"{value.dtype} of rank {value.ndim}"
            raise InputFileError(
                Diagnostic(
                    "E-HN-PARAM",
                    f"{self.layer.name}/{key}",
                    "a frozen integer parameter is not valid",
                    got,
                    f"{np.dtype(dtype)} of rank {ndim}",
                )
            )
        return value


class LayerDefinition:
    """One kind of layer. Subclasses are never instantiated; they are namespaces of rules."""

    kind: ClassVar[str]
    prefix: ClassVar[str]
    attributes: ClassVar[type[Attributes]] = Attributes
    scale_rule: ClassVar[ScaleRule] = ScaleRule.OWN
    operands: ClassVar[tuple[int, int]] = (1, 1)  # least and greatest number of inputs
    has_integer_form: ClassVar[bool] = True
    copies_codes: ClassVar[bool] = False  # every element of the output is an element of an input
    description: ClassVar[str] = ""

    @classmethod
    def read(cls, layer: Layer) -> Any:
        """Typed, validated attributes of a layer."""
        return read_attributes(cls.attributes, layer.attributes, layer.name)

    @classmethod
    def output_shape(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        raise NotImplementedError

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        raise NotImplementedError

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        raise NotBuiltYetError(
            Diagnostic(
                "E-LAYER-NO-INTEGER",
                quantized.layer.name,
                f"{cls.kind} has no integer form; a pass decomposes it first",
            )
        )

    @classmethod
    def parameters(
        cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]
    ) -> dict[str, Parameter]:
        """The float parameters of the layer by name."""
        return {}

    @classmethod
    def frozen(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Frozen | None:
        """The integers of the quantised layer; None where codes pass and there are none."""
        return None

    @classmethod
    def fixed_range(cls, attributes: Any) -> tuple[float, float] | None:
        """The real range of the output where the meaning fixes it."""
        return None

    @classmethod
    def counts(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Counts:
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(operations=elements, output_elements=elements)


_REGISTRY: dict[str, type[LayerDefinition]] = {}


def register(definition: type[LayerDefinition]) -> type[LayerDefinition]:
    _REGISTRY[definition.kind] = definition
    return definition


def definition_of(kind: str, where: str = "") -> type[LayerDefinition]:
    """The rules of a kind.

    Raises:
        InputFileError: this version does not know the kind.
    """
    found = _REGISTRY.get(kind)
    if found is None:
        raise InputFileError(unknown_name("E-LAYER-KIND", "layer kind", kind, _REGISTRY, where))
    return found


def all_definitions() -> list[type[LayerDefinition]]:
    return [_REGISTRY[kind] for kind in sorted(_REGISTRY)]


# --- attributes from JSON ------------------------------------------------------------------------------------------


def _bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-LAYER-ATTRIBUTE", where, rule, str(got)[:200], str(need)))


def _convert(value: Any, hint: Any, where: str, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), where, name)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _bad(where, f"attribute {name!r} is not a list", type(value).__name__, "a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(v, arguments[0], where, name) for v in value)
        if len(value) != len(arguments):
            raise _bad(where, f"attribute {name!r} has the wrong length", len(value), len(arguments))
        return tuple(_convert(v, a, where, name) for v, a in zip(value, arguments, strict=True))
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            raise _bad(where, f"attribute {name!r} is not an object", type(value).__name__, "an object")
        return {k: _convert(v, arguments[1], where, name) for k, v in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        if isinstance(value, int) and abs(value) >= 1 << 31:
            raise _bad(where, f"attribute {name!r} is too large", value, "below 2^31")
        return value
    raise _bad(where, f"attribute {name!r} has the wrong type", type(value).__name__, getattr(hint, "__name__", hint))


@cache
def _type_hints(cls: type[Any]) -> dict[str, Any]:
    # get_type_hints evaluates annotation strings: half of a parse when asked for each layer.
    return get_type_hints(cls)


def read_attributes(cls: type[Any], raw: Mapping[str, Any], where: str) -> Any:
    """Build a frozen attribute dataclass from JSON values; checks names, types and its own rules."""
    hints = _type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    for name in raw:
        if name not in known:
            raise InputFileError(unknown_name("E-LAYER-ATTRIBUTE", "attribute", name, known, where))
    values: dict[str, Any] = {}
    for name, definition in known.items():
        if name in raw:
            values[name] = _convert(raw[name], hints[name], where, name)
        elif definition.default is MISSING and definition.default_factory is MISSING:
            raise _bad(where, f"attribute {name!r} is absent", "nothing", "a value")
    try:
        return cls(**values)
    except AttributeRuleError as rule:
        raise _bad(where, rule.rule, rule.got, rule.need) from None


class AttributeRuleError(Exception):
    """Raised by an attribute class's ``__post_init__``: a rule, what was got, what is needed."""

    def __init__(self, rule: str, got: object, need: object) -> None:
        super().__init__(rule)
        self.rule, self.got, self.need = rule, got, need


def write_attributes(attributes: Any) -> dict[str, Any]:
    """The JSON values of an attribute dataclass; fields that have their default are left out."""

    def plain(value: Any) -> Any:
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    out: dict[str, Any] = {}
    for f in fields(attributes):
        value = getattr(attributes, f.name)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if (f.default is MISSING and f.default_factory is MISSING) or value != default:
            out[f.name] = plain(value)
    return out


# --- whole networks ------------------------------------------------------------------------------------------------


def infer_shape(network: Network, layer: Layer) -> tuple[int, ...]:
    """The output shape by the layer's own rule, from its inputs' recorded shapes."""
    definition = definition_of(layer.kind, layer.name)
    shapes = network.input_shapes(layer)
    low, high = definition.operands
    if not low <= len(shapes) <= high:
        raise _bad(layer.name, f"{layer.kind} has the wrong number of inputs", len(shapes), f"{low} to {high}")
    return definition.output_shape(definition.read(layer), shapes, layer.name)


def check_network(network: Network) -> None:
    """Every kind known, every attribute valid, every recorded shape equal to the one its rule gives.

    Raises:
        InputFileError: with one diagnostic per offending layer.
    """
    problems: list[Diagnostic] = []
    for layer in network:
        try:
            shape = infer_shape(network, layer)
            if shape != tuple(layer.output_shape):
                problems.append(
                    Diagnostic(
                        "E-HN-SHAPE",
                        layer.name,
                        "the recorded shape is not what the layer computes",
                        str(list(layer.output_shape)),
                        str(list(shape)),
                    )
                )
        except InputFileError as error:
            problems += error.diagnostics
    if problems:
        raise InputFileError(problems)


def output_quantization(layer: Layer) -> TensorQuantization:
    """Quantisation of a layer's output tensor in a quantised network.

    Raises:
        InputFileError: it is absent or not valid, or has scales for another number of channels.
    """
    raw = (layer.quantization or {}).get("output")
    found = TensorQuantization.from_dict(raw, layer.name)
    shape = layer.output_shape[1:]
    if not found.uniform and (len(shape) < -found.axis or shape[found.axis] != len(found.scales)):
        got = f"{len(found.scales)} along axis {found.axis} of {list(shape)}"
        rule = "a tensor has scales for another number of elements"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, got, "one per element of the axis"))
    return found


def _operands(network: Network, layer: Layer) -> list[TensorQuantization]:
    """Quantisation of each input; one scale and a zero point among the codes where the layer computes with them."""
    found = [output_quantization(network[name]) for name in layer.inputs]
    if definition_of(layer.kind, layer.name).copies_codes:
        return found
    for name, quantization in zip(layer.inputs, found, strict=True):
        if not quantization.computable:
            rule = f"{layer.kind} computes with a tensor whose channels differ, or whose zero point is no code"
            got = f"{name}: {len(quantization.pairs)} scales, zero point {quantization.zero_point}"
            need = "one scale and zero point, among the codes"
            raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, got, need, ("run optimize again",)))
    return found


def quantized_view(network: Network, layer: Layer) -> QuantizedLayer:
    """The typed view of one layer's frozen integers, validated."""
    params = network.params_of(layer)
    raw = (layer.quantization or {}).get("requantize")
    rq: Requantization | None = None
    if raw is not None:
        try:
            rq = Requantization(
                multipliers=params["multipliers"],
                shifts=params["shifts"],
                zero=raw["zero"],
                low=raw["low"],
                high=raw["high"],
                table=params.get("table"),
                channel_tables=params.get("channel_tables"),
            )
        except (KeyError, TypeError):
            raise InputFileError(
                Diagnostic(
                    "E-HN-QUANTIZATION",
                    layer.name,
                    "the requantisation is not complete",
                    repr(raw)[:200],
                    "zero, low, high, and params multipliers and shifts",
                )
            ) from None
    return QuantizedLayer(
        layer=layer,
        inputs=_operands(network, layer),
        output=output_quantization(layer),
        requantization=rq,
        params=params,
    )


def store_requantization(network: Network, layer: Layer, output: TensorQuantization, rq: Requantization | None) -> None:
    """Record a layer's output quantisation and requantisation integers (the inverse of quantized_view)."""
    layer.quantization = {"output": output.as_dict()}
    if rq is not None:
        layer.quantization["requantize"] = {
            "zero": rq.zero,
            "low": rq.low,
            "high": rq.high,
            "table_bits": rq.table_bits,
        }
        network.params[f"{layer.name}/multipliers"] = rq.multipliers
        network.params[f"{layer.name}/shifts"] = rq.shifts
        if rq.table is not None:
            network.params[f"{layer.name}/table"] = rq.table
        if rq.channel_tables is not None:
            network.params[f"{layer.name}/channel_tables"] = rq.channel_tables
