# SPDX-License-Identifier: Apache-2.0
"""Writing and reading the HEF container (docs/formats/hef.md).

Header version 1 (28 bytes, big-endian, CRC-32), protobuf description, configuration section. The configuration
section holds our microcode and nothing else; an external resource points at it. No context has an operation, so a host
has nothing to send to a chip, and ``hw_arch`` 101 is accepted by none.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError

from headrace.errors import Diagnostic, InputFileError, UsageError
from headrace.hef import microcode as isa
from headrace.hef.description import (
    MAX_CONTEXTS,
    MAX_STREAMS,
    HefDescription,
    StreamDescription,
    check_description,
)
from headrace.hef.schema import HefMessage
from headrace.hn import nms, whole
from headrace.hn.content import HEAD_BYTES, content_of, wrong_kind
from headrace.hn.files import open_regular, read_bytes
from headrace.hn.outputs import FileKind

__all__ = [
    "CFG_CHANNELS_COUNT",
    "HEF",
    "HW_ARCH",
    "Hef",
    "HefDescription",
    "HefFacts",
    "StreamDescription",
    "read_hef",
    "read_hef_bytes",
    "read_hef_file",
    "write_hef",
]

MAGIC = 0x01484546  # bytes 01 'H' 'E' 'F'
HEADER = struct.Struct(">IIIIQI")  # magic, version, proto_size, crc, ccws_size, reserved
CONTAINER_VERSION = 1
FORMAT_VERSION = 1  # header.version of the description; 0 makes hosts ignore the extensions
HW_ARCH = 101  # parsed by every host library, accepted by no device
CFG_CHANNELS_COUNT = 255  # more than a host can allocate
#: An optional extension of our own: hosts look at none but two of them, and show none. Its name holds the frames.
EXTENSION_RANDOM_CALIBRATION, RANDOM_CALIBRATION = 48101, "HEADRACE_RANDOM_CALIBRATION:"
EXTENSION_PERIPH_CALCULATION = 26  # demanded by hosts from 4.21 on
EXTENSION_SCALE_PER_FEATURE = 25  # some output has a scale per channel; then every stream lists one per channel
MAX_PROTO_BYTES = 1 << 20  # bounds the memory of a parsed description
MAX_FILE_BYTES = 4 << 30
MAX_BUFFER_FIELD = 65535
RESOURCE_PREFIX = "headrace."  # of what the configuration section holds for us
NMS_RESOURCE = "headrace.nms"  # JSON that makes boxes of the outputs (docs/formats/nms.md)
WHOLE_PREFIX = "headrace"  # of the files of the whole model (headrace.hn.whole)
_FORMATS = {"NHWC": 0, "NC": 2}
_ORDERS = {0: "NHWC", 13: "NHWC", 2: "NC"}
_LEVERS = ("compile the network again",)


@dataclass(frozen=True)
class HefFacts:
    """What stands in the file beside the description, unchanged."""

    file_bytes: int
    proto_bytes: int
    configuration_bytes: int
    crc32: int
    hw_arch: int
    format_version: int
    timestamp: int
    cfg_channels_count: int
    extensions: tuple[int, ...]
    resources: tuple[tuple[str, int, int], ...]  # (name, offset in the configuration section, size)


@dataclass(frozen=True)
class Hef:
    """A HEF that was read: description, microcode (still undecoded), raw facts, and what else it carries by name."""

    description: HefDescription
    microcode: bytes
    facts: HefFacts
    resources: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def nms(self) -> nms.NmsConfiguration | None:
        """What makes boxes of the outputs; None where the network ends in no detection head.

        Raises:
            InputFileError: it is corrupt.
        """
        data = self.resources.get(NMS_RESOURCE)
        return None if data is None else nms.loads(data, "NMS configuration of the HEF")

    def whole(self) -> whole.WholeModel | None:
        """The steps from the inputs of the model's file to its outputs; None in a HEF of an older version.

        Raises:
            InputFileError: they are corrupt.
        """
        return whole.from_files(self.resources, WHOLE_PREFIX, "HEF")

    def program(self) -> isa.Program:
        """Decode the microcode.

        Raises:
            InputFileError: the microcode is corrupt.
        """
        try:
            return isa.decode(self.microcode)
        except struct.error as error:  # a record table that does not hold whole records
            raise InputFileError(
                Diagnostic("E-MICROCODE-CORRUPT", "microcode", "a record cannot be read", str(error), "", _LEVERS)
            ) from error


def write_hef(description: HefDescription, microcode: bytes, resources: Mapping[str, bytes] | None = None) -> bytes:
    """Serialize; the same arguments always give the same bytes.

    Args:
        description: see :class:`HefDescription`.
        microcode: an encoded program (``headrace.hef.microcode.encode``), not looked into.
        resources: what else the file carries for our own run time, by name; none is empty.

    Raises:
        UsageError: the description breaks rules of the container; all of them are listed.
    """
    found = check_description(description, f"HEF of {description.network_name!r}")
    if not microcode:
        found.append(Diagnostic("E-HEF-CONTENTS", "microcode", "there is no program", "0 bytes", "at least one byte"))
    if found:
        raise UsageError(found)
    resources = dict(sorted((resources or {}).items()))
    message, section = _message(description, len(microcode)), microcode
    for name, content in resources.items():
        message.external_resources.add(name=name, offset=len(section), size=len(content))
        section += content
    proto = message.SerializeToString(deterministic=True)
    if len(proto) > MAX_PROTO_BYTES:
        rule, need = "the description is too large", f"at most {MAX_PROTO_BYTES} bytes"
        raise UsageError(Diagnostic("E-HEF-CONTENTS", "HEF", rule, f"{len(proto)} bytes", need))
    crc = zlib.crc32(section, zlib.crc32(proto))
    return HEADER.pack(MAGIC, CONTAINER_VERSION, len(proto), crc, len(section), 0) + proto + section


def _message(description: HefDescription, microcode_size: int) -> Any:
    message = HefMessage()
    message.header.hw_arch = HW_ARCH
    message.header.timestamp = 0
    message.header.sdk_version = description.sdk_version
    message.header.version = FORMAT_VERSION
    message.extensions.add(type_index=EXTENSION_PERIPH_CALCULATION, name="PERIPH_CALCULATION_IN_HAILORT")
    several = any(s.channel_scales for s in description.streams)
    if several:
        message.extensions.add(type_index=EXTENSION_SCALE_PER_FEATURE, name="OUTPUT_SCALE_PER_FEATURE")
    if description.random_calibration:
        note = f"{RANDOM_CALIBRATION}{description.random_calibration}"
        message.optional_extensions.add(type_index=EXTENSION_RANDOM_CALIBRATION, name=note)
    message.external_resources.add(name=isa.RESOURCE_NAME, offset=0, size=microcode_size)
    group = message.network_groups.add(sorted_outputs_order=[s.name for s in description.outputs])
    group.metadata.network_group_name = description.network_name
    group.metadata.bottleneck_fps = description.bottleneck_fps
    group.metadata.latency = description.latency_ms
    group.metadata.cfg_channels_count = CFG_CHANNELS_COUNT
    contexts = [group.contexts.add(context_index=i) for i in range(description.contexts)]
    for context in contexts:
        context.metadata.SetInParent()
    for index, stream in enumerate(description.streams):
        home = contexts[0] if stream.direction == "input" else contexts[-1]
        _fill_edge(home.metadata.edge_layers.add(), stream, index, several)
    return message


def _fill_edge(edge: Any, stream: StreamDescription, index: int, several: bool) -> None:
    edge.direction = 0 if stream.direction == "input" else 1
    edge.pad_index = index
    edge.context_switch_info.edge_connection_type = 0  # boundary
    info = edge.layer_info
    info.name = stream.name
    info.hn_output_layer_name = stream.name
    info.original_names.extend(stream.original_names)
    base = info.edge_layer_base
    base.height = base.padded_height = stream.height
    base.width = base.padded_width = stream.width
    base.features = base.padded_features = stream.features
    base.format = _FORMATS[stream.order]
    base.sys_index = index
    row = stream.width * stream.features * stream.data_bytes
    base.core_bytes_per_buffer = row if row <= MAX_BUFFER_FIELD else 0
    base.core_buffers_per_frame = stream.height if stream.height <= MAX_BUFFER_FIELD else 0
    base.data_bytes = stream.data_bytes
    base.buffer_indices.add(index=index, cluster_index=0)
    numbers = info.numeric_info
    if several:
        # Hosts that see extension 25 read the lists of every stream. Those of a stream of one scale repeat it.
        numbers.qp_zps.extend(stream.channel_zero_points or [stream.zero_point] * stream.features)
        numbers.qp_scales.extend(stream.channel_scales or [stream.scale] * stream.features)
    if not stream.channel_scales:  # else 0, which hosts show for such an output
        numbers.qp_zp = stream.zero_point
        numbers.qp_scale = stream.scale
    numbers.limvals_min, numbers.limvals_max = stream.limvals or (0.0, 0.0)


def read_hef_file(path: str | Path) -> Hef:
    """Read a file; see :func:`read_hef`.

    Raises:
        InputFileError: also when the file is missing, not a plain file, or larger than 4 GiB.
    """
    return read_hef(read_hef_bytes(path), str(path))


def _recognizes(handle: BinaryIO) -> bool:
    """Whether an open file begins as a HEF for a virtual device; one for a real device is somebody's treasure."""
    magic, version, proto_size, *_ = HEADER.unpack(handle.read(HEADER.size))
    if magic != MAGIC or version != CONTAINER_VERSION or proto_size > MAX_PROTO_BYTES:
        return False
    message = HefMessage()
    try:
        message.ParseFromString(handle.read(proto_size))
    except DecodeError:
        return False
    return message.header.hw_arch == HW_ARCH


HEF = FileKind("HEF", (".hef",), _recognizes)


def read_hef_bytes(path: str | Path) -> bytes:
    """The bytes of a file that should be a HEF, with the errors of :func:`read_hef_file`."""
    with open_regular(path, "HEF") as handle:
        size = os.fstat(handle.fileno()).st_size
        # A file of another kind is refused by its first bytes, before it is read.
        _check_start(memoryview(handle.read(max(HEADER.size, HEAD_BYTES))), size, str(path))
    return read_bytes(path, "HEF", MAX_FILE_BYTES)


def read_hef(data: bytes | bytearray | memoryview, where: str = "HEF") -> Hef:
    """Read a HEF without trusting it.

    The checks run in this order and the first group that fails is reported: size, magic, container version, length,
    CRC-32, protobuf, contents (all broken rules of the contents together).

    Args:
        data: the file.
        where: how the file is called in errors.

    Raises:
        InputFileError: codes ``E-HEF-SHORT``, ``-MAGIC``, ``-VERSION``, ``-LENGTH``, ``-RESERVED``, ``-CRC``,
            ``-PROTOBUF``, and for contents ``-FOREIGN`` (not written for a virtual device), ``-EXTENSION``,
            ``-CONTENTS`` and ``-MICROCODE`` (the resource is missing or outside the file).
    """
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
    proto_size, crc, configuration_size = _check_header(view, where)
    body = HEADER.size + proto_size
    message = HefMessage()
    try:
        message.ParseFromString(bytes(view[HEADER.size : body]))
    except DecodeError as error:
        rule = "the description does not parse"
        raise _refuse("E-HEF-PROTOBUF", where, rule, str(error), "a protobuf message", _LEVERS) from error
    found: list[Diagnostic] = []
    _check_message(message, where, found)
    description = _description(message, where, found)
    place = _microcode_place(message, configuration_size, where, found)
    others = _resources(message, configuration_size, where, found)
    if description is not None:
        found += check_description(description, where)
    if found or description is None or place is None:
        raise InputFileError(found)
    offset, size = place
    facts = HefFacts(
        file_bytes=len(view),
        proto_bytes=proto_size,
        configuration_bytes=configuration_size,
        crc32=crc,
        hw_arch=message.header.hw_arch,
        format_version=message.header.version,
        timestamp=message.header.timestamp,
        cfg_channels_count=message.network_groups[0].metadata.cfg_channels_count,
        extensions=tuple(e.type_index for e in message.extensions),
        resources=tuple((r.name, r.offset, r.size) for r in message.external_resources),
    )
    microcode = bytes(view[body + offset : body + offset + size])
    resources = {name: bytes(view[body + first : body + first + many]) for name, (first, many) in others.items()}
    return Hef(description, microcode, facts, resources)


def _refuse(code: str, where: str, rule: str, got: object, need: object, levers: tuple[str, ...]) -> InputFileError:
    return InputFileError(Diagnostic(code, where, rule, str(got), str(need), levers))


def _check_start(view: memoryview, size: int, where: str) -> tuple[int, int, int, int]:
    """Protobuf size, CRC-32, configuration size and reserved field of a file of ``size`` bytes that begins so."""
    head = bytes(view[:HEAD_BYTES])
    other = head[:4] != HEADER.pack(MAGIC, 0, 0, 0, 0, 0)[: min(4, size)]
    if other and (size >= 12 or content_of(head) is not None):
        raise wrong_kind("E-HEF-MAGIC", where, "a HEF", head)
    if size < 12:
        raise _refuse("E-HEF-SHORT", where, "the file is too short for a HEF", f"{size} bytes", "≥ 28", _LEVERS)
    _, version, proto_size = struct.unpack_from(">III", view)
    if version != CONTAINER_VERSION:
        known = f"{version} (a HEF of another tool)" if version in (0, 2, 3) else version
        raise _refuse("E-HEF-VERSION", where, "the container version is not read here", known, 1, _LEVERS)
    if size < HEADER.size:
        raise _refuse("E-HEF-SHORT", where, "the header is cut off", f"{size} bytes", "≥ 28", _LEVERS)
    _, _, _, crc, configuration_size, reserved = HEADER.unpack_from(view)
    expected = HEADER.size + proto_size + configuration_size
    if expected != size:
        rule, need = "the file length does not match its header", f"{expected} bytes"
        raise _refuse("E-HEF-LENGTH", where, rule, f"{size} bytes", need, ("copy the file again", *_LEVERS))
    return proto_size, crc, configuration_size, reserved


def _check_header(view: memoryview, where: str) -> tuple[int, int, int]:
    """Protobuf size, CRC-32 and configuration size of a file whose header and checksum are right."""
    proto_size, crc, configuration_size, reserved = _check_start(view, len(view), where)
    if reserved:
        raise _refuse("E-HEF-RESERVED", where, "reserved bytes of the header are used", hex(reserved), 0, _LEVERS)
    actual = zlib.crc32(view[HEADER.size :])
    if actual != crc:
        rule, levers = "the checksum does not match: the file is damaged", ("copy the file again", *_LEVERS)
        raise _refuse("E-HEF-CRC", where, rule, f"{actual:#010x}", f"{crc:#010x}", levers)
    if proto_size > MAX_PROTO_BYTES:
        rule, need = "the description is too large", f"at most {MAX_PROTO_BYTES} bytes"
        raise _refuse("E-HEF-PROTOBUF", where, rule, f"{proto_size} bytes", need, _LEVERS)
    return proto_size, crc, configuration_size


def _check_message(message: Any, where: str, found: list[Diagnostic]) -> None:
    """The rules that mark a file as ours and as harmless to a real device."""
    header = message.header
    if header.hw_arch != HW_ARCH:
        rule = "this HEF was not compiled for a virtual device"
        levers = ("compile the network with Headrace; files of other tools cannot run here",)
        need = f"hw_arch {HW_ARCH}"
        found.append(Diagnostic("E-HEF-FOREIGN", where, rule, f"hw_arch {header.hw_arch}", need, levers))
    if header.version < FORMAT_VERSION:
        found.append(_content(where, "header.version is missing", header.version, "1 or more"))
    if EXTENSION_PERIPH_CALCULATION not in [e.type_index for e in message.extensions]:
        rule, need = "extension 26 is missing", "extension 26"
        got = str([e.type_index for e in message.extensions][:16])
        found.append(Diagnostic("E-HEF-EXTENSION", where, rule, got, need, _LEVERS))
    for group in message.network_groups:
        channels = group.metadata.cfg_channels_count
        if channels != CFG_CHANNELS_COUNT:
            rule, need = "the configuration channels are not those of a virtual device", str(CFG_CHANNELS_COUNT)
            found.append(Diagnostic("E-HEF-FOREIGN", where, rule, str(channels), need, _LEVERS))
        if any(context.operations for context in group.contexts) or group.HasField("preliminary_config"):
            rule = "a HEF for a virtual device has no operations"
            found.append(Diagnostic("E-HEF-FOREIGN", where, rule, "operations", "none", _LEVERS))
        if group.ops or group.partial_network_groups or group.HasField("fused_layers_metadata"):
            rule = "host-side operations and partial layouts are not supported"
            found.append(Diagnostic("E-HEF-FOREIGN", where, rule, "ops, layouts or fused layers", "none", _LEVERS))


def _content(where: str, rule: str, got: object, need: object) -> Diagnostic:
    return Diagnostic("E-HEF-CONTENTS", where, rule, str(got), str(need), _LEVERS)


def _description(message: Any, where: str, found: list[Diagnostic]) -> HefDescription | None:
    groups = message.network_groups
    if len(groups) != 1:
        found.append(_content(where, "a HEF holds one network group", len(groups), 1))
        return None
    group = groups[0]
    if not 1 <= len(group.contexts) <= MAX_CONTEXTS:
        found.append(_content(where, "the number of contexts is out of range", len(group.contexts), "1 … 65535"))
        return None
    edges = [edge for context in group.contexts for edge in context.metadata.edge_layers]
    if len(edges) > MAX_STREAMS:
        found.append(_content(where, "there are too many edge layers", len(edges), f"at most {MAX_STREAMS}"))
        return None
    several = EXTENSION_SCALE_PER_FEATURE in [e.type_index for e in message.extensions]
    streams = [_stream(edge, several, f"{where}, edge layer {i}", found) for i, edge in enumerate(edges)]
    if any(s is None for s in streams):
        return None
    known = [s for s in streams if s is not None]
    names = [s.name for s in known if s.direction == "output"]
    order = list(group.sorted_outputs_order)
    if sorted(order) != sorted(names):
        found.append(_content(where, "sorted_outputs_order does not list the outputs", order[:8], names[:8]))
    else:
        rank = {name: i for i, name in enumerate(order)}
        known = [s for s in known if s.direction == "input"] + sorted(
            (s for s in known if s.direction == "output"), key=lambda s: rank[s.name]
        )
    return HefDescription(
        network_name=group.metadata.network_group_name,
        streams=tuple(known),
        contexts=len(group.contexts),
        bottleneck_fps=group.metadata.bottleneck_fps,
        latency_ms=group.metadata.latency,
        sdk_version=message.header.sdk_version,
        random_calibration=_random_calibration(message, where, found),
    )


def _random_calibration(message: Any, where: str, found: list[Diagnostic]) -> int:
    """Frames of noise, from our own optional extension; those of others mean nothing here."""
    for extension in message.optional_extensions:
        if extension.type_index == EXTENSION_RANDOM_CALIBRATION:
            digits = extension.name.removeprefix(RANDOM_CALIBRATION)
            if digits.isascii() and digits.isdecimal() and len(digits) <= 10 and int(digits) > 0:
                return int(digits)
            found.append(_content(where, "the note on calibration is damaged", extension.name[:80], "frames"))
    return 0


def _stream(edge: Any, several: bool, where: str, found: list[Diagnostic]) -> StreamDescription | None:
    """The stream of an edge layer; None, with the reasons in ``found``, when it is not one."""
    before = len(found)
    info, base, numbers = edge.layer_info, edge.layer_info.edge_layer_base, edge.layer_info.numeric_info
    where = f"{where} {info.name!r}"
    rules: tuple[tuple[bool, str, object, object], ...] = (
        (edge.HasField("layer_info"), "the layer has no information", "none", "layer_info"),
        (edge.edge_layer_type == 0, "the edge layer type is not supported", edge.edge_layer_type, "0 (info)"),
        (edge.direction in (0, 1), "the direction is unknown", edge.direction, "0 or 1"),
        (
            edge.context_switch_info.edge_connection_type == 0,
            "the connection type is not supported",
            edge.context_switch_info.edge_connection_type,
            "0 (boundary)",
        ),
        (base.format in _ORDERS, "the format is not supported", base.format, "0 or 13 (NHWC), 2 (NC)"),
        (not info.transposed and not base.host_argmax, "transposed and host_argmax are not supported", True, False),
        (len(base.buffer_indices) == 1, "there must be one buffer index", len(base.buffer_indices), 1),
        (base.sys_index <= 255 and base.engine_id <= 255, "sys_index or engine_id is too big", "> 255", "≤ 255"),
        (
            max(base.core_bytes_per_buffer, base.core_buffers_per_frame) <= MAX_BUFFER_FIELD,
            "a buffer field is too big",
            max(base.core_bytes_per_buffer, base.core_buffers_per_frame),
            f"≤ {MAX_BUFFER_FIELD}",
        ),
        (
            (base.padded_height, base.padded_width, base.padded_features) == (base.height, base.width, base.features),
            "padded streams are not supported",
            (base.padded_height, base.padded_width, base.padded_features),
            (base.height, base.width, base.features),
        ),
        (float(numbers.qp_zp).is_integer(), "the zero point is not a whole number", numbers.qp_zp, "a whole number"),
        *_lists(edge, several),
    )
    found += [_content(where, rule, got, need) for holds, rule, got, need in rules if not holds]
    if len(found) > before:
        return None
    own = bool(edge.direction and numbers.qp_scales) and numbers.qp_scale == 0
    return StreamDescription(
        name=info.name,
        direction="output" if edge.direction else "input",
        height=base.height,
        width=base.width,
        features=base.features,
        data_bytes=base.data_bytes,
        scale=numbers.qp_scale,
        zero_point=int(numbers.qp_zp),
        limvals=(numbers.limvals_min, numbers.limvals_max),
        original_names=tuple(info.original_names),
        order="NC" if _ORDERS[base.format] == "NC" else "NHWC",
        channel_scales=tuple(numbers.qp_scales) if own else (),
        channel_zero_points=tuple(int(z) for z in numbers.qp_zps) if own else (),
    )


def _lists(edge: Any, several: bool) -> Iterator[tuple[bool, str, object, object]]:
    """The rules of scales per feature: with extension 25 every stream lists them, those of one scale repeat it."""
    numbers, features = edge.layer_info.numeric_info, edge.layer_info.edge_layer_base.features
    scales, zeros = numbers.qp_scales, numbers.qp_zps
    if not several:
        rule, got = "scales per feature without extension 25", f"{len(scales)} scales, {len(zeros)} zero points"
        yield not scales and not zeros, rule, got, "none"
        return
    rule, got = "there is not one scale per feature", f"{len(scales)} scales, {len(zeros)} zero points"
    yield len(scales) == len(zeros) == features, rule, got, features
    broken = [z for z in zeros if not float(z).is_integer()]
    yield not broken, "the zero point is not a whole number", broken[:1], "a whole number"
    with np.errstate(over="ignore"):
        broken = [s for s in scales if not (math.isfinite(s) and float(np.float32(s)) == s)]
    yield not broken, "a scale is not a float32", broken[:1], "a finite float32"
    if edge.direction == 0 or numbers.qp_scale != 0:
        same = all(s == numbers.qp_scale for s in scales) and all(z == numbers.qp_zp for z in zeros)
        yield same, "the list of a stream of one scale holds others", "other numbers", numbers.qp_scale
    else:
        yield numbers.qp_zp == 0, "a stream of several scales has a zero point of its own", numbers.qp_zp, 0


def _microcode_place(message: Any, limit: int, where: str, found: list[Diagnostic]) -> tuple[int, int] | None:
    """Offset in the configuration section, and size, of the one microcode resource."""
    resources = [r for r in message.external_resources if r.name == isa.RESOURCE_NAME]
    if len(resources) != 1:
        rule, need = "the microcode is not in the file", f"one resource {isa.RESOURCE_NAME!r}"
        found.append(Diagnostic("E-HEF-MICROCODE", where, rule, f"{len(resources)} resources", need, _LEVERS))
        return None
    offset, size = resources[0].offset, resources[0].size
    if size == 0 or offset + size > limit:
        rule, need = "the microcode lies outside the configuration section", f"inside 0 … {limit}"
        found.append(Diagnostic("E-HEF-MICROCODE", where, rule, f"{offset} … {offset + size}", need, _LEVERS))
        return None
    return offset, size


def _resources(message: Any, limit: int, where: str, found: list[Diagnostic]) -> dict[str, tuple[int, int]]:
    """Offset and size of what else the file carries for us, by name."""
    places: dict[str, tuple[int, int]] = {}
    for resource in message.external_resources:
        name = resource.name
        if name == isa.RESOURCE_NAME or not name.startswith(RESOURCE_PREFIX):
            continue
        if name in places:
            found.append(_content(where, "a resource stands twice", name[:80], "each once"))
        if resource.size == 0 or resource.offset + resource.size > limit:
            got = f"{resource.offset} … {resource.offset + resource.size}"
            found.append(_content(where, f"the resource {name[:80]!r} lies outside", got, f"inside 0 … {limit}"))
        places[name] = (resource.offset, resource.size)
    return places
