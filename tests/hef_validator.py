# SPDX-License-Identifier: Apache-2.0
"""The rules a HEF must keep, checked by a reader of its own.

Nothing of ``headrace.hef`` is used: the header is unpacked here and the protobuf is read field by field from its wire
form, so a mistake in our schema or writer cannot hide. ``validate`` gives one line per broken rule, beginning with
the rule's name. The first group are rules of the public container (``docs/formats/hef.md``); rules named ``mark-…``
are ours: they keep a file from ever being loadable by a real device.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

KNOWN_EXTENSIONS = {*range(7), *range(9, 33)}
FORMATS = {0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 16}
LOADABLE_ARCHS = {1, 2, 3}  # accepted at configure by a Hailo-8 or Hailo-8L
MICROCODE = "headrace.microcode"

Fields = dict[int, list[Any]]


class WireError(Exception):
    """The bytes are not a protobuf message."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise WireError("a varint is cut off")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value & (2**64 - 1), at + i + 1
    raise WireError("a varint is longer than 10 bytes")


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value): int for 0, bytes for 1, 2 and 5."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field number 0")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise WireError(f"wire type {wire}")
        if at + size > len(data):
            raise WireError("a field reaches past the end")
        yield number, wire, data[at : at + size]
        at += size


def message(data: bytes) -> Fields:
    """All values by tag (field number · 8 + wire type), in file order.

    As everywhere in protobuf a field of an unexpected wire type is an unknown field, hence the key.
    """
    found: Fields = {}
    for number, wire, value in _fields(data):
        found.setdefault(number << 3 | wire, []).append(value)
    return found


def _number(fields: Fields, key: int) -> int:
    return fields.get(key << 3, [0])[-1]


def _float(fields: Fields, key: int) -> float:
    return struct.unpack("<f", fields.get(key << 3 | 5, [b"\0\0\0\0"])[-1])[0]


def _all(fields: Fields, key: int) -> list[bytes]:
    return fields.get(key << 3 | 2, [])


def _text(fields: Fields, key: int) -> str:
    return (_all(fields, key) or [b""])[-1].decode()


def _message(fields: Fields, key: int) -> Fields:
    """A message that is not repeated; several occurrences count as merged, which is the same as joined."""
    return message(b"".join(_all(fields, key)))


def _messages(fields: Fields, key: int) -> list[Fields]:
    return [message(value) for value in _all(fields, key)]


def validate(data: bytes) -> list[str]:
    """Every broken rule; an empty list means the file is right."""
    found: list[str] = []
    if len(data) < 28:
        return ["header-size: fewer than 28 bytes"]
    magic, version, proto_size, crc, ccws_size, reserved = struct.unpack(">4sIIIQI", data[:28])
    if magic != b"\x01HEF":
        found.append(f"header-magic: {magic!r}")
    if version != 1:
        found.append(f"header-version: {version}")
    if reserved:
        found.append(f"header-reserved: {reserved}")
    if len(data) - 28 != proto_size + ccws_size:
        return [*found, f"header-length: {len(data) - 28} != {proto_size} + {ccws_size}"]
    if zlib.crc32(data[28:]) != crc:
        found.append("header-crc: mismatch")
    try:
        _hef(message(data[28 : 28 + proto_size]), ccws_size, found)
    except (WireError, UnicodeDecodeError) as error:
        found.append(f"protobuf: {error}")
    return found


def _hef(hef: Fields, ccws_size: int, found: list[str]) -> None:
    header = _message(hef, 1)
    arch = _number(header, 1)
    if _number(header, 4) < 1:
        found.append("format-version: header.version is 0")
    if arch in LOADABLE_ARCHS:
        found.append(f"mark-loadable: hw_arch {arch} is accepted by real devices")
    if arch != 101:
        found.append(f"mark-arch: hw_arch {arch}, not 101")
    if _number(header, 2):
        found.append("timestamp: not 0")
    extensions = [_number(e, 1) for e in _messages(hef, 5)]
    if 26 not in extensions:
        found.append("extension-26: missing")
    unknown = [e for e in extensions if e not in KNOWN_EXTENSIONS]
    if unknown:
        found.append(f"extension-unknown: {unknown}")
    if 13 in extensions:
        found.append("extension-13: ops are not used here")
    _resources(hef, ccws_size, found)
    groups = _messages(hef, 2)
    if len(groups) != 1:
        found.append(f"group-count: {len(groups)}")
    for group in groups:
        _group(group, 25 in extensions, found)


def _resources(hef: Fields, ccws_size: int, found: list[str]) -> None:
    resources = _messages(hef, 7)
    ours = [r for r in resources if _text(r, 3) == MICROCODE]
    if len(ours) != 1:
        found.append(f"microcode-resource: {len(ours)} of them")
    for resource in resources:
        if _number(resource, 2) == 0 or _number(resource, 1) + _number(resource, 2) > ccws_size:
            found.append("microcode-place: outside the configuration section")


def _group(group: Fields, several: bool, found: list[str]) -> None:
    metadata = _message(group, 1)
    name = _text(metadata, 1)
    if not name or len(f"{name}/{name}".encode()) > 256:
        found.append(f"group-name: {name!r}")
    channels = _number(metadata, 5)
    if channels > 255:
        found.append(f"cfg-channels: {channels} does not fit a byte")
    if channels != 255:
        found.append(f"mark-channels: {channels}, not 255")
    if _all(group, 7):
        found.append("layouts: partial network groups")
    if _all(group, 8) or _all(group, 9) or _all(group, 5):
        found.append("ops: host operations or fused layers")
    if _message(group, 2):
        found.append("mark-actions: preliminary configuration")
    contexts = _messages(group, 3)
    if not contexts:
        found.append("contexts: none")
    if [_number(c, 1) for c in contexts] != list(range(len(contexts))):
        found.append("context-index: not 0, 1, …")
    if any(_all(c, 2) for c in contexts):
        found.append("mark-actions: an operation in a context")
    edges = [e for c in contexts for e in _messages(_message(c, 3), 2)]
    outputs = _edges(edges, several, found)
    order = [v.decode() for v in _all(group, 4)]
    if not order:
        found.append("sorted-outputs: absent")
    elif sorted(order) != sorted(outputs):
        found.append(f"sorted-outputs: {order} != {outputs}")


def _edges(edges: list[Fields], several: bool, found: list[str]) -> list[str]:
    """Checks all edge layers; gives the names of the outputs."""
    names: list[str] = []
    directions: list[int] = []
    for edge in edges:
        if _number(edge, 2) != 0 or not _all(edge, 3) or _all(edge, 4) or _all(edge, 8):
            found.append("edge-type: not an info layer")
        if _number(_message(edge, 5), 3) != 0:
            found.append("edge-connection: not a boundary layer")
        directions.append(_number(edge, 1))
        info = _message(edge, 3)
        names.append(_text(info, 1))
        _info(names[-1], info, found)
        _quantization(info, directions[-1] == 1, several, found)
    if not set(directions) <= {0, 1}:
        found.append(f"edge-direction: {directions}")
    for direction, kind in ((0, "input"), (1, "output")):
        if direction not in directions:
            found.append(f"boundary: no {kind} layer")
    if len(set(names)) != len(names):
        found.append("names-unique: a layer name occurs twice")
    if len(names) > 40:
        found.append(f"streams: {len(names)}")
    return [n for n, d in zip(names, directions, strict=True) if d == 1]


def _info(name: str, info: Fields, found: list[str]) -> None:
    if not 1 <= len(name.encode()) <= 127:
        found.append(f"name-length: {len(name.encode())} bytes")
    for original in _all(info, 5):
        original.decode()
    base = _message(info, 2)
    if _number(info, 6):
        found.append("transposed: set")
    if _number(base, 7) not in FORMATS:
        found.append(f"format: {_number(base, 7)}")
    data_bytes = _number(base, 12)
    if data_bytes not in (1, 2):
        found.append(f"data-bytes: {data_bytes}")
    plain, padded = [_number(base, k) for k in (1, 3, 5)], [_number(base, k) for k in (2, 4, 6)]
    if min(plain) < 1 or any(p < q for p, q in zip(padded, plain, strict=True)):
        found.append(f"shape: {plain}, padded {padded}")
    if math.prod(padded) * data_bytes >= 2**32:
        found.append(f"frame-size: {padded}")
    if max(_number(base, 9), _number(base, 10)) > 65535:
        found.append("buffer-size: above 65535")
    row = padded[1] * padded[2] * data_bytes
    if _number(base, 9) not in (0, row):
        found.append(f"buffer-row: {_number(base, 9)}, a row has {row}")
    if max(_number(base, 8), _number(base, 16)) > 255:
        found.append("index-byte: sys_index or engine_id above 255")
    if len(_all(base, 13)) != 1:
        found.append(f"buffer-indices: {len(_all(base, 13))} entries")
    if _number(base, 14):
        found.append("host-argmax: set")
    if _all(base, 11):
        found.append("nms: on-chip NMS information")


def doubles(fields: Fields, key: int) -> list[float]:
    """A repeated double, packed or not."""
    data = b"".join(_all(fields, key)) or b"".join(fields.get(key << 3 | 1, []))
    if len(data) % 8:
        raise WireError("packed doubles are cut off")
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def _quantization(info: Fields, output: bool, several: bool, found: list[str]) -> None:
    """One scale, or with extension 25 (``several``) a list for every stream, of which only outputs' may differ."""
    base, numbers = _message(info, 2), _message(info, 3)
    features, codes = _number(base, 5), 256 ** max(_number(base, 12), 1)
    zero, scale = _float(numbers, 1), _float(numbers, 2)
    zeros, scales = doubles(numbers, 5), doubles(numbers, 6)
    own = several and output and scale == 0
    if several and not len(zeros) == len(scales) == features:
        found.append(f"per-feature: {len(scales)} scales and {len(zeros)} zero points for {features} features")
    elif not several and (zeros or scales):
        found.append("per-feature: scales per feature without extension 25")
    elif not own and any((z, s) != (zero, scale) for z, s in zip(zeros, scales, strict=True)):
        found.append("per-feature: a stream of one scale lists others")
    elif own and zero:
        found.append(f"per-feature: zero point {zero} beside a list")
    for one in scales if own else [scale]:
        if not (math.isfinite(one) and one > 0 and struct.unpack("<f", struct.pack("<f", one))[0] == one):
            found.append(f"scale: {one}")
    for one in zeros if own else [zero]:
        whole = math.isfinite(one) and one == int(one)
        # Real zero is a code of an input; an output's may lie outside, as far as float32 counts.
        if not whole or not (abs(one) <= 2**24 if output else 0 <= one < codes):
            found.append(f"zero-point: {one}")
