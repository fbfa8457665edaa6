# SPDX-License-Identifier: Apache-2.0
"""Activations: as an attribute of a computing layer, and as a layer of their own.

linear, relu, relu6 and clip are a clamp of codes; every other one is a table (docs/numerics.md, section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from headrace.errors import UsageError, unknown_name
from headrace.hn import Array
from headrace.layers.base import AttributeRuleError, Attributes, LayerDefinition, QuantizedLayer, register
from headrace.numerics import tables
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps

Params = Mapping[str, float]


@dataclass(frozen=True)
class Function:
    """One activation function.

    Attributes:
        evaluate: on the float ops of an executor.
        decimal: on decimals, for tables; ``None`` for clamps.
        clamp: params → (low, high) real bounds, for functions that only clamp.
        range: params → the real range the meaning fixes, if any (either end may be None).
        params: names and defaults.
    """

    evaluate: Callable[[FloatOps[AnyTensor], Params, AnyTensor], AnyTensor]
    decimal: Callable[[Params, Decimal], Decimal] | None = None
    clamp: Callable[[Params], tuple[float | None, float | None]] | None = None
    range: Callable[[Params], tuple[float | None, float | None]] = lambda p: (None, None)
    params: Mapping[str, float] = field(default_factory=dict)


def _hard_sigmoid(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.clip(o.affine(x, p["alpha"], p["beta"]), 0.0, 1.0)


def _leaky(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.where_negative(x, o.affine(x, p["alpha"], 0.0), x)


def _elu(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.where_negative(x, o.affine(o.exp(o.clip(x, None, 0.0)), p["alpha"], -p["alpha"]), x)


def _clip01(x: Decimal) -> Decimal:
    return min(max(x, Decimal(0)), Decimal(1))


def _hard_sigmoid_decimal(p: Params, x: Decimal) -> Decimal:
    return _clip01(tables.exact(p["alpha"]) * x + tables.exact(p["beta"]))


FUNCTIONS: dict[str, Function] = {
    "linear": Function(lambda o, p, x: x, clamp=lambda p: (None, None)),
    "relu": Function(lambda o, p, x: o.clip(x, 0.0, None), clamp=lambda p: (0.0, None), range=lambda p: (0.0, None)),
    "relu6": Function(lambda o, p, x: o.clip(x, 0.0, 6.0), clamp=lambda p: (0.0, 6.0), range=lambda p: (0.0, 6.0)),
    "clip": Function(
        lambda o, p, x: o.clip(x, p["min"], p["max"]),
        clamp=lambda p: (p["min"], p["max"]),
        range=lambda p: (p["min"], p["max"]),
        params={"min": 0.0, "max": 1.0},
    ),
    "sigmoid": Function(lambda o, p, x: o.sigmoid(x), lambda p, x: tables.sigmoid(x), range=lambda p: (0.0, 1.0)),
    "tanh": Function(lambda o, p, x: o.tanh(x), lambda p, x: tables.tanh(x), range=lambda p: (-1.0, 1.0)),
    "silu": Function(lambda o, p, x: o.multiply(x, o.sigmoid(x)), lambda p, x: x * tables.sigmoid(x)),
    "hard_sigmoid": Function(
        _hard_sigmoid, _hard_sigmoid_decimal, range=lambda p: (0.0, 1.0), params={"alpha": 0.2, "beta": 0.5}
    ),
    "hard_swish": Function(
        lambda o, p, x: o.multiply(x, o.clip(o.affine(x, 1.0 / 6.0, 0.5), 0.0, 1.0)),
        lambda p, x: x * _clip01(x / 6 + Decimal("0.5")),
    ),
    "leaky_relu": Function(_leaky, lambda p, x: x if x >= 0 else x * tables.exact(p["alpha"]), params={"alpha": 0.01}),
    "elu": Function(
        _elu, lambda p, x: x if x >= 0 else tables.exact(p["alpha"]) * (x.exp() - 1), params={"alpha": 1.0}
    ),
    "exp": Function(lambda o, p, x: o.exp(x), lambda p, x: x.exp()),
}


def function_of(name: str, where: str = "") -> Function:
    """The activation of this name, or a UsageError with the nearest names."""
    if name not in FUNCTIONS:
        raise UsageError(unknown_name("E-LAYER-ACTIVATION", "activation", name, FUNCTIONS, where))
    return FUNCTIONS[name]


@dataclass(frozen=True)
class ActivationAttributes(Attributes):
    """Mixed into every layer that may end in an activation."""

    activation: str = "linear"
    activation_params: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.activation not in FUNCTIONS:
            raise AttributeRuleError("there is no activation of this name", self.activation, ", ".join(FUNCTIONS))
        known = FUNCTIONS[self.activation].params
        extra = sorted(set(self.activation_params) - set(known))
        if extra:
            raise AttributeRuleError(
                "the activation has no such parameter", ", ".join(extra), ", ".join(known) or "none"
            )
        if self.activation == "clip" and self.params["min"] > self.params["max"]:
            raise AttributeRuleError("clip bounds are in the wrong order", dict(self.activation_params), "min ≤ max")

    @property
    def function(self) -> Function:
        return FUNCTIONS[self.activation]

    @property
    def params(self) -> dict[str, float]:
        return {**self.function.params, **self.activation_params}

    @property
    def clamp(self) -> tuple[float | None, float | None] | None:
        """Real clamp bounds, or ``None`` when the activation needs a table."""
        return self.function.clamp(self.params) if self.function.clamp else None

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.function.range(self.params)

    def evaluate(self, ops: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
        return self.function.evaluate(ops, self.params, x)

    def decimal(self, x: Decimal) -> Decimal:
        assert self.function.decimal is not None
        return self.function.decimal(self.params, x)


@register
class ActivationLayer(LayerDefinition):
    kind = "activation"
    prefix = "activation"
    attributes = ActivationAttributes
    description = "An activation that is not attached to a computing layer."

    @classmethod
    def output_shape(cls, attributes: Any, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        return tuple(shapes[0])

    @classmethod
    def forward_float(
        cls, ops: FloatOps[AnyTensor], attributes: Any, params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return attributes.evaluate(ops, inputs[0])

    @classmethod
    def forward_integer(
        cls, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, attributes: Any, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        a = ops.center(inputs[0], quantized.inputs[0].zero_point)
        return ops.requantize([a], quantized.rq, quantized.output.bits)
