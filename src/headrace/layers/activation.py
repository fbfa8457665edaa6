# SPDX-License-Identifier: Apache-2.0
"""Activations: as an attribute of a computing layer, and as a layer of their own.

linear, relu, relu6 and clip are a clamp of codes; every other one is a table (docs/numerics.md, section 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import ClassVar

import numpy as np

from headrace.errors import UsageError, unknown_name
from headrace.layers.attributes import AttributeRuleError
from headrace.layers.operation import Frozen, Operation, Parameter, QuantizedLayer, Shape, register
from headrace.numerics import tables
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.requantize import Array, Requantization

Params = Mapping[str, float]
GAIN = "gain"


@dataclass(frozen=True)
class Function:
    """One activation function.

    Attributes:
        evaluate: on the float ops of an executor.
        decimal: on decimals, for tables; ``None`` for clamps and for what only the sign decides.
        clamp: params → (low, high) real bounds, for functions that only clamp.
        range: params → the real range the meaning fixes, if any (either end may be None).
        params: names and defaults.
        slope: params → the factor of negative values, for functions that only multiply those.
        jumps: it is not continuous: however short a range, the result may change all at once.
    """

    evaluate: Callable[[FloatOps[AnyTensor], Params, AnyTensor], AnyTensor]
    decimal: Callable[[Params, Decimal], Decimal] | None = None
    clamp: Callable[[Params], tuple[float | None, float | None]] | None = None
    range: Callable[[Params], tuple[float | None, float | None]] = lambda p: (None, None)
    params: Mapping[str, float] = field(default_factory=dict[str, float])
    slope: Callable[[Params], float] | None = None
    jumps: bool = False


def _hard_sigmoid(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.clip(o.affine(x, p["alpha"], p["beta"]), 0.0, 1.0)


def _leaky(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.where_negative(x, o.affine(x, p["alpha"], 0.0), x)


def _elu(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.where_negative(x, o.affine(o.exp(o.clip(x, None, 0.0)), p["alpha"], -p["alpha"]), x)


def _softplus(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-abs x)), which does not overflow."""
    negative = o.where_negative(x, x, o.affine(x, -1.0, 0.0))
    return o.add(o.clip(x, 0.0, None), o.log(o.affine(o.exp(negative), 1.0, 1.0)))


def _abs(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    return o.where_negative(x, o.affine(x, -1.0, 0.0), x)


def _softsign(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.multiply(x, o.reciprocal(o.affine(_abs(o, x), 1.0, 1.0)))


def _mish(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.multiply(x, o.tanh(_softplus(o, x)))


def _gelu(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    return o.multiply(x, o.affine(o.erf(o.affine(x, math.sqrt(0.5), 0.0)), 0.5, 0.5))


def _gelu_tanh(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    slope = o.affine(o.multiply(x, x), 0.044715 * _GELU, _GELU)
    return o.multiply(x, o.affine(o.tanh(o.multiply(x, slope)), 0.5, 0.5))


_GELU = math.sqrt(2.0 / math.pi)
_GELU_DECIMAL = (2 / tables.PI).sqrt()
_ROOT_HALF = Decimal("0.70710678118654752440084436210484903928483593768847403658833986899536623923105")


def _gelu_tanh_decimal(p: Params, x: Decimal) -> Decimal:
    return x * (1 + tables.tanh(_GELU_DECIMAL * (x + Decimal("0.044715") * x * x * x))) / 2


def _exponential(o: FloatOps[AnyTensor], x: AnyTensor, slope: float, below: float, above: float) -> AnyTensor:
    """``above·x`` for x ≥ 0, else ``below·(exp(slope·x) - 1)``."""
    tail = o.affine(o.exp(o.affine(o.clip(x, None, 0.0), slope, 0.0)), below, -below)
    return o.where_negative(x, tail, o.affine(x, above, 0.0))


def _celu_decimal(p: Params, x: Decimal) -> Decimal:
    alpha = tables.exact(p["alpha"])
    return x if x >= 0 else alpha * tables.expm1(x / alpha)


def _selu_decimal(p: Params, x: Decimal) -> Decimal:
    gamma = tables.exact(p["gamma"])
    return gamma * x if x >= 0 else gamma * tables.exact(p["alpha"]) * tables.expm1(x)


def _threshold(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    """The value where it is above alpha, else 0; alpha itself gives 0."""
    return o.where_negative(o.affine(x, -1.0, p["alpha"]), x, o.affine(x, 0.0, 0.0))


def _positive(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    """1 where x > 0, else 0."""
    return o.where_negative(o.affine(x, -1.0, 0.0), o.affine(x, 0.0, 1.0), o.affine(x, 0.0, 0.0))


def _is_zero(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    """1 where the size of x is at most the width, else 0."""
    either = o.add(_positive(o, o.affine(x, 1.0, -p["width"])), _positive(o, o.affine(x, -1.0, -p["width"])))
    return o.affine(either, -1.0, 1.0)


def _sign(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    return o.subtract(_positive(o, x), _positive(o, o.affine(x, -1.0, 0.0)))


def _ceil(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    return o.affine(o.floor(o.affine(x, -1.0, 0.0)), -1.0, 0.0)


def _atan(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    """The angle halved three times, then 8 times its series: to float32 exact."""
    x = o.clip(x, -_STEEP, _STEEP)
    for _ in range(3):
        x = o.multiply(x, o.reciprocal(o.affine(o.sqrt(o.affine(o.multiply(x, x), 1.0, 1.0)), 1.0, 1.0)))
    square = o.multiply(x, x)
    total = o.affine(square, 0.0, 1.0 / _TERMS)
    for n in range(_TERMS - 2, 0, -2):
        total = o.affine(o.multiply(square, total), -1.0, 1.0 / n)
    return o.affine(o.multiply(x, total), 8.0, 0.0)


def _asin(o: FloatOps[AnyTensor], x: AnyTensor) -> AnyTensor:
    """Twice the inverse tangent of ``x / (1 + √(1 - x²))``; what is beyond ±1 counts as ±1."""
    x = o.clip(x, -1.0, 1.0)
    root = o.sqrt(o.clip(o.affine(o.multiply(x, x), -1.0, 1.0), 0.0, None))
    return o.affine(_atan(o, o.multiply(x, o.reciprocal(o.affine(root, 1.0, 1.0)))), 2.0, 0.0)


#: Beyond it the angle is a right one in float32; its square is finite. Odd powers of the series go so far.
_STEEP, _TERMS = 1e9, 17


def _to_whole(rounding: str) -> Callable[[Params, Decimal], Decimal]:
    return lambda p, x: x.to_integral_value(rounding=rounding)


def _power(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
    """``(max(x, 0) + offset) ** exponent``."""
    return o.exp(o.affine(o.log(o.affine(o.clip(x, 0.0, None), 1.0, p["offset"])), p["exponent"], 0.0))


def _power_decimal(p: Params, x: Decimal) -> Decimal:
    return tables.power(max(x, Decimal(0)) + tables.exact(p["offset"]), tables.exact(p["exponent"]))


def _clip01(x: Decimal) -> Decimal:
    return min(max(x, Decimal(0)), Decimal(1))


def _hard_sigmoid_decimal(p: Params, x: Decimal) -> Decimal:
    return _clip01(tables.exact(p["alpha"]) * x + tables.exact(p["beta"]))


#: Parameters of every function that is a table: its result times the scale, plus the offset. They hold a multiply-add
#: by one number each that follows the activation (passes/fold_affine.py); the table makes it free.
OUTPUT_SCALE, OUTPUT_OFFSET = "output_scale", "output_offset"


def _with_output(function: Function) -> Function:
    """The function with the parameters :data:`OUTPUT_SCALE` and :data:`OUTPUT_OFFSET`, where it is always a table."""
    exact_value = function.decimal
    if exact_value is None or function.slope is not None:
        return function

    def changed(p: Params) -> bool:
        return (p[OUTPUT_SCALE], p[OUTPUT_OFFSET]) != (1.0, 0.0)

    def evaluate(o: FloatOps[AnyTensor], p: Params, x: AnyTensor) -> AnyTensor:
        y = function.evaluate(o, p, x)
        return o.affine(y, p[OUTPUT_SCALE], p[OUTPUT_OFFSET]) if changed(p) else y

    def decimal(p: Params, x: Decimal) -> Decimal:
        y = exact_value(p, x)
        return tables.exact(p[OUTPUT_SCALE]) * y + tables.exact(p[OUTPUT_OFFSET]) if changed(p) else y

    def bounds(p: Params) -> tuple[float | None, float | None]:
        low, high = (None if v is None else p[OUTPUT_SCALE] * v + p[OUTPUT_OFFSET] for v in function.range(p))
        return (low, high) if p[OUTPUT_SCALE] > 0 else (high, low)

    params = {**function.params, OUTPUT_SCALE: 1.0, OUTPUT_OFFSET: 0.0}
    return Function(evaluate, decimal, None, bounds, params, jumps=function.jumps)


_PLAIN: dict[str, Function] = {
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
    "leaky_relu": Function(
        _leaky,
        lambda p, x: x if x >= 0 else x * tables.exact(p["alpha"]),
        params={"alpha": 0.01},
        slope=lambda p: p["alpha"],
    ),
    "prelu": Function(lambda o, p, x: x),  # its slopes are a parameter of the layer: see Activated.evaluate
    "elu": Function(
        _elu, lambda p, x: x if x >= 0 else tables.exact(p["alpha"]) * tables.expm1(x), params={"alpha": 1.0}
    ),
    "exp": Function(lambda o, p, x: o.exp(x), lambda p, x: tables.exp(x)),
    "abs": Function(lambda o, p, x: _abs(o, x), lambda p, x: abs(x)),
    "asin": Function(
        lambda o, p, x: _asin(o, x), lambda p, x: tables.asin(x), range=lambda p: (-math.pi / 2, math.pi / 2)
    ),
    "atan": Function(
        lambda o, p, x: _atan(o, x), lambda p, x: tables.atan(x), range=lambda p: (-math.pi / 2, math.pi / 2)
    ),
    "cos": Function(
        lambda o, p, x: o.sin(o.affine(x, 1.0, math.pi / 2)),
        lambda p, x: tables.cos(x),
        range=lambda p: (-1.0, 1.0),
    ),
    "erf": Function(lambda o, p, x: o.erf(x), lambda p, x: tables.erf(x), range=lambda p: (-1.0, 1.0)),
    "sin": Function(lambda o, p, x: o.sin(x), lambda p, x: tables.sin(x), range=lambda p: (-1.0, 1.0)),
    "celu": Function(
        lambda o, p, x: _exponential(o, x, 1.0 / p["alpha"], p["alpha"], 1.0), _celu_decimal, params={"alpha": 1.0}
    ),
    "gelu": Function(_gelu, lambda p, x: x * tables.erfc(-x * _ROOT_HALF) / 2),
    "gelu_tanh": Function(_gelu_tanh, _gelu_tanh_decimal),
    "log": Function(lambda o, p, x: o.log(x), lambda p, x: tables.logarithm(x)),
    "mish": Function(_mish, lambda p, x: x * tables.tanh(tables.softplus(x))),
    "power": Function(_power, _power_decimal, params={"exponent": 1.0, "offset": 0.0}),
    "reciprocal": Function(lambda o, p, x: o.reciprocal(x), lambda p, x: tables.reciprocal(x)),
    "selu": Function(
        lambda o, p, x: _exponential(o, x, 1.0, p["alpha"] * p["gamma"], p["gamma"]),
        _selu_decimal,
        params={"alpha": 1.6732631921768188, "gamma": 1.0507010221481323},
    ),
    "positive": Function(
        lambda o, p, x: _positive(o, x), lambda p, x: Decimal(int(x > 0)), range=lambda p: (0.0, 1.0), jumps=True
    ),
    "is_zero": Function(
        _is_zero,
        lambda p, x: Decimal(int(abs(x) <= tables.exact(p["width"]))),
        range=lambda p: (0.0, 1.0),
        params={"width": 0.0},
        jumps=True,
    ),
    "sign": Function(
        lambda o, p, x: _sign(o, x),
        lambda p, x: Decimal(int(x > 0) - int(x < 0)),
        range=lambda p: (-1.0, 1.0),
        jumps=True,
    ),
    "floor": Function(lambda o, p, x: o.floor(x), _to_whole(ROUND_FLOOR), jumps=True),
    "ceil": Function(lambda o, p, x: _ceil(o, x), _to_whole(ROUND_CEILING), jumps=True),
    "round": Function(lambda o, p, x: o.round(x), _to_whole(ROUND_HALF_EVEN), jumps=True),
    "trunc": Function(lambda o, p, x: o.where_negative(x, _ceil(o, x), o.floor(x)), _to_whole(ROUND_DOWN), jumps=True),
    "softplus": Function(lambda o, p, x: _softplus(o, x), lambda p, x: tables.softplus(x)),
    "softsign": Function(_softsign, lambda p, x: x / (1 + abs(x)), range=lambda p: (-1.0, 1.0)),
    "sqrt": Function(lambda o, p, x: o.sqrt(x), lambda p, x: max(x, Decimal(0)).sqrt()),
    "thresholded_relu": Function(
        _threshold, lambda p, x: x if x > tables.exact(p["alpha"]) else Decimal(0), params={"alpha": 1.0}
    ),
}


FUNCTIONS: dict[str, Function] = {name: _with_output(function) for name, function in _PLAIN.items()}


def function_of(name: str, where: str = "") -> Function:
    """The activation of this name, or a UsageError with the nearest names."""
    if name not in FUNCTIONS:
        raise UsageError(unknown_name("E-LAYER-ACTIVATION", "activation", name, FUNCTIONS, where))
    return FUNCTIONS[name]


@dataclass(frozen=True)
class Activated(Operation):
    """An operation that may end in an activation.

    ``prelu`` multiplies negative values by a slope per channel, the layer's parameter ``slope`` ``[c]``. It and
    ``leaky_relu`` have no table but a second term, the negative part (docs/numerics.md, section 4), where the layer
    has one accumulator.
    """

    activation: str = "linear"
    activation_params: dict[str, float] = field(default_factory=dict)
    one_accumulator: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.activation not in FUNCTIONS:
            raise AttributeRuleError("there is no activation of this name", self.activation, ", ".join(FUNCTIONS))
        if self.activation == "prelu" and not self.by_sign:
            raise AttributeRuleError("prelu needs a layer with one accumulator", "two", "an activation layer")
        known = FUNCTIONS[self.activation].params
        extra = sorted(set(self.activation_params) - set(known))
        if extra:
            raise AttributeRuleError(
                "the activation has no such parameter", ", ".join(extra), ", ".join(known) or "none"
            )
        if self.function_params.get(OUTPUT_SCALE, 1.0) == 0:
            raise AttributeRuleError("the output scale makes a constant of the activation", 0, "another number")
        if self.activation == "power" and self.function_params["offset"] < 0:
            raise AttributeRuleError(
                "power of a negative number", self.function_params["offset"], "an offset of 0 or more"
            )
        if self.activation == "celu" and self.function_params["alpha"] == 0:
            raise AttributeRuleError("celu divides by alpha", 0, "another number")
        if self.activation == "clip" and self.function_params["min"] > self.function_params["max"]:
            raise AttributeRuleError("clip bounds are in the wrong order", dict(self.activation_params), "min ≤ max")

    @property
    def function(self) -> Function:
        return FUNCTIONS[self.activation]

    @property
    def function_params(self) -> dict[str, float]:
        """Parameters of the function, its defaults for those not given."""
        return {**self.function.params, **self.activation_params}

    @property
    def clamp(self) -> tuple[float | None, float | None] | None:
        """Real clamp bounds, or ``None`` when the activation needs a table."""
        return self.function.clamp(self.function_params) if self.function.clamp else None

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.function.range(self.function_params)

    @property
    def by_sign(self) -> bool:
        """Whether the sign of the one accumulator chooses its factor."""
        return self.one_accumulator and (self.activation == "prelu" or self.function.slope is not None)

    def slopes(self, params: Mapping[str, Array]) -> Array:
        """float64 ``[c]`` or ``[1]``: the factors of negative values of a function :attr:`by_sign`."""
        if self.activation == "prelu":
            return params["slope"].astype(np.float64)
        assert self.function.slope is not None
        return np.array([self.function.slope(self.function_params)])

    def evaluate(self, ops: FloatOps[AnyTensor], x: AnyTensor, params: Mapping[str, Array]) -> AnyTensor:
        if self.activation == "prelu":
            return ops.where_negative(x, ops.multiply(x, ops.constant(params["slope"], x)), x)
        return self.function.evaluate(ops, self.function_params, x)

    @staticmethod
    def terms(ops: IntegerOps[AnyTensor], accumulator: AnyTensor, rq: Requantization) -> list[AnyTensor]:
        """The accumulator, and its negative part where the frozen integers have a factor for it."""
        return [accumulator, ops.negative_part(accumulator)] if rq.multipliers.shape[0] == 2 else [accumulator]

    def activation_parameters(self, channels: int) -> dict[str, Parameter]:
        """Float parameters of the activation itself, and the gain behind it."""
        found = {GAIN: Parameter((channels,), required=False)}
        return found | {"slope": Parameter((channels,))} if self.activation == "prelu" else found

    @property
    def numbers_of_terms(self) -> Shape:
        """How many terms the requantization of one accumulator may have."""
        return (2,) if self.by_sign else (1,)

    def decimal(self, x: Decimal) -> Decimal:
        assert self.function.decimal is not None
        return self.function.decimal(self.function_params, x)

    @property
    def is_linear(self) -> bool:
        return self.activation == "linear"

    @property
    def homogeneous(self) -> bool:
        """``f(c·x) = c·f(x)`` for every c > 0."""
        return self.activation in ("linear", "relu", "leaky_relu", "prelu")


def activate(ops: FloatOps[AnyTensor], operation: Activated, params: Mapping[str, Array], y: AnyTensor) -> AnyTensor:
    """A multiply-accumulate layer's activation; with a parameter ``gain`` [channels] its result times that.

    ``optimize`` gives channels gains, and takes them off again in the layers that read them, so that channels of
    unlike size share one scale without loss.
    """
    y = operation.evaluate(ops, y, params)
    gain = params.get(GAIN)
    return y if gain is None else ops.multiply(y, ops.constant(gain, y))


@register
@dataclass(frozen=True)
class Activation(Activated):
    """An activation as a layer of its own."""

    kind = "activation"
    prefix = "activation"
    reads_wide = True
    elementwise = True
    channelwise = True
    description = "An activation that is not attached to a computing layer."

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        return tuple(shapes[0])

    def parameters(self, shapes: Sequence[Shape], output: Shape) -> dict[str, Parameter]:
        return self.activation_parameters(output[-1])

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen:
        return Frozen({}, self.numbers_of_terms, output[-1])

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return self.evaluate(ops, inputs[0], params)

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        a = ops.center(inputs[0], quantized.inputs[0].zero_point)
        return ops.requantize(self.terms(ops, a, quantized.rq), quantized.rq, quantized.output.bits)
