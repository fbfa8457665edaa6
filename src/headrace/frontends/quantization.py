# SPDX-License-Identifier: Apache-2.0
"""What quantized files state: the codes of values, and the grids on which weights lie.

Readers say it as the ONNX standard does, by QuantizeLinear and DequantizeLinear around operators on floats. Codes are
unsigned in a network: signed ones are moved up by half their range, and so is their zero point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, constant, integer, marks, name_of
from headrace.hn import Array
from headrace.numerics.quantization import LARGEST, TINY, TensorQuantization, on_grid

_GRID = "grid"
_ELEMENT = "element type"
#: Codes of values, by element type: their bits, and the least of them.
CODE_TYPES: dict[str, tuple[int, int]] = {
    "uint8": (8, 0), "int8": (8, -128), "uint16": (16, 0), "int16": (16, -32768), "uint4": (4, 0), "int4": (4, -8),
}  # fmt: skip
#: Operators that only move what they read: a grid stays one.
_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


@dataclass(frozen=True)
class Codes:
    """How a file's codes stand for the values of one tensor.

    Attributes:
        quantization: the same with unsigned codes of 8 or 16 bits.
        bits: of the file's codes.
        shift: what is added to a code of the file to make it unsigned.
    """

    quantization: TensorQuantization
    bits: int
    shift: int

    @property
    def limits(self) -> tuple[float, float]:
        """Reals of the least and the greatest code."""
        own = self.quantization
        return own.scale * (0 - own.zero_point), own.scale * ((1 << self.bits) - 1 - own.zero_point)

    @property
    def of_numbers(self) -> Codes:
        """The file's codes taken for numbers: scale 1, zero point 0."""
        return Codes(TensorQuantization(1.0, self.shift, self.quantization.bits), self.bits, self.shift)


def codes_of_type(scale: float, zero_point: int, kind: str) -> Codes:
    """Codes of an element type.

    Raises:
        Unsupported: the type, the scale or the zero point makes no sense.
    """
    if kind not in CODE_TYPES:
        raise Unsupported(f"codes of type {kind}", ", ".join(CODE_TYPES))
    bits, least = CODE_TYPES[kind]
    if not TINY <= scale <= LARGEST:  # NaN included
        raise Unsupported(f"the scale {scale:g} of a quantized tensor", "a positive, normal float32 number")
    if not least <= zero_point < least + (1 << bits):
        raise Unsupported(f"the zero point {zero_point} is no code of {kind}", f"{least} … {least + (1 << bits) - 1}")
    wide = TensorQuantization(float(np.float32(scale)), zero_point - least, 16 if bits == 16 else 8)
    return Codes(wide, bits, -least)


# --- nodes -----------------------------------------------------------------------------------------------------------


def kind_of_codes(node: ir.Node) -> str:
    """The element type of the codes that QuantizeLinear makes, or DequantizeLinear reads."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    for value in (zero, node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]):
        kind = None if value is None else element_type(value)
        if kind is not None:
            return kind
    stated = integer(node, "output_dtype", 0) if node.op_type == "QuantizeLinear" else 0
    return ir.DataType(stated).name.lower() if stated in {int(t) for t in ir.DataType} and stated else "uint8"


def element_type(value: ir.Value) -> str | None:
    """The type of a value's elements where it is known; 4-bit ones are stored as 8-bit integers."""
    if _ELEMENT in marks(value):
        return str(marks(value)[_ELEMENT])
    if value.const_value is not None:
        return str(constant(value).dtype)  # pyright: ignore[reportOptionalMemberAccess]
    return None if value.dtype is None else value.dtype.name.lower()


def set_element_type(value: ir.Value, kind: str) -> None:
    """Note the type that a file states of a constant whose array has a wider one."""
    marks(value)[_ELEMENT] = kind


def _single(value: ir.Value | None, what: str) -> float | int | None:
    """The one number that a constant operand is; None where it is absent."""
    if value is None:
        return None
    array = constant(value)
    if array is None:
        raise Unsupported(f"{what} ({name_of(value)!r}) is computed, not a constant", "a constant")
    if array.size != 1:
        rule = f"{what} of a computed tensor has {array.size} numbers, one for each index of an axis"
        raise Unsupported(rule, "one for the whole tensor")
    return array.reshape(-1)[0].item()


def codes_of_node(node: ir.Node) -> Codes:
    """What QuantizeLinear or DequantizeLinear of a computed tensor states.

    Raises:
        Unsupported: it is computed, per channel or makes no sense.
    """
    if integer(node, "block_size", 0):
        raise Unsupported("a computed tensor is quantized in blocks", "one scale for the whole tensor")
    integer(node, "axis", 1)
    scale = _single(node.inputs[1] if len(node.inputs) > 1 else None, "the scale")
    zero = _single(node.inputs[2] if len(node.inputs) > 2 else None, "the zero point")
    kind = kind_of_codes(node)
    if scale is None:
        raise Unsupported("it has no scale", "one scale")
    if not isinstance(zero, int | None) or isinstance(zero, bool):
        raise Unsupported(f"the zero point is {zero}", "an integer")
    return codes_of_type(float(scale), 0 if zero is None else zero, kind)


# --- grids of constants ----------------------------------------------------------------------------------------------


def set_grid(value: ir.Value, scales: Array) -> None:
    """Note that a constant's numbers are whole multiples of these: one, or one per index of an axis."""
    steps = scales.astype(np.float64).reshape(-1)
    marks(value)[_GRID] = np.where(steps == 0, 1.0, steps)  # of a channel without weights


def grid_of(value: ir.Value | None) -> Array | None:
    """The steps of a constant of which a file stated codes."""
    return None if value is None else marks(value).get(_GRID)


def carry_grid(node: ir.Node) -> None:
    """After a node of constants was computed: whether its result lies on a grid."""
    if node.domain or not node.inputs or not node.outputs:
        return
    scale = constant(node.inputs[1]) if node.op_type == "DequantizeLinear" and len(node.inputs) > 1 else None
    found = scale if scale is not None else grid_of(node.inputs[0]) if node.op_type in _MOVES else None
    if found is not None:
        set_grid(node.outputs[0], found)


def kernel_steps(kernel: Array, grids: list[Array]) -> Array | None:
    """float64 ``[output channels]``: the step of each output channel's weights, where a grid fits them.

    Args:
        kernel: its last axis is the output channels.
        grids: of the constants that a node reads.
    """
    channels = kernel.shape[-1]
    flat = kernel.reshape(-1, channels)
    for grid in grids:
        if channels % grid.size or not np.all(np.isfinite(grid)) or not np.all(grid >= TINY):
            continue
        count = channels // grid.size
        for steps in (np.tile(grid, count), np.repeat(grid, count)):
            if on_grid(flat, steps) is not None:
                return steps
    return None


__all__ = [
    "Codes",
    "carry_grid",
    "codes_of_node",
    "codes_of_type",
    "element_type",
    "grid_of",
    "kernel_steps",
    "kind_of_codes",
    "set_element_type",
    "set_grid",
]
