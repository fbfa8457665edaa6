# SPDX-License-Identifier: Apache-2.0
"""The network (HN): layers as plain data, parameters as arrays.

What a kind of layer means is in :mod:`headrace.layers`. Kinds this version does not know are kept unchanged, so a file
of a newer version can be read, shown and saved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError, InternalError, UsageError, unknown_name
from headrace.layers.move import Boundary, InputLayer, OutputLayer
from headrace.layers.operation import Operation
from headrace.numerics.array import Array

SCHEMA_VERSION = 1


@dataclass
class Layer:
    """One layer.

    Attributes:
        name: ``"<net>/<prefix><index>"``, unique.
        operation: what it computes; replaced as a whole where an attribute changes.
        inputs: names of the layers whose output it reads, in operand order.
        output_shape: shape of its one output tensor: ``(-1, H, W, C)`` or ``(-1, C)``; -1 is the batch.
        original_names: names of the source nodes it stands for.
        quantization: integers and scales frozen by ``optimize`` (see ``docs/numerics.md``), or ``None``.
    """

    name: str
    operation: Operation
    inputs: list[str] = field(default_factory=list)
    output_shape: tuple[int, ...] = ()
    original_names: list[str] = field(default_factory=list)
    quantization: dict[str, Any] | None = None

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
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one frame; a vector is 1×1×C."""
        shape = self.output_shape[1:]
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, int(np.prod(shape, dtype=np.int64)))


class Network:
    """A directed acyclic graph of layers in topological order, and the parameters they use.

    Attributes:
        name: network name, the scope of its layers.
        layers: name → layer, inputs before users.
        params: ``"<layer name>/<parameter>"`` → array.
        net_params: plain JSON facts about the whole network (output order, stage, source …).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layers: dict[str, Layer] = {}
        self.params: dict[str, Array] = {}
        self.net_params: dict[str, Any] = {"version": SCHEMA_VERSION, "net_scopes": [name]}

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
        for candidate in (name, f"{self.name}/{name}"):
            if candidate in self.layers:
                return self.layers[candidate]
        for layer in self.layers.values():
            if name in layer.original_names:
                return layer
        known = list(self.layers) + [o for layer in self.layers.values() for o in layer.original_names]
        raise UsageError(unknown_name("E-HN-UNKNOWN-LAYER", "layer", name, known, self.name))

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

    def users(self, name: str) -> list[Layer]:
        """Layers that read ``name``, in topological order; one that reads it twice appears once."""
        return [layer for layer in self.layers.values() if name in layer.inputs]

    def param(self, layer: Layer | str, key: str) -> Array:
        full = f"{layer if isinstance(layer, str) else layer.name}/{key}"
        try:
            return self.params[full]
        except KeyError:
            raise InputFileError(
                Diagnostic("E-HN-NO-PARAM", full, "a parameter that the layer needs is absent", "nothing", "an array")
            ) from None

    def params_of(self, layer: Layer | str) -> dict[str, Array]:
        """Parameters of one layer, without the layer's name in the keys."""
        prefix = (layer if isinstance(layer, str) else layer.name) + "/"
        return {
            k[len(prefix) :]: v for k, v in self.params.items() if k.startswith(prefix) and "/" not in k[len(prefix) :]
        }

    def input_shapes(self, layer: Layer) -> list[tuple[int, ...]]:
        return [self[name].output_shape for name in layer.inputs]

    # --- changing ------------------------------------------------------------------------------------------------

    def add(self, layer: Layer, params: Mapping[str, Array] | None = None) -> Layer:
        """Append a layer; its inputs must be there already."""
        if layer.name in self.layers:
            raise InternalError(Diagnostic("E-HN-DUPLICATE", layer.name, "two layers have one name"))
        for name in layer.inputs:
            self[name]
        self.layers[layer.name] = layer
        for key, value in (params or {}).items():
            self.params[f"{layer.name}/{key}"] = value
        return layer

    def insert_after(self, anchor: str, layer: Layer, params: Mapping[str, Array] | None = None) -> Layer:
        """Put ``layer`` right behind ``anchor`` in the order; no edge is changed but the layer's own."""
        order = list(self.layers.values())
        self.add(layer, params)
        order.insert([x.name for x in order].index(anchor) + 1, layer)
        self.layers = {x.name: x for x in order}
        return layer

    def redirect(self, old: str, new: str, users: Iterable[Layer] | None = None) -> None:
        """Let the users of ``old`` (or those given) read ``new`` instead."""
        for layer in list(users) if users is not None else self.users(old):
            if layer.name != new:
                layer.inputs = [new if name == old else name for name in layer.inputs]

    def remove(self, name: str) -> None:
        """Remove a layer that nobody reads, with its parameters."""
        if self.users(name):
            raise InternalError(Diagnostic("E-HN-IN-USE", name, "a layer that is read cannot be removed"))
        del self.layers[name]
        for key in [k for k in self.params if k.startswith(name + "/")]:
            del self.params[key]

    def bypass(self, name: str) -> None:
        """Remove a layer with one input, letting its users read that input; keeps its original names there."""
        layer = self[name]
        source = self[layer.inputs[0]]
        source.original_names += [o for o in layer.original_names if o not in source.original_names]
        self.redirect(name, source.name)
        self.remove(name)

    def rename(self, mapping: Mapping[str, str]) -> None:
        """Rename layers (all at once, so that names may be swapped)."""
        renamed: dict[str, Layer] = {}
        for layer in self.layers.values():
            layer.name = mapping.get(layer.name, layer.name)
            layer.inputs = [mapping.get(name, name) for name in layer.inputs]
            renamed[layer.name] = layer
        if len(renamed) != len(self.layers):
            raise InternalError(Diagnostic("E-HN-DUPLICATE", self.name, "a renaming gives two layers one name"))
        self.layers = renamed

        def new_key(key: str) -> str:
            owner, _, param = key.rpartition("/")
            return f"{mapping.get(owner, owner)}/{param}"

        self.params = {new_key(k): v for k, v in self.params.items()}
        order = self.net_params.get("output_layers_order")
        if order is not None:
            self.net_params["output_layers_order"] = [mapping.get(n, n) for n in order]

    def sort(self) -> None:
        """Restore topological order (stable: ties keep their present order)."""
        position = {name: i for i, name in enumerate(self.layers)}
        waiting = {layer.name: len(set(layer.inputs)) for layer in self.layers.values()}
        users: dict[str, list[str]] = {name: [] for name in self.layers}
        for layer in self.layers.values():
            for name in dict.fromkeys(layer.inputs):
                users[self[name].name].append(layer.name)
        import heapq

        ready = [position[n] for n, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        names, order = list(self.layers), []
        while ready:
            name = names[heapq.heappop(ready)]
            order.append(name)
            for user in users[name]:
                waiting[user] -= 1
                if waiting[user] == 0:
                    heapq.heappush(ready, position[user])
        if len(order) != len(names):
            cycle = [n for n in names if n not in set(order)]
            raise InputFileError(
                Diagnostic("E-HN-CYCLE", self.name, "the layers form a cycle", ", ".join(cycle[:8]), "no cycle")
            )
        self.layers = {name: self.layers[name] for name in order}

    def clone(self) -> Network:
        """A copy whose layers may be changed freely; parameter arrays are shared (nobody writes into one)."""
        other = Network(self.name)
        other.layers = {name: copy.deepcopy(layer) for name, layer in self.layers.items()}
        other.params = dict(self.params)
        other.net_params = copy.deepcopy(self.net_params)
        return other
