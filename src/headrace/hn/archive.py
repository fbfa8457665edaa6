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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from headrace.errors import Diagnostic, InputFileError, UsageError, unknown_name
from headrace.hn import json_format, nms, strict_json, unpack, whole
from headrace.hn.arrays import dump_arrays, load_parameters
from headrace.hn.content import HEAD_BYTES, wrong_kind
from headrace.hn.files import MAX_FILE_BYTES, open_regular
from headrace.hn.network import Network
from headrace.hn.nms import NmsConfiguration
from headrace.hn.outputs import FileKind, Outputs
from headrace.hn.stages import COMPILE, PARSE, STAGES, Stage, State
from headrace.hn.unpack import bad
from headrace.hn.whole import WholeModel
from headrace.typeguards import is_list, is_object

FORMAT_VERSION = 1
MAX_JSON_VALUES = 4_000_000  # in all members together
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}\Z")


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
        whole: the steps from the file's inputs to its outputs, those of the host among them; older archives have none.
        nms: what makes boxes of the outputs, where the network ends in a detection head or the script says so.
        nms_found: the same as it was found in the file, where the script says something else.
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
    whole: WholeModel | None = None
    nms: NmsConfiguration | None = None
    nms_found: NmsConfiguration | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def product(archive: Archive, stage: Stage) -> Network | bytes | None:
    """What a stage made; None: it has not run, or its result was dropped."""
    made: Network | bytes | None = getattr(archive, stage.product)
    return made


def network_after(archive: Archive, stage: Stage) -> Network:
    """The network as a stage left it.

    Raises:
        UsageError: that stage has not run.
    """
    made = product(archive, stage)
    if not isinstance(made, Network):
        raise need(archive, stage)
    return made


def need(archive: Archive | None, stage: Stage) -> UsageError:
    """The error for what a stage makes and is not there."""
    got = "no network" if archive is None else f"a network in state {archive.state.value}"
    rule, lever = f"this needs a {stage.adjective} network", f"call {stage.call} first"
    return UsageError(Diagnostic("E-RUNNER-STATE", "ClientRunner", rule, got, stage.adjective, (lever,)))


def forget(archive: Archive, stage: Stage) -> None:
    """Drop what a stage and those after it made, because it runs again or something before it changed.

    Args:
        archive: changed in place.
        stage: the earliest whose result is dropped; not the first, without which there is no archive.
    """
    for dropped in stage.drops:
        setattr(archive, dropped.product, None)
        for report in dropped.reports:
            archive.reports.pop(report, None)
    kept = [one for one in STAGES if one not in stage.drops]
    if stage.before is PARSE:
        archive.resolved_script = ""  # nothing is left that was made by it
    archive.state = [one.state for one in kept if product(archive, one) is not None or one is PARSE][-1]
    archive.history = [h for h in archive.history if h.get("stage") in {one.name for one in kept}]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


_NETWORKS = tuple(stage for stage in STAGES if stage is not COMPILE)  # whose results are networks


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
    for stage in _NETWORKS:
        network = product(archive, stage)
        if isinstance(network, Network):
            parts[f"{net}.{stage.member}.hn"] = json_format.dumps(network)
            parts[f"{net}.{stage.member}.npz"] = dump_arrays(network.params)
    if archive.model_script:
        parts[f"{net}.alls"] = archive.model_script.encode()
    if archive.resolved_script:
        parts[f"{net}.auto.alls"] = archive.resolved_script.encode()
    for name in sorted(archive.reports):
        parts[f"{net}.{name}.json"] = _json(archive.reports[name])
    if archive.hef is not None:
        parts[f"{net}.hef"] = archive.hef
    if archive.nms is not None:
        parts[f"{net}.nms.json"] = nms.dumps(archive.nms)
    if archive.nms_found is not None:
        parts[f"{net}.nms_found.json"] = nms.dumps(archive.nms_found)
    if archive.whole is not None:
        parts |= whole.to_files(archive.whole, net)
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
    packed = _compressed(raw.getbuffer(), 6)
    if raw.tell() > unpack.allowed_bytes(len(packed)):  # constant data of a large network
        packed = _compressed(raw.getbuffer(), 0)
    return packed


def _compressed(data: bytes | memoryview, level: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=level) as packed:
        packed.write(data)
    return out.getvalue()


def _recognizes(handle: BinaryIO) -> bool:
    with gzip.GzipFile(fileobj=handle) as packed:
        start = packed.read(1 << 12)
    return start.startswith(b"metadata.json\0") and b'"headrace-har"' in start


HAR = FileKind("HAR", (".har",), _recognizes)


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
    place = outputs.add("path", Path(path), FileKind(HAR.name, (*HAR.suffixes, ""), HAR.recognizes))
    parts = members(archive)
    outputs.write({place: pack(parts)})
    return digest(parts)


def read_members(data: bytes, where: str) -> dict[str, bytes]:
    """Unpack in memory without trusting it; see :mod:`headrace.hn.unpack`."""
    return _read_members(io.BytesIO(data), len(data), where)


def _read_members(stream: BinaryIO, size: int, where: str) -> dict[str, bytes]:
    head = stream.read(HEAD_BYTES)
    if head[:2] != b"\x1f\x8b":
        raise wrong_kind("E-HAR-KIND", where, "a HAR", head)
    stream.seek(0)
    return dict(unpack.members(stream, size, where))


def open_members(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """The members of a HAR file, none of them looked into yet."""
    with open_regular(path, "HAR") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_FILE_BYTES:
            rule = f"a HAR may have at most {MAX_FILE_BYTES} bytes"
            raise InputFileError(Diagnostic("E-FILE-TOO-LARGE", str(path), rule, f"{size} bytes"))
        return _read_members(stream, size, str(path))


def load(path: str | os.PathLike[str]) -> Archive:
    """Read a HAR of any state; what its layers mean is checked by :func:`headrace.layers.open_archive`.

    Raises:
        InputFileError: it is missing, or breaks a rule of the format.
    """
    return from_members(open_members(path), str(path))


def loads(data: bytes, where: str) -> Archive:
    """As :func:`load`, from bytes."""
    return from_members(read_members(data, where), where)


def _object(parts: dict[str, bytes], name: str, where: str) -> Any:
    try:
        return strict_json.parse(parts[name])
    except ValueError as error:
        raise bad(where, f"member {name} is not JSON", error, "a JSON object") from None


@dataclass(frozen=True)
class _Metadata:
    name: str
    state: State
    hw_arch: str
    reports: list[str]
    history: list[dict[str, Any]]


def _metadata(parts: dict[str, bytes], where: str) -> _Metadata:
    """``metadata.json``, every field with its type."""
    if "metadata.json" not in parts:
        raise bad(where, "metadata.json is absent", ", ".join(parts), "metadata.json")
    meta = _object(parts, "metadata.json", where)
    if not is_object(meta):
        raise bad(where, "metadata.json is no object", type(meta).__name__, "the fields of docs/formats/har.md")
    version = meta.get("version")
    if type(version) is int and version > FORMAT_VERSION:
        raise bad(where, "the archive is of a newer format", version, f"≤ {FORMAT_VERSION}")
    name, state, arch = (meta.get(key) for key in ("name", "state", "hw_arch"))
    reports, history = meta.get("reports"), meta.get("history")
    states = [s.value for s in State]
    rules: tuple[tuple[str, bool, object, str], ...] = (
        ("format", meta.get("format") == "headrace-har", meta.get("format"), "headrace-har"),
        ("version", type(version) is int and version >= 1, version, f"1 … {FORMAT_VERSION}"),
        ("name", isinstance(name, str) and bool(_NAME.match(name)), name, "a network's name"),
        ("state", isinstance(state, str) and state in states, state, ", ".join(states)),
        ("hw_arch", isinstance(arch, str) and arch.isprintable() and 0 < len(arch) <= 4096, arch, "a target's name"),
        (
            "reports",
            is_list(reports) and all(isinstance(r, str) and f"{name}.{r}.json" in parts for r in reports),
            reports,
            "names of members that exist",
        ),
        (
            "history",
            is_list(history) and all(is_object(h) and isinstance(h.get("stage"), str) for h in history),
            type(history).__name__,
            "a list of objects with a stage",
        ),
    )
    for field_name, holds, got, need in rules:
        if not holds:
            raise bad(where, f"field {field_name!r} of metadata.json is not valid", repr(got)[:200], need)
    return _Metadata(str(name), State(state), str(arch), list(reports or []), list(history or []))


def from_members(parts: dict[str, bytes], where: str) -> Archive:
    """The archive that members make up.

    Raises:
        InputFileError: they break a rule of the format.
    """
    values = sum(strict_json.count_values(data) for name, data in parts.items() if name.endswith((".hn", ".json")))
    if values > MAX_JSON_VALUES:
        raise bad(where, "the texts hold too many values", values, f"≤ {MAX_JSON_VALUES}")
    meta = _metadata(parts, where)
    name = meta.name
    archive = Archive(name=name, state=meta.state, hw_arch=meta.hw_arch, history=meta.history)
    for stage in _NETWORKS:
        text, arrays = f"{name}.{stage.member}.hn", f"{name}.{stage.member}.npz"
        if text in parts:
            network = json_format.loads(parts[text], f"{where}: {text}")
            if network.name != name:
                raise bad(where, f"{text} is of another network", network.name, name)
            if arrays not in parts:
                raise bad(where, "a network has no parameters", text, arrays)
            network.params = load_parameters(parts[arrays], f"{where}: {arrays}", network)
            setattr(archive, stage.product, network)
    try:
        archive.model_script = parts.get(f"{name}.alls", b"").decode("utf-8")
        archive.resolved_script = parts.get(f"{name}.auto.alls", b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad(where, "a model script is not UTF-8", error, "UTF-8 text") from None
    archive.reports = {r: _object(parts, f"{name}.{r}.json", where) for r in meta.reports}
    archive.hef = parts.get(f"{name}.hef")
    archive.nms = _nms(parts, f"{name}.nms.json", where)
    archive.nms_found = _nms(parts, f"{name}.nms_found.json", where)
    archive.whole = whole.from_files(parts, name, where)
    _check_state(archive, where)
    return archive


def _nms(parts: dict[str, bytes], member: str, where: str) -> NmsConfiguration | None:
    return nms.loads(parts[member], f"{where}: {member}") if member in parts else None


def _check_state(archive: Archive, where: str) -> None:
    (stage,) = (one for one in STAGES if one.state is archive.state)
    if product(archive, stage) is None:
        raise bad(
            where, "the archive lacks what its state promises", archive.state.value, "the network or HEF of that state"
        )


def info(parts: dict[str, bytes], archive: Archive) -> dict[str, Any]:
    """Facts for ``har info``: name, state, target, digest, members with sizes, history."""
    return {
        "name": archive.name,
        "state": archive.state.value,
        "hw_arch": archive.hw_arch,
        **({} if archive.nms is None else {"nms": nms.to_dict(archive.nms)}),
        "digest": digest(parts),
        "members": [{"name": n, "bytes": len(b)} for n, b in parts.items()],
        "history": archive.history,
    }


def extract(
    parts: dict[str, bytes],
    where: str,
    folder: str | os.PathLike[str],
    only: list[str] | None = None,
    force: bool = False,
) -> list[str]:
    """Write the members (or those named) into ``folder``; returns the paths written.

    Raises:
        UsageError: there is no such member, or a file with other contents stands in the way (``force`` replaces it).
    """
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
