# SPDX-License-Identifier: Apache-2.0
"""Whether a network is one: every kind known, every recorded shape the one that its layer computes."""

from __future__ import annotations

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.network import Layer, Network


def infer_shape(network: Network, layer: Layer) -> tuple[int, ...]:
    """The output shape by the layer's own rule, from its inputs' recorded shapes."""
    shapes = network.input_shapes(layer)
    low, high = layer.operation.arity
    if not low <= len(shapes) <= high:
        rule = f"{layer.kind} has the wrong number of inputs"
        raise InputFileError(Diagnostic("E-LAYER-ATTRIBUTE", layer.name, rule, str(len(shapes)), f"{low} to {high}"))
    return layer.operation.output_shape(shapes, layer.name)


def check_network(network: Network) -> None:
    """Every kind known, every attribute valid, every recorded shape equal to the one its rule gives.

    Raises:
        InputFileError: with one diagnostic per offending layer.
    """
    problems: list[Diagnostic] = []
    for layer in network:
        try:
            shape = infer_shape(network, layer)
            if shape != tuple(layer.output_shape):
                problems.append(
                    Diagnostic(
                        "E-HN-SHAPE",
                        layer.name,
                        "the recorded shape is not what the layer computes",
                        str(list(layer.output_shape)),
                        str(list(shape)),
                    )
                )
        except InputFileError as error:
            problems += error.diagnostics
    if problems:
        raise InputFileError(problems)
