# SPDX-License-Identifier: Apache-2.0
"""The registry of families: which rule freezes a layer."""

from __future__ import annotations

from collections.abc import Callable

from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hn import Layer, Network
from headrace.optimize.freeze.context import FreezeContext

Freezer = Callable[[FreezeContext, Layer], None]
_FREEZERS: dict[str, Freezer] = {}


def freezes(*kinds: str) -> Callable[[Freezer], Freezer]:
    """Register a family's rule for these kinds."""

    def record(freezer: Freezer) -> Freezer:
        for kind in kinds:
            _FREEZERS[kind] = freezer
        return freezer

    return record


def check_freezable(network: Network) -> None:
    """Raises NotBuiltYetError naming every layer whose kind has no rule."""
    missing = [layer for layer in network if layer.kind not in _FREEZERS]
    if missing:
        raise NotBuiltYetError(
            [
                Diagnostic("E-OPTIMIZE-KIND", x.name, "layers of this kind cannot be quantized yet", x.kind)
                for x in missing
            ]
        )


def freeze_layer(context: FreezeContext, layer: Layer) -> None:
    """Freeze one layer of a network that :func:`check_freezable` has passed; those it reads are frozen already."""
    _FREEZERS[layer.kind](context, layer)
