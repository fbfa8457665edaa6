# SPDX-License-Identifier: Apache-2.0
"""HN as JSON: one object people read, diff and edit (``docs/formats/hn.md``)."""

from __future__ import annotations

import json
import math
from typing import Any

from headrace.errors import Diagnostic, InputFileError, InternalError
from headrace.hn import quantization_json, strict_json
from headrace.hn.network import SCHEMA_VERSION, Layer, Network
from headrace.hn.value import Value
from headrace.layers import AveragePool, Operation, read_operation
from headrace.typeguards import is_list, is_object

MAX_LAYERS = 100_000
MAX_ELEMENTS = 1 << 31  # of one tensor
MAX_NAME = 300
MAX_RESULTS = 64  # of one layer


def to_dict(network: Network) -> dict[str, Any]:
    """The network as plain JSON values, in topological order."""
    layers: dict[str, Any] = {}
    for layer in network:
        users = network.users(layer.name)
        entry: dict[str, Any] = {
            "type": layer.kind,
            "input": list(layer.inputs),
            "output": [user.name for user in users],
            "input_shapes": [list(s) for s in network.input_shapes(layer)],
            "output_shapes": [list(layer.output_shape)] * max(1, len(users)),
            "original_names": list(layer.original_names),
            "params": layer.operation.json_attributes,
        }
        if len(layer.results) > 1:
            entry["results"] = [list(value.shape) for value in layer.results]
        quantization = quantization_json.to_json(layer)
        if quantization is not None:
            entry["quantization"] = quantization
        layers[layer.name] = entry
    return {"name": network.name, "net_params": network.net_params, "layers": layers}


def dumps(network: Network) -> bytes:
    """Stable text: same network, same bytes."""
    return (json.dumps(to_dict(network), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def loads(data: bytes, where: str) -> Network:
    """Read HN text without trusting it; parameters are read elsewhere."""
    try:
        raw = strict_json.parse(data)
    except ValueError as error:
        raise _bad(where, "it is not JSON", str(error)[:200] or type(error).__name__, "a JSON object") from None
    return from_dict(raw, where)


def _bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(
        Diagnostic("E-HN-CORRUPT", where, rule, str(got)[:300], str(need), ("parse the model again",))
    )


def _typed(value: Any, kind: type | tuple[type, ...], where: str, field: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        need = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        raise _bad(where, f"field {field!r} has the wrong type", type(value).__name__, need)
    return value


def _strings(value: Any, where: str, field: str) -> list[str]:
    return [_typed(v, str, where, field) for v in _typed(value, list, where, field)]


def _shape(value: Any, where: str) -> tuple[int, ...]:
    dims = tuple(_typed(d, int, where, "output_shapes") for d in _typed(value, list, where, "output_shapes"))
    if not 2 <= len(dims) <= 5 or dims[0] != -1 or any(not 0 < d < 1 << 31 for d in dims[1:]):
        raise _bad(where, "a shape is not valid", list(dims), "[-1, …] with 1 to 4 positive sizes")
    if math.prod(dims[1:]) > MAX_ELEMENTS:
        raise _bad(where, "a tensor is too large", list(dims), f"≤ {MAX_ELEMENTS} elements")
    return dims


def _net_params(value: Any, where: str) -> dict[str, Any]:
    params: dict[str, Any] = _typed(value, dict, where, "net_params")
    version = params.get("version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise _bad(where, "the schema version is not supported", version, f"1 … {SCHEMA_VERSION}")
    for key in ("net_scopes", "output_layers_order"):
        if key in params:
            _strings(params[key], where, f"net_params.{key}")
    for key, kind in (("stage", str), ("source", dict)):
        if key in params:
            _typed(params[key], kind, where, f"net_params.{key}")
    return params


def _operation(entry: dict[str, Any], operands: list[Any], place: str) -> Operation:
    kind = _typed(entry.get("type"), str, place, "type")
    attributes: dict[str, Any] = _typed(entry.get("params"), dict, place, "params")
    if kind == "global_avgpool" and not attributes and len(operands) == 1:
        # Files up to version 1 had a kind of its own for the window that is the whole input.
        shapes: object = operands[0].get("output_shapes") if is_object(operands[0]) else None
        shape = _shape(shapes[0] if is_list(shapes) and shapes else None, place)
        kind, attributes = AveragePool.kind, {"kernel_shape": list(shape[1:3])}
    return read_operation(kind, attributes, place)


def _results(entry: dict[str, Any], layer: Layer, place: str) -> tuple[Value, ...]:
    shapes = _typed(entry.get("results", []), list, place, "results")
    if len(shapes) > MAX_RESULTS:
        raise _bad(place, "there are too many results", len(shapes), f"≤ {MAX_RESULTS}")
    return layer.results + tuple(Value(layer, i, _shape(shape, place)) for i, shape in enumerate(shapes[1:], 1))


def _value(network: Network, layer: Layer, name: str, where: str) -> Value:
    try:
        return network.value(name)
    except InternalError:
        place, need = f"{where}, layer {layer.name}", "the name of a layer"
        raise _bad(place, "an input does not exist", name, need) from None


def from_dict(raw: Any, where: str) -> Network:
    """Build a network from JSON values; checks types, names, references and order."""
    _typed(raw, dict, where, "(top)")
    network = Network(_typed(raw.get("name"), str, where, "name"))
    network.net_params = _net_params(raw.get("net_params"), where)
    layers = _typed(raw.get("layers"), dict, where, "layers")
    if len(layers) > MAX_LAYERS:
        raise _bad(where, "there are too many layers", len(layers), f"≤ {MAX_LAYERS}")
    problems: list[Diagnostic] = []
    for name, entry in layers.items():
        if not (name.isprintable() and 0 < len(name) <= MAX_NAME):
            raise _bad(where, "a layer's name is not valid", repr(name)[:80], f"1 … {MAX_NAME} printable characters")
        place = f"{where}, layer {name}"
        _typed(entry, dict, place, "(layer)")
        shapes = _typed(entry.get("output_shapes"), list, place, "output_shapes")
        if not shapes:
            raise _bad(place, "there is no output shape", "[]", "one")
        inputs = _strings(entry.get("input"), place, "input")
        said: object = entry.get("quantization")
        quantization: dict[str, Any] = {} if said is None else _typed(said, dict, place, "quantization")
        try:
            layer = Layer(
                name,
                _operation(entry, [layers.get(x) for x in inputs], place),
                inputs,
                _shape(shapes[0], place),
                _strings(entry.get("original_names", []), place, "original_names"),
            )
            layer.results = _results(entry, layer, place)
            quantization_json.read(layer, quantization)
        except InputFileError as error:
            problems += error.diagnostics
            continue
        network.layers[name] = layer
    if problems:
        raise InputFileError(problems[:100])
    for layer in network.layers.values():
        network.set_operands(layer, [_value(network, layer, name, where) for name in layer.inputs])
    network.sort()
    return network
