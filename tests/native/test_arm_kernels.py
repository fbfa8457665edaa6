# SPDX-License-Identifier: Apache-2.0
"""The AArch64 kernel sets, cross-compiled and emulated, give the bytes of the generic kernels of this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.hef.microcode import TensorRole
from native import test_opcodes as opcodes
from native.programs import Builder

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

ROOT = Path(__file__).resolve().parents[2]


def programs(monkeypatch: pytest.MonkeyPatch) -> list[Builder]:
    """Those that the tests of the opcodes make, collected instead of run."""
    found: list[Builder] = []
    monkeypatch.setattr(opcodes, "compare", lambda b, *_, **__: found.append(b))
    for seed in range(6):
        for size in (1, 2):
            opcodes.test_convolution(seed, size)
            for zeros in (False, True):
                opcodes.test_depthwise(seed, size, zeros, wide=seed % 2 == 0)
    for seed in range(4):
        for wide in (False, True):
            opcodes.test_convolution_with_zero_points_of_weights(seed, wide)
    opcodes.test_grouped_convolution(1, 1)
    for case in opcodes.test_usual_convolutions.pytestmark[0].args[1]:
        opcodes.test_usual_convolutions(*case)
    for case in opcodes.test_usual_convolutions_with_zero_points_of_weights.pytestmark[0].args[1]:
        opcodes.test_usual_convolutions_with_zero_points_of_weights(*case)
    for channels in (3, 8, 40):
        for stride in (1, 2):
            opcodes.test_usual_depthwise((3, 3), stride, channels)
    for bits in (1, 8, 10, 14):
        opcodes.test_tables_of_every_size(bits, True)
    for shift, multiplier in ((1, -1), (62, 2**30), (31, 2**31 - 1)):
        opcodes.test_extreme_shifts(shift, multiplier, -100)
    opcodes.test_accumulators_at_the_edge_of_32_bits()
    opcodes.test_a_chain_reuses_memory_and_keeps_every_layer()
    for shapes in opcodes.BROADCASTS:
        opcodes.test_elementwise(opcodes.Opcode.ELEMENTWISE_ADD, shapes, (1, 1, 1))
        opcodes.test_elementwise(opcodes.Opcode.ELEMENTWISE_MULTIPLY, shapes, (1, 1, 1))
    for seed in (0, 1):
        opcodes.test_rescale_by_sign((1, 1), seed)
        for opcode in (opcodes.Opcode.CONVOLUTION, opcodes.Opcode.DEPTHWISE):
            opcodes.test_sums_by_sign(opcode, seed, 40)
    opcodes.test_pool_sum(1, 3, 2, 1)
    opcodes.test_moves(1)
    return found


def checksum(builder: Builder, hef: bytes) -> str:
    """Of all layers, on the generic kernels of this machine, for the inputs of compare_kernels."""
    inputs: dict[str, Any] = {}
    for t in builder.program.tensors:
        if t.role == int(TensorRole.INPUT):
            count = 2 * t.height * t.width * t.channels * t.element_bytes
            codes = (np.arange(count, dtype=np.uint64) * 2654435761 % 2**32 >> 24).astype(np.uint8)
            shaped = codes.view(f"u{t.element_bytes}").reshape(2, t.height, t.width, t.channels)
            inputs[builder.program.name_of(t)] = shaped
    network = native.Device(None, 1, "generic").load(hef)
    results = network.infer_all(inputs)
    return f"{zlib.crc32(b''.join(results[layer['name']].tobytes() for layer in network.layers)):08x}"


@pytest.fixture(scope="module")
def comparison(native_build: Callable[..., Path]) -> Path:
    """The program that runs HEFs on every kernel set, cross-compiled."""
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None or shutil.which("qemu-aarch64") is None:
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu qemu-user)")
    options = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_EXE_LINKER_FLAGS=-static")
    target = "compare_kernels"
    return native_build(target, *options, f"-DCMAKE_CXX_COMPILER={compiler}", "-DHEADRACE_COMPARE=ON") / target


@pytest.mark.slow
@pytest.mark.timeout(1200, func_only=True)
def test_every_set_of_the_architecture(comparison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want: dict[str, str] = {}
    for i, builder in enumerate(programs(monkeypatch)):
        path = tmp_path / f"{i}.hef"
        path.write_bytes(builder.build())
        want[str(path)] = checksum(builder, path.read_bytes())
    assert len(want) > 50
    run = ["qemu-aarch64", "-cpu", "max", str(comparison), *want]
    result = subprocess.run(run, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-2000:]
    lines = [line.split() for line in result.stdout.splitlines()]
    sets = re.findall(r"HEADRACE_SET\((\w+)\)", (comparison.parent / "generated" / "kernel_sets_built.inc").read_text())
    assert len(sets) > 1 and {name for _, name, _, _ in lines} == set(sets)  # the emulated processor has them all
    wrong = [line for line in lines if line[3] != want[line[0]]]
    assert len(lines) == len(want) * len(sets) * 2 and not wrong, wrong[:10]
