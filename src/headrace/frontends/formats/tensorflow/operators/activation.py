# SPDX-License-Identifier: Apache-2.0
"""Functions of one tensor, and SOFTMAX."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.formats.tensorflow.operators.spectrum import complex_exponential, has_complex
from headrace.frontends.graph import constant

_PLAIN = {
    "Abs": "Abs", "Acos": "Acos", "Acosh": "Acosh", "Asin": "Asin", "Asinh": "Asinh", "Atan": "Atan", "Atanh": "Atanh",
    "Ceil": "Ceil", "Cos": "Cos", "Cosh": "Cosh", "Erf": "Erf", "Floor": "Floor", "Inv": "Reciprocal",
    "IsInf": "IsInf", "IsNan": "IsNaN", "Log": "Log", "LogicalNot": "Not", "Neg": "Neg", "Reciprocal": "Reciprocal",
    "Relu": "Relu", "Rint": "Round", "Round": "Round", "Sigmoid": "Sigmoid", "Sign": "Sign", "Sin": "Sin",
    "Sinh": "Sinh", "Softplus": "Softplus", "Softsign": "Softsign", "Sqrt": "Sqrt", "Tan": "Tan", "Tanh": "Tanh",
}  # fmt: skip
converts("Rsqrt")(common.reciprocal_root)
converts("Square")(common.square)


@converts(*_PLAIN)
def plain(operation: Operation) -> None:
    operation.done(operation.emit(_PLAIN[operation.name], [operation.value(0)]))


@converts("Exp")
def exponential(operation: Operation) -> None:
    if has_complex(operation):
        complex_exponential(operation)
    else:
        operation.done(operation.emit("Exp", [operation.value(0)]))


def relu6(operation: Operation, value: ir.Value) -> ir.Value:
    """Between 0 and 6."""
    return operation.emit("Clip", [value, operation.number(0), operation.number(6)])


@converts("Relu6")
def clipped(operation: Operation) -> None:
    operation.done(relu6(operation, operation.value(0)))


@converts("ClipByValue")
def clip(operation: Operation) -> None:
    bounds = [operation.value(i) for i in (1, 2)]
    arrays = [constant(b) for b in bounds]
    if all(a is not None and a.size == 1 for a in arrays):
        scalars = [operation.make(a.reshape(())) for a in arrays if a is not None]
        operation.done(operation.emit("Clip", [operation.value(0), *scalars]))
        return
    low = operation.emit("Max", [operation.value(0), bounds[0]])
    operation.done(operation.emit("Min", [low, bounds[1]]))


@converts("Elu")
def elu(operation: Operation) -> None:
    operation.done(operation.emit("Elu", [operation.value(0)], {"alpha": 1.0}))


@converts("Selu")
def selu(operation: Operation) -> None:
    operation.done(operation.emit("Selu", [operation.value(0)]))


@converts("LeakyRelu")
def leaky_relu(operation: Operation) -> None:
    alpha = operation.attributes.real("alpha", 0.2)
    operation.done(operation.emit("LeakyRelu", [operation.value(0)], {"alpha": alpha}))


@converts("Erfc")
def complement(operation: Operation) -> None:
    operation.done(operation.emit("Sub", [operation.number(1), operation.emit("Erf", [operation.value(0)])]))


@converts("Expm1")
def exponential_less_one(operation: Operation) -> None:
    operation.done(operation.emit("Sub", [operation.emit("Exp", [operation.value(0)]), operation.number(1)]))


@converts("Log1p")
def log_of_one_more(operation: Operation) -> None:
    operation.done(operation.emit("Log", [operation.emit("Add", [operation.value(0), operation.number(1)])]))


@converts("Softmax", "LogSoftmax")
def softmax(operation: Operation) -> None:
    operation.done(operation.emit(operation.name, [operation.value(0)], {"axis": -1}))


@converts("LRN")
def local_response(operation: Operation) -> None:
    reals = {
        key: operation.attributes.real(key, default) for key, default in (("alpha", 1.0), ("beta", 0.5), ("bias", 1.0))
    }
    common.local_response(operation, operation.attributes.integer("depth_radius", 5), **reals)


@converts("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
def fake_quantized(operation: Operation) -> None:
    bits, narrow = operation.attributes.integer("num_bits", 8), operation.attributes.flag("narrow_range")
    if operation.name == "FakeQuantWithMinMaxArgs":
        low = np.array([operation.attributes.real("min", -6.0)])
        high = np.array([operation.attributes.real("max", 6.0)])
    else:
        low, high = (operation.array(i, "a bound").astype(np.float64).reshape(-1) for i in (1, 2))
    common.fake_quantized(operation, low, high, bits, narrow)
