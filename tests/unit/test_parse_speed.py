# SPDX-License-Identifier: Apache-2.0
"""Parsing costs time in proportion to the nodes, and memory in proportion to the file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headrace.errors import UnsupportedModelError
from parsing import parse_onnx

#: What getrusage says of a child begins with what its parent had.
_PEAK = """
import sys
from headrace.frontends import parse
parse(sys.argv[1])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def model(nodes: list[Any], outputs: list[str], weights: list[Any]) -> bytes:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", [entry], ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def chain(length: int, last: str = "Relu") -> bytes:
    """Convolutions, factors per channel, activations, a change of view and back; ``last`` is the last operator."""
    kernel = np.random.default_rng(0).normal(0, 0.5, (4, 4, 1, 1)).astype(np.float32)
    weights = [
        numpy_helper.from_array(kernel, "w"),
        numpy_helper.from_array(np.full((1, 4, 1, 1), 1.1, np.float32), "s"),
    ]
    kinds: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Conv", ["w"], {}), ("Mul", ["s"], {}), ("Relu", [], {}),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    ]  # fmt: skip
    nodes: list[Any] = []
    for index in range(length):
        kind, operands, attributes = kinds[index % len(kinds)] if index < length - 1 else (last, [], {})
        read = f"t{index - 1}" if index else "x"
        nodes.append(helper.make_node(kind, [read, *operands], [f"t{index}"], f"n{index}", **attributes))
    return model(nodes, [f"t{length - 1}"], weights)


def seconds(data: bytes) -> float:
    start = time.process_time()
    try:
        parse_onnx(data)
    except UnsupportedModelError:
        pass
    return time.process_time() - start


@pytest.mark.parametrize(("length", "last"), [(10_000, "Relu"), (4_000, "NonZero")])
def test_many_nodes_in_a_row(length: int, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_VERIFY_PASSES", "0")
    assert seconds(chain(length, last)) < 10


def test_three_thousand_readers_that_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_VERIFY_PASSES", "0")
    names = [f"s{i}" for i in range(3000)]
    nodes = [helper.make_node("Sigmoid", ["x"], [name]) for name in names]
    assert seconds(model([*nodes, helper.make_node("Concat", names, ["y"], axis=1)], ["y"], [])) < 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read where Linux tells it")
@pytest.mark.parametrize("beside", [False, True], ids=["in the file", "beside it"])
def test_memory(tmp_path: Path, beside: bool) -> None:
    """At most three times the file and 300 MB: numbers are float64 while they are folded."""
    size, count = 1024, 48  # 192 MiB in all
    kernel = np.full((size, size), 0.01, np.float32)
    nodes: list[Any] = []
    for index in range(count):
        nodes.append(helper.make_node("MatMul", [f"r{index - 1}" if index else "x", f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Relu", [f"m{index}"], [f"r{index}"]))
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])
    end = helper.make_tensor_value_info(f"r{count - 1}", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(kernel + index / 1000, f"w{index}") for index in range(count)]
    graph = helper.make_graph(nodes, "g", [entry], [end], weights)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "m.onnx"
    onnx.save(built, path, save_as_external_data=beside, location="m.bin" if beside else None)
    stored = sum(file.stat().st_size for file in tmp_path.iterdir())
    plain = {**os.environ, "HEADRACE_VERIFY_PASSES": "0"}  # which keeps the network before each pass
    command = [sys.executable, "-c", _PEAK, str(path)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 3 * stored + 300e6
