# SPDX-License-Identifier: Apache-2.0
"""Quantized TFLite files: their codes are kept, and the device agrees with LiteRT operator by operator."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flatbuffers")
pytest.importorskip("ai_edge_litert")

from headrace.errors import DataError, HeadraceError
from headrace.runner import ClientRunner, InferenceContext
from same_bytes import assert_same_bytes
from small_tflite import SmallModel, litert_outputs

RNG = np.random.default_rng(11)
LEAST = {"int8": -128, "uint8": 0, "int16": -32768}


class QuantizedModel(SmallModel):
    """Tensors of one element type, with scales."""

    def __init__(self, kind="int8", weights="int8"):
        super().__init__()
        self.kind, self.weights = kind, weights

    def codes(self, *shape, scale=0.05, zero=3):
        zero = 0 if self.kind == "int16" else zero + (128 if self.kind == "uint8" else 0)
        return self.input(*shape, kind=self.kind, scale=[scale], zero=[zero])

    def kernel(self, *shape, channels=0, zero=0, axis=0):
        """Weights; per tensor, or one scale for each of ``channels`` along ``axis``."""
        least, most = (0, 256) if self.weights == "uint8" else (-127, 128)
        scale = np.abs(RNG.normal(0.01, 0.003, max(channels, 1))) + 1e-3
        array = RNG.integers(least, most, shape).astype(self.weights)
        return self.constant(array, scale=list(scale), zero=[zero] * max(channels, 1), axis=axis)

    def bias(self, count, x, kernel):
        scale = np.float32(self.tensors[x]["scale"][0]) * np.array(self.tensors[kernel]["scale"], np.float32)
        dtype = np.int64 if self.kind == "int16" else np.int32
        array = RNG.integers(-2000, 2000, count).astype(dtype)
        return self.constant(array, scale=list(scale), zero=[0] * len(scale))

    def result(self, operator, inputs, shape, scale=0.1, zero=-5, **options):
        zero = 0 if self.kind == "int16" else zero + (128 if self.kind == "uint8" else 0)
        made = self.tensor(shape, self.kind, scale=[scale], zero=[zero])
        return self.op(operator, inputs, shape, outputs=[made], **options)[0]


def runner_of(data):
    runner = ClientRunner()
    runner.translate_tf_model(data, "net")
    return runner


def differences(data, frames=3, wide=False):
    """(how far codes of the first output differ from LiteRT's, the runner)."""
    from ai_edge_litert.interpreter import Interpreter

    runner = runner_of(data)
    report = runner.optimize()
    assert report["calibration"]["frames"] == 0 and report["from_file"]["changed_weights"] == []
    interpreter = Interpreter(model_content=data)
    feeds, reals = {}, {}
    names = {layer.boundary.source_name: layer.name for layer in runner.archive.native.input_layers}
    for d in interpreter.get_input_details():
        kind = d["dtype"]
        info = np.iinfo(kind)
        codes = RNG.integers(info.min, info.max + 1, (frames, *d["shape"][1:])).astype(kind)
        scale, zero = d["quantization"]
        feeds[d["name"]] = codes
        reals[names[d["name"]]] = (codes.astype(np.float32) - zero) * np.float32(scale)
    wanted = litert_outputs(data, feeds)
    got = runner.infer(InferenceContext.SDK_QUANTIZED, reals, quantized_io=True, source_layout=True)
    (want,) = wanted.values()
    least = np.iinfo(want.dtype).min
    assert np.ptp(want.astype(np.int64)) > 3, "the output says nothing"
    off = np.abs(got.astype(np.int64).reshape(want.shape) - (want.astype(np.int64) - least))
    assert_same_bytes(runner.archive.quantized)
    return off, runner


def agree(m, y, most=1, share=0.02, **options):
    """Codes differ by no more than ``most``, and by that in no more than this share of places: LiteRT rounds twice."""
    off, runner = differences(m.bytes(y), **options)
    assert off.max() <= most and np.mean(off > 0) <= share, (off.max(), np.mean(off > 0))
    return runner


STRIDES = {"stride_h": 1, "stride_w": 1}


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
@pytest.mark.parametrize(
    ("kind", "weights", "channels", "zero"),
    [("int8", "int8", 0, 0), ("int8", "int8", 5, 0), ("uint8", "uint8", 0, 131), ("uint8", "uint8", 0, 0)],
)
def test_convolution(kind, weights, channels, zero, activation):
    m = QuantizedModel(kind, weights)
    x = m.codes(1, 9, 8, 6)
    w = m.kernel(5, 3, 3, 6, channels=channels, zero=zero)
    y = m.result("CONV_2D", [x, w, m.bias(5, x, w)], [1, 9, 8, 5], activation=activation, **STRIDES)
    agree(m, y)


@pytest.mark.parametrize(("kind", "weights", "channels", "zero"), [("int8", "int8", 8, 0), ("uint8", "uint8", 0, 90)])
def test_depthwise(kind, weights, channels, zero):
    m = QuantizedModel(kind, weights)
    x = m.codes(1, 8, 8, 8)
    w = m.kernel(1, 3, 3, 8, channels=channels, zero=zero, axis=3)
    shape = [1, 4, 4, 8]
    y = m.result(
        "DEPTHWISE_CONV_2D", [x, w, m.bias(8, x, w)], shape, 0.05, stride_h=2, stride_w=2, depth_multiplier=1,
        activation="RELU",
    )  # fmt: skip
    agree(m, y)


@pytest.mark.parametrize(
    ("kind", "weights", "channels", "zero"),
    [("int8", "int8", 0, 0), ("int8", "int8", 7, 0), ("uint8", "uint8", 0, 140)],
)
def test_fully_connected(kind, weights, channels, zero):
    m = QuantizedModel(kind, weights)
    x = m.codes(1, 40)
    w = m.kernel(7, 40, channels=channels, zero=zero)
    y = m.result("FULLY_CONNECTED", [x, w, m.bias(7, x, w)], [1, 7], 0.15)
    agree(m, y, share=0.1)


@pytest.mark.parametrize("operator", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_sixteen_bit_activations(operator):
    """int16×8: sums of 64 bits; LiteRT's multipliers have 16 bits there, so single codes of 65,536 differ."""
    m = QuantizedModel("int16")
    if operator == "FULLY_CONNECTED":
        x = m.codes(1, 40, scale=2e-4)
        w = m.kernel(7, 40)
        y = m.result(operator, [x, w, m.bias(7, x, w)], [1, 7], 5e-4)
    else:
        x = m.codes(1, 6, 6, 4, scale=2e-4)
        last = operator == "DEPTHWISE_CONV_2D"
        w = m.kernel(1, 3, 3, 4, channels=4, axis=3) if last else m.kernel(4, 3, 3, 4, channels=4)
        more = {"depth_multiplier": 1} if last else {}
        y = m.result(operator, [x, w, m.bias(4, x, w)], [1, 6, 6, 4], 3e-4, **STRIDES, **more)
    runner = agree(m, y, most=2, share=0.6)
    assert {q.output.quantization.bits for q in runner.archive.quantized} == {16}


def test_addition_and_product():
    for operator in ("ADD", "SUB", "MUL"):
        m = QuantizedModel()
        x, y = m.codes(1, 5, 4, 6, scale=0.03), m.codes(1, 5, 4, 6, scale=0.07, zero=-20)
        agree(m, m.result(operator, [x, y], [1, 5, 4, 6], 0.11 if operator != "MUL" else 0.2, 9), share=0.03)


@pytest.mark.parametrize(
    ("operator", "scale", "zero", "most"),
    [("LOGISTIC", 1 / 256, -128, 1), ("TANH", 1 / 128, 0, 1), ("HARD_SWISH", 0.04, -110, 1), ("RELU", 0.05, -128, 1)],
)
def test_functions(operator, scale, zero, most):
    m = QuantizedModel()
    x = m.codes(1, 5, 4, 6, scale=0.06)
    agree(m, m.result(operator, [x], [1, 5, 4, 6], scale, zero), most, 0.25)


def test_leaky_relu():
    m = QuantizedModel()
    x = m.codes(1, 5, 4, 6)
    agree(m, m.result("LEAKY_RELU", [x], [1, 5, 4, 6], 0.06, -30, alpha=0.2), share=0.05)


def test_softmax_has_the_scale_of_the_file():
    m = QuantizedModel()
    x = m.codes(1, 12, scale=0.12)
    runner = agree(m, m.result("SOFTMAX", [x], [1, 12], 1 / 256, -128, beta=1.0), share=0.2)
    assert runner.archive.quantized.output_layers[0].output.quantization.scale == 1 / 256


def test_pools_and_means():
    window = {"filter_h": 2, "filter_w": 2, "stride_h": 2, "stride_w": 2, "padding": "VALID"}
    for operator in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        m = QuantizedModel()
        x = m.codes(1, 6, 6, 5, scale=0.05)
        agree(m, m.result(operator, [x], [1, 3, 3, 5], 0.05, 3, **window), share=0.3)
    m = QuantizedModel()
    x = m.codes(1, 6, 6, 5, scale=0.05)
    agree(
        m, m.result("MEAN", [x, m.ints([1, 2])], [1, 5], 0.01, -3, keep_dims=False), share=0.8
    )  # LiteRT rounds its zero points


def test_what_moves_codes_adds_no_layer():
    m = QuantizedModel()
    x = m.codes(1, 4, 4, 6, scale=0.05)
    p = m.result("PAD", [x, m.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))], [1, 6, 6, 6], 0.05, 3)
    w = m.kernel(5, 3, 3, 6, channels=5)
    c = m.result("CONV_2D", [p, w, m.bias(5, p, w)], [1, 4, 4, 5], padding="VALID", **STRIDES)
    r = m.result("RESHAPE", [c, m.ints([1, 80])], [1, 80])
    runner = agree(m, r)
    assert [layer.kind for layer in runner.archive.native] == ["input_layer", "conv", "output_layer"]


def test_concatenation():
    m = QuantizedModel()
    x, y = m.codes(1, 4, 4, 3, scale=0.05), m.codes(1, 4, 4, 5, scale=0.05)
    runner = agree(m, m.result("CONCATENATION", [x, y], [1, 4, 4, 8], 0.05, 3, axis=3), share=0)
    assert [layer.kind for layer in runner.archive.quantized] == [
        "input_layer",
        "input_layer",
        "concat",
        "output_layer",
    ]


def test_float_ends():
    """QUANTIZE behind a float input, DEQUANTIZE in front of a float output: codes inside, reals outside."""
    m = QuantizedModel()
    x = m.input(1, 6, 6, 3)
    q = m.result("QUANTIZE", [x], [1, 6, 6, 3], 0.02, 5)
    w = m.kernel(4, 3, 3, 3, channels=4)
    c = m.result("CONV_2D", [q, w, m.bias(4, q, w)], [1, 6, 6, 4], 0.03, 7, **STRIDES)
    y = m.op("DEQUANTIZE", [c], [1, 6, 6, 4])
    data = m.bytes(y)
    runner = runner_of(data)
    runner.optimize()
    frames = RNG.uniform(-2.5, 2.5, (3, 6, 6, 3)).astype(np.float32)
    (want,) = litert_outputs(data, {"t0": frames}).values()
    got = runner.infer(InferenceContext.SDK_QUANTIZED, frames, source_layout=True)
    assert np.abs(got.reshape(want.shape) - want).max() <= 0.0301
    native = runner.infer(InferenceContext.SDK_NATIVE, frames, source_layout=True)
    assert np.abs(native.reshape(want.shape) - want).max() <= 0.2  # the file rounds its input to 0.02


def test_change_of_codes():
    m = QuantizedModel()
    x = m.codes(1, 5, 5, 4, scale=0.05)
    agree(m, m.result("QUANTIZE", [x], [1, 5, 5, 4], 0.03, 20), share=0.02)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_dynamic_range_weights_are_float_weights(kind):
    """Hybrid: LiteRT rounds its activations to 8 bits on the way, which bounds how near the two can be."""
    m = QuantizedModel("float32", kind)
    x = m.input(1, 8, 8, 3)
    zero = {"int8": 0, "uint8": 0}[kind]
    w = m.kernel(4, 3, 3, 3, channels=4 if kind == "int8" else 0, zero=zero)
    b = m.constant(RNG.uniform(-1, 1, 4).astype(np.float32))
    y = m.op("CONV_2D", [x, w, b], [1, 8, 8, 4], **STRIDES)
    data = m.bytes(y)
    runner = runner_of(data)
    frames = RNG.uniform(-1, 1, (16, 8, 8, 3)).astype(np.float32)
    got = runner.infer(InferenceContext.SDK_NATIVE, frames, source_layout=True)
    codes, scale = np.frombuffer(m.tensors[w]["data"], kind), np.array(m.tensors[w]["scale"], np.float32)
    kernel = (codes.reshape(4, 3, 3, 3).astype(np.float32) * scale.reshape(-1, 1, 1, 1)).transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(runner.get_params()["net/conv1/kernel"], kernel)
    if kind == "int8":
        (want,) = litert_outputs(data, {"t0": frames}).values()
        assert np.abs(got.reshape(want.shape) - want).max() <= 0.02 * np.ptp(want)
    with pytest.raises(DataError, match="no codes"):
        runner.optimize()
    report = runner.optimize(frames, min_snr=20)
    assert report["layers"]["net/conv1"]["stated_weights"] is True
    assert_same_bytes(runner.archive.quantized)


def test_four_bit_weights():
    m = SmallModel()
    x = m.input(1, 6)
    values = RNG.integers(-8, 8, (5, 6))
    flat = (values.reshape(-1) & 15).astype(np.uint8)
    packed = (flat[::2] | (flat[1::2] << 4)).tobytes()
    w = m.tensor([5, 6], "int4", packed, scale=[0.5], zero=[0])
    y = m.op("FULLY_CONNECTED", [x, w], [1, 5])
    runner = runner_of(m.bytes(y))
    np.testing.assert_array_equal(runner.get_params()["net/fc1/kernel"], values.T * 0.5)


# --- with data, and afresh -------------------------------------------------------------------------------------------


def small():
    m = QuantizedModel()
    x = m.codes(1, 8, 8, 3, scale=0.02)
    w = m.kernel(8, 3, 3, 3, channels=8)
    a = m.result("CONV_2D", [x, w, m.bias(8, x, w)], [1, 8, 8, 8], 0.05, -128, activation="RELU", **STRIDES)
    v = m.kernel(4, 1, 1, 8, channels=4)
    b = m.result("CONV_2D", [a, v, m.bias(4, a, v)], [1, 8, 8, 4], 0.06, 4, **STRIDES)
    return m.bytes(b)


def test_data_change_nothing_that_the_file_states():
    data = small()
    first, second = runner_of(data), runner_of(data)
    first.optimize()
    report = second.optimize(RNG.uniform(-2, 2, (32, 8, 8, 3)).astype(np.float32))
    assert report["algorithms"] == [one for one in report["algorithms"] if one["name"] == "activation-ranges"]
    a, b = first.archive.quantized.params, second.archive.quantized.params
    assert list(a) == list(b) and all(np.array_equal(a[key], b[key]) for key in a)
    assert report["outputs"] and report["from_file"]["tensors"] == 3 and report["from_file"]["weights"] == 2


def test_requantize_starts_afresh():
    runner = runner_of(small())
    frames = RNG.uniform(-1, 1, (32, 8, 8, 3)).astype(np.float32)
    with pytest.raises(DataError, match="no calibration data"):
        runner.optimize(requantize=True)
    report = runner.optimize(frames, requantize=True)
    assert report["options"]["requantize"] and "from_file" not in report
    scale = runner.archive.quantized["net/conv1"].output.quantization.scale
    assert scale != np.float32(0.05)
    assert runner.archive.native["net/conv1"].wish.codes.scale == float(np.float32(0.05))


def test_other_codes_cannot_be_asked_for():
    runner = runner_of(small())
    runner.load_model_script("quantization_param(output_layer1, precision_mode=a8_w8_a16)\n")
    frames = RNG.uniform(-1, 1, (8, 8, 8, 3)).astype(np.float32)
    runner2 = runner_of(small())
    runner2.load_model_script("quantization_param(conv1, force_range_out=[0.0, 1.0])\n")
    with pytest.raises(HeadraceError, match="E-OPTIMIZE-STATED|other codes are asked for"):
        runner2.optimize()
    assert runner2.optimize(frames, requantize=True, min_snr=0)["options"]["requantize"]


def test_a_har_keeps_what_the_file_states(tmp_path):
    runner = runner_of(small())
    runner.save_har(tmp_path / "net.har")
    again = ClientRunner(har=tmp_path / "net.har")
    again.optimize()
    runner.optimize()
    assert (
        again.archive.quantized["net/conv1"].output.quantization
        == runner.archive.quantized["net/conv1"].output.quantization
    )
    for key, value in runner.archive.quantized.params.items():
        np.testing.assert_array_equal(again.archive.quantized.params[key], value)


# --- what makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "scale", "zero", "word"),
    [
        ("input", [0.0], [0], "scale 0"),
        ("input", [-0.1], [0], "scale -0.1"),
        ("input", [float("nan")], [0], "scales do not fit"),
        ("input", [float("inf")], [0], "scales do not fit"),
        ("input", [1e-42], [0], "scale 1"),
        ("input", [0.1], [300], "zero point 300"),
        ("input", [0.1, 0.2, 0.3], [0, 0, 0], "3 scales"),
        ("kernel", [-1.0], [0], "scale -1"),
        ("kernel", [0.1, 0.2], [0, 0], "scales do not fit"),
        ("kernel", [0.1] * 4, [0, 0], "scales do not fit"),
        ("result", [0.0], [0], "scale 0"),
        ("result", [0.1] * 4, [0] * 4, "4 scales"),
    ],
)
def test_scales_that_make_no_sense(what, scale, zero, word):
    m = QuantizedModel()
    x = m.codes(1, 6, 6, 3)
    w = m.kernel(4, 3, 3, 3)
    y = m.result("CONV_2D", [x, w, m.bias(4, x, w)], [1, 6, 6, 4], **STRIDES)
    axis = 3 if what != "kernel" else 0
    m.tensors[{"input": x, "kernel": w, "result": y}[what]] |= {"scale": scale, "zero": zero, "axis": axis}
    with pytest.raises(HeadraceError) as caught:
        runner_of(m.bytes(y))
    assert caught.value.code.startswith("E-TFLITE-") and word in str(caught.value), str(caught.value)


def test_a_float_layer_inside_needs_data():
    m = QuantizedModel()
    x = m.codes(1, 6, 6, 3)
    f = m.op("DEQUANTIZE", [x], [1, 6, 6, 3])
    kernel = m.constant(RNG.uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32))
    c = m.op("CONV_2D", [f, kernel, m.constant(np.zeros(4, np.float32))], [1, 6, 6, 4], **STRIDES)
    runner = runner_of(m.bytes(m.op("DEQUANTIZE", [m.result("RELU", [c], [1, 6, 6, 4], 0.05, -128)], [1, 6, 6, 4]), c))
    with pytest.raises(DataError) as caught:
        runner.optimize()
    assert caught.value.code == "E-OPTIMIZE-NO-DATA" and "conv1" in str(caught.value)
    frames = RNG.uniform(-2, 2, (8, 6, 6, 3)).astype(np.float32)
    assert runner.optimize(frames, min_snr=0)["from_file"]["measured"] == ["net/conv1"]


def test_normalization_on_the_device_takes_bytes():
    """The file's bytes are the pictures: then the network's input has scale 1, without any data."""
    m = QuantizedModel("uint8", "uint8")
    x = m.codes(1, 6, 6, 3, scale=1 / 128, zero=0)
    w = m.kernel(4, 3, 3, 3, zero=120)
    y = m.result("CONV_2D", [x, w, m.bias(4, x, w)], [1, 6, 6, 4], 0.02, 7, **STRIDES)
    data = m.bytes(y)
    runner = runner_of(data)
    runner.load_model_script("normalization1 = normalization([128, 128, 128], [128, 128, 128])\n")
    runner.optimize()
    frames = RNG.integers(0, 256, (3, 6, 6, 3)).astype(np.uint8)
    (want,) = litert_outputs(data, {"t0": frames}).values()
    got = runner.infer(InferenceContext.SDK_QUANTIZED, frames, quantized_io=True, source_layout=True)
    assert np.abs(got.astype(int).reshape(want.shape) - want).max() <= 1


def test_a_giant_of_a_kilobyte_ends_soon():
    """A small file may state a huge input: without data nothing bounds it but the tool itself."""
    m = QuantizedModel()
    x = m.codes(1, 6, 1 << 22, 3)
    w = m.kernel(4, 3, 3, 3)
    y = m.result("SOFTMAX", [m.result("CONV_2D", [x, w, m.bias(4, x, w)], [1, 6, 1 << 22, 4], **STRIDES)],
                 [1, 6, 1 << 22, 4], 1 / 256, -128, beta=1.0)  # fmt: skip
    runner = runner_of(m.bytes(y))
    runner.optimize()
    with pytest.raises(HeadraceError, match="too large to schedule"):
        runner.compile()


def test_the_whole_model_takes_and_gives_the_files_codes():
    data = small()
    runner = runner_of(data)
    runner.optimize()
    codes = RNG.integers(-128, 128, (4, 8, 8, 3)).astype(np.int8)
    (want,) = litert_outputs(data, {"t0": codes}).values()
    got = runner.infer(InferenceContext.SDK_QUANTIZED, {"t0": codes}, whole=True)
    assert got.dtype == np.int8 and got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() <= 1
