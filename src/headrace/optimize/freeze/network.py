# SPDX-License-Identifier: Apache-2.0
"""Freezing a whole network, layer by layer, with what corrects it on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from headrace.hn import Layer
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.families import check_freezable, freeze_layer
from headrace.optimize.options import Progress
from headrace.reports.optimize import Decision


class Steps:
    """What a correction does in one freezing. The base does nothing."""

    def before(self, layer: Layer) -> Sequence[Decision]:
        """A layer is about to be frozen, those it reads are; its float parameters may be changed."""
        del layer
        return ()

    def after(self, layer: Layer) -> None:
        """A layer is frozen."""
        del layer


class Correction:
    """Something that makes up for what quantization does, while a network is frozen.

    It holds no state of one freezing, so that a network can be frozen again with the same corrections.

    Attributes:
        name: of the algorithm that proposes it; a trial has one correction of a name.
        progress: what to say while layers are frozen with it; empty: as without.
    """

    name: ClassVar[str]
    progress: ClassVar[str] = ""

    def begin(self, context: FreezeContext) -> Steps:
        """Take part in one freezing, before its first layer."""
        raise NotImplementedError


def freeze_network(
    context: FreezeContext, progress: Progress | None = None, corrections: Sequence[Correction] = ()
) -> list[Decision]:
    """Freeze every layer in topological order.

    Args:
        context: the float network, which becomes the quantized one.
        progress: called with (layers done, all layers, text).
        corrections: take part, in this order at every layer.

    Returns:
        What the corrections decided, in the order of the layers.

    Raises:
        NotBuiltYetError: naming every layer whose kind has no rule.
    """
    check_freezable(context.network)
    text = next((correction.progress for correction in corrections if correction.progress), "freezing")
    taking_part = [correction.begin(context) for correction in corrections]
    decisions: list[Decision] = []
    layers = list(context.network)
    for done, layer in enumerate(layers, start=1):
        for steps in taking_part:
            decisions += steps.before(layer)
        freeze_layer(context, layer)
        for steps in taking_part:
            steps.after(layer)
        if progress is not None:
            progress(done, len(layers), text)
    return decisions
