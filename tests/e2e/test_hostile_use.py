# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in real life, through the command line: bad files, bad data, full disk, Ctrl-C.

Every case ends in a coded error on stderr, a documented exit code, and no partial file.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import command_line
from small_onnx import small_model

pytest.importorskip("headrace.runtime._native")


def headrace(*args: object, cwd: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def shrink() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return command_line.headrace(*args, cwd=cwd, preexec_fn=shrink)


def expect_error(done: subprocess.CompletedProcess[str], codes: tuple[int, ...], needle: str = "") -> None:
    assert done.returncode in codes, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    assert "E-" in done.stderr, done.stderr
    assert needle in done.stderr, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small model, its data and the archives of every state."""
    return command_line.write_archives(tmp_path_factory.mktemp("small"))


STAGES: dict[str, tuple[list[str], list[str]]] = {
    "parse": (["parse", "{made}/small.onnx", "--har-path", "out.har"], ["out.har"]),
    "optimize": (
        ["optimize", "{made}/small.har", "--calib-set-path", "{made}/calibration.npy", "--output-har-path", "out.har"],
        ["out.har"],
    ),
    "compile": (["compile", "{made}/q.har", "--output-har-path", "out.har", "-o", "out.hef"], ["out.har", "out.hef"]),
    "run": (
        ["run", "{made}/small.hef", "--input-files", "{made}/calibration.npy", "--output-dir", "out"],
        ["out"],
    ),
}


def arguments(stage: str, made: Path) -> list[str]:
    return [a.format(made=made) for a in STAGES[stage][0]]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_missing_files(stage: str, made: Path, tmp_path: Path) -> None:
    args = [a.replace(str(made) + "/", "absent-") for a in arguments(stage, made)]
    expect_error(headrace(*args, cwd=tmp_path), (2, 3, 6))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_full_disk(stage: str, made: Path, tmp_path: Path) -> None:
    done = headrace(*arguments(stage, made), cwd=tmp_path, limit=512 if stage == "run" else 2048)
    expect_error(done, (3,), "cannot be written")
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size]
    assert left == [], left


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_folder_that_is_not_there(stage: str, made: Path, tmp_path: Path) -> None:
    if stage == "run":
        (tmp_path / "out").write_text("a file, not a folder")
        expect_error(headrace(*arguments(stage, made), cwd=tmp_path), (2, 3))
        return
    args = [a.replace("out.", "nowhere/out.") for a in arguments(stage, made)]
    expect_error(headrace(*args, cwd=tmp_path), (2, 3))


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_interrupt(stage: str, made: Path, tmp_path: Path) -> None:
    assert headrace(*arguments(stage, made), cwd=tmp_path).returncode == 0  # the first run fills caches
    start = time.monotonic()
    assert headrace(*arguments(stage, made), cwd=tmp_path).returncode == 0
    whole = time.monotonic() - start
    seen: list[int] = []
    # A loaded machine makes the moments drift, so more are tried until one has fallen into the stage's own work.
    for attempt, part in enumerate((0.8, 0.6, 0.4, 0.25, 0.5, 0.7, 0.9, 0.3, 0.55, 0.65, 0.75, 0.45)):
        if attempt >= 4 and 130 in seen:
            break
        for name in STAGES[stage][1]:
            if (tmp_path / name).is_file():
                (tmp_path / name).unlink()
        command = [sys.executable, "-m", "headrace", *arguments(stage, made)]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in the background lets its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(whole * part)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        seen.append(process.returncode)
        if "runpy" in errors and "headrace/cli" not in errors:
            continue  # the signal came while Python itself was starting: no line of ours had run
        if "error_already_set" in errors and "KeyboardInterrupt" in errors:
            continue  # torch's C++ code, interrupted while it was being imported, ends the process by itself
        # Before Python has installed its handler the process dies by the signal itself.
        assert process.returncode in (130, 0, -signal.SIGINT), errors
        assert "Traceback" not in errors, errors
        parts = [p.name for p in tmp_path.rglob("*") if p.name.endswith(".part") or p.name.startswith(".")]
        assert parts == []
    assert 130 in seen, seen


def broken_bytes(data: bytes, seed: int, count: int) -> list[bytes]:
    rng = random.Random(seed)
    cases = [data[: rng.randrange(len(data))] for _ in range(count // 2)] + [b""]
    for _ in range(count // 2):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        cases.append(bytes(copy))
    return cases


@pytest.mark.parametrize("name", ["small.onnx", "q.har", "small.hef"])
def test_truncated_and_flipped_files(name: str, made: Path, tmp_path: Path) -> None:
    """In one process, through the same functions as the commands: coded errors or a valid result, nothing else."""
    from headrace.errors import HeadraceError
    from headrace.hef.container import read_hef
    from headrace.hn import archive
    from headrace.runner import ClientRunner
    from headrace.runtime import _native

    def parse(data: bytes) -> None:
        ClientRunner().translate_onnx_model(data, "small")

    def device(data: bytes) -> None:
        read_hef(data)
        _native.verify(data)

    reader: dict[str, Callable[[bytes], object]] = {
        "small.onnx": parse,
        "q.har": lambda data: archive.loads(data, "x.har"),
        "small.hef": device,
    }
    refused = 0
    for case in broken_bytes((made / name).read_bytes(), 5, 200):
        try:
            reader[name](case)
        except HeadraceError as error:
            refused += 1
            assert error.code.startswith("E-")
        except _native.NativeError:
            refused += 1
    assert refused > 100


def test_nan_weights_are_named(tmp_path: Path) -> None:
    import onnx

    model = small_model()
    weight = next(t for t in model.graph.initializer if t.name == "w2")
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[7] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "w2"))
    onnx.save(model, tmp_path / "nan.onnx")
    expect_error(headrace("parse", "nan.onnx", cwd=tmp_path), (3, 4), "w2")
    assert sorted(os.listdir(tmp_path)) == ["nan.onnx"]


CALIBRATION: dict[str, np.ndarray] = {
    "nan": np.full((4, 16, 16, 3), np.nan, np.float32),
    "inf": np.full((4, 16, 16, 3), np.inf, np.float32),
    "empty": np.zeros((0, 16, 16, 3), np.float32),
    "shape": np.zeros((4, 15, 16, 3), np.float32),
    "rank": np.zeros((4, 768), np.float32),
    "text": np.array(["a", "b"]),
    "objects": np.array([{}, None], dtype=object),
}


@pytest.mark.parametrize("name", sorted(CALIBRATION))
def test_bad_calibration_data(name: str, made: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", CALIBRATION[name], allow_pickle=True)
    done = headrace(
        "optimize", made / "small.har", "--calib-set-path", "data.npy", "--output-har-path", "o.har", cwd=tmp_path
    )
    expect_error(done, (3, 6))
    assert sorted(os.listdir(tmp_path)) == ["data.npy"]


def test_accuracy_gate_is_loud_and_keeps_the_result(made: Path, tmp_path: Path) -> None:
    args = [
        "optimize",
        made / "small.har",
        "--calib-set-path",
        made / "calibration.npy",
        "--output-har-path",
        "o.har",
        "--min-snr",
        "90",
    ]
    expect_error(headrace(*args, cwd=tmp_path), (7,), "90")
    assert (tmp_path / "o.har").exists()


def test_typing_mistakes_get_suggestions(made: Path, tmp_path: Path) -> None:
    for args, needle in (
        (["compil", "x"], "compile"),
        (["compile", made / "q.har", "--hw-arch", "hailo88"], "hailo8"),
        (["parse", made / "small.onnx", "--end-node-names", "conv22"], "conv2"),
        (["optimize", made / "small.har", "--calib-set-pth", "x"], "--calib-set-path"),
    ):
        done = headrace(*args, cwd=tmp_path)
        assert done.returncode != 0
        assert needle in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []
