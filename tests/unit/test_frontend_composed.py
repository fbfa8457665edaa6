# SPDX-License-Identifier: Apache-2.0
"""Operators that are put together from several layers, against onnxruntime on one-node and few-node models."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, f, i64, kinds, model, one  # noqa: E402


@pytest.mark.parametrize(
    "op", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"]
)
@pytest.mark.parametrize("axes", [[1], [2], [3], [2, 3], [1, 2], [1, 3], [1, 2, 3], [-1]], ids=str)
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(op, axes, keep):
    for opset in (13, 18):
        inputs, constants, attributes = ["x"], {}, {"keepdims": keep}
        if opset == 18 or op == "ReduceSum":
            inputs, constants = ["x", "axes"], {"axes": i64(*axes)}
        else:
            attributes["axes"] = axes
        built = model(
            [helper.make_node(op, inputs, ["y"], **attributes)],
            [("x", ["N", 4, 5, 6])],
            [("y", None)],
            constants,
            opset,
        )
        compare(built.SerializeToString(), batch=2)


@pytest.mark.parametrize(
    "op", ["Abs", "Exp", "Softplus", "Softsign", "Selu", "Celu", "Mish", "Gelu", "ThresholdedRelu"]
)
def test_functions_of_one_tensor(op):
    opset = {"Mish": 18, "Gelu": 20}.get(op, 13)
    assert kinds(one(op, [1, 4, 3, 5], opset=opset, options={"low": -4, "high": 4})) == ["activation"]
    if op == "Gelu":
        one(op, [1, 4, 3, 5], opset=opset, approximate="tanh")


@pytest.mark.parametrize("op", ["Sqrt", "Reciprocal", "Log"])
def test_functions_of_positive_numbers(op):
    assert kinds(one(op, [1, 4, 3, 5], options={"low": 0.2, "high": 3})) == ["activation"]


@pytest.mark.parametrize("exponent", [1, 2, 3, 0.5, -1, -0.5])
def test_power(exponent):
    one("Pow", [1, 4, 3, 5], extra=(np.float32(exponent),), options={"low": 0.2, "high": 3})


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_larger_and_smaller(op):
    one(op, [1, 4, 3, 5], extra=(np.float32(0.2), np.float32(-0.1)))
    built = model(
        [helper.make_node(op, ["x", "z", "c"], ["y"])],
        [("x", [1, 4, 3, 5]), ("z", [1, 4, 1, 1])],
        [("y", None)],
        {"c": np.float32(0.1)},
    )
    compare(built.SerializeToString())


def test_quotients():
    for left, right in ((["x"], ["z"]), (["c"], ["z"])):
        nodes = [helper.make_node("Exp", ["x"], ["z"]), helper.make_node("Div", [*left, *right], ["y"])]
        compare(model(nodes, [("x", [1, 4, 3, 5])], [("y", None)], {"c": np.float32(0.7)}).SerializeToString())


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "bias"), [(5, 0.3, 0.75, 1.0), (3, 0.5, 0.5, 2.0), (7, 1e-4, 0.75, 1.0)]
)
def test_local_response_normalization(size, alpha, beta, bias):
    result = one("LRN", [1, 6, 3, 5], size=size, alpha=alpha, beta=beta, bias=bias)
    assert kinds(result) == ["ew_mult", "conv", "ew_mult"]


def test_normalizations():
    one("InstanceNormalization", ["N", 4, 5, 6], extra=(f(4), f(4)), options={"batch": 2})
    one("InstanceNormalization", [1, 4, 5], extra=(f(4), f(4)), epsilon=1e-3)
    one("LayerNormalization", [1, 5, 8], extra=(f(8), f(8)), opset=17)
    one("LayerNormalization", [1, 3, 5, 8], extra=(f(5, 8),), opset=17, axis=2)
    one("GroupNormalization", ["N", 6, 4, 4], extra=(f(6), f(6)), num_groups=3, opset=21, options={"batch": 2})


@pytest.mark.parametrize("constant", [(3, 5), (1, 1, 5), (4, 3, 1), (1, 4, 3, 5), (3, 1)], ids=str)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_constants_that_vary_over_height_or_width(op, constant):
    result = one(op, ["N", 4, 3, 5], extra=(f(*constant, low=0.5, high=2),), options={"batch": 2})
    assert set(kinds(result)) <= {"reshape", "transpose", "batch_norm"}


@pytest.mark.parametrize(
    ("axis", "indices"),
    [
        (1, i64(2, 1, 0)),
        (1, np.int64(-1)),
        (2, i64(0, 2)),
        (3, i64(1, 1, 4)),
        (2, np.int64(0)),
        (3, i64(4, 3, 2, 1, 0)),
    ],
    ids=str,
)
def test_gather(axis, indices):
    one("Gather", ["N", 4, 3, 5], extra=(indices,), axis=axis, options={"batch": 2})


def test_slices_backwards():
    one("Slice", ["N", 3, 6, 7], extra=(i64(-1, 9), i64(-99, -99), i64(1, 3), i64(-1, -2)), options={"batch": 2})


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_pads_that_continue_the_image(mode):
    one("Pad", ["N", 3, 5, 6], extra=(i64(0, 0, 2, 1, 0, 0, 1, 3),), mode=mode, options={"batch": 2})


def test_expand_and_tile():
    one("Expand", [1, 4, 1, 1], extra=(i64(1, 4, 3, 5),))
    one("Expand", [1, 1, 3, 5], extra=(i64(1, 4, 3, 5),))
    one("Expand", ["N", 1, 3, 1], extra=(i64(4, 1, 2),), options={"batch": 2})
    one("Tile", ["N", 2, 3, 1], extra=(i64(1, 2, 1, 3),), options={"batch": 2})
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3]),
        helper.make_node("Expand", ["m", "s"], ["e"]),
        helper.make_node("Mul", ["x", "e"], ["y"]),
    ]
    built = model(nodes, [("x", [1, 4, 3, 5])], [("y", None)], {"s": i64(1, 4, 3, 5)})
    assert kinds(compare(built.SerializeToString())) == ["avgpool", "ew_mult"]


def test_vectors_side_by_side():
    """A stack of vectors is a picture: joined along a new dimension, then along channels."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Unsqueeze", ["x", "one"], ["a"]),
        helper.make_node("Unsqueeze", ["r", "one"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
    ]
    compare(model(nodes, [("x", ["N", 6])], [("y", None)], {"one": i64(1)}).SerializeToString(), batch=2)


def boxes(grid, end):
    """The head of YOLOv5: [N, A·K, H, W] seen as [N, A, H, W, K], boxes of a part of K, and all anchors as rows."""
    a, k, h, w = 3, 7, 2, 4
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 1, 3, 4, 2]),
        helper.make_node("Sigmoid", ["t"], ["g"]),
        helper.make_node("Slice", ["g", "c0", "c2", "c4"], ["xy"]),
        helper.make_node("Slice", ["g", "c2", "c4", "c4"], ["wh"]),
        helper.make_node("Slice", ["g", "c4", "c7", "c4"], ["rest"]),
        helper.make_node("Add", ["xy", "grid"], ["xy1"]),
        helper.make_node("Mul", ["wh", "wh"], ["wh1"]),
        helper.make_node("Mul", ["wh1", "anchors"], ["wh2"]),
        helper.make_node("Concat", ["xy1", "wh2", "rest"], ["all"], axis=end),
        helper.make_node("Reshape", ["all", "rows"], ["y"]),
    ]
    constants = {
        "split": i64(-1, a, k, h, w), "c0": i64(0), "c2": i64(2), "c4": i64(4), "c7": i64(7), "grid": grid,
        "anchors": f(1, a, 1, 1, 2), "rows": i64(-1, a * h * w, k),
    }  # fmt: skip
    return model(nodes, [("x", ["N", a * k, h, w])], [("y", None)], constants)


@pytest.mark.parametrize("shape", [(1, 1, 2, 4, 2), (1, 3, 2, 4, 2), (2, 4, 2)], ids=str)
def test_tensors_of_rank_five(shape):
    for end in (4, -1):
        compare(boxes(f(*shape), end).SerializeToString(), batch=2)


def test_gelu_and_mish_written_out():
    half = [("Mul", ["x", "h"], ["xh"]), ("Mul", ["xh", "a"], ["y"])]
    last = [("Mul", ["x", "a"], ["xa"]), ("Mul", ["xa", "h"], ["y"])]
    for tail in (half, last):
        made = [("Div", ["x", "r"], ["d"]), ("Erf", ["d"], ["e"]), ("Add", ["e", "o"], ["a"]), *tail]
        nodes = [helper.make_node(*m) for m in made]
        constants = {"r": np.float32(np.sqrt(2)), "o": np.float32(1), "h": np.float32(0.5)}
        result = compare(model(nodes, [("x", [1, 4, 3, 5])], [("y", None)], constants).SerializeToString())
        assert result.network.of_kind("activation")[0].attributes["activation"] == "gelu"
        assert len(result.network.layers) == 3
    made = [("Softplus", ["x"], ["s"]), ("Tanh", ["s"], ["t"]), ("Mul", ["x", "t"], ["y"])]
    result = compare(model([helper.make_node(*m) for m in made], [("x", [1, 4, 3])], [("y", None)]).SerializeToString())
    assert result.network.of_kind("activation")[0].attributes["activation"] == "mish"


def test_weights_standardized_by_batch_normalization():
    """Exporters write weight standardization as a BatchNormalization of the weights in training mode."""
    nodes = [
        helper.make_node("Reshape", ["w", "flat"], ["rows"]),
        helper.make_node("BatchNormalization", ["rows", "g", "z", "z", "g"], ["n", "m", "v"], training_mode=1),
        helper.make_node("Reshape", ["n", "back"], ["k"]),
        helper.make_node("Conv", ["x", "k"], ["y"]),
    ]
    constants = {
        "w": f(4, 3, 3, 3),
        "flat": i64(1, 4, -1),
        "back": i64(4, 3, 3, 3),
        "g": np.ones(4, np.float32),
        "z": np.zeros(4, np.float32),
    }
    assert kinds(compare(model(nodes, [("x", [1, 3, 6, 6])], [("y", None)], constants, 15).SerializeToString())) == [
        "conv"
    ]


def test_pad_with_a_value():
    one("Pad", ["N", 3, 5, 6], extra=(i64(0, 0, 2, 1, 0, 0, 1, 3), np.float32(0.75)), options={"batch": 2})


@pytest.mark.parametrize("shape", [(1, 2, 3, 5), (1, 6, 3, 5)], ids=str)
@pytest.mark.parametrize("first", [False, True])
def test_constants_joined_to_a_tensor(shape, first):
    """Maps of coordinates beside the channels (CoordConv)."""
    names = ["c", "x"] if first else ["x", "c"]
    built = model(
        [helper.make_node("Concat", names, ["y"], axis=1)], [("x", [1, 4, 3, 5])], [("y", None)], {"c": f(*shape)}
    )
    compare(built.SerializeToString())


def test_a_constant_row_joined_to_rows():
    built = model(
        [helper.make_node("Concat", ["c", "x"], ["y"], axis=1)], [("x", [1, 9, 8])], [("y", None)], {"c": f(1, 1, 8)}
    )
    compare(built.SerializeToString())


def test_layer_normalization_gives_its_mean_and_factor():
    nodes = [helper.make_node("LayerNormalization", ["x", "w", "b"], ["y", "m", "i"])]
    built = model(nodes, [("x", [1, 5, 8])], [("y", None), ("m", None), ("i", None)], {"w": f(8), "b": f(8)}, 17)
    compare(built.SerializeToString())


@pytest.mark.parametrize("strides", [[2, 2], [2, 3], [1, 2]], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("slopes", [False, True])
def test_batch_norm_and_activation_behind_a_transposed_convolution(strides, groups, slopes):
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], strides=strides, pads=[1, 0, 1, 1], group=groups),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        helper.make_node(*(("PRelu", ["n", "s"], ["y"]) if slopes else ("Relu", ["n"], ["y"]))),
    ]
    constants = {"w": f(6, 6 // groups, 3, 4), "g": f(6), "b": f(6), "m": f(6), "v": f(6, low=0.3), "s": f(6, 1, 1)}
    result = compare(model(nodes, [("x", ["N", 6, 4, 5])], [("y", None)], constants).SerializeToString(), batch=2)
    assert not result.network.of_kind("batch_norm", "activation")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_parametric_relu_behind_a_pixel_shuffle(mode):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=2, mode=mode),
        helper.make_node("PRelu", ["d", "s"], ["y"]),
    ]
    constants = {"w": f(12, 4, 1, 1), "s": f(3, 1, 1)}
    result = compare(model(nodes, [("x", [1, 4, 3, 5])], [("y", None)], constants).SerializeToString())
    assert kinds(result) == ["conv", "depth_to_space"]


def test_nothing_is_folded_where_somebody_else_reads():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=2),
        helper.make_node("Relu", ["d"], ["y"]),
        helper.make_node("Sigmoid", ["c"], ["z"]),
    ]
    built = model(nodes, [("x", [1, 4, 3, 5])], [("y", None), ("z", None)], {"w": f(12, 4, 1, 1)})
    assert kinds(compare(built.SerializeToString())) == ["conv", "depth_to_space", "activation", "activation"]


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_constant_that_enlarges_a_tensor(op):
    one(op, ["N", 1, 3, 5], extra=(f(7, 1, 1),), options={"batch": 2})
    one(op, ["N", 4, 1, 1], extra=(f(4, 3, 5),), options={"batch": 2})
    one(op, ["N", 1, 3, 1], extra=(f(1, 4, 1, 5),), options={"batch": 2})


def test_rows_and_columns_repeated_by_tiles():
    """Nearest upsampling as Keras 3 writes it: a new dimension, copies along it, and both seen as one."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        helper.make_node("Unsqueeze", ["a", "k2"], ["b"]),
        helper.make_node("Tile", ["b", "r1"], ["c"]),
        helper.make_node("Reshape", ["c", "s1"], ["d"]),
        helper.make_node("Unsqueeze", ["d", "k3"], ["e"]),
        helper.make_node("Tile", ["e", "r2"], ["g"]),
        helper.make_node("Reshape", ["g", "s2"], ["y"]),
    ]
    constants = {
        "k2": i64(2), "k3": i64(3), "r1": i64(1, 1, 2, 1, 1), "r2": i64(1, 1, 1, 3, 1),
        "s1": i64(-1, 6, 5, 4), "s2": i64(-1, 6, 15, 4),
    }  # fmt: skip
    result = compare(model(nodes, [("x", ["N", 4, 3, 5])], [("y", None)], constants).SerializeToString(), batch=2)
    assert kinds(result) == ["resize_nearest", "resize_nearest"]


def test_softplus_written_out():
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Add", ["one", "e"], ["a"]),
        helper.make_node("Log", ["a"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("Mul", ["x", "t"], ["y"]),
    ]
    result = compare(model(nodes, [("x", [1, 4, 3, 5])], [("y", None)], {"one": np.float32(1)}).SerializeToString())
    assert [x.attributes["activation"] for x in result.network.of_kind("activation")] == ["mish"]
