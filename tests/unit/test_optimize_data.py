# SPDX-License-Identifier: Apache-2.0
"""Calibration data: sources, layouts, and everything that can be wrong with them."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from headrace.data.calibration import load_calibration
from headrace.errors import DataError, HeadraceError, InputFileError
from headrace.hn import Network
from headrace.optimize import OptimizeOptions, optimize
from layer_maker import set_attributes
from random_graphs import GraphBuilder

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 8, 3)).astype(np.uint8)


def network(*shapes: tuple[int, ...], source: str = "data") -> Network:
    b = GraphBuilder(1)
    for i, shape in enumerate(shapes or ((6, 8, 3),)):
        x = b.input(shape)
        set_attributes(b.net, x, source_name=source if i == 0 else f"{source}{i}")
        b.output(b.add("activation", [x], {"activation": "relu"}))
    return b.net


@pytest.fixture
def net() -> Network:
    return network()


def only(data: dict[str, Any]) -> Any:
    assert list(data) == ["net/input_layer1"]
    return data["net/input_layer1"]


@pytest.mark.parametrize("key", ["net/input_layer1", "input_layer1", "data", "arr_0"])
def test_arrays_and_mappings(net: Network, key: str) -> None:
    np.testing.assert_array_equal(only(load_calibration({key: IMAGES}, net)), IMAGES)
    np.testing.assert_array_equal(only(load_calibration(IMAGES, net)), IMAGES)


def test_files(net: Network, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    np.savez(tmp_path / "x.npz", IMAGES)
    np.savez_compressed(tmp_path / "named.npz", data=IMAGES)
    for name in ("x.npy", "x.npz", "named.npz"):
        for path in (tmp_path / name, str(tmp_path / name)):
            np.testing.assert_array_equal(only(load_calibration(path, net)), IMAGES)


def test_a_large_file_stays_mapped(net: Network, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    value = only(load_calibration(tmp_path / "x.npy", net))
    owner: Any = value
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    assert owner is not None


def test_layouts(net: Network, caplog: pytest.LogCaptureFixture) -> None:
    np.testing.assert_array_equal(only(load_calibration(IMAGES.transpose(0, 3, 1, 2), net)), IMAGES)
    square = network((4, 4, 4))
    data = RNG.normal(0, 1, (3, 4, 4, 4)).astype(np.float32)
    with caplog.at_level(logging.WARNING, "headrace.data"):
        np.testing.assert_array_equal(only(load_calibration(data, square)), data)
    assert "taken as NHWC" in caplog.text
    flat = network((24,))
    set_attributes(flat, "net/input_layer1", source_shape=[-1, 1, 24], source_permutation=[0, 1])
    vectors = RNG.normal(0, 1, (3, 1, 24)).astype(np.float32)
    np.testing.assert_array_equal(only(load_calibration(vectors, flat)), vectors[:, 0])
    odd = network((6, 8, 1))
    set_attributes(odd, "net/input_layer1", source_shape=[-1, 1, 1, 6, 8], source_permutation=[0, 3, 1, 2])
    source = RNG.normal(0, 1, (3, 1, 1, 6, 8)).astype(np.float32)
    np.testing.assert_array_equal(only(load_calibration(source, odd))[..., 0], source[:, 0, 0])


def test_iterables(net: Network) -> None:
    for source in (iter(list(IMAGES)), [IMAGES[:2], IMAGES[2:]], ({"data": frame} for frame in IMAGES)):
        np.testing.assert_array_equal(only(load_calibration(source, net)), IMAGES)
    two = network((2, 2, 1), (3,))
    frames = [{"data": np.zeros((2, 2, 1), np.float32), "data1": np.ones(3, np.float32)} for _ in range(4)]
    assert [v.shape for v in load_calibration(frames, two).values()] == [(4, 2, 2, 1), (4, 3)]


def test_a_folder_of_images(net: Network, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "b").mkdir()
    for i, frame in enumerate(IMAGES):
        image.fromarray(frame).save(tmp_path / ("b" if i > 2 else ".") / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    np.testing.assert_array_equal(only(load_calibration(tmp_path, net)), IMAGES)
    image.fromarray(IMAGES[0, :4]).save(tmp_path / "9.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError) as caught:
        load_calibration(tmp_path, net)
    assert sorted(d.where for d in caught.value.diagnostics) == ["9.png", "broken.png"]
    with pytest.raises(DataError, match="number of pictures"):
        load_calibration(_empty(tmp_path), net)


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


NAN = np.where(np.arange(5)[:, None, None, None] == 3, np.nan, np.zeros((5, 6, 8, 3))).astype(np.float32)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (IMAGES[0], "add a first axis"),
        (IMAGES[:, :5], "resize the images"),
        (IMAGES[:0], "no frame"),
        (NAN, "frame 3"),
        (np.where(np.isnan(NAN), np.inf, 0), "frame 3"),
        (IMAGES.astype(object), "dtype"),
        (IMAGES.astype(str), "dtype"),
        (IMAGES.astype(np.complex64), "dtype"),
        (np.float32(3), "shape"),
        ([], "no frame"),
        ([IMAGES[0], IMAGES[0][:2]], "frame 1, net/input_layer1"),
        ([{"dta": IMAGES[0]}], "did you mean 'data'|one of"),
        ({"data": IMAGES, "input_layer1x": IMAGES[:2, :2]}, "did you mean 'input_layer1'"),
        ({"data": IMAGES, "input_layer1": IMAGES}, "for one input"),
        ({"x": IMAGES}, "name it so"),
        ({"arr_0": IMAGES, "arr_1": IMAGES}, "no network input of this name"),
        ({}, "no data"),
        ({"a": IMAGES, "b": IMAGES}, "did you mean|one of"),
        ([[1, 2], [3]], "."),
    ],
)
def test_unusable_data_are_explained(net: Network, source: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        load_calibration(source, net)


def test_several_inputs_need_names_and_equal_counts() -> None:
    two = network((2, 2, 1), (3,))
    a, b = np.zeros((4, 2, 2, 1), np.float32), np.zeros((3, 3), np.float32)
    with pytest.raises(DataError, match="need names"):
        load_calibration(a, two)
    with pytest.raises(DataError, match="different numbers"):
        load_calibration({"data": a, "data1": b}, two)
    with pytest.raises(DataError) as caught:
        load_calibration({"data": a[:, :1], "dat1": b}, two)
    assert len(caught.value.diagnostics) == 3


def hostile_files(folder: Path) -> list[Path]:
    np.save(folder / "good.npy", IMAGES)
    raw = (folder / "good.npy").read_bytes()
    np.save(folder / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "short.npy").write_bytes(raw[:-7])
    (folder / "header.npy").write_bytes(raw[:40])
    (folder / "huge.npy").write_bytes(raw.replace(b"(5, 6, 8, 3)", b"(9**9,99,9)x"))
    (folder / "shape.npy").write_bytes(raw.replace(b"(5, 6, 8, 3)", b"(5,6,8,33333)"[:12]))
    (folder / "empty.npy").write_bytes(b"")
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("PK\x03\x04 no")
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
        archive.writestr("x.npy", header.getvalue() + bytes(1 << 20))
    with zipfile.ZipFile(folder / "pickle.npz", "w") as archive:
        archive.write(folder / "pickle.npy", "x.npy")
    with zipfile.ZipFile(folder / "none.npz", "w") as archive:
        archive.writestr("readme.txt", "x")
    (folder / "data.csv").write_text("1,2")
    (folder / "good.npy").unlink()
    return sorted(folder.iterdir())


def test_hostile_files_give_coded_errors(net: Network, tmp_path: Path) -> None:
    for path in [*hostile_files(tmp_path), tmp_path / "missing.npy", Path("/dev/null")]:
        with pytest.raises((DataError, InputFileError)) as caught:
            load_calibration(path, net)
        assert caught.value.diagnostics[0].code.startswith("E-"), path


def test_truncated_and_flipped_archives_never_give_a_traceback(net: Network, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", data=IMAGES)
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    path = tmp_path / "y.npz"
    for case in range(120):
        data = bytearray(raw)
        if case % 2:
            del data[int(RNG.integers(0, len(data))) :]
        else:
            data[int(RNG.integers(0, len(data)))] ^= 1 << int(RNG.integers(0, 8))
        path.write_bytes(data)
        try:
            load_calibration(path, net)
        except HeadraceError:
            pass


def test_remarks_on_values() -> None:
    net = network((6, 8, 3))
    options = OptimizeOptions(min_snr=0)
    report = optimize(net, {"data": np.concatenate([IMAGES] * 4)}, options).report
    assert any("look like raw images" in w for w in report.warnings)
    report = optimize(net, {"data": np.full((2, 6, 8, 3), 0.25, np.float32)}, options).report
    assert any("say nothing" in w for w in report.warnings)
    assert any("only 2 frames" in w for w in report.warnings)
