# SPDX-License-Identifier: Apache-2.0
"""Kernels as values: constants that know their channels, records without other fields, lowerings of every layer."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from headrace.errors import InternalError
from headrace.hef.kernel import Constant, Joining, Kernel, KernelRequantization, Role, Slicing, Window
from headrace.hef.microcode import NONE, RECORDS, KernelRecord, Opcode
from headrace.layers.rows import Family, RowRule
from headrace.mapping import Stage
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization
from headrace.timing import Plane, Work

CODES = TensorQuantization(0.5, 3, 8)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_a_misspelt_field_of_a_record_is_an_error(record: type) -> None:
    made = object.__new__(record)
    with pytest.raises(AttributeError):
        made.kernel_heigth = 3


def test_every_role_has_an_address_of_its_own() -> None:
    names: set[str] = set()
    for role in Role:
        record = KernelRecord()
        role.write(record, 77)
        (name,) = [f.name for f in fields(record) if getattr(record, f.name) == 77]
        names.add(name)
        assert role.read(record) == 77
    assert len(names) == len(Role)
    assert names == {f.name for f in fields(KernelRecord) if f.default == NONE}


def made_kernel(channels: int, columns: int, tables: bool = False) -> Kernel:
    """A depthwise convolution whose arrays hold the number of their channel, and a square one that has no channels."""
    numbers = np.arange(channels)
    rq = Requantization(
        np.arange(columns, dtype=np.int32)[None],
        np.full(columns, 7, np.uint8),
        0,
        0,
        255 if not tables else 3,
        np.arange(4 * 4, dtype=np.uint8).reshape(4, 4) if tables else None,
        (numbers % 4).astype(np.uint8) if tables else None,
    )
    own = (
        Constant(Role.WEIGHTS, np.broadcast_to(numbers, (channels, channels, channels)).astype(np.int8), 2),
        Constant(Role.BIAS, numbers.astype(np.int32), 0),
        Constant(Role.COUNTS, numbers.astype(np.uint32)),  # as long as the channels, and not along them
    )
    window = Window((channels, channels))
    return Kernel(
        "k", Opcode.DEPTHWISE, ("x",), (5, 5, channels), CODES, window, channels, None, KernelRequantization.of(rq), own
    )


@pytest.mark.parametrize(("columns", "tables"), [(1, False), (6, False), (6, True), (1, True)])
def test_a_part_asks_each_constant_for_its_channels(columns: int, tables: bool) -> None:
    """Weights whose three axes are alike are cut along the channels; what has no channel axis stays whole."""
    whole = made_kernel(6, columns, tables)
    part = whole.part("p", ["y"], (2, 5), 3)
    assert (part.name, part.inputs, part.shape, part.groups) == ("p", ("y",), (5, 5, 3), 3)
    assert part.array(Role.WEIGHTS).shape == (6, 6, 3) and set(part.array(Role.WEIGHTS).ravel()) == {2, 3, 4}
    assert part.array(Role.BIAS).tolist() == [2, 3, 4]
    assert part.array(Role.COUNTS).tolist() == [0, 1, 2, 3, 4, 5]
    assert part.array(Role.MULTIPLIERS).tolist() == ([[2, 3, 4]] if columns > 1 else [[0]])
    assert part.array(Role.SHIFTS).size == (3 if columns > 1 else 1)
    if tables:
        assert part.array(Role.TABLE).shape == (4, 4)
        assert part.array(Role.CHANNEL_TABLES).tolist() == [2, 3, 0]
    record = KernelRecord()
    part.write(record)
    assert record.requantise_channels == (3 if columns > 1 else 1) and record.groups == 3
    assert (record.table_bits, record.table_count) == ((2, 4) if tables else (0, 1))


def test_columns_of_counts_are_no_channels() -> None:
    rq = Requantization(np.ones((1, 4), np.int32), np.ones(4, np.uint8), 0, 0, 255)
    assert KernelRequantization.of(rq, columns_are_channels=False).part(1, 2).multipliers.array.shape == (1, 4)


def test_constants_are_stored_in_the_order_of_their_roles() -> None:
    kernel = made_kernel(4, 4, True)
    order = [c.role for c in kernel.constants]
    assert order == sorted(order, key=list(Role).index)
    assert kernel.constant_bytes == sum(-(-c.array.nbytes // 64) * 64 for c in kernel.constants)
    with pytest.raises(KeyError, match="ROWS"):
        kernel.array(Role.ROWS)


def test_details_write_their_fields_only() -> None:
    record = KernelRecord()
    Slicing((1, 2, 3), (4, 5, 6)).write(record)
    assert (record.start_height, record.start_width, record.start_channel) == (1, 2, 3)
    assert (record.step_height, record.step_width, record.step_channel) == (4, 5, 6)
    Joining(2).write(record)
    assert record.axis == 2 and record.block == 1 and record.kernel_height == 1


def test_a_stage_without_a_kernel_says_so() -> None:
    plane = Plane("x", 1, 1, 1)
    stage = Stage(Work("w", "conv", Family.DENSE, (plane,), (RowRule(),), plane, weight_bytes=9))
    assert stage.loaded_bytes == 9
    with pytest.raises(InternalError, match="counts alone"):
        _ = stage.lowered
