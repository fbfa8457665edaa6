# SPDX-License-Identifier: Apache-2.0
"""Graphs of public detectors as their exporters write them: every layer, its order and its readers; few channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Channels everywhere: numbers of layers do not depend on them.
WIDTH = 4


class Detector:
    """A network under construction; tensors are names, as in the file."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.channels = {"images": 3}

    def node(self, kind: str, inputs: Sequence[str], channels: int, **attributes: Any) -> str:
        from onnx import helper

        result = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], result, **attributes))
        self.channels[result] = channels
        return result

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def convolution(self, x: str, kernel: int = 1, stride: int = 1, groups: int = 1, width: int = WIDTH) -> str:
        kernels = np.full((width, self.channels[x] // groups, kernel, kernel), 0.01, np.float32)
        kernels += np.float32(len(self.weights) / 1e4)  # no two convolutions are the same
        pads = [kernel // 2] * 4
        inputs = [x, self.constant(kernels)]
        return self.node("Conv", inputs, width, strides=[stride] * 2, pads=pads, group=groups)

    def silu(self, x: str) -> str:
        width = self.channels[x]
        return self.node("Mul", [x, self.node("Sigmoid", [x], width)], width)

    def conv(self, x: str, kernel: int = 1, stride: int = 1) -> str:
        return self.silu(self.convolution(x, kernel, stride))

    def depthwise(self, x: str) -> str:
        return self.silu(self.convolution(x, 3, 1, self.channels[x], self.channels[x]))

    def concat(self, *parts: str) -> str:
        return self.node("Concat", parts, sum(self.channels[x] for x in parts), axis=1)

    def up(self, x: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, "", scales], self.channels[x], mode="nearest", **modes)

    def halves(self, x: str) -> list[str]:
        half = self.channels[x] // 2
        return [
            self.node(
                "Slice", [x, self.constant([i * half]), self.constant([(i + 1) * half]), self.constant([1])], half
            )
            for i in range(2)
        ]

    def bottleneck(self, x: str, shortcut: bool) -> str:
        inner = self.silu(self.convolution(self.conv(x, 3), 3, width=self.channels[x]))
        return self.node("Add", [x, inner], self.channels[x]) if shortcut else inner

    def c2f(self, x: str, count: int, shortcut: bool) -> str:
        """YOLOv8's block: halves, bottlenecks in a row, everything joined."""
        parts = self.halves(self.conv(x))
        for _ in range(count):
            parts.append(self.bottleneck(parts[-1], shortcut))
        return self.conv(self.concat(*parts))

    def c3(self, x: str, count: int, shortcut: bool) -> str:
        """YOLOv5's block: bottlenecks in a row beside a convolution."""
        long = self.conv(x)
        for _ in range(count):
            long = self.bottleneck(long, shortcut)
        return self.conv(self.concat(long, self.conv(x)))

    def pyramid(self, x: str) -> str:
        """SPPF: three poolings in a row, joined."""
        parts = [self.conv(x)]
        for _ in range(3):
            pool = {"kernel_shape": [5, 5], "pads": [2] * 4}
            parts.append(self.node("MaxPool", [parts[-1]], WIDTH, **pool))
        return self.conv(self.concat(*parts))

    def model(self, outputs: Sequence[str]) -> Any:
        from onnx import TensorProto, helper

        entry = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, self.size, self.size])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "detector", [entry], ends, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model


def yolov8(depth: float, depthwise: bool = False) -> tuple[Any, list[tuple[str, str]]]:
    """YOLOv8 with this multiple of its depth, and the box and class tensors in front of its decoding, by stride.

    Args:
        depth: 1/3 of n and s, 2/3 of m, 1 of l.
        depthwise: class branches of depthwise and pointwise convolutions, as in YOLOv10 and YOLO11.
    """
    net = Detector(64)
    counts = [max(round(n * depth), 1) for n in (3, 6)]
    few, many = counts
    x = net.c2f(net.conv(net.conv("images", 3, 2), 3, 2), few, True)
    p3 = net.c2f(net.conv(x, 3, 2), many, True)
    p4 = net.c2f(net.conv(p3, 3, 2), many, True)
    p5 = net.pyramid(net.c2f(net.conv(p4, 3, 2), few, True))
    n4 = net.c2f(net.concat(net.up(p5), p4), few, False)
    n3 = net.c2f(net.concat(net.up(n4), p3), few, False)
    n4 = net.c2f(net.concat(net.conv(n3, 3, 2), n4), few, False)
    n5 = net.c2f(net.concat(net.conv(n4, 3, 2), p5), few, False)
    levels = (n3, n4, n5)
    boxes = [net.convolution(net.conv(net.conv(x, 3), 3)) for x in levels]  # the exporter writes all boxes first
    classes: list[str] = []
    for x in levels:
        for _ in range(2):
            x = net.conv(net.depthwise(x)) if depthwise else net.conv(x, 3)
        classes.append(net.convolution(x))
    return net.model([*boxes, *classes]), list(zip(boxes, classes, strict=True))


def yolov5(depth: float) -> tuple[Any, list[str]]:
    """YOLOv5 (6.1) with this multiple of its depth, and the tensors in front of its decoding, by stride."""
    net = Detector(64)
    three, six, nine = (max(round(n * depth), 1) for n in (3, 6, 9))
    x = net.c3(net.conv(net.conv("images", 3, 2), 3, 2), three, True)
    p3 = net.c3(net.conv(x, 3, 2), six, True)
    p4 = net.c3(net.conv(p3, 3, 2), nine, True)
    p5 = net.conv(net.pyramid(net.c3(net.conv(p4, 3, 2), three, True)))
    m4 = net.conv(net.c3(net.concat(net.up(p5), p4), three, False))
    n3 = net.c3(net.concat(net.up(m4), p3), three, False)
    n4 = net.c3(net.concat(net.conv(n3, 3, 2), m4), three, False)
    n5 = net.c3(net.concat(net.conv(n4, 3, 2), p5), three, False)
    heads = [net.convolution(x) for x in (n3, n4, n5)]
    return net.model(heads), heads
