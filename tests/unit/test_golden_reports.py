# SPDX-License-Identifier: Apache-2.0
"""Reports as text and JSON against files in tests/golden; ``pytest --update-golden`` writes them anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiler_support import convolution, freeze, resnet
from headrace.compiler import CompileOptions, compile_network
from headrace.errors import CapacityError
from headrace.hn import Network
from headrace.hn.archive import Archive
from headrace.profiler import profile, render_text
from headrace.targets import Target, load_target
from random_graphs import GraphBuilder

GOLDEN = Path(__file__).parent.parent / "golden"
HAILO8L = load_target("hailo8l")
SMALL = replace(HAILO8L, name="small", clusters=1)
TINY = replace(SMALL, name="tiny", memory_unit_bytes=128, memory_units_per_cluster=160)


def check(name: str, content: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / name
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    assert path.is_file(), f"{path} is missing: run pytest --update-golden and read what it writes"
    assert content == path.read_text(encoding="utf-8"), f"{path} differs: pytest --update-golden, then read the diff"


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def split_network() -> Network:
    b = GraphBuilder(0, "split")
    x = convolution(b, convolution(b, b.input((6, 6, 16)), 48, 3), 48, 3)
    b.output(b.add("dense", [b.add("reshape", [x], {"shape": [6 * 6 * 48]})], {"kernel_shape": [6 * 6 * 48, 67]}))
    return freeze(b.net)


@pytest.mark.parametrize(
    ("name", "network", "target"),
    [("one_context", resnet(1), HAILO8L), ("contexts", resnet(4), SMALL), ("split", split_network(), TINY)],
)
def test_profile(name: str, network: Network, target: Target, request: pytest.FixtureRequest) -> None:
    native = pytest.importorskip("headrace.runtime._native")
    result = compile_network(network, target, CompileOptions(batch=4))
    timing = native.Device(None, threads=1).load(result.hef).timing()
    archive = Archive(network.name, hw_arch="hailo8l", quantized=network)
    archive.reports |= {"schedule": result.schedule.as_dict(), "compile": result.report.as_dict(), "timing": timing}
    report = profile(archive)
    check(f"profile_{name}.txt", render_text(report), request)
    # The rows of layers are many; their text is compared above, their data for the first and the last.
    shown = replace(report, layers=(report.layers[0], report.layers[-2]))
    check(f"profile_{name}.json", as_json(shown.as_dict()), request)


def test_infeasible(request: pytest.FixtureRequest) -> None:
    b = GraphBuilder(0, "wide")
    x = convolution(b, b.input((8, 4096, 8)), 8, 3)
    b.output(b.add("maxpool", [x], {"kernel_shape": [5, 5], "padding": [2] * 4}))
    with pytest.raises(CapacityError) as caught:
        compile_network(freeze(b.net), TINY)
    check("infeasible.txt", str(caught.value) + "\n", request)
    check("infeasible.json", as_json(caught.value.as_dict()), request)
