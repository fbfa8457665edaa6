# SPDX-License-Identifier: Apache-2.0
"""Concatenations of more tensors than a cluster aligns, and other counts without end: compiled, exact, on time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compiler_support import freeze, random_codes
from headrace.compiler import CompileOptions, compile_network
from headrace.compiler.graph import lower_network
from headrace.errors import CapacityError, UsageError
from headrace.hef.microcode import Opcode
from headrace.hn import Network
from headrace.mapping.join import narrow_joins
from headrace.targets import load_target
from interpreters import layer_codes
from random_graphs import GraphBuilder, weighted

HAILO8, HAILO8L = load_target("hailo8"), load_target("hailo8l")


def network(kind: str, n: int, axis: int = 2, size: int = 6) -> Network:
    """``n`` of something."""
    b = GraphBuilder(n)
    if kind == "inputs":
        b.output(b.add("concat", [b.input((size, 4, 2)) for _ in range(n)], {"axis": axis}))
        return bare(b)
    x = b.input((size, 4, n if kind == "slices" else 3))
    if kind == "slices":  # a reversal of channels, one by one
        cut: dict[str, Any] = {"steps": [1, 1, 1], "sizes": [size, 4, 1]}
        parts = [b.add("slice", [x], {"starts": [0, 0, n - 1 - i], **cut}) for i in range(n)]
        b.output(b.add("concat", parts, {"axis": 2}))
    elif kind == "dense":  # each layer reads all before it
        parts = [b.convolution(x, 2, 1, same=True, activation="relu")]
        for _ in range(n - 1):
            joined = b.add("concat", list(parts), {"axis": 2}) if len(parts) > 1 else parts[0]
            parts.append(b.convolution(joined, 2, 1, same=True, activation="relu"))
        b.output(b.add("concat", parts, {"axis": 2}))
    else:
        parts = [b.convolution(x, 2, 1, same=True, activation="relu") for _ in range(n)]
        if kind == "outputs":
            for part in parts:
                b.output(part)
        elif kind == "adds":
            total = parts[0]
            for part in parts[1:]:
                total = b.add("ew_add", [total, part], {})
            b.output(total)
        else:
            b.output(b.add("concat", parts, {"axis": axis}))
    return bare(b)


def bare(b: GraphBuilder) -> Network:
    for key in list(b.net.params):
        del b.net.params[key]
    return freeze(b.net)


def check(net: Network, target: Any = HAILO8, options: CompileOptions | None = None) -> Any:
    """The device gives every layer's codes and takes the closed form's time."""
    native = pytest.importorskip("headrace.runtime._native")
    result = compile_network(net, target, options)
    loaded = native.Device(None, threads=1).load(result.hef)
    assert loaded.timing()["cycles_per_frame"] == pytest.approx(result.report.figures.whole.cycles_per_frame, rel=0.05)
    frames = random_codes(net, 2, 1)
    want, got = layer_codes(net, frames), loaded.infer_all(frames)
    for layer in net:
        if layer.kind not in ("input_layer", "output_layer"):
            found = np.asarray(got[layer.name]).reshape(want[layer.name].shape)
            np.testing.assert_array_equal(found, want[layer.name], err_msg=layer.name)
    return result


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n", [32, 33, 34, 65])
def test_concatenations_of_any_count(n: int, axis: int) -> None:
    result = check(network("convolutions", n, axis))
    (decision,) = result.report.decisions if n > 32 else [None]
    assert decision is None or (decision.inputs, decision.decision) == (n, "join in steps")


@pytest.mark.parametrize(("kind", "n"), [("slices", 45), ("dense", 33), ("inputs", 39), ("adds", 64), ("outputs", 39)])
def test_counts(kind: str, n: int) -> None:
    """Reversals, dense blocks, chains, tensors that many read, many inputs and outputs."""
    check(network(kind, n))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "n", "target"),
    [("slices", 1000, HAILO8L), ("convolutions", 500, HAILO8), ("dense", 64, HAILO8L), ("adds", 200, HAILO8)],
)
def test_many_more(kind: str, n: int, target: Any) -> None:
    check(network(kind, n), target)


def leaves(kernels: dict[str, Any], name: str, most: int) -> list[str]:
    """Operands of a tree of concatenations, from the left."""
    found: list[str] = []
    for tensor in kernels[name].inputs:
        inner = tensor in kernels and kernels[tensor].opcode is Opcode.CONCATENATE and ".join" in tensor
        found += leaves(kernels, tensor, most) if inner else [tensor]
    assert len(kernels[name].inputs) <= most
    return found


@pytest.mark.parametrize("aligners", [2, 3, 5, 32])
def test_trees_keep_the_order_and_the_limit(aligners: int) -> None:
    """2 … 200 tensors; every tensor is there before it is read, and works are the kernels'."""
    target = replace(HAILO8, input_aligners_per_cluster=aligners)
    for n in [*range(2, 41), 64, 65, 100, 127, 200]:
        net = network("slices", n, size=1)
        lowered = lower_network(net)
        graph, _ = narrow_joins(lowered.graph, target)
        kernels = {s.name: s.lowered for s in graph.stages}
        (joined,) = (layer for layer in net if layer.kind == "concat")
        assert leaves(kernels, joined.name, max(2, aligners)) == list(joined.inputs)
        there = {s.tensor for s in lowered.inputs}
        for stage in graph.stages:
            kernel, work = stage.lowered, stage.work
            assert there.issuperset(kernel.inputs)
            there.add(kernel.name)
            assert tuple(p.tensor for p in work.operands) == kernel.inputs
            assert (work.output.height, work.output.width, work.output.channels) == kernel.shape


def test_a_dense_block_joins_what_is_joined_already() -> None:
    """Beyond the limit each further concatenation takes the one before it and the new tensor."""
    graph, decisions = narrow_joins(lower_network(network("dense", 60)).graph, HAILO8)
    assert len(decisions) == 60 - 32
    assert len(graph.stages) == 60 + 59  # no concatenation more than there are layers
    wide = [s.lowered for s in graph.stages if s.lowered.opcode is Opcode.CONCATENATE][31:]
    assert all(len(k.inputs) == 2 for k in wide)


def test_a_layer_in_more_parts_than_a_concatenation_takes() -> None:
    """Weights that exceed a context 40 times."""
    b = GraphBuilder(0)
    b.output(weighted(b, b.input((1, 1, 256)), 2000, 1))
    target = replace(HAILO8, clusters=1, memory_unit_bytes=128, memory_units_per_cluster=100)
    result = check(bare(b), target)
    assert [d.decision for d in result.report.decisions] == ["split", "join in steps"]
    assert result.report.decisions[0].parts > 32


def test_too_many_streams_are_refused_before_anything_is_searched() -> None:
    for kind in ("outputs", "inputs"):
        with pytest.raises(UsageError) as caught:
            compile_network(network(kind, 41), HAILO8)
        (problem,) = caught.value.diagnostics
        assert problem.code == "E-COMPILE-STREAMS" and "41 " in problem.got and "40" in problem.need and problem.levers


@pytest.mark.parametrize("kind", ["slices", "adds"])
def test_the_report_names_aligners_and_levers_that_were_tried(kind: str) -> None:
    """One aligner a cluster: nothing that reads two tensors can be built."""
    target = replace(HAILO8L, name="narrow", input_aligners_per_cluster=1)
    with pytest.raises(CapacityError) as caught:
        compile_network(network(kind, 40), target)
    assert {d.code for d in caught.value.diagnostics} == {"E-COMPILE-CAPACITY"}
    for problem, row in zip(caught.value.diagnostics, caught.value.report["layers"], strict=True):
        assert "input aligners" in problem.rule and problem.need == "at most 1" and problem.got.startswith("2 (one for")
        assert row["resources"] == [{"resource": "input_aligners", "need": 2, "have": 1}]
        assert problem.levers == tuple(row["levers"])
    assert "hailo8l" in caught.value.diagnostics[0].levers[-1]


def test_levers_are_true() -> None:
    """A row that is too wide: tiles and sizes that are named compile, one column or row more does not."""
    target = replace(HAILO8L, name="tiny", clusters=2, memory_unit_bytes=128, memory_units_per_cluster=100)

    def attempt(height: int, width: int, channels: int = 8) -> CapacityError | None:
        b = GraphBuilder(0)
        x = b.input((height, width, channels))
        b.output(b.add("maxpool", [x], {"kernel_shape": [3, 3], "padding": [1] * 4}))
        try:
            compile_network(bare(b), target)
        except CapacityError as error:
            return error
        return None

    error = attempt(64, 4096)
    assert error is not None
    tiles, smaller = (next(v for v in error.report["levers"] if word in v) for word in ("tiles", "resolution"))
    columns = int(tiles.split("at most ")[1].split()[0])
    assert attempt(64, columns) is None
    assert attempt(64, columns + 1) is not None
    height, width = map(int, smaller.split("at ")[1].split()[0].split("×"))
    assert attempt(height, width) is None
    assert "hailo8l" in error.report["levers"][-1]
