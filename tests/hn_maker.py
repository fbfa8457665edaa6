# SPDX-License-Identifier: Apache-2.0
"""Small HN networks whose layers a test names, and their float results in numpy."""

from __future__ import annotations

import numpy as np

from frontend_oracle import NumpyOps
from headrace.hn import check_network
from interpreters import float_values
from random_graphs import GraphBuilder

RNG = np.random.default_rng(11)


class Maker:
    def __init__(self, shape=(6, 5, 4)):
        self.builder = GraphBuilder(0, "n")
        self.network = self.builder.net
        self.add("input_layer", "x", [], {"shape": [-1, *shape]})

    def add(self, kind, name, inputs, attributes=None, **params):
        self.builder.add(kind, [f"n/{i}" for i in inputs], dict(attributes or {}), params, f"n/{name}", name)
        return self

    def conv(self, name, source, cin, cout, k=3, **attributes):
        kernel = RNG.normal(size=(k, k, cin, cout))
        return self.add(
            "conv",
            name,
            [source],
            {"kernel_shape": [k, k, cin, cout], **attributes},
            kernel=kernel,
            bias=RNG.normal(size=cout),
        )

    def bn(self, name, source, c, **attributes):
        return self.add("batch_norm", name, [source], attributes, scale=RNG.normal(size=c), offset=RNG.normal(size=c))

    def out(self, *sources):
        for i, source in enumerate(sources):
            self.add("output_layer", f"o{i}", [source])
        check_network(self.network)
        return self.network


def run(network, x):
    """The outputs for one input, in float64."""
    values = float_values(network, {network.input_layers[0].name: x}, NumpyOps())
    return [values[layer.name] for layer in network.of_kind("output_layer")]
