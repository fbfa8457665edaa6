# SPDX-License-Identifier: Apache-2.0
"""A model with parts on the host through every stage and every way to run it; a HEF alone runs the whole of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("headrace.runtime._native")
import onnx
from onnx import TensorProto, helper, numpy_helper

from frontend_oracle import session
from headrace.cli.app import run
from headrace.errors import HeadraceError, InputFileError, UnsupportedModelError
from headrace.hef.container import read_hef
from headrace.hn import archive
from headrace.hn.whole import DeviceStep, OnnxStep
from headrace.host.trust import check_model
from headrace.runner import ClientRunner, InferenceContext
from hef_validator import validate

N = helper.make_node


def tagger() -> bytes:
    """Token ids through an embedding (host), two dense layers (device) and TopK (host)."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(50, 16)).astype(np.float32),
        "w1": rng.normal(0, 0.3, (16, 24)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (24, 10)).astype(np.float32),
        "k": np.array([3], np.int64),
    }
    nodes = [
        N("Gather", ["table", "ids"], ["words"], name="embed"), N("MatMul", ["words", "w1"], ["a"], name="first"),
        N("Relu", ["a"], ["b"], name="act"), N("MatMul", ["b", "w2"], ["scores"], name="second"),
        N("TopK", ["scores", "k"], ["best", "which"], name="top"),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("ids", TensorProto.INT64, ["N", 8])],
        [info("best", TensorProto.FLOAT, ["N", 8, 3]), info("which", TensorProto.INT64, ["N", 8, 3]),
         info("scores", TensorProto.FLOAT, ["N", 8, 10])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def ids(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50, (count, 8))


@pytest.fixture(scope="module")
def compiled() -> ClientRunner:
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(tagger(), "tagger")
    runner.optimize({"ids": ids(64, 1)})  # data of the file's input go through the host first
    runner.compile()
    return runner


def test_the_steps(compiled: ClientRunner) -> None:
    whole = compiled.archive.whole
    assert [type(s) for s in whole.steps] == [OnnxStep, DeviceStep, OnnxStep]
    assert (whole.steps[0].inputs, whole.steps[0].outputs) == (("ids",), ("words",))
    assert (whole.steps[2].inputs, whole.steps[2].outputs) == (("scores",), ("best", "which"))
    placed = {n["node"]: n for n in compiled.parse_report["placement"]}
    assert {n: p["place"] for n, p in placed.items()} == {
        "embed": "host", "first": "device", "act": "device", "second": "device", "top": "host"
    }  # fmt: skip
    assert placed["embed"]["part"] == 1 and placed["top"]["part"] == 3
    assert placed["embed"]["reason"] and placed["top"]["reason"]
    assert placed["second"]["layer"].startswith("tagger/")


@pytest.mark.parametrize("context", list(InferenceContext))
def test_every_context(compiled: ClientRunner, context: InferenceContext) -> None:
    data = ids(5, 2)
    want = session(tagger()).run(["best", "which", "scores"], {"ids": data})
    with compiled.infer_context(context) as how:
        best, which, scores = compiled.infer(how, {"ids": data}, whole=True)
    exact = context in (InferenceContext.SDK_NATIVE, InferenceContext.SDK_FP_OPTIMIZED)
    tolerance = (1e-4 if exact else 0.05) * np.ptp(want[2])
    assert np.abs(scores - want[2]).max() < tolerance and np.abs(best - want[0]).max() < tolerance
    assert (which.dtype, which.shape) == (np.int64, (5, 8, 3))
    assert (which == want[1]).mean() > (0.999 if exact else 0.8)


def test_a_hef_alone_runs_the_whole_model(
    compiled: ClientRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hef, har, data = tmp_path / "t.hef", tmp_path / "t.har", tmp_path / "ids.npy"
    hef.write_bytes(compiled.hef)
    compiled.save_har(har)
    np.save(data, ids(5, 3))
    assert validate(compiled.hef) == []
    assert read_hef(compiled.hef).whole().steps[0] == compiled.archive.whole.steps[0]
    with compiled.infer_context(InferenceContext.SDK_HAILO_HW) as context:
        want = compiled.infer(context, ids(5, 3), whole=True)
    for path in (hef, har):
        out = tmp_path / path.suffix[1:]
        command = ["run", str(path), "--whole", "--input-files", str(data), "--output-dir", str(out), "--json"]
        assert run(command) == 0, capsys.readouterr().err
        told = json.loads(capsys.readouterr().out)
        assert [step["kind"] for step in told["steps"]] == ["onnx", "device", "onnx"]
        for name, array in zip(("best", "which", "scores"), want, strict=True):
            np.testing.assert_array_equal(np.load(out / f"{name}.npy"), array)
    assert run(["run", str(hef), "--whole"]) != 0
    assert "--input-files" in capsys.readouterr().err
    assert run(["run", str(hef), "--whole", "--quantized", "--input-files", str(data)]) == 2


def test_device_only_refuses_as_before() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        ClientRunner("hailo8").translate_onnx_model(tagger(), "tagger", device_only=True)
    assert {"embed", "top"} & {w for d in caught.value.diagnostics for w in d.where.split("'")}


# --- models that nobody vouches for ----------------------------------------------------------------------------------


def one_node(**changes: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        [N("Relu", ["x"], ["y"], domain=str(changes.get("domain", "")))], "g",
        [helper.make_tensor_value_info("x", 1, [1])], [helper.make_tensor_value_info("y", 1, [1])],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_only_models_of_the_standard_reach_onnxruntime() -> None:
    def refused(model: onnx.ModelProto | bytes, text: str) -> None:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        with pytest.raises(InputFileError, match=text) as caught:
            check_model(data, ["x"], ["y"], "x.har")
        assert caught.value.code == "E-HOST-MODEL"

    check_model(one_node().SerializeToString(), ["x"], ["y"], "x.har")
    refused(one_node(domain="com.evil"), "no standard domain")
    refused(b"\xff\xff\xff", "damaged")
    outside = one_node()
    tensor = outside.graph.initializer.add(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    refused(outside, "another file")
    inner = one_node()
    branch = helper.make_graph([N("Bad", [], ["z"], domain="com.evil")], "b", [], [])
    inner.graph.node.append(N("If", ["x"], ["q"], then_branch=branch, else_branch=branch))
    refused(inner, "no standard domain")
    other = one_node()
    other.graph.output[0].name = "z"
    refused(other, "outputs are not those")
    renamed = one_node()
    renamed.functions.add(name="Relu", domain="")
    refused(renamed, "takes the place")


def test_a_changed_archive_is_refused_and_never_a_traceback(compiled: ClientRunner) -> None:
    parts = archive.members(compiled.archive)
    rng = np.random.default_rng(0)
    whole = parts["tagger.whole.json"]
    for _ in range(60):
        place = int(rng.integers(len(whole)))
        changed = whole[:place] + bytes([int(rng.integers(32, 127))]) + whole[place + 1 :]
        try:
            opened = archive.from_members({**parts, "tagger.whole.json": changed}, "x.har")
        except InputFileError:
            continue
        runner = ClientRunner("hailo8")
        runner._archive = opened
        try:
            runner.infer(InferenceContext.SDK_NATIVE, {"ids": ids(1, 0)}, whole=True)
        except HeadraceError:
            pass


def test_missing_onnxruntime_is_said_with_the_command(compiled: ClientRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(HeadraceError, match=r"headrace\[host\]"):
        compiled.infer(InferenceContext.SDK_NATIVE, {"ids": ids(1, 0)}, whole=True)


def test_a_tensor_whose_rows_are_of_one_frame_comes_back_whole() -> None:
    """A detector takes ``scores[0]``: frames are then joined with rows, and the open size is not their number."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.normal(0, 0.3, (16, 12)).astype(np.float32), "rows": np.array([-1, 12], np.int64)}
    nodes = [
        N("MatMul", ["x", "w"], ["a"], name="dense"), N("Relu", ["a"], ["b"], name="act"),
        N("Reshape", ["b", "rows"], ["c"], name="joined"), N("NonZero", ["c"], ["which"], name="found"),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [1, 8, 16])], [info("which", TensorProto.INT64, [2, "n"])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    runner = ClientRunner()
    runner.translate_onnx_model(data, "rows")
    x = rng.normal(size=(1, 8, 16)).astype(np.float32)
    wanted = session(data).run(None, {"x": x})[0]
    assert np.array_equal(runner.infer(InferenceContext.SDK_NATIVE, {"x": x}, whole=True), wanted)


@pytest.mark.parametrize("shape", [(-1,), (2, 4, 6, 6)], ids=["all numbers in a row", "heads beside frames"])
def test_a_tensor_whose_first_dimension_counts_more_than_frames(shape: tuple[int, ...]) -> None:
    """As torchvision flattens the scores of a level, and as RT-DETR counts heads with its pictures."""
    from headrace.emulator import Executor
    from headrace.frontends import parse
    from headrace.host import WholeRun

    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "to": np.array(shape, np.int64),
        "k": np.array([3], np.int64),
    }
    nodes = [
        N("Conv", ["x", "w"], ["y"], name="conv"), N("Reshape", ["y", "to"], ["z"], name="view"),
        N("TopK", ["z", "k"], ["best", "which"], name="top"),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [info("best", TensorProto.FLOAT, None), info("which", TensorProto.INT64, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = model.SerializeToString()
    x = rng.normal(size=(1, 3, 8, 8)).astype(np.float32)
    result = parse(data)
    executor = Executor(result.network, "native")
    got = WholeRun(result.whole, executor.run, "net").run({"x": x})
    wanted = session(data).run(None, {"x": x})
    np.testing.assert_allclose(got["best"], wanted[0], atol=1e-5)
    np.testing.assert_array_equal(got["which"], wanted[1])


def rows_as_batch() -> bytes:
    """As a mixer that runs along the rows of pictures: frames and columns are one dimension, behind the rows.

    The last row does not count, which no device does.
    """
    rng = np.random.default_rng(4)
    weights = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "to": np.array([4, -1, 8], np.int64),
        "W": rng.normal(0, 0.3, (1, 16, 8)).astype(np.float32),
        "R": rng.normal(0, 0.3, (1, 16, 4)).astype(np.float32),
        "lengths": np.full(6, 3, np.int32),
    }
    nodes = [
        N("Conv", ["x", "w"], ["a"], name="conv", pads=[1] * 4),
        N("Transpose", ["a"], ["b"], name="rows", perm=[2, 0, 3, 1]),
        N("Reshape", ["b", "to"], ["c"], name="joined"),
        N("LSTM", ["c", "W", "R", "", "lengths"], ["y"], name="lstm", hidden_size=4),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [1, 3, 4, 6])], [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_frames_joined_with_columns_cross_to_the_host_from_files_too() -> None:
    from headrace.emulator import Executor
    from headrace.frontends import parse
    from headrace.hn.whole import from_files, to_files
    from headrace.host import WholeRun

    data = rows_as_batch()
    result = parse(data)
    whole = from_files(to_files(result.whole, "net"), "net", "a test")
    assert whole == result.whole and whole.device.gives[0].shape == (4, -1, 8)
    x = np.random.default_rng(5).normal(size=(2, 3, 4, 6)).astype(np.float32)
    device = Executor(result.network, "native").run
    got = WholeRun(whole, device, "net").run({"x": x})["y"]
    file = session(data)
    for frame, array in zip(x, got, strict=True):
        np.testing.assert_allclose(array, file.run(None, {"x": frame[None]})[0], atol=1e-6)
    with pytest.raises(InputFileError, match="E-WHOLE-CORRUPT"):  # a device of another network
        WholeRun(whole, lambda frames: {n: a[:, 1:] for n, a in device(frames).items()}, "net").run({"x": x})


def test_an_open_batch_stays_in_the_dimension_that_the_file_leaves_open() -> None:
    """Six rows, then frames times four columns: the batch, though of size 1 when parsed, is not the channels'."""
    from headrace.emulator import Executor
    from headrace.frontends import parse
    from headrace.host import WholeRun

    rng = np.random.default_rng(6)
    weights = {"to": np.array([6, -1, 3], np.int64), "w": rng.normal(0, 0.3, (3, 5)).astype(np.float32)}
    nodes = [
        N("Transpose", ["x"], ["a"], name="turned", perm=[3, 2, 0, 1]), N("Reshape", ["a", "to"], ["b"], name="joined"),
        N("MatMul", ["b", "w"], ["y"], name="dense"),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["n", 3, 4, 6])], [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    result = parse(data)
    x = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)
    got = WholeRun(result.whole, Executor(result.network, "native").run, "net").run({"x": x})["y"]
    np.testing.assert_allclose(got, session(data).run(None, {"x": x})[0], atol=1e-6)
    assert result.whole.outputs[0].frame_axis == -1  # the parts of a frame lie apart: runs do not follow one another
