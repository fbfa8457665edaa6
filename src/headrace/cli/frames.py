# SPDX-License-Identifier: Apache-2.0
"""Frames for `run` and `benchmark`: from files, or generated. Needs neither torch nor onnx."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy

from headrace.errors import DataError, Diagnostic, UsageError, did_you_mean, unknown_name
from headrace.hn.arrays import load_arrays
from headrace.hn.files import read_bytes
from headrace.hn.outputs import Outputs, array_kind

Array = np.ndarray[Any, np.dtype[Any]]
_KINDS = "biuf"


class Stream(Protocol):
    """What is needed of an input: its name, frame shape (H, W, C) or (C,), and element type."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]: ...


def generate_frames(streams: Sequence[Stream], count: int) -> dict[str, Array]:
    """``count`` frames of noise over the whole range of codes (or 0..1 for floats); the same in every run."""
    generator = np.random.Generator(np.random.PCG64(0))
    frames: dict[str, Array] = {}
    for stream in streams:
        shape = (count, *stream.shape)
        if stream.dtype.kind == "f":
            frames[stream.name] = generator.random(shape, dtype=np.float32)
        else:
            frames[stream.name] = generator.integers(0, 256**stream.dtype.itemsize, shape, dtype=stream.dtype.type)
    return frames


def read_frames(sources: Sequence[str], streams: Sequence[Stream]) -> dict[str, Array]:
    """Frames for every input from ``FILE`` (one input) or ``NAME=FILE`` per input, or one .npz keyed by input.

    Returns:
        input name → (N, *frame shape) of the stream's element type; N is the same for all.

    Raises:
        UsageError: files and inputs do not match up.
        DataError: an array has the wrong shape, type or values; all problems together.
    """
    arrays = _load(sources, streams)
    problems: list[Diagnostic] = []
    frames: dict[str, Array] = {}
    for stream in streams:
        fitted = _fit(arrays[stream.name], stream, problems)
        if fitted is not None:
            frames[stream.name] = fitted
    counts = {name: len(array) for name, array in frames.items()}
    if not problems and len(set(counts.values())) > 1:
        rule = "the inputs have different numbers of frames"
        problems.append(Diagnostic("E-RUN-FRAMES", "--input-files", rule, str(counts), "the same number for all"))
    if problems:
        raise DataError(problems)
    return frames


class OutputFiles:
    """One .npy per output in a folder, named by the output with ``/`` as ``_``.

    Args:
        folder: made where it is not there.
        shapes: output name → frame shape.
        inputs: files that the command reads.
        force: replace files that are no such outputs.

    Raises:
        UsageError, InputFileError: a file cannot stand where it is to stand; nothing has been run yet.
    """

    def __init__(
        self, folder: Path, shapes: Mapping[str, Sequence[int]], inputs: Sequence[str | Path], force: bool = False
    ) -> None:
        self._outputs = Outputs(inputs, force)
        self.paths: dict[str, Path] = {}
        for name, shape in shapes.items():
            safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")[:200] or "output"
            path, number = folder / f"{safe}.npy", 2
            while path in self.paths.values():
                path, number = folder / f"{safe}_{number}.npy", number + 1
            self.paths[name] = self._outputs.add("--output-dir", path, array_kind(shape), makes_folder=True)
        self._outputs.check()

    def write(self, outputs: Mapping[str, Array]) -> list[Path]:
        """Write all arrays, or none."""
        bodies: dict[Path, bytes] = {}
        for name, path in self.paths.items():
            body = io.BytesIO()
            np.save(body, np.ascontiguousarray(outputs[name]), allow_pickle=False)
            bodies[path] = body.getvalue()
        self._outputs.write(bodies)
        return list(bodies)


def _load(sources: Sequence[str], streams: Sequence[Stream]) -> dict[str, Array]:
    """Arrays by full input name, as they stand in the files."""
    names = [stream.name for stream in streams]
    arrays: dict[str, Array] = {}
    problems: list[Diagnostic] = []
    for source in sources:
        key, path = _split(source)
        if path.suffix.lower() == ".npz" and not key:
            named = load_arrays(read_bytes(path, "input file"), str(path))
        else:
            named = {key: _read_array(path, streams)}
        for name, array in named.items():
            full = _full_name(name, names)
            if full is None:
                known = names if name else ["NAME=FILE for each of several inputs"]
                problems.append(unknown_name("E-RUN-INPUT", "input", name or str(path), known, source))
            elif full in arrays:
                problems.append(
                    Diagnostic("E-RUN-INPUT", source, "an input is given twice", full, "one file per input")
                )
            else:
                arrays[full] = array
    missing = [name for name in names if name not in arrays]
    if not problems and missing:
        need = ", ".join(f"{name}=FILE" for name in missing)
        problems.append(Diagnostic("E-RUN-INPUT", "--input-files", "an input has no file", ", ".join(missing), need))
    if problems:
        raise UsageError(problems)
    return arrays


def input_paths(sources: Sequence[str]) -> list[Path]:
    """The files of ``FILE`` and ``NAME=FILE``."""
    return [_split(source)[1] for source in sources]


def _split(source: str) -> tuple[str, Path]:
    """``NAME=FILE`` into its parts; a file of that whole name goes first."""
    if "=" in source and not Path(source).exists():
        name, _, file = source.partition("=")
        return name, Path(file)
    return "", Path(source)


def _full_name(name: str, names: Sequence[str]) -> str | None:
    """The input that a name means: itself, the part after the scope, or the only one when there is no name."""
    if not name:
        return names[0] if len(names) == 1 else None
    fitting = [full for full in names if full == name or full.rsplit("/", 1)[-1] == name]
    return fitting[0] if len(fitting) == 1 else None


def _read_array(path: Path, streams: Sequence[Stream]) -> Array:
    """A .npy array, or the bytes of any other file as frames of an only input."""
    data = read_bytes(path, "input file")
    if path.suffix.lower() == ".npy" or data[:6] == b"\x93NUMPY":
        try:
            loaded: Array = npy.read_array(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError, MemoryError, OverflowError, SyntaxError) as error:
            need = "a .npy file of numbers, without pickled objects"
            raise DataError(
                Diagnostic("E-RUN-FILE", str(path), "this is no readable array", str(error)[:200], need)
            ) from error
        return loaded
    if path.suffix.lower() not in (".bin", ".raw", ".dat", ""):
        close = did_you_mean(path.suffix, [".npy", ".npz", ".bin", ".raw"])
        levers = tuple(f"{path.stem}{suffix}" for suffix in close)
        need = ".npy, .npz, or .bin with raw frames"
        raise DataError(Diagnostic("E-RUN-FILE", str(path), "the kind of file is not known", path.suffix, need, levers))
    stream = streams[0]
    size = int(np.prod(stream.shape)) * stream.dtype.itemsize
    if not data or len(data) % size:
        need = f"a multiple of {size} bytes: frames {stream.shape} {stream.dtype}"
        raise DataError(Diagnostic("E-RUN-FILE", str(path), "the raw frames are cut short", f"{len(data)} bytes", need))
    return np.frombuffer(data, dtype=stream.dtype).reshape(-1, *stream.shape)


def _fit(array: Array, stream: Stream, problems: list[Diagnostic]) -> Array | None:
    """``array`` as (N, *frame) of the stream's type; None, with problems noted, when that loses anything."""
    shape = stream.shape
    where, need = f"input {stream.name!r}", f"(N, {', '.join(map(str, shape))}) {stream.dtype}"
    frames = array[None] if array.shape == shape else array
    if frames.shape[1:] != shape or frames.ndim != len(shape) + 1 or len(frames) < 1:
        levers: tuple[str, ...] = ()
        if len(shape) == 3 and array.shape[-3:] == (shape[2], *shape[:2]):
            levers = ("this looks like channels first: numpy.moveaxis(array, -3, -1)",)
        problems.append(Diagnostic("E-RUN-SHAPE", where, "the shape does not fit", str(array.shape), need, levers))
        return None
    if frames.dtype.kind not in _KINDS:
        problems.append(Diagnostic("E-RUN-TYPE", where, "the array does not hold real numbers", str(array.dtype), need))
        return None
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        problems.append(Diagnostic("E-RUN-VALUE", where, "the array holds NaN or infinity", need="finite numbers"))
        return None
    if stream.dtype.kind == "f":
        return np.ascontiguousarray(frames, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        codes = frames.astype(stream.dtype)
    if not np.array_equal(codes, frames):
        levers = ("leave out --quantized to give real values",)
        problems.append(Diagnostic("E-RUN-VALUE", where, "the values are no codes", str(array.dtype), need, levers))
        return None
    return np.ascontiguousarray(codes)
