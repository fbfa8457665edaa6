# SPDX-License-Identifier: Apache-2.0
"""Operators put together from others: as onnxruntime computes them, and the same bytes on the device as emulated."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

from compiler_support import freeze  # noqa: E402
from frontend_oracle import compare, f, i64, model  # noqa: E402
from headrace.passes.decompose_matmul import DecomposeMatmul  # noqa: E402
from headrace.passes.rewriting import run_passes  # noqa: E402
from same_bytes import assert_same_bytes  # noqa: E402

N = helper.make_node
GRID = np.stack(np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-0.9, 1.1, 4)), -1)[None].astype(np.float32)
CASES = {
    "class map": ([N("ArgMax", ["x"], ["y"], axis=1, keepdims=0)], {}),
    "last of the smallest": ([N("ArgMin", ["x"], ["y"], axis=2, select_last_index=1)], {}),
    "computed condition": ([N("Greater", ["x", "z"], ["c"]), N("Where", ["c", "x", "k"], ["y"])],
                           {"z": np.float32(0.2), "k": np.float32(-1)}),
    "truth values": ([N("Less", ["x", "z"], ["a"]), N("Not", ["a"], ["b"]), N("Greater", ["x", "k"], ["c"]),
                      N("Or", ["b", "c"], ["d"]), N("Xor", ["d", "a"], ["e"]),
                      N("Cast", ["e"], ["y"], to=TensorProto.FLOAT)], {"z": np.float32(0.2), "k": np.float32(-0.5)}),
    "inverse tangent": ([N("Mul", ["x", "z"], ["m"]), N("Atan", ["m"], ["y"])], {"z": np.float32(30)}),
    "inverse sine and cosine": ([N("Asin", ["x"], ["a"]), N("Acos", ["x"], ["b"]), N("Mul", ["a", "b"], ["y"])], {}),
    "first of the largest": ([N("Hardmax", ["x"], ["y"], axis=1)], {}),
    "bytes": ([N("Mul", ["x", "z"], ["m"]), N("Clip", ["m", "low", "z"], ["c"]), N("Round", ["c"], ["r"]),
               N("Cast", ["r"], ["y"], to=TensorProto.UINT8)], {"z": np.float32(255), "low": np.float32(0)}),
    "straight grid": ([N("GridSample", ["x", "g"], ["y"])], {"g": GRID}),
    "bent grid": ([N("GridSample", ["x", "g"], ["y"], padding_mode="border")], {"g": GRID + 0.1 * GRID[..., ::-1]}),
    "einsum with a constant": ([N("Einsum", ["x", "w"], ["y"], equation="bchw,kc->bkhw")], {"w": f(5, 3)}),
    "einsum of two": ([N("Einsum", ["x", "x"], ["y"], equation="bchw,bchv->bcwv")], {}),
    "running total": ([N("CumSum", ["x", "a"], ["y"])], {"a": i64(3)}),
    "scattered": ([N("ScatterND", ["x", "i", "u"], ["y"])], {"i": i64(0, 1, 0, 2).reshape(2, 2), "u": f(2, 6, 8)}),
    "places": ([N("GatherElements", ["x", "i"], ["y"], axis=3)], {"i": np.tile(i64(7, 0, 3), (1, 3, 6, 1))}),
    "stack of matrices": ([N("MatMul", ["x", "w"], ["y"])], {"w": f(1, 3, 8, 4)}),
    "over dimension 0": ([N("Concat", ["x", "x"], ["c"], axis=0), N("ReduceMax", ["c"], ["y"], axes=[0], keepdims=0)],
                         {}),
    "shrunk with a filter": ([N("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1)],
                             {"s": np.array([1, 1, 0.5, 0.5], np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_native_is_onnxruntime_and_device_is_emulator(name: str) -> None:
    nodes, constants = CASES[name]
    built = model(nodes, [("x", [1, 3, 6, 8])], [("y", None)], constants, 20 if "grid" in name else 18)
    if nodes[-1].op_type in ("ArgMax", "ArgMin"):
        built.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    if name == "bytes":
        built.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    if name == "over dimension 0":
        del nodes[-1].attribute[0]
        built = model([nodes[0], N("ReduceMax", ["c", "a"], ["y"], keepdims=0)], [("x", [1, 3, 6, 8])], [("y", None)],
                      {"a": i64(0)}, 18)  # fmt: skip
    network = compare(built.SerializeToString()).network
    run_passes(network, (DecomposeMatmul(),))
    assert_same_bytes(freeze(network))


def test_a_known_output_and_an_input_handed_through() -> None:
    nodes = [
        N("Relu", ["x"], ["y"]), N("Mul", ["x", "one"], ["same"]), N("Add", ["anchors", "zero"], ["boxes"]),
    ]  # fmt: skip
    constants = {"one": np.float32(1), "zero": np.float32(0), "anchors": f(1, 4, 3)}
    outputs = [("y", None), ("same", None), ("boxes", None)]
    network = compare(model(nodes, [("x", [1, 3, 4, 4])], outputs, constants, 18).SerializeToString()).network
    assert_same_bytes(freeze(network))
