# SPDX-License-Identifier: Apache-2.0
"""The event simulation against times worked out by hand, and its reports of what cannot move."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from headrace.hef.microcode import (
    NONE,
    BufferRecord,
    ContextRecord,
    KernelRecord,
    Opcode,
    Program,
    StageRecord,
    TensorRole,
)
from native.programs import Builder, add_pipeline, hef_of, requantization

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
        b.kernel(f"s{i}", Opcode.RESCALE, [last], y, **requantization(rng, 255, 1))
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
    b.kernel("a", Opcode.RESCALE, [x], a, **requantization(rng, 255, 1))
    b.kernel("g", Opcode.POOL_SUM, [a], g, kernel_height=12, kernel_width=4, count=np.array([48], np.uint32),
             **requantization(rng, 48 * 255, 1))  # fmt: skip
    b.kernel("m", Opcode.ELEMENTWISE_MULTIPLY, [a, g], m, **requantization(rng, 65025, 1))
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
        assert word in str(error.value)


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


def test_stages_on_one_controller_take_turns_in_a_fixed_order() -> None:
    """The first stage could run ahead by eight rows of buffer; it does not, and every frame takes the sum of both."""
    p = chain([100, 700, 300])
    p.stages[1].shares, p.stages[1].controllers = 1, 0
    t = timing(p)
    assert t["cycles_per_frame"] == 10 * (engine(100) + engine(700)) and t["frames_simulated"] == 12
    link = math.ceil(4 * 8 * 400e6 / 3.5e9)
    assert t["latency_cycles"] == link + 10 * (engine(100) + engine(700)) + engine(300) + link
    # One row of buffer is enough: no stage is ever a row ahead.
    for buffer in p.buffers[:2]:
        buffer.capacity_rows = 1
    assert timing(p)["cycles_per_frame"] == 10 * (engine(100) + engine(700))


def test_an_order_that_cannot_go_on_is_a_deadlock() -> None:
    """A stage between two of one controller that needs the whole frame: the second's first row is in front."""
    p = chain([100, 100, 100])
    for t in p.tensors:
        t.height = t.width = 4
    for s in p.stages:
        s.rows = 4
    p.kernels[1] = transposition(p.kernels[1])
    assert timing(p)["cycles_per_frame"] > 0
    p.stages[2].shares, p.stages[2].controllers = 2, 0
    with pytest.raises(native.NativeError) as error:
        timing(p)
    assert error.value.status == 1001
    for word in (
        "s0 waits for its turn on the controller that s2 shares",
        "s2 waits for a row of s1",
        "s1 waits for a",
    ):
        assert word in str(error.value)


def transposition(k: KernelRecord) -> KernelRecord:
    """A transposition of height and width in the place of a kernel."""
    return KernelRecord(k.name_offset, k.name_length, int(Opcode.TRANSPOSE), k.context, k.operand_offset,
                        k.operand_count, k.output, permutation=1 | 0 << 8 | 2 << 16)  # fmt: skip


def test_what_is_not_built_yet_says_so() -> None:
    p = chain([10, 10])
    p.stages = []
    with pytest.raises(native.NativeError) as error:
        timing(p)
    assert error.value.status == 61
    p = in_contexts(chain([1] * 1100))
    with pytest.raises(native.NativeError) as error:
        timing(p)
    assert error.value.status == 7


def in_contexts(p: Program, batch: int = 1, weights: int = 0) -> Program:
    """Every kernel in a context of its own; what one hands to the next goes through the host."""
    p.contexts = [ContextRecord(i, 1, weights, batch=batch) for i in range(len(p.kernels))]
    for i, k in enumerate(p.kernels):
        k.context = i
        if p.tensors[k.output].role != int(TensorRole.OUTPUT):
            p.buffers.append(BufferRecord(k.output, NONE, 0, 8))
    return p


def test_contexts_run_one_after_the_other() -> None:
    """A fixed switch, then the batch, while the next weights load; tensors that cross move at their own rate."""
    for batch in (1, 3):
        t = timing(in_contexts(chain([500, 700]), batch, 70_000))
        load, switch = math.ceil(70_000 * 400e6 / 3.5e9), 480_000
        network, cut = math.ceil(32 * 400e6 / 3.5e9), [math.ceil(32 * n * 400e6 / 2.5e9) for n in range(11)]
        # The first row arrives, ten rows pass the stage, the last one leaves.
        first = [network + 10 * engine(500) + cut[10] - cut[9], cut[1] + 10 * engine(700) + network]
        total, latency = 0, 0
        for context, alone, row in zip(t["contexts"], first, (500, 700), strict=True):
            assert (context["reload_cycles"], context["switch_cycles"]) == (load, switch)
            assert context["ahead_cycles"] == load  # there is room for all of it
            assert context["first_frame_cycles"] == pytest.approx(alone, abs=8)
            follow = (batch - 1) * 10 * engine(row)
            assert context["run_cycles"] == pytest.approx(context["first_frame_cycles"] + follow, abs=8)
            streams = math.ceil(320 * 400e6 / 3.5e9) + cut[10]
            assert context["overrun_cycles"] == max(0, batch * streams + load - context["run_cycles"])
            total += max(context["run_cycles"], batch * streams + load) + switch
        alone = [c["first_frame_cycles"] for c in t["contexts"]]
        latency = load + switch + max(alone[0], streams + load) + switch + alone[1]
        assert t["batch"] == batch
        assert t["cycles_per_frame"] == round(total / batch)
        assert t["fps"] == pytest.approx(400e6 * batch / total)
        assert t["latency_cycles"] == latency
        assert t["bottleneck"] == "host link"


def test_weights_load_ahead_only_into_memory_that_is_free() -> None:
    """The first context fills all units but two: the rest of the second one's weights waits for its end."""
    p = in_contexts(chain([5000, 5000]), 1, 100_000)
    p.stages[0].memory_units = p.target.clusters * p.target.memory_units_per_cluster - 2
    t = timing(p)
    load, ahead = math.ceil(100_000 * 400e6 / 3.5e9), math.ceil(2 * 32768 * 400e6 / 3.5e9)
    assert [c["ahead_cycles"] for c in t["contexts"]] == [load, ahead]
    assert [c["overrun_cycles"] for c in t["contexts"]] == [0, 0]
    runs = [c["run_cycles"] for c in t["contexts"]]
    assert t["cycles_per_frame"] == sum(runs) + load - ahead + 2 * 480_000
    assert t["latency_cycles"] == sum(runs) + 2 * load - ahead + 2 * 480_000


def test_batches_beyond_the_simulated_frames_go_on_at_the_same_pace() -> None:
    one, many = (timing(in_contexts(chain([500, 700]), b)) for b in (32, 1000))
    for a, b, row in zip(one["contexts"], many["contexts"], (500, 700), strict=True):
        assert b["run_cycles"] - a["run_cycles"] == pytest.approx((1000 - 32) * 10 * engine(row), rel=1e-3)


@pytest.mark.parametrize("batch", [0, 1 << 17])
def test_an_impossible_batch_is_refused(batch: int) -> None:
    with pytest.raises(native.NativeError) as error:
        native.Device().load(hef_of(in_contexts(chain([5, 5]), batch)))
    assert error.value.status == 26
    assert "batch" in str(error.value)


def test_a_buffer_to_the_host_needs_a_tensor_that_leaves() -> None:
    p = chain([5, 5])
    p.buffers.append(BufferRecord(p.kernels[0].output, NONE, 0, 8))
    with pytest.raises(native.NativeError, match="read by a later context"):
        native.Device().load(hef_of(p))
