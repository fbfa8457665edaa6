# SPDX-License-Identifier: Apache-2.0
"""The event simulation against times worked out by hand, and its reports of what cannot move."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from headrace.hef.microcode import NONE, BufferRecord, Opcode, Program, StageRecord, TensorRole
from native.programs import Builder, add_pipeline, hef_of, requantisation

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

OVERHEAD = 64


def engine(cycles: int) -> int:
    """Cycles of a row with the busy share 17/20 and the row overhead."""
    return math.ceil(cycles * 20 / 17) + OVERHEAD


def timing(p: Program) -> dict[str, Any]:
    return native.Device().load(hef_of(p)).timing()


def chain(engines: list[int], height: int = 10, capacity: int = 8, width: int = 4) -> Program:
    """Rescale stages, one after the other; ports are never the bottleneck unless the engine is idle."""
    rng = np.random.default_rng(0)
    b = Builder()
    last = b.tensor("x", (height, width, 8), 0, TensorRole.INPUT)
    for i in range(len(engines)):
        role = TensorRole.OUTPUT if i == len(engines) - 1 else TensorRole.INTERNAL
        y = b.tensor(f"s{i}", (height, width, 8), 0, role)
        b.kernel(f"s{i}", Opcode.RESCALE, [last], y, **requantisation(rng, 255, 1))
        last = y
    b.build()
    add_pipeline(b.program, capacity)
    for stage, cycles in zip(b.program.stages, engines, strict=True):
        stage.engine_cycles_per_row = cycles
    return b.program


def test_a_chain_runs_at_its_slowest_stage() -> None:
    t = timing(chain([100, 700, 300]))
    assert t["cycles_per_frame"] == 10 * engine(700)
    assert t["bottleneck"] == "s1" and t["steady"]
    assert t["fps"] == pytest.approx(400e6 / (10 * engine(700)))
    middle = t["stages"][1]
    assert middle["engine_cycles"] == middle["busy_cycles"] == middle["cycles_per_frame"] == 10 * engine(700)
    assert middle["stall_input_cycles"] == middle["stall_output_cycles"] == 0
    assert t["stages"][0]["stall_output_cycles"] > 0  # the fast producer waits for room
    assert t["stages"][2]["stall_input_cycles"] > 0  # the fast consumer waits for rows


def test_latency_is_the_first_frame_through_an_empty_pipeline() -> None:
    t = timing(chain([100, 700, 300]))
    link = math.ceil(4 * 8 * 400e6 / 3.5e9)
    assert t["latency_cycles"] == link + engine(100) + 10 * engine(700) + engine(300) + link
    assert t["latency_ms"] == pytest.approx(t["latency_cycles"] / 400e6 * 1e3)


def test_one_row_of_buffer_makes_producer_and_consumer_take_turns() -> None:
    assert timing(chain([500, 500], capacity=1))["cycles_per_frame"] == 10 * 2 * engine(500)
    assert timing(chain([500, 500], capacity=2))["cycles_per_frame"] == 10 * engine(500)


def test_ports_and_join_bound_a_stage() -> None:
    p = chain([10, 10])
    p.stages[1].output_bytes_per_frame = 80_000
    row = math.ceil(80_000 * 20 / (8 * 17 * 10)) + OVERHEAD
    assert timing(p)["cycles_per_frame"] == 10 * row
    p.stages[1].join_bytes_per_frame = 160_000
    assert timing(p)["cycles_per_frame"] == 10 * (math.ceil(160_000 * 20 / (8 * 17 * 10)) + OVERHEAD)


def test_the_host_link_is_shared_by_both_directions() -> None:
    p = chain([1], width=4000)
    p.stages[0].input_bytes_per_frame = p.stages[0].output_bytes_per_frame = 1
    frame = math.ceil(10 * 4000 * 8 * 400e6 / 3.5e9)
    t = timing(p)
    assert t["bottleneck"] == "host link"
    assert t["cycles_per_frame"] == 2 * frame == t["link_busy_cycles"]


def gated(capacity: int) -> Program:
    """Squeeze-and-excite: a global sum gates the tensor it was taken from."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.tensor("x", (12, 4, 8), 0, TensorRole.INPUT)
    a, g, m = b.tensor("a", (12, 4, 8)), b.tensor("g", (1, 1, 8)), b.tensor("m", (12, 4, 8), 0, TensorRole.OUTPUT)
    b.kernel("a", Opcode.RESCALE, [x], a, **requantisation(rng, 255, 1))
    b.kernel("g", Opcode.POOL_SUM, [a], g, kernel_height=12, kernel_width=4, count=np.array([48], np.uint32),
             **requantisation(rng, 48 * 255, 1))  # fmt: skip
    b.kernel("m", Opcode.ELEMENTWISE_MULTIPLY, [a, g], m, **requantisation(rng, 65025, 1))
    b.build()
    add_pipeline(b.program, 2)
    for buffer in b.program.buffers:
        if buffer.consumer == 2 and buffer.operand == 0:
            buffer.capacity_rows = capacity
    return b.program


def test_a_path_beside_a_global_reduction_needs_a_whole_frame() -> None:
    assert timing(gated(24))["fps"] > timing(gated(12))["fps"] > 0
    with pytest.raises(native.NativeError) as error:
        timing(gated(11))
    assert error.value.status == 1001
    for word in ("deadlock", "a waits for room in the buffer of m (11 rows of a)", "m waits for a row of g", "g waits"):
        assert word in error.value.text


def test_a_global_reduction_takes_rows_as_they_come() -> None:
    """Two rows of buffer suffice before a global sum, and it does not slow its producer."""
    p = gated(24)
    assert timing(p)["cycles_per_frame"] == 12 * engine(200)


def strided(capacity: int) -> Program:
    b = Builder()
    x = b.tensor("x", (16, 4, 8), 0, TensorRole.INPUT)
    y = b.tensor("y", (8, 4, 8), 0, TensorRole.OUTPUT)
    b.kernel("y", Opcode.POOL_MAX, [x], y, kernel_height=3, stride_height=2, pad_top=1)
    b.build()
    b.program.stages = [StageRecord(0, rows=8, engine_cycles_per_row=400, controllers=1)]
    b.program.buffers = [BufferRecord(0, 0, 0, capacity), BufferRecord(1, NONE, 0, 4)]
    return b.program


def test_a_window_needs_its_rows() -> None:
    assert timing(strided(5))["cycles_per_frame"] == 8 * engine(400)
    with pytest.raises(native.NativeError, match="deadlock"):
        timing(strided(2))


def test_the_same_program_always_takes_the_same_time() -> None:
    assert timing(gated(24)) == timing(gated(24))


def test_what_is_not_built_yet_says_so() -> None:
    p = chain([10, 10])
    p.stages = []
    with pytest.raises(native.NativeError) as error:
        timing(p)
    assert error.value.status == 61
    from headrace.hef.microcode import ContextRecord

    p = chain([10, 10])
    p.contexts = [ContextRecord(0, 1), ContextRecord(1, 1)]
    p.kernels[1].context = 1
    with pytest.raises(native.NativeError) as error:
        timing(p)
    assert error.value.status == 7
