# SPDX-License-Identifier: Apache-2.0
"""The network (HN): layers that read and make values.

What a kind of layer means is in :mod:`headrace.layers`. Kinds this version does not know are kept unchanged, so a file
of a newer version can be read, shown and saved.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError, InternalError, UsageError, unknown_name
from headrace.hn.names import meant
from headrace.hn.value import Use, Value, Wish
from headrace.layers.move import Boundary, InputLayer, OutputLayer
from headrace.layers.operation import Operation
from headrace.numerics.array import Array
from headrace.numerics.requantize import Clamp

SCHEMA_VERSION = 1


class Layer:
    """One layer: an operation, the values it reads, those it makes, and its own parameters.

    Args:
        name: ``"<net>/<prefix><index>"``, unique.
        operation: what it computes.
        inputs: names of the values it reads, in operand order; they are looked up when a network takes the layer.
        output_shape: shape of its first result: ``(-1, H, W, C)`` or ``(-1, C)``; -1 is the batch.
        original_names: names of the source nodes it stands for.
        wish: what is wished of the first result's precision.

    Attributes:
        name, original_names: as given.
        operation: replaced as a whole where an attribute changes.
        operands: the values it reads, in order; changed by the network's methods alone.
        results: the values it makes; most layers make one.
        params: its arrays by name: floats, or the integers that ``optimize`` froze (see ``docs/numerics.md``).
        clamp: of a quantized network: the rest of its frozen requantization; ``None`` where codes pass.
        accumulator_bits: of a quantized network: what the sums of products need.
        kept: facts about its quantization in a file of a newer version, kept as they are.
    """

    def __init__(
        self,
        name: str,
        operation: Operation,
        inputs: Sequence[str] = (),
        output_shape: tuple[int, ...] = (),
        original_names: Sequence[str] = (),
        wish: Wish | None = None,
    ) -> None:
        self.name = name
        self.operation = operation
        self.original_names = list(original_names)
        self.operands: tuple[Value, ...] | None = None  # None: in no network yet
        self.results: tuple[Value, ...] = (Value(self, 0, output_shape, wish=wish),)
        self.params: dict[str, Array] = {}
        self.clamp: Clamp | None = None
        self.accumulator_bits: int | None = None
        self.kept: dict[str, Any] = {}
        self._wanted = tuple(inputs)

    def __repr__(self) -> str:
        return f"Layer({self.name!r}, {self.operation!r}, {list(self.inputs)!r}, {self.output_shape!r})"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values it reads, in operand order."""
        return self._wanted if self.operands is None else tuple(value.name for value in self.operands)

    @property
    def output(self) -> Value:
        """The first result, of most layers the only one."""
        return self.results[0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return self.results[0].shape

    @output_shape.setter
    def output_shape(self, shape: tuple[int, ...]) -> None:
        self.results[0].shape = shape

    @property
    def wish(self) -> Wish:
        """What is wished of the first result's precision; nothing in particular where nothing is said."""
        return self.results[0].wish or Wish()

    @property
    def kind(self) -> str:
        """The operation's name in files, for people and reports."""
        return self.operation.kind

    @property
    def boundary(self) -> Boundary:
        """The operation of an input or output layer: how the source file sees the tensor."""
        if not isinstance(self.operation, Boundary):
            raise InternalError(Diagnostic("E-HN-BOUNDARY", self.name, "the layer is no input or output", self.kind))
        return self.operation

    @property
    def attributes(self) -> Mapping[str, Any]:
        """All attributes as plain JSON values, to read; see :attr:`operation`."""
        return MappingProxyType(self.operation.all_attributes)

    @property
    def short_name(self) -> str:
        return self.name.rsplit("/", 1)[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that may mean the layer: in full, without the scope, the source tensor's, the source nodes'."""
        source = self.operation.source_name if isinstance(self.operation, Boundary) else ""
        return tuple(dict.fromkeys(n for n in (self.name, self.short_name, source, *self.original_names) if n))

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one frame; a vector is 1×1×C."""
        shape = self.output_shape[1:]
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, int(np.prod(shape, dtype=np.int64)))


class Network:
    """A directed acyclic graph of layers in topological order.

    Attributes:
        name: network name, the scope of its layers.
        layers: name → layer, inputs before users; changed by the methods alone.
        net_params: plain JSON facts about the whole network (output order, stage, source …).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layers: dict[str, Layer] = {}
        self.net_params: dict[str, Any] = {"version": SCHEMA_VERSION, "net_scopes": [name]}
        self._positions: dict[Layer, int] | None = None

    # --- reading -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Layer]:
        return iter(list(self.layers.values()))

    def __getitem__(self, name: str) -> Layer:
        try:
            return self.layers[name]
        except KeyError:
            raise InternalError(
                Diagnostic("E-HN-NO-LAYER", self.name, "a layer is referred to but absent", name)
            ) from None

    def find(self, name: str) -> Layer:
        """The layer of this HN name (scope may be left out) or original name.

        Raises:
            UsageError: there is none, with the nearest names.
        """
        layer = self.named(name)
        if layer is not None:
            return layer
        known = list(self.layers) + [o for layer in self.layers.values() for o in layer.original_names]
        raise UsageError(unknown_name("E-HN-UNKNOWN-LAYER", "layer", name, known, self.name))

    def named(self, name: str) -> Layer | None:
        """The layer of this HN name (scope may be left out), else the first of this original name; None without one."""
        for candidate in (name, f"{self.name}/{name}"):
            if candidate in self.layers:
                return self.layers[candidate]
        return next((layer for layer in self.layers.values() if name in layer.original_names), None)

    def find_input(self, name: str) -> Layer | None:
        """The input layer that a name means: any of :attr:`Layer.names`, as long as it means one input."""
        return meant(name, self.input_layers, lambda layer: layer.names)

    def of_kind(self, *kinds: str) -> list[Layer]:
        """Layers by the names that files and people use; code asks by :meth:`of`."""
        return [layer for layer in self.layers.values() if layer.kind in kinds]

    def of(self, *operations: type[Operation]) -> list[Layer]:
        """Layers that compute one of these, or of their subclasses, in topological order."""
        return [layer for layer in self.layers.values() if isinstance(layer.operation, operations)]

    @property
    def input_layers(self) -> list[Layer]:
        return self.of(InputLayer)

    @property
    def output_layers(self) -> list[Layer]:
        """Output layers in the order of the source file's outputs."""
        order: list[str] = self.net_params.get("output_layers_order", [])
        found = {layer.name: layer for layer in self.of(OutputLayer)}
        return [found.pop(n) for n in order if n in found] + list(found.values())

    def value(self, name: str) -> Value:
        """The value of this name (see :attr:`Value.name`)."""
        if name in self.layers:
            return self.layers[name].output
        found = next((value for value in self[name.rpartition(":")[0] or name].results if value.name == name), None)
        if found is None:
            raise InternalError(Diagnostic("E-HN-NO-LAYER", self.name, "a value is referred to but absent", name))
        return found

    def users(self, name: str) -> list[Layer]:
        """Layers that read a value, in topological order; one that reads it twice appears once."""
        found = dict.fromkeys(use.layer for use in self.value(name).uses)
        if len(found) < 2:
            return list(found)
        if self._positions is None:
            self._positions = {layer: i for i, layer in enumerate(self.layers.values())}
        return sorted(found, key=self._positions.__getitem__)

    @property
    def params(self) -> MutableMapping[str, Array]:
        """Every layer's parameters in one view: ``"<layer name>/<parameter>"`` → array."""
        return LayerParameters(self.layers)

    @params.setter
    def params(self, arrays: Mapping[str, Array]) -> None:
        given = dict(arrays)
        for layer in self.layers.values():
            layer.params = {}
        self.params.update(given)

    def param(self, layer: Layer, key: str) -> Array:
        """A parameter of a layer.

        Raises:
            InputFileError: it is absent.
        """
        if key not in layer.params:
            rule = "a parameter that the layer needs is absent"
            raise InputFileError(Diagnostic("E-HN-NO-PARAM", f"{layer.name}/{key}", rule, "nothing", "an array"))
        return layer.params[key]

    def input_shapes(self, layer: Layer) -> list[tuple[int, ...]]:
        """Shapes of what a layer reads, in operand order; of one that is in no network yet too."""
        if layer.operands is not None:
            return [value.shape for value in layer.operands]
        return [self.value(name).shape for name in layer.inputs]

    # --- changing ------------------------------------------------------------------------------------------------

    def add(self, layer: Layer, params: Mapping[str, Array] | None = None) -> Layer:
        """Append a layer; what it reads must be there already."""
        if layer.name in self.layers:
            raise InternalError(Diagnostic("E-HN-DUPLICATE", layer.name, "two layers have one name"))
        self.set_operands(layer, [self.value(name) for name in layer.inputs])
        self.layers[layer.name] = layer
        self._positions = None
        layer.params.update(params or {})
        return layer

    def insert_after(self, anchor: str, layer: Layer, params: Mapping[str, Array] | None = None) -> Layer:
        """Put ``layer`` right behind ``anchor`` in the order; no edge is changed but the layer's own."""
        order = list(self.layers.values())
        self.add(layer, params)
        order.insert(order.index(self[anchor]) + 1, layer)
        self.layers = {x.name: x for x in order}
        return layer

    def set_operands(self, layer: Layer, values: Sequence[Value]) -> None:
        """Let a layer read these values, in this order, and no others."""
        for value in layer.operands or ():
            value.uses = [use for use in value.uses if use.layer is not layer]
        layer.operands = tuple(values)
        for position, value in enumerate(layer.operands):
            value.uses.append(Use(layer, position))

    def set_operand(self, layer: Layer, position: int, value: Value) -> None:
        """Let a layer read another value as one operand."""
        values = list(layer.operands or ())
        values[position] = value
        self.set_operands(layer, values)

    def replace(self, old: Value, new: Value, users: Iterable[Layer] | None = None) -> None:
        """Let the users of a value (or those given) read another one instead; costs their uses.

        The producer of ``new`` goes on reading ``old``.
        """
        chosen = dict.fromkeys((use.layer for use in old.uses) if users is None else users)
        chosen.pop(new.producer, None)
        moved = [use for use in old.uses if use.layer in chosen]
        for layer in dict.fromkeys(use.layer for use in moved):
            layer.operands = tuple(new if value is old else value for value in layer.operands or ())
        old.uses = [use for use in old.uses if use.layer not in chosen]
        new.uses += moved

    def redirect(self, old: str, new: str, users: Iterable[Layer] | None = None) -> None:
        """As :meth:`replace`, by names."""
        self.replace(self.value(old), self.value(new), users)

    def remove(self, *names: str) -> None:
        """Remove layers that nobody but they themselves read, with their parameters."""
        gone = dict.fromkeys(self[name] for name in names)
        for layer in gone:
            if any(use.layer not in gone for value in layer.results for use in value.uses):
                raise InternalError(Diagnostic("E-HN-IN-USE", layer.name, "a layer that is read cannot be removed"))
        for layer in gone:
            self.set_operands(layer, [])
            del self.layers[layer.name]
        self._positions = None

    def bypass(self, name: str) -> None:
        """Remove a layer with one input, letting its users read that input; keeps its original names there."""
        layer = self[name]
        source = self[layer.inputs[0]]
        source.original_names += [o for o in layer.original_names if o not in source.original_names]
        self.redirect(name, source.name)
        self.remove(name)

    def rename(self, mapping: Mapping[str, str]) -> None:
        """Rename layers (all at once, so that names may be swapped)."""
        renamed = {mapping.get(name, name): layer for name, layer in self.layers.items()}
        if len(renamed) != len(self.layers):
            raise InternalError(Diagnostic("E-HN-DUPLICATE", self.name, "a renaming gives two layers one name"))
        for name, layer in renamed.items():
            layer.name = name
        self.layers = renamed
        order = self.net_params.get("output_layers_order")
        if order is not None:
            self.net_params["output_layers_order"] = [mapping.get(n, n) for n in order]

    def sort(self) -> None:
        """Restore topological order (stable: ties keep their present order)."""
        layers = list(self.layers.values())
        position = {layer: i for i, layer in enumerate(layers)}
        producers = [{value.producer for value in layer.operands or ()} for layer in layers]
        waiting = [len(found) for found in producers]
        ready = [i for i, count in enumerate(waiting) if count == 0]
        heapq.heapify(ready)
        order: list[Layer] = []
        while ready:
            layer = layers[heapq.heappop(ready)]
            order.append(layer)
            for user in dict.fromkeys(use.layer for value in layer.results for use in value.uses):
                at = position[user]
                waiting[at] -= 1
                if waiting[at] == 0:
                    heapq.heappush(ready, at)
        if len(order) != len(layers):
            placed = set(order)
            cycle = [layer.name for layer in layers if layer not in placed]
            raise InputFileError(
                Diagnostic("E-HN-CYCLE", self.name, "the layers form a cycle", ", ".join(cycle[:8]), "no cycle")
            )
        self.layers = {layer.name: layer for layer in order}
        self._positions = None

    def clone(self) -> Network:
        """A copy whose layers may be changed freely; parameter arrays are shared (nobody writes into one)."""
        other = Network(self.name)
        values: dict[Value, Value] = {}
        for layer in self.layers.values():
            twin = Layer(layer.name, layer.operation, (), (), layer.original_names)
            twin.results = tuple(replace(value, producer=twin, uses=[]) for value in layer.results)
            values |= zip(layer.results, twin.results, strict=True)
            twin.params, twin.clamp = dict(layer.params), layer.clamp
            twin.accumulator_bits, twin.kept = layer.accumulator_bits, copy.deepcopy(layer.kept)
            other.layers[twin.name] = twin
        for layer, twin in zip(self.layers.values(), other.layers.values(), strict=True):
            other.set_operands(twin, [values[value] for value in layer.operands or ()])
        other.net_params = copy.deepcopy(self.net_params)
        return other


class LayerParameters(MutableMapping[str, Array]):
    """The parameters of all layers by ``"<layer name>/<parameter>"``; each stays with its layer."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers

    def _place(self, key: str) -> tuple[dict[str, Array], str]:
        name, _, parameter = key.rpartition("/")
        if name not in self._layers:
            raise KeyError(key)
        return self._layers[name].params, parameter

    def __getitem__(self, key: str) -> Array:
        params, parameter = self._place(key)
        if parameter not in params:
            raise KeyError(key)
        return params[parameter]

    def __setitem__(self, key: str, array: Array) -> None:
        params, parameter = self._place(key)
        params[parameter] = array

    def __delitem__(self, key: str) -> None:
        params, parameter = self._place(key)
        if parameter not in params:
            raise KeyError(key)
        del params[parameter]

    def __iter__(self) -> Iterator[str]:
        return (f"{layer.name}/{key}" for layer in self._layers.values() for key in layer.params)

    def __len__(self) -> int:
        return sum(len(layer.params) for layer in self._layers.values())
