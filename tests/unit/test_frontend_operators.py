# SPDX-License-Identifier: Apache-2.0
"""Every supported operator against onnxruntime on one-node and few-node models."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, f, i64, kinds, model, one  # noqa: E402


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 1, 2, 0]},
        {"strides": [2, 1], "pads": [1, 0, 1, 2]},
        {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
        {"pads": [3, 0, 0, 4]},
    ],
    ids=str,
)
@pytest.mark.parametrize(("groups", "cin", "cout"), [(1, 4, 6), (2, 4, 6), (4, 4, 4), (4, 4, 8)])
def test_conv(attributes, groups, cin, cout):
    weight = f(cout, cin // groups, 3, 2)
    result = one("Conv", ["N", cin, 9, 8], extra=(weight, f(cout)), group=groups, options={"batch": 2}, **attributes)
    expected = "dw" if groups == cin == cout else "conv"
    assert kinds(result)[-1] == expected


def test_conv_without_bias_and_1d():
    one("Conv", [1, 3, 5, 5], extra=(f(2, 3, 1, 1),))
    one("Conv", [1, 3, 17], extra=(f(5, 3, 4), f(5)), strides=[2], pads=[1, 2], dilations=[2])
    one("MaxPool", [1, 3, 17], kernel_shape=[3], strides=[2], pads=[1, 1])
    one("GlobalAveragePool", [1, 3, 17])


@pytest.mark.parametrize("opset", [7, 11, 13, 22])
@pytest.mark.parametrize(
    ("trans", "alpha", "beta", "bias"), [(0, 1.0, 1.0, (6,)), (1, 0.5, 2.0, (1, 6)), (1, 1.0, 1.0, None)]
)
def test_gemm(trans, alpha, beta, bias, opset):
    weight = f(6, 5) if trans else f(5, 6)
    extra = (weight, f(*bias)) if bias or (opset >= 11 and bias) else (weight, f(6)) if opset < 11 else (weight,)
    one("Gemm", [2, 5], extra=extra, transB=trans, alpha=alpha, beta=beta, opset=opset, options={"batch": 2})


@pytest.mark.parametrize("shape", [[1, 5], [1, 3, 5], [1, 2, 3, 5]])
def test_matmul_by_constant(shape):
    result = one("MatMul", shape, extra=(f(5, 7),))
    assert kinds(result)[-1] == ("dense" if len(shape) == 2 else "conv")
    one("MatMul", shape, extra=(f(1, 5, 7),) if len(shape) == 3 else (f(5, 7),))


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("shape", [[1, 4], [1, 4, 5, 3]])
def test_batch_normalization_alone(shape, opset):
    result = one("BatchNormalization", shape, extra=(f(4), f(4), f(4), f(4, low=0.1)), epsilon=1e-3, opset=opset)
    assert kinds(result) == ["batch_norm"]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("constant", [(), (1,), (4, 1, 1), (1, 4, 1, 1), (1, 1, 1, 1)], ids=str)
def test_constant_operand(op, constant):
    value = f(*constant, low=0.5, high=2.0)
    assert kinds(one(op, [1, 4, 3, 5], extra=(value,))) == ["batch_norm"]
    if op != "Div":
        node = helper.make_node(op, ["c", "x"], ["y"])
        compare(model([node], [("x", [1, 4, 3, 5])], [("y", None)], {"c": value}).SerializeToString())


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Sum"])
@pytest.mark.parametrize("other", [(1, 4, 3, 5), (1, 4, 1, 1), (1, 1, 3, 5), (1, 1, 1, 1), (1, 4, 1, 5)], ids=str)
def test_two_tensors(op, other):
    for names in (["x", "z"], ["z", "x"]):
        built = model([helper.make_node(op, names, ["y"])], [("x", [1, 4, 3, 5]), ("z", list(other))], [("y", None)])
        assert kinds(compare(built.SerializeToString())) == [
            {"Add": "ew_add", "Sum": "ew_add", "Sub": "ew_sub", "Mul": "ew_mult"}[op]
        ]


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("HardSigmoid", {}),
        ("HardSwish", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("Elu", {"alpha": 0.7}),
        ("Identity", {}),
        ("Neg", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [[1, 6], [1, 3, 6], [1, 2, 5, 6]])
def test_activation(op, attributes, shape):
    one(op, shape, opset=14, options={"low": -5, "high": 5}, **attributes)


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize(
    ("low", "high", "activation"), [(0.0, 6.0, "relu6"), (-0.5, 0.25, "clip"), (0.0, None, "relu"), (None, None, None)]
)
def test_clip(low, high, activation, opset):
    if opset < 11:
        attributes = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
        result = one("Clip", [1, 3, 4, 4], opset=opset, options={"low": -8, "high": 8}, **attributes)
    else:
        extra = tuple(None if v is None else np.float32(v) for v in (low, high))
        result = one("Clip", [1, 3, 4, 4], extra=extra, opset=opset, options={"low": -8, "high": 8})
    found = [layer.attributes["activation"] for layer in result.network.of_kind("activation")]
    assert found == ([activation] if activation else [])


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 2, 1], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ],
    ids=str,
)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pool(op, attributes):
    for size in ([1, 3, 7, 8], [1, 3, 8, 10]):
        one(op, size, opset=22, **attributes)
        if op == "AveragePool" and not attributes.get("ceil_mode"):
            one(op, size, opset=22, count_include_pad=1, **attributes)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
def test_reduce_mean(axes, keepdims, opset):
    if opset < 18:
        result = one("ReduceMean", [1, 4, 3, 5], axes=axes, keepdims=keepdims, opset=opset)
    else:
        result = one("ReduceMean", [1, 4, 3, 5], extra=(i64(*axes),), keepdims=keepdims, opset=opset)
    assert kinds(result) == ["avgpool"]


def test_global_pools():
    one("GlobalAveragePool", [1, 4, 3, 5])
    one("GlobalMaxPool", [1, 4, 3, 5])


def test_slice_forms():
    one("Slice", [1, 4, 9, 8], extra=(i64(1, 2), i64(9, 2**62), i64(2, 3), i64(2, 3)))
    one("Slice", [1, 4, 9, 8], extra=(i64(-3), i64(-1), i64(1)))
    one("Slice", [1, 4, 9, 8], opset=9, starts=[1, 0], ends=[3, 5], axes=[1, 3])
    one("Slice", [1, 9], extra=(i64(2), i64(7), i64(1), i64(2)))
    assert kinds(one("Slice", [1, 4, 9, 8], extra=(i64(0), i64(99), i64(2)))) == []


def test_pad_forms():
    pads = i64(0, 1, 2, 0, 0, 2, 0, 1)
    assert kinds(one("Pad", [1, 4, 5, 6], extra=(pads, np.float32(0)))) == ["external_pad"]
    one("Pad", [1, 4, 5, 6], extra=(pads,))
    one("Pad", [1, 4, 5, 6], opset=9, pads=[0, 0, 1, 1, 0, 0, 2, 2], mode="constant")
    one("Pad", [1, 4, 5, 6], opset=18, extra=(i64(1, 2), None, i64(3)))
    one("Pad", [1, 1, 5, 6], extra=(i64(0, 2, 0, 0, 0, 1, 0, 0),))
    assert kinds(one("Pad", [1, 4, 5, 6], extra=(i64(*[0] * 8),))) == []


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concat_and_split(axis):
    shapes = [[1, 4, 3, 5], [1, 4, 3, 5]]
    shapes[1][axis] += 2
    node = helper.make_node("Concat", ["x", "z", "x"], ["y"], axis=axis)
    assert kinds(compare(model([node], [("x", shapes[0]), ("z", shapes[1])], [("y", None)]).SerializeToString())) == [
        "concat"
    ]
    for opset, attributes, extra in ((11, {"split": [1, 2]}, {}), (13, {}, {"s": i64(1, 2)})):
        names = ["x", *extra]
        node = helper.make_node("Split", names, ["y", "z"], axis=2, **attributes)
        compare(model([node], [("x", [1, 4, 3, 5])], [("y", None), ("z", None)], extra, opset).SerializeToString())


def test_concat_of_vectors_and_mixed_layouts():
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["v"]),
        helper.make_node("Concat", ["v", "z"], ["y"], axis=1),
    ]
    compare(model(nodes, [("x", [1, 4, 3, 5]), ("z", [1, 3])], [("y", None)]).SerializeToString())


@pytest.mark.parametrize(
    ("shape", "attributes", "opset"),
    [
        ([1, 5], {}, 13),
        ([1, 5], {"axis": 1}, 11),
        ([1, 3, 5], {"axis": -1}, 13),
        ([1, 3, 5], {"axis": 1}, 11),
        ([1, 5, 3, 4], {"axis": 1}, 13),
        ([1, 5, 3, 4], {"axis": 3}, 13),
        ([1, 5, 3, 4], {"axis": 1}, 11),
        ([1, 3, 5], {"axis": 1}, 13),
    ],
    ids=str,
)
def test_softmax(shape, attributes, opset):
    one("Softmax", shape, opset=opset, options={"low": -3, "high": 3}, **attributes)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Transpose", {"perm": [0, 2, 3, 1]})],
        [("Transpose", {"perm": [0, 3, 1, 2]})],
        [("Flatten", {"axis": 1})],
        [("Flatten", {"axis": 2})],
        [("Flatten", {"axis": 0})],
        [("Flatten", {"axis": 3})],
        [("Transpose", {"perm": [0, 2, 3, 1]}), ("Flatten", {})],
        [("Transpose", {"perm": [0, 3, 2, 1]}), ("Relu", {}), ("Flatten", {"axis": 2})],
    ],
    ids=str,
)
def test_layout_changes_emit_nothing(nodes):
    made = [helper.make_node(op, ["x" if i == 0 else f"t{i}"], [f"t{i + 1}"], **a) for i, (op, a) in enumerate(nodes)]
    result = compare(model(made, [("x", [1, 4, 3, 5])], [(f"t{len(nodes)}", None)]).SerializeToString())
    assert set(kinds(result)) <= {"activation"}


@pytest.mark.parametrize(
    "shape", [[1, 60], [1, 4, 15], [0, -1], [1, -1, 5], [1, 2, 2, 3, 5], [2, 30], [1, 2, 30], [1, 60, 1, 1]], ids=str
)
def test_reshape(shape):
    one("Reshape", [1, 4, 3, 5], extra=(i64(*shape),))


def test_squeeze_unsqueeze():
    one("Squeeze", [1, 4, 1, 5], extra=(i64(2),))
    one("Squeeze", [1, 4, 1, 5], opset=11, axes=[2])
    one("Squeeze", [1, 4, 1, 5])
    one("Unsqueeze", [1, 4, 5], extra=(i64(2),))
    one("Unsqueeze", [1, 4], opset=11, axes=[2, 3])


def test_channel_shuffle():
    """Reshape, transpose, reshape across channel groups (ShuffleNet) moves channels by one transpose."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "s1"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["t", "s2"], ["u"]),
        helper.make_node("Conv", ["u", "w2"], ["y"]),
    ]
    constants = {"w": f(6, 3, 1, 1), "w2": f(2, 6, 3, 3), "s1": i64(1, 2, 3, 5, 4), "s2": i64(1, 6, 5, 4)}
    assert "transpose" in kinds(
        compare(model(nodes, [("x", [1, 3, 5, 4])], [("y", None)], constants).SerializeToString())
    )


def test_gemm_reads_a_flattened_image_by_permuting_weights():
    for order in ([0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]):
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Transpose", ["c"], ["t"], perm=order),
            helper.make_node("Flatten", ["t"], ["v"]),
            helper.make_node("Gemm", ["v", "g"], ["y"]),
        ]
        constants = {"w": f(6, 3, 1, 1), "g": f(6 * 20, 7)}
        result = compare(model(nodes, [("x", [1, 3, 5, 4])], [("y", None)], constants).SerializeToString(), batch=1)
        assert kinds(result) == ["conv", "reshape", "dense"]


def test_nhwc_source_graph():
    """A channels-last source: input and output keep that order and no transpose is emitted."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Transpose", ["c"], ["u"], perm=[0, 2, 3, 1]),
        helper.make_node("Add", ["u", "b"], ["y"]),
    ]
    result = compare(
        model(nodes, [("x", [1, 6, 5, 3])], [("y", None)], {"w": f(4, 3, 3, 3), "b": f(4)}).SerializeToString()
    )
    assert kinds(result) == ["conv"]
    assert result.report.inputs[0].source_permutation == (0, 1, 2, 3)
    assert result.report.outputs[0].source_permutation == (0, 1, 2, 3)


def test_squeeze_and_excite_through_dense():
    """A gate computed on vectors multiplies an image."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["p", "a"], ["q"]),
        helper.make_node("HardSigmoid", ["q"], ["h"]),
        helper.make_node("Unsqueeze", ["h", "ax"], ["g"]),
        helper.make_node("Mul", ["c", "g"], ["y"]),
    ]
    constants = {"w": f(6, 3, 1, 1), "a": f(6, 6), "ax": i64(2, 3)}
    result = compare(model(nodes, [("x", [2, 3, 5, 4])], [("y", None)], constants).SerializeToString(), batch=2)
    assert "ew_mult" in kinds(result)


def test_shape_glue_folds():
    """view(x.shape[0], -1) as PyTorch writes it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "a0"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["t"], axis=0),
        helper.make_node("Reshape", ["c", "t"], ["v"]),
        helper.make_node("Gemm", ["v", "g"], ["y"]),
    ]
    constants = {"w": f(2, 3, 1, 1), "zero": np.array(0, np.int64), "a0": i64(0), "minus": i64(-1), "g": f(40, 3)}
    result = compare(model(nodes, [("x", ["N", 3, 5, 4])], [("y", None)], constants).SerializeToString())
    assert result.report.folded_constants == 4


@pytest.mark.parametrize("form", ["float_data", "float16", "double", "constant_node", "listed_as_input"])
def test_forms_of_weights(form):
    weight = f(4, 3, 1, 1)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    if form == "constant_node":
        built = model(
            [helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight)), node],
            [("x", [1, 3, 2, 2])],
            [("y", None)],
        )
    elif form == "listed_as_input":
        built = model([node], [("x", [1, 3, 2, 2]), ("w", [4, 3, 1, 1])], [("y", None)], {"w": weight})
    else:
        built = model([node], [("x", [1, 3, 2, 2])], [("y", None)], {"w": weight})
        if form == "float_data":
            built.graph.initializer[0].CopyFrom(helper.make_tensor("w", 1, weight.shape, weight.reshape(-1).tolist()))
        elif form in ("float16", "double"):
            wide = onnx.numpy_helper.from_array(weight.astype(np.float16 if form == "float16" else np.float64), "w2")
            built = model([helper.make_node("Cast", ["w2"], ["w"], to=1), node], [("x", [1, 3, 2, 2])], [("y", None)])
            built.graph.initializer.append(wide)
    result = compare(built.SerializeToString())
    assert result.report.parameters == 16
    assert all(a.dtype == np.float32 and a.flags["C_CONTIGUOUS"] for a in result.network.params.values())
