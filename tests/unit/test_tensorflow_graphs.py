# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow files have around the operators: functions, branches, training, variables, signatures, names."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from frontend_oracle import run_network
from headrace.cli import main
from headrace.errors import HeadraceError, InputFileError, UnsupportedModelError, UsageError
from headrace.frontends import ParseOptions, parse
from small_tensorflow import Function, Kind, Shape, SmallGraph, write_bundle, write_checkpoint

F32, BOOL = Kind("float32"), Kind("bool")
FRAME = np.random.default_rng(0).uniform(-1, 1, (1, 4, 5, 3)).astype(np.float32)


def w(*shape, seed=1):
    return np.random.default_rng([seed, *shape]).normal(0, 0.5, shape).astype(np.float32)


KERNEL = w(1, 1, 3, 2)
CONVOLVED = np.einsum("nhwc,co->nhwo", FRAME, KERNEL[0, 0])


def conv(g, x, kernel, name="conv"):
    return g.op("Conv2D", [x, kernel], name=name, strides=[1, 1, 1, 1], padding="SAME")


def run(model, frame=FRAME, **options):
    result = parse(model, ParseOptions(**options))
    feeds = {layer.boundary.source_name: frame for layer in result.network.input_layers}
    return run_network(result.network, feeds), result


def refusal(model, cls=HeadraceError, **options):
    with pytest.raises(cls) as caught:
        parse(model, ParseOptions(**options))
    return str(caught.value)


# --- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["PartitionedCall", "StatefulPartitionedCall", "layer"])
def test_functions_are_inlined(call):
    g = SmallGraph()
    x, kernel = g.input(1, 4, 5, 3), g.const(KERNEL)
    inner = g.function("inner", ["t"], {"r": "relu:activations:0"})
    inner.op("Relu", ["t"], name="relu")
    body = g.function("layer", ["t", "k"], {"y": "call:r:0" if call == "layer" else "call:output:0"})
    body.op("Conv2D", ["t", "k"], name="conv", strides=[1, 1, 1, 1], padding="SAME")
    name = "inner" if call == "layer" else call
    body.op(name, ["conv:output:0"], name="call", T=None, **({} if call == "layer" else {"f": Function("inner")}))
    attributes = {} if call == "layer" else {"f": Function("layer")}
    first = g.op(call, [x, kernel], name="first", T=None, **attributes)
    g.op("Neg", [first], name="y")
    out, result = run(g.bytes())
    assert np.allclose(out["y"], -np.maximum(CONVOLVED, 0), atol=1e-6)
    assert "conv" in result.report.nodes and "relu" in result.report.nodes


def test_a_function_called_twice_has_nodes_of_different_names():
    g = SmallGraph()
    x = g.input(1, 4, 5, 3)
    g.function("f", ["t"], {"y": "act:activations:0"}).op("Sigmoid", ["t"], name="act")
    a = g.op("PartitionedCall", [x], name="a", T=None, f=Function("f"))
    b = g.op("PartitionedCall", [a], name="b", T=None, f=Function("f"))
    g.op("Relu", [b], name="y")
    _, result = run(g.bytes())
    assert {"act", "b/act"} <= set(result.report.nodes)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_whose_condition_is_known(flag):
    g = SmallGraph()
    x = g.input(1, 4, 5, 3)
    g.function("yes", ["t"], {"y": "n:y:0"}).op("Neg", ["t"], name="n")
    g.function("no", ["t"], {"y": "n:y:0"}).op("Sigmoid", ["t"], name="n")
    condition = g.const(np.array(flag))
    branches = {"then_branch": Function("yes"), "else_branch": Function("no")}
    g.op("If", [condition, x], name="if", T=None, **branches)
    g.op("Identity", ["if"], name="y")
    out, _ = run(g.bytes())
    assert np.allclose(out["y"], -FRAME if flag else sigmoid(FRAME), atol=1e-6)


def test_a_branch_that_depends_on_data_is_refused_by_name():
    g = SmallGraph()
    x = g.input(1, 4, 5, 3)
    least = g.op("Min", [x, g.ints(0, 1, 2, 3)], Tidx=Kind("int32"))
    test = g.op("Less", [least, g.const(np.float32(0))])
    g.op("Switch", [x, test], name="switch")
    g.op("Merge", [g.op("Neg", ["switch"]), g.op("Relu", ["switch:1"])], name="y", N=2)
    text = refusal(g.bytes(), UnsupportedModelError)
    assert "which branch runs depends on data" in text and "'switch'" in text and "'y'" in text


def test_a_loop_of_functions_is_unrolled():
    g = SmallGraph()
    x = g.input(1, 6)
    test = g.function("test", ["i", "t"], {"c": "less:z:0"})
    test.op("Const", name="limit", T=None, dtype=Kind("int32"), value=np.array(3, np.int32))
    test.op("Less", ["i", "limit:output:0"], name="less", T=Kind("int32"))
    body = g.function("body", ["i", "t"], {"i_next": "add:z:0", "t_next": "tanh:y:0"})
    body.op("Const", name="one", T=None, dtype=Kind("int32"), value=np.array(1, np.int32))
    body.op("AddV2", ["i", "one:output:0"], name="add", T=Kind("int32"))
    body.op("Tanh", ["t"], name="tanh")
    loop = g.op("StatelessWhile", [g.int(0), x], name="loop", T=None, cond=Function("test"), body=Function("body"))
    g.op("Neg", [f"{loop}:1"], name="y")
    frame = FRAME.reshape(-1)[None, :6]
    out, result = run(g.bytes(), frame)
    assert np.allclose(out["y"], -np.tanh(np.tanh(np.tanh(frame))), atol=1e-6)
    assert [layer.kind for layer in result.network].count("activation") == 3
    assert {"tanh#0", "tanh#1", "tanh#2"} <= set(result.report.nodes)


def test_a_list_that_is_written_and_stacked():
    g = SmallGraph()
    x = g.input(1, 3, 4)
    rows = g.op("Transpose", [x, g.ints(1, 0, 2)], Tperm=Kind("int32"))
    size = {"element_dtype": F32, "T": None}
    source = g.op("TensorListFromTensor", [rows, g.ints(1, 4)], shape_type=Kind("int32"), **size)
    target = g.op("TensorListReserve", [g.ints(1, 4), g.int(3)], shape_type=Kind("int32"), **size)
    for i in range(3):
        item = g.op("TensorListGetItem", [source, g.int(2 - i), g.ints(1, 4)], **size)
        target = g.op("TensorListSetItem", [target, g.int(i), g.op("Relu", [item])], **size)
    stacked = g.op("TensorListStack", [target, g.ints(1, 4)], **size)
    g.op("Transpose", [stacked, g.ints(1, 0, 2)], Tperm=Kind("int32"), name="y")
    frame = FRAME.reshape(-1)[:12].reshape(1, 3, 4)
    out, _ = run(g.bytes(), frame)
    assert np.allclose(out["y"], np.maximum(frame[:, ::-1], 0), atol=1e-6)


# --- training ---------------------------------------------------------------------------------------------------------


def training_graph(flag="placeholder", keep=True):
    """A convolution, dropout by ``keep_prob`` and a flag that chooses a branch, with loss, optimizer and saver."""
    g = SmallGraph()
    x, labels = g.input(None, 4, 5, 3, name="images"), g.input(None, 4, 5, 2, name="labels")
    variable = {"T": None, "dtype": F32, "shape": Shape(KERNEL.shape)}
    g.op("VariableV2", name="kernel", **variable)
    g.op("VariableV2", name="kernel/Adam", **variable)
    g.op("Identity", ["kernel"], name="kernel/read")
    h = conv(g, x, "kernel/read")
    if flag == "default":
        false = g.const(np.array(False))
        g.op("PlaceholderWithDefault", [false], name="is_training", T=None, dtype=BOOL, shape=Shape(()))
    else:
        g.op("Placeholder", name="is_training", T=None, dtype=BOOL, shape=Shape(()))
    g.op("Switch", [h, "is_training"], name="cond/switch")
    noisy = g.op("Mul", ["cond/switch:1", g.op("RandomStandardNormal", [g.ints(2)], T=Kind("int32"), dtype=F32)])
    g.op("Merge", ["cond/switch", noisy], name="cond/merge", N=2)
    dropped = "cond/merge"
    if keep:
        g.op("Placeholder", name="keep_prob", T=None, dtype=F32, shape=None)
        noise = g.op(
            "RandomUniform", [g.op("Shape", ["cond/merge"], out_type=Kind("int32"))], T=Kind("int32"), dtype=F32
        )
        mask = g.op("Floor", [g.op("Add", ["keep_prob", noise])])
        dropped = g.op("Mul", [g.op("RealDiv", ["cond/merge", "keep_prob"]), mask], name="dropout/mul")
    g.op("Relu", [dropped], name="scores")
    error = g.op("SquaredDifference", ["scores", labels], name="loss/error")
    g.op("Mean", [error, g.ints(0, 1, 2, 3)], name="loss", Tidx=Kind("int32"))
    g.op("Conv2DBackpropFilter", [x, g.ints(*KERNEL.shape), error], name="gradients/conv_grad", strides=[1, 1, 1, 1])
    g.op("ApplyAdam", ["kernel", "kernel/Adam", "gradients/conv_grad"], name="Adam/update")
    g.op("ScalarSummary", [g.const(np.array("loss")), "loss"], name="summary")
    names, parts = g.const(np.array(["k"])), g.const(np.array([""]))
    g.op("RestoreV2", [g.const(np.array("file")), names, parts], name="save/RestoreV2", T=None, dtypes=[F32])
    g.op("Assign", ["kernel", "save/RestoreV2"], name="save/Assign")
    g.op("NoOp", ["^save/Assign"], name="save/restore_all", T=None)
    return g


@pytest.mark.parametrize("flag", ["placeholder", "default"])
@pytest.mark.parametrize("given", ["folder", "prefix", "meta", "index", "data", "checkpoint"])
def test_a_training_graph_is_its_network(tmp_path, flag, given):
    prefix = write_checkpoint(tmp_path, training_graph(flag), {"k": KERNEL}, "save/restore_all")
    files = {
        "folder": tmp_path, "prefix": prefix, "checkpoint": tmp_path / "checkpoint", "meta": f"{prefix}.meta",
        "index": f"{prefix}.index", "data": f"{prefix}.data-00000-of-00001",
    }  # fmt: skip
    out, result = run(files[given])
    assert np.allclose(out["scores"], np.maximum(CONVOLVED, 0), atol=1e-6)
    text = " ".join(result.report.warnings)
    assert "is_training" in text and "dropout/mul" in text
    assert [layer.kind for layer in result.network] == ["input_layer", "conv", "output_layer"]


def test_outputs_without_values_are_left_out(tmp_path):
    g = training_graph(keep=False)
    g.op("VariableV2", name="other", T=None, dtype=F32, shape=Shape(KERNEL.shape))
    conv(g, "images", "other", name="second")
    out, result = run(write_checkpoint(tmp_path, g, {"k": KERNEL}, "save/restore_all"))
    assert list(out) == ["scores"]
    assert any("'second'" in warning for warning in result.report.warnings)
    assert "'other'" in refusal(tmp_path, UnsupportedModelError, end_node_names=["second"])


def test_a_partitioned_variable(tmp_path):
    g = SmallGraph()
    x = g.input(1, 6)
    matrix = w(6, 4)
    names, parts = g.const(np.array(["m", "m"])), g.const(np.array(["6 4 0,2:0,4", "6 4 2,4:-"]))
    g.op("RestoreV2", [g.const(np.array("f")), names, parts], name="restore", T=None, dtypes=[F32, F32])
    for i, size in enumerate((2, 4)):
        g.op("VarHandleOp", name=f"m/part_{i}", T=None, dtype=F32, shape=Shape((size, 4)))
        g.op("AssignVariableOp", [f"m/part_{i}", f"restore:{i}"], name=f"assign_{i}", T=None, dtype=F32)
        g.op("ReadVariableOp", [f"m/part_{i}"], name=f"read_{i}", T=None, dtype=F32)
    g.op("NoOp", ["^assign_0", "^assign_1"], name="restore_all", T=None)
    whole = g.op("ConcatV2", ["read_0", "read_1", g.int(0)], N=2, Tidx=Kind("int32"))
    g.op("MatMul", [x, whole], name="y")
    pieces = [([(0, 2), (0, 4)], matrix[:2]), ([(2, 4), (0, 4)], matrix[2:])]
    frame = FRAME.reshape(-1)[None, :6]
    prefix = write_checkpoint(tmp_path, g, {}, "restore_all", parts={"m": pieces})
    out, _ = run(prefix, frame)
    assert np.allclose(out["y"], frame @ matrix, atol=1e-6)


def normalized(moving, is_training=True):
    g = SmallGraph()
    x = g.input(None, 4, 5, 3)
    for name in ("gamma", "beta", "moving_mean", "moving_variance")[: 4 if moving else 2]:
        g.op("VarHandleOp", name=f"bn/{name}", T=None, dtype=F32, shape=Shape((3,)))
        g.op("ReadVariableOp", [f"bn/{name}"], name=f"bn/{name}/read", T=None, dtype=F32)
    empty = g.const(np.zeros(0, np.float32))
    inputs = [x, "bn/gamma/read", "bn/beta/read", empty, empty]
    g.op("FusedBatchNormV3", inputs, name="bn/norm", U=F32, is_training=is_training, epsilon=1e-3)
    if moving == "updated":
        for i, name in ((1, "moving_mean"), (2, "moving_variance")):
            change = g.op("Mul", [g.op("Sub", [f"bn/{name}/read", f"bn/norm:{i}"]), g.const(np.float32(0.1))])
            g.op("AssignSubVariableOp", [f"bn/{name}", change], T=None, dtype=F32)
    g.op("Relu", ["bn/norm"], name="y")
    return g


@pytest.mark.parametrize("moving", ["updated", "beside"])
def test_batch_normalization_in_training_mode_takes_what_was_recorded(tmp_path, moving):
    values = {f"bn/{n}": np.abs(w(3, seed=i)) + 0.2 for i, n in enumerate(("gamma", "beta", "moving_mean"))}
    values["bn/moving_variance"] = np.abs(w(3, seed=9)) + 0.5
    out, result = run(write_checkpoint(tmp_path, normalized(moving), values))
    gamma, beta, mean, variance = values.values()
    wanted = np.maximum((FRAME - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    assert np.allclose(out["y"], wanted, atol=1e-5)
    assert any("bn/norm" in warning for warning in result.report.warnings)


def test_batch_normalization_without_recorded_statistics_is_refused(tmp_path):
    values = {"bn/gamma": np.ones(3, np.float32), "bn/beta": np.zeros(3, np.float32)}
    text = refusal(write_checkpoint(tmp_path, normalized(""), values), UnsupportedModelError)
    assert "statistics of each batch" in text and "records none" in text and "bn/norm" in text


# --- SavedModels ------------------------------------------------------------------------------------------------------


def saved_graph():
    g = SmallGraph()
    g.input(None, 4, 5, 3, name="serving_default_picture")
    g.op("VarHandleOp", name="weight", T=None, dtype=F32, shape=Shape(KERNEL.shape), shared_name="weight_7")
    body = g.function("serve", ["t", "v"], {"out_a": "relu:activations:0", "out_b": "sum:z:0"})
    body.op("ReadVariableOp", ["v"], name="read", T=None, dtype=F32)
    body.op("Conv2D", ["t", "read:value:0"], name="conv", strides=[1, 1, 1, 1], padding="SAME")
    body.op("Relu", ["conv:output:0"], name="relu")
    body.op("AddV2", ["conv:output:0", "relu:activations:0"], name="sum")
    g.op("StatefulPartitionedCall", ["serving_default_picture", "weight"], name="call", T=None, f=Function("serve"))
    load = g.function("restore", ["prefix", "v"], {"done": "prefix"})
    load.op("Const", name="names", T=None, dtype=Kind("string"), value=np.array(["layer/w/.ATTRIBUTES/VARIABLE_VALUE"]))
    load.op("Const", name="parts", T=None, dtype=Kind("string"), value=np.array([""]))
    restored = ["prefix", "names:output:0", "parts:output:0"]
    load.op("RestoreV2", restored, name="restore", T=None, dtypes=[F32])
    load.op("Identity", ["restore:tensors:0"], name="value")
    load.op("AssignVariableOp", ["v", "value:output:0"], name="assign", T=None, dtype=F32)
    g.input(name="saver_filename", kind="string")
    g.op("StatefulPartitionedCall", ["saver_filename", "weight"], name="load", T=None, f=Function("restore"))
    return g


@pytest.mark.parametrize("given", ["folder", "file", "index"])
def test_a_saved_model(tmp_path, given):
    signature = {"picture": "serving_default_picture:0"}, {"first": "call:0", "second": "call:1"}
    (tmp_path / "saved_model.pb").write_bytes(saved_graph().saved(*signature, restore="load"))
    prefix = tmp_path / "variables" / "variables"
    write_bundle(prefix, {"layer/w/.ATTRIBUTES/VARIABLE_VALUE": KERNEL})
    places = {"folder": tmp_path, "file": tmp_path / "saved_model.pb", "index": f"{prefix}.index"}
    out, result = run(places[given])
    assert np.allclose(out["first"], np.maximum(CONVOLVED, 0), atol=1e-6)
    assert np.allclose(out["second"], np.maximum(CONVOLVED, 0) + CONVOLVED, atol=1e-6)
    assert result.network.input_layers[0].boundary.source_name == "picture"
    assert result.network.net_params["source"]["signature"] == "serving_default"


def test_a_saved_model_without_its_variables_says_so(tmp_path):
    signature = {"picture": "serving_default_picture:0"}, {"first": "call:0"}
    (tmp_path / "saved_model.pb").write_bytes(saved_graph().saved(*signature, restore="load"))
    assert "no values of variables" in refusal(tmp_path, UnsupportedModelError)


def test_several_signatures_and_no_default(tmp_path):
    from headrace.frontends.formats.tensorflow.schema import SavedModelMessage

    saved = SavedModelMessage(schema_version=1)
    sides = {"a": "serving_default_picture:0"}, {"b": "call:0"}
    saved.meta_graphs.add().CopyFrom(saved_graph().meta(signatures={"one": sides, "two": sides}))
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    text = refusal(tmp_path, InputFileError)
    assert "E-TENSORFLOW-SIGNATURE" in text and "one, two" in text and "--signature one" in text


def two_signatures(folder):
    from headrace.frontends.formats.tensorflow.schema import SavedModelMessage

    saved = SavedModelMessage(schema_version=1)
    fed = {"a": "serving_default_picture:0"}
    signatures = {"serving_default": (fed, {"b": "call:0"}), "features": (fed, {"c": "call:1"})}
    saved.meta_graphs.add().CopyFrom(saved_graph().meta("load", signatures=signatures))
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    write_bundle(folder / "variables" / "variables", {"layer/w/.ATTRIBUTES/VARIABLE_VALUE": KERNEL})
    return folder


def test_a_signature_is_chosen_by_name(tmp_path):
    out, result = run(two_signatures(tmp_path), signature="features")
    assert np.allclose(out["c"], np.maximum(CONVOLVED, 0) + CONVOLVED, atol=1e-6)
    assert result.network.net_params["source"]["signature"] == "features"
    assert "b" in run(tmp_path)[0]


def test_a_signature_that_is_not_there(tmp_path, capsys):
    text = refusal(two_signatures(tmp_path), UsageError, signature="featurs")
    assert "E-PARSE-SIGNATURE" in text and "did you mean 'features'" in text
    frozen = tmp_path / "frozen.pb"
    frozen.write_bytes(small())
    assert "a frozen graph has no signatures" in refusal(frozen, UsageError, signature="features")
    for name, ends in (("features", True), ("none", False)):
        with pytest.raises(SystemExit) as ended:
            main(["parse", str(tmp_path), "--signature", name, "-o", str(tmp_path / f"{name}.har")])
        assert (ended.value.code == 0) is ends
    assert "E-PARSE-SIGNATURE" in capsys.readouterr().err


# --- names, shapes, files ---------------------------------------------------------------------------------------------


def small():
    g = SmallGraph()
    h = conv(g, g.input(None, None, None, 3), g.const(KERNEL))
    g.op("Relu", [h], name="act")
    g.op("Sigmoid", ["act"], name="y")
    return g.bytes()


def test_open_sizes_are_asked_for():
    text = refusal(small(), UsageError)
    assert "E-PARSE-SHAPES" in text and "x=[1,SIZE,SIZE,3]" in text
    out, _ = run(small(), input_shapes=[1, 4, 5, 3])
    assert out["y"].shape == (1, 4, 5, 2)


@pytest.mark.parametrize(("start", "end"), [("act", "y"), ("conv:0", "act:0")])
def test_nodes_and_tensors_start_and_end(start, end):
    result = parse(small(), ParseOptions(start_node_names=[start], end_node_names=[end], input_shapes=[1, 4, 5, 2]))
    assert result.network.input_layers[0].boundary.source_name == "conv"
    assert result.network.output_layers[0].boundary.source_name == end.removesuffix(":0")


def test_a_name_that_is_not_there_has_a_suggestion():
    assert "did you mean 'act'?" in refusal(small(), UsageError, end_node_names=["acd"], input_shapes=[1, 4, 5, 3])


@pytest.mark.parametrize(
    "op", ["DecodeWav", "PyFunc", "TopK", "QuantizedConv2D", "LookupTableFindV2", "Nonsense", "ReadFile"]
)
def test_what_is_not_translated_has_its_reason(op):
    g = SmallGraph()
    x = g.input(1, 4, 5, 3)
    g.op("Relu", [g.op(op, [x], name="it")], name="y")
    text = refusal(g.bytes(), UnsupportedModelError)
    assert "'it'" in text and op in text


def test_quantization_that_was_trained_with_says_so():
    g = SmallGraph()
    x = g.input(1, 4, 5, 3)
    low, high = g.const(np.float32(-1)), g.const(np.float32(3))
    g.op("FakeQuantWithMinMaxVars", [x, low, high], T=None, num_bits=4, name="y")
    assert "num_bits 4" in refusal(g.bytes(), UnsupportedModelError)


def test_a_checkpoint_without_its_graph(tmp_path):
    write_bundle(tmp_path / "model", {"k": KERNEL})
    text = refusal(tmp_path / "model", InputFileError)
    assert "E-TENSORFLOW-FILES" in text and ".meta" in text


def test_the_command_line_takes_every_form(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path, training_graph(), {"k": KERNEL}, "save/restore_all")
    (tmp_path / "frozen.bin").write_bytes(small())
    for arguments in (
        ["parse", "model.ckpt"],
        ["parser", "ckpt", "."],
        ["parser", "tf", "frozen.bin", "--tensor-shapes", "[1,4,5,3]"],
    ):
        with pytest.raises(SystemExit) as done:
            main([*arguments, "--har-path", "net.har", "-y", "--force"])
        assert done.value.code in (0, None), capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(["parser", "onnx", "frozen.bin"])
    assert done.value.code == 3
