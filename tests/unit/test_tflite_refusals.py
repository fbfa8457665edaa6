# SPDX-License-Identifier: Apache-2.0
"""TFLite files that are damaged, hostile, or of a kind that is not read: always a coded error with a place."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("flatbuffers")

from headrace.errors import InputFileError, UnsupportedModelError, UsageError
from parsing import parse_tflite
from small_tflite import SmallModel


def conv(m, x, shape, **more):
    kernel = m.constant(np.ones((4, 3, 3, m.tensors[x]["shape"][-1]), np.float32))
    return m.op("CONV_2D", [x, kernel, m.constant(np.zeros(4, np.float32))], shape, stride_h=1, stride_w=1, **more)


def small():
    m = SmallModel()
    x = m.input(1, 8, 8, 3)
    return m, conv(m, x, [1, 8, 8, 4])


def corrupt(data, *words):
    with pytest.raises(InputFileError) as caught:
        parse_tflite(data)
    text = str(caught.value)
    assert all(word in text for word in words), text


def unsupported(m, *outputs):
    with pytest.raises(UnsupportedModelError) as caught:
        parse_tflite(m.bytes(*outputs))
    return caught.value


# --- damaged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"\x08\x00\x00\x00ONNX", "not a TensorFlow model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"\xff\xff\xff\xffTFL3" + bytes(8), "damaged"),
        (b"\x00\x00\x00\x00TFL3" + bytes(8), "damaged"),
        (b"\x08\x00\x00\x00TFL3\x00\x00\x00\x80", "damaged"),
    ],
)
def test_not_a_model(data, word):
    corrupt(data, word)


def test_missing_file(tmp_path):
    with pytest.raises(InputFileError):
        parse_tflite(tmp_path / "none.tflite")


def test_every_truncation_of_a_small_file():
    m, y = small()
    data = m.bytes(y)
    for size in range(0, len(data) - 1, 3):
        with pytest.raises(InputFileError):
            parse_tflite(data[:size])


def test_data_that_does_not_fit_its_shape():
    m, y = small()
    m.tensors[1]["shape"] = [4, 3, 3, 1000]
    corrupt(m.bytes(y), "does not fit", "bytes")


@pytest.mark.parametrize("shape", [[-1, 8, 8, 3], [1 << 30, 1 << 30, 1, 1]])
def test_sizes_that_are_not_sizes(shape):
    m, y = small()
    m.tensors[0]["shape"] = shape
    corrupt(m.bytes(y), "sizes are not valid")


def test_tensors_that_do_not_exist():
    m, y = small()
    m.operators[0][1][0] = 999
    corrupt(m.bytes(y), "does not exist", "999")


def test_operators_in_a_circle():
    m = SmallModel()
    x = m.input(1, 4)
    a, b = m.tensor([1, 4]), m.tensor([1, 4])
    m.operators += [("ADD", [x, b], [a], {}), ("RELU", [a], [b], {})]
    corrupt(m.bytes(b), "nothing before it defines")


def test_a_tensor_made_twice():
    m = SmallModel()
    x = m.input(1, 4)
    a = m.op("RELU", [x], [1, 4])
    m.operators.append(("TANH", [x], [a], {}))
    corrupt(m.bytes(a), "defined already")


def test_options_of_another_operator():
    m, y = small()
    data = bytearray(m.bytes(y))
    # The byte of the union's kind stands once in the operator's table; all bytes of 1 are tried.
    refusals = 0
    for place in [i for i, b in enumerate(data) if b == 1]:
        changed = bytearray(data)
        changed[place] = 5
        try:
            parse_tflite(bytes(changed))
        except InputFileError as error:
            refusals += "its options are of kind 5" in str(error)
        except UnsupportedModelError:
            pass
    assert refusals == 1


def test_a_vector_as_large_as_it_says_is_never_allocated():
    """Each length in the file replaced by 2^31 − 1 and by 2^32 − 1."""
    m, y = small()
    data = m.bytes(y)
    for place in range(0, len(data) - 4, 4):
        for value in (0x7FFFFFFF, 0xFFFFFFFF):
            changed = data[:place] + struct.pack("<I", value) + data[place + 4 :]
            try:
                parse_tflite(changed)
            except (InputFileError, UnsupportedModelError, UsageError):
                pass


def test_one_large_constant_used_many_times():
    """A small file must not make us copy one tensor without bound."""
    m = SmallModel()
    x = m.input(1, 4, 4, 1)
    big = m.constant(np.zeros((1, 1, 1, 1 << 20), np.float32))
    for _ in range(200):
        x = m.op("DEPTHWISE_CONV_2D", [x, big], [1, 4, 4, 1 << 20], stride_h=1, stride_w=1, depth_multiplier=1 << 20)
        x = m.op("MEAN", [x, m.ints([3])], [1, 4, 4, 1], keep_dims=True)
    assert "too often" in str(unsupported(m, x))


def test_problems_are_listed_together():
    m, y = small()
    m.tensors[1]["shape"] = [4, 3, 3, 7]
    m.tensors[2]["shape"] = [9]
    with pytest.raises(InputFileError) as caught:
        parse_tflite(m.bytes(y))
    assert len(caught.value.diagnostics) == 2


# --- of a kind that is not read --------------------------------------------------------------------------------------


def test_all_operators_that_are_not_supported_are_listed():
    m = SmallModel()
    x = conv(m, m.input(1, 8, 8, 3), [1, 8, 8, 4], activation="RELU")
    end = m.tensors[x]["name"]
    a = m.op("CUSTOM:FlexErf", [x], [1, 8, 8, 4])
    b = m.op("CUSTOM:TFLite_Detection_PostProcess", [a], [1, 8, 8, 4])
    c = m.op("RANDOM_UNIFORM", [b], [1, 8, 8, 2])
    d = m.op("READ_VARIABLE", [m.op("VAR_HANDLE", [], [1])], [1, 8, 8, 2])
    e = m.op("WHILE", [m.op("UNIDIRECTIONAL_SEQUENCE_LSTM", [c], [1, 8, 8, 2])], [1, 8, 8, 2])
    error = unsupported(m, m.op("ADD", [e, d], [1, 8, 8, 2]))
    assert error.code == "E-TFLITE-UNSUPPORTED"
    assert [diagnostic.got for diagnostic in error.diagnostics] == [
        "CUSTOM:FlexErf", "CUSTOM:TFLite_Detection_PostProcess", "RANDOM_UNIFORM", "READ_VARIABLE",
        "UNIDIRECTIONAL_SEQUENCE_LSTM", "WHILE",
    ]  # fmt: skip
    assert error.recommended_end_nodes == [end]
    assert parse_tflite(m.bytes(), end_node_names=[end]).network.output_layers


def test_a_variable_tensor():
    m = SmallModel()
    x = m.input(1, 4)
    state = m.tensor([1, 4], name="state", variable=True)
    assert "variable" in str(unsupported(m, m.op("ADD", [x, state], [1, 4])))


def test_several_graphs():
    m, y = small()
    m.more_graphs = 1
    assert unsupported(m, y).code == "E-TFLITE-SUBGRAPHS"


def test_weights_that_are_not_finite():
    m, y = small()
    values = np.ones((4, 3, 3, 3), np.float32)
    values[1, 2, 0, 1] = np.nan
    m.tensors[1]["data"] = values.tobytes()
    assert "NaN" in str(unsupported(m, y))


def test_sizes_that_the_file_leaves_open():
    m = SmallModel()
    x = m.input(1, 1, 1, 3, signature=[-1, -1, -1, 3], name="image")
    data = m.bytes(conv(m, x, [1, 1, 1, 4]))
    with pytest.raises(UsageError, match="image"):
        parse_tflite(data)
    network = parse_tflite(data, input_shapes={"image": [1, 6, 9, 3]}).network
    assert network.output_layers[0].output_shape == (-1, 6, 9, 4)


def test_tensors_of_one_name_or_none():
    m = SmallModel()
    x = m.input(1, 4, name="same")
    a = m.op("RELU", [x], [1, 4], name="same")
    y = m.op("TANH", [a], [1, 4], name="")
    network = parse_tflite(m.bytes(y)).network
    assert [layer.kind for layer in network] == ["input_layer", "activation", "activation", "output_layer"]
