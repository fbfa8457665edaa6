# SPDX-License-Identifier: Apache-2.0
"""What a stream is, in the shape pyHailoRT shows it; and finding a stream by the name somebody typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.data.inputs import InputSpec
from headrace.data.plausible import Expected
from headrace.errors import Diagnostic, did_you_mean
from headrace.hef.description import HefDescription, StreamDescription
from headrace.numerics.quantization import TensorQuantization
from headrace.runtime.enums import FormatOrder, FormatType, HailoStreamDirection, Status
from headrace.runtime.exceptions import HailoRTNotFoundException, device_error


@dataclass(frozen=True)
class Format:
    """Element type and order of a buffer; ``flags`` is always 0."""

    type: FormatType
    order: FormatOrder
    flags: int = 0


@dataclass(frozen=True)
class QuantInfo:
    """``real = qp_scale · (code - qp_zp)``; the range is that of the codes, of an input what calibration saw.

    Of a stream whose channels have scales of their own, ``quant_info`` holds zeros (and the range of all channels), as
    with the vendor's run time; ``quant_infos`` of :class:`InferStream` then has one per channel.
    """

    qp_zp: int
    qp_scale: float
    limvals_min: float
    limvals_max: float


@dataclass(frozen=True)
class VStreamInfo:
    """One input or output as the user sees it; ``shape`` is one frame, (H, W, C) or (C,)."""

    name: str
    network_name: str
    direction: HailoStreamDirection
    format: Format
    shape: tuple[int, ...]
    quant_info: QuantInfo


@dataclass(frozen=True)
class StreamInfo:
    """One input or output as the device sees it; ``shape`` is always (H, W, C)."""

    name: str
    direction: HailoStreamDirection
    format: Format
    shape: tuple[int, int, int]
    data_bytes: int
    sys_index: int
    quant_info: QuantInfo


@dataclass(frozen=True)
class NetworkGroupInfo:
    """One network group; a HEF of ours holds exactly one."""

    name: str
    is_multi_context: bool


def code_type(stream: StreamDescription) -> FormatType:
    """The format type of the stream's own codes."""
    return FormatType.UINT8 if stream.data_bytes == 1 else FormatType.UINT16


def format_order(stream: StreamDescription) -> FormatOrder:
    return FormatOrder.NC if stream.order == "NC" else FormatOrder.NHWC


def quantization(stream: StreamDescription) -> TensorQuantization:
    return stream.quantization


def input_spec(stream: StreamDescription) -> InputSpec:
    """What an input takes, for reading data."""
    short = stream.name.rsplit("/", 1)[-1]
    return InputSpec(stream.name, stream.shape, tuple(dict.fromkeys((short, *stream.original_names))))


def expected_values(stream: StreamDescription) -> Expected:
    """What an input was calibrated for."""
    return Expected(quantization(stream), *(stream.limvals or quantization(stream).limits))


def dtype_of(stream: StreamDescription, kind: FormatType) -> np.dtype[np.generic]:
    """The numpy type of a buffer of this stream."""
    resolved = code_type(stream) if kind == FormatType.AUTO else kind
    return np.dtype({FormatType.UINT8: "u1", FormatType.UINT16: "u2", FormatType.FLOAT32: "f4"}[resolved])


def _quant_info(stream: StreamDescription) -> QuantInfo:
    low, high = stream.limvals or (0.0, 0.0)
    if stream.channel_scales:
        return QuantInfo(0, 0.0, low, high)
    return QuantInfo(stream.zero_point, stream.scale, low, high)


def quant_infos(stream: StreamDescription) -> list[QuantInfo]:
    """One for the stream, or one per channel where they differ."""
    if not stream.channel_scales:
        return [_quant_info(stream)]
    top = stream.quantization.high
    pairs = zip(stream.channel_scales, stream.channel_zero_points, strict=True)
    return [QuantInfo(zero, scale, scale * (0 - zero), scale * (top - zero)) for scale, zero in pairs]


def _direction(stream: StreamDescription) -> HailoStreamDirection:
    return HailoStreamDirection.H2D if stream.direction == "input" else HailoStreamDirection.D2H


def vstream_info(stream: StreamDescription, network: str) -> VStreamInfo:
    shown = Format(code_type(stream), format_order(stream))
    return VStreamInfo(stream.name, network, _direction(stream), shown, stream.shape, _quant_info(stream))


def stream_info(stream: StreamDescription, description: HefDescription) -> StreamInfo:
    shown = Format(code_type(stream), format_order(stream))
    shape = (stream.height, stream.width, stream.features)
    index = description.streams.index(stream)
    return StreamInfo(stream.name, _direction(stream), shown, shape, stream.data_bytes, index, _quant_info(stream))


def find_stream(name: str, streams: Sequence[StreamDescription], what: str, where: str) -> StreamDescription:
    """The stream of this name.

    ``name`` may be the full name, the part after the last ``/``, or a name of the source model, as long as it means one
    stream; empty means the only one there is.

    Raises:
        HailoRTNotFoundException: no stream, or several, fit the name.
    """
    if not name:
        if len(streams) == 1:
            return streams[0]
        names = ", ".join(s.name for s in streams)
        rule = f"there are several {what} streams: say which"
        problem = Diagnostic("E-STREAM-NAME", where, rule, "no name", f"one of: {names}")
        raise device_error(Status.INVALID_ARGUMENT, problem)
    for found in (
        [s for s in streams if s.name == name],
        [s for s in streams if s.name.rsplit("/", 1)[-1] == name],
        [s for s in streams if name in s.original_names],
    ):
        if len(found) == 1:
            return found[0]
    names = [s.name for s in streams]
    short = [n.rsplit("/", 1)[-1] for n in names]
    # Suggestions also among the short and the original names, which people may type as well.
    close = did_you_mean(name, [*names, *short, *(o for s in streams for o in s.original_names)])
    levers = (f"did you mean {' or '.join(repr(c) for c in close)}?",) if close else ()
    rule, need = f"there is no {what} stream of this name", f"one of: {', '.join(names)}"
    raise HailoRTNotFoundException(Diagnostic("E-STREAM-NAME", where, rule, repr(name), need, levers), Status.NOT_FOUND)
