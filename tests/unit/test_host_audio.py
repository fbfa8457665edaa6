# SPDX-License-Identifier: Apache-2.0
"""The audio front end of TensorFlow on the host, against what TensorFlow computed, and hostile sound."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from headrace.errors import InputFileError
from headrace.host.operators import find_operator

RATE = 16_000


def tone(samples=400):
    """A rising tone, as TensorFlow was given it."""
    t = np.arange(samples) / RATE
    return np.round(8000 * np.sin(2 * np.pi * (300 + 4000 * t) * t)).astype("<i2")


def wav(samples, channels=1, bits=16, kind=1):
    body = np.ascontiguousarray(samples).tobytes()
    head = struct.pack("<HHIIHH", kind, channels, RATE, RATE * channels * bits // 8, channels * bits // 8, bits)
    data = (
        b"WAVEfmt " + struct.pack("<I", 16) + head + b"LIST\x02\0\0\0ab" + b"data" + struct.pack("<I", len(body)) + body
    )
    return b"RIFF" + struct.pack("<I", len(data)) + data


def run(name, attributes, *inputs):
    return find_operator(name, "test")(attributes, inputs)


def of(data):
    return np.array([data], object)


#: What TensorFlow's operators made of the tone: of squared magnitudes with windows of 64, 48 apart, the fourth window's
#: first; all coefficients of these (20 to 4000 Hz, 10 channels, 4 coefficients); of magnitudes with windows of 50, 100
#: apart, the third window's first.
SQUARED = [1.2324721813201904, 9.732550621032715, 11.914385795593262, 0.5798802971839905, 0.00900153536349535]
COEFFICIENTS = [
    [-12.348699569702148, 8.32940673828125, 0.3993261754512787, -0.49780330061912537],
    [-11.292389869689941, 8.012591361999512, 0.09699596464633942, -0.657893180847168],
    [-11.301834106445312, 8.274274826049805, -0.28654542565345764, -0.8449159264564514],
    [-11.285781860351562, 8.458062171936035, -0.6188362240791321, -1.004991888999939],
    [-10.048114776611328, 7.749504089355469, -0.5460739135742188, -1.168615698814392],
    [-11.641379356384277, 8.885457992553711, -1.1020225286483765, -1.3858801126480103],
    [-11.56408977508545, 8.747889518737793, -0.9940714836120605, -1.7240694761276245],
    [-13.099579811096191, 9.630180358886719, -1.0852264165878296, -2.216841459274292],
]
MAGNITUDES = [0.08998595923185349, 2.6064164638519287, 2.9287662506103516, 1.3816287517547607, 0.12238409370183945]


def test_decoding():
    audio, rate = run("decode_wav", {"channels": 1, "samples": 500}, of(wav(tone())))
    assert audio.shape == (500, 1) and audio.dtype == np.float32 and int(rate) == RATE
    assert np.array_equal(audio[:400, 0], tone() / np.float32(32768)) and not audio[400:].any()
    both = np.stack([tone(), -tone()], 1)
    stereo, _ = run("decode_wav", {"channels": -1, "samples": -1}, of(wav(both, 2)))
    assert stereo.shape == (400, 2) and np.array_equal(stereo[:, 1], -stereo[:, 0])
    wide, _ = run("decode_wav", {"channels": 3, "samples": 10}, np.frombuffer(wav(tone()), np.uint8))
    assert wide.shape == (10, 3) and np.array_equal(wide[:, 0], wide[:, 2])


def test_spectrogram_and_coefficients_are_tensorflow_s():
    audio = (tone() / np.float32(32768)).astype(np.float32)[:, None]
    (squared,) = run("audio_spectrogram", {"window": 64, "stride": 48, "squared": True}, audio)
    assert squared.shape == (1, 8, 33)
    assert np.allclose(squared[0, 3, :5], SQUARED, rtol=1e-5)
    settings = {"low": 20.0, "high": 4000.0, "channels": 10, "coefficients": 4}
    (found,) = run("mfcc", settings, squared, np.array(RATE, np.int32))
    assert np.allclose(found, [COEFFICIENTS], rtol=1e-5, atol=1e-5)
    (plain,) = run("audio_spectrogram", {"window": 50, "stride": 100, "squared": False}, audio)
    assert plain.shape == (1, 4, 33) and np.allclose(plain[0, 2, :5], MAGNITUDES, rtol=1e-5)


SETTINGS = {"low": 20.0, "high": 4000.0, "channels": 10, "coefficients": 4}
AUDIO, POWER = np.zeros((100, 1), np.float32), np.ones((1, 2, 9), np.float32)


@pytest.mark.parametrize(
    ("name", "attributes", "inputs"),
    [
        *(
            ("decode_wav", {}, [of(data)])
            for data in (b"", b"RIFF", wav(tone())[:30], wav(tone(), bits=24), wav(tone(), 0), wav(tone(), kind=3))
        ),
        ("decode_wav", {"samples": 1 << 40}, [of(wav(tone()))]),
        ("decode_wav", {"channels": "x"}, [of(wav(tone()))]),
        ("decode_wav", {}, [np.zeros(3, np.float32)]),
        ("audio_spectrogram", {"window": 0, "stride": 1}, [AUDIO]),
        ("audio_spectrogram", {"window": 1 << 30, "stride": 1}, [AUDIO]),
        ("audio_spectrogram", {"window": 8, "stride": None}, [AUDIO]),
        ("audio_spectrogram", {"window": 1 << 16, "stride": 1}, [np.zeros((1 << 20, 1), np.float32)]),
        ("audio_spectrogram", {"window": 8, "stride": 4}, [AUDIO[:, 0]]),
        ("mfcc", {}, [POWER, np.array(RATE)]),
        ("mfcc", SETTINGS | {"high": 10.0}, [POWER, np.array(RATE)]),
        ("mfcc", SETTINGS | {"channels": 1 << 20}, [POWER, np.array(RATE)]),
        ("mfcc", SETTINGS | {"low": float("nan")}, [POWER, np.array(RATE)]),
        ("mfcc", SETTINGS, [POWER, np.array(0)]),
        ("mfcc", SETTINGS, [POWER[0], np.array(RATE)]),
    ],
)  # fmt: skip
def test_what_makes_no_sound_is_refused(name, attributes, inputs):
    with pytest.raises(InputFileError) as caught:
        run(name, attributes, *inputs)
    assert caught.value.code == "E-HOST-OPERATOR"
