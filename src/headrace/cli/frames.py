# SPDX-License-Identifier: Apache-2.0
"""Frames for `run` and `benchmark`: from files, or generated. Needs neither torch nor onnx."""

from __future__ import annotations

import glob
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headrace.cli.options import check_picture_options
from headrace.data.dtypes import as_codes, as_values
from headrace.data.files import KINDS, load_path
from headrace.data.inputs import (
    InputSpec,
    by_input,
    check_channels,
    check_counts,
    checked,
    find_input,
    missing_inputs,
    unknown_input,
)
from headrace.data.notes import Notes
from headrace.data.pictures import SUFFIXES, check_resize, is_picture_file, pictures_in, read_pictures
from headrace.errors import DataError, Diagnostic, InputFileError, UsageError
from headrace.hn.files import missing_file, read_bytes
from headrace.hn.outputs import Outputs, array_kind
from headrace.numerics.array import Array
from headrace.text import printable
from headrace.typeguards import is_mapping

_RAW = (".bin", ".raw", ".dat", "")
_PATTERN = "*?["


class Stream(Protocol):
    """What is needed of an input: its name, frame shape (H, W, C) or (C,), and element type."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]: ...


@dataclass(frozen=True)
class Frames:
    """What `--input-files` gave.

    Attributes:
        arrays: input name → (N, *frame shape) of the stream's element type; N is the same for all.
        pictures: the picture files behind the frames, by input name, in order.
    """

    arrays: dict[str, Array]
    pictures: dict[str, list[str]]


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


def read_frames(
    sources: Sequence[str],
    streams: Sequence[Stream],
    *,
    specs: Sequence[InputSpec] | None = None,
    resize: str | None = None,
    channels: str | None = None,
    limit: int | None = None,
    notes: Notes | None = None,
) -> Frames:
    """Frames for every input, from files.

    Args:
        sources: ``FILE`` (one input), ``NAME=FILE`` per input, one .npz keyed by input, or any number of pictures,
            folders of pictures and patterns for an input.
        streams: the inputs.
        specs: names and layouts of the inputs; by default what the streams say.
        resize: how pictures get the input's size.
        channels: the order of their channels.
        limit: read only the first pictures.
        notes: told what was done to pictures.

    Raises:
        UsageError: files and inputs do not match up.
        DataError: an array has the wrong shape, type or values; all problems together.
    """
    check_resize(resize)
    check_channels(channels)
    specs = specs or [InputSpec(s.name, s.shape, (s.name.rsplit("/", 1)[-1],)) for s in streams]
    reader = _Reader(specs, {s.name: s.dtype for s in streams}, resize, channels, limit, notes or Notes())
    arrays = reader.read(sources)
    problems: list[Diagnostic] = []
    frames: dict[str, Array] = {}
    for stream, spec in zip(streams, specs, strict=True):
        try:
            frames[spec.name] = _fitted(checked(spec, arrays[spec.name], one_frame=True), stream)
        except DataError as error:
            problems += error.diagnostics
    problems += [] if problems else check_counts(frames, "--input-files")
    if problems:
        raise DataError(problems)
    return Frames(frames, reader.pictures)


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


@dataclass
class _Reader:
    """Sources of the command line into arrays by input name."""

    specs: Sequence[InputSpec]
    dtypes: Mapping[str, np.dtype[Any]]
    resize: str | None
    channels: str | None
    limit: int | None
    notes: Notes

    def __post_init__(self) -> None:
        self.pictures: dict[str, list[str]] = {}

    def read(self, sources: Sequence[str]) -> dict[str, Array]:
        arrays: dict[str, Array] = {}
        files: dict[str, list[tuple[Path, Path | None]]] = {}  # pictures, and the folder they were found in
        problems: list[Diagnostic] = []
        for source in sources:
            name, path = _split(source)
            if not source or source == f"{name}=":  # the path would mean the current folder
                rule = "there is no file name"
                problems.append(Diagnostic("E-DATA-NAME", "--input-files", rule, repr(source), KINDS))
                continue
            if not name and path.suffix.lower() == ".npz":
                named = _archived(path, self._array(path, None), self.specs)
            else:
                spec = self._spec(name, source, problems)
                if spec is None:
                    continue
                found = _pictures_of(path)
                if found is not None:
                    files.setdefault(spec.name, []).extend(found)
                    continue
                named = {spec.name: self._array(path, spec)}
            for full, array in named.items():
                if full in arrays or full in files:
                    problems.append(_twice(source, full))
                arrays[full] = array
        problems += [_twice(str(found[0][0]), full) for full, found in files.items() if full in arrays]
        if problems:
            raise UsageError(problems)
        for spec in self.specs:
            if spec.name in files:
                arrays[spec.name] = self._pictures(spec, files[spec.name])
        lacking = missing_inputs(arrays, self.specs)
        if lacking:
            raise UsageError(
                [Diagnostic(d.code, d.where, d.rule, d.got, f"{d.where}=FILE behind --input-files") for d in lacking]
            )
        if not files:
            check_picture_options(self.resize, self.channels, "no picture behind --input-files")
        return arrays

    def _spec(self, name: str, source: str, problems: list[Diagnostic]) -> InputSpec | None:
        if not name and len(self.specs) == 1:
            return self.specs[0]
        spec = find_input(name, self.specs) if name else None
        if spec is None and name:
            problems.append(unknown_input(name, self.specs, source))
        elif spec is None:
            rule, got = "there are several inputs: each file needs the name of its own", printable(source)
            need = ", ".join(f"{s.name}=FILE" for s in self.specs)
            problems.append(Diagnostic("E-DATA-NAME", "--input-files", rule, got, need))
        return spec

    def _array(self, path: Path, spec: InputSpec | None) -> Any:
        """What a .npy or .npz file holds, or the bytes of a raw one as frames of the input."""
        suffix = path.suffix.lower()
        if spec is None or suffix not in _RAW:
            loaded = load_path(path, self.specs)
            if spec is not None and is_mapping(loaded):
                return _archived(path, loaded, [spec])[spec.name]
            return loaded
        if not path.exists():
            raise InputFileError(missing_file(path, "input file", (".npy", ".npz", *_RAW, *SUFFIXES)))
        data = read_bytes(path, "input file")
        dtype = self.dtypes[spec.name]
        size = int(np.prod(spec.shape)) * dtype.itemsize
        if not data or len(data) % size:
            need = f"a multiple of {size} bytes: frames {spec.shape} {dtype}, or {KINDS}"
            rule = "the raw frames are cut short"
            raise DataError(Diagnostic("E-DATA-CORRUPT", printable(str(path)), rule, f"{len(data)} bytes", need))
        return np.frombuffer(data, dtype=dtype.newbyteorder("<")).reshape(-1, *spec.shape)

    def _pictures(self, spec: InputSpec, files: Sequence[tuple[Path, Path | None]]) -> Array:
        chosen = list(files)[: self.limit]
        self.pictures[spec.name] = [printable(str(path)) for path, _ in chosen]
        paths = [path for path, _ in chosen]
        folders = {folder for _, folder in chosen}
        folder = folders.pop() if len(folders) == 1 else None
        spec = replace(spec, channels=self.channels)
        return read_pictures(paths, spec, folder=folder, resize=self.resize, notes=self.notes)


def _archived(path: Path, arrays: Mapping[str, Any], specs: Sequence[InputSpec]) -> dict[str, Any]:
    named, problems = by_input(arrays, specs, printable(str(path)))
    if problems:
        raise DataError(problems)
    return named


def _twice(source: str, full: str) -> Diagnostic:
    rule, need = "an input is given twice", "one file per input, or only pictures"
    return Diagnostic("E-DATA-NAME", printable(source), rule, full, need)


def input_paths(sources: Sequence[str]) -> list[Path]:
    """The files of ``FILE`` and ``NAME=FILE``."""
    return [_split(source)[1] for source in sources]


def _split(source: str) -> tuple[str, Path]:
    """``NAME=FILE`` into its parts; a file of that whole name goes first."""
    if "=" in source and not Path(source).exists():
        name, _, file = source.partition("=")
        return name, Path(file)
    return "", Path(source)


def _pictures_of(path: Path) -> list[tuple[Path, Path | None]] | None:
    """The pictures that a path means (one, those of a folder, those that fit a pattern); None when it means none.

    Raises:
        InputFileError: there is no such picture, folder, or file that fits.
    """
    if path.is_dir():
        found = pictures_in(path)
        if not found:
            rule, need = "the folder holds no picture", f"files named {' '.join(SUFFIXES)}"
            raise DataError(Diagnostic("E-DATA-EMPTY", printable(str(path)), rule, "none", need))
        return [(p, path) for p in found]
    if path.exists():
        return [(path, None)] if is_picture_file(path) else None
    if any(c in str(path) for c in _PATTERN):
        fitting = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
        pictures: list[tuple[Path, Path | None]] = [(p, None) for p in fitting if is_picture_file(p) and p.is_file()]
        if not pictures:
            rule, got = "no picture fits the pattern", f"{len(fitting)} files of other kinds" if fitting else "nothing"
            raise InputFileError(Diagnostic("E-FILE-MISSING", printable(str(path)), rule, got, "picture files"))
        return pictures
    if is_picture_file(path):
        raise InputFileError(missing_file(path, "picture", SUFFIXES))
    return None


def _fitted(frames: Array, stream: Stream) -> Array:
    """Frames as float32 values, or as codes of the stream's type.

    Raises:
        DataError: codes were asked for, and a value is none.
    """
    if stream.dtype.kind == "f":
        return as_values(frames)
    codes = as_codes(frames, stream.dtype)
    if codes is None:
        rule, need = "codes were asked for, and the values are none", f"whole numbers of {stream.dtype}"
        levers = ("leave out --quantized (--user-format-type) to give real values",)
        got = f"{frames.dtype}, {frames.min()} … {frames.max()}"
        raise DataError(Diagnostic("E-DATA-CODES", f"input {stream.name!r}", rule, got, need, levers))
    return codes
