# SPDX-License-Identifier: Apache-2.0
"""Networks larger than the device: same codes, times that agree, the cheapest cuts, layers split exactly."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

from compiler_support import RowSimulator, convolution, freeze, random_codes, resnet
from context_networks import context_program, large_residual
from headrace.compiler import CompileOptions, CompileResult, compile_network
from headrace.errors import UsageError
from headrace.hef.container import read_hef
from headrace.hef.microcode import Program, decode
from headrace.hn import Network
from headrace.mapping import Allocation, Shortage, allocate, cut_into_contexts, limits_of, stages_of
from headrace.targets import Target, load_target
from interpreters import layer_codes, program_codes
from random_graphs import GraphBuilder

HAILO8L = load_target("hailo8l")
SMALL = replace(HAILO8L, name="small", clusters=1)


def check_codes(network: Network, result: CompileResult, count: int = 2) -> None:
    """The program's codes, by the interpreter of its records, are those of the layers."""
    frames = random_codes(network, count)
    want, got = layer_codes(network, frames), program_codes(decode(result.microcode), frames)
    for layer in network:
        if layer.kind != "output_layer":
            np.testing.assert_array_equal(got[layer.name], want[layer.name], err_msg=layer.name)


def timed(result: CompileResult) -> dict[str, Any]:
    native = pytest.importorskip("headrace.runtime._native")
    return native.Device(None, threads=1).load(result.hef).timing()


def check_time(result: CompileResult) -> None:
    """Closed form against event simulation: the network, every context, every layer."""
    played = timed(result)
    assert result.report.figures.whole.fps == pytest.approx(played["fps"], rel=0.05)
    assert result.report.figures.whole.latency_ms == pytest.approx(played["latency_ms"], rel=0.05)
    for part, context in zip(result.report.figures.parts, played["contexts"], strict=True):
        assert part.reload_cycles == context["reload_cycles"]
        assert part.loaded_ahead_cycles == context["ahead_cycles"]
        assert part.run_cycles == pytest.approx(context["run_cycles"], rel=0.05)
        near = pytest.approx(context["overrun_cycles"], rel=0.05, abs=0.05 * part.run_cycles)
        assert part.overrun_cycles == near
    for layer, stage in zip(result.schedule.layers, played["stages"], strict=True):
        assert layer.name == stage["name"]
        assert layer.cycles == pytest.approx(stage["busy_cycles"], rel=0.1)


@pytest.mark.parametrize("batch", [1, 8])
def test_a_large_residual_network_runs_in_contexts(batch: int) -> None:
    network = large_residual()
    assert sum(layer.kind == "conv" for layer in network) >= 30
    assert sum(a.size for k, a in network.params.items() if k.endswith("kernel_q")) > 40e6
    result = compile_network(network, HAILO8L, CompileOptions(batch=batch))
    assert result.report.figures.contexts >= 3
    assert read_hef(result.hef).description.contexts == result.report.figures.contexts
    assert read_hef(result.hef).description.latency_ms == pytest.approx(result.report.figures.whole.latency_ms)
    crossing = [c.cut_output_bytes for c in decode(result.microcode).contexts]
    assert all(crossing[:-1]) and not crossing[-1]
    check_time(result)
    if batch == 1:
        assert compile_network(network, HAILO8L).hef == result.hef


def test_the_device_runs_what_the_layers_mean() -> None:
    native = pytest.importorskip("headrace.runtime._native")
    network = resnet(blocks=4)
    result = compile_network(network, SMALL, CompileOptions(batch=4))
    assert result.report.figures.contexts > 1
    check_codes(network, result)
    check_time(result)
    frames = random_codes(network, 2)
    want, got = layer_codes(network, frames), native.Device(None, threads=1).load(result.hef).infer_all(frames)
    for name, value in got.items():
        np.testing.assert_array_equal(np.asarray(value).reshape(want[name].shape), want[name], err_msg=name)


def test_every_context_is_a_pipeline_that_keeps_its_promise() -> None:
    """Another simulator, on each context as a program of its own: no deadlock, and the period that was promised."""
    result = compile_network(resnet(blocks=4), SMALL)
    program = decode(result.microcode)
    for number, part in enumerate(result.report.figures.parts):
        ends = RowSimulator(context_program(program, number)).run(8)
        assert max(np.diff(ends)[3:]) <= part.pipeline.cycles_per_frame


def test_more_frames_per_switch_are_faster_per_frame() -> None:
    network = resnet(blocks=4)
    rates = [compile_network(network, SMALL, CompileOptions(batch=b)).report.figures.whole.fps for b in (1, 4, 16)]
    assert rates == sorted(rates)
    assert rates[2] > 3 * rates[0]
    for bad in (0, -1, 1 << 17, 2.0, True):
        with pytest.raises(UsageError, match="batch"):
            compile_network(network, SMALL, CompileOptions(batch=bad))  # type: ignore[arg-type]


def brute_force(network: Network, target: Target, batch: int) -> int:
    """Cycles per batch of the best of all sequences of contexts, each turn worked out anew."""
    flow = stages_of(network)
    n = len(flow.works)
    memory: dict[tuple[int, int], Any] = {}
    switch = -(-target.context_switch_ns * target.clock_hz // 10**9)

    def load(size: int) -> int:
        return -(-size * target.clock_hz // target.link_bytes_per_second)

    def part_of(first: int, last: int) -> Any:
        """(run, streams, weights, bytes left free), or None."""
        if (first, last) not in memory:
            part = flow.part(first, last)
            others = load(sum(w.weight_bytes for w in (*flow.works[:first], *flow.works[last:])))

            def cost(a: Allocation) -> int:
                room = target.clusters * target.memory_units_per_cluster - a.totals[2]
                late = max(0, others - load(room * target.memory_unit_bytes))
                return a.latency + (batch - 1) * a.period + late

            found = allocate(part, target, limits_of(target, part), cost=cost)
            memory[first, last] = None
            if not isinstance(found, Shortage):
                units = target.clusters * target.memory_units_per_cluster - found.totals[2]
                memory[first, last] = (
                    found.latency + (batch - 1) * found.period,
                    batch * found.link_cycles,
                    load(sum(w.weight_bytes for w in part.works)),
                    load(units * target.memory_unit_bytes),
                )
        return memory[first, last]

    totals: list[int] = []
    for count in range(1, n):
        for inner in combinations(range(1, n), count):
            parts = [part_of(a, b) for a, b in pairwise((0, *inner, n))]
            if any(p is None for p in parts):
                continue
            total = 0
            for (run, streams, _, free), (_, _, weights, _) in zip(parts, parts[1:] + parts[:1], strict=True):
                ahead = min(weights, free)
                total += max(run, streams + ahead) + weights - ahead + switch
            totals.append(total)
    return min(totals)


@pytest.mark.parametrize("seed", range(12))
def test_no_sequence_of_contexts_is_cheaper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = GraphBuilder(seed)
    x = skip = b.input((int(rng.integers(6, 20)), 12, 8))
    for i in range(4):
        x = convolution(b, x, 8, 3, 1, skip if i == 2 else None)
        x = b.add("maxpool", [x], {"kernel_shape": [3, 3], "padding": [1] * 4})
    b.output(x)
    network = freeze(b.net, seed)
    # Few controllers, and often so slow a link or so little memory that loading ahead decides.
    target = replace(
        SMALL,
        controllers_per_cluster=7,
        context_switch_ns=int(rng.integers(0, 200_000)),
        link_bytes_per_second=int(rng.integers(1, 100)) * 10**7,
        memory_unit_bytes=int(rng.choice([256, 32768])),
    )
    batch = int(rng.integers(1, 20))
    found = cut_into_contexts(stages_of(network), target, batch=batch)
    assert found is not None and found.optimal
    assert found.cycles == brute_force(network, target, batch)
    assert found.lower_bound <= found.cycles


def oversized(residual: bool) -> Network:
    b = GraphBuilder(0)
    x = convolution(b, b.input((6, 6, 16)), 48, 3)
    y = convolution(b, x, 48, 3, 1, x if residual else None)
    y = b.add("reshape", [y], {"shape": [6 * 6 * 48]})
    b.output(b.add("dense", [y], {"kernel_shape": [6 * 6 * 48, 67]}))
    return freeze(b.net)


@pytest.mark.parametrize("residual", [False, True])
def test_a_layer_larger_than_a_context_is_split_exactly(residual: bool) -> None:
    native = pytest.importorskip("headrace.runtime._native")
    network = oversized(residual)
    target = replace(SMALL, memory_unit_bytes=128, memory_units_per_cluster=160)
    result = compile_network(network, target)
    split = {d.layer: d for d in result.report.decisions}
    assert {"net/conv2", "net/fc1"} <= set(split)
    assert sum(split["net/fc1"].channels) == 67
    assert split["net/fc1"].parts == len(split["net/fc1"].channels)
    check_codes(network, result)
    check_time(result)
    frames = random_codes(network, 2)
    want, got = layer_codes(network, frames), native.Device(None, threads=1).load(result.hef).infer_all(frames)
    np.testing.assert_array_equal(np.asarray(got["net/fc1"]).reshape(2, -1), want["net/fc1"].reshape(2, -1))


@pytest.mark.parametrize("kind", ["grouped", "residual", "depthwise"])
def test_a_grouped_layer_larger_than_a_context_is_split_by_groups(kind: str) -> None:
    """A grouped convolution, one with a fused residual, and a depthwise one whose rows alone are too wide."""
    native = pytest.importorskip("headrace.runtime._native")
    b = GraphBuilder(3)
    x = convolution(b, b.input((6, 6, 16)), 96, 1)
    if kind == "depthwise":
        attributes: dict[str, Any] = {"kernel_shape": [5, 5, 1, 96], "groups": 96, "padding": [2] * 4}
        x = b.add("dw", [x], attributes)
    else:
        attributes = {"kernel_shape": [3, 3, 16, 96], "groups": 6, "padding": [1] * 4, "activation": "relu"}
        residual = [x] if kind == "residual" else []
        x = b.add("conv", [x, *residual], attributes | {"elementwise_add": bool(residual)})
    b.output(b.add("maxpool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]}))
    network = freeze(b.net, 3)
    units = 48 if kind == "depthwise" else 110
    target = replace(SMALL, memory_unit_bytes=128, memory_units_per_cluster=units)
    name = next(layer.name for layer in network if layer.attributes.get("groups", 1) > 1)
    result = compile_network(network, target)
    split = {d.layer: d for d in result.report.decisions}
    assert split[name].axis == "groups"
    assert split[name].parts > 1 and sum(split[name].channels) == 96
    check_codes(network, result)
    check_time(result)
    frames = random_codes(network, 2)
    want, got = layer_codes(network, frames), native.Device(None, threads=1).load(result.hef).infer_all(frames)
    np.testing.assert_array_equal(np.asarray(got[name]).reshape(want[name].shape), want[name])


def test_the_large_network_gives_the_emulators_bytes() -> None:
    """43 million parameters in several contexts: every layer's codes, emulator against device."""
    native = pytest.importorskip("headrace.runtime._native")
    pytest.importorskip("torch")
    from headrace.emulator import Executor

    network = large_residual(56)
    result = compile_network(network, HAILO8L)
    assert result.report.figures.contexts >= 3
    assert result.report.figures.bounds.bound_by == "weights" and result.report.figures.bounds.efficiency_percent > 90
    codes = random_codes(network, 1)
    names = [layer.name for layer in network if layer.kind not in ("input_layer", "output_layer")]
    want = Executor(network, "quantized").run(codes, names, batch_size=1, dequantize=False)
    got = native.Device(None, threads=2).load(result.hef).infer_all(codes)
    different = {n: int((np.asarray(got[n]).reshape(want[n].shape) != want[n]).sum()) for n in want}
    assert not any(different.values())
    assert sum(len(np.unique(v)) > 16 for v in want.values()) > 20


def test_inputs_and_outputs_may_lie_in_any_context() -> None:
    """A second input that only the last context reads, an output of the first, an output that is read again later."""
    b = GraphBuilder(0)
    x, late = b.input((12, 12, 8)), b.input((12, 12, 8))
    early = x = convolution(b, x, 8, 3)
    for _ in range(8):
        x = convolution(b, x, 8, 3)
    x = b.add("ew_add", [x, late], {})
    x = b.add("ew_add", [x, early], {})
    b.output(early)
    b.output(x)
    network = freeze(b.net)
    result = compile_network(network, replace(SMALL, controllers_per_cluster=9))
    assert result.report.figures.contexts > 1
    check_codes(network, result)
    check_time(result)


def test_verify_catches_broken_contexts() -> None:
    from headrace.compiler.verify import verify
    from headrace.errors import InternalError

    program = decode(compile_network(resnet(blocks=4), SMALL).microcode)

    def refuse(change: Any) -> None:
        broken: Program = decode(verify(program))
        change(broken)
        with pytest.raises(InternalError):
            verify(broken)

    refuse(lambda p: setattr(p.contexts[0], "cut_output_bytes", 1))
    refuse(lambda p: setattr(p.contexts[1], "first_kernel", 0))
    refuse(lambda p: setattr(p.kernels[0], "context", 1))
    refuse(lambda p: p.contexts.pop())
