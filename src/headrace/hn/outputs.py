# SPDX-License-Identifier: Apache-2.0
"""What an output path is, for every command and call that writes (docs/guide/files.md).

A path is judged before the work starts and once more when the result is there, by the same rules: it is no input and
no other output of the same command, its name says what is in it, and what stands there already is an older result of
the same kind. Nothing of the user's is replaced by surprise.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from headrace.errors import Diagnostic, HeadraceError, InputFileError, UsageError
from headrace.hn.files import write_files

FORCE = "--force"
MAX_SNIFFED_BYTES = 64 << 20
_REFUSED = "E-OUTPUT-"
#: What tables of layers begin with.
TABLE_MARK = b"layer,kind,inputs,input_shapes,output_shape,"


def page_mark(name: str) -> str:
    """What a page of the user interface has near its beginning."""
    return f'<meta name="generator" content="headrace {name}">'


# What a reader raises on a file that is none of its kind.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    SyntaxError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class FileKind:
    """A kind of file that is written.

    Attributes:
        name: as in messages, for example ``"HEF"``.
        suffixes: what its names end in; the first is the usual one.
        recognizes: whether an open file holds an older one of this kind; what it raises counts as no.
    """

    name: str
    suffixes: tuple[str, ...]
    recognizes: Callable[[BinaryIO], bool]


def _is_report(handle: BinaryIO) -> bool:
    """A report of `parse` or `profile`, as JSON, text, a page, or a table of layers."""
    data = handle.read(MAX_SNIFFED_BYTES)
    if data.startswith(b"<!doctype html>"):
        return page_mark("report").encode() in data[:1000]
    if data.startswith(TABLE_MARK):
        return True
    if data[:1] == b"{":
        found = json.loads(data)
        return isinstance(found, dict) and {"network", "layers"} <= found.keys()
    return b": " in data[:300] and b"_model, target " in data[:300].split(b"\n", 1)[0]


#: What is being added to while the command runs: the option that names it, and the open file.
_added: list[tuple[str, TextIO]] = []
#: First line of a resolved script that is written as a file, which is how it is known again.
SCRIPT_MARK = "# Written by headrace: the model script as it is carried out.\n"


def _is_comparison(handle: BinaryIO) -> bool:
    """What `compare` wrote, as JSON, text or a page."""
    data = handle.read(MAX_SNIFFED_BYTES)
    if data.startswith(b"<!doctype html>"):
        return page_mark("compare").encode() in data[:1000]
    if data[:1] == b"{":
        found = json.loads(data)
        return isinstance(found, dict) and {"first", "second", "only_first"} <= found.keys()
    return data.startswith(b"A: ") and b"_model, target " in data[:600]


JSON_REPORT = FileKind("report", (".json",), _is_report)
PROFILE_REPORT = FileKind("report", (".html", ".json", ".csv", ".txt"), _is_report)
COMPARISON = FileKind("comparison", (".html", ".json", ".txt"), _is_comparison)
RESOLVED_SCRIPT = FileKind(
    "resolved script", (".alls",), lambda handle: handle.read(len(SCRIPT_MARK)) == SCRIPT_MARK.encode()
)


def resolved_script_bytes(text: str) -> bytes:
    """A resolved script as a file: marked, and empty where there is no script."""
    return (SCRIPT_MARK + text).encode() if text else b""


def array_kind(frame_shape: Sequence[int]) -> FileKind:
    """The ``.npy`` file of an output of frames ``frame_shape``: an array ``(N, *frame_shape)``."""

    def recognizes(handle: BinaryIO) -> bool:
        from numpy.lib import format as npy

        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(handle)]
        return read(handle)[0][1:] == tuple(frame_shape)

    return FileKind("output array", (".npy",), recognizes)


@dataclass(frozen=True)
class _Output:
    option: str  # how the user says it: an option, or what the default is for
    path: Path
    kind: FileKind
    makes_folder: bool
    content: bytes | None  # where it is known before


class Outputs:
    """The files that one command writes.

    Args:
        inputs: the files the command reads; those that are not there, and ``None``, are left out.
        force: a file of another kind may be replaced.
        lever: how that is asked for; empty where it cannot be.
    """

    def __init__(
        self, inputs: Iterable[str | os.PathLike[str] | None] = (), force: bool = False, lever: str = FORCE
    ) -> None:
        self._inputs: dict[tuple[int, int], str] = {}
        for path in inputs:
            found = _status(path) if path is not None else None
            if path is not None and isinstance(found, os.stat_result):
                self._inputs.setdefault((found.st_dev, found.st_ino), os.fspath(path))
        self._force, self._lever = force, lever
        self._outputs: list[_Output] = []

    def add(
        self, option: str, path: Path, kind: FileKind, makes_folder: bool = False, content: bytes | None = None
    ) -> Path:
        """Note one output; returns its path.

        Args:
            option: how the user says it, for messages.
            path: as given.
            kind: what is going to be written.
            makes_folder: its folder is made where it is not there.
            content: the bytes, where they are known already: a file that holds them is no obstacle.
        """
        self._outputs.append(_Output(option, path, kind, makes_folder, content))
        return path

    def check(self) -> None:
        """Judge every output noted so far.

        Raises:
            UsageError: an output is refused (``E-OUTPUT-…``); InputFileError: one cannot be written. All are listed.
        """
        problems: list[Diagnostic] = []
        seen: dict[tuple[Any, ...], _Output] = {}
        for output in self._outputs:
            found = _status(output.path)
            if isinstance(found, OSError):
                problems.append(_unwritable(output.path, found))
                continue
            problems += self._obstacles(output, found)
            key = _identity(output.path, found)
            if key in seen and not _swallows(found):
                rule = f"{seen[key].option} and {output.option} name one file"
                need = "a file for each result"
                got = str(output.path)
                problems.append(Diagnostic("E-OUTPUT-TWICE", output.option, rule, got, need, (_another(output),)))
            seen.setdefault(key, output)
        if problems:
            refused = all(p.code.startswith(_REFUSED) for p in problems)
            kind: type[HeadraceError] = UsageError if refused else InputFileError
            raise kind(problems)

    def write(self, contents: Mapping[Path, bytes]) -> None:
        """Judge again, then write all files: either all of them appear or none.

        Raises:
            UsageError, InputFileError: as :meth:`check`; ``E-FILE-WRITE`` when the disk is full.
        """
        self.check()
        for output in self._outputs:
            if output.makes_folder and output.path in contents:
                make_folder(output.path.parent)
        write_files(list(contents.items()))

    def _obstacles(self, output: _Output, found: os.stat_result | None) -> list[Diagnostic]:
        """Why this output cannot stand where it is to stand."""
        if found is not None and not _swallows(found) and (found.st_dev, found.st_ino) in _streams():
            rule, need = "this is the command's own input or output", "a file or a named pipe"
            return [Diagnostic("E-OUTPUT-STREAM", output.option, rule, str(output.path), need)]
        if found is None or stat.S_ISREG(found.st_mode):
            problems = [self._input(output, found), _added_to(output, found), _suffix(output), _folder(output)]
            problems.append(self._standing(output, found) if not any(problems) else None)
            return [p for p in problems if p is not None]
        if stat.S_ISDIR(found.st_mode):
            lever = f"{output.option} {output.path / ('result' + output.kind.suffixes[0])}"
            return [
                Diagnostic(
                    "E-OUTPUT-FOLDER", output.option, "this is a folder", str(output.path), "a file's name", (lever,)
                )
            ]
        if stat.S_ISFIFO(found.st_mode) or _swallows(found):
            input_problem = self._input(output, found) if stat.S_ISFIFO(found.st_mode) else None
            return [input_problem] if input_problem is not None else []
        what = "a block device" if stat.S_ISBLK(found.st_mode) else "a device or socket"
        need = "a file, a named pipe or /dev/null"
        return [Diagnostic("E-OUTPUT-DEVICE", output.option, f"this is {what}", str(output.path), need)]

    def _input(self, output: _Output, found: os.stat_result | None) -> Diagnostic | None:
        name = self._inputs.get((found.st_dev, found.st_ino)) if found is not None else None
        if name is None:
            return None
        got = str(output.path) if str(output.path) == name else f"{output.path}, which is {name}"
        rule = "the command reads this file and would replace it"
        return Diagnostic("E-OUTPUT-INPUT", output.option, rule, got, "another file", (_another(output),))

    def _standing(self, output: _Output, found: os.stat_result | None) -> Diagnostic | None:
        """What is against replacing the file that stands there."""
        if found is None or self._force:
            return None
        levers = (_another(output), *((f"{self._lever} to replace it",) if self._lever else ()))
        if not found.st_mode & 0o222 or not os.access(output.path, os.W_OK):
            rule = "a file of this name is there and is read-only"
            return Diagnostic("E-OUTPUT-READ-ONLY", output.option, rule, str(output.path), "another name", levers)
        if found.st_size == 0 or _recognized(output):
            return None
        rule = f"a file of this name is there and is no {output.kind.name} of Headrace's"
        if output.content is not None:
            rule = "a file of this name is there with other contents"
        return Diagnostic("E-OUTPUT-EXISTS", output.option, rule, str(output.path), "another name", levers)


def open_to_add(option: str, path: Path, kind: FileKind, first_line: str) -> TextIO:
    """Open a file that grows: a new one, which begins with ``first_line``, or an older one of its kind.

    Nothing else is ever written into. While it is open no other output may name it.

    Args:
        option: how the user says it, for messages.
        path: as given.
        kind: what is in it.
        first_line: without its end, by which ``kind`` recognizes it.

    Raises:
        UsageError: something else stands there (``E-OUTPUT-…``). InputFileError: it cannot be opened.
    """
    outputs = Outputs(lever="")
    outputs.add(option, path, kind)
    outputs.check()
    try:
        # O_NONBLOCK: a pipe that nobody reads from must not hang before it can be looked at.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        file = os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        raise InputFileError(_unwritable(path, error)) from None
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode):
        if os.fstat(file.fileno()).st_size == 0:
            file.write(f"{first_line}\n")
            file.flush()
    elif not _swallows(found):
        file.close()
        need = "a file or /dev/null"
        raise UsageError(Diagnostic("E-OUTPUT-DEVICE", option, "this is a pipe or device", str(path), need))
    _added[:] = [*((known, one) for known, one in _added if not one.closed), (option, file)]
    return file


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it, where they are not there.

    Raises:
        InputFileError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputFileError(_unwritable(folder, error)) from None


def _status(path: str | os.PathLike[str]) -> os.stat_result | OSError | None:
    """What stands at a path, behind links; None: nothing; the error where that cannot be told."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        return error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))


def _identity(path: Path, found: os.stat_result | None) -> tuple[Any, ...]:
    """Equal for two paths that name one file, on file systems that fold case or Unicode forms too."""
    if found is not None:
        return (found.st_dev, found.st_ino)
    real = Path(os.path.realpath(path))
    parent = _status(real.parent)
    folder: tuple[Any, ...] = (str(real.parent),)
    if isinstance(parent, os.stat_result):
        folder = (parent.st_dev, parent.st_ino)
    return (*folder, unicodedata.normalize("NFC", real.name).casefold())


def _streams() -> set[tuple[int, int]]:
    """What stdin, stdout and stderr are: results and messages must not end in one file."""
    found: set[tuple[int, int]] = set()
    for descriptor in (0, 1, 2):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _added_to(output: _Output, found: os.stat_result | None) -> Diagnostic | None:
    """The problem that this command adds to the file already."""
    for option, file in _added:
        if found is None or file.closed:
            continue
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) == (found.st_dev, found.st_ino):
            rule, got = f"{option} and {output.option} name one file", str(output.path)
            return Diagnostic("E-OUTPUT-TWICE", output.option, rule, got, "a file for each", (_another(output),))
    return None


def _swallows(found: os.stat_result | None) -> bool:
    """Whether it is /dev/null, /dev/zero or /dev/full: harmless, and never a file of anybody's."""
    if found is None or not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) != 1:
        return False
    return os.minor(found.st_rdev) in (3, 5, 7)


def _suffix(output: _Output) -> Diagnostic | None:
    if output.path.name.lower().endswith(output.kind.suffixes):
        return None
    need = f"a name that ends in {' or '.join(output.kind.suffixes)}"
    rule = f"the name does not say that it is a {output.kind.name}"
    return Diagnostic("E-OUTPUT-SUFFIX", output.option, rule, str(output.path), need, (_another(output),))


def _folder(output: _Output) -> Diagnostic | None:
    """What is against writing into the folder: it is not there, is none, or is read-only."""
    folder = Path(os.path.realpath(output.path)).parent
    found = _status(folder)
    while output.makes_folder and found is None and folder != folder.parent:
        folder = folder.parent
        found = _status(folder)
    if isinstance(found, OSError):
        return _unwritable(output.path, found)
    if found is None:
        lever = f"mkdir -p {folder}"
        return _unwritable(output.path, FileNotFoundError(errno.ENOENT, f"there is no folder {folder}"), (lever,))
    if not stat.S_ISDIR(found.st_mode):
        return _unwritable(output.path, NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder"))
    if not os.access(folder, os.W_OK | os.X_OK):
        return _unwritable(output.path, PermissionError(errno.EACCES, f"the folder {folder} is read-only"))
    return None


def _unwritable(path: Path, error: OSError | ValueError, levers: tuple[str, ...] = ()) -> Diagnostic:
    reason = getattr(error, "strerror", None) or str(error)
    need = "a writable folder with enough space"
    return Diagnostic("E-FILE-WRITE", str(path), "the file cannot be written", reason, need, levers)


def _another(output: _Output) -> str:
    """An option with a name that is likely to be free."""
    if output.content is not None:
        return f"{output.option} with a new folder"
    stem = output.path.name[: -len(output.path.suffix)] if output.path.suffix else output.path.name
    name = f"{stem or 'result'}{output.kind.suffixes[0]}"
    if name.lower() == output.path.name.lower():
        name = f"{stem}_new{output.kind.suffixes[0]}"
    return f"{output.option} {output.path.with_name(name) if output.path.name else name}"


def _recognized(output: _Output) -> bool:
    try:
        with output.path.open("rb") as handle:
            if output.content is not None:
                return handle.read(len(output.content) + 1) == output.content
            return output.kind.recognizes(handle)
    except _UNREADABLE:
        return False
