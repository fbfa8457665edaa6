# SPDX-License-Identifier: Apache-2.0
"""Small stages on one controller: who may share, what it saves, the device's time, and programs that are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from compiler_support import convolution, freeze, random_codes, random_network
from headrace.compiler import CompileOptions, CompileResult, compile_network
from headrace.errors import InternalError
from headrace.hef.microcode import Program, decode
from headrace.hn import Network
from headrace.layers.rows import Family, RowKind, RowRule
from headrace.mapping import Allocation, Shortage, allocate, allocate_one_context, limits_of, stages_of
from headrace.mapping.sharing import share_controllers
from headrace.targets import load_target
from headrace.timing import Plane, Work
from headrace.timing.turns import order_of
from interpreters import layer_codes, program_codes
from random_graphs import GraphBuilder

HAILO8L = load_target("hailo8l")
SMALL = replace(HAILO8L, name="small", clusters=2)


def gates(blocks: int, seed: int = 0, size: int = 24) -> Network:
    """Convolutions with squeeze-and-excite gates: four stages of one row in every seven."""
    b = GraphBuilder(seed, "gates")
    x = convolution(b, b.input((size, size, 3)), 16, 3, 2)
    for _ in range(blocks):
        x = y = convolution(b, x, 16, 3)
        y = convolution(b, b.add("global_avgpool", [y], {}), 8, 1)
        y = b.add("activation", [convolution(b, y, 16, 1)], {"activation": "sigmoid"})
        x = b.add("ew_mult", [x, y], {})
    b.output(x)
    return freeze(b.net, seed)


def compiled(network: Network, target: object = SMALL) -> CompileResult:
    return compile_network(network, target, CompileOptions())  # type: ignore[arg-type]


def roots_of(program: Program) -> list[int]:
    return [i - s.shares for i, s in enumerate(program.stages)]


@pytest.mark.parametrize("seed", range(4))
def test_a_network_with_too_many_stages_stays_in_one_context(seed: int) -> None:
    """The codes are the layers', and the closed form is what the event simulation plays."""
    native = pytest.importorskip("headrace.runtime._native")
    network = gates(6 + seed % 2, seed, 16 + 4 * seed)
    flow = stages_of(network)
    limits = limits_of(SMALL, flow)
    assert isinstance(allocate(flow, SMALL, limits), Shortage)
    result = compiled(network)
    assert result.report.figures.contexts == 1
    program = decode(result.microcode)
    roots = roots_of(program)
    assert any(root != i for i, root in enumerate(roots))
    assert sum(s.controllers for s in program.stages) <= limits.controllers
    # A controller's time is all of its stages'.
    loads = [0] * len(roots)
    for i, row in enumerate(result.schedule.layers):
        loads[roots[i]] += row.cycles
    assert result.report.figures.whole.cycles_per_frame >= max(loads)
    owners = [row.shares_controller_of for row in result.schedule.layers]
    assert owners == [None if r == i else result.schedule.layers[r].name for i, r in enumerate(roots)]
    frames = random_codes(network, 2)
    want, got = layer_codes(network, frames), program_codes(program, frames)
    for layer in network:
        if layer.kind != "output_layer":
            np.testing.assert_array_equal(got[layer.name], want[layer.name], err_msg=layer.name)
    played = native.Device(None, threads=1).load(result.hef).timing()
    assert result.report.figures.whole.fps == pytest.approx(played["fps"], rel=0.05)
    assert result.report.figures.whole.latency_ms == pytest.approx(played["latency_ms"], rel=0.1)
    for layer, stage in zip(result.schedule.layers, played["stages"], strict=True):
        assert layer.cycles == pytest.approx(stage["busy_cycles"], rel=0.1)
    assert compiled(network).hef == result.hef


def test_controllers_are_shared_only_where_they_lack() -> None:
    flow = stages_of(gates(2))
    found = allocate_one_context(flow, HAILO8L, limits_of(HAILO8L, flow))
    assert isinstance(found, Allocation) and found.roots == list(range(len(found.stages)))


def test_who_may_share() -> None:
    """Neighbours of one row in any number; else pairs of related convolutions, one for twelve stages; never beyond the
    frame time."""
    flow = stages_of(gates(7))
    generous = allocate(flow, HAILO8L, limits_of(HAILO8L, flow))
    assert isinstance(generous, Allocation)
    works, n = flow.works, len(flow.works)
    options = [s.alternatives[-1] for s in generous.stages]  # the slowest, which are one slice
    period = 16 * max(o.cycles for o in options)

    def shared(controllers: int, frame_time: int = period) -> list[int] | None:
        return share_controllers(works, options, frame_time, HAILO8L, (controllers, 1 << 20, 1 << 20, 1 << 20, 1 << 20))

    least = next(c for c in range(1, n) if shared(c) is not None)
    roots = shared(least)
    assert roots is not None and len(set(roots)) == least
    pairs = 0
    for root in sorted(set(roots)):
        group = [i for i, r in enumerate(roots) if r == root]
        assert group == list(range(root, root + len(group)))
        if len(group) > 1 and any(works[i].output.height > 1 for i in group):
            assert len(group) == 2
            pairs += 1
    assert pairs <= n // 12
    assert least == n - pairs - sum(works[i].output.height == works[i - 1].output.height == 1 for i in range(1, n))
    assert shared(n) == list(range(n))
    assert shared(n - 1, 1) is None


def window(name: str, kernel: int, *sources: Plane, table: tuple[int, ...] = ()) -> Work:
    """A stage of four rows; ``table`` has the last row of its first operand that each row reads."""
    rule = RowRule(RowKind.WINDOW, kernel, 1, 1, kernel // 2)
    if table:
        rule = RowRule(RowKind.TABLE, table=tuple((0, last) for last in table))
    out = Plane(name, len(table) or 4, 8, 8)
    return Work(name, "conv", Family.DENSE, sources, (rule, *(RowRule() for _ in sources[1:])), out)


def test_the_order_of_rows_by_hand() -> None:
    """A window of one row feeds one of three; rows stand where the part of the frame that they need ends."""
    x = Plane("x", 4, 8, 8)
    first = window("a", 1, x)
    second = window("b", 3, first.output)
    # a0 a1 b0 a2 b1 a3 b2 b3, as places in a's steps followed by b's.
    assert order_of([first, second]).tolist() == [0, 1, 4, 2, 5, 3, 6, 7]
    # Beside it a stage that reads two rows of another tensor: half of the frame with each; a step never goes back.
    third = window("c", 1, Plane("y", 2, 8, 8), table=(0, 1, 1))
    assert order_of([first, second, third]).tolist() == [0, 1, 4, 8, 2, 5, 3, 6, 7, 9, 10]


REFUSED: list[tuple[str, Callable[[Program, int], None]]] = [
    ("before the first", lambda p, i: setattr(p.stages[i], "shares", i + 1)),
    ("controllers of its own", lambda p, i: setattr(p.stages[i], "controllers", 1)),
    ("owner without a controller", lambda p, i: setattr(p.stages[i - p.stages[i].shares], "controllers", 0)),
    ("another cluster", lambda p, i: setattr(p.stages[i], "cluster", 1 - p.stages[i].cluster)),
    ("several slices", lambda p, i: setattr(p.stages[i], "column_slices", 2)),
    ("aligners", lambda p, i: setattr(p.target, "input_aligners_per_cluster", 1)),
    ("activation units", lambda p, i: setattr(p.target, "activation_units_per_cluster", 1)),
]


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=[name for name, _ in REFUSED])
def test_the_device_refuses_impossible_sharing(name: str, change: Callable[[Program, int], None]) -> None:
    native = pytest.importorskip("headrace.runtime._native")
    from native.programs import hef_of

    program = decode(compiled(gates(6)).microcode)
    native.Device(None, threads=1).load(hef_of(program))
    index = next(i for i, s in enumerate(program.stages) if s.shares)
    change(program, index)
    with pytest.raises(native.NativeError) as error:
        native.Device(None, threads=1).load(hef_of(program))
    assert error.value.status == 26


def test_the_compiler_checks_sharing_itself() -> None:
    from headrace.compiler.verify import verify

    program = decode(compiled(gates(6)).microcode)
    index = next(i for i, s in enumerate(program.stages) if s.shares)
    program.stages[index].controllers = 1
    with pytest.raises(InternalError, match="share"):
        verify(program)


@pytest.mark.parametrize("seed", range(1, 19))
def test_random_graphs_keep_their_promise(seed: int) -> None:
    """The rows of shared controllers have a fixed order, so the rate is the closed form's, and nothing locks."""
    native = pytest.importorskip("headrace.runtime._native")
    network = random_network(seed, layers=10) if seed % 3 else gates(3 + seed % 7, seed, 12 + seed)
    flow = stages_of(network)
    controllers = max(3, len(flow.works) - 1 - seed % 4) + len(flow.inputs)
    roomy = replace(HAILO8L, name="roomy", clusters=1, controllers_per_cluster=controllers)
    roomy = replace(roomy, subclusters_per_cluster=512, memory_units_per_cluster=1024, input_aligners_per_cluster=128)
    result = compiled(network, roomy)
    played = native.Device(None, threads=1).load(result.hef).timing()
    assert result.report.figures.whole.fps == pytest.approx(played["fps"], rel=0.05)
    assert result.report.figures.whole.latency_ms == pytest.approx(played["latency_ms"], rel=0.05)
