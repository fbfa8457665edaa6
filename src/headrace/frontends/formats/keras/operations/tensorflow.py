# SPDX-License-Identifier: Apache-2.0
"""Functions of TensorFlow that Keras 2 recorded as layers (TFOpLambda, SlicingOpLambda): the same as ``keras.ops``.

Nothing of them is code: a file holds the function's name and its arguments.
"""

from __future__ import annotations

from typing import Any

from headrace.frontends.formats.keras.build import OPERATIONS, LayerCall, Tensor, converts
from headrace.frontends.formats.keras.config import Layer, Range, Rest
from headrace.frontends.graph import Unsupported
from headrace.typeguards import is_integer, is_list, is_object, is_text

_TWO = {"y": "x2", "b": "x2"}
_BINARY = {
    "add": "Add", "subtract": "Subtract", "multiply": "Multiply", "truediv": "TrueDivide", "divide": "TrueDivide",
    "maximum": "Maximum", "minimum": "Minimum", "pow": "Power", "sub": "Subtract", "mul": "Multiply",
    "equal": "Equal", "greater": "Greater", "greater_equal": "GreaterEqual", "less": "Less", "less_equal": "LessEqual",
}  # fmt: skip
_UNARY = {
    "abs": "Abs", "ceil": "Ceil", "cos": "Cos", "erf": "Erf", "exp": "Exp", "floor": "Floor", "log": "Log",
    "negative": "Negative", "neg": "Negative", "reciprocal": "Reciprocal", "round": "Round", "rsqrt": "Rsqrt",
    "sigmoid": "Sigmoid", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "square": "Square", "tanh": "Tanh",
    "relu": "Relu", "relu6": "Relu6", "selu": "Selu", "silu": "Silu", "swish": "Silu", "softplus": "Softplus",
    "softsign": "Softsign", "elu": "Elu", "identity": "Identity", "stop_gradient": "Identity",
}  # fmt: skip
_AXIS = {"axis": "axis", "keepdims": "keepdims", "keep_dims": "keepdims"}
#: Name of a function → operation, names of arguments → those of the operation.
_OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "softmax": ("Softmax", {"axis": "axis"}),
    "log_softmax": ("LogSoftmax", {"axis": "axis"}),
    "leaky_relu": ("LeakyRelu", {"alpha": "negative_slope"}),
    "gelu": ("Gelu", {"approximate": "approximate"}),
    "reduce_mean": ("Mean", _AXIS),
    "reduce_sum": ("Sum", _AXIS),
    "reduce_max": ("Max", _AXIS),
    "reduce_min": ("Min", _AXIS),
    "reduce_prod": ("Prod", _AXIS),
    "clip_by_value": ("Clip", {"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "reshape": ("Reshape", {"shape": "newshape"}),
    "transpose": ("Transpose", {"perm": "axes"}),
    "concat": ("Concatenate", {"axis": "axis"}),
    "stack": ("Stack", {"axis": "axis"}),
    "expand_dims": ("ExpandDims", {"axis": "axis"}),
    "squeeze": ("Squeeze", {"axis": "axis"}),
    "split": ("Split", {"num_or_size_splits": "indices_or_sections", "axis": "axis"}),
    "matmul": ("Matmul", {"b": "x2"}),
    "pad": ("Pad", {"paddings": "pad_width", "mode": "mode", "constant_values": "constant_values"}),
    "tile": ("Tile", {"multiples": "repeats"}),
    "reverse": ("Flip", {"axis": "axis"}),
    "cast": ("Cast", {"dtype": "dtype"}),
    "where": ("Where", {"x": "x1", "y": "x2"}),
    "getitem": ("GetItem", {"slice_spec": "key"}),
}
_FUNCTIONS = {
    **{name: (kind, _TWO) for name, kind in _BINARY.items()},
    **{name: (kind, dict[str, str]()) for name, kind in _UNARY.items()},
    **_OTHERS,
}
_SPACES = ("", "math", "nn", "linalg", "__operators__", "compat.v1", "compat.v1.nn", "compat.v1.math", "keras.backend")


def _value(name: str, value: Any) -> Any:
    """An argument as the operation takes it."""
    if name == "mode" and is_text(value):
        return value.lower()
    if name == "key":
        return [_key(k) for k in value] if is_list(value) else _key(value)
    if name == "indices_or_sections" and is_list(value) and all(is_integer(v) for v in value):
        return [sum(value[: i + 1]) for i in range(len(value) - 1)]  # places instead of sizes
    return value


def _key(value: Any) -> Any:
    """One part of an index."""
    if not is_object(value):
        return value
    if value.get("class_name") == "__ellipsis__":
        return Rest()
    ends = [value.get(k) for k in ("start", "stop", "step")]
    if any(end is not None and not is_integer(end) for end in ends):
        raise Unsupported(f"an index that holds {str(value)[:80]}", "numbers and ranges")
    return Range(*ends)


@converts("TFOpLambda", "SlicingOpLambda")
def function(call: LayerCall) -> Tensor | list[Tensor]:
    """The function that the layer's configuration names, with the arguments of its call."""
    told = call.option("function")
    space, _, name = (told if is_text(told) else "").rpartition(".")
    if space not in _SPACES or name not in _FUNCTIONS:
        need = "a model that Keras 3 saved, or layers of Keras"
        raise Unsupported(f"the function {str(told)[:80]} of TensorFlow is not supported", need)
    kind, renamed = _FUNCTIONS[name]
    named: dict[str, Any] = {}
    turned: dict[str, bool] = {}
    for key, value in call.named.items():
        if key in ("transpose_a", "transpose_b"):
            turned[key] = bool(value)
        elif key in renamed:
            named[renamed[key]] = _value(renamed[key], value)
        elif key != "name" and value not in (None, False):
            raise Unsupported(f"its argument {key[:40]!r} is not acted on", f"{told} without it")
    arguments = list(call.arguments)
    for index, key in enumerate(("transpose_a", "transpose_b")):
        if turned.get(key):
            arguments, named = _transposed(call, arguments, named, index)
    inner = LayerCall(
        call.builder, Layer(kind, call.layer.name, "keras.ops", {}), call.weights, call.label, arguments, named
    )
    made = OPERATIONS[kind](inner)
    return made if isinstance(made, Tensor) else list(made)


def _transposed(
    call: LayerCall, arguments: list[Any], named: dict[str, Any], index: int
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a product with the last two dimensions of one of them swapped."""
    value = arguments[0] if index == 0 else named.get("x2")
    if not isinstance(value, Tensor) or value.rank < 2:
        raise Unsupported("it transposes something that is no computed matrix", "a tensor")
    order = [*range(value.rank - 2), value.rank - 1, value.rank - 2]
    turned = Tensor(call.transposed(value.value, order), tuple(value.shape[i] for i in order))
    return ([turned], named) if index == 0 else (arguments, named | {"x2": turned})
