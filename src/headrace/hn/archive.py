# SPDX-License-Identifier: Apache-2.0
"""The archive (HAR) that carries a network through the stages (``docs/formats/har.md``).

A HAR is a gzip tar with members in fixed order, no dates, owners, host names or paths. Its identity is a digest over
the members, so two archives with one digest hold the same bytes whatever compressed them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from headrace.errors import Diagnostic, InputFileError, UsageError, unknown_name
from headrace.hn import json_format
from headrace.hn.arrays import dump_arrays, load_arrays
from headrace.hn.files import read_bytes
from headrace.hn.network import Network
from headrace.hn.outputs import FileKind, Outputs

FORMAT_VERSION = 1
MAX_MEMBERS = 64
MAX_MEMBER_BYTES = 4 << 30
MAX_TOTAL_BYTES = 8 << 30
MAX_JSON_BYTES = 256 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}\Z")


class State(str, Enum):
    """How far a network has come; the order is that of the stages."""

    HAILO_MODEL = "hailo_model"
    FP_OPTIMIZED_MODEL = "fp_optimized_model"
    QUANTIZED_MODEL = "quantized_model"
    COMPILED_MODEL = "compiled_model"

    @property
    def rank(self) -> int:
        return list(State).index(self)


@dataclass
class Archive:
    """What a HAR holds. Networks, reports and texts of stages not reached are ``None`` or absent.

    Attributes:
        name: network name.
        state: the latest stage reached.
        hw_arch: target the later stages are for.
        native, fp_optimized, quantized: the network after each stage.
        model_script, resolved_script: `.alls` text as given and as carried out.
        reports: plain JSON by name (``parse``, ``optimize``, ``compile`` …).
        hef: the executable.
        history: what each stage did: versions, seed, options, decisions (no time, no path, no host).
    """

    name: str
    state: State = State.HAILO_MODEL
    hw_arch: str = "hailo8"
    native: Network | None = None
    fp_optimized: Network | None = None
    quantized: Network | None = None
    model_script: str = ""
    resolved_script: str = ""
    reports: dict[str, Any] = field(default_factory=dict)
    hef: bytes | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


_NETWORKS = (("native", "native"), ("fp", "fp_optimized"), ("quantized", "quantized"))


def members(archive: Archive) -> dict[str, bytes]:
    """Member name → bytes, in archive order."""
    net = archive.name
    parts: dict[str, bytes] = {}
    metadata = {
        "format": "headrace-har",
        "version": FORMAT_VERSION,
        "name": net,
        "state": archive.state.value,
        "hw_arch": archive.hw_arch,
        "reports": sorted(archive.reports),
        "history": archive.history,
    }
    parts["metadata.json"] = _json(metadata)
    for short, attribute in _NETWORKS:
        network: Network | None = getattr(archive, attribute)
        if network is not None:
            parts[f"{net}.{short}.hn"] = json_format.dumps(network)
            parts[f"{net}.{short}.npz"] = dump_arrays(network.params)
    if archive.model_script:
        parts[f"{net}.alls"] = archive.model_script.encode()
    if archive.resolved_script:
        parts[f"{net}.auto.alls"] = archive.resolved_script.encode()
    for name in sorted(archive.reports):
        parts[f"{net}.{name}.json"] = _json(archive.reports[name])
    if archive.hef is not None:
        parts[f"{net}.hef"] = archive.hef
    return parts


def digest(parts: dict[str, bytes]) -> str:
    """SHA-256 over names, lengths and bytes of the members, in order of name."""
    h = hashlib.sha256()
    for name in sorted(parts):
        h.update(f"{name}\0{len(parts[name])}\0".encode())
        h.update(parts[name])
    return h.hexdigest()


def dump(archive: Archive) -> bytes:
    """The archive as bytes of a gzip tar."""
    return pack(members(archive))


def pack(parts: dict[str, bytes]) -> bytes:
    """Members as bytes of a gzip tar."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 0, 0o644
            tar.addfile(info, io.BytesIO(data))
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed:
        packed.write(raw.getvalue())
    return out.getvalue()


def _recognises(handle: BinaryIO) -> bool:
    with gzip.GzipFile(fileobj=handle) as packed:
        start = packed.read(1 << 12)
    return start.startswith(b"metadata.json\0") and b'"headrace-har"' in start


HAR = FileKind("HAR", (".har",), _recognises)


def save(archive: Archive, path: str | os.PathLike[str], force: bool = False) -> str:
    """Write atomically; returns the digest.

    Args:
        archive: what to write.
        path: any name; a HAR that stands there is replaced.
        force: anything else that stands there is replaced too.

    Raises:
        UsageError: a file that is no HAR stands there. InputFileError: it cannot be written.
    """
    outputs = Outputs(force=force, lever="force=True")
    place = outputs.add("path", Path(path), FileKind(HAR.name, (*HAR.suffixes, ""), HAR.recognises))
    parts = members(archive)
    outputs.write({place: pack(parts)})
    return digest(parts)


def _bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    levers = ("make the archive again, or check that the file was copied whole",)
    return InputFileError(Diagnostic("E-HAR-CORRUPT", where, rule, str(got)[:300], str(need), levers))


def read_members(data: bytes, where: str) -> dict[str, bytes]:
    """Unpack in memory without trusting it: plain files only, flat names, limits on count and unpacked size."""
    parts: dict[str, bytes] = {}
    total = 0
    try:
        stream = _Limited(gzip.GzipFile(fileobj=io.BytesIO(data)), where)
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
            for info in tar:
                if not info.isreg():
                    raise _bad(where, "a member is not a plain file", info.name, "plain files")
                if not _NAME.match(info.name):
                    raise _bad(
                        where, "a member's name is not allowed", info.name, "letters, digits, '.', '_', '-'; no folder"
                    )
                if info.name in parts or len(parts) >= MAX_MEMBERS:
                    raise _bad(
                        where, "there are too many members, or one twice", info.name, f"≤ {MAX_MEMBERS}, each once"
                    )
                total += info.size
                if info.size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
                    raise _bad(where, "the members are too large", f"{total} bytes", f"≤ {MAX_TOTAL_BYTES}")
                handle = tar.extractfile(info)
                body = b"" if handle is None else handle.read()
                if len(body) != info.size:
                    raise _bad(where, f"member {info.name} is cut short", len(body), info.size)
                parts[info.name] = body
        while stream.read(1 << 20):  # to the end, so that gzip's own checksum is compared
            pass
    except InputFileError:
        raise
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise _bad(where, "it is not a readable HAR", f"{type(error).__name__}: {error}", "a gzip tar") from None
    if not parts:
        raise _bad(where, "the archive is empty", "no member", "metadata.json and a network")
    return parts


class _Limited:
    """A readable stream that stops a decompression bomb."""

    def __init__(self, stream: gzip.GzipFile, where: str) -> None:
        self.stream, self.where, self.left = stream, where, MAX_TOTAL_BYTES + (1 << 20)

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise _bad(
                self.where, "it unpacks to more than allowed", f"> {MAX_TOTAL_BYTES} bytes", f"≤ {MAX_TOTAL_BYTES}"
            )
        return data


def load(path: str | os.PathLike[str]) -> Archive:
    """Read a HAR of any state.

    Raises:
        InputFileError: it is missing, or breaks a rule of the format.
    """
    return loads(read_bytes(path, "HAR"), str(path))


def _object(parts: dict[str, bytes], name: str, where: str) -> Any:
    if len(parts[name]) > MAX_JSON_BYTES:
        raise _bad(where, f"member {name} is too large", len(parts[name]), f"≤ {MAX_JSON_BYTES}")
    try:
        return json.loads(parts[name].decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _bad(where, f"member {name} is not JSON", error, "a JSON object") from None


def loads(data: bytes, where: str) -> Archive:
    """As :func:`load`, from bytes."""
    parts = read_members(data, where)
    if "metadata.json" not in parts:
        raise _bad(where, "metadata.json is absent", ", ".join(parts), "metadata.json")
    meta = _object(parts, "metadata.json", where)
    try:
        name, version = meta["name"], meta["version"]
        state, arch, reports, history = State(meta["state"]), meta["hw_arch"], meta["reports"], meta["history"]
        fine = (
            isinstance(name, str)
            and _NAME.match(name)
            and isinstance(arch, str)
            and isinstance(history, list)
            and isinstance(reports, list)
            and all(isinstance(r, str) and f"{name}.{r}.json" in parts for r in reports)
        )
    except (TypeError, KeyError, ValueError) as error:
        raise _bad(
            where,
            "metadata.json is not complete",
            f"{type(error).__name__}: {error}",
            "the fields of docs/formats/har.md",
        ) from None
    if type(version) is not int or version > FORMAT_VERSION:
        raise _bad(where, "the archive is of a newer format", version, f"≤ {FORMAT_VERSION}")
    if not fine:
        raise _bad(where, "metadata.json does not match the members", meta.get("name"), "names of members that exist")
    archive = Archive(name=name, state=state, hw_arch=arch, history=history)
    for short, attribute in _NETWORKS:
        text, arrays = f"{name}.{short}.hn", f"{name}.{short}.npz"
        if text in parts:
            network = json_format.loads(parts[text], f"{where}: {text}")
            if arrays not in parts:
                raise _bad(where, "a network has no parameters", text, arrays)
            network.params = load_arrays(parts[arrays], f"{where}: {arrays}")
            setattr(archive, attribute, network)
    try:
        archive.model_script = parts.get(f"{name}.alls", b"").decode("utf-8")
        archive.resolved_script = parts.get(f"{name}.auto.alls", b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(where, "a model script is not UTF-8", error, "UTF-8 text") from None
    archive.reports = {r: _object(parts, f"{name}.{r}.json", where) for r in reports}
    archive.hef = parts.get(f"{name}.hef")
    _check_state(archive, where)
    return archive


def _check_state(archive: Archive, where: str) -> None:
    need = {
        State.HAILO_MODEL: archive.native,
        State.FP_OPTIMIZED_MODEL: archive.fp_optimized,
        State.QUANTIZED_MODEL: archive.quantized,
        State.COMPILED_MODEL: archive.hef,
    }[archive.state]
    if need is None:
        raise _bad(
            where, "the archive lacks what its state promises", archive.state.value, "the network or HEF of that state"
        )


def info(data: bytes, where: str) -> dict[str, Any]:
    """Facts for ``har info``: name, state, target, digest, members with sizes, history."""
    archive = loads(data, where)
    parts = read_members(data, where)
    return {
        "name": archive.name,
        "state": archive.state.value,
        "hw_arch": archive.hw_arch,
        "digest": digest(parts),
        "members": [{"name": n, "bytes": len(b)} for n, b in parts.items()],
        "history": archive.history,
    }


def extract(
    data: bytes, where: str, folder: str | os.PathLike[str], only: list[str] | None = None, force: bool = False
) -> list[str]:
    """Write the members (or those named) into ``folder``; returns the paths written.

    Raises:
        UsageError: there is no such member, or a file with other contents stands in the way (``force`` replaces it).
    """
    parts = read_members(data, where)
    for name in only or []:
        if name not in parts:
            raise UsageError(unknown_name("E-HAR-NO-MEMBER", "member", name, parts, where))
    # A member that was extracted before may have been edited since, so only equal bytes are no obstacle.
    outputs = Outputs([where], force)
    chosen: dict[Path, bytes] = {}
    for name in dict.fromkeys(only or parts):
        kind = FileKind("member", (Path(name).suffix,), lambda handle: False)
        path = outputs.add("--output-dir", Path(folder) / name, kind, makes_folder=True, content=parts[name])
        chosen[path] = parts[name]
    outputs.write(chosen)
    return [str(path) for path in chosen]
