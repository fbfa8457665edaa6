# SPDX-License-Identifier: Apache-2.0
"""The table of file formats, and which of them a file is: told by its content, its name only says what it should be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError
from headrace.frontends.formats.keras import KerasReader
from headrace.frontends.formats.onnx import OnnxReader
from headrace.frontends.formats.tensorflow import TensorflowReader
from headrace.frontends.formats.tflite import TfliteReader
from headrace.frontends.options import Framework
from headrace.frontends.reader import Reader, Source
from headrace.hn.content import content_of

READERS: tuple[Reader, ...] = (
    TensorflowReader(),  # before ONNX's, whose beginning a SavedModel's is like
    OnnxReader(),
    TfliteReader(),
    KerasReader(),
)


class _Unread(NamedTuple):
    """A format that is known and that nothing reads yet."""

    title: str
    suffixes: tuple[str, ...]
    lever: str


_CONVERT = "convert it with tf.lite.TFLiteConverter"
UNREAD = (
    _Unread("a TensorFlow graph as text", (".pbtxt",), "tf.io.write_graph(..., as_text=False)"),
    _Unread("a PyTorch model", (".pt", ".pth"), "torch.onnx.export(...)"),
)
_SAVED_MODEL = ("saved_model.pbtxt",)
_METHODS = {"onnx": "translate_onnx_model", "tensorflow": "translate_tf_model"}


def known_formats(framework: Framework | None = None) -> str:
    """The formats that are read, for messages."""
    readers = [r for r in READERS if framework in (None, r.framework)]
    return " or ".join(f"{r.title} ({', '.join(r.suffixes)})" for r in readers)


def is_model(place: str | os.PathLike[str]) -> bool:
    """Whether a file is to be parsed: by its content, by its name where that does not tell, or a folder."""
    path = Path(place)
    if path.is_dir():
        return True
    try:
        source = Source.of(path)
    except InputFileError:
        source = Source(path, None, b"")
    if any(reader.sniff(source) for reader in READERS):
        return True
    suffixes = [suffix for known in (*READERS, *UNREAD) for suffix in known.suffixes]
    return source.suffix in suffixes


def reader_of(source: Source, framework: Framework | None = None) -> Reader:
    """The reader of a model.

    Args:
        source: the model.
        framework: whose formats are expected; None: any.

    Raises:
        InputFileError: it is of another framework's format, or of none that is known.
        NotBuiltYetError: it is of a format that is not read yet.
    """
    found = next((reader for reader in READERS if reader.sniff(source)), None)
    if found is not None:
        if framework not in (None, found.framework):
            raise _other(source, found.title, framework, f"{_METHODS[found.framework]}(...)", "headrace parse FILE")
        return found
    where = source.where("model")
    unread = next((entry for entry in UNREAD if source.suffix in entry.suffixes), None)
    saved = any(name in source.members for name in _SAVED_MODEL)
    if saved or unread is not None:
        title, lever = ("a SavedModel as text", _CONVERT) if unread is None else (unread.title, unread.lever)
        rule, need = "this model format is not read yet", known_formats()
        raise NotBuiltYetError(Diagnostic("E-FORMAT-NOT-BUILT", where, rule, title, need, (lever, "export it to ONNX")))
    if source.is_folder:
        raise _other(source, "a folder", framework)
    content = content_of(source.head)
    if source.head and content is not None:
        lever = (content.read_by,) if content.read_by else ()
        raise _other(source, content.name, framework, *lever)
    # Nothing tells: a damaged file is taken for what its name or the caller says it is, and its reader says more.
    expected = [reader for reader in READERS if framework in (None, reader.framework)]
    by_name = [reader for reader in expected if source.suffix in reader.suffixes]
    if by_name or framework is not None:
        return (by_name or expected)[0]
    raise _other(source, f"bytes {source.head[:8].hex(' ')} …" if source.head else "an empty file", framework)


def _other(source: Source, got: str, framework: Framework | None, *levers: str) -> InputFileError:
    where = source.where("model")
    rule = "this is not a model of a format that is read" if framework is None else "this is a file of another kind"
    told = tuple(lever.replace("FILE", where) for lever in levers)
    return InputFileError(Diagnostic("E-PARSE-FORMAT", where, rule, got, known_formats(framework), told))
