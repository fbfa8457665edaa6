# SPDX-License-Identifier: Apache-2.0
"""The integers that ``optimize`` froze, read from and written to the layers of a network."""

from __future__ import annotations

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.network import Layer, Network
from headrace.layers.operation import QuantizedLayer
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization


def output_quantization(layer: Layer) -> TensorQuantization:
    """Quantisation of a layer's output tensor in a quantised network.

    Raises:
        InputFileError: it is absent or not valid, or has scales for another number of channels.
    """
    raw = (layer.quantization or {}).get("output")
    found = TensorQuantization.from_dict(raw, layer.name)
    shape = layer.output_shape[1:]
    if not found.uniform and (len(shape) < -found.axis or shape[found.axis] != len(found.scales)):
        got = f"{len(found.scales)} along axis {found.axis} of {list(shape)}"
        rule = "a tensor has scales for another number of elements"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, got, "one per element of the axis"))
    return found


def _operands(network: Network, layer: Layer) -> list[TensorQuantization]:
    """Quantisation of each input; one scale and a zero point among the codes where the layer computes with them."""
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


def quantized_view(network: Network, layer: Layer) -> QuantizedLayer:
    """The typed view of one layer's frozen integers, validated."""
    params = network.params_of(layer)
    raw = (layer.quantization or {}).get("requantize")
    rq: Requantization | None = None
    if raw is not None:
        try:
            rq = Requantization(
                multipliers=params["multipliers"],
                shifts=params["shifts"],
                zero=raw["zero"],
                low=raw["low"],
                high=raw["high"],
                table=params.get("table"),
                channel_tables=params.get("channel_tables"),
            )
        except (KeyError, TypeError):
            raise InputFileError(
                Diagnostic(
                    "E-HN-QUANTIZATION",
                    layer.name,
                    "the requantisation is not complete",
                    repr(raw)[:200],
                    "zero, low, high, and params multipliers and shifts",
                )
            ) from None
    return QuantizedLayer(
        name=layer.name,
        output_shape=layer.output_shape,
        inputs=_operands(network, layer),
        output=output_quantization(layer),
        requantization=rq,
        params=params,
    )


def store_requantization(network: Network, layer: Layer, output: TensorQuantization, rq: Requantization | None) -> None:
    """Record a layer's output quantisation and requantisation integers (the inverse of quantized_view)."""
    layer.quantization = {"output": output.as_dict()}
    if rq is not None:
        layer.quantization["requantize"] = {
            "zero": rq.zero,
            "low": rq.low,
            "high": rq.high,
            "table_bits": rq.table_bits,
        }
        network.params[f"{layer.name}/multipliers"] = rq.multipliers
        network.params[f"{layer.name}/shifts"] = rq.shifts
        if rq.table is not None:
            network.params[f"{layer.name}/table"] = rq.table
        if rq.channel_tables is not None:
            network.params[f"{layer.name}/channel_tables"] = rq.channel_tables
