# SPDX-License-Identifier: Apache-2.0
"""Cutting, missing shapes, the report of everything that cannot be translated, and names."""

from __future__ import annotations

import json

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, model  # noqa: E402
from headrace.errors import HeadraceError, UnsupportedModelError, UsageError  # noqa: E402
from headrace.reports.parse import ParseReport  # noqa: E402
from parsing import parse_onnx  # noqa: E402

RNG = np.random.default_rng(3)


def f(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def small(**options):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Relu", ["c"], ["r"], name="act"),
        helper.make_node("Conv", ["r", "v"], ["d"], name="second"),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    built = model(nodes, [("x", ["N", 3, 8, 8])], [("y", None)], {"w": f(4, 3, 3, 3), "v": f(5, 4, 1, 1)})
    return parse_onnx(built.SerializeToString(), "net", **options)


def error_of(data, cls=HeadraceError, **options):
    with pytest.raises(cls) as caught:
        parse_onnx(data if isinstance(data, bytes) else data.SerializeToString(), **options)
    return caught.value


def test_names_and_original_names():
    network = small().network
    assert list(network.layers) == ["net/input_layer1", "net/conv1", "net/conv2", "net/avgpool1", "net/output_layer1"]
    assert network["net/conv1"].original_names == ["first", "act"]
    assert network.find("second").name == "net/conv2"
    assert network.find("p").name == "net/avgpool1"  # a node without a name goes by its first output
    assert network.find("flat").name == "net/avgpool1"
    assert network.output_layers[0].attributes["source_shape"] == [-1, 5]
    assert network.net_params["output_layers_order"] == ["net/output_layer1"]


def test_report_is_json_and_counts():
    report = small().report.as_dict()
    assert json.loads(json.dumps(report)) == report
    assert ParseReport.from_dict(report, "here") == small().report
    assert report["macs"] == 6 * 6 * 4 * 27 + 6 * 6 * 5 * 4
    assert report["parameters"] == 4 * 27 + 4 + 20 + 5
    assert report["nodes"]["act"] == "net/conv1"
    assert report["inputs"][0]["source_shape"] == [-1, 3, 8, 8]


def test_end_and_start_nodes():
    network = small(end_node_names=["act"]).network
    assert [x.kind for x in network] == ["input_layer", "conv", "output_layer"]
    assert network.output_layers[0].attributes["source_name"] == "r"
    assert [x.attributes["source_name"] for x in small(end_node_names=["second", "first"]).network.output_layers] == [
        "d",
        "c",
    ]
    network = small(start_node_names=["second"], input_shapes={"r": [1, 4, 6, 6]}).network
    assert [x.kind for x in network] == ["input_layer", "conv", "avgpool", "output_layer"]
    network = small(start_node_names=["second"], end_node_names=["d"], input_shapes=[1, 4, 6, 6]).network
    assert network.input_layers[0].output_shape == (-1, 6, 6, 4)


def test_unknown_node_name_suggests():
    with pytest.raises(UsageError, match="did you mean 'second'"):
        small(end_node_names=["secnd"])
    with pytest.raises(UsageError) as caught:
        small(start_node_names=["nope", "nope2"])
    assert len(caught.value.diagnostics) == 2


def test_missing_shapes_are_listed_together_with_the_spelling():
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    built = model(nodes, [("a", ["N", 3, "H", "W"]), ("b", ["N", 3, "H", "W"])], [("y", None)])
    error = error_of(built, UsageError)
    assert len(error.diagnostics) == 2
    assert "--tensor-shapes a=[1,3,SIZE,SIZE]" in error.diagnostics[0].levers[0]
    result = parse_onnx(built.SerializeToString(), input_shapes={"a": [1, 3, 4, 4], "b": [1, 3, 4, 4]})
    assert result.network.input_layers[0].output_shape == (-1, 4, 4, 3)
    assert error_of(built, UsageError, input_shapes={"q": [1, 3, 4, 4]}).code == "E-PARSE-SHAPES"
    assert error_of(built, UsageError, input_shapes=[1, 3, 4, 4]).code == "E-PARSE-SHAPES"
    assert error_of(built, UsageError, input_shapes={"a": [1, 3, 4], "b": [1, 3, 4, 4]}).code == "E-PARSE-SHAPES"
    assert error_of(built, UsageError, input_shapes={"a": "huge"}).code == "E-PARSE-SHAPES"
    assert (
        error_of(built, UsageError, input_shapes={"a": [1, 3, 2**20, 2**20], "b": [1, 3, 4, 4]}).code
        == "E-PARSE-SHAPES"
    )


def unsupported_tail():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="body"),
        helper.make_node("Bernoulli", ["c"], ["e"], name="bad1"),
        helper.make_node("Relu", ["e"], ["r"], name="fine"),
        helper.make_node("TopK", ["r", "k"], ["t", "i"], name="bad2"),
        helper.make_node("Pad", ["c", "pads"], ["q"], name="bad3", mode="other"),
        helper.make_node("Relu", ["c"], ["z"], name="good"),
    ]
    constants = {"w": f(4, 3, 1, 1), "k": np.array([1], np.int64), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}
    return model(nodes, [("x", [1, 3, 8, 8])], [("t", None), ("q", None), ("z", None)], constants)


def test_all_offending_nodes_and_a_recommendation_that_works():
    error = error_of(unsupported_tail(), UnsupportedModelError)
    assert [d.where.split("'")[1] for d in error.diagnostics] == ["bad1", "bad2", "bad3"]
    assert "Bernoulli" in error.diagnostics[0].rule
    assert "other" in error.diagnostics[2].rule
    assert error.recommended_end_nodes == ["body", "good"]
    assert "--end-node-names body good" in str(error)
    assert error.as_dict()["recommended_end_nodes"] == ["body", "good"]
    parse_onnx(unsupported_tail().SerializeToString(), end_node_names=error.recommended_end_nodes)


@pytest.mark.parametrize(
    ("nodes", "constants", "word"),
    [
        ([("QuantizeLinear", ["x", "s", "z"], ["y"], {})], {"s": np.float32(0), "z": np.uint8(0)}, "the scale 0"),
        ([("Concat", ["x", "k"], ["y"], {"axis": 1})], {"k": np.zeros((2, 1, 8, 8), np.float32)}, "one for all frames"),
        ([("Concat", ["x", "k"], ["y"], {"axis": 1})], {"k": np.zeros((1, 1, 8, 7), np.float32)}, "equal sizes"),
        ([("Concat", ["x", "x"], ["y"], {"axis": 0})], {}, "batch"),
        ([("Add", ["x", "k"], ["y"], {})], {"k": np.zeros((5, 8), np.float32)}, "does not broadcast"),
        ([("Add", ["x", "k"], ["y"], {})], {"k": np.zeros((1, 1, 1, 1, 8), np.float32)}, "enlarges"),
        ([("Div", ["x", "k"], ["y"], {})], {"k": np.float32(0)}, "division by zero"),
        ([("Pow", ["x", "k"], ["y"], {})], {"k": np.float32(99)}, "exponent"),
        ([("Gather", ["x", "k"], ["y"], {"axis": 1})], {"k": np.zeros((2, 2), np.float32)}, "indices of shape"),
        ([("Gather", ["x", "k"], ["y"], {"axis": 2})], {"k": np.array([9])}, "does not have"),
        ([("Gather", ["x", "k"], ["y"], {"axis": 2})], {"k": np.tile([0, 2, 1], 40000)}, "indices of shape"),
        ([("ReduceMean", ["x"], ["y"], {})], {}, "over all axes"),
        ([("ReduceMax", ["x"], ["y"], {"axes": [0, 1]})], {}, "over the batch"),
        (
            [("Pad", ["x", "k"], ["y"], {"mode": "reflect"})],
            {"k": np.array([0, 0, 9, 0, 0, 0, 0, 0])},
            "reflection by 9",
        ),
        ([("Expand", ["x", "k"], ["y"], {})], {"k": np.array([1, 6, 8, 8])}, "broadcast"),
        ([("Tile", ["x", "k"], ["y"], {})], {"k": np.array([2, 1, 1, 1])}, "batch"),
        ([("Conv", ["x", "x"], ["y"], {})], {}, "every frame of the batch"),
        (
            [("Transpose", ["x"], ["t"], {"perm": [1, 0, 2, 3]}), ("Conv", ["t", "k"], ["y"], {})],
            {"k": np.zeros((2, 1, 1, 1), np.float32)},
            "batch",
        ),
        ([("Foo", ["x"], ["y"], {"domain": "com.example"})], {}, "domain 'com.example'"),
        ([("Cast", ["x"], ["y"], {"to": 14})], {}, "complex64"),
        ([("Resize", ["x", "", "k"], ["y"], {"mode": "area"})], {"k": np.array([1, 1, 2, 2.5], np.float32)}, "area"),
        ([("MaxPool", ["x"], ["z", "y"], {"kernel_shape": [2, 2]})], {}, "output 1 is used"),
    ],
)
def test_reasons(nodes, constants, word):
    made = [helper.make_node(op, i, o, **a) for op, i, o, a in nodes]
    error = error_of(model(made, [("x", ["N", 3, 8, 8])], [("y", None)], constants), UnsupportedModelError)
    assert word in str(error)


def test_opsets_outside_the_known_range():
    for opset in (6, 999):
        error = error_of(model([helper.make_node("Relu", ["x"], ["y"])], [("x", [1, 3])], [("y", None)], opset=opset))
        assert error.code == "E-ONNX-OPSET"


@pytest.mark.parametrize("name", ["", "a/b", "1x", "x" * 65, "ü"])
def test_bad_network_names(name):
    built = model([helper.make_node("Relu", ["x"], ["y"])], [("x", [1, 3])], [("y", None)])
    assert error_of(built, UsageError, net_name=name).code == "E-PARSE-NAME"


def test_unused_input_is_a_warning(tmp_path):
    built = model([helper.make_node("Relu", ["x"], ["y"])], [("x", [1, 3]), ("z", [1, 3])], [("y", None)])
    path = tmp_path / "1 my-net.v2.onnx"
    path.write_bytes(built.SerializeToString())
    result = parse_onnx(path)
    assert result.network.name == "net_1_my_net_v2"
    assert any("'z'" in w for w in result.report.warnings)


def test_same_file_same_network():
    from headrace.hn import json_format

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    data = model(nodes, [("x", [1, 3, 8, 8])], [("y", None)], {"w": f(4, 3, 3, 3)}).SerializeToString()
    first, second = parse_onnx(data), parse_onnx(data)
    assert json_format.dumps(first.network) == json_format.dumps(second.network)
    assert [x.attributes.get("activation") for x in first.network.of_kind("conv")] == ["silu"]


ZOO = {
    "resnet_cifar10_onnx/resnet20.onnx": (None, -2, 2),
    "derived_tf/resnet8/ic_resnet8_tf2onnx.onnx": (None, 0, 255),
    "ppocr_v4/ch_ppocr_mobile_v2.0_cls_infer.onnx": ([1, 3, 48, 192], -1, 1),
    "mnist_cntk/mnist.onnx": (None, 0, 255),
    "derived_tf/mobilenet_v1_025/mobilenet_v1_0.25_224_tf2onnx.onnx": (None, -1, 1),
}


@pytest.mark.parametrize("name", ZOO)
def test_zoo_model_equals_onnxruntime(zoo, name):
    shapes, low, high = ZOO[name]
    result = compare(zoo / name, shapes, low=low, high=high)
    assert not {layer.kind for layer in result.network} & {"transpose", "activation", "batch_norm"}


DETECTORS = ("yunet/yunet_n_320_320.onnx", "picodet_s/picodet_s_320_coco.onnx", "yolox_nano/yolox_nano_coco80.onnx")


@pytest.mark.parametrize("name", DETECTORS)
def test_zoo_detectors_parse_whole(zoo, name):
    network = parse_onnx(zoo / name).network
    assert network.of_kind("resize_nearest")
    assert not network.of_kind("batch_norm")


@pytest.mark.parametrize(
    "name",
    [
        "silero_vad/silero_vad.onnx",
    ],
)
def test_zoo_model_that_ends_in_a_report(zoo, name):
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(zoo / name)
    ends = getattr(caught.value, "recommended_end_nodes", [])
    if ends:
        assert parse_onnx(zoo / name, end_node_names=ends).network.output_layers


def test_an_end_that_cannot_leave_the_network_moves_towards_the_input():
    """A batch inside another dimension (channels, frames and rows in one): the cut is before it."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "body"),
        helper.make_node("Transpose", ["a"], ["c"], "turn", perm=[1, 0, 2, 3]),
        helper.make_node("Reshape", ["c", "frames"], ["d"], "frames"),
        helper.make_node("Transpose", ["d"], ["e"], "part", perm=[1, 0, 2]),
        helper.make_node("Unique", ["e"], ["y"], "bad"),
    ]
    constants = {"frames": np.array([2, 16, 8])}
    data = model(nodes, [("x", ["N", 4, 8, 8])], [("y", None)], constants).SerializeToString()
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(data)
    ends = caught.value.recommended_end_nodes
    assert ends and not {"part", "bad"} & set(ends)
    parse_onnx(data, end_node_names=ends)


def test_many_nodes_with_one_problem_are_said_once():
    nodes = [helper.make_node("Bernoulli", ["x" if i == 0 else f"t{i - 1}"], [f"t{i}"], f"n{i}") for i in range(9)]
    nodes.append(helper.make_node("Unique", ["x"], ["other"], "last"))
    built = model(nodes, [("x", [1, 3, 8, 8])], [("t8", [1, 3, 8, 8]), ("other", None)])
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(built.SerializeToString())
    first, second = caught.value.diagnostics
    assert "'n0' and 8 more nodes" in first.where and "'last'" in second.where
