# SPDX-License-Identifier: Apache-2.0
"""What a TensorFlow model is, and where its files are: told by content, whichever of them was given.

Protocol buffers have no magic number. A graph begins with a node, whose first field is its name and whose second an
operator; a meta graph with a message that holds no name first; a SavedModel with its version, and a meta graph behind.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headrace.errors import Diagnostic, InputFileError
from headrace.frontends.formats.tensorflow.table import is_table
from headrace.frontends.reader import Source
from headrace.hn.files import open_regular

Kind = Literal["graph", "meta", "saved", "index", "checkpoint", "data"]
_DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_STATE = re.compile(r'^(all_)?model_checkpoint_path: "([^"\n]{1,4096})"\s*$', re.MULTILINE)
SAVED = "saved_model.pb"
_NODE_FIELDS = frozenset({0x12, 0x1A, 0x22, 0x2A, 0x32})  # operator, input, device, attribute, debug information
_META_FIELDS = frozenset({0x12, 0x1A, 0x22, 0x2A, 0x32, 0x38, 0x42})
_MAX_STATE = 1 << 20
#: Bytes of a checkpoint's name: file systems take 255 with what is added to it.
_LONGEST_NAME = 200


def _length(head: bytes, at: int) -> tuple[int, int] | None:
    """The length of a message that begins at ``at``, and where its content begins."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(head):
            return None
        value |= (head[at] & 0x7F) << shift
        at += 1
        if head[at - 1] < 0x80:
            return value, at
    return None


def _printable(text: bytes) -> bool:
    return bool(text) and all(0x20 < b < 0x7F for b in text)


def _is_graph(head: bytes) -> bool:
    """Whether it begins with a node: a name of printable characters, then another field of a node."""
    outer = _length(head, 1) if head[:1] == b"\x0a" else None
    if outer is None or head[outer[1] : outer[1] + 1] != b"\x0a":
        return False
    inner = _length(head, outer[1] + 1)
    if inner is None or not 0 < inner[0] < outer[0]:
        return False
    name, end = head[inner[1] : inner[1] + inner[0]], inner[1] + inner[0]
    return _printable(name) and (end >= len(head) or head[end] in _NODE_FIELDS)


def _is_meta(head: bytes) -> bool:
    """Whether it begins with information about a meta graph: no name, but the list of its operators, or tags."""
    outer = _length(head, 1) if head[:1] == b"\x0a" else None
    if outer is None or outer[0] < 2 or outer[1] >= len(head) or head[outer[1]] not in _META_FIELDS:
        return False
    inner = _length(head, outer[1] + 1)
    return inner is not None and inner[0] < outer[0]


def _is_saved(head: bytes) -> bool:
    """Whether it begins with version 1 and a meta graph. (ONNX has a producer's name there, which is text.)"""
    if head[:3] != b"\x08\x01\x12":
        return False
    outer = _length(head, 3)
    return outer is not None and outer[0] > 4 and _is_meta(head[outer[1] :])


def kind_of_head(head: bytes) -> Kind | None:
    """What begins with these bytes."""
    if _is_saved(head):
        return "saved"
    if _is_graph(head):
        return "graph"
    if _is_meta(head):
        return "meta"
    text = head.lstrip()
    return "checkpoint" if text.startswith((b'model_checkpoint_path: "', b'all_model_checkpoint_path: "')) else None


def _tail(path: Path) -> bytes:
    try:
        with open_regular(path, "model") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - 8, 0))
            return file.read(8)
    except InputFileError:
        return b""


def kind_of(source: Source) -> Kind | None:
    """What a file is; None for what is none of these, and for folders."""
    if source.is_folder:
        return None
    found = kind_of_head(source.head)
    if found is not None:
        return found
    if source.path is not None and is_table(_tail(source.path)):
        return "index"
    shard = _DATA.fullmatch(source.path.name) if source.path is not None else None
    if source.path is not None and shard and is_table(_tail(source.path.with_name(f"{shard[1]}.index"))):
        return "data"
    if source.data is not None and is_table(source.data[-8:]):
        return "index"
    return None


@dataclass(frozen=True)
class Place:
    """Where a model lies.

    Attributes:
        kind: "graph", "meta" or "saved".
        path: of the file with the graph; None for bytes.
        prefix: of its checkpoint, to which ``.index`` belongs; None where there is none.
    """

    kind: Literal["graph", "meta", "saved"]
    path: Path | None
    prefix: Path | None


def _wrong(where: str, rule: str, got: str, need: str, *levers: str) -> InputFileError:
    return InputFileError(Diagnostic("E-TENSORFLOW-FILES", where, rule, got, need, levers))


def _bundle(prefix: Path) -> Path | None:
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


def _of_prefix(prefix: Path) -> Place:
    """The model whose checkpoint has this prefix: its meta graph beside it, or the SavedModel above it."""
    meta = prefix.with_name(f"{prefix.name}.meta")
    if meta.is_file():
        return Place("meta", meta, _bundle(prefix))
    saved = prefix.parent.parent / SAVED
    if prefix.parent.name == "variables" and saved.is_file():
        return _of_saved(saved.parent)
    need = f"{meta.name} beside it"
    raise _wrong(
        prefix.name, "a checkpoint holds values, not the graph, and there is no meta graph beside it", "no .meta file",
        need, "save with tf.compat.v1.train.Saver, which writes it, or export a SavedModel",
    )  # fmt: skip


def _of_saved(folder: Path) -> Place:
    return Place("saved", folder / SAVED, _bundle(folder / "variables" / "variables"))


def _of_state(path: Path, text: str) -> Place:
    """The checkpoint that the file ``checkpoint`` of a folder names as the latest, wherever it was written."""
    names = [m[2] for m in _STATE.finditer(text) if not m[1]]
    if not names:
        raise _wrong(path.name, "it names no checkpoint", text[:60], 'model_checkpoint_path: "NAME"')
    name = names[0].replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", "..") or "\x00" in name or len(name.encode()) > _LONGEST_NAME:
        raise _wrong(path.name, "it names no checkpoint", names[0][:60], 'model_checkpoint_path: "NAME"')
    return _of_prefix(path.with_name(name))


def _of_folder(source: Source) -> Place:
    assert source.path is not None
    if SAVED in source.members:
        return _of_saved(source.path)
    if "checkpoint" in source.members:
        state = source.path / "checkpoint"
        with open_regular(state, "state of the checkpoints") as file:
            return _of_state(state, file.read(_MAX_STATE).decode("utf-8", "replace"))
    metas = [m for m in source.members if m.endswith(".meta")]
    if len(metas) != 1:
        need = "one meta graph, or a file 'checkpoint' that names the latest"
        raise _wrong(source.path.name, "the folder holds several checkpoints", ", ".join(metas[:8]), need, "name one")
    return _of_prefix(source.path / metas[0].removesuffix(".meta"))


def is_place(source: Source) -> bool:
    """Whether a file or folder is a TensorFlow model, or one of its files."""
    if source.is_folder:
        members = source.members
        return SAVED in members or "checkpoint" in members or any(m.endswith(".meta") for m in members)
    return kind_of(source) is not None


def place_of(source: Source) -> Place:
    """Where the files of a model are.

    Raises:
        InputFileError: some are missing, or it is not clear which is meant.
    """
    if source.is_folder:
        return _of_folder(source)
    kind, path = kind_of(source), source.path
    if kind in ("index", "data", "checkpoint") and path is None:
        raise _wrong("model", "of bytes only a graph can be read", f"a checkpoint's {kind}", "its path")
    if path is None:
        return Place(kind if kind in ("meta", "saved") else "graph", None, None)
    if kind == "index":
        return _of_prefix(path.with_name(path.name.removesuffix(".index")))
    if kind == "data":
        shard = _DATA.fullmatch(path.name)
        assert shard is not None
        return _of_prefix(path.with_name(shard[1]))
    if kind == "checkpoint":
        with open_regular(path, "state of the checkpoints") as file:
            return _of_state(path, file.read(_MAX_STATE).decode("utf-8", "replace"))
    if kind == "saved":
        return Place("saved", path, _bundle(path.parent / "variables" / "variables"))
    if kind == "meta":
        return Place("meta", path, _bundle(path.with_name(path.name.removesuffix(".meta"))))
    return Place("graph", path, None)


__all__ = ["Kind", "Place", "is_place", "kind_of", "kind_of_head", "place_of"]
