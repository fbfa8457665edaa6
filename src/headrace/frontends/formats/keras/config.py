# SPDX-License-Identifier: Apache-2.0
"""The configuration of a model into records: layers, and the tensors that each of their calls is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import InputFileError
from headrace.frontends.reader import corrupt
from headrace.typeguards import is_integer, is_list, is_object, is_sequence, is_text

MAX_LAYERS = 20_000
_MAX_CALLS = 100_000
MODELS = frozenset({"Functional", "Model", "Sequential"})


@dataclass(frozen=True)
class Reference:
    """A tensor that a call is given or a model returns: a result of a call of a layer.

    Attributes:
        shape: as Keras 3 states it, None for what is open; None where the file does not say.
    """

    layer: str
    call: int
    result: int
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Range:
    """A slice, as ``keras.ops`` records it."""

    start: int | None
    stop: int | None
    step: int | None


class Rest:
    """``...`` in an index."""


@dataclass
class Call:
    """What a layer is called with: values as JSON has them, with :class:`Reference` for tensors."""

    arguments: list[Any] = field(default_factory=list)
    named: dict[str, Any] = field(default_factory=dict)


@dataclass
class Layer:
    """One layer, operation, or model in a model.

    Attributes:
        kind: its class.
        name: unique in its model.
        module: where the class is from; "" where the file does not say.
        config: its options.
        calls: where it stands in its model's graph.
    """

    kind: str
    name: str
    module: str
    config: dict[str, Any]
    calls: list[Call] = field(default_factory=list)

    @property
    def is_operation(self) -> bool:
        """Whether it is a function of ``keras.ops`` instead of a layer; an ``.h5`` file does not name the module."""
        if self.module:
            return ".ops" in self.module
        return not {"trainable", "dtype"} & set(self.config) and self.kind != "InputLayer" and self.kind not in MODELS

    @property
    def is_custom(self) -> bool:
        return bool(self.module) and self.module.split(".")[0] not in ("keras", "tf_keras", "tensorflow")


@dataclass
class Model:
    """Layers and how they are connected; those of a Sequential model follow each other.

    Attributes:
        inputs, outputs: empty for a Sequential model.
    """

    name: str
    sequential: bool
    layers: list[Layer]
    inputs: list[Reference] = field(default_factory=list)
    outputs: list[Reference] = field(default_factory=list)


class _Reader:
    def __init__(self, where: str, is_version_2: bool) -> None:
        self.where, self.is_version_2 = where, is_version_2
        self.layers = self.calls = 0

    def problem(self, rule: str, got: object = "") -> InputFileError:
        return InputFileError(corrupt("keras", self.where, rule, got, "a configuration that Keras wrote"))

    def model(self, kind: str, config: object, name: str) -> Model:
        sequential = kind == "Sequential"
        if is_list(config):  # the oldest files of Sequential models
            config = {"name": name, "layers": config}
        if not is_object(config) or not is_list(config.get("layers")):
            raise self.problem(f"model {name!r} has no list of layers")
        found: list[Any] = config["layers"]
        self.layers += len(found)
        if self.layers > MAX_LAYERS:
            raise self.problem("the model has too many layers", f"> {MAX_LAYERS}")
        own = config.get("name")
        layers = [self.layer(entry) for entry in found]
        names = [layer.name for layer in layers]
        if len(set(names)) != len(names):
            twice = next(n for i, n in enumerate(names) if n in names[:i])
            raise self.problem(f"two layers of model {name!r} have one name", twice)
        made = Model(own if is_text(own) else name, sequential, layers)
        if not sequential:
            made.inputs = self.references(config.get("input_layers"), "input_layers")
            made.outputs = self.references(config.get("output_layers"), "output_layers")
            if not made.outputs:
                raise self.problem(f"model {name!r} has no outputs")
            kinds = {layer.name: layer.kind for layer in layers}
            made.outputs = [self._counted(r, kinds.get(r.layer, "")) for r in made.outputs]
            if self.is_version_2:
                self.count_calls(made)
        return made

    def _counted(self, reference: Reference, kind: str) -> Reference:
        """An output with its call counted from 0: to Keras 3 the making of a Functional model is one of its calls."""
        if self.is_version_2 or kind not in ("Functional", "Model"):
            return reference
        return replace(reference, call=max(reference.call - 1, 0))

    def count_calls(self, model: Model) -> None:
        """Keras 2 counts the making of a model in a model as a call everywhere: then its calls are 1 and more."""
        models = {layer.name: len(layer.calls) for layer in model.layers if layer.kind in MODELS}
        calls = [call for layer in model.layers for call in layer.calls]
        named = [r for call in calls for r in (*tensors_of(call.arguments), *tensors_of(call.named))]
        last: dict[str, int] = {}
        for reference in [*named, *model.outputs]:
            last[reference.layer] = max(last.get(reference.layer, 0), reference.call)
        shifted = {name for name, count in models.items() if last.get(name, 0) >= count}

        def counted(reference: Reference) -> Reference:
            earlier = replace(reference, call=max(reference.call - 1, 0))
            return earlier if reference.layer in shifted else reference

        if shifted:
            model.outputs = [counted(r) for r in model.outputs]
            for call in calls:
                call.arguments, call.named = replaced(call.arguments, counted), replaced(call.named, counted)

    def layer(self, entry: object) -> Layer:
        if not is_object(entry) or not is_text(entry.get("class_name")):
            raise self.problem("a layer has no class", str(entry)[:80])
        config = entry.get("config")
        kind: str = entry["class_name"]
        if kind == "Sequential" and is_list(config):
            config = {"layers": config}
        if not is_object(config):
            raise self.problem(f"a layer of class {kind!r} has no configuration")
        name = entry.get("name", config.get("name"))
        if not is_text(name) or not name:
            raise self.problem(f"a layer of class {kind!r} has no name", name)
        module = entry.get("module")
        made = Layer(kind, name, module if is_text(module) else "", config)
        nodes = entry.get("inbound_nodes", [])
        if not is_list(nodes):
            raise self.problem(f"layer {name!r} has no list of calls", nodes)
        self.calls += len(nodes)
        if self.calls > _MAX_CALLS:
            raise self.problem("the layers are called too often", f"> {_MAX_CALLS}")
        made.calls = [self.call(node, name) for node in nodes]
        return made

    def call(self, node: object, name: str) -> Call:
        if is_object(node):  # Keras 3
            arguments, named = self.value(node.get("args", []), 0), self.value(node.get("kwargs", {}), 0)
            if not is_list(arguments) or not is_object(named):
                raise self.problem(f"a call of layer {name!r} is damaged", str(node)[:80])
            return Call(arguments, named)
        if not is_list(node):
            raise self.problem(f"a call of layer {name!r} is damaged", str(node)[:80])
        tensors: list[Any] = []
        named: dict[str, Any] = {}
        single = _is_triple(node) or _is_constant(node)  # a call of one tensor may list it without brackets
        for entry in [node] if single else node:
            if _is_constant(entry):
                tensors.append(entry[2])
                named |= {k: self.legacy(v) for k, v in entry[3].items()} if is_object(entry[-1]) else {}
                continue
            if not _is_triple(entry):
                raise self.problem(f"a call of layer {name!r} is damaged", str(entry)[:80])
            tensors.append(Reference(entry[0], entry[1], entry[2]))
            if len(entry) > 3 and is_object(entry[3]):
                named |= {k: self.legacy(v) for k, v in entry[3].items()}
        return Call([tensors[0] if len(tensors) == 1 else tensors], named)

    def legacy(self, value: Any) -> Any:
        """An argument as Keras 2 has it: lists ``[layer, call, result]`` are tensors, or ``["_CONSTANT_VALUE", …]``."""
        if is_list(value) and _is_triple(value) and value[0] != "_CONSTANT_VALUE":
            return Reference(value[0], value[1], value[2])
        return value[2] if _is_constant(value) else value

    def value(self, value: Any, depth: int) -> Any:
        """An argument as Keras 3 has it."""
        if depth > 32:
            raise self.problem("an argument of a call is nested too deeply")
        if is_list(value):
            return [self.value(v, depth + 1) for v in value]
        if not is_object(value):
            return value
        kind, config = value.get("class_name"), value.get("config")
        if kind == "__keras_tensor__" and is_object(config):
            history = config.get("keras_history")
            if not _is_triple(history):
                raise self.problem("a tensor does not say which layer makes it", str(config)[:80])
            assert is_list(history)
            return Reference(history[0], history[1], history[2], _shape(config.get("shape")))
        if kind == "__slice__" and is_object(config):
            ends = [self.value(config.get(k), depth + 1) for k in ("start", "stop", "step")]
            if any(end is not None and not is_integer(end) for end in ends):
                raise self.problem("a slice has ends that are no integers", str(config)[:80])
            return Range(*ends)
        if kind == "__ellipsis__":
            return Rest()
        if kind == "__tuple__" and is_object(value):
            return self.value(value.get("items", config), depth + 1)
        return {k: self.value(v, depth + 1) for k, v in value.items()}

    def references(self, value: object, what: str) -> list[Reference]:
        """Tensors of a model in any of the forms: one, a list, or by name."""
        if _is_triple(value):
            assert is_list(value)
            return [Reference(value[0], value[1], value[2])]
        if is_object(value):
            value = list(value.values())
        if not is_list(value) or len(value) > MAX_LAYERS:
            raise self.problem(f"{what!r} is damaged", str(value)[:80])
        return [found for entry in value for found in self._one(entry, what)]

    def _one(self, entry: object, what: str) -> list[Reference]:
        if not _is_triple(entry):
            raise self.problem(f"{what!r} names something that is no tensor", str(entry)[:80])
        return self.references(entry, what)


def _is_constant(value: object) -> bool:
    """A value in place of a tensor, as Keras 2 has it."""
    return is_list(value) and 3 <= len(value) <= 4 and value[0] == "_CONSTANT_VALUE"


def _is_triple(value: object) -> bool:
    if not is_list(value) or not 3 <= len(value) <= 4 or not is_text(value[0]):
        return False
    return is_integer(value[1]) and is_integer(value[2]) and min(value[1], value[2]) >= 0


def _shape(value: object) -> tuple[int | None, ...] | None:
    if not is_list(value) or len(value) > 16:
        return None
    if any(size is not None and (not is_integer(size) or size < 0) for size in value):
        return None
    return tuple(value)


def tensors_of(value: Any) -> Iterator[Reference]:
    """All tensors in an argument, in order."""
    if isinstance(value, Reference):
        yield value
    elif is_sequence(value):
        for item in value:
            yield from tensors_of(item)
    elif is_object(value):
        for item in value.values():
            yield from tensors_of(item)


def replaced(value: Any, replacement: Callable[[Reference], Any]) -> Any:
    """An argument with something else in place of its references."""
    if isinstance(value, Reference):
        return replacement(value)
    if is_list(value):
        return [replaced(v, replacement) for v in value]
    if is_object(value):
        return {k: replaced(v, replacement) for k, v in value.items()}
    return value


def read_model(config: dict[str, Any], where: str, is_version_2: bool) -> Model:
    """The records of a model.

    Raises:
        InputFileError: the configuration is not one that Keras writes.
    """
    kind = config.get("class_name")
    return _Reader(where, is_version_2).model(str(kind), config.get("config"), "model")


def read_inner(layer: Layer, where: str, is_version_2: bool) -> Model:
    """The records of a model that is a layer of another."""
    return _Reader(where, is_version_2).model(layer.kind, layer.config, layer.name)


def read_wrapped(entry: object, name: str, where: str) -> Layer:
    """A layer that is an option of another (Bidirectional, TimeDistributed)."""
    found = _Reader(where, False).layer(entry)
    return Layer(found.kind, name, found.module, found.config)


__all__ = [
    "MODELS",
    "Call",
    "Layer",
    "Model",
    "Range",
    "Reference",
    "Rest",
    "read_inner",
    "read_model",
    "read_wrapped",
    "replaced",
    "tensors_of",
]  # fmt: skip
