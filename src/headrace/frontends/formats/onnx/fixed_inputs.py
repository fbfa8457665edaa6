# SPDX-License-Identifier: Apache-2.0
"""Inputs of an ONNX file to which the user gave values: they become constants of the file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from headrace.errors import Diagnostic, UsageError, unknown_name
from headrace.frontends.options import InputValues, value_of
from headrace.hn import Array

_T = onnx.TensorProto
#: Types of inputs to which values are given.
_TYPES = frozenset({
    _T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64,
    _T.BOOL,
})  # fmt: skip
_OPTION = "--input-values"


def fix_inputs(graph: onnx.GraphProto, given: InputValues) -> None:
    """Put constants in the place of inputs.

    Args:
        graph: of the file; changed in place.
        given: value by name of the input; an initializer that stands for an input by default gives way.

    Raises:
        UsageError: a name of no input, or a value of another type or shape than its input; all of them together.
    """
    problems: list[Diagnostic] = []
    inputs = {info.name: info for info in graph.input}
    constants: list[onnx.TensorProto] = []
    for name, value in given.items():
        if name not in inputs:
            problems.append(unknown_name("E-PARSE-VALUES", "input", name, inputs, _OPTION))
            continue
        found = _as_stated(inputs[name], value_of(value))
        if isinstance(found, Diagnostic):
            problems.append(found)
        else:
            constants.append(numpy_helper.from_array(found, name))
    if problems:
        raise UsageError(problems)
    if not constants:
        return
    kept_inputs = [info for info in graph.input if info.name not in given]
    kept = [tensor for tensor in graph.initializer if tensor.name not in given]
    del graph.input[:], graph.initializer[:]
    graph.input.extend(kept_inputs)
    graph.initializer.extend([*kept, *constants])


def _as_stated(info: onnx.ValueInfoProto, value: Array | None) -> Array | Diagnostic:
    """The value in the type that the file states for the input, or why it is not of it."""
    tensor = info.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in tensor.shape.dim]
    shape = f" of shape [{', '.join(map(str, dims))}]" if tensor.HasField("shape") else ""
    known = info.type.HasField("tensor_type") and tensor.elem_type in _TYPES
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if known else None
    need = f"{dtype}{shape}" if dtype is not None else "an input that is a tensor of numbers"

    def refused(rule: str) -> Diagnostic:
        got = "" if value is None else f"{value.dtype.name} of shape {list(value.shape)}: {value.tolist()!r}"
        return Diagnostic("E-PARSE-VALUES", f"{_OPTION} {info.name}", rule, got[:200], need)

    if dtype is None or value is None:
        return refused("this input cannot be given a value")
    fits = len(dims) == value.ndim and all(
        not isinstance(d, int) or d <= 0 or d == s for d, s in zip(dims, value.shape, strict=True)
    )
    if tensor.HasField("shape") and not fits:
        return refused("the value has not the shape of the input")
    if (value.dtype.kind == "b") != (dtype.kind == "b") or (value.dtype.kind == "f" and dtype.kind != "f"):
        return refused("the value is not of the type of the input")
    with np.errstate(all="ignore"):
        made = value.astype(dtype)
    same = bool(np.isfinite(made).all()) if dtype.kind == "f" else bool(np.array_equal(made, value))
    return made if same else refused("the type of the input does not have this value")
