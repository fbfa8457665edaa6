# SPDX-License-Identifier: Apache-2.0
"""Cuts behind joins move in front of them: the same values, and scales of their own for what never had to meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save

from frontend_oracle import session
from headrace.emulator.executor import Executor
from headrace.hn import Layer, Network, check_network
from headrace.passes import run_passes
from headrace.passes.cut_before_join import CutBeforeJoin
from headrace.runner import ClientRunner, InferenceContext
from random_graphs import GraphBuilder


def sliced(b: GraphBuilder, x: str, axis: int, start: int, stop: int) -> str:
    shape = list(b.shape(x)[1:])
    starts = [0] * len(shape)
    starts[axis] = start
    shape[axis] = stop - start
    return b.add("slice", [x], {"starts": starts, "steps": [1] * len(shape), "sizes": shape})


def executed(network: Network, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = {x.name: rng.normal(0, 1, (2, *x.output_shape[1:])).astype(np.float32) for x in network.input_layers}
    return Executor(network, "native").run(data)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.integers(0, 2**31))
def test_nests_of_joins_keep_their_values(draw: st.DataObject, seed: int) -> None:
    """Joins of channels inside joins of rows, seen through reshapes and transpositions, cut anywhere."""
    b = GraphBuilder(seed)
    widths = draw.draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    levels = []
    for height in draw.draw(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3)):
        x = b.input((height, 2, 3))
        joined = b.add("concat", [b.convolution(x, width, 1, same=True) for width in widths], {"axis": 2})
        levels.append(b.add("reshape", [joined], {"shape": [2 * height, 1, sum(widths)]}))
    x = levels[0] if len(levels) == 1 else b.add("concat", levels, {"axis": 0})
    axis = 2
    if draw.draw(st.booleans()):
        x, axis = b.add("transpose", [x], {"permutation": [2, 1, 0]}), 0
    for _ in range(draw.draw(st.integers(1, 3))):
        start = draw.draw(st.integers(0, sum(widths) - 1))
        b.output(b.standalone(sliced(b, x, axis, start, draw.draw(st.integers(start + 1, sum(widths))))))
    if draw.draw(st.booleans()) and draw.draw(st.booleans()):
        b.output(x)  # somebody needs what is joined
    network = b.net
    check_network(network)
    before = executed(network, seed)
    run_passes(network, [CutBeforeJoin()])
    after = executed(network, seed)
    assert before.keys() == after.keys()
    for name, value in before.items():  # the last bit of a transcendental function depends on where in memory it stands
        np.testing.assert_allclose(after[name], value, 1e-6, 1e-6)


def detector(path: Path) -> None:
    """Two levels of boxes and scores from 0 to 1, joined, cut apart and decoded, as YOLOX and YOLOv8 do it."""
    rng = np.random.default_rng(0)
    weights, nodes, levels = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(value, name))
        return name

    def node(kind: str, inputs: list[str], output: str | list[str], **attributes: object) -> str:
        outputs = [output] if isinstance(output, str) else output
        nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    for i, stride in enumerate((2, 4)):
        w = rng.normal(0, 0.4, (8, 3, 3, 3)).astype(np.float32)
        f = node("Conv", ["x", constant(f"w{i}", w)], f"f{i}", pads=[1] * 4, strides=[stride] * 2)
        f = node("Relu", [f], f"r{i}")
        box = node("Conv", [f, constant(f"wb{i}", rng.normal(0, 2, (4, 8, 1, 1)).astype(np.float32))], f"b{i}")
        cls = node("Conv", [f, constant(f"wc{i}", rng.normal(0, 1, (3, 8, 1, 1)).astype(np.float32))], f"c{i}")
        joined = node("Concat", [box, node("Sigmoid", [cls], f"s{i}")], f"j{i}", axis=1)
        levels.append(node("Reshape", [joined, constant(f"h{i}", np.array([1, 7, -1]))], f"v{i}"))
    all_levels = node("Concat", levels, "all", axis=2)
    node("Split", [all_levels, constant("sizes", np.array([4, 3]))], ["boxes", "scores"], axis=1)
    pixels = node("Mul", ["boxes", constant("px", np.float32(32))], "pixels")
    power = node("Mul", ["scores", "scores"], "power")
    node("Concat", [pixels, power], "y", axis=1)
    graph = helper.make_graph(
        nodes, "d", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 7, 80])], weights,
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_what_is_joined_to_be_cut_apart_keeps_its_codes(tmp_path: Path) -> None:
    detector(tmp_path / "d.onnx")
    frames = np.random.default_rng(1).random((24, 3, 16, 16), np.float32)
    oracle = session((tmp_path / "d.onnx").read_bytes())
    want = np.concatenate([oracle.run(["y"], {"x": frame[None]})[0] for frame in frames])
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(tmp_path / "d.onnx", "net")
    images = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    report = runner.optimize(images)
    assert any(record["pass"] == "cut-before-join" for record in report["passes"])
    runner.compile()
    device = runner.infer(InferenceContext.SDK_HAILO_HW, images, source_layout=True)
    assert np.array_equal(device, runner.infer(InferenceContext.SDK_QUANTIZED, images, source_layout=True))
    for part in (slice(0, 4), slice(4, 7)):
        signal = np.square(want[:, part] - want[:, part].mean()).sum()
        noise = np.square(want[:, part] - np.asarray(device).reshape(want.shape)[:, part]).sum()
        assert 10 * np.log10(signal / noise) >= 30, part
    # A score's step is that of its own range, not of the boxes'.
    assert len(np.unique(np.asarray(device).reshape(want.shape)[:, 4:])) > 60


@pytest.mark.parametrize("outputs", [["cut"], ["cut", "join"]])
def test_a_join_that_is_needed_stays(outputs: list[str]) -> None:
    b = GraphBuilder(3)
    x = b.input((4, 4, 3))
    join = b.add("concat", [b.convolution(x, n, 1, same=True) for n in (2, 3)], {"axis": 2})
    b.output(sliced(b, join, 2, 2, 5))
    if "join" in outputs:
        b.output(join)
    records = run_passes(b.net, [CutBeforeJoin()])
    assert bool(records) == ("join" not in outputs)
    assert bool(b.net.of_kind("concat")) == ("join" in outputs)
    assert all(isinstance(layer, Layer) for layer in b.net)
