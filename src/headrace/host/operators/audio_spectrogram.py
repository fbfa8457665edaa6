# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's AudioSpectrogram: the magnitudes of a signal's frequencies, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import Array
from headrace.host.operators import operator
from headrace.typeguards import is_integer

_MOST = 1 << 26


@operator("audio_spectrogram")
def audio_spectrogram(attributes: Mapping[str, Any], inputs: Sequence[Array]) -> Sequence[Array]:
    """Samples float32 [samples, channels] → [channels, windows, frequencies], squared where ``squared`` is true.

    Each window of ``window`` samples, ``stride`` apart, is weighted by a periodic Hann window and filled up with zeros
    to a power of two.

    Raises:
        InputFileError: attributes or samples that make no spectrogram.
    """
    window, stride, squared = attributes.get("window"), attributes.get("stride"), bool(attributes.get("squared"))
    samples = np.asarray(inputs[0])
    if not (
        is_integer(window) and is_integer(stride) and 1 < window <= 1 << 20 and 0 < stride <= 1 << 20
        and samples.ndim == 2 and samples.size <= _MOST
    ):  # fmt: skip
        got = f"window {window}, stride {stride}, samples {list(samples.shape)}"
        rule, need = "they make no spectrogram", "[samples, channels], a window of 2 or more"
        raise InputFileError(Diagnostic("E-HOST-OPERATOR", "audio_spectrogram", rule, got, need))
    length = 1 << (window - 1).bit_length()
    count = max((samples.shape[0] - window) // stride + 1, 0)
    if count * samples.shape[1] * length > _MOST:
        rule = "the spectrogram is too large"
        got = f"{count} windows of {length} samples of {samples.shape[1]} channels"
        raise InputFileError(Diagnostic("E-HOST-OPERATOR", "audio_spectrogram", rule, got, f"≤ {_MOST} samples"))
    starts: Array = stride * np.arange(count, dtype=np.int64)
    places = starts[:, None] + np.arange(window, dtype=np.int64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    spectrum = np.fft.rfft(samples.T.astype(np.float64)[:, places] * hann, length)
    power = spectrum.real**2 + spectrum.imag**2
    return [(power if squared else np.sqrt(power)).astype(np.float32)]
