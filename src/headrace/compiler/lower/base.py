# SPDX-License-Identifier: Apache-2.0
"""A kernel before it has addresses, and the registry of lowerings by layer kind.

Lowering only rearranges integers that ``optimize`` froze; nothing is computed from floats here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError, UnsupportedModelError
from headrace.hef.microcode import Opcode
from headrace.hn import Array, Layer, Network, quantized_view
from headrace.layers import QuantizedLayer
from headrace.numerics.quantization import TensorQuantization

#: Kernels whose channels may have tables of their own.
WITH_CHANNEL_TABLES = (Opcode.CONVOLUTION, Opcode.DEPTHWISE)


@dataclass
class Kernel:
    """One kernel, by names.

    Attributes:
        name: HN layer name (or the name of a copy that the compiler adds).
        opcode: primitive.
        inputs: tensor names, in operand order.
        shape: (H, W, C) of the output.
        output: its quantisation.
        fields: values of the KernelRecord's fields that differ from their defaults, addresses excepted.
        constants: KernelRecord offset field → array, in the order they are stored.
    """

    name: str
    opcode: Opcode
    inputs: list[str]
    shape: tuple[int, int, int]
    output: TensorQuantization
    fields: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a lowering sees: the layer, its typed attributes and its frozen integers."""

    network: Network
    layer: Layer
    attributes: Any
    quantized: QuantizedLayer

    @property
    def is_vector(self) -> bool:
        return len(self.layer.output_shape) == 2

    def input_shape(self, index: int = 0) -> tuple[int, int, int]:
        """(H, W, C) of one operand."""
        return self.network[self.layer.inputs[index]].frame_shape

    def kernel(self, opcode: Opcode, **values: int) -> Kernel:
        return Kernel(
            self.layer.name,
            opcode,
            list(self.layer.inputs),
            self.layer.frame_shape,
            self.quantized.output,
            dict(values),
        )

    def axes(self, values: tuple[int, ...], rest: int) -> tuple[int, int, int]:
        """Values per HN axis as values per (H, W, C); a vector's one axis is the channels."""
        return (values[0], values[1], values[2]) if len(values) == 3 else (rest, rest, values[0])

    def axis(self, axis: int) -> int:
        """An HN axis as a device axis (0 height, 1 width, 2 channels)."""
        return 2 if self.is_vector else axis


Lowering = Callable[[Context], Kernel]
_LOWERINGS: dict[str, Lowering] = {}


def lowers(*kinds: str) -> Callable[[Lowering], Lowering]:
    """Register the lowering of some layer kinds."""

    def add(function: Lowering) -> Lowering:
        for kind in kinds:
            _LOWERINGS[kind] = function
        return function

    return add


def lowered_kinds() -> list[str]:
    """Kinds that become a kernel."""
    return sorted(_LOWERINGS)


def lower_layer(network: Network, layer: Layer) -> Kernel:
    """The kernel of one layer of a quantised network.

    Raises:
        UnsupportedModelError: the kind has no kernel.
        InputFileError: frozen integers are absent or not valid.
    """
    lowering = _LOWERINGS.get(layer.kind)
    if lowering is None:
        raise UnsupportedModelError(
            Diagnostic(
                "E-COMPILE-KIND",
                layer.name,
                f"layers of kind {layer.kind!r} have no kernel",
                layer.kind,
                ", ".join(lowered_kinds()),
                ("run optimize again: it decomposes such layers",),
            )
        )
    return lowering(Context(network, layer, layer.operation, quantized_view(network, layer)))


def bad_constant(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-COMPILE-INTEGERS", where, rule, str(got), str(need)))


def need_shape(context: Context, key: str, array: Array, shape: tuple[int, ...]) -> None:
    """Refuse a frozen array of another shape than the layer's attributes ask for."""
    if array.shape != shape:
        raise bad_constant(f"{context.layer.name}/{key}", "a frozen array has the wrong shape", array.shape, shape)


def terms_of(context: Context) -> int:
    """Terms of a sum: one per operand, and the negative part of a single one where the integers have a factor for it.

    Integers without that factor, of a quantised archive from before, keep their table.
    """
    inputs = len(context.layer.inputs)
    two = inputs == 1 and context.attributes.by_sign and context.quantized.rq.multipliers.shape[0] == 2
    return 2 if two else inputs


def set_requantize(context: Context, kernel: Kernel, terms: int) -> Kernel:
    """Put the layer's requantisation into the kernel, as it stands."""
    rq = context.quantized.rq
    channels = rq.multipliers.shape[1]
    if rq.multipliers.shape[0] != terms or channels not in (1, kernel.shape[2]):
        raise bad_constant(
            f"{context.layer.name}/multipliers",
            "the requantisation has the wrong shape",
            list(rq.multipliers.shape),
            f"[{terms}, 1 or {kernel.shape[2]}]",
        )
    _set(kernel, context, terms, rq.multipliers, rq.shifts)
    return kernel


def set_requantize_columns(context: Context, kernel: Kernel, columns: list[int]) -> Kernel:
    """Put a requantisation whose column depends on the position into the kernel: the given columns, in order."""
    rq = context.quantized.rq
    _set(kernel, context, 1, rq.multipliers[:, columns], rq.shifts[columns])
    return kernel


def _set_channel_tables(kernel: Kernel, context: Context, numbers: Array) -> None:
    table = context.quantized.rq.table
    if table is None or numbers.shape != (kernel.shape[2],) or kernel.opcode not in WITH_CHANNEL_TABLES:
        raise bad_constant(
            f"{context.layer.name}/channel_tables",
            "only the channels of a convolution have tables of their own",
            f"{list(numbers.shape)} in a {kernel.opcode.name}",
            f"[{kernel.shape[2]}] in {' or '.join(opcode.name for opcode in WITH_CHANNEL_TABLES)}",
        )
    kernel.fields["table_count"] = table.shape[0]
    kernel.constants["channel_table_offset"] = numbers


def _set(kernel: Kernel, context: Context, terms: int, multipliers: Array, shifts: Array) -> None:
    rq, output = context.quantized.rq, context.quantized.output
    for key in ("zero", "low", "high"):
        value = getattr(rq, key)
        if type(value) is not int or abs(value) >= 1 << 31:
            raise bad_constant(
                context.layer.name, f"requantisation {key!r} is not a 32-bit integer", repr(value)[:40], "int32"
            )
    top = output.high if rq.table is None else rq.table.shape[-1] - 1
    if rq.low < 0 or rq.high > top:
        raise bad_constant(
            context.layer.name, "the clamp bounds leave the codes", f"{rq.low} … {rq.high}", f"inside 0 … {top}"
        )
    kernel.fields |= {
        "requantise_terms": terms,
        "requantise_channels": int(shifts.size),
        "requantise_zero": rq.zero,
        "requantise_low": rq.low,
        "requantise_high": rq.high,
        "table_bits": rq.table_bits,
    }
    kernel.constants["multiplier_offset"] = np.ascontiguousarray(multipliers)
    kernel.constants["shift_offset"] = np.ascontiguousarray(shifts)
    if rq.table is not None:
        if rq.table.dtype != output.dtype or rq.table_bits > 16:
            raise bad_constant(
                f"{context.layer.name}/table",
                "the table is not valid",
                f"{rq.table.dtype}[{rq.table.size}]",
                f"{output.dtype}, at most 65536 entries",
            )
        kernel.constants["table_offset"] = rq.table
    if rq.channel_tables is not None:
        _set_channel_tables(kernel, context, rq.channel_tables)
