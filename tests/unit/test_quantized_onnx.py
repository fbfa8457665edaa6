# SPDX-License-Identifier: Apache-2.0
"""Quantized ONNX files: QDQ, operators on integers, scales of frames, 4 bits, half precision; onnxruntime beside."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

from frontend_oracle import run_network, session
from headrace.errors import DataError, HeadraceError
from headrace.runner import ClientRunner, InferenceContext
from parsing import parse_onnx
from same_bytes import assert_same_bytes

RNG = np.random.default_rng(5)
SHAPE = [1, 3, 16, 16]


def values(*shape, size=1.0):
    return (RNG.standard_normal(shape) * size).astype(np.float32)


def model(nodes, inputs, outputs, constants, opset=21, domains=()):
    """``inputs`` and ``outputs`` are (name, element type, shape)."""
    made = [helper.make_node(op, ins, outs, name=outs[0], domain=more.pop("domain", ""), **more)
            for op, ins, outs, more in nodes]  # fmt: skip
    graph = helper.make_graph(
        made, "g", [helper.make_tensor_value_info(*x) for x in inputs],
        [helper.make_tensor_value_info(*x) for x in outputs],
        [v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(np.asarray(v), k)
         for k, v in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def runner_of(data):
    runner = ClientRunner()
    runner.translate_onnx_model(data if isinstance(data, bytes) else data.SerializeToString(), "net")
    return runner


def agree(data, frames, steps=1.01, share=0.02, scale=None):
    """Quantized without data, compared with onnxruntime frame by frame in steps of the output's codes."""
    raw = data if isinstance(data, bytes) else data.SerializeToString()
    runtime = session(raw)
    name = runtime.get_inputs()[0].name
    want = np.concatenate([runtime.run(None, {name: frames[i : i + 1]})[0] for i in range(len(frames))])
    runner = runner_of(raw)
    runner.optimize()
    got = runner.infer(InferenceContext.SDK_QUANTIZED, frames.astype(np.float32), source_layout=True)
    own = scale or runner.archive.quantized.output_layers[0].output.quantization.scale
    off = np.abs(got.reshape(want.shape).astype(np.float64) - want.astype(np.float64)) / own
    assert np.ptp(want.astype(np.float64)) > 4 * own, "the output says nothing"
    assert off.max() <= steps and np.mean(off > 0.5) <= share, (off.max(), np.mean(off > 0.5))
    assert_same_bytes(runner.archive.quantized)
    return runner


# --- files that onnxruntime makes ------------------------------------------------------------------------------------


def network():
    constants = {
        "w1": values(8, 3, 3, 3, size=0.3), "b1": values(8, size=0.1), "w2": values(8, 1, 3, 3, size=0.4),
        "b2": values(8, size=0.1), "w3": values(8, 8, 1, 1, size=0.4), "b3": values(8, size=0.1),
        "wf": values(12, 5, size=0.4), "bf": values(5, size=0.1), "w4": values(4, 8, 1, 1, size=0.5),
    }  # fmt: skip
    nodes = [
        ("Conv", ["x", "w1", "b1"], ["c1"], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Relu", ["c1"], ["r1"], {}),
        ("Conv", ["r1", "w2", "b2"], ["c2"], {"group": 8, "pads": [1, 1, 1, 1]}),
        ("LeakyRelu", ["c2"], ["l2"], {"alpha": 0.1}),
        ("Conv", ["l2", "w3", "b3"], ["c3"], {}),
        ("Add", ["c3", "r1"], ["a3"], {}),
        ("Sigmoid", ["a3"], ["s3"], {}),
        ("Mul", ["s3", "a3"], ["m3"], {}),
        ("MaxPool", ["m3"], ["p3"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["p3", "w4"], ["c4"], {}),
        ("Concat", ["p3", "c4"], ["k4"], {"axis": 1}),
        ("GlobalAveragePool", ["k4"], ["g4"], {}),
        ("Flatten", ["g4"], ["fl"], {}),
        ("Gemm", ["fl", "wf", "bf"], ["y"], {}),
    ]
    float_type = TensorProto.FLOAT
    return model(nodes, [("x", float_type, SHAPE)], [("y", float_type, [1, 5])], constants, opset=17)


FORMS = list(
    itertools.product(
        ["QDQ", "QOperator"], [False, True], [("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8")]
    )
)


def quantized_by_onnxruntime(folder, made, form, per_channel, types, shape):
    """The file that ``quantize_static`` makes of a float model."""
    import onnxruntime.quantization as ort

    class Reader(ort.CalibrationDataReader):
        def __init__(self):
            self.frames = iter(RNG.uniform(-1, 1, (8, *shape)).astype(np.float32))

        def get_next(self):
            frame = next(self.frames, None)
            return None if frame is None else {"x": frame}

    onnx.save(made, folder / "float.onnx")
    activations, weights = (getattr(ort.QuantType, t) for t in types)
    ort.quantize_static(
        folder / "float.onnx", folder / "q.onnx", Reader(), quant_format=getattr(ort.QuantFormat, form),
        per_channel=per_channel, activation_type=activations, weight_type=weights,
    )  # fmt: skip
    return (folder / "q.onnx").read_bytes()


@pytest.mark.parametrize(("form", "per_channel", "types"), FORMS)
def test_files_of_onnxruntime(tmp_path, form, per_channel, types):
    data = quantized_by_onnxruntime(tmp_path, network(), form, per_channel, types, SHAPE)
    frames = RNG.uniform(-1, 1, (4, *SHAPE[1:])).astype(np.float32)
    runner = agree(data, frames, share=0.1)
    facts = runner.archive.reports["optimize"]["from_file"]
    assert facts["weights"] == 5 and facts["changed_weights"] == facts["derived"] == facts["measured"] == []
    kinds = [layer.kind for layer in runner.archive.native]
    assert kinds.count("activation") == 1 + 1 and "batch_norm" not in kinds  # sigmoid and leaky relu have own codes


def attention():
    constants = {name: values(16, 16, size=0.4) for name in ("wq", "wk", "wv")}
    constants |= {"wo": values(16, 12, size=0.3), "bo": values(12, size=0.2), "sc": np.float32(0.25)}
    nodes = [
        ("MatMul", ["x", "wq"], ["q"], {}), ("MatMul", ["x", "wk"], ["k"], {}), ("MatMul", ["x", "wv"], ["v"], {}),
        ("Transpose", ["k"], ["kt"], {"perm": [0, 2, 1]}), ("MatMul", ["q", "kt"], ["a"], {}),
        ("Mul", ["a", "sc"], ["a2"], {}), ("Softmax", ["a2"], ["p"], {"axis": -1}), ("MatMul", ["p", "v"], ["o"], {}),
        ("Add", ["o", "x"], ["r"], {}), ("MatMul", ["r", "wo"], ["y0"], {}), ("Add", ["y0", "bo"], ["y"], {}),
    ]  # fmt: skip
    return model(nodes, [("x", TensorProto.FLOAT, [1, 8, 16])], [("y", TensorProto.FLOAT, None)], constants, opset=17)


def enlarged():
    constants = {
        "w": values(4, 6, 3, 3, size=0.3), "b": values(6, size=0.1), "s": np.array([1, 1, 2, 2], np.float32),
        "v": values(5, 6, 1, 1, size=0.4), "g": np.abs(values(5)) + 0.5, "o": values(5), "m": values(5),
        "e": np.abs(values(5)) + np.float32(0.5),
    }  # fmt: skip
    nodes = [
        ("ConvTranspose", ["x", "w", "b"], ["c"], {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ("Resize", ["c", "", "s"], ["r"], {"mode": "linear"}), ("HardSigmoid", ["r"], ["h"], {}),
        ("Mul", ["r", "h"], ["n"], {}), ("Conv", ["n", "v"], ["d"], {}),
        ("BatchNormalization", ["d", "g", "o", "m", "e"], ["k"], {}),
        ("AveragePool", ["k"], ["a"], {"kernel_shape": [3, 3], "strides": [2, 2]}), ("Tanh", ["a"], ["y"], {}),
    ]  # fmt: skip
    inputs = [("x", TensorProto.FLOAT, [1, 4, 6, 6])]
    return model(nodes, inputs, [("y", TensorProto.FLOAT, None)], constants, opset=17)


@pytest.mark.parametrize("made", [attention, enlarged])
def test_more_files_of_onnxruntime(tmp_path, made):
    """Products of computed matrices, interpolation and the like: a few roundings more, each of a step."""
    float_model = made()
    shape = [d.dim_value for d in float_model.graph.input[0].type.tensor_type.shape.dim]
    data = quantized_by_onnxruntime(tmp_path, float_model, "QDQ", True, ("QUInt8", "QInt8"), shape)
    agree(data, RNG.uniform(-1, 1, (4, *shape[1:])).astype(np.float32), steps=4.01, share=0.6)


# --- pairs and what is none ------------------------------------------------------------------------------------------

ONE = {
    "s": np.float32(0.05),
    "z": np.uint8(100),
    "t": np.float32(0.13),
    "u": np.uint8(30),
}  # no ties: onnxruntime rounds halves to even
FLOAT = TensorProto.FLOAT


def relu_between(first, second, constants, opset=21):
    nodes = [
        ("QuantizeLinear", ["x", *first], ["q"], {}),
        ("DequantizeLinear", ["q", *second], ["d"], {}),
        ("Tanh", ["d"], ["y0"], {}),
        ("QuantizeLinear", ["y0", "o", "p"], ["yq"], {}),
        ("DequantizeLinear", ["yq", "o", "p"], ["y"], {}),
    ]
    ends = {"o": np.float32(1 / 128), "p": np.int8(0)}
    return model(nodes, [("x", FLOAT, SHAPE)], [("y", FLOAT, SHAPE)], constants | ends, opset)


FRAMES = RNG.uniform(-4, 7, (2, *SHAPE[1:])).astype(np.float32)


@pytest.mark.parametrize("zero", [np.uint8(100), np.int8(-28), np.uint16(20000), np.int16(-1000)])
def test_a_pair_states_codes(zero):
    runner = agree(
        relu_between(["s", "z"], ["s", "z"], {"s": np.float32(0.05 if zero.itemsize == 1 else 3e-4), "z": zero}), FRAMES
    )
    layer = runner.archive.native.input_layers[0]
    assert layer.wish.codes.bits == 8 * zero.itemsize
    assert layer.wish.codes.zero_point == int(zero) - np.iinfo(zero.dtype).min
    assert [x.kind for x in runner.archive.native] == ["input_layer", "activation", "output_layer"]


def test_different_numbers_are_a_change_of_numbers():
    """Q by 0.05, DQ by 0.13: another value, less an offset, not a pair."""
    agree(relu_between(["s", "z"], ["t", "u"], ONE), FRAMES)


def test_numbers_alone_and_codes_alone():
    """A network that ends in codes, and one that begins with them."""
    codes = TensorProto.UINT8
    ends = model([("QuantizeLinear", ["x", "s", "z"], ["y"], {})], [("x", FLOAT, SHAPE)], [("y", codes, SHAPE)], ONE)
    agree(ends, FRAMES, scale=1.0)
    nodes = [
        ("DequantizeLinear", ["x", "s", "z"], ["d"], {}), ("Relu", ["d"], ["r"], {}),
        ("QuantizeLinear", ["r", "t", "u"], ["q"], {}), ("DequantizeLinear", ["q", "t", "u"], ["y"], {}),
    ]  # fmt: skip
    begins = model(nodes, [("x", TensorProto.UINT8, SHAPE)], [("y", FLOAT, SHAPE)], ONE)
    agree(begins, RNG.integers(0, 256, (2, *SHAPE[1:])).astype(np.uint8))


def rounded(x, scale, zero):
    return (np.clip(np.rint(x / np.float32(scale)) + zero, 0, 255) - zero) * np.float32(scale)


def test_quantized_twice():
    """Beside numpy: onnxruntime makes one rounding of two."""
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}), ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
        ("QuantizeLinear", ["d", "t", "u"], ["q2"], {}), ("DequantizeLinear", ["q2", "t", "u"], ["y"], {}),
    ]  # fmt: skip
    runner = runner_of(model(nodes, [("x", FLOAT, SHAPE)], [("y", FLOAT, SHAPE)], ONE))
    runner.optimize()
    got = runner.infer(InferenceContext.SDK_QUANTIZED, FRAMES, source_layout=True)
    np.testing.assert_allclose(got, rounded(rounded(FRAMES, 0.05, 100), 0.13, 30), atol=1e-5)
    other = {"t": "s", "u": "z"}
    same = [(op, [other.get(i, i) for i in ins], outs, more) for op, ins, outs, more in nodes]
    runner = agree(model(same, [("x", FLOAT, SHAPE)], [("y", FLOAT, SHAPE)], ONE), FRAMES)
    assert len(list(runner.archive.native)) == 2  # the input and the output


def test_codes_that_are_moved():
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("MaxPool", ["q"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Transpose", ["p"], ["t1"], {"perm": [0, 2, 3, 1]}), ("Reshape", ["t1", "shape"], ["r"], {}),
        ("DequantizeLinear", ["r", "s", "z"], ["y"], {}),
    ]  # fmt: skip
    moved = model(nodes, [("x", FLOAT, SHAPE)], [("y", FLOAT, [1, 192])], ONE | {"shape": np.array([1, 192])})
    runner = agree(moved, FRAMES)
    assert "batch_norm" not in {layer.kind for layer in runner.archive.native}


# --- operators -------------------------------------------------------------------------------------------------------


def integers(kind, *shape):
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max + 1, shape).astype(kind)


def quantized_operator(op, inputs, constants, domain="com.microsoft", shape=SHAPE, out=None, **attributes):
    """x is quantized, the operator reads its codes ``xq``, and its codes are made reals."""
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["xq"], {}),
        (op, inputs, ["yq"], {"domain": domain, **attributes}),
        ("DequantizeLinear", ["yq", "t", "u"], ["y"], {}),
    ]
    return model(
        nodes,
        [("x", FLOAT, shape)],
        [("y", FLOAT, out or [None] * len(shape))],
        ONE | constants,
        domains=["com.microsoft"],
    )


X, Y = ["xq", "s", "z"], ["t", "u"]
MICROSOFT = "com.microsoft"
CONVOLUTION = {
    "w": integers("int8", 4, 3, 3, 3), "ws": np.abs(values(4, size=0.01)) + np.float32(0.002),
    "wz": np.zeros(4, np.int8), "b": RNG.integers(-500, 500, 4).astype(np.int32),
}  # fmt: skip
MATRIX = {"w": integers("uint8", 16, 5), "ws": np.float32(0.01), "wz": np.uint8(120)}
ADDEND = {"c": integers("uint8", 1, 3, 1, 1), "ws": np.float32(0.02), "wz": np.uint8(99)}
WINDOW = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
OPERATORS = {
    "QLinearConv": (["xq", "s", "z", "w", "ws", "wz", *Y, "b"], CONVOLUTION, "", {"pads": [1, 1, 1, 1]}),
    "QLinearMatMul": (["xq", "s", "z", "w", "ws", "wz", *Y], MATRIX, "", {}),
    "QLinearAdd": ([*X, "c", "ws", "wz", *Y], ADDEND, MICROSOFT, {}),
    "QLinearMul": ([*X, *X, *Y], {}, MICROSOFT, {}),
    "QLinearSigmoid": ([*X, *Y], {}, MICROSOFT, {}),
    "QLinearLeakyRelu": ([*X, *Y], {}, MICROSOFT, {"alpha": 0.3}),
    "QLinearSoftmax": ([*X, *Y], {}, MICROSOFT, {"axis": -1, "opset": 13}),
    "QLinearGlobalAveragePool": ([*X, *Y], {}, MICROSOFT, {"channels_last": 0}),
    "QLinearAveragePool": ([*X, *Y], {}, MICROSOFT, WINDOW),
    "QLinearConcat": ([*Y, *X, *X], {}, MICROSOFT, {"axis": 1}),
}  # fmt: skip
#: scales and zero points of results, where others than usual
FINE = {
    "QLinearSigmoid": (1 / 256, 0), "QLinearSoftmax": (1 / 256, 0), "QLinearMul": (0.4, 20), "QLinearConv": (0.2, 128),
    "QLinearGlobalAveragePool": (0.02, 100),
}  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_on_integers(operator):
    inputs, constants, domain, attributes = OPERATORS[operator]
    scale, zero = FINE.get(operator, (0.13, 30))
    own = {"t": np.float32(scale), "u": np.uint8(zero)}
    data = quantized_operator(operator, inputs, constants | own, domain, **attributes)
    frames = (FRAMES * (0.4 if operator == "QLinearSoftmax" else 1)).astype(np.float32)
    agree(data, frames, steps=1.01, share=0.2)


def test_qgemm_with_and_without_codes():
    constants = {
        "w": integers("int8", 12, 6),
        "ws": np.float32(0.01),
        "wz": np.int8(3),
        "b": RNG.integers(-900, 900, 6).astype(np.int32),
    }
    given = ["xq", "s", "z", "w", "ws", "wz", "b"]
    coded = quantized_operator("QGemm", [*given, *Y], constants | {"u": np.uint8(128)}, shape=[1, 12], out=[1, 6])
    agree(coded, RNG.uniform(-4, 7, (4, 12)).astype(np.float32), share=0.1)
    nodes = [("QuantizeLinear", ["x", "s", "z"], ["xq"], {}), ("QGemm", given, ["y"], {"domain": "com.microsoft"})]
    plain = model(nodes, [("x", FLOAT, [1, 12])], [("y", FLOAT, [1, 6])], ONE | constants, domains=["com.microsoft"])
    with pytest.raises(DataError, match="fc1"):
        runner_of(plain).optimize()


@pytest.mark.parametrize("operator", ["MatMulInteger", "ConvInteger"])
def test_scales_of_each_frame_are_read_as_floats(operator):
    """Dynamic quantization says nothing of the network but its weights; the runtime rounds activations to 8 bits."""
    dense = operator == "MatMulInteger"
    shape, w = ([1, 24], integers("int8", 24, 6)) if dense else (SHAPE, integers("uint8", 4, 3, 3, 3))
    zero = np.int8(0) if dense else np.uint8(131)
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"], {}), (operator, ["q", "w", "qz", "wz"], ["i"], {}),
        ("Cast", ["i"], ["c"], {"to": FLOAT}), ("Mul", ["qs", "ws"], ["k"], {}), ("Mul", ["c", "k"], ["m"], {}),
        ("Add", ["m", "b"], ["y"], {}),
    ]  # fmt: skip
    bias = values(6) if dense else values(4, 1, 1)
    data = model(
        nodes,
        [("x", FLOAT, shape)],
        [("y", FLOAT, [None] * len(shape))],
        {"w": w, "wz": zero, "ws": np.float32(0.02), "b": bias},
    )
    raw = data.SerializeToString()
    network = parse_onnx(raw).network
    frame = RNG.uniform(-1, 1, shape).astype(np.float32)
    want = session(raw).run(None, {"x": frame})[0]
    got = run_network(network, {"x": frame})["y"]
    assert np.abs(got - want).max() <= 0.02 * np.ptp(want)
    (layer,) = [x for x in network if "kernel" in x.params]
    assert "kernel_scale" in layer.params and not any(x.wish.codes for x in network)


def test_weights_of_four_bits_and_in_blocks():
    codes = RNG.integers(-8, 8, (8, 6)).astype(np.int8)
    packed = helper.make_tensor("w", TensorProto.INT4, [8, 6], codes.reshape(-1).tolist())
    blocks = np.abs(values(2, 6, size=0.1)) + np.float32(0.01)
    nodes = [("DequantizeLinear", ["w", "s"], ["d"], {"axis": 0, "block_size": 4}), ("MatMul", ["x", "d"], ["y"], {})]
    data = model(nodes, [("x", FLOAT, [1, 8])], [("y", FLOAT, [1, 6])], {"w": packed, "s": blocks})
    network = parse_onnx(data.SerializeToString()).network
    want = codes * np.repeat(blocks, 4, axis=0)
    np.testing.assert_allclose(network.params["model/fc1/kernel"], want, rtol=1e-6)


# --- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_precision(kind):
    """Weights, inputs and outputs of 16 bits; the runtime computes in them, this in float32."""
    number = TensorProto.FLOAT16 if kind is np.float16 else TensorProto.BFLOAT16
    w, b = values(4, 3, 3, 3, size=0.2).astype(kind), values(4).astype(kind)
    nodes = [("Conv", ["x", "w", "b"], ["c"], {}), ("Relu", ["c"], ["y"], {})]
    data = model(nodes, [("x", number, SHAPE)], [("y", number, [1, 4, 14, 14])], {"w": w, "b": b}).SerializeToString()
    network = parse_onnx(data).network
    np.testing.assert_array_equal(network.params["model/conv1/kernel"], w.astype(np.float32).transpose(2, 3, 1, 0))
    if kind is np.float16:
        frame = RNG.uniform(-1, 1, SHAPE).astype(np.float16)
        want = session(data).run(None, {"x": frame})[0].astype(np.float64)
        got = run_network(network, {"x": frame.astype(np.float32)})["y"]
        assert np.abs(got - want).max() <= 2e-3 * np.ptp(want)


# --- what makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"s": np.float32(0)}, "scale 0"),
        ({"s": np.float32(-1)}, "scale -1"),
        ({"s": np.float32("nan")}, "scale nan"),
        ({"s": np.float32("inf")}, "scale inf"),
        ({"s": np.float32(1e-42)}, "scale 1"),
        ({"s": np.array([0.1, 0.2, 0.3], np.float32), "z": np.zeros(3, np.uint8)}, "3 numbers"),
        ({"z": np.array([1, 2], np.uint8)}, "2 numbers"),
        ({"z": np.int32(7)}, "int32"),
    ],
)
def test_pairs_that_make_no_sense(change, word):
    data = relu_between(["s", "z"], ["s", "z"], ONE | change)
    with pytest.raises(HeadraceError) as caught:
        parse_onnx(data.SerializeToString())
    assert caught.value.code == "E-ONNX-UNSUPPORTED" and word in str(caught.value), str(caught.value)


def test_a_computed_scale():
    nodes = [("ReduceMax", ["x"], ["s"], {"keepdims": 0}), ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
             ("DequantizeLinear", ["q", "s", "z"], ["y"], {})]  # fmt: skip
    data = model(nodes, [("x", FLOAT, [1, 8])], [("y", FLOAT, [1, 8])], {"z": np.uint8(0)})
    with pytest.raises(HeadraceError) as caught:
        parse_onnx(data.SerializeToString())
    assert caught.value.code == "E-ONNX-UNSUPPORTED"


@pytest.mark.parametrize(
    ("weights", "scale", "attributes", "word"),
    [
        (integers("int8", 4, 6), np.ones(5, np.float32), {"axis": 0}, "5 scales"),
        (integers("int8", 4, 6), np.ones(4, np.float32), {"axis": 7}, "axis 7"),
        (integers("int8", 4, 6), np.zeros(4, np.float32), {"axis": 0}, "scale 0"),
        (integers("int8", 4, 6), np.full(4, -1, np.float32), {"axis": 0}, "scale -1"),
        (integers("int8", 4, 6), np.ones((3, 6), np.float32), {"axis": 0, "block_size": 2}, "blocks of 2"),
        (integers("int8", 4, 6), np.ones((4, 6), np.float32), {"axis": 0, "block_size": -1}, "blocks of -1"),
        (values(4, 6), np.float32(1), {}, "codes of type float32"),
    ],
)
def test_weights_that_make_no_sense(weights, scale, attributes, word):
    nodes = [("DequantizeLinear", ["w", "s"], ["d"], attributes), ("MatMul", ["x", "d"], ["y"], {})]
    data = model(nodes, [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 6])], {"w": weights, "s": scale})
    with pytest.raises(HeadraceError) as caught:
        parse_onnx(data.SerializeToString())
    assert word in str(caught.value), str(caught.value)


def test_codes_of_each_frame_that_something_else_reads():
    nodes = [("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"], {}), ("Cast", ["q"], ["y"], {"to": FLOAT})]
    data = model(nodes, [("x", FLOAT, [1, 8])], [("y", FLOAT, [1, 8])], {})
    with pytest.raises(HeadraceError, match="from frame to frame"):
        parse_onnx(data.SerializeToString())


# --- channels last, as the layout optimization of onnxruntime leaves them ------------------------------------

LAST = {
    "QLinearConv": (["xt", "s", "z", "w", "ws", "wz", "t", "u"],
                    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "channels_last": 1}),
    "QLinearAveragePool": (["xt", "s", "z", "t", "u"], {"kernel_shape": [3, 3], "strides": [2, 2], "channels_last": 1}),
    "QLinearGlobalAveragePool": (["xt", "s", "z", "t", "u"], {"channels_last": 1}),
    "NhwcMaxPool": (["xt"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
}  # fmt: skip


@pytest.mark.parametrize("operator", LAST)
def test_pictures_with_channels_last(operator):
    inputs, attributes = LAST[operator]
    own = ["s", "z"] if operator == "NhwcMaxPool" else ["t", "u"]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["xq"], {}), ("Transpose", ["xq"], ["xt"], {"perm": [0, 2, 3, 1]}),
        (operator, inputs, ["yt"], {"domain": "com.microsoft", **attributes}),
        ("Transpose", ["yt"], ["yq"], {"perm": [0, 3, 1, 2]}), ("DequantizeLinear", ["yq", *own], ["y"], {}),
    ]  # fmt: skip
    constants = {
        "s": np.float32(0.05), "z": np.uint8(100), "t": np.float32(0.011), "u": np.uint8(90),
        "w": RNG.integers(-127, 128, (5, 3, 3, 3)).astype(np.int8), "ws": np.full(5, 0.0004, np.float32),
        "wz": np.zeros(5, np.int8),
    }  # fmt: skip
    data = model(nodes, [("x", FLOAT, SHAPE)], [("y", FLOAT, None)], constants, 17, domains=("com.microsoft",))
    agree(data, FRAMES, share=0.05)
