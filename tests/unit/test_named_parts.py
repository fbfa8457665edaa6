# SPDX-License-Identifier: Apache-2.0
"""Named start and end nodes keep the rest of the file on the host; nodes that nothing runs are left out, and said."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from onnx import TensorProto, helper, numpy_helper

from frontend_oracle import session
from headrace.cli.app import run
from headrace.cli.report_text import placement_text
from headrace.errors import UnsupportedModelError
from headrace.hn.whole import DeviceStep, OnnxStep
from headrace.reports.parse import ParseReport
from headrace.runner import ClientRunner, InferenceContext

N = helper.make_node
INFO = helper.make_tensor_value_info


def detector(last: Any = None, first: bool = False, outputs: int = 2) -> bytes:
    """Scaling, two convolutions, a reshape, and what chooses the best; ``first``: an unknown operator in front."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (6, 8, 3, 3)).astype(np.float32),
        "flat": np.array([-1, 6, 64]), "k": np.array([3]), "half": np.float32(0.5),
    }  # fmt: skip
    front = [N("Demosaic", ["raw"], ["x"], name="isp", domain="camera")] if first else []
    nodes = [
        *front,
        N("Mul", ["x", "half"], ["x0"], name="pre"), N("Conv", ["x0", "w1"], ["a"], name="c1", pads=[1] * 4),
        N("Relu", ["a"], ["b"], name="r1"), N("Conv", ["b", "w2"], ["c"], name="c2", pads=[1] * 4),
        N("Reshape", ["c", "flat"], ["d"], name="flatten"), N("Sigmoid", ["d"], ["e"], name="sig"),
        last or N("TopK", ["e", "k"], ["best", "which"], name="top"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [INFO("raw" if first else "x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [INFO("best", TensorProto.FLOAT, None), INFO("which", TensorProto.INT64, None)][:outputs],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
        value_info=[INFO("x", TensorProto.FLOAT, [1, 3, 8, 8])] if first else [],
    )  # fmt: skip
    domains = [helper.make_opsetid(*pair) for pair in (("", 17), ("TRT", 1), ("camera", 1))]
    return helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()


def parsed(data: bytes, **options: Any) -> ClientRunner:
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(data, "net", **options)
    return runner


def whole(runner: ClientRunner, **inputs: np.ndarray) -> list[np.ndarray]:
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        found = runner.infer(context, inputs, whole=True)
    return found if isinstance(found, list) else [found]


def places(runner: ClientRunner) -> dict[str, str]:
    return {entry["node"]: entry["place"] for entry in runner.parse_report["placement"]}


@pytest.mark.parametrize(
    ("starts", "ends", "takes", "gives"),
    [
        ([], ["c2"], ("x",), ("c",)),
        (["c1"], ["c2"], ("x0",), ("c",)),
        (["c2"], ["sig"], ("b",), ("e",)),
        ([], ["c2", "r1"], ("x",), ("c", "b")),
        ([], ["d"], ("x",), ("d",)),
    ],
)
def test_the_whole_model_is_the_files_own(
    starts: list[str], ends: list[str], takes: tuple[str, ...], gives: tuple[str, ...]
) -> None:
    data = detector()
    x = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    runner = parsed(data, start_node_names=starts, end_node_names=ends)
    steps = runner.archive.whole
    assert (steps.device.inputs, steps.device.outputs) == (takes, gives)
    assert [tensor.name for tensor in steps.outputs] == ["best", "which"]
    for want, got in zip(session(data).run(None, {"x": x}), whole(runner, x=x), strict=True):
        assert got.dtype == want.dtype and np.abs(got - want).max() < 1e-5
    assert "--device-only leaves them out" in " ".join(runner.parse_report["warnings"])
    text = placement_text(ParseReport.from_dict(runner.parse_report, "report"))
    assert "it is behind the end nodes that were named" in text
    strict = parsed(data, start_node_names=starts, end_node_names=ends, device_only=True)
    assert strict.archive.whole.only_device
    assert [tensor.name for tensor in strict.archive.whole.outputs] == list(gives)


def test_an_output_inside_the_named_part_is_computed_again_and_said() -> None:
    data = detector(N("Add", ["e", "d"], ["best"], name="both"), outputs=1)
    runner = parsed(data, end_node_names=["sig"])
    told = " ".join(runner.parse_report["warnings"])
    assert "the host computes 5 nodes of the network again, for outputs need 'd', which no end node gives" in told
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    assert np.abs(whole(runner, x=x)[0] - session(data).run(None, {"x": x})[0]).max() < 1e-5
    assert "again" not in " ".join(parsed(data, end_node_names=["sig", "d"]).parse_report["warnings"])


def test_an_operator_of_a_plugin_at_the_end_is_left_out() -> None:
    data = detector(N("EfficientNMS_TRT", ["e"], ["best", "which"], name="nms", domain="TRT"))
    runner = parsed(data)
    told = " ".join(runner.parse_report["warnings"])
    assert "EfficientNMS_TRT (node 'nms') runs neither on the device nor on the host" in told
    assert "not computed: outputs 'best', 'which'" in told and "gives 'e'" in told
    assert places(runner)["nms"] == "nowhere"
    assert "not computed, 1 of" in placement_text(ParseReport.from_dict(runner.parse_report, "report"))
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    (got,) = whole(runner, x=x)
    want = session(detector()).run(["best"], {"x": x})[0]
    assert got.shape == (3, 6, 64)
    assert np.abs(np.sort(got)[..., ::-1][..., :3] - want).max() < 1e-5
    with pytest.raises(UnsupportedModelError):
        parsed(data, device_only=True)


def test_an_operator_of_a_plugin_in_front_makes_an_input() -> None:
    runner = parsed(detector(first=True))
    steps = runner.archive.whole
    assert [tensor.name for tensor in steps.inputs] == ["x"] and places(runner)["isp"] == "nowhere"
    assert "the whole model takes 'x' in place of what would make them" in " ".join(runner.parse_report["warnings"])
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    for want, got in zip(session(detector()).run(None, {"x": x}), whole(runner, x=x), strict=True):
        assert np.abs(got - want).max() < 1e-5
    assert [type(step) for step in steps.steps] == [DeviceStep, OnnxStep]


def test_an_operator_of_a_plugin_in_front_of_an_open_batch() -> None:
    """The file states its result with the batch by the name that its input has."""
    info = helper.make_tensor_value_info
    weight = np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Isp", ["raw"], ["x"], name="isp", domain="camera"),
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
    ]
    size = ["n", 3, 8, 8]
    graph = helper.make_graph(
        nodes, "g", [info("raw", TensorProto.FLOAT, size)], [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")], value_info=[info("x", TensorProto.FLOAT, size)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("camera", 1)]
    runner = parsed(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    assert places(runner) == {"isp": "nowhere", "conv": "device"}
    assert [tensor.name for tensor in runner.archive.whole.inputs] == ["x"]
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    del graph.node[0]
    graph.input[0].name = "x"
    want = session(helper.make_model(graph, opset_imports=opsets[:1], ir_version=8).SerializeToString()).run(
        None, {"x": x}
    )
    (got,) = whole(runner, x=x)
    assert np.abs(got - want[0]).max() < 1e-5


# --- weights beside the file -----------------------------------------------------------------------------------------


def words(folder: Path, rows: int) -> Path:
    """Token ids through a table that lies in a file beside the model, then a dense layer."""
    rng = np.random.default_rng(0)
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, 16])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(rows * 64))):
        table.external_data.add(key=key, value=value)
    with (folder / "weights.bin").open("wb") as file:  # the rest is a hole
        file.write(rng.normal(size=(min(rows, 50), 16)).astype(np.float32).tobytes())
        file.truncate(rows * 64)
    dense = numpy_helper.from_array(rng.normal(0, 0.3, (16, 24)).astype(np.float32), "w")
    nodes = [N("Gather", ["table", "ids"], ["words"], name="embed"), N("MatMul", ["words", "w"], ["y"], name="first")]
    graph = helper.make_graph(
        nodes, "g", [INFO("ids", TensorProto.INT64, ["N", 8])], [INFO("y", TensorProto.FLOAT, None)], [table, dense]
    )
    path = folder / "words.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def test_weights_of_the_host_may_lie_beside_the_file(tmp_path: Path) -> None:
    path = words(tmp_path, 50)
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(str(path), "net")
    ids = np.random.default_rng(1).integers(0, 50, (3, 8))
    (got,) = whole(runner, ids=ids)
    table = np.fromfile(tmp_path / "weights.bin", np.float32).reshape(50, 16)
    dense = numpy_helper.to_array(onnx.load(path, load_external_data=False).graph.initializer[1])
    np.testing.assert_allclose(got, table[ids] @ dense, rtol=1e-4, atol=1e-5)
    assert len(runner.archive.whole.networks[0]) > 50 * 64


def test_more_weights_than_a_model_holds_are_an_error_before_they_are_read(tmp_path: Path) -> None:
    path = words(tmp_path, 40_000_000)  # 2.4 GiB, of which the disk holds 3 kB
    with pytest.raises(UnsupportedModelError, match="E-HOST-SIZE") as caught:
        ClientRunner("hailo8").translate_onnx_model(str(path), "net")
    assert "--start-node-names" in str(caught.value)
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(str(path), "net", start_node_names=["first"], net_input_shapes={"words": [1, 8, 16]})
    assert runner.archive.whole.only_device
    assert "the rest of the file is left out" in " ".join(runner.parse_report["warnings"])


def test_the_command_says_what_a_whole_run_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.onnx"
    path.write_bytes(detector())
    assert run(["parse", str(path), "--har-path", str(tmp_path / "a.har")]) == 0
    assert "will not run here" not in capsys.readouterr().err
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    assert run(["parse", str(path), "--har-path", str(tmp_path / "b.har")]) == 0
    assert "headrace[host]" in capsys.readouterr().err
