# SPDX-License-Identifier: Apache-2.0
"""Whether the parameters of a network are what its layers need: asked once, when an archive is opened.

What passes here can be read by every stage without another look: float parameters have their shape and finite
values, frozen integers their dtype, shape and range, tensors that share codes one quantization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError, InternalError
from headrace.hn import older
from headrace.hn.archive import Archive
from headrace.hn.check import check_network
from headrace.hn.network import Array, Layer, Network
from headrace.hn.passing import passed_quantization
from headrace.hn.quantized import output_quantization, quantized_view
from headrace.layers.move import OutputLayer
from headrace.layers.operation import Frozen, Parameter, QuantizedLayer, ScaleRule

_FLOAT_LIMIT = float(np.finfo(np.float32).max)
_INT32 = 1 << 31
_LEVERS = ("make the archive again",)


def check_archive(archive: Archive) -> None:
    """Every layer of every network in an archive, with its parameters; what an older archive lacks is put in before.

    Raises:
        InputFileError: all that is wrong in the first network where something is.
    """
    for network, quantized in ((archive.native, False), (archive.fp_optimized, False), (archive.quantized, True)):
        if network is not None:
            check_network(network)
            if quantized:
                older.complete(network)
            check_parameters(network, quantized)


def check_parameters(network: Network, quantized: bool) -> None:
    """The parameters of a network whose layers and shapes are right.

    Args:
        network: see :func:`headrace.hn.check_network`.
        quantized: it holds frozen integers, else floats.

    Raises:
        InputFileError: with a diagnostic per offending parameter.
    """
    problems: list[Diagnostic] = []
    for layer in network:
        if quantized:
            try:
                problems += _frozen(network, layer)
            except InputFileError as error:
                problems += error.diagnostics
        else:
            problems += _float(network, layer)
    if problems:
        raise InputFileError(problems[:100])


def _float(network: Network, layer: Layer) -> list[Diagnostic]:
    needed = layer.operation.parameters(network.input_shapes(layer), layer.output_shape)
    return _arrays(layer, layer.params, needed)


def _arrays(layer: Layer, given: Mapping[str, Array], needed: dict[str, Parameter]) -> list[Diagnostic]:
    problems: list[Diagnostic] = []
    for key, want in needed.items():
        value = given.get(key)
        if value is None:
            if want.required:
                problems.append(_bad(layer, key, "a parameter that the layer needs is absent", "nothing", want))
            continue
        shapes = [want.shape] if want.shape is not None else [value.shape] if value.ndim == 1 and value.size else []
        right = want.fits(value)
        if not right or value.shape not in shapes:
            got = f"{value.dtype} {list(value.shape)}"
            problems.append(_bad(layer, key, "a parameter has the wrong type or shape", got, want))
        elif value.dtype.kind == "f" and not _usable(value):
            problems.append(_bad(layer, key, "a parameter holds NaN, infinity or more than float32", "", want))
        elif want.most is not None and int(value.max()) > want.most:
            problems.append(_bad(layer, key, "a parameter is out of range", str(value.max()), want))
        elif want.nonzero and not bool(np.all(value)):
            problems.append(_bad(layer, key, "a parameter that is divided by is zero", "0", want))
    return problems


def _usable(value: Array) -> bool:
    """Whether all are finite float32 values."""
    return bool(np.isfinite(value).all()) and (value.dtype.itemsize <= 4 or bool(np.all(np.abs(value) <= _FLOAT_LIMIT)))


def _frozen(network: Network, layer: Layer) -> list[Diagnostic]:
    operation = layer.operation
    if isinstance(operation, OutputLayer) and layer.output.quantization is None:
        return []  # it is what it reads
    output = output_quantization(layer)
    if operation.scale_rule in (ScaleRule.PASSES, ScaleRule.CONCAT):
        inputs = [output_quantization(network[name]) for name in layer.inputs]
        want = inputs[0] if len(set(inputs)) == 1 else None
        if operation.copies_codes:
            want = passed_quantization(layer, network.input_shapes(layer), inputs)
        if want != output:
            got = [q.as_dict() for q in inputs[:4]]
            return [_quantization(layer, "codes pass, but an input has another scale", got, output.as_dict())]
    if not operation.has_integer_form:
        return [_quantization(layer, f"{layer.kind} has no integer form", layer.kind, "a network that optimize froze")]
    frozen = operation.frozen(network.input_shapes(layer), layer.output_shape)
    if layer.clamp is None:
        return [_quantization(layer, "the requantization is absent", "nothing", "integers")] if frozen else []
    try:
        view = quantized_view(network, layer)
    except InternalError as error:  # a rule of numerics that its integers break
        return [_quantization(layer, d.rule, d.got, d.need) for d in error.diagnostics]
    if frozen is None:
        return []
    return [*_arrays(layer, view.params, frozen.parameters), *_requantization(layer, view, frozen)]


def _requantization(layer: Layer, view: QuantizedLayer, frozen: Frozen) -> list[Diagnostic]:
    """Numbers of terms and columns, and a clamp or table that gives codes of the output."""
    terms, columns = view.rq.multipliers.shape
    counts = view.params.get("counts")
    divided = frozen.divisors is not None and counts is not None
    widths: Sequence[int] = (counts.size,) if divided and counts is not None else (1, frozen.channels)
    if terms not in frozen.terms or columns not in widths:
        need = f"{' or '.join(map(str, frozen.terms))} terms, {' or '.join(map(str, widths))} columns"
        return [_quantization(layer, "the multipliers do not fit the layer", f"{terms} × {columns}", need)]
    return [*_divisors(layer, counts, frozen), *_reciprocals(layer, view, frozen), *_codes(layer, view, frozen)]


def _divisors(layer: Layer, counts: Array | None, frozen: Frozen) -> list[Diagnostic]:
    if counts is None or frozen.divisors is None:
        return []
    ascending = bool(np.all(np.diff(counts.astype(np.int64)) > 0))
    if ascending and bool(np.all(np.isin(frozen.divisors, counts))):
        return []
    return [_quantization(layer, "the counts are not those of the windows", counts[:8], frozen.divisors[:8])]


def _reciprocals(layer: Layer, view: QuantizedLayer, frozen: Frozen) -> list[Diagnostic]:
    table = view.params.get("reciprocal_table")
    if "reciprocal_table" not in frozen.parameters or table is None:
        return []
    if table.size & (table.size - 1) == 0 and table.size <= 1 << 16 and view.rq.table is None:
        return []
    need = "2^k entries, at most 2^16, and no second table"
    return [_quantization(layer, "the table of reciprocals is not valid", table.size, need)]


def _codes(layer: Layer, view: QuantizedLayer, frozen: Frozen) -> list[Diagnostic]:
    """Whether what comes out are codes of the output."""
    rq, output = view.rq, view.output
    if rq.table is None:
        if rq.low >= 0 and rq.high <= output.high:
            return []
        return [_quantization(layer, "the clamp leaves the codes", f"{rq.low} … {rq.high}", f"0 … {output.high}")]
    if rq.table.dtype != output.dtype or rq.table.shape[-1] > 1 << 16 or int(rq.table.max()) > output.high:
        got, need = f"{rq.table.dtype} {list(rq.table.shape)}", f"{output.dtype}, at most 2^16 entries"
        return [_quantization(layer, "the table is not valid", got, need)]
    if rq.channel_tables is not None and rq.channel_tables.size != frozen.channels:
        return [_quantization(layer, "channels and tables do not fit", rq.channel_tables.size, frozen.channels)]
    return []


def _bad(layer: Layer, key: str, rule: str, got: str, want: Parameter) -> Diagnostic:
    return Diagnostic("E-HN-PARAM", f"{layer.name}/{key}", rule, got, str(want), _LEVERS)


def _quantization(layer: Layer, rule: str, got: Any, need: object) -> Diagnostic:
    return Diagnostic("E-HN-QUANTIZATION", layer.name, rule, str(got)[:200], str(need), _LEVERS)
