# SPDX-License-Identifier: Apache-2.0
"""Outputs that join unlike values, by random nestings of what exporters put behind a detector's heads.

A network's heads give parts of wildly different sizes; a tail of concatenations, transpositions, reshapes and slices
makes an output of them. The same tail, given numbers instead of the parts, says where each part lies. Then every part
must be near onnxruntime, and the device must give the emulator's bytes and its very floats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.runner import ClientRunner, InferenceContext

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Array = np.ndarray[Any, Any]
OPTIONS = """
model_optimization_flavor(optimization_level=1)
"""


class Graph:
    """Nodes and constants; a tensor is its name and shape."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def constant(self, value: Array) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.shapes[name] = shape
        return name

    def cat(self, parts: list[str], axis: int) -> str:
        shape = list(self.shapes[parts[0]])
        shape[axis] = sum(self.shapes[p][axis] for p in parts)
        return self.node("Concat", parts, tuple(shape), axis=axis)

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: str, order: tuple[int, ...]) -> str:
        return self.node("Transpose", [x], tuple(self.shapes[x][i] for i in order), perm=list(order))

    def cut(self, x: str, axis: int, start: int, stop: int) -> str:
        shape = list(self.shapes[x])
        shape[axis] = stop - start
        ends = [self.constant(np.array([v], np.int64)) for v in (start, stop, axis)]
        return self.node("Slice", [x, *ends], tuple(shape))


# --- tails: parts [1, c, a, b] of one or two scales → an output -----------------------------------------------------


def flat(g: Graph, x: str) -> str:
    n, c, a, b = g.shapes[x]
    return g.reshape(x, (n, c, a * b))


def boxes_then_anchors(g: Graph, scales: list[list[str]]) -> str:
    return g.cat([g.cat([flat(g, p) for p in parts], 1) for parts in scales], 2)


def anchors_then_boxes(g: Graph, scales: list[list[str]]) -> str:
    return g.cat([g.cat([flat(g, parts[i]) for parts in scales], 2) for i in range(len(scales[0]))], 1)


def joined_as_images(g: Graph, scales: list[list[str]]) -> str:
    return g.cat([flat(g, g.cat(parts, 1)) for parts in scales], 2)


def anchors_first(g: Graph, scales: list[list[str]]) -> str:
    turned = [[g.transpose(flat(g, p), (0, 2, 1)) for p in parts] for parts in scales]
    return g.cat([g.cat(parts, 2) for parts in turned], 1)


def transposed(g: Graph, scales: list[list[str]]) -> str:
    return g.transpose(anchors_then_boxes(g, scales), (0, 2, 1))


def one_image(g: Graph, scales: list[list[str]]) -> str:
    return g.cat(scales[0], 1)


def image_channels_last(g: Graph, scales: list[list[str]]) -> str:
    return g.transpose(one_image(g, scales), (0, 2, 3, 1))


def cut_and_joined_again(g: Graph, scales: list[list[str]]) -> str:
    whole = boxes_then_anchors(g, scales)
    channels = g.shapes[whole][1]
    at = int(g.rng.integers(1, channels))
    return g.cat([g.cut(whole, 1, at, channels), g.cut(whole, 1, 0, at)], 1)


def vectors(g: Graph, scales: list[list[str]]) -> str:
    """Pooled to one value per channel, as heads of regression have."""
    pooled = [g.node("GlobalAveragePool", [p], (*g.shapes[p][:2], 1, 1)) for p in scales[0]]
    return g.cat([g.reshape(p, (1, g.shapes[p][1])) for p in pooled], 1)


def interleaved(g: Graph, scales: list[list[str]]) -> str:
    """Key points: the channels of all parts in turn, as x, y, visibility of each point."""
    least = min(g.shapes[p][1] for p in scales[0])
    points = [flat(g, g.cut(p, 1, 0, least)) for p in scales[0]]
    anchors = g.shapes[points[0]][2]
    apart = [g.reshape(p, (1, least, 1, anchors)) for p in points]
    return g.reshape(g.cat(apart, 2), (1, least * len(points), anchors))


TAILS: list[Callable[[Graph, list[list[str]]], str]] = [
    boxes_then_anchors,
    anchors_then_boxes,
    joined_as_images,
    anchors_first,
    transposed,
    one_image,
    image_channels_last,
    cut_and_joined_again,
    vectors,
    interleaved,
]


class Case:
    """A network with a tail, and where each part of its output lies."""

    def __init__(self, tail: Callable[[Graph, list[list[str]]], str], seed: int, path: Path) -> None:
        rng = np.random.default_rng(seed)
        g = Graph(rng)
        widths = [int(rng.integers(1, 5)) for _ in range(int(rng.integers(2, 4)))]
        sizes = rng.permutation(np.array([640.0, 1.0, 0.02, 30.0]))[: len(widths)]
        sides = [8, 4] if tail not in (one_image, image_channels_last, vectors, interleaved) else [8]
        scales: list[list[str]] = []
        for side in sides:
            step = 16 // side
            fan = g.constant(rng.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32))
            x = g.node("Conv", ["image", fan], (1, 6, side, side), strides=[step, step], pads=[1, 1, 1, 1])
            x = g.node("Relu", [x], g.shapes[x])
            scales.append([self.head(g, x, w, size) for w, size in zip(widths, sizes, strict=True)])
        self.shapes = {p: g.shapes[p] for parts in scales for p in parts}
        before = len(g.nodes)
        output = tail(g, scales)
        self.path = str(path / "net.onnx")
        self.save(g, g.nodes, ["image"], {"image": (1, 3, 16, 16)}, output, self.path)
        self.labels = self.places(g, g.nodes[before:], scales, output, path)

    @staticmethod
    def head(g: Graph, x: str, width: int, size: float) -> str:
        channels = g.shapes[x][1]
        kernel = g.constant((g.rng.normal(0, 0.6, (width, channels, 1, 1))).astype(np.float32))
        bias = g.constant(g.rng.normal(0, 0.3, width).astype(np.float32))
        shape = (1, width, *g.shapes[x][2:])
        y = g.node("Conv", [x, kernel, bias], shape)
        if g.rng.integers(2):
            y = g.node("Sigmoid", [y], shape)
        return g.node("Mul", [y, g.constant(np.array(size, np.float32))], shape)

    @staticmethod
    def save(g: Graph, nodes: list[Any], names: list[str], shapes: dict[str, Any], output: str, path: str) -> None:
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in names]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, g.shapes[output])]
        graph = helper.make_graph(nodes, "net", inputs, outputs, g.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)

    def places(self, g: Graph, nodes: list[Any], scales: list[list[str]], output: str, path: Path) -> Array:
        """The number of the part (alike over the scales) at each place of the output."""
        names = [p for parts in scales for p in parts]
        self.save(g, nodes, names, self.shapes, output, str(path / "labels.onnx"))
        feeds = {p: np.full(self.shapes[p], i, np.float32) for parts in scales for i, p in enumerate(parts)}
        return session(str(path / "labels.onnx")).run(None, feeds)[0].astype(int)

    def want(self, frames: Array) -> Array:
        run = session(self.path)
        return np.concatenate([run.run(None, {"image": frame[None]})[0] for frame in frames])


def session(path: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def about_the_mean(want: Array, got: Array) -> float:
    noise = float(np.square(want - got).sum())
    return 10 * np.log10(float(np.square(want - want.mean()).sum()) / max(noise, 1e-30))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("tail", TAILS)
def test_every_part_keeps_its_bits(tail: Callable[[Graph, list[list[str]]], str], seed: int, tmp_path: Path) -> None:
    case = Case(tail, seed * 100 + TAILS.index(tail), tmp_path)
    frames = np.random.default_rng(seed).random((24, 3, 16, 16), np.float32)
    want = case.want(frames)
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(case.path, "net")
    runner.load_model_script(OPTIONS)
    images = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    runner.optimize(images)
    runner.compile()
    for codes in (True, False):
        emulated = runner.infer(InferenceContext.SDK_QUANTIZED, images, quantized_io=codes, source_layout=True)
        on_device = runner.infer(InferenceContext.SDK_HAILO_HW, images, quantized_io=codes, source_layout=True)
        assert emulated.dtype == on_device.dtype
        assert np.array_equal(emulated, on_device), "emulator and device"
    got = np.asarray(on_device).reshape(want.shape)
    noisy = {
        int(part): round(about_the_mean(want[:, case.labels[0] == part], got[:, case.labels[0] == part]), 1)
        for part in np.unique(case.labels)
    }
    assert min(noisy.values()) >= 20, noisy
