# SPDX-License-Identifier: Apache-2.0
"""Archives whose members were changed at random: every value by every wrong type, arrays of wrong rank, type, name and
contents. Whatever opens them ends in a coded error or a result, never in an internal one."""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import HeadraceError, InternalError
from headrace.hn import archive, arrays
from small_onnx import write_small

pytest.importorskip("headrace.runtime._native")

VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 3, 8, 256, 1 << 31, -(1 << 31), 1 << 62, 10**30, 0.5, -1e30, 1e308, 1e-320, "", "x"),
    *("conv", "relu", "8", "\0", "é" * 300, [], [1], [-1, 4, 4, 3], [[1]], ["a"], [1, 2, 3, 4], [0, 0], {}, {"a": 1}),
    {"scale": 1.0, "zero_point": 0, "bits": 8},
)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    from headrace.cli.app import run

    folder = tmp_path_factory.mktemp("archives")
    write_small(folder)
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert run(["build", "small.onnx", "--calib-set", "calibration.npy", "-o", "small.hef"]) == 0
    finally:
        os.chdir(here)
    return archive.open_members(folder / "small_compiled.har")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def changed_json(rng: random.Random, data: bytes) -> bytes:
    value = json.loads(data)
    *path, last = rng.choice(list(places(value)))
    holder = value
    for key in path:
        holder = holder[key]
    what = rng.random()
    if what < 0.75:
        old = holder[last]
        holder[last] = old + rng.choice((-1, 1, 100)) if type(old) is int and rng.random() < 0.3 else rng.choice(VALUES)
    elif what < 0.9 or isinstance(holder, list):
        del holder[last]
    else:
        holder[f"{last}x"] = holder.pop(last)
    return json.dumps(value).encode()


def changed_arrays(rng: random.Random, data: bytes) -> bytes:
    found = arrays.load_arrays(data, "x")
    key = rng.choice(sorted(found))
    value = found[key].copy()
    limits = np.finfo(value.dtype) if value.dtype.kind == "f" else np.iinfo(value.dtype)
    extremes = [limits.min, limits.max, 0, *([np.nan, np.inf] if value.dtype.kind == "f" else [])]
    what = rng.randrange(8)
    if what == 0:
        del found[key]
    elif what == 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[key] = value.astype(rng.choice(sorted(arrays.DTYPES)))
    elif what == 2:
        found[key] = rng.choice((value[None], value.reshape(-1), value[..., :-1], value[:0]))
    elif what == 3:
        layer = key.rpartition("/")[0]
        name = rng.choice((f"{key}x", f"y/{key}", f"{layer}/table", f"{layer}/gain", f"{layer}/channel_tables"))
        found[name] = found.pop(key)
    elif what < 6:
        value.flat[rng.randrange(value.size)] = rng.choice(extremes)
        found[key] = value
    else:
        value[...] = rng.choice(extremes)
        found[key] = value
    return arrays.dump_arrays(found)


def use(path: Path, name: str) -> None:
    """What the commands do with an archive; the steps that read the changed member."""
    from headrace.profiler import profile, render_text
    from headrace.runner import ClientRunner, InferenceContext

    runner = ClientRunner(har=path)
    archive.info(archive.open_members(path), runner.archive)
    runner.dump_har()
    render_text(profile(runner.archive))
    frames = {layer.name: np.zeros((2, *layer.output_shape[1:]), np.float32) for layer in inputs_of(runner)}
    steps = []
    if ".native." in name:
        steps = [lambda: runner.infer(InferenceContext.SDK_NATIVE, frames)]
    if ".quantized." in name:
        contexts = (InferenceContext.SDK_QUANTIZED, InferenceContext.SDK_HAILO_HW)
        steps = [*(lambda c=c: runner.infer(c, frames) for c in contexts), runner.compile]
    for step in steps:
        try:
            step()
        except HeadraceError as error:
            assert not isinstance(error, InternalError), error


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    return [deep(levels - 1)] if levels else []


def inputs_of(runner: Any) -> list[Any]:
    layers = (runner.archive.quantized or runner.archive.native).input_layers
    return [layer for layer in layers if np.prod(layer.output_shape[1:], dtype=float) < 1e6]


@pytest.mark.parametrize("seed", range(4))
def test_no_change_of_a_member_ends_in_an_internal_error(seed: int, members: dict[str, bytes], tmp_path: Path) -> None:
    rng = random.Random(seed)
    refused = 0
    for _ in range(60):
        name = rng.choice([n for n in members if n.endswith((".hn", ".json", ".npz"))])
        if rng.random() < 0.5:
            name = rng.choice([n for n in members if ".quantized." in n or ".native." in n])
        change = changed_arrays if name.endswith(".npz") else changed_json
        path = tmp_path / "x.har"
        path.write_bytes(archive.pack(members | {name: change(rng, members[name])}))
        try:
            use(path, name)
        except HeadraceError as error:
            assert not isinstance(error, InternalError), (name, error)
            refused += 1
    assert 15 < refused < 55


def test_the_commands_say_what_is_wrong(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from headrace.cli.app import run

    monkeypatch.chdir(tmp_path)
    hn = json.loads(members["small.quantized.hn"])
    hn["layers"]["small/conv1"]["quantization"]["requantize"]["low"] = [0]
    Path("bad.har").write_bytes(archive.pack(members | {"small.quantized.hn": json.dumps(hn).encode()}))
    Path("hef.har").write_bytes(members["small.hef"])
    Path("har.hef").write_bytes(archive.pack(members))
    for name, member, change in (
        ("types.har", "schedule", lambda report: report["layers"][0].update(cycles="9")),
        ("nested.har", "optimize", lambda report: report["calibration"].update(frames=deep(50))),
        ("huge.har", "timing", lambda report: report.update(stages=[1] * 200_000)),
    ):
        report = json.loads(members[f"small.{member}.json"])
        change(report)
        Path(name).write_bytes(archive.pack(members | {f"small.{member}.json": json.dumps(report).encode()}))
    for command, needle in (
        ("profile types.har", "report 'schedule', layers[0].cycles"),
        ("profile nested.har", "report 'optimize', calibration.frames"),
        ("profile huge.har", "report 'timing', stages[0]"),
        ("har info bad.har", "E-HN-QUANTIZATION"),
        ("profile bad.har", "E-HN-QUANTIZATION"),
        ("optimize bad.har --use-random-calib-set", "E-HN-QUANTIZATION"),
        ("compile bad.har", "E-HN-QUANTIZATION"),
        ("har info hef.har", "headrace hef info hef.har"),
        ("har extract hef.har", "headrace hef info hef.har"),
        ("profile hef.har", "a HEF"),
        ("compile hef.har", "a HEF"),
        ("hef info har.hef", "headrace har info har.hef"),
        ("hef disassemble har.hef", "headrace har info har.hef"),
        ("run har.hef", "headrace har info har.hef"),
        ("benchmark har.hef", "headrace har info har.hef"),
    ):
        assert run(command.split()) in (3, 9), command
        error = capsys.readouterr().err
        assert needle in error and "E-INTERNAL" not in error, (command, error)
    assert sorted(os.listdir()) == ["bad.har", "har.hef", "hef.har", "huge.har", "nested.har", "types.har"]
    # A report is for people: what compiles does not depend on it, and says so.
    assert run(["compile", "nested.har", "--hef-path", "x.hef"]) == 0
    output = capsys.readouterr()
    assert "report 'optimize', calibration.frames" in output.err and "SNR" not in output.out
