# SPDX-License-Identifier: Apache-2.0
"""What a lowering sees of a layer, and the registry of lowerings by class of operation.

Lowering only rearranges integers that ``optimize`` froze; nothing is computed from floats here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from headrace.compiler.overflow import ACCUMULATOR_LIMIT, WIDE_LIMIT, check_bounds
from headrace.errors import Diagnostic, InputFileError, UnsupportedModelError
from headrace.hef.kernel import POINT, Constant, Detail, Kernel, KernelRequantization, Shape, Window
from headrace.hef.microcode import Opcode
from headrace.hn import Array, Layer, Network, quantized_view
from headrace.layers import Operation, QuantizedLayer
from headrace.layers.activation import Activated
from headrace.numerics.requantize import Requantization

#: Kernels whose channels may have tables of their own.
WITH_CHANNEL_TABLES = (Opcode.CONVOLUTION, Opcode.DEPTHWISE)


@dataclass(frozen=True)
class Context:
    """What a lowering sees: the layer and its frozen integers."""

    network: Network
    layer: Layer
    quantized: QuantizedLayer

    @property
    def is_vector(self) -> bool:
        return len(self.layer.output_shape) == 2

    @property
    def reach(self) -> list[int]:
        """Largest \\|x - zx\\| of each operand."""
        return [q.magnitude for q in self.quantized.inputs]

    def input_shape(self, index: int = 0) -> Shape:
        """(H, W, C) of one operand."""
        return self.network[self.layer.inputs[index]].frame_shape

    def kernel(
        self,
        opcode: Opcode,
        detail: Detail | None = None,
        own: tuple[Constant, ...] = (),
        window: Window = POINT,
        groups: int = 1,
    ) -> Kernel:
        """The layer's kernel, where codes pass; :func:`requantized` adds the rounding."""
        layer, output = self.layer, self.quantized.output
        return Kernel(
            layer.name, opcode, tuple(layer.inputs), layer.frame_shape, output, window, groups, detail, None, own
        )

    def axes(self, values: tuple[int, ...], rest: int) -> Shape:
        """Values per HN axis as values per (H, W, C); a vector's one axis is the channels."""
        return (values[0], values[1], values[2]) if len(values) == 3 else (rest, rest, values[0])

    def axis(self, axis: int) -> int:
        """An HN axis as a device axis (0 height, 1 width, 2 channels)."""
        return 2 if self.is_vector else axis


O = TypeVar("O", bound=Operation)
Lowering = Callable[[Context, O], Kernel]
_LOWERINGS: dict[type[Operation], Lowering[Any]] = {}


def lowers(*operations: type[O]) -> Callable[[Lowering[O]], Lowering[O]]:
    """Register the lowering of some layers."""

    def add(function: Lowering[O]) -> Lowering[O]:
        for operation in operations:
            _LOWERINGS[operation] = function
        return function

    return add


def lowered_operations() -> list[type[Operation]]:
    """Layers that become a kernel."""
    return sorted(_LOWERINGS, key=lambda operation: operation.kind)


def lower_layer(network: Network, layer: Layer) -> Kernel:
    """The kernel of one layer of a quantized network.

    Raises:
        UnsupportedModelError: the kind has no kernel.
        InputFileError: frozen integers are absent or not valid, or a sum of them may overflow.
    """
    lowering = _LOWERINGS.get(type(layer.operation))
    if lowering is None:
        raise UnsupportedModelError(
            Diagnostic(
                "E-COMPILE-KIND",
                layer.name,
                f"layers of kind {layer.kind!r} have no kernel",
                layer.kind,
                ", ".join(operation.kind for operation in lowered_operations()),
                ("run optimize again: it decomposes such layers",),
            )
        )
    return lowering(Context(network, layer, quantized_view(network, layer)), layer.operation)


def bad_constant(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-COMPILE-INTEGERS", where, rule, str(got), str(need)))


def need_shape(context: Context, key: str, array: Array, shape: tuple[int, ...]) -> None:
    """Refuse a frozen array of another shape than the layer's attributes ask for."""
    if array.shape != shape:
        raise bad_constant(f"{context.layer.name}/{key}", "a frozen array has the wrong shape", array.shape, shape)


def terms_of(context: Context, operation: Activated) -> int:
    """Terms of a sum: one per operand, and the negative part of a single one where the integers have a factor for it.

    Integers without that factor, of a quantized archive from before, keep their table.
    """
    inputs = len(context.layer.inputs)
    two = inputs == 1 and operation.by_sign and context.quantized.rq.multipliers.shape[0] == 2
    return 2 if two else inputs


def requantized(
    context: Context, kernel: Kernel, terms: int, accumulators: Sequence[Sequence[int]], exponent: int = 0
) -> Kernel:
    """The kernel with the layer's requantization as it stands, one column of multipliers or one per channel.

    Args:
        context: the layer.
        kernel: without a requantization.
        terms: how many the primitive sums up.
        accumulators: largest \\|a\\| of each term, for all channels or for each.
        exponent: the most that the primitive adds to the shift.

    Raises:
        InputFileError: the integers do not fit the layer, or a sum may overflow.
    """
    rq = context.quantized.rq
    channels = rq.multipliers.shape[1]
    if rq.multipliers.shape[0] != terms or channels not in (1, kernel.shape[2]):
        raise bad_constant(
            f"{context.layer.name}/multipliers",
            "the requantization has the wrong shape",
            list(rq.multipliers.shape),
            f"[{terms}, 1 or {kernel.shape[2]}]",
        )
    _check_codes(context, kernel, rq)
    made = replace(kernel, requantization=KernelRequantization.of(rq))
    wide = any(q.bits != 8 for q in context.quantized.inputs)
    return _proven(made, accumulators, exponent, WIDE_LIMIT if wide else ACCUMULATOR_LIMIT)


def requantized_by_count(
    context: Context, kernel: Kernel, columns: Sequence[int], accumulators: Sequence[int]
) -> Kernel:
    """The kernel with a requantization whose column depends on the position: the given columns, in order.

    ``accumulators`` is the largest \\|a\\| for each of them.
    """
    rq = context.quantized.rq
    chosen = replace(rq, multipliers=rq.multipliers[:, columns], shifts=rq.shifts[list(columns)])
    _check_codes(context, kernel, chosen)
    made = replace(kernel, requantization=KernelRequantization.of(chosen, columns_are_channels=False))
    return _proven(made, [accumulators], 0)


def _proven(
    kernel: Kernel, accumulators: Sequence[Sequence[int]], exponent: int, limit: int = ACCUMULATOR_LIMIT
) -> Kernel:
    problems = check_bounds(kernel, accumulators, exponent, limit)
    if problems:
        raise InputFileError(problems)
    return kernel


def _check_codes(context: Context, kernel: Kernel, rq: Requantization) -> None:
    """Refuse bounds that leave the codes, and tables that do not fit the output."""
    name, output = context.layer.name, context.quantized.output
    for key, value in (("zero", rq.zero), ("low", rq.low), ("high", rq.high)):
        if type(value) is not int or abs(value) >= 1 << 31:
            raise bad_constant(name, f"requantization {key!r} is not a 32-bit integer", repr(value)[:40], "int32")
    top = output.high if rq.table is None else rq.table.shape[-1] - 1
    if rq.low < 0 or rq.high > top:
        raise bad_constant(name, "the clamp bounds leave the codes", f"{rq.low} … {rq.high}", f"inside 0 … {top}")
    if rq.table is not None and (rq.table.dtype != output.dtype or rq.table_bits > 16):
        got, need = f"{rq.table.dtype}[{rq.table.size}]", f"{output.dtype}, at most 65536 entries"
        raise bad_constant(f"{name}/table", "the table is not valid", got, need)
    numbers = rq.channel_tables
    if numbers is not None and (numbers.shape != (kernel.shape[2],) or kernel.opcode not in WITH_CHANNEL_TABLES):
        raise bad_constant(
            f"{name}/channel_tables",
            "only the channels of a convolution have tables of their own",
            f"{list(numbers.shape)} in a {kernel.opcode.name}",
            f"[{kernel.shape[2]}] in {' or '.join(opcode.name for opcode in WITH_CHANNEL_TABLES)}",
        )
