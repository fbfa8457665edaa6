# SPDX-License-Identifier: Apache-2.0
"""Operators that only the host has, before the device and behind it: whole models against onnxruntime.

Control flow, sequences, strings, results whose size depends on values, and the embeddings of language models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("headrace.runtime._native")
import onnx
from onnx import TensorProto, helper, numpy_helper

from frontend_oracle import session
from headrace.cli.app import run
from headrace.hn.whole import DeviceStep, OnnxStep
from headrace.runner import ClientRunner, InferenceContext
from hef_validator import validate

N = helper.make_node
INFO = helper.make_tensor_value_info
FLOAT, INT, TEXT, TRUTH = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
Array = np.ndarray[Any, Any]
WIDTH = 12


def weights(**more: Any) -> dict[str, Any]:
    """Two dense layers that the device computes, and what else a model needs."""
    rng = np.random.default_rng(7)
    return {
        "w1": rng.normal(0, 0.4, (WIDTH, 16)).astype(np.float32),
        "w2": rng.normal(0, 0.4, (16, 6)).astype(np.float32),
        **more,
    }


DENSE = (N("MatMul", ["h", "w1"], ["d1"], name="first"), N("Relu", ["d1"], ["d2"], name="act"),
         N("MatMul", ["d2", "w2"], ["s"], name="second"))  # fmt: skip


def model(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Mapping[str, Any], opset: int = 20,
    known: Sequence[Any] = (),
) -> bytes:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "g", list(inputs), list(outputs),
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
        value_info=list(known),
    )  # fmt: skip
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()


def behind(nodes: Sequence[Any], outputs: Sequence[Any], **constants: Any) -> tuple[bytes, dict[str, Array]]:
    """A model whose nodes read the scores ``s`` [N, 6] of the device; its input is ``h``."""
    x = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    made = model([*DENSE, *nodes], [INFO("h", FLOAT, ["N", WIDTH])], outputs, weights(**constants))
    return made, {"h": x}


# --- behind the device ------------------------------------------------------------------------------------------------


def loop() -> tuple[bytes, dict[str, Array]]:
    """As many rounds as the scores say, and a result of each."""
    body = helper.make_graph(
        [N("Mul", ["v_in", "half"], ["v_out"]), N("Identity", ["go_in"], ["go_out"]),
         N("ReduceSum", ["v_out"], ["sum"], keepdims=0)], "body",
        [INFO("i", INT, []), INFO("go_in", TRUTH, []), INFO("v_in", FLOAT, None)],
        [INFO("go_out", TRUTH, []), INFO("v_out", FLOAT, None), INFO("sum", FLOAT, [])],
    )  # fmt: skip
    nodes = [
        N("Sign", ["s"], ["signs"]), N("Relu", ["signs"], ["ones"]), N("ReduceSum", ["ones"], ["many"], keepdims=0),
        N("Cast", ["many"], ["trips"], to=INT), N("Loop", ["trips", "yes", "s"], ["last", "sums"], body=body, name="L"),
    ]  # fmt: skip
    return behind(nodes, [INFO("last", FLOAT, ["N", 6]), INFO("sums", FLOAT, ["K"])], half=np.float32(0.5), yes=True)


def scan() -> tuple[bytes, dict[str, Array]]:
    body = helper.make_graph(
        [N("Max", ["m_in", "row"], ["m_out"]), N("Identity", ["m_out"], ["seen"])], "body",
        [INFO("m_in", FLOAT, [6]), INFO("row", FLOAT, [6])], [INFO("m_out", FLOAT, [6]), INFO("seen", FLOAT, [6])],
    )  # fmt: skip
    nodes = [N("Scan", ["low", "s"], ["top", "running"], body=body, num_scan_inputs=1, name="S")]
    low = np.full(6, -1e30, np.float32)
    return behind(nodes, [INFO("top", FLOAT, [6]), INFO("running", FLOAT, ["N", 6])], low=low)


def choice() -> tuple[bytes, dict[str, Array]]:
    def branch(operator: str) -> Any:
        return helper.make_graph(
            [N(operator, ["s"], [f"y_{operator}"])], operator, [], [INFO(f"y_{operator}", FLOAT, None)]
        )

    nodes = [
        N("ReduceMean", ["s"], ["mean"], keepdims=0), N("Greater", ["mean", "zero"], ["warm"]),
        N("If", ["warm"], ["y"], then_branch=branch("Neg"), else_branch=branch("Softplus"), name="I"),
    ]  # fmt: skip
    return behind(nodes, [INFO("y", FLOAT, ["N", 6])], zero=np.float32(0))


def queries() -> tuple[bytes, dict[str, Array]]:
    """As RT-DETR's decoder: queries are chosen, and what all of them read is reshaped by sizes read from them."""
    rng = np.random.default_rng(3)
    nodes = [
        N("Conv", ["x", "w"], ["f"], "first", pads=[1] * 4), N("Reshape", ["f", "flat"], ["m"], "flatten"),
        N("Transpose", ["m"], ["memory"], "rows", perm=[0, 2, 1]),
        N("ReduceMax", ["memory", "two"], ["best"], "best", keepdims=0),
        N("TopK", ["best", "k"], ["scores", "places"], "topk", axis=1),
        N("Squeeze", ["places", "none"], ["which"], "which"),
        N("Gather", ["memory", "which"], ["queries"], "gather", axis=1), N("Shape", ["queries"], ["sizes"], "sizes"),
        N("Slice", ["sizes", "none", "one"], ["batch"], "batch"), N("Concat", ["batch", "rest"], ["view"], "v", axis=0),
        N("MatMul", ["memory", "v1"], ["values"], "second"), N("Reshape", ["values", "view"], ["heads"], "heads"),
        N("MatMul", ["queries", "v1"], ["asked"], "query_proj"), N("Reshape", ["asked", "few"], ["asking"], "asking"),
        N("ReduceMean", ["heads", "one"], ["mean"], "mean"), N("Mul", ["asking", "mean"], ["y"], "out"),
    ]  # fmt: skip
    constants = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32), "v1": rng.normal(0, 0.3, (8, 8)).astype(np.float32),
        "flat": np.array([1, 8, 64]), "k": np.array([5]), "none": np.array([0]), "one": np.array([1]),
        "two": np.array([2]), "rest": np.array([64, 2, 4]), "few": np.array([1, 5, 2, 4]),
    }  # fmt: skip
    made = model(nodes, [INFO("x", FLOAT, [1, 3, 8, 8])], [INFO("y", FLOAT, [1, 5, 2, 4])], constants)
    return made, {"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)}


def sequences() -> tuple[bytes, dict[str, Array]]:
    """Parts of unlike sizes, inserted, taken out and joined again."""
    nodes = [
        N("SplitToSequence", ["s", "parts"], ["list"], axis=1, name="split"),
        N("SequenceAt", ["list", "one"], ["middle"]),
        N("SequenceInsert", ["list", "middle", "zero"], ["more"]), N("SequenceErase", ["more", "one"], ["fewer"]),
        N("SequenceLength", ["fewer"], ["length"]), N("ConcatFromSequence", ["fewer"], ["y"], axis=1),
    ]  # fmt: skip
    outputs = [INFO("y", FLOAT, ["N", None]), INFO("length", INT, [])]
    return behind(nodes, outputs, parts=np.array([1, 2, 3]), one=np.array(1), zero=np.array(0))


def sizes_of_values() -> tuple[bytes, dict[str, Array]]:
    """NonZero, Unique and Compress: how many there are is known when they have run."""
    nodes = [
        N("Greater", ["s", "zero"], ["above"]), N("NonZero", ["above"], ["where"], name="nonzero"),
        N("ArgMax", ["s"], ["best"], axis=1, keepdims=0),
        N("Unique", ["best"], ["kinds", "", "", "counts"], sorted=1, name="unique"),
        N("Compress", ["s", "above"], ["kept"], name="compress"),
    ]  # fmt: skip
    outputs = [
        INFO("where", INT, [2, None]),
        INFO("kinds", INT, [None]),
        INFO("counts", INT, [None]),
        INFO("kept", FLOAT, [None]),
    ]
    return behind(nodes, outputs, zero=np.float32(0))


def top_of_an_input() -> tuple[bytes, dict[str, Array]]:
    """TopK of as many as an input of the model says."""
    made = model(
        [*DENSE, N("TopK", ["s", "k"], ["best", "which"], name="top")],
        [INFO("h", FLOAT, ["N", WIDTH]), INFO("k", INT, [1])],
        [INFO("best", FLOAT, ["N", "K"]), INFO("which", INT, ["N", "K"])], weights(),
    )  # fmt: skip
    return made, {"h": np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32), "k": np.array([4])}


def names() -> tuple[bytes, dict[str, Array]]:
    """The names of the best classes, and of some regular expression among them."""
    label = N("LabelEncoder", ["best"], ["name"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2, 3, 4, 5],
              values_strings=["ant", "bee", "cat", "dog", "eel", "fox"], name="label")  # fmt: skip
    nodes = [
        N("ArgMax", ["s"], ["best"], axis=1, keepdims=0), label, N("StringConcat", ["name", "mark"], ["called"]),
        N("RegexFullMatch", ["name"], ["vowel"], pattern="[aeiou].*"),
    ]  # fmt: skip
    return behind(nodes, [INFO("called", TEXT, ["N"]), INFO("vowel", TRUTH, ["N"])], mark=np.array("!", object))


# --- before the device ------------------------------------------------------------------------------------------------

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "hill", "far"]


def words() -> tuple[bytes, dict[str, Array]]:
    """Words made lower case, looked up and embedded; their mean goes through the device."""
    table = np.random.default_rng(3).normal(size=(len(WORDS) + 1, WIDTH)).astype(np.float32)
    nodes = [
        N("StringNormalizer", ["words"], ["low"], case_change_action="LOWER", locale="C", name="norm"),
        N("LabelEncoder", ["low"], ["ids"], domain="ai.onnx.ml", keys_strings=WORDS, name="look",
          values_int64s=list(range(1, len(WORDS) + 1)), default_int64=0),
        N("Gather", ["table", "ids"], ["h"], name="embed"), *DENSE,
    ]  # fmt: skip
    made = model(nodes, [INFO("words", TEXT, ["T"])], [INFO("s", FLOAT, ["T", 6])], weights(table=table))
    return made, {"words": np.array(["The", "CAT", "sat", "on", "a", "Zebra"], object)}


def sentences() -> tuple[bytes, dict[str, Array]]:
    """Sentences split at blanks (as far as the longest goes), counted word by word."""
    nodes = [
        N("StringSplit", ["text"], ["split", "lengths"], delimiter=" ", name="split"),
        N("TfIdfVectorizer", ["split"], ["h"], min_gram_length=1, max_gram_length=1, max_skip_count=0, mode="TF",
          ngram_counts=[0], ngram_indexes=list(range(WIDTH)), pool_strings=[*WORDS, "x", "y"], name="count"), *DENSE,
    ]  # fmt: skip
    made = model(
        nodes, [INFO("text", TEXT, ["N"])], [INFO("s", FLOAT, ["N", 6]), INFO("lengths", INT, ["N"])], weights()
    )
    return made, {"text": np.array(["the cat sat on the mat", "a dog ran", "far"], object)}


def rounds_before() -> tuple[bytes, dict[str, Array]]:
    """A loop that halves until all is small, then the device."""
    body = helper.make_graph(
        [N("Mul", ["v_in", "half"], ["v_out"]), N("ReduceMax", ["v_out"], ["most"], keepdims=0),
         N("Greater", ["most", "limit"], ["go_out"])], "body",
        [INFO("i", INT, []), INFO("go_in", TRUTH, []), INFO("v_in", FLOAT, ["N", WIDTH])],
        [INFO("go_out", TRUTH, []), INFO("v_out", FLOAT, ["N", WIDTH])],
    )  # fmt: skip
    nodes = [N("Abs", ["x"], ["v"]), N("Loop", ["", "yes", "v"], ["h"], body=body, name="L"), *DENSE]
    made = model(nodes, [INFO("x", FLOAT, [1, WIDTH])], [INFO("s", FLOAT, [1, 6])],
                 weights(half=np.float32(0.5), limit=np.float32(0.3), yes=True),
                 known=[INFO("h", FLOAT, [1, WIDTH])])  # fmt: skip
    return made, {"x": np.random.default_rng(4).normal(size=(1, WIDTH)).astype(np.float32) * 9}


def embeddings(sizes: list[Any]) -> tuple[bytes, dict[str, Array]]:
    """As RoBERTa embeds: positions counted where there is no padding, types of a buffer, all shape glue written out."""
    rng = np.random.default_rng(5)
    constants = weights(
        words=rng.normal(size=(40, WIDTH)).astype(np.float32), places=rng.normal(size=(20, WIDTH)).astype(np.float32),
        types=rng.normal(size=(2, WIDTH)).astype(np.float32), pad=np.array(1), axis=np.array(1),
        buffer=np.zeros((1, 20), np.int64), less=np.array(-1), two=np.array([2]), own=np.array([1, -1]),
    )  # fmt: skip
    glue = [
        N("ConstantOfShape", ["two"], ["ones"], value=helper.make_tensor("v", INT, [1], [1]), name="ones"),
        N("Mul", ["ones", "less"], ["minus"], name="minus"), N("Shape", ["ids"], ["size"], name="size"),
        N("Equal", ["own", "minus"], ["kept1"]), N("Where", ["kept1", "ones", "own"], ["large"]),
        N("Expand", ["buffer", "large"], ["buffered"], name="buffered"),
        N("GatherElements", ["buffered", "at"], ["picked"], axis=1, name="pick"),
        N("Equal", ["size", "minus"], ["kept2"]), N("Where", ["kept2", "ones", "size"], ["goal"]),
        N("Expand", ["picked", "goal"], ["kind"], name="kinds"),
    ]  # fmt: skip
    nodes = [
        N("Equal", ["ids", "pad"], ["padding"]), N("Not", ["padding"], ["real"]), N("Cast", ["real"], ["mask"], to=6),
        N("CumSum", ["mask", "axis"], ["sums"], name="sums"), N("Mul", ["sums", "mask"], ["some"]),
        N("Cast", ["some"], ["long"], to=INT), N("Add", ["long", "pad"], ["at"]), *glue,
        N("Gather", ["words", "ids"], ["e1"], name="e1"), N("Gather", ["types", "kind"], ["e2"], name="e2"),
        N("Gather", ["places", "at"], ["e3"], name="e3"), N("Add", ["e1", "e2"], ["e12"], name="sum1"),
        N("Add", ["e12", "e3"], ["h"], name="sum2"), *DENSE,
    ]  # fmt: skip
    made = model(nodes, [INFO("ids", INT, sizes)], [INFO("s", FLOAT, [*sizes, 6])], constants, 17)
    tokens = rng.integers(2, 40, (3, 10))
    tokens[:, 7:] = 1
    tokens[1, 4:] = 1
    return made, {"ids": tokens}


CASES: dict[str, Callable[[], tuple[bytes, dict[str, Array]]]] = {
    "loop": loop, "scan": scan, "if": choice, "queries": queries, "sequences": sequences,
    "sizes of values": sizes_of_values,
    "top of an input": top_of_an_input, "names": names, "words": words, "sentences": sentences,
    "rounds before": rounds_before, "embeddings": lambda: embeddings([1, 10]),
    "embeddings, open": lambda: embeddings(["batch", "length"]),
}  # fmt: skip
SHAPES = {"embeddings, open": {"ids": [1, 10]}}


def translated(name: str) -> tuple[ClientRunner, dict[str, Array], dict[str, Array]]:
    """A runner with the network of a case, the data, and what onnxruntime makes of them."""
    made, feeds = CASES[name]()
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(made, "net", net_input_shapes=SHAPES.get(name))
    outputs = [o.name for o in onnx.ModelProto.FromString(made).graph.output]
    if name.startswith("embeddings"):  # the file computes one frame at a time
        rows = [session(made).run(outputs, {"ids": row[None]}) for row in feeds["ids"]]
        return runner, feeds, {n: np.concatenate([row[i] for row in rows]) for i, n in enumerate(outputs)}
    return runner, feeds, dict(zip(outputs, session(made).run(outputs, feeds), strict=True))


def close(got: Any, want: Array) -> None:
    got = np.asarray(got)
    assert got.shape == want.shape
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    else:
        assert np.array_equal(got, want)


@pytest.mark.parametrize("name", CASES)
def test_the_whole_model_is_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    runner, feeds, want = translated(name)
    steps = runner.archive.whole.steps
    assert any(isinstance(s, OnnxStep) for s in steps) and any(isinstance(s, DeviceStep) for s in steps)
    placed = {n["node"]: n["place"] for n in runner.parse_report["placement"]}
    assert placed["first"] == placed["second"] == "device"
    runner.save_har(tmp_path / "net.har")
    for one in (runner, ClientRunner(har=tmp_path / "net.har")):
        with one.infer_context(InferenceContext.SDK_NATIVE) as context:
            got = one.infer(context, feeds, whole=True)
        for (output, array), made in zip(want.items(), got if len(want) > 1 else [got], strict=True):
            assert runner.archive.whole.outputs[list(want).index(output)].name == output
            close(made, array)


@pytest.mark.parametrize("name", ["names", "sentences", "scan", "embeddings"])
def test_a_hef_carries_them_and_every_context_runs_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner, feeds, want = translated(name)
    runner.optimize(feeds)
    runner.compile()
    assert validate(runner.hef) == []
    made: dict[InferenceContext, Any] = {}
    for which in InferenceContext:
        with runner.infer_context(which) as context:
            made[which] = runner.infer(context, feeds, whole=True)
        arrays = made[which] if len(want) > 1 else [made[which]]
        for got, array in zip(arrays, want.values(), strict=True):
            assert np.shape(got) == array.shape
            if array.dtype.kind == "f":
                exact = which in (InferenceContext.SDK_NATIVE, InferenceContext.SDK_FP_OPTIMIZED)
                assert np.abs(np.asarray(got) - array).max() < (1e-4 if exact else 0.06) * np.ptp(array)
            else:
                assert np.array_equal(np.asarray(got), array)
    hef, out = tmp_path / "net.hef", tmp_path / "out"
    hef.write_bytes(runner.hef)
    files: list[str] = []
    for input_name, array in feeds.items():
        path = tmp_path / f"{input_name}.npy"
        np.save(path, array.astype(str) if array.dtype == object else array)
        files.append(f"{input_name}={path}")
    assert run(["run", str(hef), "--whole", "--input-files", *files, "--output-dir", str(out), "--json"]) == 0
    assert "onnx" in [step["kind"] for step in json.loads(capsys.readouterr().out)["steps"]]
    last = made[InferenceContext.SDK_HAILO_HW]
    for output, array in zip(want, last if len(want) > 1 else [last], strict=True):
        close(np.load(out / f"{output}.npy"), np.asarray(array).astype(str) if array.dtype == object else array)


def test_a_hef_that_does_not_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rounds behind the device, as many as an input says: run --whole ends with an error that is coded."""
    body = helper.make_graph(
        [N("Neg", ["v_in"], ["v_out"]), N("Identity", ["go_in"], ["go_out"])], "body",
        [INFO("i", INT, []), INFO("go_in", TRUTH, []), INFO("v_in", FLOAT, None)],
        [INFO("go_out", TRUTH, []), INFO("v_out", FLOAT, None)],
    )  # fmt: skip
    nodes = [*DENSE, N("Squeeze", ["k"], ["trips"]), N("Loop", ["trips", "yes", "s"], ["y"], body=body, name="L")]
    inputs = [INFO("h", FLOAT, ["N", WIDTH]), INFO("k", INT, [1])]
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(model(nodes, inputs, [INFO("y", FLOAT, ["N", 6])], weights(yes=True)), "net")
    x = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    runner.optimize({"h": x})
    runner.compile()
    hef = tmp_path / "net.hef"
    hef.write_bytes(runner.hef)
    monkeypatch.setenv("HEADRACE_HOST_SECONDS", "2")
    for trips, code in ((3, 0), (1 << 62, 6)):
        np.savez(tmp_path / "in.npz", h=x, k=np.array([trips]))
        assert run(["run", str(hef), "--whole", "--input-files", str(tmp_path / "in.npz"), "--json"]) == code
        told = capsys.readouterr()
        assert ("E-HOST-TIME" in told.err) == bool(code)
