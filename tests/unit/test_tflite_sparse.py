# SPDX-License-Identifier: Apache-2.0
"""Sparse weights and MediaPipe's transposed convolution: against LiteRT, and damaged in every way."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from headrace.errors import HeadraceError, InputFileError, UnsupportedModelError
from headrace.frontends.formats.tflite.flatbuffer import DamagedError
from headrace.frontends.formats.tflite.sparse import Level, Sparsity, dense
from parsing import parse_tflite
from small_tflite import SmallModel, uniform_feeds, worst_difference


def rng():
    return np.random.default_rng(0)


def pruned(*shape, block=1):
    """Weights of which about a third are left, in blocks of the last dimension."""
    keep = rng().uniform(0, 1, (*shape[:-1], shape[-1] // block)) < 0.35
    keep.reshape(-1)[0] = True
    return (rng().normal(0, 0.5, shape) * np.repeat(keep, block, -1)).astype(np.float32)


def convolution(m, weight):
    x = m.input(1, 6, 7, weight.shape[-1])
    w = m.op("DENSIFY", [m.sparse(weight)], weight.shape)
    bias = m.constant(rng().normal(0, 1, weight.shape[0]).astype(np.float32))
    return m.op("CONV_2D", [x, w, bias], [1, 6, 7, weight.shape[0]], stride_h=1, stride_w=1)


def test_pruned_weights():
    m = SmallModel()
    weight = pruned(8, 1, 1, 16)
    data = m.bytes(convolution(m, weight))
    network = parse_tflite(data, "net").network
    assert [layer.kind for layer in network] == ["input_layer", "conv", "output_layer"]
    assert np.array_equal(network.params["net/conv1/kernel"][0, 0], weight[:, 0, 0].T)
    assert worst_difference(network, data, uniform_feeds(data), run_network) < 1e-5


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("indices", [np.uint8, np.uint16, np.int32])
def test_every_kind_of_index_and_blocks(block, indices):
    weight = pruned(5, 12, block=block)
    m = SmallModel()
    x = m.input(1, 12)
    w = m.op("DENSIFY", [m.sparse(weight, block, indices)], weight.shape)
    y = m.op("FULLY_CONNECTED", [x, w, m.constant(np.zeros(5, np.float32))], [1, 5])
    data = m.bytes(y)
    network = parse_tflite(data, "net").network
    assert np.array_equal(network.params["net/fc1/kernel"], weight.T)
    assert worst_difference(network, data, uniform_feeds(data), run_network) < 1e-5


def test_pruned_float16_weights():
    """As MediaPipe's detectors store them: DENSIFY makes float16, DEQUANTIZE float32."""
    weight = pruned(8, 1, 1, 16).astype(np.float16)
    m = SmallModel()
    x = m.input(1, 6, 7, 16)
    w = m.op("DENSIFY", [m.sparse(weight)], weight.shape, "float16")
    w = m.op("DEQUANTIZE", [w], weight.shape)
    y = m.op("CONV_2D", [x, w, m.constant(np.zeros(8, np.float32))], [1, 6, 7, 8], stride_h=1, stride_w=1)
    network = parse_tflite(m.bytes(y), "net").network
    assert np.array_equal(network.params["net/conv1/kernel"][0, 0], weight[:, 0, 0].T.astype(np.float32))


COMPRESSED = Level(0, np.array([0, 1, 3]), np.array([2, 0, 1]))


@pytest.mark.parametrize(
    "record",
    [
        Sparsity((0, 1), (), (Level(2),)),  # too few levels
        Sparsity((0, 0), (), (Level(2), Level(3))),  # not a permutation
        Sparsity((0, 1), (), (Level(3), COMPRESSED)),  # not the size of the dimension
        Sparsity((0, 1), (), (Level(2), Level(0, np.array([0, 1, 3]), np.array([2, 0, 3])))),  # an index too large
        Sparsity((0, 1), (), (Level(2), Level(0, np.array([0, 1, 3]), np.array([2, 0, -1])))),
        Sparsity((0, 1), (), (Level(2), Level(0, np.array([0, 2, 1]), np.array([2, 0, 1])))),  # segments fall
        Sparsity((0, 1), (), (Level(2), Level(0, np.array([1, 1, 3]), np.array([2, 0, 1])))),
        Sparsity((0, 1), (), (Level(2), Level(0, np.array([0, 3]), np.array([2, 0, 1])))),
        Sparsity((0, 1, 2), (1,), (Level(2), COMPRESSED, Level(2))),  # blocks that do not divide
        Sparsity((0, 1, 2), (2,), (Level(2), COMPRESSED, Level(1))),
        Sparsity((0, 1, 2), (1,), (Level(2), COMPRESSED, COMPRESSED)),
        Sparsity((0, 1), (), (Level(2), Level(0, np.array([0, 1, 2]), np.array([2, 0])))),  # not enough places
    ],
)
def test_damaged_records(record):
    good = Sparsity((0, 1), (), (Level(2), COMPRESSED))
    values = np.array([1, 2, 3], np.float32)
    assert dense(good, (2, 3), values).tolist() == [[0, 0, 1], [2, 3, 0]]
    with pytest.raises(DamagedError):
        dense(record, (2, 3), values)


def test_a_small_file_may_not_ask_for_a_large_tensor():
    m = SmallModel()
    x = m.input(1, 1 << 14)
    levels = [1 << 14, (np.zeros((1 << 14) + 1, np.int32), np.zeros(0, np.uint8))]
    record = {"order": [0, 1], "blocks": [], "levels": levels}
    w = m.op("DENSIFY", [m.tensor([1 << 14, 1 << 14], "float32", b"", sparsity=record)], [1 << 14, 1 << 14])
    m.op("FULLY_CONNECTED", [x, w, m.constant(np.zeros(1 << 14, np.float32))], [1, 1 << 14])
    m.tensors[1]["data"] = bytes(4)  # a buffer must not be empty
    with pytest.raises(HeadraceError) as caught:
        parse_tflite(m.bytes(m.operators[-1][2][0]))
    assert "too often" in str(caught.value)


def test_flipped_bytes_end_in_coded_errors():
    m = SmallModel()
    data = m.bytes(convolution(m, pruned(8, 1, 1, 16)))
    random = np.random.default_rng(1)
    for _ in range(300):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 3):
            broken[place] = random.integers(0, 256)
        try:
            parse_tflite(bytes(broken))
        except HeadraceError:
            continue


# --- transposed convolution with a bias -------------------------------------------------------------------------------


def transposed(custom, padding):
    """One transposed convolution, as the built-in operator or as MediaPipe's."""
    random = rng()
    m = SmallModel()
    x = m.input(1, 5, 6, 3)
    w = m.constant(random.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32))
    b = m.constant(random.normal(0, 0.5, 4).astype(np.float32))
    shape = [1, 10, 12, 4] if padding == "SAME" else [1, 11, 13, 4]
    if custom is not None:
        return m.bytes(m.op("CUSTOM:Convolution2DTransposeBias", [x, w, b], shape, custom=custom))
    more = {"padding": padding, "stride_h": 2, "stride_w": 2}
    return m.bytes(m.op("TRANSPOSE_CONV", [m.ints(shape), w, x, b], shape, **more))


@pytest.mark.parametrize(("padding", "number"), [("SAME", 1), ("VALID", 2)])
def test_mediapipe_transposed_convolution(padding, number):
    """It means what the built-in operator with the same numbers does, which LiteRT can run."""
    builtin = transposed(None, padding)
    assert worst_difference(parse_tflite(builtin, "net").network, builtin, uniform_feeds(builtin), run_network) < 1e-5
    want = parse_tflite(builtin, "net").network
    got = parse_tflite(transposed(struct.pack("<3i", number, 2, 2), padding), "net").network
    x = {"t0": rng().normal(0, 1, (2, 5, 6, 3)).astype(np.float32)}
    for a, b in zip(run_network(want, x).values(), run_network(got, x).values(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("options", [b"", bytes(8), struct.pack("<3i", 0, 2, 2), struct.pack("<3i", 3, 2, 2)])
def test_damaged_options_of_a_custom_operator(options):
    with pytest.raises(InputFileError) as caught:
        parse_tflite(transposed(options, "SAME"))
    assert "options" in str(caught.value)


def test_a_stride_that_is_not_positive():
    with pytest.raises(UnsupportedModelError) as caught:
        parse_tflite(transposed(struct.pack("<3i", 1, 0, -2), "SAME"))
    assert "positive" in str(caught.value)
