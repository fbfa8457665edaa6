# SPDX-License-Identifier: Apache-2.0
"""The integers that ``optimize`` froze, read from and written to the layers of a network."""

from __future__ import annotations

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.network import Layer, Network
from headrace.layers.operation import QuantizedLayer
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization


def output_quantization(layer: Layer) -> TensorQuantization:
    """Quantization of a layer's output tensor in a quantized network.

    Raises:
        InputFileError: it is absent or not valid, or has scales for another number of channels.
    """
    found = layer.output.quantization
    if found is None:
        rule, need = "the quantization of a tensor is not valid", "scale, zero_point and bits"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, "None", need, ("run optimize again",)))
    shape = layer.output_shape[1:]
    if not found.uniform and (len(shape) < -found.axis or shape[found.axis] != len(found.scales)):
        got = f"{len(found.scales)} along axis {found.axis} of {list(shape)}"
        rule = "a tensor has scales for another number of elements"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, got, "one per element of the axis"))
    return found


def _operands(network: Network, layer: Layer) -> list[TensorQuantization]:
    """Quantization of each input; one scale and a zero point among the codes where the layer computes with them."""
    found = [output_quantization(network[name]) for name in layer.inputs]
    if layer.operation.copies_codes:
        return found
    for name, quantization in zip(layer.inputs, found, strict=True):
        if not quantization.computable:
            rule = f"{layer.kind} computes with a tensor whose channels differ, or whose zero point is no code"
            got = f"{name}: {len(quantization.pairs)} scales, zero point {quantization.zero_point}"
            need = "one scale and zero point, among the codes"
            raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, got, need, ("run optimize again",)))
    return found


def requantization(layer: Layer) -> Requantization | None:
    """The frozen requantization of a layer; ``None`` where codes pass.

    Raises:
        InputFileError: arrays of it are absent. InternalError: its integers break a rule of the numerics.
    """
    if layer.clamp is None:
        return None
    params = layer.params
    if "multipliers" not in params or "shifts" not in params:
        rule, need = "the requantization is not complete", "zero, low, high, and params multipliers and shifts"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, ", ".join(params)[:200], need))
    return Requantization.stored(layer.clamp, params)


def quantized_view(network: Network, layer: Layer) -> QuantizedLayer:
    """The typed view of one layer's frozen integers, validated."""
    return QuantizedLayer(
        name=layer.name,
        output_shape=layer.output_shape,
        inputs=_operands(network, layer),
        output=output_quantization(layer),
        requantization=requantization(layer),
        params=layer.params,
    )


def store_requantization(layer: Layer, output: TensorQuantization, rq: Requantization | None) -> None:
    """Record a layer's output quantization and requantization integers (the inverse of quantized_view); its wish is
    fulfilled.
    """
    layer.output.quantization, layer.output.wish = output, None
    layer.clamp, layer.accumulator_bits, layer.kept = None, None, {}
    if rq is not None:
        layer.clamp = rq.numbers
        layer.params.update(rq.arrays)
