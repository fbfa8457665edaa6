# SPDX-License-Identifier: Apache-2.0
"""Reading and writing files so that no half-written file is ever left and no huge one is ever slurped."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from headrace.errors import Diagnostic, InputFileError

MAX_FILE_BYTES = 8 << 30


def read_bytes(path: str | os.PathLike[str], what: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """The contents of a regular file of at most ``limit`` bytes; every failure is an :class:`InputFileError`."""
    place = Path(path)
    try:
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if place.exists() and not place.is_file():
            raise OSError(errno.EINVAL, "is not a regular file")
        size = place.stat().st_size
        if size > limit:
            raise InputFileError(
                Diagnostic(
                    "E-FILE-TOO-LARGE",
                    str(place),
                    f"a {what} may have at most {limit} bytes",
                    f"{size} bytes",
                    f"≤ {limit}",
                )
            )
        return place.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise InputFileError(_missing(place, what)) from None
        reason = getattr(error, "strerror", None) or str(error)
        raise InputFileError(
            Diagnostic("E-FILE-READ", str(place), f"the {what} cannot be read", reason, "a readable file")
        ) from None


def _missing(place: Path, what: str) -> Diagnostic:
    from headrace.errors import did_you_mean

    try:
        neighbours = [p.name for p in place.parent.iterdir()][:1000] if place.parent.is_dir() else []
    except OSError:
        neighbours = []
    levers = tuple(f"did you mean {place.parent / n}?" for n in did_you_mean(place.name, neighbours, 1))
    return Diagnostic(
        "E-FILE-MISSING", str(place), f"the {what} does not exist", "no such file", "an existing file", levers
    )


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and rename it, so that a reader sees the old or the new file.

    Raises:
        InputFileError: ``E-FILE-WRITE`` when the folder is missing, not writable, or the disk is full.
    """
    place = Path(path)
    # The name is known before the file is there, so that Ctrl-C between the two leaves nothing either.
    temporary = place.parent / f".{place.name[:64]}.{secrets.token_hex(8)}.part"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, place)
    except OSError as error:
        reason = error.strerror or str(error)
        levers = (
            ("free disk space or choose another folder",)
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            else ()
        )
        raise InputFileError(
            Diagnostic(
                "E-FILE-WRITE",
                str(place),
                "the file cannot be written",
                reason,
                "a writable folder with enough space",
                levers,
            )
        ) from None
    finally:
        try:
            os.unlink(temporary)
        except OSError:
            pass  # it has its name, or never came to be
