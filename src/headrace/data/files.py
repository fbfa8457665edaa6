# SPDX-License-Identifier: Apache-2.0
"""Reading data files without trusting them: headers before contents, no pickle, limits."""

from __future__ import annotations

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import DataError, Diagnostic, InputFileError, did_you_mean, missing_extra
from headrace.hn import Array

MAX_BYTES = 16 << 30
MAX_MEMBERS = 1000
MAX_IMAGES = 200_000
# What numpy, zipfile and zlib raise on damaged files (numpy's header parser lets the tokeniser's errors through).
CORRUPT = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    tokenize.TokenError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    IndexError,
    SyntaxError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


def load_path(path: Path, shapes: Sequence[tuple[int, ...]]) -> Any:
    """A ``.npy`` file (memory-mapped), a ``.npz`` file (dict), or a folder of images (uint8 array).

    Args:
        path: file or folder.
        shapes: input shapes of the network, for the number of image channels and the image size.

    Raises:
        InputFileError: it does not exist or cannot be read; DataError: its contents cannot be used.
    """
    try:
        if path.is_dir():
            return load_images(path, shapes)
        if not path.exists():
            near = did_you_mean(
                path.name, [p.name for p in path.parent.iterdir()][:1000] if path.parent.is_dir() else [], 1
            )
            levers = tuple(f"did you mean {path.parent / n}?" for n in near)
            raise InputFileError(
                Diagnostic(
                    "E-FILE-MISSING",
                    str(path),
                    "the data do not exist",
                    "no such file",
                    ".npy, .npz or a folder of images",
                    levers,
                )
            )
        if not path.is_file():
            raise InputFileError(
                Diagnostic("E-FILE-READ", str(path), "it is not a regular file", "", ".npy, .npz or a folder of images")
            )
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return load_npy(path)
        if suffix == ".npz":
            return load_npz(path)
    except OSError as error:
        raise InputFileError(
            Diagnostic(
                "E-FILE-READ", str(path), "the data cannot be read", error.strerror or str(error), "a readable file"
            )
        ) from None
    raise DataError(
        Diagnostic(
            "E-DATA-FORMAT",
            str(path),
            "this kind of file is not known",
            path.suffix or "no suffix",
            ".npy, .npz or a folder of images",
        )
    )


def _corrupt(where: str, reason: object) -> DataError:
    return DataError(
        Diagnostic(
            "E-DATA-CORRUPT",
            where,
            "the file is not a valid array of numbers",
            str(reason)[:200],
            "an array written by numpy.save (no pickle)",
        )
    )


def load_npy(path: Path) -> Array:
    """The array, memory-mapped read-only; the header is checked against the file's length."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except CORRUPT as error:
        raise _corrupt(str(path), error) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise _corrupt(str(path), "an archive")
    return array


def load_npz(path: Path) -> dict[str, Array]:
    """Every numeric array of the archive; sizes are checked before anything is unpacked."""
    result: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(m.file_size for m in members)
            if len(members) > MAX_MEMBERS or total > MAX_BYTES:
                raise DataError(
                    Diagnostic(
                        "E-DATA-TOO-LARGE",
                        str(path),
                        "the archive is too large",
                        f"{len(members)} members, {total} bytes",
                        f"≤ {MAX_MEMBERS} members, ≤ {MAX_BYTES} bytes",
                    )
                )
            for member in members:
                if not member.filename.endswith(".npy"):
                    continue
                with archive.open(member) as stream:
                    result[member.filename[:-4]] = _read_member(stream, member.file_size, f"{path}: {member.filename}")
    except CORRUPT as error:
        raise _corrupt(str(path), error) from None
    if not result:
        raise DataError(
            Diagnostic("E-DATA-EMPTY", str(path), "the archive holds no array", "nothing", "at least one .npy member")
        )
    return result


def _read_member(stream: Any, length: int, where: str) -> Array:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "uifbSUV":
        raise DataError(Diagnostic("E-DATA-DTYPE", where, "the dtype cannot be used", str(dtype), "numbers"))
    count = 1
    for size in shape:
        count *= size
    if count < 0 or count * dtype.itemsize > length:
        raise ValueError(f"{shape} of {dtype} is larger than the member")
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError("the member ends early")
    array = np.frombuffer(bytearray(data), dtype, count)
    return array.reshape(shape, order="F" if fortran else "C")


def load_images(folder: Path, shapes: Sequence[tuple[int, ...]]) -> Array:
    """All images below a folder in sorted order as uint8 ``[N, H, W, C]`` (RGB or grey, by the network's channels).

    Images are not resized: each must have the input's size.

    Raises:
        MissingExtraError: Pillow is not installed. DataError: no images, wrong sizes (all listed), unreadable images.
    """
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise DataError(
            Diagnostic(
                "E-DATA-FORMAT",
                str(folder),
                "a folder of images suits a network with one image input",
                f"inputs {[list(s) for s in shapes]}",
                "a .npz with one array per input",
            )
        )
    _, height, width, channels = shapes[0]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
    if mode is None:
        raise DataError(
            Diagnostic(
                "E-DATA-FORMAT",
                str(folder),
                "images have 1, 3 or 4 channels",
                f"an input of {channels} channels",
                "a .npy file",
            )
        )
    paths = sorted(
        (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda p: p.relative_to(folder).as_posix(),
    )
    if not paths or len(paths) > MAX_IMAGES:
        raise DataError(
            Diagnostic(
                "E-DATA-EMPTY" if not paths else "E-DATA-TOO-LARGE",
                str(folder),
                "the number of images in the folder cannot be used",
                f"{len(paths)} images",
                f"1 … {MAX_IMAGES} files named {' '.join(IMAGE_SUFFIXES)}",
            )
        )
    if len(paths) * height * width * channels > MAX_BYTES:
        raise DataError(
            Diagnostic(
                "E-DATA-TOO-LARGE",
                str(folder),
                "the images do not fit in memory",
                f"{len(paths)} images",
                f"≤ {MAX_BYTES} bytes",
                ("use fewer images",),
            )
        )
    return _decode(paths, folder, (height, width), channels, mode)


def _decode(paths: Sequence[Path], folder: Path, size: tuple[int, int], channels: int, mode: str) -> Array:
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("Pillow", "sdk") from None
    result = np.empty((len(paths), *size, channels), np.uint8)
    problems: list[Diagnostic] = []
    for i, path in enumerate(paths):
        where = path.relative_to(folder).as_posix()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as image:
                    if image.size != (size[1], size[0]):
                        problems.append(
                            Diagnostic(
                                "E-DATA-SHAPE",
                                where,
                                "the image has another size than the input",
                                f"{image.size[1]}×{image.size[0]}",
                                f"{size[0]}×{size[1]} (height × width)",
                                ("resize the images first, as the application will",),
                            )
                        )
                        continue
                    result[i] = np.asarray(image.convert(mode), np.uint8).reshape(*size, channels)
        except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
            problems.append(
                Diagnostic("E-DATA-CORRUPT", where, "the image cannot be read", str(error)[:200], "a valid image")
            )
    if problems:
        rest = len(problems) - 10
        shown = problems[:10] + (
            [Diagnostic("E-DATA-SHAPE", str(folder), f"and {rest} more images")] if rest > 0 else []
        )
        raise DataError(shown)
    return result
