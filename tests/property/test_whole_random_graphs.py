# SPDX-License-Identifier: Apache-2.0
"""Graphs at random with nodes that no device computes at random places: the whole model is what onnxruntime gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from onnx import TensorProto, helper, numpy_helper

from frontend_oracle import session
from headrace.errors import HeadraceError, UnsupportedModelError
from headrace.hn import archive
from headrace.hn.whole import DeviceStep, OnnxStep
from headrace.runner import ClientRunner, InferenceContext

CHANNELS, SIZE = 4, 6


class Maker:
    """A graph of tensors N×4×6×6, grown node by node."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.tensors = ["x"]

    def weight(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def node(self, operator: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names

    def pick(self) -> str:
        return str(self.rng.choice(self.tensors[-4:]))

    def usual(self) -> None:
        kind = int(self.rng.integers(5))
        if kind < 2:
            kernel = self.rng.normal(0, 0.3, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
            (name,) = self.node("Conv", [self.pick(), self.weight(kernel)], pads=[1, 1, 1, 1])
        elif kind == 2:
            (name,) = self.node("Relu", [self.pick()])
        elif kind == 3:
            (name,) = self.node("Add", [self.pick(), self.pick()])
        else:
            (name,) = self.node("MaxPool", [self.pick()], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        self.tensors.append(name)

    def unusual(self) -> None:
        """Some nodes that a device does not compute, between tensors as all others."""
        kind = int(self.rng.integers(5))
        source = self.pick()
        if kind == 0:
            (whole,) = self.node("Cast", [source], to=TensorProto.INT64)
            (half,) = self.node("BitShift", [self.node("Cast", [whole], to=TensorProto.UINT64)[0], self.weight(
                np.array(0, np.uint64))], direction="LEFT")  # fmt: skip
            (name,) = self.node("Cast", [half], to=TensorProto.FLOAT)
        elif kind == 1:
            name, _ = self.node("TopK", [source, self.weight(np.array([SIZE], np.int64))], 2, axis=3)
        elif kind == 2:
            (scaled,) = self.node("Mul", [source, self.weight(np.float32(0.5))])
            (big,) = self.node("IsInf", [scaled])
            (name,) = self.node("Where", [big, source, scaled])
        elif kind == 3:
            (found,) = self.node("ArgMax", [source], axis=1, keepdims=1)
            (real,) = self.node("Cast", [found], to=TensorProto.FLOAT)
            (name,) = self.node("Add", [source, real])
        else:
            (shape,) = self.node("Shape", [source])
            (zeros,) = self.node("ConstantOfShape", [shape])
            (order,) = self.node("NonZero", [zeros])
            (count,) = self.node("Size", [order])
            (real,) = self.node("Cast", [count], to=TensorProto.FLOAT)
            (name,) = self.node("Add", [source, real])
        self.tensors.append(name)

    def model(self, batch: int | str) -> bytes:
        outputs = list(dict.fromkeys([self.tensors[-1], self.pick()]))
        info = helper.make_tensor_value_info
        kind, shape = TensorProto.FLOAT, [batch, CHANNELS, SIZE, SIZE]
        weights = [numpy_helper.from_array(a, n) for n, a in self.weights.items()]
        ends = [info("x", kind, shape)], [info(o, kind, shape) for o in outputs]
        graph = helper.make_graph(self.nodes, "g", *ends, weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return made.SerializeToString()


def made(seed: int) -> tuple[bytes, int | str]:
    maker = Maker(seed)
    for _ in range(int(maker.rng.integers(4, 12))):
        maker.unusual() if maker.rng.random() < 0.25 else maker.usual()
    batch = maker.rng.choice(["N", "1", "2"])
    return maker.model("N" if batch == "N" else int(batch)), "N" if batch == "N" else int(batch)


@pytest.mark.parametrize("seed", range(40))
def test_the_whole_model_is_the_file(seed: int) -> None:
    data, batch = made(seed)
    runner = ClientRunner("hailo8")
    try:
        runner.translate_onnx_model(data, "net")
    except UnsupportedModelError as error:
        assert "UNSUPPORTED" in error.code
        pytest.skip("no part of it is worth a device")
    steps = runner.archive.whole.steps
    assert sum(isinstance(step, DeviceStep) for step in steps) == 1
    assert all(isinstance(step, DeviceStep | OnnxStep) for step in steps)
    frames = 3 if batch == "N" else batch
    x = np.random.default_rng(seed + 1).uniform(-4, 4, (frames, CHANNELS, SIZE, SIZE)).astype(np.float32)
    runtime = session(data)
    names = [o.name for o in runtime.get_outputs()]
    wanted = runtime.run(names, {"x": x})
    runner._archive = archive.loads(runner.dump_har(), "x")
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        got = runner.infer(context, {"x": x}, whole=True)
    for name, want, found in zip(names, wanted, got if len(names) > 1 else [got], strict=True):
        assert found.shape == want.shape and found.dtype == want.dtype, name
        assert np.abs(found - want).max() <= 1e-4 * max(np.ptp(want), 1e-3), name


def test_most_graphs_have_a_part_for_the_device() -> None:
    placed = 0
    for seed in range(40):
        runner = ClientRunner("hailo8")
        try:
            runner.translate_onnx_model(made(seed)[0], "net")
        except UnsupportedModelError:
            continue
        placed += len(runner.archive.whole.steps) > 1
    assert placed >= 12


@pytest.mark.parametrize("seed", range(40))
def test_named_ends_keep_the_rest_of_the_file(seed: int) -> None:
    data, batch = made(seed)
    rng = np.random.default_rng(seed)
    nodes = [node for node in onnx.ModelProto.FromString(data).graph.node if node.output[0]]
    count = int(rng.integers(1, 3))
    ends = [nodes[i].output[0] for i in rng.choice(len(nodes), count, replace=False)]
    starts = [nodes[i].output[0] for i in rng.choice(len(nodes) // 2 + 1, int(rng.integers(0, 2)), replace=False)]
    runner = ClientRunner("hailo8")
    try:
        runner.translate_onnx_model(data, "net", start_node_names=starts, end_node_names=ends)
    except HeadraceError as error:
        assert error.code.startswith("E-")
        pytest.skip("what was named does not translate")
    told = " ".join(runner.parse_report["warnings"])
    frames = 3 if batch == "N" else batch
    x = np.random.default_rng(seed + 1).uniform(-4, 4, (frames, CHANNELS, SIZE, SIZE)).astype(np.float32)
    runtime = session(data)
    names = [o.name for o in runtime.get_outputs()]
    if "the rest of the file is left out" in told:
        assert [t.name for t in runner.archive.whole.outputs] == list(dict.fromkeys(ends))
        return
    assert [t.name for t in runner.archive.whole.outputs] == names or set(names) == set(ends)
    wanted = runtime.run([t.name for t in runner.archive.whole.outputs], {"x": x})
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        got = runner.infer(context, {"x": x}, whole=True)
    for name, want, found in zip(names, wanted, got if len(names) > 1 else [got], strict=True):
        assert found.shape == want.shape and found.dtype == want.dtype, name
        assert np.abs(found - want).max() <= 1e-4 * max(np.ptp(want), 1e-3), name
