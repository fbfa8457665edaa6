# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's own operators, as its optimizer and exporters write them: the device's part, and the host's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from compiler_support import freeze  # noqa: E402
from frontend_oracle import compare, f, i64, model, run_network, session  # noqa: E402
from headrace.passes.decompose_matmul import DecomposeMatmul  # noqa: E402
from headrace.passes.decompose_softmax import DecomposeSoftmax  # noqa: E402
from headrace.passes.rewriting import run_passes  # noqa: E402
from headrace.runner import ClientRunner, InferenceContext  # noqa: E402
from parsing import parse_onnx  # noqa: E402
from same_bytes import assert_same_bytes  # noqa: E402

N = helper.make_node
OWN = {"domain": "com.microsoft"}
PICTURE, TOKENS = [("x", [1, 3, 8, 8])], [("x", [1, 6, 8])]


def own(nodes, inputs, weights, opset=17):
    made = model(nodes, inputs, [("y", None)], weights, opset)
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made.SerializeToString()


CASES = {
    "convolution": ([N("FusedConv", ["x", "w", "b"], ["c"], activation="Relu", pads=[1] * 4, **OWN),
                     N("FusedConv", ["x", "w", "b", "c"], ["y"], activation="LeakyRelu", activation_params=[0.1],
                       pads=[1] * 4, **OWN)], PICTURE, {"w": f(4, 3, 3, 3), "b": f(4)}),
    "clipped convolution": ([N("FusedConv", ["x", "w"], ["y"], activation="Clip", activation_params=[0.0, 0.5],
                               strides=[2, 2], **OWN)], PICTURE, {"w": f(4, 3, 3, 3)}),
    "dense": ([N("FusedGemm", ["x", "w", "b"], ["y"], activation="Relu", transB=1, **OWN)], [("x", [1, 12])],
              {"w": f(5, 12), "b": f(5)}),
    "products": ([N("FusedMatMul", ["x", "w"], ["a"], transB=1, **OWN), N("Tanh", ["x"], ["t"]),
                  N("FusedMatMul", ["t", "w"], ["b"], transB=1, alpha=0.3, **OWN),
                  N("FusedMatMul", ["a", "b"], ["y"], transB=1, alpha=0.5, **OWN)], TOKENS, {"w": f(5, 8)}),
    "gates": ([N("BiasGelu", ["x", "b"], ["g"], **OWN), N("QuickGelu", ["g"], ["q"], **OWN),
               N("FastGelu", ["q", "b"], ["h"], **OWN), N("Gelu", ["h"], ["y"], **OWN)], TOKENS, {"b": f(8)}),
    "sums with their norm": (
        [N("Tanh", ["x"], ["t"]), N("SkipLayerNormalization", ["x", "t", "g", "b", "c"], ["n", "", "", "s"], **OWN),
         N("SkipSimplifiedLayerNormalization", ["n", "s", "g"], ["m"], **OWN),
         N("SimplifiedLayerNormalization", ["m", "g"], ["y"])], TOKENS, {"g": f(8), "b": f(8), "c": f(8)}),
    "attention": ([N("Attention", ["x", "w", "b"], ["y"], num_heads=2, **OWN)], TOKENS, {"w": f(8, 24), "b": f(24)}),
    "attention of three": (
        [N("MatMul", ["x", "wq"], ["q"]), N("MatMul", ["x", "wk"], ["k"]),
         N("MultiHeadAttention", ["q", "k", "x", "b"], ["y"], num_heads=2, **OWN)],
        TOKENS, {"wq": f(8, 8), "wk": f(8, 8), "b": f(24)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_native_is_onnxruntime_and_device_is_emulator(name: str) -> None:
    network = compare(own(*CASES[name])).network
    run_passes(network, (DecomposeSoftmax(), DecomposeMatmul()))
    assert_same_bytes(freeze(network))


def test_group_normalization_with_channels_last() -> None:
    """onnxruntime has it on graphics processors alone: beside the same in the standard's words."""
    weights = {"w": f(4, 3, 1, 1), "g": f(4), "b": f(4)}
    front, last = N("Conv", ["x", "w"], ["c"]), {"perm": [0, 2, 3, 1]}
    given = [front, N("Transpose", ["c"], ["t"], **last),
             N("GroupNorm", ["t", "g", "b"], ["y"], groups=2, activation=1, **OWN)]  # fmt: skip
    plain = [front, N("GroupNormalization", ["c", "g", "b"], ["n"], num_groups=2), N("Sigmoid", ["n"], ["s"]),
             N("Mul", ["n", "s"], ["m"]), N("Transpose", ["m"], ["y"], **last)]  # fmt: skip
    x = f(1, 3, 8, 8)
    (got,) = run_network(parse_onnx(own(given, PICTURE, weights, 21)).network, {"x": x}).values()
    (want,) = session(model(plain, PICTURE, [("y", None)], weights, 21).SerializeToString()).run(None, {"x": x})
    assert np.abs(got - want).max() < 1e-5


def test_what_the_optimizer_of_onnxruntime_writes(tmp_path: Path) -> None:
    """A file that it has optimized gives what the file itself gives."""
    weights = {"w": f(4, 3, 3, 3), "b": f(4), "v": f(4, 6), "n": np.int64([1, 64, 4]), "g": f(6), "h": f(6),
               "half": np.float32(0.5), "one": np.float32(1), "root": np.float32(2**0.5)}  # fmt: skip
    nodes = [
        N("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4), N("Relu", ["c"], ["r"]),
        N("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
        N("Reshape", ["t", "n"], ["k"]), N("MatMul", ["k", "v"], ["m"]), N("Add", ["m", "g"], ["a"]),
        N("Div", ["a", "root"], ["d"]), N("Erf", ["d"], ["e"]), N("Add", ["e", "one"], ["p"]),
        N("Mul", ["a", "p"], ["q"]),
        N("Mul", ["q", "half"], ["u"]), N("Add", ["u", "m"], ["s"]), N("LayerNormalization", ["s", "g", "h"], ["y"]),
    ]  # fmt: skip
    data = model(nodes, PICTURE, [("y", None)], weights, 17).SerializeToString()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    written = onnx.load(options.optimized_model_filepath)
    assert {n.op_type for n in written.graph.node if n.domain == "com.microsoft"} >= {"FusedConv"}
    compare(written.SerializeToString())


def test_what_is_not_said_in_the_standards_words_runs_on_the_host(tmp_path: Path) -> None:
    weights = {"w": f(4, 3, 3, 3), "n": i64(1, 4, 64), "at": i64(0), "cos": f(4, 32), "sin": f(4, 32)}
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1] * 4), N("Reshape", ["c", "n"], ["r"]),
        N("RotaryEmbedding", ["r", "at", "cos", "sin"], ["y"], name="turned", **OWN),
    ]  # fmt: skip
    data = own(nodes, PICTURE, weights)
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(data, "m")
    x = f(1, 3, 8, 8)
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        found = runner.infer(context, {"x": x}, whole=True)
    (want,) = session(data).run(None, {"x": x})
    assert np.abs(np.asarray(found) - want).max() < 1e-4
