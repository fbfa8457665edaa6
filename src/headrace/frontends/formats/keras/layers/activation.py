# SPDX-License-Identifier: Apache-2.0
"""Activations: as layers, and as the functions that other layers apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_number, is_object, is_text

_PLAIN = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "softsign": "Softsign",
    "exponential": "Exp", "mish": "Mish", "hard_silu": "HardSwish", "hard_swish": "HardSwish", "selu": "Selu",
}  # fmt: skip
Function = Callable[[LayerCall, ir.Value], ir.Value]


def clipped(call: LayerCall, value: ir.Value, low: float, high: float) -> ir.Value:
    return call.emit("Clip", [value, call.number(low), call.number(high)])


def silu(call: LayerCall, value: ir.Value) -> ir.Value:
    return call.emit("Mul", [value, call.emit("Sigmoid", [value])])


def hard_sigmoid(call: LayerCall, value: ir.Value) -> ir.Value:
    """``x / 6 + 1/2`` between 0 and 1; before Keras 3 ``x / 5 + 1/2``."""
    slope = 0.2 if call.builder.is_version_2 else 1 / 6
    return call.emit("HardSigmoid", [value], {"alpha": slope, "beta": 0.5})


def _log_sigmoid(call: LayerCall, value: ir.Value) -> ir.Value:
    return call.emit("Neg", [call.emit("Softplus", [call.emit("Neg", [value])])])


def _squareplus(call: LayerCall, value: ir.Value) -> ir.Value:
    root = call.emit("Sqrt", [call.emit("Add", [call.emit("Mul", [value, value]), call.number(4.0)])])
    return call.emit("Mul", [call.emit("Add", [value, root]), call.number(0.5)])


def _glu(call: LayerCall, value: ir.Value) -> ir.Value:
    linear, gate = call.emit_all("Split", [value], {"axis": -1, "num_outputs": 2}, 2)
    return call.emit("Mul", [linear, call.emit("Sigmoid", [gate])])


_FUNCTIONS: dict[str, Function] = {
    "linear": lambda _, x: x,
    "relu6": lambda call, x: clipped(call, x, 0.0, 6.0),
    "leaky_relu": lambda call, x: call.emit("LeakyRelu", [x], {"alpha": 0.2}),
    "elu": lambda call, x: call.emit("Elu", [x], {"alpha": 1.0}),
    "celu": lambda call, x: call.emit("Celu", [x], {"alpha": 1.0}),
    "gelu": lambda call, x: call.emit("Gelu", [x], {"approximate": "none"}),
    "hard_sigmoid": hard_sigmoid,
    "silu": silu,
    "swish": silu,
    "softmax": lambda call, x: call.emit("Softmax", [x], {"axis": -1}),
    "log_softmax": lambda call, x: call.emit("LogSoftmax", [x], {"axis": -1}),
    "log_sigmoid": _log_sigmoid,
    "squareplus": _squareplus,
    "glu": _glu,
    "hard_tanh": lambda call, x: clipped(call, x, -1.0, 1.0),
    "tanh_shrink": lambda call, x: call.emit("Sub", [x, call.emit("Tanh", [x])]),
    "soft_shrink": lambda call, x: call.emit("Shrink", [x], {"lambd": 0.5, "bias": 0.5}),
    "hard_shrink": lambda call, x: call.emit("Shrink", [x], {"lambd": 0.5, "bias": 0.0}),
}


def function_name(value: Any) -> str:
    """The name of a function as a configuration has it: text, or an object that says more.

    Raises:
        Unsupported: it is a layer, or no function of Keras.
    """
    if value is None:
        return "linear"
    if is_text(value):
        return value.rpartition(">")[2]
    if is_object(value):
        inner, kind = value.get("config"), value.get("class_name")
        if kind == "function" and is_text(inner):
            return inner.rpartition(">")[2]
        if is_text(kind) and is_object(inner):
            return _of_layer(kind, inner)
    raise Unsupported(f"the activation {str(value)[:80]} is not known", "a function of keras.activations")


def _of_layer(kind: str, config: dict[str, Any]) -> str:
    """An activation that is given as a layer with the options that its function has anyway."""
    plain = {"ReLU": "relu", "Softmax": "softmax", "ELU": "elu"}.get(kind)
    unusual = [k for k in ("max_value", "negative_slope", "threshold") if config.get(k)]
    if plain is None or unusual or config.get("alpha", 1.0) != 1.0 or config.get("axis", -1) != -1:
        raise Unsupported(f"its activation is a layer of class {kind[:80]}", "a function of keras.activations")
    return plain


def activated(call: LayerCall, value: ir.Value, option: str = "activation") -> ir.Value:
    """``value`` after the function that an option names."""
    return apply_function(call, value, function_name(call.option(option)))


def apply_function(call: LayerCall, value: ir.Value, name: str) -> ir.Value:
    """``value`` after the function of this name."""
    name = name.lower()
    if name in _PLAIN:
        return call.emit(_PLAIN[name], [value])
    if name not in _FUNCTIONS:
        raise Unsupported(f"the activation {name[:80]!r} is not supported", "a function of keras.activations")
    return _FUNCTIONS[name](call, value)


# --- layers -----------------------------------------------------------------------------------------------------------


@converts("Activation")
def activation(call: LayerCall) -> Tensor:
    return Tensor(activated(call, call.x.value), call.x.shape)


@converts("ReLU")
def relu(call: LayerCall) -> Tensor:
    """``max_value``, ``negative_slope`` and ``threshold`` all at once are rare; what ONNX has a word for is said so."""
    x = call.x
    value, most = x.value, call.option("max_value")
    slope, threshold = call.option("negative_slope", 0.0) or 0.0, call.option("threshold", 0.0) or 0.0
    if not is_number(slope) or not is_number(threshold) or not (most is None or is_number(most)):
        raise Unsupported("max_value, negative_slope or threshold is no number", "numbers")
    if threshold:
        if slope:
            raise Unsupported(f"threshold {threshold} and negative_slope {slope} together", "one of them")
        value = call.emit("ThresholdedRelu", [value], {"alpha": float(threshold)})
        return Tensor(value if most is None else call.emit("Min", [value, call.number(most)]), x.shape)
    if slope:
        value = call.emit("LeakyRelu", [value], {"alpha": float(slope)})
        return Tensor(value if most is None else call.emit("Min", [value, call.number(most)]), x.shape)
    return Tensor(call.emit("Relu", [value]) if most is None else clipped(call, value, 0.0, float(most)), x.shape)


@converts("LeakyReLU")
def leaky_relu(call: LayerCall) -> Tensor:
    slope = call.real("alpha", 0.3) if "alpha" in call.layer.config else call.real("negative_slope", 0.3)
    return Tensor(call.emit("LeakyRelu", [call.x.value], {"alpha": slope}), call.x.shape)


@converts("ELU")
def elu(call: LayerCall) -> Tensor:
    return Tensor(call.emit("Elu", [call.x.value], {"alpha": call.real("alpha", 1.0)}), call.x.shape)


@converts("ThresholdedReLU")
def thresholded_relu(call: LayerCall) -> Tensor:
    return Tensor(call.emit("ThresholdedRelu", [call.x.value], {"alpha": call.real("theta", 1.0)}), call.x.shape)


@converts("Softmax")
def softmax(call: LayerCall) -> Tensor:
    call.unmasked()
    axis = call.axis("axis", call.x.rank)
    return Tensor(call.emit("Softmax", [call.x.value], {"axis": axis}), call.x.shape)


@converts("PReLU")
def prelu(call: LayerCall) -> Tensor:
    """A slope per element, where ``shared_axes`` does not make it one for a whole dimension."""
    x = call.x
    shared = [] if call.option("shared_axes") is None else call.axes("shared_axes", x.rank)
    shape = [1 if axis in shared else x.size(axis) for axis in range(1, x.rank)]
    slope = call.weight(0, shape, "slope")
    if x.rank == 4:  # as ONNX has it, channels first
        slope = np.ascontiguousarray(slope.transpose(2, 0, 1))
        made = call.emit("PRelu", [call.channels_second(x), call.make(slope)])
        return Tensor(call.channels_last(made, 4), x.shape)
    return Tensor(call.emit("PRelu", [x.value, call.make(slope)]), x.shape)
