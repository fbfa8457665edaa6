# SPDX-License-Identifier: Apache-2.0
"""Scales per channel in the HEF: the fields that host libraries read, and files that break their rules."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hef_validator as wire
from headrace.errors import InputFileError, UsageError
from headrace.hef.container import HefDescription, StreamDescription, read_hef, write_hef
from headrace.hef.microcode import Opcode, TensorRole
from headrace.hef.shown import describe, hef_info
from headrace.runtime import HEF
from headrace.runtime.infer_model import InferStream
from native.programs import Builder
from unit.test_hef_container import repack

SCALES, ZEROS = (2.5, 2.5, float(np.float32(1 / 255))), (0, 0, -977_000)


def sample() -> HefDescription:
    streams = (
        StreamDescription("net/in", "input", 4, 4, 2, scale=0.5, zero_point=3),
        StreamDescription("net/parts", "output", 1, 8, 3, channel_scales=SCALES, channel_zero_points=ZEROS),
        StreamDescription("net/plain", "output", 1, 1, 5, 2, scale=0.25, zero_point=65535, order="NC"),
    )
    return HefDescription("net", streams)


def edges_of(data: bytes) -> dict[str, wire.Fields]:
    """Numeric information of each edge layer, by an independent reader of the wire format."""
    size = struct.unpack_from(">I", data, 8)[0]
    contexts = wire._messages(wire._messages(wire.message(data[28 : 28 + size]), 2)[0], 3)
    infos = [wire._message(e, 3) for c in contexts for e in wire._messages(wire._message(c, 3), 2)]
    return {wire._text(info, 1): wire._message(info, 3) for info in infos}


def test_every_stream_lists_its_scales_where_one_has_several() -> None:
    data = write_hef(sample(), b"code")
    assert wire.validate(data) == []
    size = struct.unpack_from(">I", data, 8)[0]
    extensions = [wire._number(e, 1) for e in wire._messages(wire.message(data[28 : 28 + size]), 5)]
    assert extensions == [26, 25]
    numbers = edges_of(data)
    assert wire.doubles(numbers["net/in"], 6) == [0.5, 0.5]
    assert wire.doubles(numbers["net/in"], 5) == [3.0, 3.0]
    assert wire.doubles(numbers["net/parts"], 6) == list(SCALES)
    assert wire.doubles(numbers["net/parts"], 5) == list(ZEROS)
    assert wire.doubles(numbers["net/plain"], 6) == [0.25] * 5
    assert wire.doubles(numbers["net/plain"], 5) == [65535.0] * 5
    assert [wire._float(numbers[n], 2) for n in ("net/in", "net/parts", "net/plain")] == [0.5, 0.0, 0.25]
    assert wire._float(numbers["net/parts"], 1) == 0.0
    low, high = wire._float(numbers["net/parts"], 3), wire._float(numbers["net/parts"], 4)
    assert (low, high) == (0.0, np.float32((255 + 977_000) * SCALES[2]))
    assert read_hef(data).description == sample()


def test_a_file_of_one_scale_each_is_as_before() -> None:
    plain = HefDescription("net", tuple(s for s in sample().streams if s.name != "net/parts"))
    numbers = edges_of(write_hef(plain, b"code"))
    assert all(not wire.doubles(n, key) for n in numbers.values() for key in (5, 6))


def test_people_and_programs_see_the_scales() -> None:
    b = Builder()
    x = b.tensor("x", (1, 2, 3), 0, TensorRole.INPUT)
    own = np.array(SCALES), np.array(ZEROS)
    b.kernel("y", Opcode.RESHAPE, [x], b.tensor("y", (1, 2, 3), 0, TensorRole.OUTPUT, channels=own))
    data = b.build()
    info = hef_info(read_hef(data))["streams"][1]
    assert (info["scale"], info["zero_point"]) == (list(SCALES), list(ZEROS))
    shown = describe(read_hef(data))
    assert "channels 0-1: scale 2.5, zero point 0; channels 2-2: scale 0.00392156886, zero point -977000" in shown
    hef = HEF(data)
    of_output = hef.get_output_vstream_infos()[0].quant_info
    assert (of_output.qp_scale, of_output.qp_zp) == (0.0, 0)
    assert of_output.limvals_max == np.float32((255 + 977_000) * SCALES[2])
    infos = InferStream(hef.description.outputs[0]).quant_infos
    assert [(q.qp_scale, q.qp_zp) for q in infos] == list(zip(SCALES, ZEROS, strict=True))
    assert len(InferStream(hef.description.inputs[0]).quant_infos) == 1


def _numbers(message: Any, edge: int) -> Any:
    context = message.network_groups[0].contexts[0]
    return context.metadata.edge_layers[edge].layer_info.numeric_info


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.extensions.pop(),
        lambda m: _numbers(m, 1).qp_scales.pop(),
        lambda m: _numbers(m, 1).qp_zps.append(0),
        lambda m: _numbers(m, 0).ClearField("qp_scales"),
        lambda m: _numbers(m, 0).qp_scales.__setitem__(0, 0.75),
        lambda m: _numbers(m, 2).qp_zps.__setitem__(4, 1),
        *(
            lambda m, value=value: _numbers(m, 1).qp_scales.__setitem__(2, value)
            for value in (0.0, -1.0, float("nan"), float("inf"), 1e300, 1e-300, 1e-40, 0.1)
        ),
        *(
            lambda m, value=value: _numbers(m, 1).qp_zps.__setitem__(0, value)
            for value in (0.5, float("nan"), float("inf"), 2.0**24, -(2.0**40), 1e300)
        ),
        lambda m: setattr(_numbers(m, 1), "qp_zp", 5),
    ],
)
def test_broken_lists_are_refused(change: Callable[[Any], None]) -> None:
    data = repack(write_hef(sample(), b"code"), change)
    with pytest.raises(InputFileError) as caught:
        read_hef(data)
    assert {d.code for d in caught.value.diagnostics} == {"E-HEF-CONTENTS"}
    assert "traceback" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "stream",
    [
        StreamDescription("a", "input", 1, 1, 2, channel_scales=(1, 2), channel_zero_points=(0, 0)),
        StreamDescription("a", "output", 1, 1, 3, channel_scales=(1, 2), channel_zero_points=(0, 0)),
        StreamDescription("a", "output", 1, 1, 2, channel_scales=(1, 2), channel_zero_points=(0,)),
        StreamDescription("a", "output", 1, 1, 2, channel_scales=(1, float("nan")), channel_zero_points=(0, 0)),
        StreamDescription("a", "output", 1, 1, 2, channel_scales=(1, 0), channel_zero_points=(0, 0)),
        StreamDescription("a", "output", 1, 1, 2, channel_scales=(1, 2), channel_zero_points=(0, 2**24)),
        StreamDescription("a", "output", 1, 1, 2, zero_point=-(2**24)),
    ],
)
def test_a_writer_refuses_them_too(stream: StreamDescription) -> None:
    other = StreamDescription("b", "output" if stream.direction == "input" else "input", 1, 1, 1)
    with pytest.raises(UsageError) as caught:
        write_hef(HefDescription("net", (stream, other)), b"code")
    assert caught.value.code == "E-HEF-CONTENTS"
