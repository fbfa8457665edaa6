# SPDX-License-Identifier: Apache-2.0
"""Whether a network is one: every kind known, every recorded shape the one that its layer computes."""

from __future__ import annotations

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError
from headrace.hn.network import Layer, Network


def infer_shape(network: Network, layer: Layer) -> tuple[int, ...]:
    """The shape of the first result by the layer's own rule, from its inputs' recorded shapes."""
    return infer_shapes(network, layer)[0]


def infer_shapes(network: Network, layer: Layer) -> tuple[tuple[int, ...], ...]:
    """The shapes of all results by the layer's own rule, from its inputs' recorded shapes."""
    shapes = network.input_shapes(layer)
    low, high = layer.operation.arity
    if not low <= len(shapes) <= high:
        rule = f"{layer.kind} has the wrong number of inputs"
        raise InputFileError(Diagnostic("E-LAYER-ATTRIBUTE", layer.name, rule, str(len(shapes)), f"{low} to {high}"))
    return layer.operation.output_shapes(shapes, layer.name)


def check_network(network: Network) -> None:
    """Every kind known, every attribute valid, every recorded shape equal to the one its rule gives.

    Raises:
        InputFileError: with one diagnostic per offending layer.
    """
    problems: list[Diagnostic] = []
    for layer in network:
        try:
            computed = infer_shapes(network, layer)
            recorded = tuple(tuple(value.shape) for value in layer.results)
            if computed != recorded:
                rule = "the recorded shape is not what the layer computes"
                problems.append(Diagnostic("E-HN-SHAPE", layer.name, rule, _text(recorded), _text(computed)))
        except InputFileError as error:
            problems += error.diagnostics
    if problems:
        raise InputFileError(problems)


def _text(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


def check_single_results(network: Network) -> None:
    """Refuse what only the float emulator does yet.

    Raises:
        NotBuiltYetError: a layer makes several values.
    """
    several = [layer for layer in network if len(layer.results) > 1]
    if several:
        rule = "layers with several results are not quantized or compiled yet"
        raise NotBuiltYetError(
            [Diagnostic("E-HN-RESULTS", x.name, rule, f"{len(x.results)} results of {x.kind}", "one") for x in several]
        )
