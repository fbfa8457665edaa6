# SPDX-License-Identifier: Apache-2.0
"""Networks of the host and files in their own runtimes run in another process: none ends, fills or stops ours."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from onnx import GraphProto, TensorProto, helper, numpy_helper

from headrace.errors import (
    DataError,
    HeadraceError,
    InputFileError,
    MemoryLimitError,
    UnsupportedModelError,
    UsageError,
)
from headrace.hn.whole import OnnxStep
from headrace.host import networks, session
from headrace.host.file_runtimes import open_in_its_runtime
from headrace.host.session import Session
from headrace.host.worker import WorkerError

N = helper.make_node
INFO = helper.make_tensor_value_info


def branch(nodes: list[Any], output: str) -> GraphProto:
    return helper.make_graph(nodes, output, [], [helper.make_empty_tensor_value_info(output)])


def choice(condition: str, then: GraphProto, other: GraphProto, output: str) -> Any:
    return N("If", [condition], [output], then_branch=then, else_branch=other)


def model(nodes: list[Any], **weights: np.ndarray) -> OnnxStep:
    graph = helper.make_graph(
        nodes, "g", [INFO("x", TensorProto.FLOAT, ["N", 3, 6, 6])], [INFO("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxStep(("x",), ("y",), made.SerializeToString())


def ends_the_process() -> OnnxStep:
    """Constant branches in branches, at which onnxruntime 1.32 reads memory that is not its own when it rewrites."""
    other = branch([N("Neg", ["t"], ["o"])], "o")
    inner = branch(
        [N("Shape", ["t"], ["s"]), N("Size", ["s"], ["n"]), N("Equal", ["n", "four"], ["e"]),
         choice("e", branch([N("Relu", ["t"], ["u"])], "u"), other, "v")], "v",
    )  # fmt: skip
    outer = branch([N("MaxPool", ["c"], ["t"], kernel_shape=[2, 2]), choice("yes", inner, other, "z")], "z")
    kernel = np.ones((4, 3, 1, 1), np.float32)
    nodes = [
        N("Conv", ["x", "w"], ["c"]), choice("yes", outer, branch([N("Relu", ["c"], ["r"])], "r"), "q"),
        N("Identity", ["q"], ["y"]),
    ]  # fmt: skip
    return model(nodes, w=kernel, yes=np.array(True), four=np.array(4))


def test_a_model_that_ends_the_process_runs_without_being_rewritten() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    got = Session(ends_the_process(), "x.har").run({"x": x})["y"]
    sums = x.sum(1, keepdims=True).repeat(4, 1)
    want = np.maximum(np.stack([[sums[..., i : i + 2, j : j + 2].max((2, 3)) for j in range(5)] for i in range(5)]), 0)
    np.testing.assert_allclose(got, want.transpose(2, 3, 0, 1), rtol=1e-5, atol=1e-6)


def test_what_always_ends_the_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "LEVELS", networks.LEVELS[:1])
    monkeypatch.setattr(session, "NETWORKS", networks.Networks())
    for _ in range(2):
        with pytest.raises(InputFileError, match="E-HOST-MODEL") as caught:
            Session(ends_the_process(), "x.har")
        assert "ends its process (SIGSEGV)" in str(caught.value) or "exit" in str(caught.value)
    Session(model([N("Relu", ["x"], ["y"])]), "x.har")  # the next one is tried in a new process


def test_loading_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "NETWORKS", networks.Networks())
    monkeypatch.setattr(networks, "SPARE_SECONDS", 0.0)
    with pytest.raises(InputFileError, match="longer than"):
        Session(model([N("Relu", ["x"], ["y"])]), "x.har")


def test_an_error_of_onnxruntime_is_told() -> None:
    wrong = model([N("Conv", ["x", "w"], ["y"])], w=np.ones((4, 5, 1, 1), np.int64))
    with pytest.raises(InputFileError, match="E-HOST-MODEL") as caught:
        Session(wrong, "x.har")
    assert "INVALID_GRAPH" in str(caught.value)


def test_a_forked_process_does_not_use_its_parents() -> None:
    Session(model([N("Relu", ["x"], ["y"])]), "x.har")
    child = networks.NETWORKS.worker
    assert child.alive
    child.owner = os.getpid() + 1
    try:
        assert not child.alive
        child.end()
    finally:
        child.owner = os.getpid()
    assert child.alive


# --- running ----------------------------------------------------------------------------------------------------------

X = np.ones((1, 3, 6, 6), np.float32)


def runs(trips: int = 1 << 62, grows: bool = False) -> OnnxStep:
    """A loop of so many rounds, which doubles what it holds where that is asked for."""
    body = helper.make_graph(
        [N("Concat", ["v_in", "v_in"], ["v_out"], axis=0) if grows else N("Neg", ["v_in"], ["v_out"]),
         N("Identity", ["go_in"], ["go_out"])], "body",
        [INFO("i", TensorProto.INT64, []), INFO("go_in", TensorProto.BOOL, []), INFO("v_in", TensorProto.FLOAT, None)],
        [INFO("go_out", TensorProto.BOOL, []), INFO("v_out", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return model([N("Loop", ["trips", "yes", "x"], ["y"], body=body)], trips=np.array(trips), yes=np.array(True))


def fills(*sizes: int) -> OnnxStep:
    """A tensor of any size, which is not computed when the model is loaded: it depends on the input."""
    nodes = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "first"], ["one"]), N("Mul", ["one", "sizes"], ["goal"]),
             N("ReduceMax", ["x"], ["most"], keepdims=0), N("Expand", ["most", "goal"], ["y"])]  # fmt: skip
    return model(nodes, first=np.array([0]), sizes=np.array(sizes))


def test_a_loop_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOST_SECONDS", "1.5")
    other, endless = Session(runs(3), "x.har"), Session(runs(), "x.har")
    np.testing.assert_array_equal(other.run({"x": X})["y"], -X)
    start = time.monotonic()
    with pytest.raises(DataError, match="takes longer than 2 s") as caught:
        endless.run({"x": X})
    assert caught.value.code == "E-HOST-TIME" and time.monotonic() - start < 20
    assert "HEADRACE_HOST_SECONDS" in caught.value.diagnostics[0].levers[0]
    np.testing.assert_array_equal(other.run({"x": X})["y"], -X)  # loaded again, in a new process


def test_ctrl_c_ends_a_run() -> None:
    endless = Session(runs(), "x.har")
    worker = networks.NETWORKS.worker
    # A shell that runs the tests in the background lets its children ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            endless.run({"x": X})
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()
    assert not worker.alive


@pytest.mark.parametrize(
    ("step", "limit"),
    [
        (runs(60, grows=True), None),
        (fills(10**6, 10**6), None),
        (fills(1 << 10, 1 << 20), "3e8"),
        (fills(1 << 26), "1.5e8"),
    ],
)
def test_memory_is_bounded(step: OnnxStep, limit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if limit is not None:
        monkeypatch.setenv("HEADRACE_HOST_BYTES", limit)
    hungry = Session(step, "x.har")
    with pytest.raises(HeadraceError) as caught:
        hungry.run({"x": X})
    assert caught.value.code == "E-HOST-MEMORY" and isinstance(caught.value, MemoryLimitError)
    assert any("HEADRACE_HOST_BYTES" in lever for lever in caught.value.diagnostics[0].levers)
    if limit is not None and "1.5" in limit:  # as the lever says
        monkeypatch.setenv("HEADRACE_HOST_BYTES", "2e9")
        assert hungry.run({"x": X})["y"].shape == (1 << 26,)


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HEADRACE_HOST_SECONDS", "HEADRACE_HOST_BYTES"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with pytest.raises(UsageError, match="E-HOST-LIMIT"):
                Session(runs(1), "x.har").run({"x": X})


def test_a_limit_of_0_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOST_SECONDS", "0")
    monkeypatch.setenv("HEADRACE_HOST_BYTES", "0")
    np.testing.assert_array_equal(Session(runs(2), "x.har").run({"x": X})["y"], X)


def test_what_is_no_tensor_is_an_error() -> None:
    kinds = N("ZipMap", ["f"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])  # makes a list of mappings
    listed = helper.make_sequence_type_proto(helper.make_map_type_proto(8, helper.make_tensor_type_proto(1, [])))
    graph = helper.make_graph(
        [N("Identity", ["x"], ["f"]), kinds], "g", [INFO("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_value_info("y", listed)],
    )  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    step = OnnxStep(("x",), ("y",), helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString())
    with pytest.raises(DataError, match="neither numbers nor strings"):
        Session(step, "x.har").run({"x": np.ones((1, 2), np.float32)})


def test_networks_that_nobody_uses_are_forgotten() -> None:
    pool = networks.Networks()
    data = runs(1).model
    used, unused = pool.open(data), pool.open(data)
    number = unused.number
    del unused
    gc.collect()
    used.run({"x": X}, ["y"])
    head = {"what": "run", "number": number, "outputs": ["y"]}
    with pytest.raises(WorkerError):
        pool.worker.ask(head, {"x": X}, seconds=60, most=1 << 30)
    pool.worker.end()


def test_nothing_runs_on_behind_a_process_that_was_killed() -> None:
    program = f"""
import os, sys, threading, time
sys.path[:] = {sys.path!r}
import numpy as np
from headrace.hn.whole import OnnxStep
from headrace.host import networks
from headrace.host.session import Session
made = Session(OnnxStep(("x",), ("y",), {runs().model!r}), "x")
print(networks.NETWORKS.worker._process.pid, flush=True)
made.run({{"x": np.ones((1, 3, 6, 6), np.float32)}})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.kill()
    for _ in range(100):
        try:
            with open(f"/proc/{child}/stat", encoding="ascii") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the process still runs")


# --- files in their own runtimes --------------------------------------------------------------------------------------


def test_a_file_that_stops_its_runtime_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOST_SECONDS", "1.5")
    runtime = open_in_its_runtime("onnx", None, runs().model)
    with pytest.raises(UnsupportedModelError, match="E-COMPARE-RUNTIME.*\n.*takes longer than"):
        runtime.run({"x": X}, ["y"])
    runtime.close()


def test_a_file_that_ends_its_runtime_is_an_error() -> None:
    runtime = open_in_its_runtime("onnx", None, runs().model)
    pid = runtime._worker._process.pid
    threading.Timer(0.7, os.kill, (pid, signal.SIGABRT)).start()
    with pytest.raises(UnsupportedModelError, match="ends its process .SIGABRT"):
        runtime.run({"x": X}, ["y"])


def test_a_file_that_fills_its_runtime_is_an_error() -> None:
    runtime = open_in_its_runtime("onnx", None, fills(10**6, 10**6).model)
    with pytest.raises(UnsupportedModelError, match="E-COMPARE-RUNTIME"):
        runtime.run({"x": X}, ["y"])


def test_a_tflite_file_that_fills_its_runtime_is_an_error() -> None:
    pytest.importorskip("ai_edge_litert")
    from small_tflite import SmallModel

    large = SmallModel()
    data = large.bytes(large.op("FILL", [large.ints([10**5, 10**6]), large.input()], [10**5, 10**6]))
    with pytest.raises(UnsupportedModelError, match="E-COMPARE-RUNTIME") as caught:
        open_in_its_runtime("tflite", None, data).run({"t1": np.array(1, np.float32)}, ["t2"])
    assert "LiteRT" in str(caught.value)
