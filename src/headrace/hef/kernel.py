# SPDX-License-Identifier: Apache-2.0
"""A kernel before it has addresses: names in place of indices, arrays in place of offsets.

What only some primitives have (a window, a start, the axes of a reduction) is a value of its own that writes its fields
of the :class:`~headrace.hef.microcode.KernelRecord`; a :class:`Detail` that a single lowering needs stands beside it.
Every array says what it is to the kernel and which of its axes runs along the output's channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from headrace.hef.microcode import SECTION_ALIGNMENT, KernelRecord, Opcode
from headrace.numerics.array import Array
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization

Shape = tuple[int, int, int]  # height, width, channels


class Role(Enum):
    """What a constant is to its kernel, and the field of the record that has its address; stored in this order."""

    WEIGHTS = "weight_offset"
    WEIGHT_ZEROS = "weight_zero_offset"
    BIAS = "bias_offset"
    ROWS = "row_table_offset"  # of a resize
    COLUMNS = "column_table_offset"
    MULTIPLIERS = "multiplier_offset"
    SHIFTS = "shift_offset"
    TABLE = "table_offset"
    CHANNEL_TABLES = "channel_table_offset"
    COUNTS = "count_offset"

    def write(self, record: KernelRecord, offset: int) -> None:
        """Note where in CONSTANTS the kernel's constant of this role lies."""
        setattr(record, self.value, offset)

    def read(self, record: KernelRecord) -> int:
        """Where it lies, or NONE."""
        offset: int = getattr(record, self.value)
        return offset


_STORED = {role: place for place, role in enumerate(Role)}


@dataclass(frozen=True)
class Constant:
    """An array that is loaded with its kernel.

    Attributes:
        channel_axis: the axis of ``array`` that runs along the output's channels; None: every channel needs all of it.
    """

    role: Role
    array: Array
    channel_axis: int | None = None

    def part(self, first: int, last: int) -> Constant:
        """What output channels ``first`` … ``last - 1`` need of it."""
        if self.channel_axis is None:
            return self
        places = [slice(None)] * self.array.ndim
        places[self.channel_axis] = slice(first, last)
        return replace(self, array=np.ascontiguousarray(self.array[tuple(places)]))


@dataclass(frozen=True)
class Window:
    """What a window reads: (rows, columns) each; padding is that before the first."""

    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def write(self, record: KernelRecord) -> None:
        record.kernel_height, record.kernel_width = self.kernel
        record.stride_height, record.stride_width = self.strides
        record.dilation_height, record.dilation_width = self.dilations
        record.pad_top, record.pad_left = self.padding


POINT = Window()  # one element


@dataclass(frozen=True)
class Detail:
    """Base of what a primitive needs beside operands, window and requantization; its fields of the record."""

    def write(self, record: KernelRecord) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Slicing(Detail):
    """Element ``start + i · step`` along each axis."""

    start: Shape
    step: Shape = (1, 1, 1)

    def write(self, record: KernelRecord) -> None:
        record.start_height, record.start_width, record.start_channel = self.start
        record.step_height, record.step_width, record.step_channel = self.step


@dataclass(frozen=True)
class Joining(Detail):
    """Along an axis: 0 height, 1 width, 2 channels."""

    axis: int

    def write(self, record: KernelRecord) -> None:
        record.axis = self.axis


@dataclass(frozen=True)
class KernelRequantization:
    """The frozen integers of one rounding, as constants of a kernel (docs/numerics.md, section 4).

    Attributes:
        multipliers: int32 ``[terms, columns]``; a column for all of the output, each channel or each count.
        shifts: uint8 ``[columns]``.
        zero, low, high: added after the shift; bounds of the clamp after that.
        table, channel_tables: see :class:`headrace.numerics.requantize.Requantization`.
    """

    multipliers: Constant
    shifts: Constant
    zero: int
    low: int
    high: int
    table: Constant | None = None
    channel_tables: Constant | None = None

    @staticmethod
    def of(rq: Requantization, columns_are_channels: bool = True) -> KernelRequantization:
        """The same integers; several columns are the output's channels, or something else that every channel needs."""
        along = columns_are_channels and rq.multipliers.shape[1] > 1
        table, numbers = rq.table, rq.channel_tables
        return KernelRequantization(
            Constant(Role.MULTIPLIERS, np.ascontiguousarray(rq.multipliers), 1 if along else None),
            Constant(Role.SHIFTS, np.ascontiguousarray(rq.shifts), 0 if along else None),
            rq.zero,
            rq.low,
            rq.high,
            None if table is None else Constant(Role.TABLE, table),
            None if numbers is None else Constant(Role.CHANNEL_TABLES, numbers, 0),
        )

    @property
    def constants(self) -> tuple[Constant, ...]:
        found = (self.multipliers, self.shifts, self.table, self.channel_tables)
        return tuple(c for c in found if c is not None)

    def part(self, first: int, last: int) -> KernelRequantization:
        """That of output channels ``first`` … ``last - 1``."""
        return replace(
            self,
            multipliers=self.multipliers.part(first, last),
            shifts=self.shifts.part(first, last),
            channel_tables=self.channel_tables and self.channel_tables.part(first, last),
        )

    def write(self, record: KernelRecord) -> None:
        record.requantise_terms, record.requantise_channels = self.multipliers.array.shape
        record.requantise_zero, record.requantise_low, record.requantise_high = self.zero, self.low, self.high


@dataclass(frozen=True)
class Kernel:
    """One kernel, by names.

    Attributes:
        name: HN layer name (or the name of a kernel that the compiler adds); that of the tensor it writes.
        opcode: primitive.
        inputs: tensor names, in operand order.
        shape: (H, W, C) of the output.
        output: its quantization.
        window, groups: where the primitive has a window, or groups of channels.
        detail: what else the primitive needs.
        requantization: None where codes pass.
        own: arrays beside those of the requantization.
    """

    name: str
    opcode: Opcode
    inputs: tuple[str, ...]
    shape: Shape
    output: TensorQuantization
    window: Window = POINT
    groups: int = 1
    detail: Detail | None = None
    requantization: KernelRequantization | None = None
    own: tuple[Constant, ...] = ()

    @property
    def constants(self) -> list[Constant]:
        """All arrays, in the order in which they are stored."""
        others = () if self.requantization is None else self.requantization.constants
        return sorted((*self.own, *others), key=lambda c: _STORED[c.role])

    @property
    def constant_bytes(self) -> int:
        """Bytes of the constants, each on its boundary: what is loaded with the kernel's context."""
        return sum(-(-c.array.nbytes // SECTION_ALIGNMENT) * SECTION_ALIGNMENT for c in self.constants)

    def array(self, role: Role) -> Array:
        """The array of a role.

        Raises:
            KeyError: the kernel has none.
        """
        found = next((c.array for c in self.constants if c.role is role), None)
        if found is None:
            raise KeyError(f"{self.name} has no {role.name}")
        return found

    def part(self, name: str, inputs: Sequence[str], channels: tuple[int, int], groups: int) -> Kernel:
        """Output channels ``channels[0]`` … ``channels[1] - 1`` as a kernel of their own.

        Args:
            name: of the part.
            inputs: what it reads in place of this kernel's.
            channels: of the output.
            groups: how many of its groups these channels are.
        """
        first, last = channels
        return replace(
            self,
            name=name,
            inputs=tuple(inputs),
            shape=(*self.shape[:2], last - first),
            groups=groups,
            requantization=self.requantization and self.requantization.part(first, last),
            own=tuple(c.part(first, last) for c in self.own),
        )

    def write(self, record: KernelRecord) -> None:
        """Fill in what the kernel says, addresses apart."""
        self.window.write(record)
        record.groups = self.groups
        if self.detail is not None:
            self.detail.write(record)
        if self.requantization is not None:
            self.requantization.write(record)
        for constant in self.constants:
            if constant.role is Role.TABLE:
                tables = constant.array.reshape(-1, constant.array.shape[-1])
                record.table_bits, record.table_count = int(tables.shape[1] - 1).bit_length(), tables.shape[0]
