# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear of constants: weights stored as integers, or rounded by the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import Budget, Operands, axis_in, evaluates, operand, optional
from headrace.frontends.graph import Unsupported, integer
from headrace.frontends.quantization import CODE_TYPES, kind_of_codes
from headrace.hn import Array


def _spread(node: ir.Node, array: Array, shape: tuple[int, ...], what: str) -> Array:
    """Scales or zero points broadcast to codes: one, one per index of an axis, or one per block along it.

    Raises:
        Unsupported: their number does not fit.
    """
    if array.size == 1 and array.ndim <= 1:
        return array.reshape(())
    if not shape:
        raise Unsupported(f"{array.size} {what}s for one number", "one")
    axis = axis_in(integer(node, "axis", 1), len(shape))
    block = integer(node, "block_size", 0)
    if array.ndim == 1 and not block:
        if array.size != shape[axis]:
            raise Unsupported(f"{array.size} {what}s for an axis of {shape[axis]}", "one, or one per index of the axis")
        return array.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    # Blocks: the last one may be shorter.
    want = tuple(-(-size // block) if i == axis and block > 0 else size for i, size in enumerate(shape))
    if block < 1 or array.shape != want:
        got = f"{what}s of shape {list(array.shape)} in blocks of {block} for codes of shape {list(shape)}"
        raise Unsupported(got, "one for each block along the axis")
    return np.repeat(array, block, axis=axis)[tuple(slice(0, size) for size in shape)]


def _scale(node: ir.Node, operands: Operands, shape: tuple[int, ...]) -> Array:
    scale = operand(operands, 1)
    if scale.dtype.kind != "f":
        raise Unsupported(f"a scale of type {scale.dtype}", "float numbers")
    if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        bad = scale.reshape(-1)[np.flatnonzero(~(scale.reshape(-1) > 0) | ~np.isfinite(scale.reshape(-1)))[0]]
        raise Unsupported(f"the scale {bad:g} of a constant", "positive, finite numbers")
    return _spread(node, scale.astype(np.float32), shape, "scale")


def _zero(node: ir.Node, operands: Operands, shape: tuple[int, ...]) -> Array:
    zero = optional(operands, 2)
    if zero is None:
        return np.zeros((), np.int64)
    if zero.dtype.kind not in "iu":
        raise Unsupported(f"a zero point of type {zero.dtype}", "the integer type of the codes")
    return _spread(node, zero.astype(np.int64), shape, "zero point")


@evaluates("DequantizeLinear")
def _dequantize(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """Numbers that codes stand for; float32, and float64 of codes that have more bits than that."""
    codes = operand(operands, 0)
    if codes.dtype.kind not in "iu":
        raise Unsupported(f"codes of type {codes.dtype}", "integers")
    integer(node, "output_dtype", 0)
    scale, zero = _scale(node, operands, codes.shape), _zero(node, operands, codes.shape)
    budget.take(codes.shape)
    exact = (codes.astype(np.int64) - zero).astype(np.float64) * scale.astype(np.float64)
    return [exact if codes.dtype.itemsize >= 4 else exact.astype(np.float32)]


@evaluates("QuantizeLinear")
def _quantize(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """Codes of constants."""
    values = operand(operands, 0)
    kind = kind_of_codes(node)
    if values.dtype.kind not in "fiu" or kind not in CODE_TYPES:
        raise Unsupported(f"codes of type {kind} of a constant of type {values.dtype}", ", ".join(CODE_TYPES))
    integer(node, "saturate", 1)
    integer(node, "precision", 0)
    integer(node, "output_dtype", 0)
    scale, zero = _scale(node, operands, values.shape), _zero(node, operands, values.shape)
    budget.take(values.shape)
    bits, least = CODE_TYPES[kind]
    rounded = np.rint(values.astype(np.float32) / scale) + zero
    codes = np.clip(np.nan_to_num(rounded), least, least + (1 << bits) - 1)
    stored = {"int4": "int8", "uint4": "uint8"}.get(kind, kind)
    return [codes.astype(stored)]
