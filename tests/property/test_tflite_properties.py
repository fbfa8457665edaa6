# SPDX-License-Identifier: Apache-2.0
"""Damaged TFLite files end in coded errors, quickly; what still parses is a valid network."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("flatbuffers")

from headrace.errors import HeadraceError
from headrace.hn import check_network
from parsing import parse_tflite
from small_tflite import SmallModel

REAL = (
    "mlperf_tiny/ic_resnet8_float.tflite",
    "mlperf_tiny/kws_dscnn_float.tflite",
    "mediapipe_face_float/face_detection_front.tflite",
    "ultraface/version-RFB-320_without_postprocessing.tflite",
)
_QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def survives(data):
    """Parse; a network, or an error of ours."""
    begun = time.monotonic()
    try:
        check_network(parse_tflite(data).network)
    except HeadraceError as error:
        assert all(d.code and d.rule for d in error.diagnostics)
    assert time.monotonic() - begun < 10


def small():
    rng = np.random.default_rng(0)
    m = SmallModel()
    x = m.input(1, 8, 8, 3)
    kernel, bias = m.constant(rng.normal(size=(4, 3, 3, 3)).astype(np.float16)), m.constant(np.zeros(4, np.float32))
    k = m.op("DEQUANTIZE", [kernel], [4, 3, 3, 3])
    c = m.op("CONV_2D", [x, k, bias], [1, 4, 4, 4], stride_h=2, stride_w=2, activation="RELU6")
    p = m.op("PAD", [c, m.ints([[0, 0], [1, 1], [1, 1], [0, 0]])], [1, 6, 6, 4])
    a = m.op("MAX_POOL_2D", [p], [1, 3, 3, 4], stride_h=2, stride_w=2, filter_h=2, filter_w=2)
    s = m.op("STRIDED_SLICE", [a, m.ints([0, 0, 0, 1]), m.ints([1, 3, 3, 3]), m.ints([1, 1, 1, 1])], [1, 3, 3, 2])
    r = m.op("RESHAPE", [s, m.ints([1, 18])], [1, 18])
    w = m.constant(rng.normal(size=(5, 18)).astype(np.float32))
    return m.bytes(m.op("SOFTMAX", [m.op("FULLY_CONNECTED", [r, w], [1, 5])], [1, 5], beta=1.0))


SMALL = small()
WORDS = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])


@settings(max_examples=300, **_QUIET)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 4), WORDS, st.sampled_from([1, 2, 4])), min_size=1, max_size=4))
def test_words_of_a_small_file_replaced(changes):
    data = bytearray(SMALL)
    for place, value, width in changes:
        data[place : place + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    survives(bytes(data))


@settings(max_examples=100, **_QUIET)
@given(st.data())
def test_bits_of_real_files_flipped(zoo, data):
    content = bytearray((zoo / data.draw(st.sampled_from(REAL))).read_bytes())
    end = st.integers(0, min(len(content), 40_000) - 1)  # the structure stands at both ends, weights between
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.one_of(end, end.map(lambda n: len(content) - 1 - n)))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    survives(bytes(content))


@settings(max_examples=40, **_QUIET)
@given(st.data())
def test_real_files_cut_short(zoo, data):
    content = (zoo / data.draw(st.sampled_from(REAL))).read_bytes()
    survives(content[: data.draw(st.integers(0, len(content)))])


@settings(max_examples=50, **_QUIET)
@given(st.binary(max_size=300))
def test_noise_behind_the_identifier(noise):
    survives(noise[:4].ljust(4, b"\0") + b"TFL3" + noise[4:])
