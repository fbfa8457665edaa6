# SPDX-License-Identifier: Apache-2.0
"""What the compiler writes is a right HEF, and the Python run time runs it as the reference says."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from compiler_support import freeze, random_codes, random_network, resnet
from headrace.compiler import CompileOptions, compile_network
from headrace.hef.container import read_hef
from headrace.hef.disassembler import disassemble
from headrace.hn import Network
from headrace.runtime import HEF, FormatType, VDevice, run, simulate
from headrace.targets import load_target
from hef_validator import validate
from interpreters import layer_codes

NETWORKS = {"resnet": lambda: resnet(1, 8, 16), **{f"random{i}": lambda i=i: random_network(i) for i in range(6)}}


def compiled(name: str, target: str = "hailo8") -> tuple[Network, bytes]:
    network = freeze(NETWORKS[name]())
    return network, compile_network(network, load_target(target), CompileOptions()).hef


@pytest.mark.parametrize("target", ["hailo8", "hailo8l"])
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_files_keep_every_rule(name: str, target: str) -> None:
    _, data = compiled(name, target)
    assert validate(data) == []
    hef = read_hef(data)
    assert f"target {target}" in disassemble(hef.program())
    program = hef.program()
    assert {program.name_of(t) for t in program.tensors if t.role} == {s.name for s in hef.description.streams}


@pytest.mark.parametrize("name", NETWORKS)
def test_run_time_gives_the_reference_codes(name: str) -> None:
    pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    network, data = compiled(name)
    codes = random_codes(network, 3)
    want = layer_codes(network, codes)
    got = run(data, codes, output_type=FormatType.AUTO)
    assert got
    for stream, value in got.items():
        assert np.array_equal(value.reshape(-1), np.asarray(want[stream]).reshape(-1)), stream
    # Closed form and event simulation are different computations of the same pipeline.
    assert simulate(data)["fps"] == pytest.approx(HEF(data).bottleneck_fps(), rel=0.05)


def test_threads_share_a_compiled_network() -> None:
    pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    network, data = compiled("resnet")
    codes = {batch: random_codes(network, batch, batch) for batch in (1, 2, 5, 7)}
    want = {batch: layer_codes(network, c) for batch, c in codes.items()}
    wrong: list[str] = []
    with VDevice(threads=2) as device:
        models = [device.create_infer_model(data).configure() for _ in range(2)]

        def work(batch: int) -> None:
            for i in range(8):
                for stream, value in models[i % 2].infer(codes[batch]).items():
                    if not np.array_equal(value.reshape(-1), np.asarray(want[batch][stream]).reshape(-1)):
                        wrong.append(f"{stream} {batch}")

        threads = [threading.Thread(target=work, args=(batch,)) for batch in codes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_nothing_is_said_at_exit_when_all_is_left_open(tmp_path: Path) -> None:
    pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    path = tmp_path / "net.hef"
    path.write_bytes(compiled("resnet")[1])
    code = (
        "import sys, numpy as np\n"
        "from headrace.runtime import *\n"
        "device = VDevice(); model = device.create_infer_model(sys.argv[1]); configured = model.configure()\n"
        "make = lambda: configured.create_bindings({'': np.zeros(model.input().shape, np.uint8)},"
        " {s.name: np.zeros(s.shape, s.dtype) for s in model.outputs})\n"
        "configured.run([make(), make()]); job = configured.run_async(make())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
