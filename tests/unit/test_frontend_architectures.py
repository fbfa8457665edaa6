# SPDX-License-Identifier: Apache-2.0
"""Small networks with the blocks that real architectures have: parsed, quantized, compiled, run; float against
onnxruntime, every layer's bytes on the device against the emulator's, and what the codes are worth."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
native = pytest.importorskip("headrace.runtime._native")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, model, to_hn  # noqa: E402
from headrace.compiler import CompileOptions, compile_network  # noqa: E402
from headrace.emulator import Executor  # noqa: E402
from headrace.hn import output_quantization  # noqa: E402
from headrace.numerics.quantization import quantize_input  # noqa: E402
from headrace.optimize import OptimizeOptions, optimize  # noqa: E402
from headrace.targets import load_target  # noqa: E402


class Graph:
    """Nodes and constants of one network on the input ``x`` [N, 3, 16, 16]; methods return the result's name."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], {}

    def number(self, value, dtype=np.float32):
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values):
        return self.number(values, np.int64)

    def op(self, operator, *inputs, outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, cin, cout, k=3, stride=1, act="Relu", groups=1):
        weight = self.rng.normal(0, (2 / (cin // groups * k * k)) ** 0.5, (cout, cin // groups, k, k))
        bias = self.number(self.rng.normal(0, 0.1, cout))
        y = self.op("Conv", x, self.number(weight), bias, pads=[k // 2] * 4, strides=[stride] * 2, group=groups)
        return self.op(act, y) if act else y

    def build(self, outputs, opset=17):
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        return model(self.nodes, [("x", ["N", 3, 16, 16])], [(o, None) for o in outputs], self.constants, opset)


def attention(g):
    """Channel and spatial attention (CBAM): means and maxima over channels, gates by sigmoid."""
    x = g.conv("x", 3, 8)
    pooled = g.op("Add", g.op("GlobalAveragePool", x), g.op("GlobalMaxPool", x))
    x = g.op("Mul", x, g.op("Sigmoid", g.conv(pooled, 8, 8, 1, act=None)))
    both = g.op("Concat", g.op("ReduceMean", x, axes=[1]), g.op("ReduceMax", x, axes=[1]), axis=1)
    x = g.op("Mul", x, g.op("Sigmoid", g.conv(both, 2, 1, 7, act=None)))
    return g.op("ReduceMean", x, axes=[2, 3], keepdims=0)


def embedding(g):
    """A vector of length one."""
    v = g.op("Flatten", g.op("GlobalAveragePool", g.conv("x", 3, 16, stride=2)))
    norm = g.op("ReduceL2", v, axes=[1])
    return g.op("Div", v, g.op("Expand", g.op("Max", norm, g.number(1e-12)), g.ints(1, 16)))


def priors(g):
    """An SSD head with its decoding: offsets to prior boxes, sizes by exp, corners, scores by softmax."""
    x = g.conv("x", 3, 8, stride=4)
    rows = 4 * 4 * 2
    place = g.op("Reshape", g.op("Transpose", g.conv(x, 8, 8, act=None), perm=[0, 2, 3, 1]), g.ints(-1, rows, 4))
    score = g.op("Reshape", g.op("Transpose", g.conv(x, 8, 6, act=None), perm=[0, 2, 3, 1]), g.ints(-1, rows, 3))
    prior = g.rng.uniform(0.2, 0.8, (1, rows, 4))
    at, size = (g.op("Slice", place, g.ints(a), g.ints(b), g.ints(2)) for a, b in ((0, 2), (2, 4)))
    at = g.op("Add", g.op("Mul", g.op("Mul", at, g.number(0.1)), g.number(prior[..., 2:])), g.number(prior[..., :2]))
    size = g.op("Mul", g.op("Exp", g.op("Mul", size, g.number(0.2))), g.number(prior[..., 2:]))
    half = g.op("Div", size, g.number(2.0))
    return g.op("Concat", g.op("Sub", at, half), g.op("Add", at, half), axis=2), g.op("Softmax", score, axis=2)


def styled(g):
    """Image to image: reflected borders, instance normalization, nearest resize."""
    x = g.op("Pad", "x", g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
    x = g.op("Conv", x, g.number(g.rng.normal(0, 0.3, (8, 3, 3, 3))))
    x = g.op("InstanceNormalization", x, g.number(np.ones(8)), g.number(np.zeros(8)))
    return g.conv(g.op("Resize", g.op("Relu", x), "", g.number([1, 1, 2, 2]), mode="nearest"), 8, 3, act="Tanh")


def depthwise_gelu(g):
    """A ConvNeXt block: depthwise 7×7, layer norm written out over the last axis, 1×1 as MatMul, GELU, a scale."""
    x = g.conv("x", 3, 8, stride=2, act=None)
    y = g.op("Transpose", g.conv(x, 8, 8, 7, act=None, groups=8), perm=[0, 2, 3, 1])
    centered = g.op("Sub", y, g.op("ReduceMean", y, axes=[-1]))
    variance = g.op("ReduceMean", g.op("Pow", centered, g.number(2.0)), axes=[-1])
    y = g.op("Div", centered, g.op("Sqrt", g.op("Add", variance, g.number(1e-3))))
    y = g.op("MatMul", y, g.number(g.rng.normal(0, 0.4, (8, 16))))
    gate = g.op("Add", g.op("Erf", g.op("Div", y, g.number(np.sqrt(2)))), g.number(1.0))
    y = g.op("Mul", g.op("Mul", y, gate), g.number(0.5))
    y = g.op("Transpose", g.op("MatMul", y, g.number(g.rng.normal(0, 0.3, (16, 8)))), perm=[0, 3, 1, 2])
    return g.op("Add", x, g.op("Mul", y, g.number(g.rng.uniform(0.5, 1, (8, 1, 1)))))


def distribution(g):
    """The DFL head of YOLOv8: split halves, SPPF, softmax over 8 bins, their mean, distances to points."""
    x = g.conv("x", 3, 8, stride=4, act="HardSwish")
    a, b = g.op("Split", x, axis=1, outputs=2)
    pools = [a]
    for _ in range(3):
        pools.append(g.op("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2] * 4))
    x = g.conv(g.op("Concat", *pools, b, axis=1), 20, 32, 1, act=None)
    bins = g.op("Transpose", g.op("Reshape", x, g.ints(-1, 4, 8, 16)), perm=[0, 2, 1, 3])
    mean = g.op("Conv", g.op("Softmax", bins, axis=1), g.number(np.arange(8).reshape(1, 8, 1, 1)))
    near, far = g.op("Split", g.op("Reshape", mean, g.ints(-1, 4, 16)), axis=1, outputs=2)
    points = g.number(g.rng.uniform(0, 4, (1, 2, 16)))
    first, second = g.op("Sub", points, near), g.op("Add", far, points)
    return g.op("Mul", g.op("Concat", first, second, axis=1), g.number(4.0))


def normalized_response(g):
    """A classical stem with local response normalization."""
    x = g.op("LRN", g.conv("x", 3, 8), size=5, alpha=0.2, beta=0.75)
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    return g.op("Softmax", g.op("Flatten", g.op("GlobalAveragePool", g.conv(x, 8, 5))), axis=1)


def upscaler(g):
    """Parametric relus per channel, a transposed convolution, channel shuffle."""
    x = g.op("PRelu", g.conv("x", 3, 8, act=None), g.number(g.rng.uniform(-0.2, 0.5, (8, 1, 1))))
    shuffled = g.op("Transpose", g.op("Reshape", x, g.ints(-1, 2, 4, 16, 16)), perm=[0, 2, 1, 3, 4])
    x = g.conv(g.op("Reshape", shuffled, g.ints(-1, 8, 16, 16)), 8, 8, groups=2, act="LeakyRelu")
    weight = g.number(g.rng.normal(0, 0.2, (8, 3, 4, 4)))
    return g.op("ConvTranspose", x, weight, strides=[2, 2], pads=[1] * 4)


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (attention, 40), (embedding, 35), (priors, 40), (styled, 30), (depthwise_gelu, 30), (distribution, 40),
        (normalized_response, 40), (upscaler, 30),
    ],
)  # fmt: skip
def test_architecture(make, least):
    graph = Graph()
    result = compare(graph.build(make(graph)).SerializeToString(), batch=2)
    network, rng = result.network, np.random.default_rng(1)
    entry = network.input_layers[0]
    frames = {entry.name: to_hn(rng.uniform(-1, 1, (12, 3, 16, 16)).astype(np.float32), entry).astype(np.float32)}
    quantized = optimize(network, {entry.name: frames[entry.name][:8]}, OptimizeOptions(min_snr=0)).network
    part = {entry.name: frames[entry.name][8:]}
    codes = {name: quantize_input(x, output_quantization(quantized[name])) for name, x in part.items()}
    names = [layer.name for layer in quantized if layer.kind not in ("input_layer", "output_layer")]
    want = Executor(quantized, "quantized").run(codes, names, dequantize=False)
    got = (
        native.Device(None, threads=2)
        .load(compile_network(quantized, load_target("hailo8"), CompileOptions()).hef)
        .infer_all(codes)
    )
    for name in names:
        np.testing.assert_array_equal(np.asarray(got[name]).reshape(want[name].shape), want[name], err_msg=name)
    outputs = [layer.name for layer in network.output_layers]
    real = Executor(network, "native").run(part, outputs)
    made = Executor(quantized, "quantized").run(part, outputs, dequantize=True)
    for name in outputs:
        noise = np.sum((real[name] - made[name]) ** 2, dtype=np.float64)
        assert 10 * np.log10(np.sum(real[name] ** 2, dtype=np.float64) / noise) > least, name
