# SPDX-License-Identifier: Apache-2.0
"""Branches of If whose condition is known when the file is read, and inputs that are given a value."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
ort = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from frontend_oracle import compare, f, kinds, model, run_network  # noqa: E402
from headrace.cli import main  # noqa: E402
from headrace.errors import HeadraceError, InputFileError, UnsupportedModelError, UsageError  # noqa: E402
from headrace.inference import InferenceContext  # noqa: E402
from headrace.runner import ClientRunner  # noqa: E402
from parsing import parse_onnx  # noqa: E402

N = helper.make_node
WEIGHTS = {"w": f(4, 3, 1, 1), "yes": np.array(True), "no": np.array([False])}


def branch(nodes, outputs, initializers=()):
    ends = [helper.make_empty_tensor_value_info(name) for name in outputs]
    return helper.make_graph(
        nodes, "b", [], ends, [numpy_helper.from_array(v, k) for k, v in dict(initializers).items()]
    )


def choice(condition, then, other, outputs=("q",), name="choice"):
    return N("If", [condition], list(outputs), name, then_branch=then, else_branch=other)


def network(nodes, constants=(), shape=("N", 3, 6, 6), outputs=("y",)):
    nodes = [N("Conv", ["x", "w"], ["c"], "conv"), *nodes]
    return model(nodes, [("x", list(shape))], [(n, None) for n in outputs], WEIGHTS | dict(constants))


RELU, SIGMOID = branch([N("Relu", ["c"], ["t"], "act")], ["t"]), branch([N("Sigmoid", ["c"], ["t"], "act")], ["t"])


@pytest.mark.parametrize(("condition", "kind"), [("yes", "relu"), ("no", "sigmoid")])
def test_the_branch_that_is_taken_stands_in_its_place(condition, kind):
    built = network([choice(condition, RELU, SIGMOID), N("Add", ["q", "q"], ["y"])])
    result = compare(built.SerializeToString(), {"x": [1, 3, 6, 6]})
    assert [x.operation.activation for x in result.network.of_kind("conv")] == [kind]


def test_constants_of_a_branch_and_names_that_occur_twice():
    """Both Ifs have tensors, weights and nodes of the same names."""
    first = branch([N("Mul", ["c", "k"], ["t"], "node"), N("Identity", ["c"], ["i"])], ["t", "i"],
                   {"k": np.float32(3)})  # fmt: skip
    two = branch([N("Relu", ["c"], ["t"]), N("Relu", ["c"], ["i"])], ["t", "i"])
    second = branch([N("Mul", ["q", "k"], ["t"], "node")], ["t"], {"k": np.float32(-0.5)})
    built = network([
        choice("yes", first, two, ["q", "same"], "one"), choice("no", RELU, second, ["r"], "two"),
        N("Add", ["r", "same"], ["y"]),
    ])  # fmt: skip
    compare(built.SerializeToString(), {"x": [1, 3, 6, 6]})


def test_branches_in_branches_decided_by_sizes_of_what_branches_compute():
    other = branch([N("Neg", ["t"], ["o"])], ["o"])
    inner = branch([N("Shape", ["t"], ["s"]), N("Size", ["s"], ["n"]), N("Equal", ["n", "four"], ["e"]),
                    choice("e", branch([N("Relu", ["t"], ["u"])], ["u"]), other, ["v"])],
                   ["v"])  # fmt: skip
    outer = branch([N("MaxPool", ["c"], ["t"], kernel_shape=[2, 2]), choice("yes", inner, other, ["z"])], ["z"])
    built = network([choice("yes", outer, RELU), N("Identity", ["q"], ["y"])], {"four": np.array(4)})
    network_of_it = parse_onnx(built.SerializeToString(), input_shapes={"x": [1, 3, 6, 6]}).network
    x = f(1, 3, 6, 6)
    wanted = ReferenceEvaluator(built).run(None, {"x": x})[0]  # onnxruntime 1.32 crashes on such a file
    assert np.abs(run_network(network_of_it, {"x": x})["y"] - wanted).max() <= 1e-4 * np.ptp(wanted)


def test_a_condition_of_sizes_that_the_user_gives():
    nodes = [
        N("Shape", ["x"], ["s"]), N("Gather", ["s", "two"], ["h"]), N("Less", ["h", "limit"], ["e"]),
        choice("e", RELU, SIGMOID), N("Identity", ["q"], ["y"]),
    ]  # fmt: skip
    built = network(nodes, {"two": np.array(2), "limit": np.array(8)}, ("N", 3, "H", 6)).SerializeToString()
    for height, kind in ((6, "relu"), (9, "sigmoid")):
        result = compare(built, {"x": [1, 3, height, 6]})
        assert result.network.of_kind("conv")[0].operation.activation == kind
    with pytest.raises(HeadraceError) as caught:
        parse_onnx(built, device_only=True)
    assert "x=[" in str(caught.value)


def with_rate(shape=(), kind=TensorProto.INT64):
    """An If that an input decides: Relu where it is 16000, else the sigmoid."""
    built = network([N("Equal", ["sr", "rate"], ["e"]), choice("e", RELU, SIGMOID), N("Identity", ["q"], ["y"])],
                    {"rate": np.array(16000)})  # fmt: skip
    built.graph.input.append(helper.make_tensor_value_info("sr", kind, shape))
    return built


def native(path, feeds, **arguments):
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(path, "net", **arguments)
    return runner, runner.infer(InferenceContext.SDK_NATIVE, feeds, whole=True)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_an_input_with_a_value_decides_and_is_not_asked_for(tmp_path, rate):
    path = tmp_path / "rate.onnx"
    onnx.save(with_rate(), path)
    x = f(2, 3, 6, 6)
    runner, got = native(path, {"x": x}, input_values={"sr": rate})
    wanted = ort.InferenceSession(path).run(None, {"x": x, "sr": np.array(rate)})[0]
    assert np.abs(got - wanted).max() <= 1e-4 * np.ptp(wanted)
    assert [tensor.name for tensor in runner.archive.whole.inputs] == ["x"]
    assert runner.archive.history[0]["input_values"] == {"sr": rate}


def test_without_a_value_the_refusal_names_the_input_and_the_option():
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(with_rate().SerializeToString(), device_only=True)
    found = next(d for d in caught.value.diagnostics if "'choice'" in d.where)
    assert "depends on input 'sr'" in found.rule
    assert found.levers[0] == "--input-values sr=VALUE"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"sR": 1}, "did you mean 'sr'"), ({"c": 1}, "no input of this name"), ({"sr": 1.5}, "not of the type"),
        ({"sr": True}, "not of the type"), ({"sr": [1]}, "not the shape"),
        ({"sr": 1 << 63}, "does not have this value"),
        ({"sr": "a"}, "no value"), ({"sr": [[1], [2, 3]]}, "no value"), ({"sr": float("nan")}, "no value"),
        ({"sr": []}, "no value"), ({"sr": None}, "no value"), ({"sr": 1 << 80}, "no value"), ([1], "by input name"),
        ({"x": 1}, "not the shape"),
    ],
)  # fmt: skip
def test_values_that_no_input_has(values, word):
    with pytest.raises(UsageError, match=word) as caught:
        parse_onnx(with_rate().SerializeToString(), input_values=values)
    assert caught.value.code == "E-PARSE-VALUES"


def test_values_of_every_type():
    for kind, value in ((TensorProto.FLOAT, 2), (TensorProto.FLOAT16, [0.5]), (TensorProto.BOOL, [True, False])):
        dims = list(np.shape(value))
        built = network([N("Cast", ["v"], ["g"], to=1), N("ReduceSum", ["g"], ["a"], keepdims=0),
                         N("Mul", ["c", "a"], ["y"])])  # fmt: skip
        built.graph.input.append(helper.make_tensor_value_info("v", kind, dims))
        result = parse_onnx(built.SerializeToString(), input_values={"v": value})
        assert [layer.boundary.source_name for layer in result.network.input_layers] == ["x"]


def test_the_command_and_other_formats(tmp_path, zoo, capsys):
    path = tmp_path / "rate.onnx"
    onnx.save(with_rate(), path)

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([*map(str, arguments)])
        told = capsys.readouterr()
        return done.value.code or 0, told.out + told.err

    har = tmp_path / "r.har"
    code, told = run("parse", path, "--compare", "--input-values", "sr=8000", "--har-path", har)
    assert not code, told
    assert "outputs agree" in told
    code, told = run("parse", path, "--input-values", "sr=8000", "--explain", "choice", "--json")
    assert not code
    assert json.loads(told)["explanations"]
    for text, word in (("sr", "no value"), ("sr=x", "no value"), ("=1", "no value"), ("sr=\"a\"", "no value"),
                       ("sr=" + "[" * 9999, "no value")):  # fmt: skip
        code, told = run("parse", path, "--input-values", text)
        assert code == 2, told
        assert "E-CLI-VALUE" in told
        assert word in told
    assert "given twice" in run("parse", path, "--input-values", "sr=1", "sr=2")[1]
    assert "E-PARSE-VALUES" in run("parse", zoo / "mlperf_tiny/ic_resnet8_float.tflite", "--input-values", "x=1")[1]


# --- hostile files ---------------------------------------------------------------------------------------------------


def test_branches_that_are_not_valid_stay_and_are_refused():
    twice = choice("yes", RELU, RELU)
    twice.attribute.append(twice.attribute[0])
    given = branch([N("Relu", ["c"], ["t"])], ["t"])
    given.input.append(helper.make_empty_tensor_value_info("c"))
    for node in (
        N("If", ["yes"], ["q"], "choice", else_branch=RELU),
        N("If", ["yes"], ["q"], "choice", then_branch=1, else_branch=RELU),
        choice("yes", branch([], []), RELU),
        choice("yes", branch([N("Relu", ["nowhere"], ["t"])], ["t"]), RELU),
        choice("yes", branch([N("Relu", ["c"], ["t"])], ["other"]), RELU),
        choice("yes", given, RELU),
        choice("yes", branch([N("Relu", ["q"], ["t"])], ["t"]), RELU),
        choice("yes", branch([N("Relu", ["c"], ["t"]), N("Neg", ["c"], ["t"])], ["t"]), RELU),
        choice("w", RELU, RELU),
        choice("number", RELU, RELU),
        twice,
    ):
        built = network([node, N("Identity", ["q"], ["y"])], {"number": np.float32(1)})
        with pytest.raises((UnsupportedModelError, InputFileError)):
            parse_onnx(built.SerializeToString(), device_only=True)


def nested(depth):
    """Ifs in Ifs, each known once the one around it is in place; protobuf reads no more than 33."""
    made, other = RELU, branch([N("Neg", ["c"], ["t"])], ["t"])
    for _ in range(depth):
        made = branch([N("Identity", ["yes"], ["e"]), choice("e", made, other, ["u"])],
                      ["u"])  # fmt: skip
    return network([choice("yes", made, RELU), N("Identity", ["q"], ["y"])]).SerializeToString()


def test_branches_nested_deeply_are_taken_soon():
    started = time.monotonic()
    assert "conv" in kinds(parse_onnx(nested(30)))
    assert time.monotonic() - started < 20


def test_a_branch_of_too_many_nodes():
    nodes = [N("Relu", ["c" if not i else f"r{i - 1}"], [f"r{i}"]) for i in range(20_001)]
    built = network([choice("yes", branch(nodes, ["r20000"]), RELU), N("Identity", ["q"], ["y"])])
    with pytest.raises(InputFileError, match="too many nodes"):
        parse_onnx(built.SerializeToString())


@pytest.mark.parametrize("rate", [16000, 8000])
def test_silero_by_its_rate(zoo, rate):
    """The voice activity detector has one network for each rate; its state goes round outside."""
    path = zoo / "silero_vad/silero_vad.onnx"
    length = 576 if rate == 16000 else 288
    shapes = {"input": [1, length], "state": [2, 1, 128]}
    feeds = {"input": f(1, length), "state": f(2, 1, 128)}
    runner, got = native(path, feeds, net_input_shapes=shapes, input_values={"sr": rate})
    wanted = ort.InferenceSession(path).run(None, {**feeds, "sr": np.array(rate)})
    assert len(got) == len(wanted) == 2
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() <= 1e-4 * max(np.ptp(theirs), np.abs(theirs).max())
    assert [tensor.name for tensor in runner.archive.whole.inputs] == ["input", "state"]
