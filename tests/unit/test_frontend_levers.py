# SPDX-License-Identifier: Apache-2.0
"""What an error offers works when it is followed; starts know their shapes."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

from frontend_oracle import model, run_network, session  # noqa: E402
from headrace.cli.app import run  # noqa: E402
from headrace.errors import HeadraceError, UnsupportedModelError, UsageError  # noqa: E402
from parsing import parse_onnx  # noqa: E402

RNG = np.random.default_rng(23)
N = helper.make_node


def f(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def encoder(ids, mask, positions=32):
    """A sentence encoder as the older exporter writes it: no shapes recorded, sizes computed from the ids' shape."""
    nodes = [
        N("Shape", ["ids"], ["shape"]), N("Gather", ["shape", "one"], ["length"]),
        N("Unsqueeze", ["length", "zero1"], ["end"]), N("Slice", ["numbers", "zero1", "end", "one1"], ["places"]),
        N("Gather", ["words", "ids"], ["word"], name="embed"), N("Gather", ["table", "places"], ["place"]),
        N("Add", ["word", "place"], ["sum"], name="add"),
        N("LayerNormalization", ["sum", "g", "b"], ["norm"], name="norm"),
        N("Cast", ["mask"], ["float_mask"], name="cast", to=TensorProto.FLOAT),
        N("Unsqueeze", ["float_mask", "one1"], ["wide"]), N("Sub", ["real", "wide"], ["off"]),
        N("Mul", ["off", "low"], ["bias"], name="bias"),
        N("MatMul", ["norm", "wq"], ["q"]), N("MatMul", ["norm", "wk"], ["k"]), N("MatMul", ["norm", "wv"], ["v"]),
        N("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), N("MatMul", ["q", "kt"], ["scores"]),
        N("Add", ["scores", "bias"], ["masked"]), N("Softmax", ["masked"], ["p"], axis=-1),
        N("MatMul", ["p", "v"], ["hidden"], name="out"),
    ]  # fmt: skip
    constants = {
        "one": np.int64(1), "zero1": i64(0), "one1": i64(1), "numbers": i64(*range(positions)).reshape(1, -1),
        "words": f(50, 8), "table": f(positions, 8), "g": f(8), "b": f(8), "real": np.float32(1),
        "low": np.float32(-30), "wq": f(8, 8), "wk": f(8, 8), "wv": f(8, 8),
    }  # fmt: skip
    built = model(nodes, [("ids", ids), ("mask", mask)], [("hidden", None)], constants, 17)
    for entry in built.graph.input:
        entry.type.tensor_type.elem_type = TensorProto.INT64
    return built


def unknown_in_the_middle():
    nodes = [
        N("Conv", ["x", "w"], ["a"], name="first"), N("Relu", ["a"], ["r"], name="act"),
        N("Bernoulli", ["r"], ["s"], name="warp"), N("Conv", ["s", "v"], ["y"], name="second"),
    ]  # fmt: skip
    return model(nodes, [("x", ["N", 3, 8, 8])], [("y", None)], {"w": f(4, 3, 1, 1), "v": f(5, 4, 3, 3)}, 20)


def unknown_at_the_end():
    nodes = [N("Conv", ["x", "w"], ["a"], name="first"), N("TopK", ["a", "k"], ["y", "i"], name="classes", axis=1)]
    return model(nodes, [("x", [1, 3, 8, 8])], [("y", None)], {"w": f(4, 3, 1, 1), "k": i64(1)}, 17)


def both_ends_unknown():
    built = encoder(["b", "s"], ["b", "s"])
    built.graph.node.append(N("TopK", ["hidden", "three"], ["best", "where"], name="top"))
    built.graph.initializer.append(onnx.numpy_helper.from_array(i64(3), "three"))
    built.graph.output[0].name = "best"
    return built


CORPUS = {
    "encoder, sizes open": encoder(["b", "s"], ["b", "s"]),
    "encoder, sizes fixed": encoder([1, 12], [1, 12]),
    "encoder, batch open": encoder(["b", 12], ["b", 12]),
    "middle": unknown_in_the_middle(),
    "end": unknown_at_the_end(),
    "end moved": model(
        [N("Conv", ["x", "w"], ["a"], name="c"), N("Reshape", ["a", "s"], ["r"], name="r"),
         N("Bernoulli", ["r"], ["y"], name="h")],
        [("x", [1, 3, 8, 8])], [("y", None)], {"w": f(4, 3, 1, 1), "s": i64(4, 64)}, 17),
}  # fmt: skip


@pytest.mark.parametrize("name", CORPUS)
def test_every_lever_works_on_the_command_line(name, tmp_path, capsys):
    path = tmp_path / "net.onnx"
    path.write_bytes(CORPUS[name].SerializeToString())
    assert run(["parse", str(path), "--device-only", "-o", str(tmp_path / "net.har")]) != 0
    text = capsys.readouterr().err
    levers = [line.split("try:", 1)[1].strip() for line in text.splitlines() if line.strip().startswith("try:  --")]
    assert levers, text
    for index, lever in enumerate(levers):
        command = ["parse", str(path), "--device-only", "-o", str(tmp_path / f"{index}.har"), *shlex.split(lever)]
        status = run(command)
        assert status == 0, (lever, capsys.readouterr().err)


def test_an_encoder_starts_behind_its_embeddings_and_computes_what_it_should():
    data = encoder(["b", "s"], ["b", "s"]).SerializeToString()
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(data)
    starts, shapes = caught.value.recommended_start_nodes, caught.value.recommended_shapes
    assert starts == ["word", "float_mask"]
    assert set(shapes) == {"ids", "mask"}
    network = parse_onnx(data, start_node_names=starts, input_shapes=shapes).network
    whole = onnx.ModelProto.FromString(data)
    whole.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in starts)
    ids = RNG.integers(0, 50, shapes["ids"])
    mask = np.ones(shapes["mask"], np.int64)
    mask[:, 9:] = 0
    hidden, *inputs = session(whole.SerializeToString()).run(["hidden", *starts], {"ids": ids, "mask": mask})
    got = run_network(network, dict(zip(starts, inputs, strict=True)))["hidden"]
    assert np.abs(got - hidden).max() < 1e-4


def test_a_start_without_a_recorded_shape_gets_it_from_what_stands_before():
    nodes = [
        N("Conv", ["x", "w"], ["a"], name="first", strides=[2, 2]),
        N("Relu", ["a"], ["r"], name="act"),
        N("Conv", ["r", "v"], ["y"], name="second"),
    ]
    constants = {"w": f(4, 3, 3, 3), "v": f(5, 4, 1, 1)}
    built = model(nodes, [("x", [1, 3, 9, 9])], [("y", None)], constants, 13)
    assert not built.graph.value_info
    network = parse_onnx(built.SerializeToString(), start_node_names=["second"]).network
    assert network.input_layers[0].output_shape == (-1, 4, 4, 4)
    open_ = model(nodes, [("x", [1, 3, "H", "W"])], [("y", None)], constants, 13).SerializeToString()
    with pytest.raises(UsageError, match=r"--tensor-shapes r=\[1,4,SIZE,SIZE\]"):
        parse_onnx(open_, start_node_names=["second"])
    for shapes in ({"x": [1, 3, 9, 9]}, {"r": [1, 4, 4, 4]}):
        network = parse_onnx(open_, start_node_names=["second"], input_shapes=shapes).network
        assert network.input_layers[0].output_shape == (-1, 4, 4, 4)


def test_what_shape_inference_does_not_know_is_told_by_our_own_translation(monkeypatch):
    import headrace.frontends.formats.onnx.read as read

    monkeypatch.setattr(read, "inferred_types", lambda *args: {})
    nodes = [N("Conv", ["x", "w"], ["a"]), N("Relu", ["a"], ["r"]), N("Conv", ["r", "v"], ["y"], name="second")]
    built = model(nodes, [("x", [1, 3, 9, 9])], [("y", None)], {"w": f(4, 3, 2, 3), "v": f(5, 4, 1, 1)}, 13)
    network = parse_onnx(built.SerializeToString(), start_node_names=["second"]).network
    assert network.input_layers[0].output_shape == (-1, 8, 7, 4)


def test_wrong_names_of_both_options_are_reported_together():
    built = unknown_at_the_end()
    with pytest.raises(UsageError) as caught:
        parse_onnx(built.SerializeToString(), start_node_names=["frist"], end_node_names=["nowhere", "first"])
    assert [d.got for d in caught.value.diagnostics] == ["'nowhere'", "'frist'"]
    assert "did you mean 'first'?" in str(caught.value)


def test_a_tensor_without_any_shape_is_not_offered_one_of_rank_1():
    nodes = [N("Relu", ["x"], ["y"])]
    built = model(nodes, [("x", [1, 3])], [("y", None)], {}, 13)
    built.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError) as caught:
        parse_onnx(built.SerializeToString())
    assert "x=[1,SIZE,...]" in caught.value.diagnostics[0].levers[0]


def test_nothing_is_offered_where_nothing_works():
    built = model([N("TopK", ["x", "k"], ["y", "i"], name="top")], [("x", [1, 9])], [("y", None)], {"k": i64(2)}, 13)
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(built.SerializeToString())
    assert not any(lever.startswith("--") for d in caught.value.diagnostics for lever in d.levers)


@pytest.mark.parametrize("seed", range(30))
def test_levers_of_random_networks_with_a_fault_work(seed):
    """A chain of known operators with one that is not known somewhere: every offered cut translates."""
    rng = np.random.default_rng(seed)
    choices = [("Relu", {}, []), ("Conv", {"pads": [1, 1, 1, 1]}, ["w"]), ("Sigmoid", {}, []), ("Neg", {}, []),
               ("MaxPool", {"kernel_shape": [2, 2]}, []), ("Transpose", {"perm": [0, 1, 3, 2]}, [])]  # fmt: skip
    nodes, current = [], "x"
    fault = int(rng.integers(0, 6))
    for i in range(6):
        op, attributes, extra = (
            ("Hardmax", {"axis": 0}, []) if i == fault else choices[int(rng.integers(0, len(choices)))]
        )
        nodes.append(N(op, [current, *extra], [f"t{i}"], name=f"n{i}", **attributes))
        current = f"t{i}"
    data = model(nodes, [("x", ["N", 4, 12, 12])], [(current, None)], {"w": f(4, 4, 3, 3)}, 13).SerializeToString()
    with pytest.raises(HeadraceError) as caught:
        parse_onnx(data)
    error = caught.value
    if error.recommended_end_nodes:
        parse_onnx(data, end_node_names=error.recommended_end_nodes)
    if error.recommended_start_nodes:
        parse_onnx(data, start_node_names=error.recommended_start_nodes, input_shapes=error.recommended_shapes or None)
    assert error.recommended_end_nodes or error.recommended_start_nodes or fault == 0


def test_public_cases_parse_or_offer_what_works(cases):
    """Files of the kinds that people report: each parses, or every cut that its refusal offers does."""
    files = sorted((cases / "public").glob("*/model.onnx"))
    assert files
    for path in files:
        try:
            parse_onnx(path)
            continue
        except UnsupportedModelError as caught:
            error = caught
        assert all("model.onnx" in d.where for d in error.diagnostics), path
        if error.recommended_end_nodes:
            parse_onnx(path, end_node_names=error.recommended_end_nodes)
        if error.recommended_start_nodes:
            shapes = error.recommended_shapes or None
            parse_onnx(path, start_node_names=error.recommended_start_nodes, input_shapes=shapes)
    for name in ("10-fixed-batch-8", "13-dinov2-small"):
        parse_onnx(cases / "public" / name / "model.onnx")
