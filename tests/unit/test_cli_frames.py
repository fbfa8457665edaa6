# SPDX-License-Identifier: Apache-2.0
"""Frames from files for `headrace run`: matching to inputs, types, hostile files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli.frames import OutputFiles, generate_frames, read_frames
from headrace.errors import DataError, HeadraceError, InputFileError, UsageError

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class FakeStream:
    name: str = "net/input_layer1"
    shape: tuple[int, ...] = (2, 3, 4)
    dtype: np.dtype[Any] = FLOAT


ONE = [FakeStream()]
CODES = [FakeStream(dtype=np.dtype(np.uint8))]
TWO = [FakeStream("net/input_layer1"), FakeStream("net/input_layer2", (5,), np.dtype(np.uint16))]


def saved(folder: Path, name: str, array: Any) -> str:
    path = folder / name
    np.save(path, array)
    return str(path)


def test_one_frame_and_batches(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).random((3, 2, 3, 4))
    read = read_frames([saved(tmp_path, "b.npy", batch)], ONE).arrays["net/input_layer1"]
    assert read.dtype == np.float32
    assert np.array_equal(read, batch.astype(np.float32))
    assert read_frames([saved(tmp_path, "f.npy", batch[0])], ONE).arrays["net/input_layer1"].shape == (1, 2, 3, 4)


def test_names_full_short_and_npz(tmp_path: Path) -> None:
    a = saved(tmp_path, "a=1.npy", np.zeros((2, 2, 3, 4)))
    b = saved(tmp_path, "b.npy", np.full((2, 5), 65535))
    frames = read_frames([f"net/input_layer1={a}", f"input_layer2={b}"], TWO).arrays
    assert list(frames) == ["net/input_layer1", "net/input_layer2"]
    assert frames["net/input_layer2"].dtype == np.uint16
    # A file whose own name holds '=' is still a file.
    assert read_frames([a], ONE).arrays["net/input_layer1"].shape == (2, 2, 3, 4)
    both = tmp_path / "both.npz"
    np.savez(both, input_layer1=np.zeros((1, 2, 3, 4)), input_layer2=np.zeros((1, 5)))
    assert read_frames([str(both)], TWO).arrays["net/input_layer2"].tolist() == [[0] * 5]


def test_raw_frames(tmp_path: Path) -> None:
    raw = np.arange(48, dtype=np.uint8)
    (tmp_path / "x.bin").write_bytes(raw.tobytes())
    assert np.array_equal(
        read_frames([str(tmp_path / "x.bin")], CODES).arrays["net/input_layer1"], raw.reshape(2, 2, 3, 4)
    )
    (tmp_path / "y.bin").write_bytes(b"123")
    with pytest.raises(DataError, match="cut short"):
        read_frames([str(tmp_path / "y.bin")], CODES)


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (["{b}"], "each file needs the name of its own"),
        (["net/inptu={b}", "net/input_layer2={b}"], "did you mean"),
        (["net/input_layer2={b}"], "no data for this network input"),
        (["net/input_layer2={b}", "input_layer2={b}"], "given twice"),
    ],
)
def test_files_and_inputs_that_do_not_match(tmp_path: Path, sources: list[str], text: str) -> None:
    b = saved(tmp_path, "b.npy", np.zeros((1, 5)))
    with pytest.raises(UsageError, match=text):
        read_frames([s.replace("{b}", b) for s in sources], TWO)


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((1, 5, 2, 3)), "E-DATA-SHAPE"),
        (np.zeros((0, 2, 3, 4)), "E-DATA-EMPTY"),
        (np.zeros(()), "E-DATA-SHAPE"),
        (np.zeros((1, 2, 3, 4), complex), "E-DATA-DTYPE"),
        (np.full((1, 2, 3, 4), "x"), "E-DATA-DTYPE"),
        (np.full((1, 2, 3, 4), np.nan), "E-DATA-NOT-FINITE"),
        (np.full((1, 2, 3, 4), np.inf), "E-DATA-NOT-FINITE"),
        (np.full((1, 2, 3, 4), 0.5), "E-DATA-CODES"),
        (np.full((1, 2, 3, 4), 256), "E-DATA-CODES"),
        (np.full((1, 2, 3, 4), -1), "E-DATA-CODES"),
    ],
)
def test_unusable_arrays(tmp_path: Path, array: Any, code: str) -> None:
    with pytest.raises(DataError) as caught:
        read_frames([saved(tmp_path, "a.npy", array)], CODES)
    assert caught.value.code == code


def test_different_counts_and_all_problems_at_once(tmp_path: Path) -> None:
    a, b = saved(tmp_path, "a.npy", np.zeros((2, 2, 3, 4))), saved(tmp_path, "b.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match="different numbers of frames"):
        read_frames([f"input_layer1={a}", f"input_layer2={b}"], TWO)
    with pytest.raises(DataError) as caught:
        read_frames([f"input_layer1={b}", f"input_layer2={a}"], TWO)
    assert len(caught.value.diagnostics) == 2


def test_hostile_files(tmp_path: Path) -> None:
    good = Path(saved(tmp_path, "g.npy", np.zeros((1, 2, 3, 4)))).read_bytes()
    pickled = tmp_path / "p.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    bad = tmp_path / "bad.npy"
    huge = good.replace(b"(1, 2, 3, 4)", b"(99999999999999,)")
    for data in (*(good[:n] for n in range(0, len(good), 7)), b"", pickled.read_bytes(), huge, b"PK\x03\x04" + good):
        bad.write_bytes(data)
        with pytest.raises(HeadraceError):
            read_frames([str(bad)], ONE)
    (tmp_path / "x.wav").write_bytes(b"x")
    for name in ("none.npy", ".", "x.wav"):
        with pytest.raises((InputFileError, DataError)):
            read_frames([str(tmp_path / name)], ONE)


def test_generated_frames_are_the_same_each_time_and_use_all_codes() -> None:
    first, second = generate_frames(TWO, 40), generate_frames(TWO, 40)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    codes = generate_frames(CODES, 100)["net/input_layer1"]
    assert (codes.dtype, codes.min(), codes.max()) == (np.uint8, 0, 255)
    assert first["net/input_layer2"].max() > 255


def test_outputs_are_saved_under_safe_names(tmp_path: Path) -> None:
    files = OutputFiles(tmp_path / "o", {"net/fc1": (), "../../x": (), "net_fc1": ()}, [])
    paths = files.write({"net/fc1": np.arange(3), "../../x": np.arange(2), "net_fc1": np.arange(4)})
    assert [p.name for p in paths] == ["net_fc1.npy", "_.._x.npy", "net_fc1_2.npy"]
    assert all(p.parent == tmp_path / "o" for p in paths)
    assert np.load(paths[0]).tolist() == [0, 1, 2]
