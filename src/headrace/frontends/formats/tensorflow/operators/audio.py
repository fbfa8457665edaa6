# SPDX-License-Identifier: Apache-2.0
"""DecodeWav, AudioSpectrogram and Mfcc: signal processing, which runs on the host; their shapes are known."""

from __future__ import annotations

from headrace.frontends.formats.tensorflow.build import Operation, Shape, ShapedRefusal, converts
from headrace.frontends.graph import Unsupported

_REASON = "it is signal processing, which runs on the host"
_NEED = "a start behind it"
_MOST = 1 << 24


def _refused(*shapes: Shape) -> ShapedRefusal:
    return ShapedRefusal(_REASON, _NEED, shapes)


def fft_length(window: int) -> int:
    """The power of two that a window is filled up to."""
    return 1 << max(window - 1, 0).bit_length()


@converts("DecodeWav")
def decode(operation: Operation) -> None:
    samples = operation.attributes.integer("desired_samples", -1)
    channels = operation.attributes.integer("desired_channels", -1)
    raise _refused([samples if samples > 0 else None, channels if channels > 0 else None], [])


@converts("AudioSpectrogram")
def spectrogram(operation: Operation) -> None:
    window, stride = (operation.attributes.integer(key, 0) for key in ("window_size", "stride"))
    if not (1 < window < _MOST and 0 < stride < _MOST):
        raise Unsupported(f"window_size {window} and stride {stride}", "positive integers")
    shape = operation.builder.shape_of(operation.value(0)) or [None, None]
    samples, channels = [*shape, None, None][:2]
    rows = None if samples is None else max((samples - window) // stride + 1, 0)
    raise _refused([channels, rows, fft_length(window) // 2 + 1])


@converts("Mfcc")
def coefficients(operation: Operation) -> None:
    shape = operation.builder.shape_of(operation.value(0)) or [None, None, None]
    raise _refused([*[*shape, None, None][:2], operation.attributes.integer("dct_coefficient_count", 13)])
