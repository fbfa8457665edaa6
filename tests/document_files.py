# SPDX-License-Identifier: Apache-2.0
"""Small files with the names that documents give theirs, beside those that every document may name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keras_samples import sample
from small_tensorflow import Kind, Shape, SmallGraph, write_checkpoint
from small_tflite import SmallModel

RNG = np.random.default_rng(4)


def _host(folder: Path) -> None:
    """A network whose last node chooses by value."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("TopK", ["f", "two"], ["best", "which"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])]
    outputs = [helper.make_tensor_value_info(name, kind, [1, 2]) for name, kind in (("best", 1), ("which", 7))]
    weights = RNG.normal(size=(8, 3, 3, 3)).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([2]), "two")]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "detector.onnx")
    np.save(folder / "images.npy", RNG.normal(size=(16, 16, 16, 3)).astype(np.float32))
    np.save(folder / "frames.npy", RNG.normal(size=(4, 3, 16, 16)).astype(np.float32))


def _keras(folder: Path) -> None:
    for form in ("keras", "h5"):
        (folder / f"model.{form}").write_bytes(sample(f"conv2d.{form}"))


def _tensorflow(folder: Path) -> None:
    kernel = RNG.normal(size=(3, 3, 1, 2)).astype(np.float32)

    def graph(variable: bool) -> SmallGraph:
        made = SmallGraph()
        x, real = made.input(None, 64, 64, 1), Kind("float32")
        w = made.op("VariableV2", name="w", T=None, dtype=real, shape=Shape(kernel.shape)) if variable else "w"
        w = made.op("Identity", [w], name="w/read") if variable else made.const(kernel, "w")
        y = made.op("Conv2D", [x, w], strides=[1, 1, 1, 1], padding="SAME")
        made.op("Relu", [y], name="logits")
        return made

    frozen = graph(False)
    (folder / "frozen.pb").write_bytes(frozen.bytes())
    (folder / "saved_model_folder").mkdir()
    saved = frozen.saved({"x": "x:0"}, {"logits": "logits:0"})
    (folder / "saved_model_folder" / "saved_model.pb").write_bytes(saved)
    (folder / "checkpoints").mkdir()
    for place in (folder / "checkpoints", folder):
        write_checkpoint(place, graph(True), {"w": kernel})


def _quantized(folder: Path) -> None:
    model = SmallModel()
    x = model.input(1, 224, 224, 3, kind="int8", scale=[1.0], zero=[-128])
    kernel = model.constant(RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), scale=[0.01], zero=[0])
    bias = model.constant(np.zeros(4, np.int32), scale=[0.01], zero=[0])
    shape = (1, 112, 112, 4)
    made = model.tensor(shape, "int8", scale=[8.0], zero=[0])
    strides = {"stride_h": 2, "stride_w": 2}
    (y,) = model.op("CONV_2D", [x, kernel, bias], shape, outputs=[made], **strides)
    (folder / "mobilenet_quant.tflite").write_bytes(model.bytes(y))


#: Document → what puts its files into a folder.
FILES = {
    "docs/guide/host.md": _host,
    "docs/guide/parsing-keras.md": _keras,
    "docs/guide/parsing-tensorflow.md": _tensorflow,
    "docs/guide/quantized-files.md": _quantized,
}
