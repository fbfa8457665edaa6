# SPDX-License-Identifier: Apache-2.0
"""Random branching networks: programs mean what the layers mean; no pipeline deadlocks or is slower than it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compiler_support import RowSimulator, freeze, random_codes, random_network, row_window
from context_networks import context_program
from headrace.compiler import CompileOptions, compile_network
from headrace.errors import CapacityError
from headrace.hef.microcode import Program, decode
from headrace.reports.schedule import SeveralContexts
from headrace.targets import load_target
from headrace.timing import flow_of, row_windows
from interpreters import layer_codes, program_codes
from random_graphs import GraphBuilder

TARGETS = [load_target("hailo8"), load_target("hailo8l")]
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FAST
@given(seed=st.integers(0, 2**31), layers=st.integers(1, 9))
def test_programs_mean_what_the_layers_mean(seed: int, layers: int) -> None:
    network = random_network(seed, layers)
    program = decode(compile_network(network, TARGETS[seed % 2]).microcode)
    frames = random_codes(network, 2, seed)
    want, got = layer_codes(network, frames), program_codes(program, frames)
    for layer in network:
        if layer.kind != "output_layer":
            np.testing.assert_array_equal(got[layer.name], want[layer.name], err_msg=f"{layer.name}, seed {seed}")


@FAST
@given(seed=st.integers(0, 2**31), layers=st.integers(1, 12))
def test_no_deadlock_and_full_speed(seed: int, layers: int) -> None:
    result = compile_network(random_network(seed, layers), TARGETS[seed % 2])
    program = decode(result.microcode)
    ends = RowSimulator(program).run(8)
    assert max(np.diff(ends)[3:]) <= result.report.figures.whole.cycles_per_frame
    assert result.report.figures.whole.fps <= result.report.figures.bounds.bounds_fps["proven"]


@FAST
@given(seed=st.integers(0, 2**31))
def test_row_windows_are_those_of_the_records(seed: int) -> None:
    network = random_network(seed, 6)
    program = decode(compile_network(network, TARGETS[0]).microcode)
    for work, kernel in zip(flow_of(network).works, program.kernels, strict=True):
        for operand in range(len(work.operands)):
            first, last = row_windows(work, operand)
            for y in range(work.output.height):
                a, b = row_window(program, kernel, operand, y)
                # With dilation the window's edge may fall between two taps: a little early, never late.
                assert int(first[y]) <= a
                assert b <= int(last[y]) < b + kernel.dilation_height


def gated(seed: int, gates: int) -> object:
    """Squeeze-and-excite blocks in a row, each beside a path that must wait for a whole frame."""
    b = GraphBuilder(seed)
    x = b.input((b.integer(4, 20), b.integer(2, 8), 4))
    for _ in range(gates):
        x = b.gate(b.residual(x))
    skip = x
    for _ in range(gates):
        x = b.gate(x)
    b.output(b.add("ew_add", [x, skip], {}))  # a skip over several global reductions
    for key in list(b.net.params):
        del b.net.params[key]
    return freeze(b.net, seed)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), gates=st.integers(1, 3))
def test_global_reductions_get_whole_frames(seed: int, gates: int) -> None:
    network = gated(seed, gates)
    result = compile_network(network, TARGETS[0])  # type: ignore[arg-type]
    program = decode(result.microcode)
    ends = RowSimulator(program).run(10)
    assert max(np.diff(ends)[4:]) <= result.report.figures.whole.cycles_per_frame
    # One row less than a frame on the long way round: the pipeline stands still, and the simulator says so.
    edge = max(program.buffers, key=lambda b: b.capacity_rows / program.tensors[b.tensor].height)
    edge.capacity_rows = program.tensors[edge.tensor].height - 1
    with pytest.raises(AssertionError, match="deadlock"):
        RowSimulator(program).run(2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    layers=st.integers(1, 8),
    clusters=st.integers(1, 8),
    controllers=st.integers(4, 16),
    units=st.integers(8, 128),
    unit_bytes=st.sampled_from([64, 256, 1024, 32768]),
)
@example(seed=33978, layers=1, clusters=1, controllers=4, units=8, unit_bytes=64)  # a reshape that fits nowhere
def test_scarce_targets_end_in_a_pipeline_or_a_report(
    seed: int, layers: int, clusters: int, controllers: int, units: int, unit_bytes: int
) -> None:
    """Whatever the device, compiling ends: within its resources and at the speed it says, or with what is short."""
    target = replace(
        TARGETS[0],
        clusters=clusters,
        controllers_per_cluster=controllers,
        memory_units_per_cluster=units,
        memory_unit_bytes=unit_bytes,
    )
    try:
        result = compile_network(random_network(seed, layers), target)
    except CapacityError as error:
        layers = error.report["layers"]
        causes = ("divide over", "no way to build", "more cycles")
        assert any(r["resources"] for r in layers) or any(cause in str(error) for cause in causes)
        return
    program = decode(result.microcode)
    for cluster in result.schedule.clusters:
        assert all(share.used <= share.of for share in (cluster.control, cluster.compute, cluster.memory))
    figures = result.report.figures
    parts = figures.parts if isinstance(figures, SeveralContexts) else [figures]
    for number, part in enumerate(parts):
        alone = context_program(program, number)
        held = sum(b.capacity_rows * _row_bytes(alone, b.tensor) for b in alone.buffers)
        assert held <= clusters * units * unit_bytes
        ends = RowSimulator(alone).run(8)
        assert max(np.diff(ends)[3:]) <= part.pipeline.cycles_per_frame


def _row_bytes(program: Program, tensor: int) -> int:
    t = program.tensors[tensor]
    return t.width * t.channels * t.element_bytes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(seed=81, layers=12, controllers=8, batch=1)
@example(seed=1550868742, layers=7, controllers=9, batch=2)
@given(seed=st.integers(0, 2**31), layers=st.integers(3, 12), controllers=st.integers(4, 12), batch=st.integers(1, 5))
def test_contexts_keep_codes_and_time(seed: int, layers: int, controllers: int, batch: int) -> None:
    """Random branches and global reductions cut anywhere: same codes, no deadlock, times of the closed form."""
    native = pytest.importorskip("headrace.runtime._native")
    network = random_network(seed, layers)
    target = replace(TARGETS[1], clusters=1, controllers_per_cluster=controllers)
    result = compile_network(network, target, CompileOptions(batch=batch))
    loaded = native.Device(None, threads=1).load(result.hef)
    played = loaded.timing()
    assert played["cycles_per_frame"] == pytest.approx(result.report.figures.whole.cycles_per_frame, rel=0.05)
    # Nothing beats what is proven, shared controllers and all.
    assert result.report.figures.whole.fps <= result.report.figures.bounds.bounds_fps["proven"]
    assert played["latency_cycles"] == pytest.approx(result.report.figures.whole.latency_cycles, rel=0.05)
    for layer, stage in zip(result.schedule.layers, played["stages"], strict=True):
        assert stage["busy_cycles"] == pytest.approx(layer.cycles, rel=0.1)
    frames = random_codes(network, 2, seed)
    want, got = layer_codes(network, frames), loaded.infer_all(frames)
    for name, value in got.items():
        if name in want:
            np.testing.assert_array_equal(np.asarray(value).reshape(want[name].shape), want[name], err_msg=name)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31), layers=st.integers(1, 9))
def test_device_agrees_with_the_closed_form(seed: int, layers: int) -> None:
    native = pytest.importorskip("headrace.runtime._native")
    network = random_network(seed, layers)
    result = compile_network(network, TARGETS[seed % 2])
    loaded = native.Device(None, threads=1).load(result.hef)
    timing = loaded.timing()
    assert timing["fps"] == pytest.approx(result.report.figures.whole.fps, rel=0.02)
    # The closed form knows nothing of rows that meet on the link: some cycles for networks of a few hundred.
    assert timing["latency_ms"] == pytest.approx(result.report.figures.whole.latency_ms, rel=0.05, abs=2e-4)
    frames = random_codes(network, 2, seed)
    want, got = layer_codes(network, frames), loaded.infer_all(frames)
    for name, value in got.items():
        if name in want:
            np.testing.assert_array_equal(np.asarray(value).reshape(want[name].shape), want[name], err_msg=name)
