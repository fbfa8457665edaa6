# SPDX-License-Identifier: Apache-2.0
"""What the elements of a computed tensor are in the source: real numbers, whole numbers, or truth values.

The device computes with numbers that have a scale, and knows no other type. Whole numbers and truth values (0 and 1)
travel as such numbers; what an operator means may depend on what they are in the source: a quotient of whole numbers is
cut off, a truth value is what a comparison gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import constant, integer


class Elements(Enum):
    """What a tensor's elements are."""

    REAL = "real numbers"
    WHOLE = "whole numbers"
    TRUTH = "truth values"


#: Operators whose result is truth values, whatever they read.
TRUTHS = frozenset({
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Xor", "Not", "IsNaN", "IsInf",
})  # fmt: skip
_WHOLES = frozenset({"ArgMax", "ArgMin", "Shape", "Size", "NonZero"})
#: The operand whose type the result has, where that is not the first.
_LIKE = {"Where": 1, "OneHot": 2, "CastLike": 1}


def elements_of_type(dtype: ir.DataType | None) -> Elements:
    """What a tensor of a type of the format holds; real numbers where none is stated."""
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return Elements.REAL
    if dtype == ir.DataType.BOOL:
        return Elements.TRUTH
    return Elements.WHOLE if dtype.is_integer() else Elements.REAL


def elements_of_array(array: np.ndarray) -> Elements:
    return {"b": Elements.TRUTH, "i": Elements.WHOLE, "u": Elements.WHOLE}.get(array.dtype.kind, Elements.REAL)


def elements_of_result(node: ir.Node, known: Mapping[ir.Value, Elements]) -> Elements:
    """What the first result of a node holds.

    Args:
        node: translated.
        known: what tensors that are no constants hold.
    """
    if node.op_type in TRUTHS:
        return Elements.TRUTH
    if node.op_type in _WHOLES:
        return Elements.WHOLE
    if node.op_type == "Cast":
        return elements_of_type(ir.DataType(integer(node, "to", 1)))
    index = _LIKE.get(node.op_type, 0)
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return Elements.REAL
    array = constant(value)
    return elements_of_array(array) if array is not None else known.get(value, Elements.REAL)


__all__ = ["TRUTHS", "Elements", "elements_of_array", "elements_of_result", "elements_of_type"]
