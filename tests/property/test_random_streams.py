# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of every kind reach the caller with the emulator's names, shapes and bytes, by every way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import runtime
from headrace.cli.app import run
from headrace.compiler.graph import output_tensors
from headrace.hn import check_network
from headrace.hn.archive import Archive, State
from headrace.optimize import OptimizeOptions, optimize
from headrace.runner import ClientRunner, InferenceContext
from random_graphs import random_frames, random_streams

pytest.importorskip("headrace.runtime._native")


def compiled(seed: int) -> ClientRunner:
    network = random_streams(seed)
    check_network(network)
    quantized = optimize(network, random_frames(network, 4, seed), OptimizeOptions(min_snr=0)).network
    runner = ClientRunner(hw_arch="hailo8")
    runner._archive = Archive(network.name, "hailo8", State.QUANTIZED_MODEL, native=network, quantized=quantized)
    runner.compile()
    return runner


def compare(seed: int) -> ClientRunner:
    """The runner's emulator and device, and the run time."""
    runner = compiled(seed)
    network = runner.archive.quantized
    assert network is not None and runner.hef is not None
    frames = random_frames(network, 3, seed + 1)
    for codes in (False, True):
        options = {"quantized_io": True} if codes else {}
        want = runner.infer_layers(InferenceContext.SDK_QUANTIZED, frames, **options)
        got = runner.infer_layers(InferenceContext.SDK_HAILO_HW, frames, **options)
        kind = runtime.FormatType.AUTO if codes else runtime.FormatType.FLOAT32
        direct = runtime.run(runner.hef, frames, output_type=kind)
        carried = {layer.name: tensor for layer, tensor in output_tensors(network)}
        assert list(got) == list(want) == [layer.name for layer in network.output_layers] == list(carried)
        assert list(direct) == list(carried.values())
        for name, value in want.items():
            for found in (got[name], direct[carried[name]]):
                assert found.dtype == value.dtype and found.shape == value.shape, f"{name}, seed {seed}"
                np.testing.assert_array_equal(found, value, err_msg=f"{name}, seed {seed}")
    return runner


@pytest.mark.filterwarnings("ignore::headrace.errors.DataWarning")  # frames of chance need not be like others
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31))
def test_streams(seed: int) -> None:
    compare(seed)


def test_the_cases_occur() -> None:
    """What the generator is for: each kind of output and input in the first seeds."""
    kinds = set()
    for seed in range(40):
        network = random_streams(seed)
        inputs = {layer.name for layer in network.input_layers}
        sources = [layer.inputs[0] for layer in network.output_layers]
        kinds |= {"an input" for s in sources if s in inputs}
        kinds |= {"twice" for s in sources if sources.count(s) > 1}
        kinds |= {"read" for s in sources if len(network.users(s)) > sources.count(s)}
        kinds |= {"unread" for name in inputs if not network.users(name)}
        kinds |= {network[s].kind for s in sources if inputs.intersection(network[s].inputs)}
    assert kinds >= {"an input", "twice", "read", "unread", "reshape", "transpose", "slice", "concat", "external_pad"}


@pytest.mark.parametrize("seed", range(4))
def test_the_run_command(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner = compare(seed)
    network = runner.archive.quantized
    assert network is not None and runner.hef is not None
    frames = random_frames(network, 3, seed)
    (tmp_path / "n.hef").write_bytes(runner.hef)
    files: list[str] = []
    for name, value in frames.items():
        path = tmp_path / f"{name.split('/')[-1]}.npy"
        np.save(path, value)
        files.append(f"{name}={path}")
    arguments = [
        "run",
        str(tmp_path / "n.hef"),
        "--input-files",
        *files,
        "--output-dir",
        str(tmp_path / "out"),
        "--json",
    ]
    capsys.readouterr()
    assert run(arguments) == 0
    written = json.loads(capsys.readouterr().out)
    want = runner.infer_layers(InferenceContext.SDK_QUANTIZED, frames)
    assert [o["name"] for o in written["outputs"]] == [tensor for _, tensor in output_tensors(network)]
    for (name, value), file in zip(want.items(), written["files"], strict=True):
        np.testing.assert_array_equal(np.load(file), value, err_msg=name)
