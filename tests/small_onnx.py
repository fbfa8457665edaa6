# SPDX-License-Identifier: Apache-2.0
"""A small trained-looking ONNX network made on the spot, for tests that need a file but no zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def small_model(seed: int = 0, width: int = 8, size: int = 16) -> Any:
    """Convolution, batch norm, ReLU, residual, SE gate, pooling, Gemm, Softmax; input ``[N, 3, size, size]``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    r = np.random.default_rng(seed)
    nodes, weights = [], []

    def weight(name: str, *shape: int, scale: float | None = None) -> str:
        fan = int(np.prod(shape[1:])) or 1
        value = r.normal(0, scale or 1.0 / np.sqrt(fan), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(value, name))
        return name

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    w = width
    nodes.append(
        helper.make_node("Conv", ["input", weight("w1", w, 3, 3, 3), weight("b1", w)], ["c1"], "conv1", pads=[1] * 4)
    )
    for name, value in (("s", 1.1), ("o", 0.1), ("m", 0.05), ("v", 0.9)):
        constant(f"bn_{name}", np.full(w, value, np.float32))
    nodes.append(helper.make_node("BatchNormalization", ["c1", "bn_s", "bn_o", "bn_m", "bn_v"], ["n1"], "bn1"))
    nodes.append(helper.make_node("Relu", ["n1"], ["r1"], "relu1"))
    nodes.append(
        helper.make_node("Conv", ["r1", weight("w2", w, w, 3, 3), weight("b2", w)], ["c2"], "conv2", pads=[1] * 4)
    )
    nodes.append(helper.make_node("Add", ["c2", "r1"], ["a1"], "add1"))
    nodes.append(helper.make_node("Relu", ["a1"], ["r2"], "relu2"))
    nodes.append(helper.make_node("GlobalAveragePool", ["r2"], ["g1"], "pool1"))
    nodes.append(helper.make_node("Conv", ["g1", weight("w3", w, w, 1, 1), weight("b3", w)], ["c3"], "conv3"))
    nodes.append(helper.make_node("HardSigmoid", ["c3"], ["h1"], "gate1"))
    nodes.append(helper.make_node("Mul", ["r2", "h1"], ["m1"], "mul1"))
    nodes.append(helper.make_node("MaxPool", ["m1"], ["p1"], "pool2", kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("GlobalAveragePool", ["p1"], ["g2"], "pool3"))
    nodes.append(helper.make_node("Flatten", ["g2"], ["f1"], "flatten1"))
    nodes.append(
        helper.make_node("Gemm", ["f1", weight("w4", 5, w, scale=2.0), weight("b4", 5)], ["logits"], "fc1", transB=1)
    )
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def write_small(folder: Path, **options: Any) -> tuple[Path, Path]:
    """Writes the model and calibration frames (float NHWC ``.npy``); returns both paths."""
    import onnx

    model, frames = folder / "small.onnx", folder / "calibration.npy"
    onnx.save(small_model(**options), model)
    size = options.get("size", 16)
    np.save(frames, np.random.default_rng(3).normal(0, 1, (32, size, size, 3)).astype(np.float32))
    return model, frames
