# SPDX-License-Identifier: Apache-2.0
"""Compiling: bytes, decisions, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler_support import RowSimulator, freeze, random_codes, resnet, softmax_tail
from headrace.compiler import CompileOptions, compile_network
from headrace.compiler.lower import lowered_operations
from headrace.compiler.verify import verify
from headrace.errors import (
    CapacityError,
    HeadraceError,
    InputFileError,
    InternalError,
    UnsupportedModelError,
    UsageError,
)
from headrace.hef.container import read_hef
from headrace.hef.microcode import Opcode, TensorRole, decode
from headrace.hn import Network
from headrace.layers import Operation, all_operations
from headrace.layers.rows import Family, RowRule
from headrace.mapping.place import cluster_totals, place_stages
from headrace.numerics.quantization import TensorQuantization
from headrace.targets import load_target
from headrace.timing import Flow, Plane, Work, flow_of
from hef_validator import validate
from interpreters import layer_codes, program_codes
from random_graphs import GraphBuilder

HAILO8, HAILO8L = load_target("hailo8"), load_target("hailo8l")


def small(outputs: int = 1) -> Network:
    b = GraphBuilder(3)
    x = b.input((6, 6, 3))
    y = b.convolution(x, 8, 3, same=True, activation="relu")
    for _ in range(outputs):
        b.output(y)
    return freeze(b.net)


def test_every_integer_kind_has_a_kernel_and_a_cost() -> None:
    computing = [operation for operation in all_operations() if not operation.is_boundary]
    assert set(lowered_operations()) == {operation for operation in computing if operation.has_integer_form}
    assert all(o.elementwise or o.row_cost is not Operation.row_cost for o in computing)


@pytest.mark.parametrize("target", [HAILO8, HAILO8L], ids=lambda t: t.name)
def test_resnet20_end_to_end_on_the_interpreter(target: object) -> None:
    network = resnet()
    result = compile_network(network, target)  # type: ignore[arg-type]
    program = decode(result.microcode)
    frames = random_codes(network)
    want, got = layer_codes(network, frames), program_codes(program, frames)
    names = [x.name for x in network if x.kind not in ("input_layer", "output_layer")]
    assert [program.name_of(k) for k in program.kernels] == names
    for name in names:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
    assert len(np.unique(got["resnet/conv21"])) > 100  # not a dead network


def test_throughput_of_the_row_simulator_is_the_closed_form() -> None:
    result = compile_network(resnet(), HAILO8)
    ends = RowSimulator(decode(result.microcode)).run(6)
    assert set(np.diff(ends)[1:]) == {result.report.figures.whole.cycles_per_frame}
    assert ends[0] <= result.report.figures.whole.latency_cycles


def test_hef_says_what_the_program_is() -> None:
    result = compile_network(resnet(), HAILO8)
    hef = read_hef(result.hef)
    assert hef.microcode == result.microcode
    assert validate(result.hef) == []
    assert [s.name for s in hef.description.inputs] == ["resnet/input_layer1"]
    assert [s.name for s in hef.description.outputs] == ["resnet/ew_mult1"]
    assert hef.description.outputs[0].order == "NC"
    assert hef.description.bottleneck_fps == pytest.approx(result.report.figures.whole.fps, rel=1e-6)


def test_same_bytes_whatever_the_hash_seed() -> None:
    code = (
        "import hashlib,sys; sys.path.insert(0, 'tests')\n"
        "from compiler_support import resnet\nfrom headrace.compiler import compile_network\n"
        "from headrace.targets import load_target\n"
        "print(hashlib.sha256(compile_network(resnet(), load_target('hailo8')).hef).hexdigest())"
    )
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root / "src")},
        ).stdout
        for seed in ("0", "77")
    }  # fmt: skip
    assert len(digests) == 1


def test_schedule_is_data_and_adds_up() -> None:
    result = compile_network(resnet(), HAILO8)
    schedule = json.loads(json.dumps(result.schedule.as_dict(), allow_nan=False))
    layers = schedule["layers"]
    for key, name in (("controllers", "control"), ("subclusters", "compute"), ("memory_units", "memory")):
        total = sum(x[key] for x in layers)
        assert total == schedule["totals"][key]
        inputs = 1 if key == "controllers" else 0
        assert sum(c[name]["used"] for c in schedule["clusters"]) == total + inputs
    assert all(c["percent"] <= 100 for cluster in schedule["clusters"] for c in cluster.values() if isinstance(c, dict))
    assert max(x["cycles"] for x in layers) == schedule["cycles_per_frame"]
    assert {x["bound"] for x in layers} <= {"engine", "input port", "output port", "join"}
    for x in layers:
        better = x["next_better"]
        assert better is None or better["cycles"] < x["cycles"]


def test_stage_fields_are_the_closed_form() -> None:
    result = compile_network(resnet(), HAILO8)
    program = decode(result.microcode)
    t = program.target
    for stage, layer in zip(program.stages, result.schedule.layers, strict=True):

        def port(size: int, rows: int = stage.rows) -> int:
            return -(-size * t.busy_denominator // (t.port_bytes_per_cycle * t.busy_numerator * rows))

        row = max(
            -(-stage.engine_cycles_per_row * t.busy_denominator // t.busy_numerator),
            port(stage.input_bytes_per_frame),
            port(max(stage.output_bytes_per_frame, stage.join_bytes_per_frame)),
        )  # fmt: skip
        assert layer.cycles == stage.rows * (row + t.row_overhead_cycles)


def test_several_outputs_on_one_tensor_get_copies() -> None:
    network = small(outputs=3)
    program = decode(compile_network(network, HAILO8).microcode)
    names = [program.name_of(t) for t in program.tensors if t.role == TensorRole.OUTPUT]
    assert names == ["net/conv1", "net/output_layer2", "net/output_layer3"]
    got = program_codes(program, random_codes(network))
    np.testing.assert_array_equal(got["net/output_layer3"], got["net/conv1"])


def test_an_output_that_is_an_input_gets_a_copy() -> None:
    b = GraphBuilder(0)
    x = b.input((4, 4, 2))
    b.output(x)
    b.output(b.add("maxpool", [x], {"kernel_shape": [2, 2]}))
    result = compile_network(freeze(b.net), HAILO8)
    program = decode(result.microcode)
    assert [Opcode(k.opcode) for k in program.kernels] == [Opcode.POOL_MAX, Opcode.RESHAPE]
    assert [s.name for s in read_hef(result.hef).description.outputs] == ["net/output_layer1", "net/maxpool1"]


def test_average_with_padding_counted() -> None:
    b = GraphBuilder(0)
    x = b.input((5, 5, 3))
    b.output(
        b.add(
            "avgpool", [x], {"kernel_shape": [3, 3], "strides": [2, 2], "padding": [1, 1, 1, 1], "count_padding": True}
        )
    )
    network = freeze(b.net)
    frames = random_codes(network)
    program = decode(compile_network(network, HAILO8).microcode)
    kernel = program.kernels[0]
    assert kernel.requantise_channels == 3  # 4, 6 and 9 positions covered, one frozen multiplier
    np.testing.assert_array_equal(
        program_codes(program, frames)["net/avgpool1"], layer_codes(network, frames)["net/avgpool1"]
    )


def test_vectors_move_along_channels() -> None:
    b = GraphBuilder(0)
    x = b.input((12,))
    y = b.add("slice", [x], {"starts": [1], "steps": [2], "sizes": [5]})
    z = b.add("external_pad", [y], {"before": [2], "after": [1]})
    b.output(softmax_tail(b, b.add("concat", [z, x], {"axis": 0})))
    network = freeze(b.net)
    frames = random_codes(network)
    want = layer_codes(network, frames)
    got = program_codes(decode(compile_network(network, HAILO8).microcode), frames)
    for name in got:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_rows_wider_than_all_line_memory_are_a_report() -> None:
    b = GraphBuilder(0)
    x = b.input((8, 4096, 8))
    b.output(b.add("conv", [x], {"kernel_shape": [3, 3, 8, 8], "padding": [1, 1, 1, 1]}))
    with pytest.raises(CapacityError) as caught:
        compile_network(freeze(b.net), replace(HAILO8L, memory_unit_bytes=128))
    error = caught.value
    assert error.exit_code == 8
    report = json.loads(json.dumps(error.as_dict()))["report"]
    memory = report["resources"][2]
    assert memory["resource"] == "memory_units"
    assert memory["exceeded"]
    assert memory["need"] > memory["have"] == 512
    assert memory["terms"][0]["layer"] == "net/conv1"
    layer = report["layers"][0]
    assert layer["layer"] == "net/conv1"
    assert layer["terms"][0] == {"for": "for 3 rows of net/input_layer1", "bytes": 3 * 4096 * 8}
    assert layer["resources"][0]["need"] > layer["resources"][0]["have"]
    assert any("tiles of at most" in lever for lever in report["levers"])
    assert "infeasible" not in str(error)
    assert "memory units" in str(error)


def test_ceilings_are_kept_and_checked() -> None:
    network = resnet()
    half = compile_network(network, HAILO8, CompileOptions(max_control_utilization=0.5))
    assert half.report.figures.whole.totals["controllers"] <= 63
    assert (
        half.report.figures.whole.cycles_per_frame
        > compile_network(network, HAILO8).report.figures.whole.cycles_per_frame
    )
    with pytest.raises(UsageError, match="max_compute_utilization"):
        compile_network(network, HAILO8, CompileOptions(max_compute_utilization=1.5))


def test_a_float_network_is_refused() -> None:
    b = GraphBuilder(0)
    b.output(b.convolution(b.input((4, 4, 3)), 8, 1))
    with pytest.raises(UsageError, match="optimize"):
        compile_network(b.net, HAILO8)


def test_a_kind_without_kernel_is_refused() -> None:
    b = GraphBuilder(0)
    b.output(b.add("softmax", [b.input((5,))], {}))
    network = b.net
    freeze(small())  # an unrelated network is fine
    for layer in network:
        layer.output.quantization = TensorQuantization(0.125, 3, 8)
    with pytest.raises(UnsupportedModelError, match="softmax"):
        compile_network(network, HAILO8)


def _damage(network: Network, key: str, value: object) -> None:
    network.params[key] = value  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel_q", np.zeros((3, 3, 3, 8), np.float32)),
        ("kernel_q", np.zeros((3, 3, 2, 8), np.int8)),
        ("kernel_q", np.zeros((8,), np.int8)),
        ("bias_q", np.zeros(7, np.int32)),
        ("bias_q", np.full(8, np.nan)),
        ("multipliers", np.ones((1, 5), np.int32)),
        ("multipliers", np.ones((2, 8), np.int32)),
        ("shifts", np.zeros(8, np.uint8)),
        ("shifts", np.full(8, 63, np.uint8)),
        ("bias_q", np.full(8, -(2**31), np.int32)),
    ],
)
def test_damaged_integers_are_refused(key: str, value: object) -> None:
    network = small()
    full = f"net/conv1/{key}"
    columns = network.params["net/conv1/multipliers"].shape[1]
    if key == "shifts" and columns == 1:
        value = value[:1]  # type: ignore[index]
    _damage(network, full, value)
    with pytest.raises(HeadraceError) as caught:
        compile_network(network, HAILO8)
    assert caught.value.diagnostics


@pytest.mark.parametrize(
    "change", [{"zero": 1.5}, {"high": 1 << 40}, {"low": -1}, {"low": 600, "high": 700}, {"zero": "1"}]
)
def test_damaged_requantization_is_refused(change: dict[str, Any]) -> None:
    network = small()
    clamp = network["net/conv1"].clamp
    assert clamp is not None
    network["net/conv1"].clamp = clamp._replace(**change)
    with pytest.raises(HeadraceError):
        compile_network(network, HAILO8)


def test_codes_that_change_their_meaning_are_refused() -> None:
    b = GraphBuilder(0)
    b.output(b.add("maxpool", [b.input((4, 4, 2))], {"kernel_shape": [2, 2]}))
    network = freeze(b.net)
    network["net/maxpool1"].output.quantization = TensorQuantization(0.5, 3, 8)
    with pytest.raises(InputFileError, match="another scale"):
        compile_network(network, HAILO8)


def test_sums_that_may_overflow_are_refused() -> None:
    network = small()
    columns = network.params["net/conv1/multipliers"].shape[1]
    network.params["net/conv1/bias_q"] = np.full(8, 2**30, np.int32)
    network.params["net/conv1/multipliers"] = np.full((1, columns), 2**31 - 1, np.int32)
    compile_network(network, HAILO8)  # 2^61 and a little: still exact
    network.params["net/conv1/shifts"] = np.full(columns, 62, np.uint8)
    network.params["net/conv1/bias_q"] = np.full(8, 2**31 - 2**24, np.int32)
    with pytest.raises(InputFileError, match="may overflow"):
        compile_network(network, HAILO8)


def test_absurd_windows_end_in_a_report() -> None:
    b = GraphBuilder(0)
    huge = (1 << 31) - 1
    pool = {"kernel_shape": [huge, huge], "padding": [huge - 1, huge - 1, 3, 3]}
    b.output(b.add("maxpool", [b.input((4, 4, 2))], pool))
    with pytest.raises(CapacityError, match="a row of this layer takes more cycles than a stage can count"):
        compile_network(freeze(b.net), HAILO8)


def test_all_offending_layers_are_named() -> None:
    network = resnet(blocks=1)
    for name in ("resnet/conv2", "resnet/conv4", "resnet/fc1"):
        network.params[f"{name}/bias_q"] = np.zeros(1, np.int32)
    with pytest.raises(InputFileError) as caught:
        compile_network(network, HAILO8)
    assert [d.where for d in caught.value.diagnostics] == [f"resnet/{n}/bias_q" for n in ("conv2", "conv4", "fc1")]


def test_verify_catches_broken_programs() -> None:
    program = decode(compile_network(small(), HAILO8).microcode)
    for breakage in (
        lambda p: p.buffers.pop(),
        lambda p: setattr(p.buffers[0], "capacity_rows", 0),
        lambda p: setattr(p.stages[0], "cluster", 99),
        lambda p: setattr(p.stages[0], "controllers", 999),
        lambda p: setattr(p.kernels[0], "weight_offset", 1 << 30),
        lambda p: setattr(p.kernels[0], "output", 0),
    ):
        broken = decode(verify(program))
        breakage(broken)
        with pytest.raises(InternalError):
            verify(broken)


# --- placement -------------------------------------------------------------------------------------------------------


def test_placement_keeps_every_cluster_within_its_limits() -> None:
    rng = np.random.default_rng(0)
    works = flow_of(resnet()).works
    for _ in range(30):
        uses = [tuple(int(rng.integers(1, most)) for most in (9, 40, 70, 12, 18)) for _ in works]
        flow = Flow(works, (works[0].operands[0],), ())
        clusters = place_stages(uses, flow, HAILO8)
        if clusters is None:
            continue
        for c in range(HAILO8.clusters):
            mine = np.array([u for u, at in zip(uses, clusters, strict=True) if at == c] or [(0,) * 5]).sum(axis=0)
            assert (mine <= (16, 64, 128, 20, 32)).all()


def test_nearly_full_devices_are_placed() -> None:
    """Stages cut from clusters that they fill to 97 % of memory: there is a placement, nearly always found."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(20):
        uses: list[tuple[int, ...]] = []
        for _ in range(HAILO8.clusters):
            stages = int(rng.integers(5, 12))
            memory = 1 + rng.multinomial(124 - stages, rng.dirichlet(np.full(stages, 0.5)))
            lanes = 1 + rng.multinomial(52 - stages, rng.dirichlet(np.full(stages, 1.0)))
            uses += [(1, int(s), int(m), 1, 1) for s, m in zip(lanes, memory, strict=True)]
        order = rng.permutation(len(uses))
        uses = [uses[i] for i in order]
        plane = Plane("x", 1, 1, 1)
        works = [Work(f"w{i}", "x", Family.MOVE, (plane,), (RowRule(),), plane) for i in range(len(uses))]
        clusters = place_stages(uses, Flow(tuple(works), (), ()), HAILO8)
        if clusters is not None:
            found += 1
            for c in range(HAILO8.clusters):
                mine = np.array([u for u, at in zip(uses, clusters, strict=True) if at == c]).sum(axis=0)
                assert (mine <= (16, 64, 128, 20, 32)).all()
    assert found >= 18


def test_memory_larger_than_a_cluster_spills() -> None:
    works = flow_of(small()).works
    flow = Flow(works, (works[0].operands[0],), ())
    assert place_stages([(1, 1, 500, 1, 1)], flow, HAILO8) == [0]
    totals = cluster_totals([(1, 1, 500, 1, 1)], [0], 1, HAILO8)
    assert sum(t[2] for t in totals) == 500
    assert max(t[2] for t in totals) == 128
    assert place_stages([(1, 1, 1025, 1, 1)], flow, HAILO8) is None
