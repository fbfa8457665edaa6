# SPDX-License-Identifier: Apache-2.0
"""A model as it was given, and what a format's reader is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from headrace.errors import Diagnostic, InputFileError, UsageError
from headrace.frontends.options import Framework, ParseOptions
from headrace.hn.content import HEAD_BYTES
from headrace.hn.files import open_regular, read_bytes

if TYPE_CHECKING:
    from headrace.frontends.graph import SourceGraph

Given = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class Source:
    """A model as it was given: a file, a folder, or bytes.

    Attributes:
        path: of the file or folder; None for bytes.
        data: the bytes; None for a path.
        head: the first :data:`~headrace.hn.content.HEAD_BYTES` bytes; empty for a folder.
        members: names in the folder, sorted; empty for a file.
    """

    path: Path | None
    data: bytes | None
    head: bytes
    members: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Given) -> Source:
        """Look at what was given.

        Raises:
            InputFileError: there is no such file, or it cannot be read.
        """
        if isinstance(given, bytes | bytearray | memoryview):
            data = bytes(given)
            return cls(None, data, data[:HEAD_BYTES])
        path = Path(given)
        if path.name and not path.exists():  # what people call a checkpoint is the beginning of its files' names
            index = path.with_name(f"{path.name}.index")
            path = index if index.is_file() else path
        if path.is_dir():
            return cls(path, None, b"", tuple(sorted(entry.name for entry in path.iterdir())))
        with open_regular(path, "model") as file:
            return cls(path, None, file.read(HEAD_BYTES))

    @property
    def is_folder(self) -> bool:
        return self.path is not None and self.data is None and self.path.is_dir()

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower() if self.path is not None else ""

    def where(self, what: str) -> str:
        """The place for messages: the file's name, or what the bytes are."""
        return self.path.name if self.path is not None else what

    def bytes(self, what: str, limit: int) -> bytes:
        """All of it.

        Raises:
            InputFileError: it cannot be read, or has more than ``limit`` bytes.
        """
        if self.data is not None:
            return self.data
        assert self.path is not None
        return read_bytes(self.path, what, limit)


class Reader(ABC):
    """Reads one file format into the source graph; a format is a folder with one of these, and a row of the table.

    Attributes:
        name: of the format, lower case; upper case it stands in the codes of errors.
        title: with its article, for messages.
        framework: whose format it is.
        suffixes: that its files usually have, with the dot; never what decides.
        has_signatures: whether reading takes a ``signature``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    framework: ClassVar[Framework]
    suffixes: ClassVar[tuple[str, ...]]
    has_signatures: ClassVar[bool] = False

    @abstractmethod
    def sniff(self, source: Source) -> bool:
        """Whether the content is of this format, as far as its first bytes (or the folder's members) tell."""

    @abstractmethod
    def read(self, source: Source, options: ParseOptions) -> SourceGraph:
        """The source graph: operators in ONNX's words at the operator set that it states.

        Raises:
            InputFileError: damaged, inconsistent or hostile; all that is wrong with it is listed.
            UnsupportedModelError: nothing of the file can be translated. Single operators that cannot be are left in
                the graph (:attr:`SourceGraph.broken`) and reported later, together.
        """


def check_takes_signature(reader: Reader, signature: str | None) -> None:
    """Refuse a signature that is asked of a format whose files have none.

    Raises:
        UsageError: one is.
    """
    if signature is not None and not reader.has_signatures:
        raise no_signatures(reader.title, signature)


def no_signatures(title: str, signature: str) -> UsageError:
    """The error for a signature that is asked of a file that has none."""
    rule, need, lever = f"{title} has no signatures to choose from", "a SavedModel", "leave --signature out"
    return UsageError(Diagnostic("E-PARSE-SIGNATURE", "signature", rule, repr(signature)[:200], need, (lever,)))


def corrupt(name: str, where: str, rule: str, got: object = "", need: str = "", *levers: str) -> Diagnostic:
    """The problem that a file is damaged or inconsistent."""
    return Diagnostic(f"E-{name.upper()}-CORRUPT", where, rule, str(got)[:200], need, levers)


def check_not_a_pointer(name: str, data: bytes, where: str, need: str, lever: str) -> None:
    """Refuse what stands where a model should be: nothing, or a pointer of Git LFS.

    Raises:
        InputFileError: it is one of these.
    """
    if not data:
        raise InputFileError(corrupt(name, where, "the file is empty", "0 bytes", need, lever))
    if data[:64].startswith(b"version https://git-lfs"):
        rule = "this is a Git LFS pointer, not the model"
        raise InputFileError(corrupt(name, where, rule, "", "the file itself", "git lfs pull"))
