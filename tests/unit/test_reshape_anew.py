# SPDX-License-Identifier: Apache-2.0
"""Reshapes that cut a dimension into other parts than it lies in: windows made a picture, and that a grid (MaxViT)."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper

from frontend_oracle import session
from headrace.runner import ClientRunner, InferenceContext

N = helper.make_node


@pytest.mark.parametrize("last", [[-1, 9, 16, 8], [-1, 16, 9, 8], [-1, 48, 24]])
@pytest.mark.parametrize("batch", ["N", 2])
def test_windows_then_a_grid(last: list[int], batch: int | str) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32), "d": rng.normal(0, 0.3, (8, 8)).astype(np.float32),
        "e": rng.normal(0, 0.3, (last[-1], 8)).astype(np.float32),
        "windows": np.array([-1, 8, 4, 3, 4, 3]), "tokens": np.array([-1, 16, 9, 8]),
        "back": np.array([-1, 4, 4, 3, 3, 8]), "picture": np.array([-1, 8, 12, 12]),
        "grid": np.array([-1, 8, 3, 4, 3, 4]), "last": np.array(last),
    }  # fmt: skip
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        N("Reshape", ["c", "windows"], ["a"]), N("Transpose", ["a"], ["b"], perm=[0, 2, 4, 3, 5, 1]),
        N("Reshape", ["b", "tokens"], ["t"]), N("MatMul", ["t", "d"], ["u"]),
        N("Reshape", ["u", "back"], ["v"]), N("Transpose", ["v"], ["p"], perm=[0, 5, 1, 3, 2, 4]),
        N("Reshape", ["p", "picture"], ["q"]),
        N("Reshape", ["q", "grid"], ["r"]), N("Transpose", ["r"], ["s"], perm=[0, 2, 4, 3, 5, 1]),
        N("Reshape", ["s", "last"], ["g"]), N("MatMul", ["g", "e"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(data, "net", device_only=True)
    x = rng.normal(size=(2, 3, 12, 12)).astype(np.float32)
    (want,) = session(data).run(None, {"x": x})
    got = runner.infer(InferenceContext.SDK_NATIVE, {"x": x}, whole=True)
    assert got.shape == want.shape and np.abs(got - want).max() < 1e-4 * np.ptp(want)
