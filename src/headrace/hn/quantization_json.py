# SPDX-License-Identifier: Apache-2.0
"""What HN text says of a layer's quantization (``docs/formats/hn.md``): what is wished, and what is frozen."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.network import Layer
from headrace.hn.value import Interval, Wish
from headrace.layers import UnknownOperation
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Clamp
from headrace.typeguards import is_list, is_object

OUTPUT, REQUANTIZE, BITS, CALIBRATED, PRECISION = "output", "requantize", "accumulator_bits", "calibrated", "precision"
_FLOAT_LIMIT = float(np.finfo(np.float32).max)
_INT32 = 1 << 31
_LEVERS = ("make the archive again",)


def to_json(layer: Layer) -> dict[str, Any] | None:
    """Plain JSON values; None where there is nothing to say."""
    value = layer.output
    found: dict[str, Any] = {}
    if value.quantization is not None:
        found[OUTPUT] = value.quantization.as_dict()
    if layer.clamp is not None:
        table = layer.params.get("table")
        bits = 0 if table is None else (table.shape[-1] - 1).bit_length()
        usual = Clamp._field_defaults
        numbers = {k: v for k, v in layer.clamp._asdict().items() if k not in usual or v != usual[k]}
        found[REQUANTIZE] = {**numbers, "table_bits": bits}
    if layer.accumulator_bits is not None:
        found[BITS] = layer.accumulator_bits
    if value.calibrated is not None:
        found[CALIBRATED] = list(value.calibrated)
    if value.wish is not None:
        said = (("bits", value.wish.bits), ("range", value.wish.range), ("reach", value.wish.reach))
        found[PRECISION] = {key: list(v) if isinstance(v, tuple) else v for key, v in said if v is not None}
        if value.wish.codes is not None:
            found[PRECISION]["codes"] = value.wish.codes.as_dict()
    return (found | layer.kept) or None


def read(layer: Layer, raw: dict[str, Any]) -> None:
    """Put JSON values into a layer. Of a kind of a newer version, and of a key of one, the text is kept as it is.

    Raises:
        InputFileError: a value breaks its rule.
    """
    rest = dict(raw)
    if isinstance(layer.operation, UnknownOperation):
        layer.kept = rest
        return
    value = layer.output
    if OUTPUT in rest:
        value.quantization = TensorQuantization.from_dict(rest.pop(OUTPUT), layer.name)
    if REQUANTIZE in rest:
        layer.clamp = _clamp(layer, rest.pop(REQUANTIZE))
    if BITS in rest:
        bits = rest.pop(BITS)
        if type(bits) is not int or not 0 < bits <= 64:
            raise _bad(layer, "the accumulator's bits are not valid", bits, "1 … 64")
        layer.accumulator_bits = bits
    if CALIBRATED in rest:
        value.calibrated = _interval(layer, rest.pop(CALIBRATED), "the calibrated range is not valid")
    if PRECISION in rest:
        value.wish = _wish(layer, rest.pop(PRECISION))
    layer.kept = rest


def _clamp(layer: Layer, raw: Any) -> Clamp:
    values = {**Clamp._field_defaults, **raw} if is_object(raw) else {}
    if any(type(values.get(key)) is not int for key in Clamp._fields):
        raise _bad(layer, "the requantization is not complete", raw, f"whole numbers {', '.join(Clamp._fields)}")
    if any(abs(values[key]) >= _INT32 for key in Clamp._fields):
        raise _bad(layer, "the requantization is out of range", raw, "below 2^31")
    return Clamp(*(values[key] for key in Clamp._fields))


def _wish(layer: Layer, raw: Any) -> Wish:
    if not is_object(raw) or raw.get("bits", 8) not in (8, 16) or type(raw.get("bits", 8)) is not int:
        raise _bad(layer, "the precision is not valid", raw, "bits 8 or 16")
    found = [None if raw.get(key) is None else _interval(layer, raw[key], "the range is not valid")
             for key in ("range", "reach")]  # fmt: skip
    codes = None if raw.get("codes") is None else TensorQuantization.from_dict(raw["codes"], layer.name)
    if codes is not None and not codes.computable:
        raise _bad(layer, "the codes of the file are not valid", raw["codes"], "one scale, and a zero point among them")
    return Wish(raw.get("bits"), found[0], found[1], codes)


def _interval(layer: Layer, raw: Any, rule: str) -> Interval:
    numbers = is_list(raw) and len(raw) == 2 and all(type(v) in (int, float) for v in raw)
    if not numbers or not -_FLOAT_LIMIT <= raw[0] <= raw[1] <= _FLOAT_LIMIT:
        raise _bad(layer, rule, raw, "[low, high]")
    return float(raw[0]), float(raw[1])


def _bad(layer: Layer, rule: str, got: object, need: str) -> InputFileError:
    return InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, repr(got)[:200], need, _LEVERS))
