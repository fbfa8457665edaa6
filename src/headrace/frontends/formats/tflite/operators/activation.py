# SPDX-License-Identifier: Apache-2.0
"""Functions of one tensor, PRELU and SOFTMAX."""

from __future__ import annotations

import numpy as np

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported

_PLAIN = {
    "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log",
    "LOG_SOFTMAX": "LogSoftmax", "LOGICAL_NOT": "Not", "NEG": "Neg", "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin",
    "SQRT": "Sqrt",
}  # fmt: skip
converts("RSQRT")(common.reciprocal_root)
converts("SQUARE")(common.square)


@converts("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC", "HARD_SWISH")
def activation(operation: Operation) -> None:
    operation.done(operation.activation(operation.name, operation.value(0)))


@converts(*_PLAIN)
def plain(operation: Operation) -> None:
    operation.done(operation.emit(_PLAIN[operation.name], [operation.value(0)]))


@converts("ELU")
def elu(operation: Operation) -> None:
    operation.done(operation.emit("Elu", [operation.value(0)], {"alpha": 1.0}))


@converts("LEAKY_RELU")
def leaky_relu(operation: Operation) -> None:
    operation.done(operation.emit("LeakyRelu", [operation.value(0)], {"alpha": operation.real("alpha")}))


@converts("GELU")
def gelu(operation: Operation) -> None:
    kind = "tanh" if operation.flag("approximate") else "none"
    operation.done(operation.emit("Gelu", [operation.value(0)], {"approximate": kind}))


@converts("PRELU")
def prelu(operation: Operation) -> None:
    """Of images as ONNX has it, channels first: the slope's last size is the channels."""
    rank, slope = len(operation.tensor(0).shape), operation.array(1, "the slope")
    if rank != 4 or slope.ndim > 4:
        operation.done(operation.emit("PRelu", [operation.value(0), operation.value(1)]))
        return
    slope = slope.reshape((1,) * (4 - slope.ndim) + slope.shape).transpose(0, 3, 1, 2)
    slope = slope[0] if slope.shape[0] == 1 else slope
    operation.done_image(operation.emit("PRelu", [operation.image(0), operation.make(np.ascontiguousarray(slope))]))


@converts("L2_NORMALIZATION")
def unit_length(operation: Operation) -> None:
    made = operation.emit("LpNormalization", [operation.value(0)], {"axis": -1, "p": 2})
    operation.done(operation.activated(made))


@converts("LOCAL_RESPONSE_NORMALIZATION")
def local_response(operation: Operation) -> None:
    reals = {key: operation.real(key) for key in ("alpha", "beta", "bias")}
    common.local_response(operation, operation.integer("radius"), **reals)


@converts("SOFTMAX")
def softmax(operation: Operation) -> None:
    value, beta = operation.value(0), operation.real("beta")
    if not np.isfinite(beta):
        raise Unsupported(f"beta is {beta}", "a finite number")
    if beta != 1.0:
        value = operation.emit("Mul", [value, operation.make(np.array(beta, np.float32))])
    operation.done(operation.emit("Softmax", [value], {"axis": -1}))


@converts("FAKE_QUANT")
def fake_quantized(operation: Operation) -> None:
    low, high = (np.array([operation.real(key)], np.float64) for key in ("min", "max"))
    common.fake_quantized(operation, low, high, operation.integer("num_bits"), operation.flag("narrow_range"))
