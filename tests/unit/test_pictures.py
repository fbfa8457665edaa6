# SPDX-License-Identifier: Apache-2.0
"""Pictures of every kind into frames: what becomes of each is decided, exact, and said once. Oracle: numpy."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.data.calibration import load_inputs
from headrace.data.files import load_path
from headrace.data.inputs import InputSpec
from headrace.data.notes import Notes
from headrace.data.pictures import MAX_PIXELS, PADDING, frame_of, read_pictures
from headrace.errors import DataError, HeadraceError, InputFileError, UsageError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (8, 6, 3)).astype(np.uint8)
GREY = RGB[..., 0]
DEEP = RNG.integers(0, 65536, (8, 6)).astype(np.uint16)
ALPHA = RGB[..., 1]
PALETTE = Image.fromarray(RGB).quantize(16)
FIRST_OF_TWO: dict[str, Any] = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]}


def spec(channels: int = 3, height: int = 8, width: int = 6) -> InputSpec:
    return InputSpec("net/input_layer1", (height, width, channels))


def luminance(rgb: Any) -> Any:
    """ITU-R 601 in Pillow's 16-bit fixed point."""
    return (rgb.astype(np.int64) @ [19595, 38470, 7471] + 0x8000) >> 16


def grey3(values: Any) -> Any:
    return np.repeat(values[..., None], 3, axis=2)


def oriented(orientation: int) -> Any:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def deep_colour_png() -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + grey3(DEEP)[i].astype(">u2").tobytes() for i in range(8))
    header = struct.pack(">IIBBBBB", 6, 8, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"gAMA", struct.pack(">I", 100000))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


# name, picture, how it is saved, what a network of three channels sees, words of the remarks
KINDS: list[tuple[str, Any, dict[str, Any], Any, list[str]]] = [
    ("rgb.png", Image.fromarray(RGB), {}, RGB, []),
    ("rgb.bmp", Image.fromarray(RGB), {}, RGB, []),
    ("grey.png", Image.fromarray(GREY), {}, grey3(GREY), ["grey becomes RGB"]),
    ("bit.png", Image.fromarray(GREY > 127), {}, grey3(np.where(GREY > 127, 255, 0)), ["1 bit", "grey becomes RGB"]),
    ("la.png", Image.fromarray(np.dstack([GREY, ALPHA])), {}, grey3(GREY), ["transparency is dropped", "grey becomes"]),
    ("rgba.png", Image.fromarray(np.dstack([RGB, ALPHA])), {}, RGB, ["transparency is dropped"]),
    ("opaque.png", Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)])), {}, RGB, []),
    ("key.png", Image.fromarray(RGB), {"transparency": tuple(map(int, RGB[0, 0]))}, RGB, ["transparency is dropped"]),
    ("palette.png", PALETTE, {}, np.asarray(PALETTE.convert("RGB")), ["a palette"]),
    ("palette.gif", PALETTE, {}, np.asarray(PALETTE.convert("RGB")), ["a palette"]),
    ("clear.png", PALETTE, {"transparency": 3}, np.asarray(PALETTE.convert("RGB")), ["a palette", "transparency is"]),
    ("deep.png", Image.fromarray(DEEP), {}, grey3(DEEP >> 8), ["16 bits", "grey becomes"]),
    ("deep.tif", Image.fromarray(DEEP), {}, grey3(DEEP >> 8), ["16 bits", "grey becomes"]),
    ("deep.pgm", Image.fromarray(DEEP), {}, grey3(DEEP >> 8), ["16 bits", "grey becomes"]),
    ("cmyk.tif", Image.fromarray(255 - RGB).convert("CMYK"), {}, 255 - RGB, ["CMYK becomes RGB"]),
    ("two.png", Image.fromarray(RGB), FIRST_OF_TWO, RGB, ["only the first"]),
    ("two.tif", Image.fromarray(RGB), FIRST_OF_TWO, RGB, ["only the first"]),
    ("profile.png", Image.fromarray(RGB), {"icc_profile": b"Display P3" * 20}, RGB, ["a colour profile"]),
    ("srgb.png", Image.fromarray(RGB), {"icc_profile": b"sRGB IEC61966-2.1" * 9}, RGB, []),
    ("left.png", Image.fromarray(np.rot90(RGB, 1)), {"exif": oriented(6)}, RGB, ["EXIF"]),
    ("right.png", Image.fromarray(np.rot90(RGB, 3)), {"exif": oriented(8)}, RGB, ["EXIF"]),
    ("over.png", Image.fromarray(RGB[::-1, ::-1]), {"exif": oriented(3)}, RGB, ["EXIF"]),
    ("mirror.png", Image.fromarray(RGB[:, ::-1]), {"exif": oriented(2)}, RGB, ["EXIF"]),
    ("flip.png", Image.fromarray(RGB[::-1]), {"exif": oriented(4)}, RGB, ["EXIF"]),
    ("turned.png", Image.fromarray(RGB.transpose(1, 0, 2)), {"exif": oriented(5)}, RGB, ["EXIF"]),
    ("plain.png", Image.fromarray(RGB), {"exif": oriented(99)}, RGB, []),
]


@pytest.mark.parametrize(("name", "picture", "options", "want", "words"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_kind_of_picture(
    tmp_path: Path, name: str, picture: Any, options: dict[str, Any], want: Any, words: list[str]
) -> None:
    picture.save(tmp_path / name, **options)
    notes = Notes()
    np.testing.assert_array_equal(read_pictures([tmp_path / name], spec(), notes=notes), want[None])
    lines = notes.lines()
    assert len(lines) == len(words), lines
    assert all(word in line for word, line in zip(words, lines, strict=True)), lines
    # One channel: the same pixels by luminance, exactly; four: the same colours and an alpha.
    is_grey = any("grey" in word for word in words)
    one = read_pictures([tmp_path / name], spec(1))[0, ..., 0]
    np.testing.assert_array_equal(one, want[..., 0] if is_grey else luminance(want))
    np.testing.assert_array_equal(read_pictures([tmp_path / name], spec(4))[0, ..., :3], want)


def test_deep_colour_is_said_though_pillow_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(deep_colour_png())
    notes = Notes()
    got = read_pictures([tmp_path / "x.png"], spec(), notes=notes)
    np.testing.assert_array_equal(got[0], grey3(DEEP >> 8))
    assert [line.split(": ")[1].split(" (")[0] for line in notes.lines()] == [
        "16 bits a channel", "a gamma other than 1/2.2 is not applied",
    ]  # fmt: skip


def test_four_channels_take_the_alpha_of_the_file(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, ALPHA])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(RGB).save(tmp_path / "b.png")
    notes = Notes()
    got = read_pictures([tmp_path / "a.png", tmp_path / "b.png"], spec(4), notes=notes)
    np.testing.assert_array_equal(got[0], rgba)
    assert (got[1, ..., 3] == 255).all()
    assert notes.lines() == [f"1 picture: no transparency: the fourth channel is 255 ({tmp_path / 'b.png'})"]


def test_values_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(DEEP.astype(np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(DEEP.astype(np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(RGB).convert("LAB").save(tmp_path / "lab.tif")
    for name in ("i.tif", "f.tif", "lab.tif"):
        with pytest.raises(DataError) as caught:
            read_pictures([tmp_path / name], spec())
        assert caught.value.code == "E-DATA-FORMAT"


def test_one_line_per_kind_and_one_problem_per_kind(tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(GREY).save(tmp_path / f"{i:02}.png")
    notes = Notes()
    load_path(tmp_path, [spec()], notes=notes)
    assert notes.lines() == ["12 pictures: grey becomes RGB: its channel is repeated (first 00.png)"]
    for i in range(12):
        Image.fromarray(GREY[: 3 + i % 4]).save(tmp_path / f"{i:02}.png")
        (tmp_path / f"bad{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(i))
    with pytest.raises(DataError) as caught:
        load_path(tmp_path, [spec()])
    first, second = caught.value.diagnostics
    assert (first.code, first.where) == ("E-DATA-SHAPE", "12 files, first 00.png")
    assert first.got == "3×6, 4×6, 5×6 and 1 others"
    assert any("--resize" in lever for lever in first.levers)
    assert (second.code, second.where) == ("E-DATA-CORRUPT", "12 files, first bad0.png")


# ------------------------------------------------------------------------------------------------------ resizing


def gradient(height: int, width: int) -> Any:
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), np.full_like(x, 40)]).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (30, 30), (7, 9)])
def test_letterbox_keeps_all_and_fills_with_grey(tmp_path: Path, height: int, width: int) -> None:
    Image.fromarray(gradient(height, width)).save(tmp_path / "x.png")
    got = read_pictures([tmp_path / "x.png"], spec(3, 20, 20), resize="letterbox")[0]
    inner = (min(20, round(height * 20 / max(height, width))), min(20, round(width * 20 / max(height, width))))
    top, left = (20 - inner[0]) // 2, (20 - inner[1]) // 2
    outside = np.ones((20, 20), bool)
    outside[top : top + inner[0], left : left + inner[1]] = False
    assert (got[outside] == PADDING).all()
    want = gradient(*inner).astype(float)
    assert np.abs(got[top : top + inner[0], left : left + inner[1]].astype(float) - want).mean() < 12


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (20, 20)])
def test_letterbox_in_the_corner(tmp_path: Path, height: int, width: int) -> None:
    Image.fromarray(gradient(height, width)).save(tmp_path / "x.png")
    corner, middle = (
        read_pictures([tmp_path / "x.png"], spec(3, 20, 20), resize=how)[0] for how in ("letterbox-corner", "letterbox")
    )
    inner = (round(height * 20 / max(height, width)), round(width * 20 / max(height, width)))
    top, left = (20 - inner[0]) // 2, (20 - inner[1]) // 2
    np.testing.assert_array_equal(corner[: inner[0], : inner[1]], middle[top : top + inner[0], left : left + inner[1]])
    assert (corner[inner[0] :] == PADDING).all() and (corner[:, inner[1] :] == PADDING).all()


def test_channels_in_the_order_of_the_network(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    for channels, want in (("bgr", RGB[..., ::-1]), ("rgb", RGB), (None, RGB)):
        for source in (tmp_path, tmp_path / "x.png", [Image.fromarray(RGB)], [tmp_path / "x.png"]):
            got = load_inputs(source, [spec()], "net", channels=channels)["net/input_layer1"]
            np.testing.assert_array_equal(got[0], want)
    full = load_inputs(tmp_path, [spec(4)], "net", channels="bgr")["net/input_layer1"][0]
    np.testing.assert_array_equal(full, np.dstack([RGB[..., ::-1], np.full((8, 6), 255)]))
    bars = load_inputs(tmp_path, [spec(3, 16, 16)], "net", channels="bgr", resize="letterbox-corner")
    plain = load_inputs(tmp_path, [spec(3, 16, 16)], "net", resize="letterbox-corner")
    np.testing.assert_array_equal(bars["net/input_layer1"], plain["net/input_layer1"][..., ::-1])


def test_channels_without_effect_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", RGB[None])
    with pytest.raises(UsageError, match="did you mean 'rgb' or 'bgr'"):
        load_inputs(tmp_path / "x.png", [spec()], "net", channels="brg")
    with pytest.raises(DataError, match="grey input"):
        load_inputs(tmp_path / "x.png", [spec(1)], "net", channels="bgr")
    for source in (tmp_path / "x.npy", RGB[None], {"net/input_layer1": RGB[None]}, [RGB], [tmp_path / "x.npy"]):
        with pytest.raises(DataError, match="E-DATA-CHANNELS"):
            load_inputs(source, [spec()], "net", channels="bgr")


def test_crop_and_stretch_by_area_means(tmp_path: Path) -> None:
    """A reduction by a whole factor is near the mean of the blocks; crop takes the middle square."""
    image = np.repeat(np.repeat(RNG.integers(0, 256, (4, 8, 3)), 16, 0), 16, 1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    stretched = read_pictures([tmp_path / "x.png"], spec(3, 64, 64), resize="stretch")[0].astype(int)
    assert np.abs(stretched[8::16, 4::8] - image[8::16, 8::16].astype(int)).max() <= 1
    cropped = read_pictures([tmp_path / "x.png"], spec(3, 64, 64), resize="crop")[0]
    np.testing.assert_array_equal(cropped, image[:, 32:96])


def test_resizing_is_the_same_each_time_and_leaves_the_right_size_alone(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    for how in ("letterbox", "crop", "stretch"):
        np.testing.assert_array_equal(read_pictures([tmp_path / "x.png"], spec(), resize=how)[0], RGB)
        a, b = (read_pictures([tmp_path / "x.png"], spec(3, 13, 17), resize=how) for _ in range(2))
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UsageError, match="did you mean 'letterbox'"):
        read_pictures([tmp_path / "x.png"], spec(), resize="leterbox")
    np.save(tmp_path / "x.npy", RGB[None])
    with pytest.raises(DataError, match="only pictures are resized"):
        load_path(tmp_path / "x.npy", [spec()], resize="crop")


@pytest.mark.parametrize("how", ["letterbox", "letterbox-corner", "crop", "stretch"])
@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (1, 1)])
def test_extreme_shapes_stay_small(tmp_path: Path, how: str, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "x.png")
    got = read_pictures([tmp_path / "x.png"], spec(3, 32, 32), resize=how)[0]
    assert set(np.unique(got)) <= {9, PADDING}


# ------------------------------------------------------------------------------------------------------- hostile


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p.write_bytes(bomb(40_000, 40_000)),
        lambda p: p.write_bytes(bomb(12_000, 10_000)),
        lambda p: p.write_bytes(bomb(2**31 - 1, 2**31 - 1)),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        lambda p: p.write_bytes(b"<svg/>"),
        lambda p: os.mkfifo(p),
        lambda p: p.symlink_to(p),
    ],
    ids=["1.6e9 pixels", "1.2e8 pixels", "largest", "empty", "postscript", "svg", "fifo", "loop"],
)
def test_hostile_pictures(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    assert MAX_PIXELS < 12_000 * 10_000
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises((DataError, InputFileError)) as caught:
        load_path(path, [spec()], resize="stretch")
    assert caught.value.code in ("E-DATA-TOO-LARGE", "E-DATA-CORRUPT", "E-FILE-MISSING", "E-FILE-READ")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm"])
def test_cut_and_flipped_pictures_give_coded_errors(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RGB).save(tmp_path / f"good{suffix}")
    good = (tmp_path / f"good{suffix}").read_bytes()
    path = tmp_path / f"bad{suffix}"
    rng = np.random.default_rng(1)
    for case in range(60):
        data = bytearray(good)
        if case % 2:
            del data[int(rng.integers(0, len(data))) :]
        else:
            data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(data)
        try:
            assert read_pictures([path], spec(), resize="stretch").shape == (1, 8, 6, 3)
        except HeadraceError as error:
            assert error.code.startswith("E-DATA-")


def test_names_that_no_terminal_likes(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "ok.png")
    raw = (tmp_path / "ok.png").read_bytes()
    (tmp_path / "ok.png").unlink()
    name = os.fsencode(tmp_path) + b"/a\x1b[31m\n\xff.png"
    with open(name, "wb") as file:
        file.write(raw)
    notes = Notes()
    load_path(tmp_path, [spec()], notes=notes)
    line = notes.lines()[0]
    line.encode("utf-8")
    assert line.isprintable()
    with open(name, "wb") as file:
        file.write(b"no")
    with pytest.raises(DataError) as caught:
        load_path(tmp_path, [spec()])
    where = caught.value.diagnostics[0].where
    assert where.isprintable() and where.encode()


def test_inputs_that_take_no_pictures(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    for specs in ([InputSpec("a", (5,))], [InputSpec("a", (8, 6, 7))], [spec(), spec()]):
        with pytest.raises(DataError) as caught:
            load_path(tmp_path, specs)
        assert caught.value.code == "E-DATA-FORMAT"


def test_names_offered_exist_and_are_of_the_right_kind(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "frame.png")
    (tmp_path / "frame.txt").write_text("")
    (tmp_path / "frames").mkdir()
    for wrong, right in (("frmae.png", "frame.png"), ("framse", "frames"), ("frame.jpg", "frame.png")):
        with pytest.raises(InputFileError) as caught:
            load_path(tmp_path / wrong, [spec()])
        levers = caught.value.diagnostics[0].levers
        assert levers[0] == f"did you mean {tmp_path / right}?"
        assert all(Path(lever[len("did you mean ") : -1]).exists() and ".txt" not in lever for lever in levers)
    with pytest.raises(InputFileError) as caught:
        load_path(tmp_path.parent / f"{tmp_path.name}x" / "frame.png", [spec()])
    assert f"did you mean {tmp_path / 'frame.png'}?" in caught.value.diagnostics[0].levers


def test_pillow_images_are_read_by_the_same_rules() -> None:
    notes = Notes()
    np.testing.assert_array_equal(frame_of(Image.fromarray(DEEP), "frame 0", spec(1), None, notes)[..., 0], DEEP >> 8)
    assert notes.lines() == ["1 picture: 16 bits a channel: the upper 8 are taken (frame 0)"]
