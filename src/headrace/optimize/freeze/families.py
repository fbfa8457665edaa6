# SPDX-License-Identifier: Apache-2.0
"""The registry of families: which rule freezes a layer."""

from __future__ import annotations

from collections.abc import Callable

from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hn import Layer, Network
from headrace.layers import InputLayer, Operation, ScaleRule
from headrace.optimize.freeze.context import FreezeContext

Freezer = Callable[[FreezeContext, Layer], None]
_FREEZERS: dict[type[Operation], Freezer] = {}


def freezes(*operations: type[Operation]) -> Callable[[Freezer], Freezer]:
    """Register the rule of these operations and of all that are made of them."""

    def record(freezer: Freezer) -> Freezer:
        for operation in operations:
            _FREEZERS[operation] = freezer
        return freezer

    return record


def freezer_of(operation: type[Operation]) -> Freezer | None:
    """The rule of an operation, or of the nearest that it is made of; where codes pass or enter it needs none."""
    for one in operation.__mro__:
        if one in _FREEZERS:
            return _FREEZERS[one]
    passes = operation.scale_rule in (ScaleRule.PASSES, ScaleRule.CONCAT)
    return _freeze_scale if passes or issubclass(operation, InputLayer) else None


def _freeze_scale(context: FreezeContext, layer: Layer) -> None:
    """Codes are computed from nothing: the result's quantization is all there is."""
    context.store(layer, None)


def check_freezable(network: Network) -> None:
    """Raises NotBuiltYetError naming every layer whose operation has no rule."""
    missing = [layer for layer in network if freezer_of(type(layer.operation)) is None]
    if missing:
        raise NotBuiltYetError(
            [
                Diagnostic("E-OPTIMIZE-KIND", x.name, "layers of this kind cannot be quantized yet", x.kind)
                for x in missing
            ]
        )


def freeze_layer(context: FreezeContext, layer: Layer) -> None:
    """Freeze one layer of a network that :func:`check_freezable` has passed; those it reads are frozen already."""
    freezer = freezer_of(type(layer.operation))
    assert freezer is not None
    freezer(context, layer)
