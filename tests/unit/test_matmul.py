# SPDX-License-Identifier: Apache-2.0
"""Products of two computed tensors (attention): against onnxruntime, decomposed, quantized, and where they end."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, i64, kinds, model, run_network  # noqa: E402
from headrace.errors import InputFileError, UnsupportedModelError  # noqa: E402
from headrace.hn import infer_shape  # noqa: E402
from headrace.passes import run_passes  # noqa: E402
from headrace.passes.preparation import PREPARATION  # noqa: E402
from layer_maker import make_layer  # noqa: E402
from parsing import parse_onnx  # noqa: E402
from random_graphs import GraphBuilder  # noqa: E402


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], output, **attributes)


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.7, shape).astype(np.float32)


def attention(tokens=6, heads=2, size=4, batch="N"):
    """Query, key and value of one matrix, cut as timm and PaddleOCR do: the three in front of the batch."""
    width = heads * size
    nodes = [
        node("MatMul", ["x", "w"], "qkv"),
        node("Reshape", ["qkv", "cut"], "parts"),
        node("Transpose", ["parts"], "first", perm=[2, 0, 3, 1, 4]),
        node("Split", ["first", "ones"], "unused", axis=0),
    ]
    nodes[-1] = helper.make_node("Split", ["first", "ones"], ["q5", "k5", "v5"], "split", axis=0)
    nodes += [node("Squeeze", [f"{n}5", "zero"], n) for n in "qkv"]
    nodes += [
        node("Transpose", ["k"], "kt", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], "scores"),
        node("Mul", ["scores", "root"], "scaled"),
        node("Softmax", ["scaled"], "weights", axis=-1),
        node("MatMul", ["weights", "v"], "heads"),
        node("Transpose", ["heads"], "tokens", perm=[0, 2, 1, 3]),
        node("Reshape", ["tokens", "flat"], "y"),
    ]
    constants = {
        "w": np.float32(0.3) * weights(width, 3 * width),
        "cut": i64(0, -1, 3, heads, size), "ones": i64(1, 1, 1), "zero": i64(0),
        "root": np.float32(size**-0.5), "flat": i64(0, -1, width),
    }  # fmt: skip
    return model(nodes, [("x", [batch, tokens, width])], [("y", None)], constants)


@pytest.mark.parametrize(("tokens", "heads", "size"), [(6, 2, 4), (5, 1, 3), (1, 3, 2), (7, 4, 1)])
def test_attention(tokens, heads, size):
    result = compare(attention(tokens, heads, size).SerializeToString(), batch=2)
    found = kinds(result)
    assert found.count("matmul") == 2 and found.count("softmax") == 1


def test_parts_of_a_picture_as_frames():
    """Area attention (YOLO12): the batch shares a dimension with the parts."""
    nodes = [
        node("Reshape", ["x", "areas"], "a"),
        node("Transpose", ["a"], "b", perm=[0, 2, 1]),
        helper.make_node("Split", ["b", "sizes"], ["q", "k"], "split", axis=1),
        node("Transpose", ["q"], "qt", perm=[0, 2, 1]),
        node("MatMul", ["qt", "k"], "scores"),
        node("Softmax", ["scores"], "weights", axis=-1),
        node("Add", ["weights", "scores"], "sum"),
        node("ReduceMean", ["sum"], "means", axes=[2], keepdims=1),
        node("Concat", ["sum", "means"], "joined", axis=2),
        node("Reshape", ["joined", "whole"], "y"),
    ]
    constants = {"areas": i64(4, 5, 6), "sizes": i64(3, 3), "whole": i64(1, 20, 6)}
    compare(model(nodes, [("x", [1, 20, 6])], [("y", None)], constants).SerializeToString())


@pytest.mark.parametrize("heads", [1, 3])
def test_one_matrix_for_all_heads(heads):
    """Multi-query attention (MobileNetV4): the heads share key and value."""
    nodes = [node("Relu", ["a"], "ra"), node("Tanh", ["b"], "rb"), node("MatMul", ["ra", "rb"], "y")]
    built = model(nodes, [("a", ["N", heads, 5, 4]), ("b", ["N", 1, 4, 6])], [("y", None)])
    compare(built.SerializeToString(), batch=2)


def test_constant_times_computed():
    nodes = [node("MatMul", ["w", "x"], "y")]
    for shape in ([3, 5], [1, 3, 5]):
        result = compare(
            model(nodes, [("x", ["N", 4, 5, 6])], [("y", None)], {"w": weights(*shape)}).SerializeToString(), batch=2
        )
        assert "matmul" not in kinds(result)


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ([1, 4], [1, 4], "inner sizes"),
        ([1, 4096, 64], [1, 64, 4096], "too many products"),
    ],
)
def test_what_is_refused(a, b, word):
    nodes = [node("Relu", ["a"], "ra"), node("Relu", ["b"], "rb"), node("MatMul", ["ra", "rb"], "y")]
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(model(nodes, [("a", a), ("b", b)], [("y", None)]).SerializeToString())
    assert word in str(caught.value) and "'y'" in str(caught.value)


def test_one_matrix_in_front_of_several():
    nodes = [node("Relu", ["a"], "ra"), node("Relu", ["b"], "rb"), node("MatMul", ["ra", "rb"], "y")]
    compare(model(nodes, [("a", [1, 1, 4, 3]), ("b", [1, 2, 3, 4])], [("y", None)]).SerializeToString())


def test_a_split_of_the_first_dimension_of_one_frame():
    nodes = [
        node("Reshape", ["x", "areas"], "a"),
        helper.make_node("Split", ["a", "sizes"], ["p", "q"], "split", axis=0),
        node("Add", ["p", "q"], "y"),
    ]
    constants = {"areas": i64(4, 5, 6), "sizes": i64(2, 2)}
    compare(model(nodes, [("x", [1, 20, 6])], [("y", None)], constants).SerializeToString())


def test_shapes_that_do_not_fit():
    b = GraphBuilder(0)
    x = b.input((2, 3, 4))
    with pytest.raises(InputFileError, match="do not fit"):
        infer_shape(b.net, make_layer("net/m", "matmul", [x, x]))


def test_decomposition_means_the_same():
    network = parse_onnx(attention().SerializeToString()).network
    x = np.random.default_rng(1).normal(0, 1, (3, 6, 8)).astype(np.float32)
    before = run_network(network, {"x": x})["y"]
    records = run_passes(network, PREPARATION)
    assert not {"matmul", "softmax"} & {layer.kind for layer in network}
    assert np.abs(run_network(network, {"x": x})["y"] - before).max() < 1e-6
    assert [r["pass"] for r in records].count("decompose-matmul") == 2
    assert all(layer.output_shape == infer_shape(network, layer) for layer in network)


def test_only_softmax_that_goes_nowhere_else_gets_16_bits():
    for shared in (False, True):
        built = attention()
        if shared:
            built.graph.output.append(helper.make_empty_tensor_value_info("weights"))
        network = parse_onnx(built.SerializeToString()).network
        run_passes(network, PREPARATION)
        softmax = next(l for l in network if l.kind == "ew_mult" and "weights" in l.original_names)
        assert softmax.wish.bits == (8 if shared else 16)


def test_attention_quantized():
    """The roundings are those of operands and results: as near to float as 8-bit layers are."""
    from headrace.emulator import Executor
    from headrace.optimize import OptimizeOptions, optimize

    network = parse_onnx(attention(tokens=40, heads=2, size=8).SerializeToString()).network
    entry = network.input_layers[0].name
    rng = np.random.default_rng(2)
    frames = rng.normal(0, 1, (16, *network.input_layers[0].output_shape[1:])).astype(np.float32)
    quantized = optimize(network, {entry: frames}, OptimizeOptions(min_snr=0)).network
    test = rng.normal(0, 1, (4, *frames.shape[1:])).astype(np.float32)
    head = [network.output_layers[0].inputs[0]]
    want = Executor(network, "native").run({entry: test}, head)[head[0]]
    head = [quantized.output_layers[0].inputs[0]]
    got = Executor(quantized, "quantized").run({entry: test}, head, dequantize=True)[head[0]].reshape(want.shape)
    noise = float(np.square(got - want, dtype=np.float64).sum())
    assert 10 * np.log10(float(np.square(want, dtype=np.float64).sum()) / noise) > 30
