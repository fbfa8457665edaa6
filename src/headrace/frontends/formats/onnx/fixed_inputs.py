# SPDX-License-Identifier: Apache-2.0
"""Inputs of an ONNX file to which the user gave values: they become constants of the file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from headrace.frontends.fixed_values import FixedInputs
from headrace.frontends.options import InputValues

_T = onnx.TensorProto
#: Types of inputs to which values are given.
_TYPES = frozenset({
    _T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64,
    _T.BOOL,
})  # fmt: skip


def fix_inputs(graph: onnx.GraphProto, given: InputValues) -> None:
    """Put constants in the place of inputs.

    Args:
        graph: of the file; changed in place.
        given: value by name of the input; an initializer that stands for an input by default gives way.

    Raises:
        UsageError: a name of no input, or a value of another type or shape than its input; all of them together.
    """
    fixed = FixedInputs(given)
    constants: list[onnx.TensorProto] = []
    for info in graph.input:
        found = fixed.value(info.name, *_stated(info))
        if found is not None:
            constants.append(numpy_helper.from_array(found, info.name))
    fixed.check(info.name for info in graph.input)
    if not constants:
        return
    kept_inputs = [info for info in graph.input if info.name not in given]
    kept = [tensor for tensor in graph.initializer if tensor.name not in given]
    del graph.input[:], graph.initializer[:]
    graph.input.extend(kept_inputs)
    graph.initializer.extend([*kept, *constants])


def _stated(info: onnx.ValueInfoProto) -> tuple[np.dtype | None, list[int | str | None] | None]:
    """Type and sizes that the file states for an input."""
    tensor = info.type.tensor_type
    known = info.type.HasField("tensor_type") and tensor.elem_type in _TYPES
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if known else None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]
