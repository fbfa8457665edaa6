# SPDX-License-Identifier: Apache-2.0
"""Operators beside those of the zoo: against onnxruntime on models of a few nodes."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

from frontend_oracle import compare, i64, kinds, model, one  # noqa: E402
from headrace.errors import UnsupportedModelError  # noqa: E402
from parsing import parse_onnx  # noqa: E402


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs, [output], output, **attributes)


def network(nodes, constants, shape=("N", 4, 5, 6), opset=13):
    return model(nodes, [("x", list(shape))], [("y", None)], constants, opset).SerializeToString()


@pytest.mark.parametrize("op", ["Sin", "Cos", "Erf"])
def test_tables_of_their_own(op):
    assert kinds(one(op, [1, 4, 3, 5], options={"low": -9, "high": 9})) == ["activation"]


@pytest.mark.parametrize(("shape", "axis"), [([1, 7], 1), ([1, 4, 3, 5], 1), ([1, 4, 3, 5], 3), ([1, 6, 9], 2)])
@pytest.mark.parametrize("opset", [11, 13])
def test_log_softmax(shape, axis, opset):
    one("LogSoftmax", shape, opset=opset, axis=axis, options={"low": -8, "high": 8})


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("shape", "axis"), [([1, 7], 1), ([1, 4, 3, 5], 1), ([1, 4, 3, 5], -1)])
def test_unit_length(p, shape, axis):
    one("LpNormalization", shape, p=p, axis=axis)


def test_mean_of_tensors():
    nodes = [node("Relu", ["x"], "a"), node("Mean", ["x", "a", "k"])]
    compare(network(nodes, {"k": np.float32([[[[0.5]], [[1]], [[2]], [[-1]]]])}), batch=2)
    compare(network([node("Mean", ["x"])], {}), batch=2)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 1, 5, 6), (4, 5, 6), (1,)])
@pytest.mark.parametrize("other", ["tensor", "number", "tensor and number"])
def test_where_with_a_known_condition(shape, other):
    condition = np.random.default_rng(0).uniform(0, 1, shape) < 0.5
    condition.reshape(-1)[0] = True
    second = {"tensor": "a", "number": "k", "tensor and number": "k"}[other]
    nodes = [node("Tanh", ["x"], "a"), node("Where", ["c", "x", second] if other != "number" else ["c", second, "x"])]
    compare(network(nodes, {"c": condition, "k": np.float32(0.25)}), batch=2)


@pytest.mark.parametrize("values", [("x", "k"), ("k", "a"), ("a", "x"), ("k", "l")])
def test_where_with_a_computed_condition(values):
    nodes = [node("Tanh", ["x"], "a"), node("Greater", ["a", "k"], "c"), node("Where", ["c", *values])]
    compare(network(nodes, {"k": np.float32(0.25), "l": np.float32(-3)}), batch=2)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("zero", [False, True])
def test_weights_stored_as_integers(axis, zero):
    rng = np.random.default_rng(0)
    size = {None: (), 0: (3,), 1: (4,)}[axis]
    constants = {
        "q": rng.integers(-127, 128, (3, 4, 1, 1)).astype(np.int8),
        "s": rng.uniform(0.01, 0.02, size).astype(np.float32),
        "z": rng.integers(-5, 5, size).astype(np.int8),
    }
    inputs = ["q", "s", "z"] if zero else ["q", "s"]
    nodes = [
        node("DequantizeLinear", inputs, "w", **({} if axis is None else {"axis": axis})),
        node("Conv", ["x", "w"]),
    ]
    assert kinds(compare(network(nodes, constants), batch=2)) == ["conv"]


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("CumSum", ["k", "i"], "m")], {"i": np.array(0, np.int64)}),
        ([node("Round", ["k"], "m")], {}),
        ([node("Sin", ["k"], "s"), node("Cos", ["s"], "c"), node("Tanh", ["c"], "m")], {}),
        ([node("Sum", ["k", "k"], "m")], {}),
        ([node("Clip", ["k", "i"], "m")], {"i": np.float32(0.5)}),
        ([node("IsNaN", ["k"], "n"), node("Cast", ["n"], "m", to=1)], {}),
        (
            [node("Reshape", ["k", "i"], "t"), node("Trilu", ["t"], "u", upper=0), node("Reshape", ["u", "j"], "m")],
            {"i": i64(2, 2), "j": i64(4)},
        ),
    ],
    ids=str,
)
def test_folded(nodes, constants):
    k = np.array([0.3, 1.7, -2.4, 5.0], np.float32)
    nodes = [*nodes, node("Reshape", ["m", "image"], "r"), node("Add", ["x", "r"])]
    built = network(nodes, {"k": k, "image": i64(1, 4, 1, 1), **constants}, opset=14)
    assert kinds(compare(built, batch=2)) in (["batch_norm"], [])


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("axis", [0, 1, 4])
@pytest.mark.parametrize("reduction", ["ReduceSum", "ReduceMax"])
def test_stack_and_reduce(batch, axis, reduction):
    """torch.stack([...]).sum(0): the new dimension stands before the batch (feature pyramids)."""
    nodes = [node("Tanh", ["x"], "a"), node("Relu", ["x"], "b")]
    nodes += [node("Unsqueeze", [n, "axis"], f"{n}1") for n in "abx"]
    nodes.append(node("Concat", ["a1", "b1", "x1"], "s", axis=axis))
    if reduction == "ReduceSum":
        nodes.append(node(reduction, ["s", "axis"], keepdims=0))
    else:
        nodes.append(node(reduction, ["s"], axes=[axis], keepdims=0))
    compare(network(nodes, {"axis": i64(axis)}, (batch, 4, 5, 6)), batch=2 if batch == "N" else 1)


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_padding_behind_a_batch_that_is_not_first(mode):
    nodes = [
        node("Transpose", ["x"], "t", perm=[1, 0, 2, 3]),
        node("Pad", ["t", "pads"], "p", mode=mode),
        node("Transpose", ["p"], perm=[1, 0, 2, 3]),
    ]
    compare(network(nodes, {"pads": i64(0, 0, 1, 0, 0, 0, 2, 1)}), batch=2)


@pytest.mark.parametrize("axes", [[0], [2], None])
def test_squeeze_and_back(axes):
    nodes = [
        node("ReduceMean", ["x"], "m", axes=[2]),
        node("Squeeze", ["m"] if axes is None else ["m", "axes"], "s"),
        node("Tanh", ["s"], "t"),
        node("Reshape", ["t", "shape"], "r"),
        node("Conv", ["r", "w"]),
    ]
    constants = {"shape": i64(1, 4, 1, 6), "w": np.random.default_rng(0).normal(0, 1, (3, 4, 1, 1)).astype(np.float32)}
    if axes is not None:
        constants["axes"] = i64(*axes)
    compare(network(nodes, constants, (1, 4, 5, 6)))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "dilation", "pad"), [((6, 8), 2, 2), ((9, 12), 3, 0), ((6, 8), 2, 0)])
def test_dilated_pool(op, size, dilation, pad):
    nodes = [node(op, ["x"], kernel_shape=[3, 3], dilations=[dilation] * 2, pads=[pad] * 4)]
    nodes[0].attribute.extend([helper.make_attribute("count_include_pad", 1)] if op == "AveragePool" else [])
    compare(network(nodes, {}, ("N", 4, *size), opset=19), batch=2)


@pytest.mark.parametrize(
    "more", [{"dilations": [2, 1]}, {"dilations": [4, 4]}, {"dilations": [2, 2], "strides": [2, 2]}]
)
def test_dilated_pools_that_are_refused(more):
    with pytest.raises(UnsupportedModelError, match="dilations"):
        parse_onnx(network([node("MaxPool", ["x"], kernel_shape=[2, 2], **more)], {}, ("N", 4, 6, 6)))


def test_an_input_without_a_batch():
    """torchvision's detectors take one picture C×H×W, normalize it, and make it a batch of one."""
    from frontend_oracle import run_network, session

    nodes = [
        node("Sub", ["x", "mean"], "a"),
        node("Div", ["a", "std"], "b"),
        node("Unsqueeze", ["b", "zero"], "c"),
        node("Resize", ["c", "", "", "sizes"], "d", mode="linear", coordinate_transformation_mode="half_pixel"),
        node("Gather", ["d", "first"], "e", axis=0),
        node("Unsqueeze", ["e", "zero"], "f"),
        node("Concat", ["f"], "g", axis=0),
        node("Conv", ["g", "w"]),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "mean": rng.normal(0, 1, (3, 1, 1)).astype(np.float32), "std": rng.uniform(1, 2, (3, 1, 1)).astype(np.float32),
        "zero": i64(0), "first": np.array(0, np.int64), "sizes": i64(1, 3, 8, 10),
        "w": rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32),
    }  # fmt: skip
    data = network(nodes, constants, (3, 4, 5))
    parsed = parse_onnx(data).network
    assert parsed.input_layers[0].output_shape == (-1, 4, 5, 3)
    x = rng.normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    want = np.concatenate([session(data).run(None, {"x": frame})[0] for frame in x])
    assert np.abs(run_network(parsed, {"x": x})["y"] - want).max() < 1e-4


def test_a_sequence_is_no_picture_without_a_batch():
    """Of the same rank, but a convolution over time reads it: its first dimension is the batch."""
    nodes = [node("Conv", ["x", "w"], "a"), node("Unsqueeze", ["x", "zero"], "b"), node("Relu", ["b"], "z"),
             node("Relu", ["a"])]  # fmt: skip
    constants = {"w": np.ones((2, 3, 3), np.float32), "zero": i64(0)}
    built = model(nodes, [("x", [1, 3, 9])], [("y", None), ("z", None)], constants)
    assert parse_onnx(built.SerializeToString()).network.input_layers[0].attributes["source_shape"] == [-1, 3, 9]


@pytest.mark.parametrize("op", ["NonZero", "Unique"])
def test_post_processing_is_called_that(op):
    with pytest.raises(UnsupportedModelError, match="post-processing") as caught:
        parse_onnx(network([node("Relu", ["x"], "a"), node(op, ["a"])], {}))
    assert "--end-node-names a" in str(caught.value)


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("first", ["half of x", "half of the gate"])
def test_gelu_by_tanh_written_out(power, first):
    if power:
        nodes = [node("Pow", ["x", "three"], "cube"), node("Mul", ["cube", "k"], "term")]
    else:
        nodes = [node("Mul", ["x", "x"], "square"), node("Mul", ["square", "x"], "cube")]
        nodes.append(node("Mul", ["k", "cube"], "term"))
    nodes += [
        node("Add", ["x", "term"], "sum"), node("Mul", ["sum", "root"], "argument"), node("Tanh", ["argument"], "t"),
        node("Add", ["t", "one"], "gate"),
    ]  # fmt: skip
    if first == "half of x":
        nodes += [node("Mul", ["x", "half"], "h"), node("Mul", ["h", "gate"])]
    else:
        nodes += [node("Mul", ["gate", "half"], "h"), node("Mul", ["x", "h"])]
    numbers = {"three": 3.0, "k": 0.044715, "root": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5}
    result = compare(network(nodes, {k: np.float32(v) for k, v in numbers.items()}), batch=2, low=-4, high=4)
    (activation,) = result.network.of_kind("activation")
    assert activation.attributes["activation"] == "gelu_tanh" and kinds(result) == ["activation"]


@pytest.mark.parametrize("wrong", ["k", "root", "one", "half", "three"])
def test_almost_gelu_stays_as_written(wrong):
    nodes = [
        node("Pow", ["x", "three"], "cube"), node("Mul", ["cube", "k"], "term"), node("Add", ["x", "term"], "sum"),
        node("Mul", ["sum", "root"], "argument"), node("Tanh", ["argument"], "t"), node("Add", ["t", "one"], "gate"),
        node("Mul", ["gate", "half"], "h"), node("Mul", ["x", "h"]),
    ]  # fmt: skip
    numbers = {"three": 3.0, "k": 0.044715, "root": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5}
    numbers[wrong] = 2.0
    result = compare(network(nodes, {k: np.float32(v) for k, v in numbers.items()}), batch=2)
    assert "gelu_tanh" not in [layer.attributes.get("activation") for layer in result.network]


def by_sign(above, below, numbers=(), comparison=("Greater", "x", "zero")):
    operator, *operands = comparison
    nodes = [
        node(operator, operands, "c"), node("Exp", ["x"], "e"), node("Sub", ["e", "one"], "m"),
        node("Elu", ["x"], "elu"), node("Mul", ["m", "a"], "ma"), node("Mul", ["b", "x"], "xb"),
        node("Mul", ["elu", "a"], "ea"), node("Mul", ["x", "a"], "xa"), node("Where", ["c", above, below]),
    ]  # fmt: skip
    constants = {"zero": 0.0, "one": 1.0, "a": 1.7580993, "b": 1.0507009, **dict(numbers)}
    return network(nodes, {k: np.float32(v) for k, v in constants.items()}, opset=16)


@pytest.mark.parametrize(
    "comparison", [("Greater", "x", "zero"), ("Less", "zero", "x"), ("GreaterOrEqual", "x", "zero")]
)
@pytest.mark.parametrize(
    ("above", "below", "name"),
    [("xb", "ma", "selu"), ("x", "m", "elu"), ("elu", "ea", "elu"), ("x", "ma", "elu"), ("x", "xa", "leaky_relu")],
)
def test_chosen_by_sign(above, below, name, comparison):
    """SELU and ELU in a TFLite file are SELECT by GREATER."""
    result = compare(by_sign(above, below, comparison=comparison), batch=2, low=-4, high=4)
    assert kinds(result) == ["activation"]
    assert result.network.of_kind("activation")[0].attributes["activation"] == name


@pytest.mark.parametrize(("above", "below"), [("ma", "xb"), ("xb", "xa"), ("m", "x")])
def test_other_choices_by_sign_stay_as_written(above, below):
    assert len(kinds(compare(by_sign(above, below), batch=2, low=-4, high=4))) > 1


def test_a_threshold_other_than_zero_stays_as_written():
    result = compare(by_sign("xb", "ma", {"zero": 0.5}), batch=2, low=-4, high=4)
    assert len(kinds(result)) > 1


@pytest.mark.parametrize("scale", [None, [3, 2]])
def test_experiments_of_old_files(scale):
    kept = {} if scale is None else {"scale": scale}
    nodes = [
        node("ImageScaler", ["x"], "a", scale=0.5, bias=[1.0, -2.0, 0.25, 3.0]),
        node("Crop", ["a"], "b", border=[1, 1, 2, 0], **kept),
        node("Affine", ["b"], alpha=-1.5, beta=0.75),
    ]
    compare(network(nodes, {}, (1, 4, 5, 6), opset=7))
    with pytest.raises(UnsupportedModelError, match="leaves nothing"):
        parse_onnx(network([node("Crop", ["x"], border=[3, 0, 3, 0])], {}, (1, 4, 5, 6), opset=7))


@pytest.mark.parametrize("to", ["INT4", "UINT4", "INT2", "UINT2"])
def test_numbers_of_few_bits_are_not_made_by_clipping(to: str) -> None:
    """A cast to them goes round at their ends (15 + 1 is 0), which a range of codes does not."""
    node = helper.make_node("Cast", ["x"], ["y"], "cast", to=getattr(TensorProto, to))
    back = helper.make_node("Cast", ["y"], ["z"], "back", to=TensorProto.FLOAT)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "z")]
    graph = helper.make_graph([node, back], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)])
    with pytest.raises(UnsupportedModelError, match=f"Cast to {to.lower()}"):
        parse_onnx(model.SerializeToString())


@pytest.mark.parametrize("value", [-np.inf, np.finfo(np.float32).min], ids=["infinite", "lowest"])
@pytest.mark.parametrize("own", [[0, 0, 0, 0], [1, 0, 0, 1]], ids=["alone", "beside the pool's own"])
def test_padding_that_is_no_maximum_is_the_pools(value: float, own: list[int]) -> None:
    """As timm's MaxPool2dSame writes it: the device has no such number, and needs none."""
    made = model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("Pad", ["c", "sizes", "value"], ["p"], "pad"),
            helper.make_node("MaxPool", ["p"], ["y"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=own),
        ],
        [("x", [1, 3, 8, 8])],
        [("y", None)],
        {
            "w": np.random.default_rng(0).normal(0, 1, (4, 3, 1, 1)).astype(np.float32),
            "sizes": i64(0, 0, 0, 1, 0, 0, 1, 0),
            "value": np.float32(value),
        },
    )
    result = compare(made.SerializeToString())
    assert kinds(result) == ["conv", "maxpool"]


def test_padding_that_somebody_else_reads_stays() -> None:
    made = model(
        [
            helper.make_node("Pad", ["x", "sizes", "value"], ["p"], "pad"),
            helper.make_node("MaxPool", ["p"], ["y"], "pool", kernel_shape=[3, 3]),
            helper.make_node("Neg", ["p"], ["z"], "neg"),
        ],
        [("x", [1, 3, 8, 8])],
        [("y", None), ("z", None)],
        {"sizes": i64(0, 0, 0, 1, 0, 0, 1, 0), "value": np.float32(-np.inf)},
    )
    with pytest.raises(UnsupportedModelError, match="the value -inf"):
        parse_onnx(made.SerializeToString())
