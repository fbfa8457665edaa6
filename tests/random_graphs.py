# SPDX-License-Identifier: Apache-2.0
"""Random small networks with every layer kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.hn import Layer, Network, infer_shape
from headrace.layers import read_operation
from headrace.layers.resize import COORDINATES, ROUNDINGS
from headrace.passes import fresh_name
from layer_maker import global_window

Array = np.ndarray[Any, Any]
ACTIVATIONS = (
    "linear",
    "relu",
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "elu",
)


class GraphBuilder:
    """Adds random layers to a network; every method returns the new layer's name."""

    def __init__(self, seed: int, name: str = "net") -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Network(name)

    def integer(self, low: int, high: int) -> int:
        """A random integer, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.net[name].output_shape

    def add(
        self,
        kind: str,
        inputs: list[str],
        attributes: dict[str, Any],
        params: dict[str, Array] | None = None,
        name: str = "",
        original: str = "",
    ) -> str:
        """A layer of this kind; its name is the next free one, its original name made of that, where none is given."""
        if inputs:
            kind, attributes = global_window(kind, attributes, self.shape(inputs[0]))
        operation = read_operation(kind, attributes, self.net.name)
        layer = Layer(name or fresh_name(self.net, operation), operation, inputs)
        self.net.add(layer, params)
        layer.output_shape = infer_shape(self.net, layer)
        layer.original_names = [original or f"source_{layer.short_name}"]
        return layer.name

    def activation(self) -> dict[str, Any]:
        return {"activation": str(self.rng.choice(ACTIVATIONS))}

    def weights(self, *shape: int) -> Array:
        spread = np.exp(self.rng.normal(0, 1.0, shape[-1]))  # channels of very different size
        scale = spread / np.sqrt(max(1, int(np.prod(shape[:-1]))))
        return (self.rng.normal(0, 1, shape) * scale).astype(np.float32)

    def input(self, shape: tuple[int, ...]) -> str:
        return self.add("input_layer", [], {"shape": [-1, *shape]})

    def convolution(
        self, x: str, outputs: int | None = None, kernel: int | None = None, same: bool = False, **extra: Any
    ) -> str:
        _, h, w, c = self.shape(x)
        k = kernel or self.integer(1, min(3, h, w))
        groups = int(self.rng.choice([g for g in (1, 1, 2, 3) if c % g == 0]))
        cout = outputs or groups * self.integer(1, 4)
        if cout % groups:
            groups = 1
        dilation = 1 if same or (k - 1) * 2 + 1 > min(h, w) else self.integer(1, 2)
        stride = 1 if same else self.integer(1, 2)
        pads = [k // 2] * 4 if same else [self.integer(0, (k - 1) * dilation) for _ in range(4)]
        attributes = {
            "kernel_shape": [k, k, c // groups, cout],
            "strides": [stride, stride],
            "padding": pads,
            "dilations": [dilation, dilation],
            "groups": groups,
            **(extra or self.activation()),
        }
        bias = self.rng.normal(0, 0.5, cout).astype(np.float32)
        return self.add("conv", [x], attributes, {"kernel": self.weights(k, k, c // groups, cout), "bias": bias})

    def depthwise(self, x: str) -> str:
        _, h, w, c = self.shape(x)
        k = self.integer(1, min(3, h, w))
        pads = [self.integer(0, k - 1) for _ in range(4)]
        s = self.integer(1, 2)
        attributes = {
            "kernel_shape": [k, k, 1, c],
            "strides": [s, s],
            "padding": pads,
            "groups": c,
            **self.activation(),
        }
        params = {"kernel": self.weights(k, k, 1, c), "bias": self.rng.normal(0, 0.5, c).astype(np.float32)}
        return self.add("dw", [x], attributes, params)

    def pool(self, x: str) -> str:
        _, h, w, _ = self.shape(x)
        k = self.integer(1, min(3, h, w))
        pads = [self.integer(0, k - 1) for _ in range(4)]
        s = self.integer(1, 2)
        attributes = {"kernel_shape": [k, k], "strides": [s, s], "padding": pads}
        if self.rng.integers(0, 2):
            return self.add("maxpool", [x], attributes)
        return self.add("avgpool", [x], {**attributes, "count_padding": bool(self.rng.integers(0, 2))})

    def batch_norm(self, x: str) -> str:
        c = self.shape(x)[-1]
        params = {
            "scale": self.rng.normal(0, 1.5, c).astype(np.float32),
            "offset": self.rng.normal(0, 1, c).astype(np.float32),
        }
        return self.add("batch_norm", [x], self.activation(), params)

    def residual(self, x: str) -> str:
        c = self.shape(x)[-1]
        kernel = 3 if min(self.shape(x)[1:3]) >= 2 else 1
        y = self.convolution(x, c, kernel, same=True, activation="linear")
        kind = str(self.rng.choice(["ew_add", "ew_sub", "ew_mult"]))
        return self.add(kind, [y, x] if self.rng.integers(0, 2) else [x, y], self.activation())

    def gate(self, x: str) -> str:
        """Squeeze and excite: a path beside a global reduction."""
        c = self.shape(x)[-1]
        y = self.add("global_avgpool", [x], {})
        y = self.convolution(y, max(1, c // 2), 1, same=True, activation="relu")
        y = self.convolution(y, c, 1, same=True, activation="hard_sigmoid")
        return self.add("ew_mult", [x, y], {})

    def concat(self, x: str) -> str:
        y = self.convolution(x, None, 1, same=True, **self.activation())
        return self.add("concat", [x, y] if self.rng.integers(0, 2) else [y, x], {"axis": 2})

    def slice(self, x: str) -> str:
        sizes, starts, steps = [], [], []
        for size in self.shape(x)[1:]:
            step = self.integer(1, 2) if size > 2 else 1
            start = self.integer(0, min(1, size - 1))
            count = self.integer(1, (size - 1 - start) // step + 1)
            sizes.append(max(1, count))
            starts.append(start)
            steps.append(step)
        return self.add("slice", [x], {"starts": starts, "steps": steps, "sizes": sizes})

    def pad(self, x: str) -> str:
        return self.add(
            "external_pad",
            [x],
            {"before": [self.integer(0, 2) for _ in range(3)], "after": [self.integer(0, 2) for _ in range(3)]},
        )

    def transpose(self, x: str) -> str:
        return self.add("transpose", [x], {"permutation": [int(v) for v in self.rng.permutation(3)]})

    def enlarge(self, x: str) -> str:
        """Nearest ×2 as the frontend writes it: a tensor joined with itself, then seen with twice the columns."""
        _, h, w, c = self.shape(x)
        if h * w > 256:
            return self.standalone(x)
        x = self.add("reshape", [self.add("concat", [x, x], {"axis": 2})], {"shape": [h, 2 * w, c]})
        return self.add("reshape", [self.add("concat", [x, x], {"axis": 1})], {"shape": [2 * h, 2 * w, c]})

    def transposed(self, x: str) -> str:
        """A transposed convolution of stride 2 as the frontend writes it: a convolution per row of phases."""
        _, h, w, _ = self.shape(x)
        if h * w > 256:
            return self.standalone(x)
        outputs = self.integer(1, 4)
        rows = [self.convolution(x, 2 * outputs, 1, same=True, activation="linear") for _ in range(2)]
        wide = [self.add("reshape", [row], {"shape": [h, 2 * w, outputs]}) for row in rows]
        return self.add("reshape", [self.add("concat", wide, {"axis": 1})], {"shape": [2 * h, 2 * w, outputs]})

    def resize(self, x: str) -> str:
        h, w = self.shape(x)[1:3]
        attributes = {
            "sizes": [self.integer(1, 3 * h), self.integer(1, 3 * w)],
            "coordinates": str(self.rng.choice(COORDINATES)),
            "rounding": str(self.rng.choice(ROUNDINGS)),
        }
        return self.add(str(self.rng.choice(["resize_nearest", "resize_bilinear"])), [x], attributes)

    def blocks(self, x: str) -> str:
        _, h, w, c = self.shape(x)
        mode = {"block": 2, "mode": str(self.rng.choice(["DCR", "CRD"]))}
        if c % 4 == 0 and self.rng.integers(0, 2):
            return self.add("depth_to_space", [x], mode)
        if h % 2 == 0 and w % 2 == 0:
            return self.add("space_to_depth", [x], mode)
        y = self.convolution(x, 4 * self.integer(1, 2), 1, same=True, activation="relu")
        return self.add("depth_to_space", [y], mode)

    def standalone(self, x: str) -> str:
        return self.add("activation", [x], self.activation())

    def parametric(self, x: str) -> str:
        """A relu with a slope per channel, alone or at the end of a convolution."""
        if self.rng.integers(0, 2):
            slope = self.rng.normal(0, 0.5, self.shape(x)[-1]).astype(np.float32)
            return self.add("activation", [x], {"activation": "prelu"}, {"slope": slope})
        y = self.convolution(x, activation="prelu")
        self.net.params[f"{y}/slope"] = self.rng.normal(0, 0.5, self.shape(y)[-1]).astype(np.float32)
        return y

    def classifier(self, x: str) -> str:
        _, h, w, c = self.shape(x)
        if self.rng.integers(0, 2):
            x, h, w = self.add("global_avgpool", [x], {}), 1, 1
        x = self.add("reshape", [x], {"shape": [h * w * c]})
        outputs = self.integer(2, 12)
        params = {
            "kernel": self.weights(h * w * c, outputs),
            "bias": self.rng.normal(0, 0.5, outputs).astype(np.float32),
        }
        x = self.add("dense", [x], {"kernel_shape": [h * w * c, outputs]}, params)
        return self.add("softmax", [x], {}) if self.rng.integers(0, 2) else x

    def attention(self, x: str) -> str:
        """Each row of pixels as a matrix: softmax(X·Xᵀ)·X, or a product without softmax."""
        turned = self.add("transpose", [x], {"permutation": [0, 2, 1]})
        scores = self.add("matmul", [x, turned], {})
        if self.rng.integers(0, 2):
            scores = self.add("softmax", [scores], {})
        return self.add("matmul", [scores, x], {})

    def total(self, x: str) -> str:
        """Sums over windows."""
        _, h, w, _ = self.shape(x)
        k, m = self.integer(1, min(3, h)), self.integer(1, w)
        pads = [self.integer(0, k - 1), self.integer(0, m - 1), self.integer(0, k - 1), self.integer(0, m - 1)]
        strides = [self.integer(1, 2), self.integer(1, 2)]
        return self.add("avgpool", [x], {"kernel_shape": [k, m], "strides": strides, "padding": pads, "total": True})

    def output(self, x: str) -> str:
        return self.add("output_layer", [x], {})


def weighted(b: GraphBuilder, x: str, outputs: int, kernel: int, activation: str = "linear", dw: bool = False) -> str:
    """A convolution (or depthwise) without groups, strides and loss of size."""
    channels = b.shape(x)[3]
    shape = [kernel, kernel, 1 if dw else channels, outputs]
    attributes = {
        "kernel_shape": shape,
        "padding": [kernel // 2] * 4,
        "groups": channels if dw else 1,
        "activation": activation,
    }
    params = {"kernel": b.weights(*shape), "bias": b.rng.normal(0, 0.5, outputs).astype(np.float32)}
    return b.add("dw" if dw else "conv", [x], attributes, params)


STEPS = (
    "convolution",
    "convolution",
    "convolution",
    "depthwise",
    "pool",
    "batch_norm",
    "residual",
    "residual",
    "gate",
    "concat",
    "slice",
    "pad",
    "transpose",
    "standalone",
    "parametric",
    "enlarge",
    "transposed",
    "resize",
    "blocks",
)


#: Steps that random graphs do not draw (the graphs that seeds stand for stay as they are).
RARE_STEPS = ("attention", "total")


def random_network(seed: int, layers: int = 6, steps: tuple[str, ...] = STEPS) -> Network:
    """A random network of about ``layers`` building steps, one input, one or two outputs."""
    b = GraphBuilder(seed)
    x = b.input((b.integer(4, 11), b.integer(4, 11), b.integer(1, 5)))
    seen = [x]
    for _ in range(layers):
        source = seen[-1] if b.rng.integers(0, 4) else seen[b.integer(0, len(seen) - 1)]
        seen.append(getattr(b, str(b.rng.choice(steps)))(source))
    if b.rng.integers(0, 2):
        seen.append(b.classifier(seen[-1]))
    b.output(seen[-1])
    for name in seen[1:-1]:
        if not b.net.users(name):
            b.output(name)
    b.net.net_params["output_layers_order"] = [layer.name for layer in b.net.of_kind("output_layer")]
    return b.net


def random_frames(network: Network, count: int, seed: int) -> dict[str, Array]:
    """float32 frames for every input."""
    rng = np.random.default_rng(seed)
    return {
        layer.name: rng.normal(0.2, 1.0, (count, *layer.output_shape[1:])).astype(np.float32)
        for layer in network.input_layers
    }


VIEWS = ("slice", "transpose", "concat_inputs", "flat", "pad")


def random_streams(seed: int) -> Network:
    """Inputs and outputs of every kind: inputs that nobody reads, outputs that are inputs or views of them, one tensor
    as two outputs, outputs that other layers read."""
    b = GraphBuilder(seed)
    shape = (b.integer(2, 7), b.integer(2, 7), b.integer(1, 5))
    inputs = [b.input(shape) for _ in range(b.integer(1, 3))]
    made: list[str] = []
    for source in inputs[: b.integer(1, len(inputs))]:
        made.append(source)
        for _ in range(b.integer(0, 2)):
            made.append(_view(b, str(b.rng.choice(VIEWS)), made[-1], inputs))
        if b.rng.integers(0, 2) and len(b.shape(made[-1])) == 4:
            made.append(getattr(b, str(b.rng.choice(("convolution", "residual", "standalone"))))(made[-1]))
    for _ in range(b.integer(1, 4)):
        b.output(made[b.integer(0, len(made) - 1)])
    for name in made:
        if not b.net.users(name):
            b.output(name)
    b.net.net_params["output_layers_order"] = [layer.name for layer in b.net.of_kind("output_layer")]
    return b.net


def _view(b: GraphBuilder, kind: str, x: str, inputs: list[str]) -> str:
    if len(b.shape(x)) == 2:
        return x
    if kind == "concat_inputs":
        return b.add("concat", list(inputs), {"axis": b.integer(0, 2)}) if len(inputs) > 1 else x
    if kind == "flat":
        return b.add("reshape", [x], {"shape": [int(np.prod(b.shape(x)[1:]))]})
    return str(getattr(b, kind)(x))
