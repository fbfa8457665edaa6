# SPDX-License-Identifier: Apache-2.0
"""Which arrays belong to which layer, in both ways that Keras has of storing them.

A ``.keras`` file has a tree of groups that follows the objects: ``layers/conv2d_1/vars/0``, where a layer goes by its
class and its number among those of its class. An ``.h5`` file has one group per layer of the outer model, under the
layer's name, with a list of arrays: those of the layer and of all that it contains, trainable ones first.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.formats.keras.hdf5 import DamagedError, Dataset, Group, UnreadableError
from headrace.frontends.graph import Unsupported
from headrace.hn import Array
from headrace.typeguards import is_list

_NUMBERS = "numbers of a float type"


def snake_case(name: str) -> str:
    """The name that Keras makes of a class: ``Conv2D`` → ``conv2d``, ``PReLU`` → ``p_re_lu``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _float32(dataset: Dataset, what: str) -> Array:
    try:
        found = dataset.read()
    except (DamagedError, UnreadableError) as error:
        raise Unsupported(f"{what} cannot be read: {error}", "a file that is whole") from None
    if found.dtype.kind not in "fiu":
        raise Unsupported(f"{what} has type {found.dtype}", _NUMBERS)
    return found if found.dtype == np.float32 else found.astype(np.float32)


class LayerWeights(ABC):
    """The arrays of a model, a layer, or a part of a layer."""

    @abstractmethod
    def array(self, index: int, what: str) -> Array:
        """Array ``index`` in the order of the layer's own variables, float32.

        Raises:
            Unsupported: there is none, or it cannot be read.
        """

    @abstractmethod
    def part(self, names: Sequence[str], index: int = 0, count: int = 1) -> LayerWeights:
        """A part of a layer, which is a layer itself.

        Args:
            names: what the part may be called.
            index, count: which part it is, of how many that have the same number of arrays.
        """

    @abstractmethod
    def layers(self, found: Sequence[tuple[str, str]]) -> list[LayerWeights]:
        """Those of the layers of a model, which are given by class and name, in order."""


class NoWeights(LayerWeights):
    """What stands for arrays that the file does not have."""

    def __init__(self, what: str) -> None:
        self.what = what

    def array(self, index: int, what: str) -> Array:
        raise Unsupported(f"the file has no {what} of it: {self.what}", "a file that is whole")

    def part(self, names: Sequence[str], index: int = 0, count: int = 1) -> LayerWeights:
        return self

    def layers(self, found: Sequence[tuple[str, str]]) -> list[LayerWeights]:
        return [self for _ in found]


@dataclass(frozen=True)
class TreeWeights(LayerWeights):
    """Those of a ``.keras`` file."""

    group: Group

    def array(self, index: int, what: str) -> Array:
        found = self._dataset(f"vars/{index}", what)
        return _float32(found, f"the {what}")

    def _dataset(self, path: str, what: str) -> Dataset:
        try:
            found = self.group.dataset(path)
        except (DamagedError, UnreadableError) as error:
            raise Unsupported(f"the {what} cannot be read: {error}", "a file that is whole") from None
        if found is None:
            raise Unsupported(f"the file has no {what} of it: {self.group.what}/{path}", "a file that is whole")
        return found

    def part(self, names: Sequence[str], index: int = 0, count: int = 1) -> LayerWeights:
        for name in names:
            try:
                found = self.group.group(name)
            except (DamagedError, UnreadableError) as error:
                return NoWeights(str(error))
            if found is not None:
                return TreeWeights(found)
        return NoWeights(f"{self.group.what}/{names[0]}")

    def layers(self, found: Sequence[tuple[str, str]]) -> list[LayerWeights]:
        container = self.part(("layers", "_layer_checkpoint_dependencies"))
        used: dict[str, int] = {}
        made: list[LayerWeights] = []
        for kind, _ in found:
            name = snake_case(kind)
            used[name] = used.get(name, -1) + 1
            made.append(container.part((f"{name}_{used[name]}" if used[name] else name,)))
        return made


@dataclass(frozen=True)
class ListedWeights(LayerWeights):
    """Those of an ``.h5`` file: names of arrays below a group, in order.

    Attributes:
        group: of the layer of the outer model; of all of them where ``names`` is None.
        names: paths below the group; None for the outer model itself.
    """

    group: Group
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, group: Group) -> ListedWeights:
        """Those of a whole file: the group ``model_weights``."""
        return cls(group)

    def array(self, index: int, what: str) -> Array:
        names = self.names or ()
        if index >= len(names):
            raise Unsupported(f"the file has no {what} of it: {self.group.what} lists {len(names)} arrays")
        try:
            found = self.group.dataset(names[index])
        except (DamagedError, UnreadableError) as error:
            raise Unsupported(f"the {what} cannot be read: {error}", "a file that is whole") from None
        if found is None:
            raise Unsupported(f"the file has no {what} of it: {self.group.what}/{names[index]}")
        return _float32(found, f"the {what}")

    def part(self, names: Sequence[str], index: int = 0, count: int = 1) -> LayerWeights:
        own = self.names or ()
        size = len(own) // count
        return ListedWeights(self.group, own[index * size : (index + 1) * size])

    def layers(self, found: Sequence[tuple[str, str]]) -> list[LayerWeights]:
        return [self._layer(name) for _, name in found]

    def _layer(self, layer: str) -> LayerWeights:
        if self.names is not None:  # a model in a model: its arrays go by names that begin with those of its layers
            mine = tuple(n for n in self.names if layer in n.split("/")[:-1])
            return ListedWeights(self.group, mine)
        try:
            group = self.group.group(layer)
            names = _listed(group) if group is not None else []
        except (DamagedError, UnreadableError) as error:
            return NoWeights(str(error))
        return NoWeights(f"{self.group.what}/{layer}") if group is None else ListedWeights(group, tuple(names))


def _listed(group: Group) -> list[str]:
    """The names of a layer's arrays, in order; a long list is stored in several attributes."""
    found = group.attribute("weight_names")
    if found is not None:
        return _texts(found)
    names: list[str] = []
    while (found := group.attribute(f"weight_names{len(names)}")) is not None:
        names += _texts(found)
    return names


def _texts(value: object) -> list[str]:
    return [str(v) for v in value] if is_list(value) else []
