# SPDX-License-Identifier: Apache-2.0
"""CONV_3D and CONV_3D_TRANSPOSE against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from parsing import parse_tflite
from small_tflite import SmallModel, uniform_feeds, worst_difference


def check(model, output):
    data = model.bytes(output)
    network = parse_tflite(data, "net").network
    assert worst_difference(network, data, uniform_feeds(data, frames=1), run_network) < 1e-5


def weights(*shape):
    return np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 1, 2)])
def test_convolution(padding, strides):
    m = SmallModel()
    x = m.input(1, 6, 7, 8, 3)
    options = {f"stride_{axis}": stride for axis, stride in zip("dhw", strides, strict=True)}
    operands = [x, m.constant(weights(3, 2, 3, 3, 4)), m.constant(weights(4))]
    size = [
        -(-n // s) if padding == "SAME" else (n - k) // s + 1
        for n, k, s in zip((6, 7, 8), (3, 2, 3), strides, strict=True)
    ]
    check(m, m.op("CONV_3D", operands, [1, *size, 4], padding=padding, activation="RELU", **options))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_transposed_convolution(padding):
    m = SmallModel()
    x = m.input(1, 3, 4, 3, 4)
    size = [6, 8, 6] if padding == "SAME" else [7, 9, 7]
    shape = [1, *size, 5]
    operands = [m.ints(shape), m.constant(weights(3, 3, 3, 5, 4)), x, m.constant(weights(5))]
    options = {f"stride_{axis}": 2 for axis in "dhw"}
    check(m, m.op("CONV_3D_TRANSPOSE", operands, shape, padding=padding, **options))
