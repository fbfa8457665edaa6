# SPDX-License-Identifier: Apache-2.0
"""DecodeWav, AudioSpectrogram and Mfcc: signal processing, which runs on the host; their shapes are known."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.frontends.formats.tensorflow.build import Operation, Shape, ShapedRefusal, converts
from headrace.frontends.graph import Unsupported

_REASON = "it is signal processing, which runs on the host"
_NEED = "a start behind it"
_MOST = 1 << 20


def _host(operator: str, attributes: Mapping[str, float], *made: tuple[Shape, str]) -> ShapedRefusal:
    return ShapedRefusal(_REASON, _NEED, operator, attributes, made)


@converts("DecodeWav")
def decode(operation: Operation) -> None:
    samples = operation.attributes.integer("desired_samples", -1)
    channels = operation.attributes.integer("desired_channels", -1)
    audio: Shape = [samples if samples > 0 else None, channels if channels > 0 else None]
    raise _host("decode_wav", {"channels": channels, "samples": samples}, (audio, "float32"), ([], "int32"))


@converts("AudioSpectrogram")
def spectrogram(operation: Operation) -> None:
    window, stride = (operation.attributes.integer(key, 0) for key in ("window_size", "stride"))
    if not (1 < window <= _MOST and 0 < stride <= _MOST):
        raise Unsupported(f"window_size {window} and stride {stride}", "positive integers")
    shape = operation.builder.shape_of(operation.value(0)) or []
    samples, channels = [*shape, None, None][:2]
    rows = None if samples is None else max((samples - window) // stride + 1, 0)
    frequencies = (1 << (window - 1).bit_length()) // 2 + 1
    squared = operation.attributes.flag("magnitude_squared")
    attributes = {"window": window, "stride": stride, "squared": squared}
    raise _host("audio_spectrogram", attributes, ([channels, rows, frequencies], "float32"))


@converts("Mfcc")
def coefficients(operation: Operation) -> None:
    shape = operation.builder.shape_of(operation.value(0)) or []
    given = operation.attributes
    count = given.integer("dct_coefficient_count", 13)
    attributes = {
        "low": given.real("lower_frequency_limit", 20.0),
        "high": given.real("upper_frequency_limit", 4000.0),
        "channels": given.integer("filterbank_channel_count", 40),
        "coefficients": count,
    }
    raise _host("mfcc", attributes, ([*[*shape, None, None][:2], count], "float32"))
