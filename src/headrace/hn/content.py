# SPDX-License-Identifier: Apache-2.0
"""What a file is by its first bytes, for the message when it was given where another kind belongs."""

from __future__ import annotations

from typing import NamedTuple

from headrace.errors import Diagnostic, InputFileError

HEAD_BYTES = 512


class Content(NamedTuple):
    """A kind of file, and what reads it here ("" where nothing does)."""

    name: str
    read_by: str = ""


ONNX = Content("an ONNX model", "headrace parse FILE")
TFLITE = Content("a TFLite model", "headrace parse FILE")
_MAGIC: tuple[tuple[int, bytes, Content], ...] = (
    (0, b"\x01HEF", Content("a HEF", "headrace run FILE, or headrace hef info FILE")),
    (0, b"\x1f\x8b", Content("a gzip file, as a HAR is", "headrace har info FILE, or headrace compile FILE")),
    (4, b"TFL3", TFLITE),
    (0, b"\x93NUMPY", Content("a NumPy array (.npy)", "--calib-set-path FILE, or run --input-files FILE")),
    (0, b"PK\x03\x04", Content("a zip file, as .npz, .keras and PyTorch's .pt are")),
    (0, b"PK\x05\x06", Content("an empty zip file")),
    (0, b"\x89PNG", Content("a PNG picture")),
    (0, b"\xff\xd8\xff", Content("a JPEG picture")),
    (0, b"\x89HDF", Content("an HDF5 file, as Keras writes", "headrace parse FILE")),
    (0, b"\x80", Content("a Python pickle, as older PyTorch files are")),
    (257, b"ustar", Content("a tar file")),
)
_JSON = Content("JSON text")


def content_of(head: bytes) -> Content | None:
    """What begins with these bytes (:data:`HEAD_BYTES` are enough); None when that cannot be told."""
    if not head:
        return Content("an empty file")
    for offset, magic, content in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return content
    # ONNX has no magic number: field 1 is a small version, and field 2 (the producer) or 7, 8 follows.
    if head[0] == 0x08 and len(head) > 2 and 1 <= head[1] <= 0x20 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42):
        return ONNX
    return _JSON if head.lstrip()[:1] in (b"{", b"[") else None


def wrong_kind(code: str, where: str, need: str, head: bytes) -> InputFileError:
    """The error for a file that is not the kind that is needed; says what it is, where that can be told, and what
    reads it.

    Args:
        code: of the diagnostic.
        where: the file.
        need: the kind that is needed, for example ``"a HAR"``.
        head: its first bytes.
    """
    content = content_of(head)
    got = content.name if content is not None else f"bytes {head[:8].hex(' ')} …"
    levers = (content.read_by.replace("FILE", where),) if content is not None and content.read_by else ()
    return InputFileError(Diagnostic(code, where, f"this is not {need}", got, need, levers))
