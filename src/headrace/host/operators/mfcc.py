# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's Mfcc: the cepstrum of a spectrogram on the mel scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import Array
from headrace.host.operators import operator
from headrace.typeguards import is_integer, is_number

#: What silence counts as.
_FLOOR = 1e-12
_MOST = 1 << 24


def _mel(frequency: float) -> float:
    return float(1127.0 * np.log1p(frequency / 700.0))


def _filterbank(bins: int, rate: float, low: float, high: float, channels: int) -> Array:
    """What each frequency adds to each channel, float64 [bins, channels]: triangles on the mel scale."""
    begin, end = _mel(low), _mel(high)
    centres = begin + (end - begin) / (channels + 1) * np.arange(1, channels + 2)
    per_bin = 0.5 * rate / (bins - 1)
    first, last = int(1.5 + low / per_bin), int(high / per_bin)
    weights = np.zeros((bins, channels))
    for index in range(first, min(last + 1, bins)):
        place = _mel(index * per_bin)
        band = int(np.searchsorted(centres[:channels], place, side="left")) - 1
        left = centres[band] if band >= 0 else begin
        share = (centres[band + 1] - place) / (centres[band + 1] - left)
        if band >= 0:
            weights[index, band] += share
        if band + 1 < channels:
            weights[index, band + 1] += 1 - share
    return weights


@operator("mfcc")
def mfcc(attributes: Mapping[str, Any], inputs: Sequence[Array]) -> Sequence[Array]:
    """Squared magnitudes [channels, windows, frequencies] and the rate → coefficients float32 [channels, windows, n].

    Attributes: ``low`` and ``high`` frequency in Hz, ``channels`` of the filterbank, ``coefficients``.

    Raises:
        InputFileError: attributes or a spectrogram that have none.
    """
    low, high = attributes.get("low"), attributes.get("high")
    channels, count = attributes.get("channels"), attributes.get("coefficients")
    spectrogram, rates = np.asarray(inputs[0]), np.asarray(inputs[1]).reshape(-1).tolist()
    if not (
        is_integer(channels) and is_integer(count) and 0 < count <= channels <= 4096
        and is_number(low) and is_number(high) and 0 <= low < high <= 1e6
        and spectrogram.ndim == 3 and spectrogram.shape[2] > 1 and len(rates) == 1 and 1 <= rates[0] <= 1e8
    ):  # fmt: skip
        got = f"{dict(attributes)}, spectrogram {list(spectrogram.shape)}, rate {rates[:4]}"[:200]
        rule, need = "they have no coefficients", "[channels, windows, frequencies], a rate, a range of frequencies"
        raise InputFileError(Diagnostic("E-HOST-OPERATOR", "mfcc", rule, got, need))
    if spectrogram.shape[2] * channels > _MOST:
        rule, got = "the filterbank is too large", f"{spectrogram.shape[2]} frequencies, {channels} channels"
        raise InputFileError(Diagnostic("E-HOST-OPERATOR", "mfcc", rule, got, f"≤ {_MOST} weights"))
    weights = _filterbank(spectrogram.shape[2], float(rates[0]), float(low), float(high), channels)
    energies = np.log(np.maximum(np.sqrt(np.maximum(spectrogram.astype(np.float64), 0)) @ weights, _FLOOR))
    angles = np.pi / channels * np.outer(np.arange(channels) + 0.5, np.arange(count))
    return [(energies @ (np.sqrt(2 / channels) * np.cos(angles))).astype(np.float32)]
