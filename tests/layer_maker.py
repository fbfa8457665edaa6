# SPDX-License-Identifier: Apache-2.0
"""Layers by the names and JSON attributes that files have, as tests write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.hn import Layer, Network
from headrace.layers import read_operation


def make_layer(
    name: str,
    kind: str,
    inputs: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] = (),
    original_names: Sequence[str] = (),
) -> Layer:
    """A layer that is in no network yet."""
    operation = read_operation(kind, attributes or {}, name)
    return Layer(name, operation, list(inputs), shape, list(original_names))


def set_attributes(network: Network, name: str, **changes: Any) -> None:
    """Change attributes of a layer, given as JSON values."""
    layer = network[name]
    layer.operation = read_operation(layer.kind, {**layer.operation.json_attributes, **changes}, name)


def global_window(kind: str, attributes: Mapping[str, Any], shape: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """``global_avgpool``, which tests write short, as the average pool of an input of ``shape`` that it is."""
    return ("avgpool", {"kernel_shape": list(shape[1:3])}) if kind == "global_avgpool" else (kind, dict(attributes))
