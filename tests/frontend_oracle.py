# SPDX-License-Identifier: Apache-2.0
"""A small float executor in numpy for parsed networks, independent of the emulator, and comparison with onnxruntime."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from headrace.numerics.reference import ReferenceOps
from interpreters import float_values
from parsing import parse_onnx

REFERENCE = ReferenceOps()


class NumpyOps:
    """headrace.numerics.ops.FloatOps in float64."""

    def convolve(self, x, kernel, bias, *, strides, padding, dilations, groups):
        t, l, b, r = padding
        x = np.pad(x, ((0, 0), (t, b), (l, r), (0, 0)))
        kh, kw, cin, cout = kernel.shape
        oh = (x.shape[1] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
        ow = (x.shape[2] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
        y = np.zeros((x.shape[0], oh, ow, cout))
        k = kernel.astype(np.float64).reshape(kh, kw, cin, groups, cout // groups)
        for i in range(kh):
            for j in range(kw):
                top, left = i * dilations[0], j * dilations[1]
                p = x[
                    :,
                    top : top + (oh - 1) * strides[0] + 1 : strides[0],
                    left : left + (ow - 1) * strides[1] + 1 : strides[1],
                ]
                p = p.reshape(*p.shape[:3], groups, cin)
                y += np.einsum("nhwgc,cgm->nhwgm", p, k[i, j]).reshape(y.shape)
        return y if bias is None else y + bias

    def dense(self, x, kernel, bias):
        return x @ kernel.astype(np.float64) + (0 if bias is None else bias)

    def constant(self, value, like):
        return value.astype(np.float64)

    add, subtract, multiply, exp, tanh, sin = np.add, np.subtract, np.multiply, np.exp, np.tanh, np.sin
    floor, round = np.floor, np.rint

    def log(self, x):
        with np.errstate(all="ignore"):
            return np.log(x)

    def sqrt(self, x):
        with np.errstate(all="ignore"):
            return np.sqrt(x)

    def erf(self, x):
        return np.vectorize(math.erf)(x) if x.size else x

    def affine(self, x, scale, offset):
        return x * scale + offset

    def clip(self, x, low, high):
        return np.clip(x, low, high)

    def where_negative(self, x, if_negative, otherwise):
        return np.where(x < 0, if_negative, otherwise)

    def sigmoid(self, x):
        return 1 / (1 + np.exp(-x))

    def reciprocal(self, x):
        return 1 / x

    def _windows(self, x, window, strides, padding, fill):
        t, l, b, r = padding
        x = np.pad(x, ((0, 0), (t, b), (l, r), (0, 0)), constant_values=fill)
        view = np.lib.stride_tricks.sliding_window_view(x, tuple(window), axis=(1, 2))
        return view[:, :: strides[0], :: strides[1]]

    def window_mean(self, x, *, window, strides, padding, count_padding):
        total = self._windows(x, window, strides, padding, 0).sum((-1, -2))
        if count_padding:
            return total / (window[0] * window[1])
        return total / self._windows(np.ones_like(x), window, strides, padding, 0).sum((-1, -2))

    def window_max(self, x, *, window, strides, padding):
        return self._windows(x, window, strides, padding, -np.inf).max((-1, -2))

    def reduce_max(self, x, axes):
        return x.max(tuple(axes), keepdims=True)

    def reduce_sum(self, x, axes):
        return x.sum(tuple(axes), keepdims=True)

    def softmax(self, x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def matmul(self, a, b):
        return a @ b

    def concat(self, xs, axis):
        return np.concatenate(xs, axis)

    def depth_to_space(self, x, block, blocks_first):
        return REFERENCE.depth_to_space(x, block, blocks_first)

    def space_to_depth(self, x, block, blocks_first):
        return REFERENCE.space_to_depth(x, block, blocks_first)

    def gather(self, x, rows, columns):
        return REFERENCE.gather(x, rows, columns)

    def interpolate(self, x, rows, columns):
        for axis, (indices, coefficients) in ((1, rows), (2, columns)):
            shape = [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1]
            x = sum(np.take(x, indices[:, k], axis) * coefficients[:, k].reshape(shape) for k in (0, 1))
        return x

    def slice(self, x, starts, steps, sizes):
        pieces = tuple(slice(a, a + (n - 1) * s + 1, s) for a, s, n in zip(starts, steps, sizes, strict=True))
        return x[(slice(None), *pieces)]

    def pad(self, x, before, after, value):
        return np.pad(x, [(0, 0), *zip(before, after, strict=True)], constant_values=value)

    def transpose(self, x, permutation):
        return x.transpose(0, *(p + 1 for p in permutation))

    def reshape(self, x, shape):
        return x.reshape(x.shape[0], *shape)


def to_hn(array, layer):
    """A source input tensor as the HN tensor of its input layer (the inverse of what the attributes state)."""
    shape, permutation = layer.attributes["shape"], layer.attributes["source_permutation"]
    batch = array.size // int(np.prod([size for size in shape if size > 0]))
    permuted = array.reshape([batch if shape[p] == -1 else shape[p] for p in permutation])
    return permuted.transpose(np.argsort(permutation)).astype(np.float64)


def run_network(network, feeds):
    """Outputs in source layout by source name, from source inputs by source name."""
    given = {x.name: to_hn(feeds[x.attributes["source_name"]], x) for x in network.input_layers}
    values = float_values(network, given, NumpyOps())
    outputs = {}
    for layer in network.output_layers:
        a = layer.attributes
        outputs[a["source_name"]] = values[layer.name].transpose(a["source_permutation"]).reshape(a["source_shape"])
    return outputs


def session(data):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def compare(data, input_shapes=None, *, batch=1, seed=0, tolerance=1e-4, low=-1.0, high=1.0, **options):
    """Parse and run both; returns the parse result. Differences above ``tolerance`` of the output range fail."""
    raw = data if isinstance(data, bytes) else data.read_bytes()
    result = parse_onnx(data, input_shapes=input_shapes, **options)
    runtime = session(raw)
    rng = np.random.default_rng(seed)
    feeds = {}
    for layer in result.network.input_layers:
        shape = [batch if s == -1 else s for s in layer.attributes["source_shape"]]
        ranks = {i.name: len(i.shape) for i in runtime.get_inputs()}
        if len(shape) > ranks[layer.attributes["source_name"]]:  # all that the file computes at once is one frame
            shape = shape[1:]
        feeds[layer.attributes["source_name"]] = rng.uniform(low, high, shape).astype(np.float32)
    wanted = dict(zip([o.name for o in runtime.get_outputs()], runtime.run(None, feeds), strict=True))
    got = run_network(result.network, feeds)
    assert list(got) == list(wanted)
    for name, reference in wanted.items():
        assert got[name].shape == reference.shape, name
        span = max(float(np.ptp(reference)), 1e-3, float(np.abs(reference).max()) * 1e-2)
        assert np.abs(got[name] - reference).max() <= tolerance * span, name
    return result


def model(nodes, inputs, outputs, initializers=(), opset=13, **kwargs):
    """A small model; inputs and outputs are (name, shape), initializers name → array."""

    def info(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes, "g", [info(*i) for i in inputs], [info(*o) for o in outputs],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in dict(initializers).items()],
    )  # fmt: skip
    kwargs.setdefault("ir_version", 8)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **kwargs)


RNG = np.random.default_rng(7)


def f(*shape, low=-1.0, high=1.0):
    return RNG.uniform(low, high, shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def one(op, shape, out=None, *, extra=(), opset=13, options=None, **attributes):
    """One node on input x; ``extra`` are (name, array) constants after it; None leaves an input out."""
    names = ["x", *(("" if e is None else f"c{i}") for i, e in enumerate(extra))]
    constants = {f"c{i}": e for i, e in enumerate(extra) if e is not None}
    node = helper.make_node(op, names, ["y"], **attributes)
    built = model([node], [("x", shape)], [("y", out)], constants, opset)
    return compare(built.SerializeToString(), **(options or {}))


def kinds(result):
    return [layer.kind for layer in result.network if layer.kind not in ("input_layer", "output_layer")]
