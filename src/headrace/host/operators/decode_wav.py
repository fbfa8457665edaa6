# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's DecodeWav: the samples of a WAV file between -1 and 1, and their rate."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import Array
from headrace.host.operators import operator
from headrace.typeguards import is_integer

_MAX_SAMPLES = 1 << 26


def _wrong(rule: str, got: object = "", need: str = "") -> InputFileError:
    return InputFileError(Diagnostic("E-HOST-OPERATOR", "decode_wav", rule, str(got)[:100], need))


def _contents(given: Array) -> bytes:
    """The bytes of the file: a string tensor of one element, or the bytes themselves."""
    if given.dtype == np.uint8:
        return given.tobytes()
    found = given.reshape(-1)[:1].tolist()
    if given.size != 1 or not isinstance(found[0], bytes):
        raise _wrong("it decodes one WAV file", f"{given.dtype} {list(given.shape)}", "the bytes of a file")
    return bytes(found[0])


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a RIFF file by their name."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise _wrong("this is not a WAV file", data[:12].hex(" "), "RIFF … WAVE")
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        found.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return found


@operator("decode_wav")
def decode_wav(attributes: Mapping[str, Any], inputs: Sequence[Array]) -> Sequence[Array]:
    """The contents of a WAV file → samples float32 [samples, channels], rate int32.

    Attributes: ``channels``, ``samples`` as wanted, -1 for those that the file has. Channels that are missing repeat
    the last one, samples that are missing are 0.

    Raises:
        InputFileError: no WAV file with samples of 16 bits.
    """
    channels, samples = attributes.get("channels", -1), attributes.get("samples", -1)
    if not (is_integer(channels) and is_integer(samples)) or max(channels, 1) > 64 or samples > _MAX_SAMPLES:
        raise _wrong("its attributes are not numbers of channels and samples", f"{channels}, {samples}")
    chunks = _chunks(_contents(np.asarray(inputs[0])))
    header, body = chunks.get(b"fmt ", b""), chunks.get(b"data", b"")
    if len(header) < 16:
        raise _wrong("the WAV file has no format", "", "a chunk 'fmt '")
    kind, stored, rate, _, _, bits = struct.unpack("<HHIIHH", header[:16])
    if kind not in (1, 0xFFFE) or bits != 16 or not stored:
        raise _wrong("its samples are not PCM of 16 bits", f"format {kind}, {bits} bits, {stored} channels", "16 bits")
    count = min(len(body) // (2 * stored), _MAX_SAMPLES)
    decoded = np.frombuffer(body[: 2 * stored * count], "<i2").reshape(count, stored).astype(np.float32) / 32768
    wide = decoded[:, np.minimum(np.arange(channels if channels > 0 else stored), stored - 1)]
    if samples > 0:
        wide = np.concatenate([wide[:samples], np.zeros((max(samples - count, 0), wide.shape[1]), np.float32)])
    return [wide.astype(np.float32), np.array(rate, np.int32)]
