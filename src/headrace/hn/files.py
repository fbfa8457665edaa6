# SPDX-License-Identifier: Apache-2.0
"""Reading and writing files so that no half-written file is ever left and no huge one is ever slurped."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from headrace.errors import Diagnostic, InputFileError

MAX_FILE_BYTES = 8 << 30
PIPE_PATIENCE_S = 10.0
_PART = re.compile(r"\.headrace-[0-9a-f]{16}\.part")


def open_regular(path: str | os.PathLike[str], what: str) -> BinaryIO:
    """Open a regular file for reading; a pipe, device or socket is refused and never waited for.

    Raises:
        InputFileError: ``E-FILE-MISSING``, ``E-FILE-READ``.
    """
    place = Path(path)
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang before it can be looked at.
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            raise OSError(errno.EINVAL, "is not a regular file")
        return os.fdopen(descriptor, "rb")
    except FileNotFoundError:
        raise InputFileError(missing_file(place, what)) from None
    except (OSError, ValueError) as error:
        raise InputFileError(unreadable(place, what, error)) from None


def unreadable(place: Path, what: str, error: Exception) -> Diagnostic:
    """The diagnostic for a file that the operating system does not give."""
    reason = getattr(error, "strerror", None) or str(error)
    return Diagnostic("E-FILE-READ", str(place), f"the {what} cannot be read", reason, "a readable file")


def read_bytes(path: str | os.PathLike[str], what: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """The contents of a regular file of at most ``limit`` bytes; every failure is an :class:`InputFileError`."""
    place = Path(path)
    with open_regular(place, what) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > limit:
            rule = f"a {what} may have at most {limit} bytes"
            raise InputFileError(Diagnostic("E-FILE-TOO-LARGE", str(place), rule, f"{size} bytes", f"≤ {limit}"))
        try:
            return handle.read(size)
        except (OSError, MemoryError) as error:
            raise InputFileError(unreadable(place, what, error)) from None


def missing_file(place: Path, what: str, suffixes: Collection[str] = ()) -> Diagnostic:
    """The problem that a file does not exist, with names that do exist beside it and are like it.

    Args:
        place: what was asked for.
        what: what it was to be, as people call it.
        suffixes: kinds of files that would do; any when empty. Folders are offered where ``place`` has no suffix.
    """
    from headrace.errors import did_you_mean

    # The folder may be misspelt instead of the file.
    folder = place.parent
    if folder.is_dir():
        near = [folder / n for n in did_you_mean(place.name, _names_in(folder, suffixes, not place.suffix), 2)]
    else:
        near = [folder.parent / n / place.name for n in did_you_mean(folder.name, _names_in(folder.parent), 2)]
        near = [p for p in near if p.exists()]
    levers = tuple(f"did you mean {p}?" for p in near)
    return Diagnostic(
        "E-FILE-MISSING", str(place), f"the {what} does not exist", "no such file", "an existing file", levers
    )


def _names_in(folder: Path, suffixes: Collection[str] = (), folders: bool = False) -> list[str]:
    try:
        names = sorted(os.listdir(folder))[:10_000] if folder.is_dir() else []
    except OSError:
        return []
    if not suffixes:
        return names
    return [n for n in names if os.path.splitext(n)[1].lower() in suffixes or (folders and (folder / n).is_dir())]


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write one file; see :func:`write_files`."""
    write_files([(path, data)])


def write_files(contents: Sequence[tuple[str | os.PathLike[str], bytes]]) -> None:
    """Write files so that a reader sees the old or the new ones, and either all of them appear or none.

    Each goes to a temporary file beside its target, which is renamed when all are complete. A link stays and its
    target is replaced; permissions of a file that is there are kept. What is no regular file (a pipe, /dev/null) is
    written directly.

    Raises:
        InputFileError: ``E-FILE-WRITE`` when a folder is missing, not writable, or the disk is full.
    """
    staged: list[_Staged] = []
    place = ""
    try:
        direct: list[tuple[str, bytes]] = []
        for path, data in contents:
            place = os.fspath(path)
            target = os.path.realpath(place)
            standing = _standing(place)
            if standing is not None and not stat.S_ISREG(standing.st_mode):
                direct.append((place, data))
                continue
            _remove_abandoned(os.path.dirname(target))
            staged.append(_Staged(os.path.dirname(target), target))
            staged[-1].create()
            staged[-1].fill(data, standing)
        for place, data in direct:
            _write_directly(place, data)
        for file in staged:
            place = file.target
            os.replace(file.name, file.target)
    except (OSError, ValueError) as error:
        raise InputFileError(_unwritten(place, error)) from None
    finally:
        for file in staged:
            file.close()


def _unwritten(place: str, error: OSError | ValueError) -> Diagnostic:
    reason = getattr(error, "strerror", None) or str(error)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    levers = ("free disk space or choose another folder",) if full else ()
    need = "a writable folder with enough space"
    return Diagnostic("E-FILE-WRITE", place, "the file cannot be written", reason, need, levers)


def _standing(place: str) -> os.stat_result | None:
    try:
        return os.stat(place)
    except FileNotFoundError:
        return None


class _Staged:
    """A temporary file beside its target, locked for as long as it is open."""

    def __init__(self, folder: str, target: str) -> None:
        # The name is known before the file is there, so that Ctrl-C between the two leaves nothing.
        self.folder, self.target = folder, target
        self.name = ""
        self.descriptor = -1

    def create(self) -> None:
        while True:
            self.name = os.path.join(self.folder, f".headrace-{secrets.token_hex(8)}.part")
            self.descriptor = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            except OSError:
                return  # a file system without locks: nobody removes what cannot be locked
            if os.fstat(self.descriptor).st_nlink:
                return
            self.close()  # another run took it for abandoned between the two calls above

    def fill(self, data: bytes, standing: os.stat_result | None) -> None:
        """Write the contents, with owner and permissions of the file that is to be replaced."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view[: 1 << 24]) :]
        if standing is not None:
            if (standing.st_uid, standing.st_gid) != (os.geteuid(), os.getegid()):
                try:
                    os.fchown(self.descriptor, standing.st_uid, standing.st_gid)
                except OSError:
                    pass  # only root can give files away
            os.fchmod(self.descriptor, stat.S_IMODE(standing.st_mode))
        os.fsync(self.descriptor)

    def close(self) -> None:
        try:
            os.unlink(self.name)
        except OSError:
            pass  # it has its target's name, or never came to be
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _write_directly(place: str, data: bytes) -> None:
    """Into what is there: a pipe whose reader must come within some seconds, or a device that swallows."""
    end = time.monotonic() + PIPE_PATIENCE_S
    while True:
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, "nobody reads from this pipe") from None
            time.sleep(0.05)
    try:
        os.set_blocking(descriptor, True)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[: 1 << 20]) :]
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: str) -> None:
    """Remove temporary files of runs that were killed: ours by name and owner, and locked by nobody."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.path for entry in entries if _PART.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its run is alive
                os.unlink(name)
        except OSError:
            pass
        finally:
            os.close(descriptor)
