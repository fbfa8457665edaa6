# SPDX-License-Identifier: Apache-2.0
"""Pictures into uint8 frames. Needs Pillow.

What becomes of each kind of picture is decided here once, for calibration and `run` alike, and said
(docs/guide/calibration.md, "Pictures"): nothing is clipped, dropped or turned without a remark.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.data.geometry import letterbox_size, placed
from headrace.data.inputs import InputSpec
from headrace.data.limits import check_memory
from headrace.data.notes import Notes, grouped
from headrace.errors import DataError, Diagnostic, UsageError, missing_extra, unknown_name
from headrace.hn import Array
from headrace.text import printable
from headrace.typeguards import is_sequence

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tif",
    ".tiff",
)  # fmt: skip
#: What Pillow may take a file for. Some of its other readers start programs (EPS) or fetch what the file names.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "PPM", "TIFF")
RESIZES = ("letterbox", "letterbox-corner", "crop", "stretch")
MAX_PICTURES = 200_000
MAX_PIXELS = 100_000_000
PADDING = 114  # grey of a letterbox's bars, as detectors of the YOLO family are trained with
_TURNED = range(5, 9)  # EXIF orientations that swap height and width
_ORIENTATION = 0x0112
# What Pillow raises on damaged files; its parsers let through what Python raises on wrong types and lengths.
_BROKEN = (
    OSError, ValueError, SyntaxError, MemoryError, EOFError, KeyError, IndexError, TypeError, AttributeError,
    NotImplementedError, OverflowError, ZeroDivisionError, RuntimeError, RecursionError, struct.error, zlib.error,
)  # fmt: skip


def is_picture_file(path: Path) -> bool:
    """Whether a file's name says that it is a picture."""
    return path.suffix.lower() in SUFFIXES


def is_picture(value: object) -> bool:
    """Whether an object is a Pillow image."""
    return hasattr(value, "getbands") and hasattr(value, "mode") and hasattr(value, "convert")


def check_resize(resize: str | None) -> None:
    """Raises UsageError for an unknown way to resize."""
    if resize is not None and resize not in RESIZES:
        raise UsageError(unknown_name("E-DATA-RESIZE", "way to resize", str(resize), RESIZES, "resize"))


def picture_facts(resize: str | None, channels: str | None) -> dict[str, Any]:
    """What was asked of pictures, for the history: ``resize`` and ``channels``, each where it was."""
    facts: dict[str, Any] = {} if channels is None else {"channels": channels}
    return facts if resize is None else {"resize": _resize_facts(resize), **facts}


def _resize_facts(resize: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"how": resize, "filter": "bilinear, antialiased", "library": f"Pillow {_pillow_version()}"}
    return facts | ({"padding": PADDING} if resize.startswith("letterbox") else {})


def _pillow_version() -> str:
    try:
        from PIL import __version__
    except ImportError:
        raise missing_extra("Pillow", "pictures") from None
    return __version__


def pictures_in(folder: Path) -> list[Path]:
    """Every picture below a folder, sorted by its path."""
    found = (p for p in folder.rglob("*") if is_picture_file(p) and p.is_file())
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def read_pictures(
    paths: Sequence[Path],
    spec: InputSpec,
    *,
    folder: Path | None = None,
    resize: str | None = None,
    notes: Notes | None = None,
) -> Array:
    """Pictures as uint8 ``[N, H, W, C]``, RGB (or BGR, where the input says so), RGBA or grey by its channels.

    Args:
        paths: the files.
        spec: the input, whose size each picture must have, or is given.
        folder: that names are shown relative to.
        resize: one of :data:`RESIZES`, or None.
        notes: told what was done to which kinds of pictures.

    Raises:
        MissingExtraError: Pillow is not installed.
        DataError: the input takes no pictures, there are none or too many, sizes do not fit, files are damaged;
            problems of one kind once, with how many files and the first of them.
    """
    check_resize(resize)
    check_takes_pictures(spec, str(folder or (paths[0] if paths else "pictures")))
    where = str(folder) if folder is not None else "pictures"
    if not 1 <= len(paths) <= MAX_PICTURES:
        rule, got = "the number of pictures cannot be used", f"{len(paths)} pictures"
        code = "E-DATA-TOO-LARGE" if paths else "E-DATA-EMPTY"
        need = f"1 … {MAX_PICTURES} files named {' '.join(SUFFIXES)}"
        raise DataError(Diagnostic(code, printable(where), rule, got, need))
    check_memory(len(paths) * int(np.prod(spec.shape)), printable(where), ("use fewer pictures",))
    result = np.empty((len(paths), *spec.shape), np.uint8)
    problems: list[Diagnostic] = []
    notes = notes or Notes()
    for i, path in enumerate(paths):
        name = printable(path.relative_to(folder).as_posix() if folder is not None else str(path))
        try:
            result[i] = _read(path, name, spec, resize, notes)
        except DataError as error:
            problems += error.diagnostics
    if problems:
        raise DataError(grouped(problems))
    return result


def check_takes_pictures(spec: InputSpec, where: str) -> None:
    """Raises DataError when an input is not (H, W, C) of 1, 3 or 4 channels, or has no colours to put in order."""
    if spec.is_picture:
        if spec.channels is not None and spec.shape[2] == 1:
            rule, need = "a grey input has no order of channels", "an input of 3 or 4 channels"
            got, levers = f"{spec.channels} for {spec.text}", ("leave --channels (channels=) out",)
            raise DataError(Diagnostic("E-DATA-CHANNELS", printable(where), rule, got, need, levers))
        return
    rule, need = "pictures have height, width and 1, 3 or 4 channels", "a .npy or .npz file"
    got = f"input {spec.name!r} of shape {spec.text}"
    raise DataError(Diagnostic("E-DATA-FORMAT", printable(where), rule, got, need))


def frame_of(picture: Any, name: str, spec: InputSpec, resize: str | None, notes: Notes) -> Array:
    """A Pillow image as one uint8 frame (H, W, C) of the input, by the same rules as a file."""
    check_takes_pictures(spec, name)
    height, width, channels = spec.shape
    raw_modes = [str(part) for tile in getattr(picture, "tile", ()) for part in _flat(tile)]
    if not picture.mode.startswith("I") and any(";16" in part for part in raw_modes):
        notes.count("16 bits a channel: the upper 8 are taken", name)  # by Pillow itself, without a word
    _check_size(picture, name, spec, resize)
    turned = _upright(picture, name, notes)
    plain = _resized(_in_channels(turned, channels, name, notes), (height, width), resize)
    frame = np.asarray(plain, np.uint8).reshape(spec.shape)
    return frame[..., [2, 1, 0, 3][:channels]] if spec.channels == "bgr" else frame


def _read(path: Path, name: str, spec: InputSpec, resize: str | None, notes: Notes) -> Array:
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("Pillow", "pictures") from None
    try:
        if not path.is_file():
            raise OSError("no such file" if not path.exists() else "it is not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            known = [name for name in FORMATS if name in Image.OPEN]  # Pillow can be built without some
            with Image.open(path, formats=known) as picture:
                return frame_of(picture, name, spec, resize, notes)
    except Image.DecompressionBombError:
        raise DataError(_too_large(name, "more than Pillow opens")) from None
    except _BROKEN as error:
        got = (getattr(error, "strerror", None) or str(error)).replace(str(path), printable(path.name))[:150]
        rule, need = "the picture cannot be read", "a whole picture: " + ", ".join(FORMATS)
        raise DataError(Diagnostic("E-DATA-CORRUPT", name, rule, got or type(error).__name__, need)) from None


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture that was read, upright."""
    from PIL import Image

    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
        width, height = picture.size
        return (width, height) if _orientation(picture) in _TURNED else (height, width)


def _too_large(name: str, got: str) -> Diagnostic:
    return Diagnostic("E-DATA-TOO-LARGE", name, "the picture is too large to unpack", got, f"≤ {MAX_PIXELS} pixels")


def _check_size(picture: Picture, name: str, spec: InputSpec, resize: str | None) -> None:
    """Looks at the header only: a picture that will not be used is not unpacked."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise DataError(_too_large(name, f"{height}×{width}"))
    if width < 1 or height < 1:
        raise DataError(Diagnostic("E-DATA-CORRUPT", name, "the picture is empty", f"{height}×{width}", "a picture"))
    if _orientation(picture) in _TURNED:
        height, width = width, height
    if resize is None and (height, width) != spec.shape[:2]:
        levers = (
            "--resize letterbox, letterbox-corner, crop or stretch (Python: resize=...), as the network was trained",
            "resize the pictures first, as the application will",
        )
        rule, need = "the picture has another size than the input", f"{spec.shape[0]}×{spec.shape[1]} (height × width)"
        raise DataError(Diagnostic("E-DATA-SHAPE", name, rule, f"{height}×{width}", need, levers))


def _orientation(picture: Picture) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1  # a damaged note beside sound pixels
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(picture: Picture, name: str, notes: Notes) -> Picture:
    """The first picture of the file, turned as its EXIF orientation says."""
    from PIL import Image

    if getattr(picture, "is_animated", False):
        notes.count("only the first picture of the file is taken (animation, several pages)", name)
        picture.seek(0)
    _note_colours(picture, name, notes)
    how = _orientation(picture)
    picture.load()
    if how == 1:
        return picture
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    notes.count("turned as the EXIF orientation says", name)
    turned = picture.transpose(turns[how])
    turned.info = picture.info
    return turned


def _note_colours(picture: Picture, name: str, notes: Notes) -> None:
    """Remarks on what a file says about its colours and this reader does not apply."""
    profile = picture.info.get("icc_profile")
    if isinstance(profile, bytes) and profile and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile:
        notes.count("a colour profile other than sRGB is not applied", name)
    gamma = picture.info.get("gamma")
    if isinstance(gamma, float) and abs(gamma - 1 / 2.2) > 0.02:
        notes.count("a gamma other than 1/2.2 is not applied", name)


def _flat(value: Any) -> list[Any]:
    return [x for part in value for x in _flat(part)] if is_sequence(value) else [value]


def _in_channels(picture: Picture, channels: int, name: str, notes: Notes) -> Picture:
    """The picture as L, RGB or RGBA; says what that changes."""
    picture = _in_8_bits(picture, name, notes)
    mode = picture.mode
    if mode in ("P", "PA"):
        notes.count("a palette is replaced by its colours", name)
    elif mode not in ("1", "L", "LA", "La", "RGB", "RGBX", "RGBA", "RGBa"):
        notes.count(f"{mode} becomes RGB by Pillow's formula, without a colour profile", name)
    elif mode == "1":
        notes.count("1 bit becomes 0 and 255", name)
    grey = mode in ("1", "L", "LA", "La")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        full = picture.convert("RGBA")
        opaque = full.getchannel("A").getextrema() == (255, 255)
        if channels != 4 and not opaque:
            notes.count("transparency is dropped, the colours under it are taken", name)
        picture = full
    elif channels == 4:
        notes.count("no transparency: the fourth channel is 255", name)
    if channels == 1 and not grey:
        notes.count("colour becomes grey: 0.299 R + 0.587 G + 0.114 B", name)
    elif channels != 1 and grey:
        notes.count("grey becomes RGB: its channel is repeated", name)
    return picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])


def _in_8_bits(picture: Picture, name: str, notes: Notes) -> Picture:
    """A picture of more bits per channel with the upper 8 of 16."""
    from PIL import Image

    mode = picture.mode
    sixteen = mode.startswith("I;16") or (mode == "I" and picture.format in ("PNG", "PPM"))
    if sixteen:
        notes.count("16 bits a channel: the upper 8 are taken", name)
        values = np.asarray(picture).astype(np.int64)
        return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    if mode in ("I", "F", "LAB"):
        rule = "the picture's values have no fixed range" if mode != "LAB" else "the colour space is not read"
        got = {"I": "32-bit integers", "F": "floating point", "LAB": "L*a*b*"}[mode]
        levers = ("save what the network is to see with numpy.save",)
        raise DataError(Diagnostic("E-DATA-FORMAT", name, rule, got, "8 or 16 bits a channel", levers))
    return picture


def _resized(picture: Picture, size: tuple[int, int], how: str | None) -> Picture:
    """The picture at (height, width): bilinear with antialiasing, in Pillow's integer arithmetic."""
    from PIL import Image

    height, width = size
    if picture.size == (width, height):
        return picture
    if how is None:
        raise AssertionError("the size was checked")
    filter_ = Image.Resampling.BILINEAR
    have_width, have_height = picture.size
    resize: Callable[..., Picture] = picture.resize
    if how == "stretch":
        return resize((width, height), filter_)
    if how == "crop":
        # The box is cut before anything is enlarged: a picture of 1 × 1,000,000 pixels stays small.
        scale = max(width / have_width, height / have_height)
        left, top = (have_width - width / scale) / 2, (have_height - height / scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(have_width - left, have_width), min(have_height - top, have_height))
        return resize((width, height), filter_, box)
    inner = letterbox_size((have_height, have_width), size)[::-1]
    result = Image.new(
        picture.mode, (width, height), (PADDING,) * len(picture.getbands()) if picture.mode != "L" else PADDING
    )
    place = placed((have_height, have_width), size, how)
    result.paste(resize(inner, filter_), (int(place.left), int(place.top)))
    return result
