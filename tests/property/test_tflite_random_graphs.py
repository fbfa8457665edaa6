# SPDX-License-Identifier: Apache-2.0
"""Random TFLite graphs with branches, against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from parsing import parse_tflite
from small_tflite import SmallModel, litert_outputs, uniform_feeds


class RandomGraph:
    """Adds operators that LiteRT and Headrace both have, drawn one after the other."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 1000)))
        self.m = SmallModel()
        self.shapes = {}

    def pick(self, *values):
        return self.draw(st.sampled_from(values))

    def add(self, operator, inputs, shape, **options):
        made = self.m.op(operator, inputs, [1, *shape], **options)
        self.shapes[made] = tuple(shape)
        return made

    def numbers(self, *shape):
        return self.m.constant(self.rng.normal(0, 0.5, shape).astype(np.float32))

    def window(self, size, kernel, stride, dilation, same):
        return -(-size // stride) if same else (size - (kernel - 1) * dilation - 1) // stride + 1

    def convolution(self, x):
        h, w, c = self.shapes[x]
        kh, kw = self.draw(st.integers(1, min(3, h))), self.draw(st.integers(1, min(3, w)))
        sh, sw, same = self.pick(1, 2), self.pick(1, 2), self.pick(True, False)
        dh = self.pick(1, 2) if sh == sw == 1 and (same or (kh - 1) * 2 < h) else 1
        depthwise, out = self.pick(True, False), self.pick(1, 2, 4, 5)
        out = c * self.pick(1, 2) if depthwise else out
        shape = (self.window(h, kh, sh, dh, same), self.window(w, kw, sw, 1, same), out)
        options = {
            "padding": "SAME" if same else "VALID", "stride_h": sh, "stride_w": sw, "dilation_h": dh,
            "activation": self.pick("NONE", "RELU", "RELU6", "RELU_N1_TO_1"),
        }  # fmt: skip
        if depthwise:
            operands = [x, self.numbers(1, kh, kw, out), self.numbers(out)]
            return self.add("DEPTHWISE_CONV_2D", operands, shape, depth_multiplier=out // c, **options)
        return self.add("CONV_2D", [x, self.numbers(out, kh, kw, c), self.numbers(out)], shape, **options)

    def pool(self, x):
        h, w, c = self.shapes[x]
        kh, kw, sh, sw = min(self.pick(1, 2, 3), h), min(self.pick(1, 2, 3), w), self.pick(1, 2), self.pick(1, 2)
        same = self.pick(True, False)
        shape = (self.window(h, kh, sh, 1, same), self.window(w, kw, sw, 1, same), c)
        options = {
            "padding": "SAME" if same else "VALID",
            "filter_h": kh,
            "filter_w": kw,
            "stride_h": sh,
            "stride_w": sw,
        }
        return self.add(self.pick("MAX_POOL_2D", "AVERAGE_POOL_2D"), [x], shape, **options)

    def activation(self, x):
        operator = self.pick("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "ELU")
        return self.add(operator, [x], self.shapes[x])

    def per_channel(self, x):
        constant = self.numbers(self.shapes[x][2])
        operator = self.pick("ADD", "MUL", "SUB")
        return self.add(operator, [x, constant] if self.pick(True, False) else [constant, x], self.shapes[x])

    def pad(self, x):
        edges = [[0, 0], *([self.pick(0, 1, 2), self.pick(0, 1)] for _ in range(3))]
        shape = [n + sum(e) for n, e in zip(self.shapes[x], edges[1:], strict=True)]
        return self.add("PAD", [x, self.m.ints(edges)], shape)

    def cut(self, x):
        begin = [self.draw(st.integers(0, n - 1)) for n in self.shapes[x]]
        step = [self.pick(1, 1, 2) for _ in begin]
        shape = [-(-(n - b) // s) for n, b, s in zip(self.shapes[x], begin, step, strict=True)]
        operands = [[0, *begin], [1, *self.shapes[x]], [1, *step]]
        return self.add("STRIDED_SLICE", [x, *map(self.m.ints, operands)], shape)

    def branch(self, x):
        """x with a function of itself: their sum, difference, or both joined along any axis."""
        other = self.activation(x)
        if self.pick(True, False):
            pair = [x, other] if self.pick(True, False) else [other, x]
            return self.add(self.pick("ADD", "SUB", "MUL"), pair, self.shapes[x], activation=self.pick("NONE", "RELU"))
        axis = self.pick(1, 2, 3)
        shape = list(self.shapes[x])
        shape[axis - 1] *= 2
        return self.add("CONCATENATION", [other, x], shape, axis=self.pick(axis, axis - 4))

    def views(self, x):
        """Positions as rows, something of each row, and back."""
        h, w, c = self.shapes[x]
        flat = self.m.op("RESHAPE", [x, self.m.ints([1, h * w, c])], [1, h * w, c])
        done = self.m.op("SOFTMAX", [flat], [1, h * w, c], beta=1.0) if self.pick(True, False) else flat
        return self.add("RESHAPE", [done, self.m.ints([1, h, w, c])], (h, w, c))

    def step(self, x):
        steps = (self.convolution, self.convolution, self.pool, self.activation, self.per_channel, self.pad, self.cut,
                 self.branch, self.views)  # fmt: skip
        made = self.pick(*steps)(x)
        # Of a single number nobody can tell whether it is a channel, a row or a column.
        return made if 1 < np.prod(self.shapes[made]) <= 6000 else x

    def build(self):
        size = [self.draw(st.integers(4, 9)), self.draw(st.integers(4, 9)), self.pick(1, 2, 3)]
        x = self.m.input(1, *size)
        self.shapes[x] = tuple(size)
        x = self.convolution(x)
        middle = x
        for _ in range(self.draw(st.integers(1, 7))):
            x = self.step(x)
            middle = x if self.pick(True, False) else middle
        if self.pick(True, False):
            h, w, c = self.shapes[x]
            x = self.m.op("FULLY_CONNECTED", [x, self.numbers(5, h * w * c), self.numbers(5)], [1, 5])
        return self.m.bytes(*dict.fromkeys([x, middle]))


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_graph_equals_litert(data):
    model = RandomGraph(data.draw).build()
    feeds = uniform_feeds(model, 2)
    expected, got = litert_outputs(model, feeds), run_network(parse_tflite(model, "net").network, feeds)
    for name, want in expected.items():
        span = max(float(np.ptp(want)), 1e-2, float(np.abs(want).max()) * 1e-2)
        assert got[name].shape == want.shape
        assert np.abs(got[name] - want).max() <= 1e-4 * span, name
