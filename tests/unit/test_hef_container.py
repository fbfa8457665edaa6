# SPDX-License-Identifier: Apache-2.0
"""HEF files: what is written is right by an independent reader, what is broken is refused with a coded error."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import HeadraceError, InputFileError, UsageError
from headrace.hef import microcode as isa
from headrace.hef.container import (
    HefDescription,
    StreamDescription,
    read_hef,
    read_hef_file,
    write_hef,
)
from headrace.hef.schema import HefMessage
from headrace.hef.shown import describe, hef_info
from hef_validator import validate


def program_bytes() -> bytes:
    program = isa.Program(target=isa.TargetRecord(clusters=8))
    program.set_target_texts("hailo8", ["hailo8l"])
    return isa.encode(program)


def sample() -> HefDescription:
    return HefDescription(
        "resnet20",
        (
            StreamDescription(
                "resnet20/input_layer1", "input", 32, 32, 3, scale=1 / 255, zero_point=3, original_names=("x", "y:0")
            ),
            StreamDescription(
                "resnet20/output_layer2", "output", 1, 1, 10, 1, 0.1, 117, original_names=("out",), order="NC"
            ),
            StreamDescription("resnet20/output_layer1", "output", 7, 5, 33, 2, 0.25, 40000, (-1.0, 2.0)),
        ),
        contexts=2,
        bottleneck_fps=1234.5,
        latency_ms=0.75,
    )


def repack(data: bytes, change: Callable[[Any], None] | None = None, extra: bytes = b"") -> bytes:
    """The file with another description, and header fields that fit it."""
    proto_size = struct.unpack_from(">I", data, 8)[0]
    message = HefMessage.FromString(data[28 : 28 + proto_size])
    if change is not None:
        change(message)
    return wrap(message.SerializeToString(deterministic=True) + extra, data[28 + proto_size :])


def wrap(proto: bytes, configuration: bytes) -> bytes:
    body = proto + configuration
    return struct.pack(">IIIIQI", 0x01484546, 1, len(proto), zlib.crc32(body), len(configuration), 0) + body


def refused(data: bytes) -> InputFileError:
    with pytest.raises(InputFileError) as caught:
        read_hef(data)
    return caught.value


def test_fresh_file_passes_the_validator_and_reads_back() -> None:
    data = write_hef(sample(), program_bytes())
    assert validate(data) == []
    hef = read_hef(data)
    assert hef.description == sample()
    assert hef.microcode == program_bytes()
    assert hef.facts.hw_arch == 101
    assert hef.facts.cfg_channels_count == 255
    assert hef.facts.file_bytes == len(data)


@pytest.mark.parametrize("name", ["", "HEADRACE_RANDOM_CALIBRATION:", "HEADRACE_RANDOM_CALIBRATION:-1", "x" * 999, "0"])
def test_a_damaged_note_on_calibration_is_refused(name: str) -> None:
    data = write_hef(replace(sample(), random_calibration=64), program_bytes())
    assert read_hef(data).description.random_calibration == 64

    def change(message: Any) -> None:
        message.optional_extensions[0].name = name

    assert "note on calibration" in str(refused(repack(data, change)))


def test_scale_is_the_float32_of_the_argument() -> None:
    stream = read_hef(write_hef(sample(), b"x")).description.inputs[0]
    assert stream.scale == float(np.float32(1 / 255)) != 1 / 255
    assert stream.limvals == (float(np.float32(stream.scale * -3)), float(np.float32(stream.scale * 252)))


def test_wide_rows_get_no_buffer_size() -> None:
    streams = (
        StreamDescription("n/in", "input", 70000, 1, 1),
        StreamDescription("n/out", "output", 2, 70000, 3, 2, zero_point=65535),
    )
    data = write_hef(HefDescription("n", streams), b"code")
    assert validate(data) == []
    assert read_hef(data).description.streams == streams


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=31),
    sizes=st.tuples(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 80)),
    data_bytes=st.sampled_from([1, 2]),
    scale=st.floats(2.0**-100, 2.0**100),
    zero=st.integers(0, 255),
    originals=st.lists(st.text(st.characters(codec="utf-8", categories=["L"]), max_size=9), max_size=3),
    contexts=st.integers(1, 9),
    figures=st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)),
)
def test_round_trip(
    name: str,
    sizes: tuple[int, int, int],
    data_bytes: int,
    scale: float,
    zero: int,
    originals: list[str],
    contexts: int,
    figures: tuple[float, float],
) -> None:
    streams = (
        StreamDescription(f"{name}/b", "output", *sizes, data_bytes, scale, zero, None, tuple(originals)),
        StreamDescription(f"{name}/a", "input", *sizes, data_bytes, scale, zero),
        StreamDescription(f"{name}/0", "output", 1, 1, sizes[2], 1, scale, zero, order="NC"),
    )
    description = HefDescription(name, streams, contexts, *figures)
    data = write_hef(description, b"\0" * sizes[2])
    assert validate(data) == []
    assert read_hef(data).description == description


def test_same_bytes_in_every_process() -> None:
    code = (
        "from headrace.hef.container import *\n"
        "s=(StreamDescription('n/i','input',4,4,3,original_names=('a','b')),StreamDescription('n/o','output',1,1,2))\n"
        "import sys; sys.stdout.write(write_hef(HefDescription('n', s), b'abc').hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "7")
    }
    assert len(seen) == 1


def test_writer_reports_all_problems_together() -> None:
    streams = (
        StreamDescription("n" * 128, "input", 0, 1, 1),
        StreamDescription("same", "input", 1, 1, 1, scale=float("nan")),
        StreamDescription("same", "input", 1 << 16, 1 << 16, 1, data_bytes=3),
        StreamDescription("big", "input", 1 << 16, 1 << 16, 1),
        StreamDescription("zero", "input", 1, 1, 1, zero_point=256),
        StreamDescription("nc", "input", 2, 1, 1, order="NC"),
        StreamDescription("line\n", "input", 1, 1, 1),
        StreamDescription("\ud800", "input", 1, 1, 1),
        StreamDescription("inf", "input", 1, 1, 1, scale=1e300, limvals=(2.0, 1.0)),
    )
    with pytest.raises(UsageError) as caught:
        write_hef(HefDescription("", streams, contexts=0, bottleneck_fps=float("inf")), b"")
    text = str(caught.value)
    for part in (
        "network name is empty", "too long", "unique", "frame size", "scale", "1 or 2 bytes", "zero point",
        "height and width 1", "control characters", "surrogates", "value range", "no output", "contexts",
        "bottleneck_fps", "no program",
    ):  # fmt: skip
        assert part in text


# ------------------------------------------------------------------------------------------------ broken headers


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, b"\x7fELF", "E-HEF-MAGIC"),
        (4, struct.pack(">I", 0), "E-HEF-VERSION"),
        (4, struct.pack(">I", 2), "E-HEF-VERSION"),
        (4, struct.pack(">I", 9), "E-HEF-VERSION"),
        (8, struct.pack(">I", 0xFFFFFFFF), "E-HEF-LENGTH"),
        (12, struct.pack(">I", 1), "E-HEF-CRC"),
        (16, struct.pack(">Q", 2**64 - 1), "E-HEF-LENGTH"),
        (24, struct.pack(">I", 1), "E-HEF-RESERVED"),
        (40, b"\xff", "E-HEF-CRC"),
    ],
)
def test_header_errors(offset: int, value: bytes, code: str) -> None:
    data = bytearray(write_hef(sample(), program_bytes()))
    data[offset : offset + len(value)] = value
    assert refused(bytes(data)).code == code
    assert validate(bytes(data))


def test_order_of_header_errors() -> None:
    """With everything wrong at once the first check speaks."""
    assert refused(b"\xff" * 40).code == "E-HEF-MAGIC"
    assert refused(struct.pack(">III", 0x01484546, 5, 1) + b"\xff" * 40).code == "E-HEF-VERSION"
    assert refused(struct.pack(">IIIIQI", 0x01484546, 1, 9, 1, 1, 1)).code == "E-HEF-LENGTH"


def test_truncated_anywhere_or_extended() -> None:
    data = write_hef(sample(), program_bytes()[:100])
    codes = {refused(data[:size]).code for size in range(len(data))}
    assert codes == {"E-HEF-SHORT", "E-HEF-LENGTH"}
    assert refused(data + b"\0").code == "E-HEF-LENGTH"


def test_every_bit_flip_is_refused() -> None:
    data = write_hef(sample(), b"\x55" * 40)
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            refused(bytes(broken))


def test_damage_past_the_checksum_is_an_error_or_still_a_right_file() -> None:
    """A file whose checksum was repaired after damage is refused, or it keeps every rule."""
    harmless = ("timestamp", "extension-unknown", "context-index", "buffer-row", "nms", "edge-type", "mark-actions")
    data = write_hef(sample(), b"\x55" * 40)
    proto_size = struct.unpack_from(">I", data, 8)[0]
    rng = random.Random(5)
    accepted = 0
    for _ in range(6000):
        proto = bytearray(data[28 : 28 + proto_size])
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(proto))
            how = rng.randrange(4)
            if how == 0:
                proto[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                proto[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif how == 2:
                del proto[at : at + rng.randrange(1, 9)]
            else:
                proto[at:at] = rng.randbytes(rng.randrange(1, 9))
        broken = wrap(bytes(proto), data[28 + proto_size :])
        try:
            read_hef(broken)
        except InputFileError:
            continue
        accepted += 1
        assert [v for v in validate(broken) if not v.startswith(harmless)] == [], bytes(proto).hex()
    assert accepted > 0


def test_deep_nesting_and_large_descriptions_are_refused() -> None:
    deep = b""
    for _ in range(5000):
        deep = b"\x12" + _varint(len(deep)) + deep  # network_groups in itself
    assert refused(wrap(deep, b"c")).code in ("E-HEF-PROTOBUF", "E-HEF-FOREIGN")
    group = b"\xfb\x01" * 200_000  # start-group tags without end
    assert refused(wrap(group, b"c")).code == "E-HEF-PROTOBUF"
    assert refused(wrap(b"\x2a\x00" * 600_000, b"c")).code == "E-HEF-PROTOBUF"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_missing_and_unreadable_files(tmp_path: Any) -> None:
    for path in (tmp_path / "absent.hef", tmp_path, "nul\0byte"):
        with pytest.raises(InputFileError) as caught:
            read_hef_file(path)
        assert caught.value.code in ("E-FILE-READ", "E-FILE-MISSING")
    good = tmp_path / "good.hef"
    good.write_bytes(write_hef(sample(), b"code"))
    assert read_hef_file(good).description == sample()


# ----------------------------------------------------------------------------------------------- broken contents


def _group(m: Any) -> Any:
    return m.network_groups[0]


def _edge(m: Any, context: int = 0) -> Any:
    return _group(m).contexts[context].metadata.edge_layers[0]


def _info(m: Any) -> Any:
    return _edge(m).layer_info


def _set(get: Callable[[Any], Any], **values: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(get(message), name, value)

    return change


def _base(m: Any) -> Any:
    return _info(m).edge_layer_base


# rule of the validator -> a change that breaks it
BREAKS: list[tuple[str, Callable[[Any], Any]]] = [
    ("format-version", _set(lambda m: m.header, version=0)),
    ("mark-arch", _set(lambda m: m.header, hw_arch=0)),
    ("mark-loadable", _set(lambda m: m.header, hw_arch=1)),
    ("mark-loadable", _set(lambda m: m.header, hw_arch=2)),
    ("mark-loadable", _set(lambda m: m.header, hw_arch=3)),
    ("timestamp", _set(lambda m: m.header, timestamp=1)),
    ("extension-26", lambda m: m.ClearField("extensions")),
    ("extension-unknown", lambda m: m.extensions.add(type_index=7)),
    ("extension-13", lambda m: m.extensions.add(type_index=13)),
    ("group-count", lambda m: m.network_groups.add()),
    ("group-count", lambda m: m.ClearField("network_groups")),
    ("group-name", _set(lambda m: _group(m).metadata, network_group_name="")),
    ("group-name", _set(lambda m: _group(m).metadata, network_group_name="n" * 128)),
    ("cfg-channels", _set(lambda m: _group(m).metadata, cfg_channels_count=256)),
    ("mark-channels", _set(lambda m: _group(m).metadata, cfg_channels_count=1)),
    ("layouts", lambda m: _group(m).partial_network_groups.add()),
    ("ops", lambda m: _group(m).ops.add()),
    ("ops", lambda m: _group(m).fused_layers_metadata.SetInParent()),
    ("mark-actions", lambda m: _group(m).contexts[0].operations.add()),
    ("mark-actions", lambda m: _group(m).preliminary_config.MergeFromString(b"\x0a\x00")),
    ("contexts", lambda m: _group(m).ClearField("contexts")),
    ("context-index", _set(lambda m: _group(m).contexts[1], context_index=5)),
    ("sorted-outputs", lambda m: _group(m).ClearField("sorted_outputs_order")),
    ("sorted-outputs", lambda m: _group(m).sorted_outputs_order.pop()),
    ("sorted-outputs", lambda m: _group(m).sorted_outputs_order.append("x")),
    ("edge-type", _set(_edge, edge_layer_type=1)),
    ("edge-type", lambda m: _edge(m).ClearField("layer_info")),
    ("edge-connection", _set(lambda m: _edge(m).context_switch_info, edge_connection_type=1)),
    ("edge-direction", _set(_edge, direction=2)),
    ("boundary", _set(_edge, direction=1)),
    ("boundary", lambda m: _group(m).contexts[1].metadata.ClearField("edge_layers")),
    ("names-unique", _set(_info, name="resnet20/output_layer1")),
    ("name-length", _set(_info, name="")),
    ("name-length", _set(_info, name="é" * 64)),
    ("transposed", _set(_info, transposed=True)),
    ("format", _set(_base, format=9)),
    ("data-bytes", _set(_base, data_bytes=0)),
    ("data-bytes", _set(_base, data_bytes=4)),
    ("shape", _set(_base, height=0, padded_height=0)),
    ("shape", _set(_base, padded_width=1)),
    ("frame-size", _set(_base, height=1 << 31, padded_height=1 << 31)),
    ("buffer-size", _set(_base, core_bytes_per_buffer=65536)),
    ("buffer-size", _set(_base, core_buffers_per_frame=65536)),
    ("buffer-row", _set(_base, core_bytes_per_buffer=5)),
    ("index-byte", _set(_base, sys_index=256)),
    ("index-byte", _set(_base, engine_id=256)),
    ("buffer-indices", lambda m: _base(m).ClearField("buffer_indices")),
    ("buffer-indices", lambda m: _base(m).buffer_indices.add()),
    ("host-argmax", _set(_base, host_argmax=True)),
    ("nms", lambda m: _base(m).MergeFromString(b"\x5a\x00")),
    ("scale", _set(lambda m: _info(m).numeric_info, qp_scale=0.0)),
    ("scale", _set(lambda m: _info(m).numeric_info, qp_scale=float("nan"))),
    ("zero-point", _set(lambda m: _info(m).numeric_info, qp_zp=-1.0)),
    ("zero-point", _set(lambda m: _info(m).numeric_info, qp_zp=0.5)),
    ("zero-point", _set(lambda m: _info(m).numeric_info, qp_zp=float("inf"))),
    ("per-feature", lambda m: _info(m).numeric_info.qp_zps.append(1.0)),
    ("microcode-resource", lambda m: m.ClearField("external_resources")),
    ("microcode-resource", lambda m: m.external_resources.add(name=isa.RESOURCE_NAME, size=1)),
    ("microcode-place", _set(lambda m: m.external_resources[0], offset=1)),
    ("microcode-place", _set(lambda m: m.external_resources[0], offset=2**64 - 1)),
    ("microcode-place", _set(lambda m: m.external_resources[0], size=0)),
]
# Rules of the container that do not stop our own reader: what they guard is not used by it.
TOLERATED = {"timestamp", "extension-unknown", "extension-13", "context-index", "buffer-row", "nms"}


@pytest.mark.parametrize(("rule", "change"), BREAKS, ids=[f"{i}-{r}" for i, (r, _) in enumerate(BREAKS)])
def test_each_broken_rule_is_caught(rule: str, change: Callable[[Any], None]) -> None:
    data = repack(write_hef(sample(), program_bytes()), change)
    assert rule in [line.split(":")[0] for line in validate(data)]
    if rule in TOLERATED:
        read_hef(data)
    else:
        error = refused(data)
        assert error.diagnostics[0].rule
        assert "Error" not in str(error)


def test_unparsable_description_and_bad_text() -> None:
    good = write_hef(sample(), b"code")
    for extra in (b"\xff", b"\x0a\x05", b"\x0f", b"\x2a\x04\x12\x02\xff\xfe"):
        data = repack(good, None, extra)
        assert refused(data).code == "E-HEF-PROTOBUF"
    for extra in (b"\xff", b"\x0a\x05", b"\x0f"):
        assert [v.split(":")[0] for v in validate(repack(good, None, extra))] == ["protobuf"]


def test_contents_problems_come_together() -> None:
    def change(m: Any) -> None:
        m.header.hw_arch = 1
        m.ClearField("extensions")
        m.ClearField("external_resources")
        _base(m).format = 9

    error = refused(repack(write_hef(sample(), b"code"), change))
    codes = [d.code for d in error.diagnostics]
    assert codes == ["E-HEF-FOREIGN", "E-HEF-EXTENSION", "E-HEF-CONTENTS", "E-HEF-MICROCODE"]


def test_info_and_text() -> None:
    hef = read_hef(write_hef(sample(), program_bytes()))
    info = hef_info(hef)
    assert info["compatible_for"] == "hailo8"
    assert [s["name"] for s in info["streams"]] == [s.name for s in sample().streams]
    assert info["streams"][1]["shape"] == [10]
    assert info["container"]["hw_arch"] == 101
    text = describe(hef)
    assert "Multi Context - Number of contexts: 2" in text
    assert "Input  resnet20/input_layer1 UINT8, NHWC(32x32x3)" in text
    with pytest.raises(HeadraceError):
        hef_info(read_hef(write_hef(sample(), b"not a program")))
