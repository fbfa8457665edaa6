# SPDX-License-Identifier: Apache-2.0
"""Random graphs against onnxruntime, random layouts against numpy, random damage against the reader."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import NumpyOps, compare, model  # noqa: E402
from headrace.errors import HeadraceError  # noqa: E402
from headrace.frontends.layout import BATCH, LayoutError, arranged_view, permute, plan, regroup  # noqa: E402
from parsing import parse_onnx  # noqa: E402

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class GraphMaker:
    """A random network: a trunk of rank-4 tensors with branches, then perhaps a vector head."""

    def __init__(self, draw):
        self.draw, self.nodes, self.constants, self.count = draw, [], {}, 0
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        shape = [1, draw(st.integers(1, 4)), draw(st.integers(4, 9)), draw(st.integers(4, 9))]
        self.input = shape
        self.live = [("x", shape)]

    def constant(self, array):
        self.count += 1
        self.constants[f"k{self.count}"] = np.asarray(array)
        return f"k{self.count}"

    def weights(self, *shape):
        return self.constant(self.rng.normal(0, 1 / math.sqrt(max(math.prod(shape[1:]), 1)), shape).astype(np.float32))

    def node(self, op, inputs, shape, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(op, inputs, [f"t{self.count}"], **attributes))
        self.live.append((f"t{self.count}", list(shape)))
        return self.live[-1]

    def pick(self):
        return self.draw(st.sampled_from(self.live[-4:]))

    def step(self):
        name, shape = self.pick()
        n, c, h, w = shape
        kind = self.draw(
            st.sampled_from(
                [
                    "conv",
                    "dw",
                    "bn",
                    "act",
                    "swish",
                    "add",
                    "se",
                    "pool",
                    "slice",
                    "concat",
                    "pad",
                    "scale",
                    "nhwc",
                    "shuffle",
                ]
            )
        )
        match kind:
            case "conv":
                k = self.draw(st.sampled_from([1, 2, 3]))
                pads = [self.draw(st.integers(0, k - 1)) for _ in range(4)]
                s = self.draw(st.integers(1, 2))
                m = self.draw(st.integers(1, 5))
                oh, ow = ((x + a + b - k) // s + 1 for x, a, b in ((h, pads[0], pads[2]), (w, pads[1], pads[3])))
                if min(oh, ow) > 0:
                    self.node("Conv", [name, self.weights(m, c, k, k)], [n, m, oh, ow], strides=[s, s], pads=pads)
            case "dw":
                self.node("Conv", [name, self.weights(c, 1, 3, 3), self.weights(c)], shape, group=c, pads=[1, 1, 1, 1])
            case "bn":
                positive = self.constant(self.rng.uniform(0.5, 2, c).astype(np.float32))
                self.node(
                    "BatchNormalization", [name, self.weights(c), self.weights(c), self.weights(c), positive], shape
                )
            case "act":
                self.node(self.draw(st.sampled_from(["Relu", "Sigmoid", "HardSigmoid", "Tanh"])), [name], shape)
            case "swish":
                a, _ = self.node("Add", [name, self.constant(np.float32(3))], shape)
                b, _ = self.node("Clip", [a, self.constant(np.float32(0)), self.constant(np.float32(6))], shape)
                m, _ = self.node("Mul", [name, b], shape)
                self.node("Div", [m, self.constant(np.float32(6))], shape)
            case "add":
                others = [v for v, s in self.live if s == shape]
                self.node(
                    self.draw(st.sampled_from(["Add", "Sub", "Mul"])), [name, self.draw(st.sampled_from(others))], shape
                )
            case "se":
                p, _ = self.node("GlobalAveragePool", [name], [n, c, 1, 1])
                q, _ = self.node("Conv", [p, self.weights(c, c, 1, 1)], [n, c, 1, 1])
                g, _ = self.node("HardSigmoid", [q], [n, c, 1, 1])
                self.node("Mul", [g, name], shape)
            case "pool":
                if min(h, w) >= 2:
                    op = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
                    self.node(op, [name], [n, c, h // 2, w // 2], kernel_shape=[2, 2], strides=[2, 2])
            case "slice":
                axis = self.draw(st.integers(1, 3))
                if shape[axis] > 1:
                    start, step = self.draw(st.integers(0, shape[axis] - 1)), self.draw(st.integers(1, 3))
                    size = list(shape)
                    size[axis] = len(range(start, shape[axis], step))
                    operands = [self.constant(np.array([v], np.int64)) for v in (start, 2**40, axis, step)]
                    self.node("Slice", [name, *operands], size)
            case "concat":
                axis = self.draw(st.integers(1, 3))
                fits = [
                    (v, s)
                    for v, s in self.live
                    if all(a == b for i, (a, b) in enumerate(zip(s, shape, strict=True)) if i != axis)
                ]
                other, size = self.draw(st.sampled_from(fits))
                joined = list(shape)
                joined[axis] += size[axis]
                self.node("Concat", [name, other], joined, axis=axis)
            case "pad":
                pads = [
                    0,
                    *(self.draw(st.integers(0, 2)) for _ in range(3)),
                    0,
                    *(self.draw(st.integers(0, 2)) for _ in range(3)),
                ]
                size = [s + pads[i] + pads[i + 4] for i, s in enumerate(shape)]
                self.node("Pad", [name, self.constant(np.array(pads, np.int64))], size)
            case "scale":
                self.node(self.draw(st.sampled_from(["Mul", "Add", "Sub"])), [name, self.weights(1, c, 1, 1)], shape)
            case "nhwc":
                t, _ = self.node("Transpose", [name], [n, h, w, c], perm=[0, 2, 3, 1])
                self.live.pop()
                r, _ = self.node("Relu", [t], [n, h, w, c])
                self.live.pop()
                self.node("Transpose", [r], shape, perm=[0, 3, 1, 2])
            case "shuffle":
                if c % 2 == 0:
                    r, _ = self.node("Reshape", [name, self.constant(np.array([1, 2, c // 2, h, w], np.int64))], shape)
                    self.live.pop()
                    t, _ = self.node("Transpose", [r], shape, perm=[0, 2, 1, 3, 4])
                    self.live.pop()
                    self.node("Reshape", [t, self.constant(np.array([1, c, h, w], np.int64))], shape)

    def head(self):
        name, shape = self.live[-1]
        kind = self.draw(st.sampled_from(["none", "flatten", "transposed", "softmax", "tokens"]))
        if kind in ("flatten", "softmax"):
            size = math.prod(shape)
            v, _ = self.node("Flatten", [name], [1, size])
            y, _ = self.node("Gemm", [v, self.weights(size, 3)], [1, 3])
            if kind == "softmax":
                self.node("Softmax", [y], [1, 3])
        elif kind == "transposed":
            order = [0, *self.draw(st.permutations([1, 2, 3]))]
            self.node("Transpose", [name], [shape[i] for i in order], perm=order)
        elif kind == "tokens":
            t, _ = self.node("Transpose", [name], shape, perm=[0, 2, 3, 1])
            r, _ = self.node("Reshape", [t, self.constant(np.array([1, -1, shape[1]], np.int64))], shape)
            self.node("MatMul", [r, self.weights(shape[1], 3)], shape)


@st.composite
def graphs(draw):
    maker = GraphMaker(draw)
    for _ in range(draw(st.integers(1, 7))):
        maker.step()
    maker.head()
    if maker.live[-1][0] == "x":
        maker.node("Relu", ["x"], maker.input)
    return model(maker.nodes, [("x", maker.input)], [(maker.live[-1][0], None)], maker.constants).SerializeToString()


@QUICK
@given(graphs(), st.integers(0, 2**32 - 1))
def test_random_graphs_equal_onnxruntime(data, seed):
    compare(data, seed=seed, low=-2, high=2)


@QUICK
@given(st.data())
def test_views_follow_numpy(data):
    """Any chain of transposes and reshapes, then any placement, gives the elements numpy gives."""
    extent = tuple(data.draw(st.sampled_from([1, 2, 3, 4, 6])) for _ in range(3))
    array = np.arange(math.prod(extent)).reshape(1, *extent)
    view = arranged_view("l", extent, (None, 2, 0, 1))
    seen = array.transpose(0, 3, 1, 2)
    for _ in range(data.draw(st.integers(0, 5))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(view.rank)))
            view, seen = permute(view, order), seen.transpose(order)
        else:
            factors = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), max_size=3))
            rest = seen.size / math.prod(factors)
            shape = [*factors, int(rest)] if rest == int(rest) else [1, seen.size]
            try:
                view = regroup(view, shape)
            except LayoutError:
                continue
            seen = seen.reshape(shape)
        assert view.shape == seen.shape
        assert sum(a.axis == BATCH for a in view.atoms) == 1
    dims = list(range(1, view.rank))
    axes = [[], [], []]
    for dim in data.draw(st.permutations(dims)):
        axes[data.draw(st.integers(0, 2))].append(dim)
    try:
        move = plan(view, axes)
    except LayoutError:
        return
    ops = NumpyOps()
    placed = array
    for step in move.steps:
        placed = ops.transpose(ops.reshape(placed, step.shape), step.permutation)
    placed = ops.reshape(placed, move.result)
    order = [0, *(d for group in axes for d in group)]
    assert placed.reshape(-1).tolist() == seen.transpose(order).reshape(-1).tolist()


def _victim():
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("Shape", ["m"], ["s"]),
        helper.make_node("Slice", ["s", "i0", "i1"], ["n"]),
        helper.make_node("Concat", ["n", "neg"], ["t"], axis=0),
        helper.make_node("Reshape", ["m", "t"], ["v"]),
        helper.make_node("Gemm", ["v", "g"], ["q"], transB=1),
        helper.make_node("Softmax", ["q"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(2, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(2, np.float32),
        "i0": np.array([0]),
        "i1": np.array([1]),
        "neg": np.array([-1]),
        "g": rng.normal(size=(3, 18)).astype(np.float32),
    }
    return model(nodes, [("x", ["N", 3, 4, 4])], [("y", ["N", 3])], constants).SerializeToString()


VICTIM = _victim()


def _parses_or_refuses(data):
    try:
        network = parse_onnx(data).network
    except HeadraceError as error:
        assert str(error)
        return
    assert all(np.isfinite(a).all() for a in network.params.values())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_end_in_coded_errors(data):
    broken = bytearray(VICTIM)
    for _ in range(data.draw(st.integers(1, 4))):
        match data.draw(st.sampled_from(["flip", "byte", "cut", "insert", "swap"])):
            case "flip":
                at = data.draw(st.integers(0, len(broken) - 1))
                broken[at] ^= 1 << data.draw(st.integers(0, 7))
            case "byte":
                broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
            case "cut":
                at = data.draw(st.integers(0, len(broken) - 1))
                del broken[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                at = data.draw(st.integers(0, len(broken) - 1))
                broken[at:at] = data.draw(st.binary(min_size=1, max_size=12))
            case "swap":
                a, b = (data.draw(st.integers(0, len(broken) - 9)) for _ in range(2))
                broken[a : a + 8], broken[b : b + 8] = broken[b : b + 8], broken[a : a + 8]
        if not broken:
            break
    _parses_or_refuses(bytes(broken))


def test_every_truncation():
    for size in range(0, len(VICTIM), 7):
        _parses_or_refuses(VICTIM[:size])
    _parses_or_refuses(VICTIM)
