# SPDX-License-Identifier: Apache-2.0
"""Put ``normalization`` behind a network input, so that the host sends raw data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.errors import Diagnostic, UsageError, unknown_name
from headrace.hn import Layer, Network
from headrace.layers import Normalization
from headrace.passes.rewriting import Facts, Pass, fresh_name


@dataclass(frozen=True)
class InsertNormalization(Pass):
    """``y = (x - mean) / std`` per channel right behind an input layer.

    Attributes:
        mean: one value per channel, or one for all.
        std: as ``mean``; not zero.
        input_layer: HN or source name of the input; may be left out when the network has one input.
        layer_name: of the new layer, with or without the network's name; ``None``: the next free ``normalization<N>``.
    """

    name: ClassVar[str] = "insert-normalization"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_layer: str | None = None
    layer_name: str | None = None

    def run(self, network: Network) -> list[Facts]:
        source = self._source(network)
        channels = source.output_shape[-1]
        mean, std = (
            self._values("mean", self.mean, channels, source.name),
            self._values("std", self.std, channels, source.name),
        )
        if any(v == 0 for v in std):
            raise UsageError(
                Diagnostic(
                    "E-NORMALIZATION",
                    source.name,
                    "a standard deviation is zero",
                    str(list(self.std)),
                    "non-zero numbers",
                )
            )
        users = network.users(source.name)
        if any(isinstance(user.operation, Normalization) for user in users):
            raise UsageError(
                Diagnostic(
                    "E-NORMALIZATION",
                    source.name,
                    "this input has a normalization already",
                    users[0].name,
                    "one normalization per input",
                )
            )
        layer = Layer(self._name(network), Normalization(), [source.name], source.output_shape)
        params = {"mean": np.array(mean, np.float32), "std": np.array(std, np.float32)}
        network.insert_after(source.name, layer, params)
        network.redirect(source.name, layer.name, users)
        if source.wish.codes is not None:  # what the model's file says of its input
            layer.output.wish, source.output.wish = source.output.wish, None
        return [{"layer": layer.name, "input": source.name, "mean": list(mean), "std": list(std)}]

    def _name(self, network: Network) -> str:
        if self.layer_name is None:
            return fresh_name(network, Normalization)
        name = self.layer_name if "/" in self.layer_name else f"{network.name}/{self.layer_name}"
        if name in network.layers or not name.startswith(f"{network.name}/"):
            rule = "the name is taken" if name in network.layers else "the name belongs to another network"
            need = f"a name that no layer of {network.name!r} has"
            raise UsageError(Diagnostic("E-NORMALIZATION", network.name, rule, repr(self.layer_name[:80]), need))
        return name

    def _source(self, network: Network) -> Layer:
        inputs = network.input_layers
        if self.input_layer is None:
            if len(inputs) != 1:
                raise UsageError(
                    Diagnostic(
                        "E-NORMALIZATION",
                        network.name,
                        "the network has several inputs, so the one to normalize must be named",
                        "no name",
                        "one of: " + ", ".join(x.name for x in inputs),
                    )
                )
            return inputs[0]
        layer = network.find_input(self.input_layer)
        if layer is not None:
            return layer
        raise UsageError(
            unknown_name("E-NORMALIZATION", "input layer", self.input_layer, [x.name for x in inputs], network.name)
        )

    @staticmethod
    def _values(what: str, values: tuple[float, ...], channels: int, where: str) -> list[float]:
        if len(values) not in (1, channels) or not all(math.isfinite(v) for v in values):
            raise UsageError(
                Diagnostic(
                    "E-NORMALIZATION",
                    where,
                    f"{what} must have one finite value per channel",
                    str(list(values))[:200],
                    f"{channels} values, or 1",
                )
            )
        return list(values) if len(values) == channels else list(values) * channels
