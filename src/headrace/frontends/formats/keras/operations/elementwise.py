# SPDX-License-Identifier: Apache-2.0
"""Functions of one or two tensors or numbers, and reductions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts_operation
from headrace.frontends.formats.keras.layers.activation import apply_function, clipped
from headrace.frontends.formats.keras.layers.merge import broadcast
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_list, is_number

_BINARY = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "TrueDivide": "Div", "Divide": "Div", "Maximum": "Max",
    "Minimum": "Min", "Power": "Pow", "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual",
    "Less": "Less", "LessEqual": "LessOrEqual", "LogicalAnd": "And", "LogicalOr": "Or", "Mod": "Mod",
}  # fmt: skip
_UNARY = {
    "Absolute": "Abs", "Abs": "Abs", "Ceil": "Ceil", "Cos": "Cos", "Erf": "Erf", "Exp": "Exp", "Floor": "Floor",
    "Log": "Log", "Negative": "Neg", "Reciprocal": "Reciprocal", "Round": "Round", "Sign": "Sign", "Sin": "Sin",
    "Sqrt": "Sqrt", "LogicalNot": "Not",
}  # fmt: skip
#: Operations that are activations, and what those are called.
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus",
    "Softsign": "softsign", "Silu": "silu", "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Selu": "selu",
    "LogSigmoid": "log_sigmoid", "Squareplus": "squareplus", "TanhShrink": "tanh_shrink", "HardTanh": "hard_tanh",
}  # fmt: skip
_REDUCTIONS = {"Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}


def operand(call: LayerCall, value: object) -> Tensor:
    """An argument as a tensor: one that is computed, or a number, or numbers in lists."""
    if isinstance(value, Tensor):
        return value
    if is_number(value) or isinstance(value, bool) or is_list(value):
        try:
            array = np.array(value, np.float32)
        except (ValueError, TypeError):
            raise Unsupported(f"an argument is {str(value)[:80]}", "a tensor or numbers") from None
        if array.size > 1 << 20 or array.ndim > 8:
            raise Unsupported(f"an argument has shape {list(array.shape)}", "a small constant")
        return Tensor(call.make(array), array.shape)
    raise Unsupported(f"an argument is {str(value)[:80]}", "a tensor or numbers")


@converts_operation(*_BINARY)
def binary(call: LayerCall) -> Tensor:
    a, b = (operand(call, call.argument(i, name)) for i, name in enumerate(("x1", "x2")))
    return Tensor(call.emit(_BINARY[call.kind], [a.value, b.value]), broadcast([a.shape, b.shape]))


@converts_operation(*_UNARY)
def unary(call: LayerCall) -> Tensor:
    return Tensor(call.emit(_UNARY[call.kind], [call.x.value]), call.x.shape)


@converts_operation(*_ACTIVATIONS)
def activation(call: LayerCall) -> Tensor:
    return Tensor(apply_function(call, call.x.value, _ACTIVATIONS[call.kind]), call.x.shape)


@converts_operation("Gelu")
def gelu(call: LayerCall) -> Tensor:
    kind = "tanh" if call.argument(1, "approximate", True) else "none"
    return Tensor(call.emit("Gelu", [call.x.value], {"approximate": kind}), call.x.shape)


@converts_operation("LeakyRelu", "Elu", "Celu")
def slope(call: LayerCall) -> Tensor:
    name, default = ("negative_slope", 0.2) if call.kind == "LeakyRelu" else ("alpha", 1.0)
    value = call.argument(1, name, default)
    if not is_number(value):
        raise Unsupported(f"{name} is {str(value)[:40]}", "a number")
    return Tensor(call.emit(call.kind, [call.x.value], {"alpha": float(value)}), call.x.shape)


@converts_operation("Softmax", "LogSoftmax")
def softmax(call: LayerCall) -> Tensor:
    axis = call.argument(1, "axis", -1)
    if not isinstance(axis, int) or not -call.x.rank <= axis < call.x.rank:
        raise Unsupported(f"axis {str(axis)[:40]}", "one dimension")
    return Tensor(call.emit(call.kind, [call.x.value], {"axis": axis}), call.x.shape)


@converts_operation("Square")
def square(call: LayerCall) -> Tensor:
    return Tensor(call.emit("Mul", [call.x.value, call.x.value]), call.x.shape)


@converts_operation("Rsqrt")
def reciprocal_root(call: LayerCall) -> Tensor:
    return Tensor(call.emit("Reciprocal", [call.emit("Sqrt", [call.x.value])]), call.x.shape)


@converts_operation("Log1p", "Expm1")
def about_one(call: LayerCall) -> Tensor:
    one, x = call.number(1.0), call.x
    if call.kind == "Log1p":
        return Tensor(call.emit("Log", [call.emit("Add", [x.value, one])]), x.shape)
    return Tensor(call.emit("Sub", [call.emit("Exp", [x.value]), one]), x.shape)


@converts_operation("Clip")
def clip(call: LayerCall) -> Tensor:
    low, high = call.argument(1, "x_min"), call.argument(2, "x_max")
    if not is_number(low) or not is_number(high):
        raise Unsupported(f"bounds {str(low)[:40]} and {str(high)[:40]}", "numbers")
    return Tensor(clipped(call, call.x.value, float(low), float(high)), call.x.shape)


@converts_operation("Cast")
def cast(call: LayerCall) -> Tensor:
    kind = call.argument(1, "dtype")
    if kind not in ("float32", "float16", "bfloat16", "float64"):
        raise Unsupported(f"a cast to {str(kind)[:40]}", "a float type")
    return Tensor(call.emit("Cast", [call.x.value], {"to": int(ir.DataType.FLOAT)}), call.x.shape)


@converts_operation("Where")
def where(call: LayerCall) -> Tensor:
    found = [operand(call, call.argument(i, name)) for i, name in enumerate(("condition", "x1", "x2"))]
    return Tensor(call.emit("Where", [t.value for t in found]), broadcast([t.shape for t in found]))


def reduced_shape(shape: Shape, axes: list[int], keep: bool) -> Shape:
    return tuple(1 if i in axes else s for i, s in enumerate(shape) if keep or i not in axes)


@converts_operation(*_REDUCTIONS)
def reduction(call: LayerCall) -> Tensor:
    x = call.x
    given = call.argument(1, "axis")
    axes = list(range(x.rank)) if given is None else [given] if isinstance(given, int) else given
    if not is_list(axes) or not all(isinstance(a, int) and -x.rank <= a < x.rank for a in axes):
        raise Unsupported(f"axis {str(given)[:40]}", "dimensions of the tensor")
    axes, keep = sorted({a % x.rank for a in axes}), bool(call.argument(2, "keepdims", False))
    value = call.emit(_REDUCTIONS[call.kind], [x.value, call.list(axes)], {"keepdims": int(keep)})
    return Tensor(value, reduced_shape(x.shape, axes, keep))


@converts_operation("Matmul")
def matmul(call: LayerCall) -> Tensor:
    a, b = (operand(call, call.argument(i, name)) for i, name in enumerate(("x1", "x2")))
    if min(a.rank, b.rank) < 2:
        raise Unsupported(f"tensors of ranks {a.rank} and {b.rank}", "rank 2 or more")
    shape = (*broadcast([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1]) if max(a.rank, b.rank) > 2 else (
        a.shape[0], b.shape[1]
    )  # fmt: skip
    return Tensor(call.emit("MatMul", [a.value, b.value]), shape)
