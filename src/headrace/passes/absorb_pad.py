# SPDX-License-Identifier: Apache-2.0
"""Explicit padding with real zero goes into the convolutions that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from headrace.hn import Layer, Network
from headrace.layers import Convolving, Pad
from headrace.passes.rewriting import Facts, Pass


def _widened(user: Layer, pad: Pad) -> Convolving | None:
    """The user with the pad added to its padding, or None where that is not the same arithmetic or breaks a rule."""
    old = user.operation
    if not isinstance(old, Convolving):
        return None
    extents = [(k - 1) * d + 1 for k, d in zip(old.kernel_shape[:2], old.dilations, strict=True)]
    top, left, bottom, right = (o + p for o, p in zip(old.padding, [*pad.before[:2], *pad.after[:2]], strict=True))
    fits = max(top, bottom) < extents[0] and max(left, right) < extents[1]
    return replace(old, padding=(top, left, bottom, right)) if fits else None


@dataclass(frozen=True)
class AbsorbPad(Pass):
    """Absorb ``external_pad`` of height and width into every convolution that reads it, when all its readers can."""

    name: ClassVar[str] = "absorb-pad"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for layer in network.of(Pad):
            pad = layer.operation
            if not isinstance(pad, Pad) or len(pad.before) != 3 or pad.before[2] or pad.after[2]:
                continue
            users = network.users(layer.name)
            widened = [_widened(user, pad) for user in users if user.inputs.count(layer.name) == 1]
            if not users or len(widened) < len(users) or any(u.inputs[0] != layer.name for u in users):
                continue
            if None in widened:
                continue
            for user, operation in zip(users, widened, strict=True):
                assert operation is not None
                user.operation = operation
                user.original_names = [
                    *[n for n in layer.original_names if n not in user.original_names],
                    *user.original_names,
                ]
            records.append({"layers": [u.name for u in users], "absorbed": list(layer.original_names)})
            network.redirect(layer.name, layer.inputs[0])
            network.remove(layer.name)
        return records
