# SPDX-License-Identifier: Apache-2.0
"""Explicit padding with real zero goes into the convolutions that read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.hn import Layer, Network
from headrace.passes.base import Pass


def _widened(user: Layer, before: list[int], after: list[int]) -> list[int] | None:
    """The user's padding with the pad added, or None where that is not the same arithmetic or breaks a rule."""
    if user.kind not in ("conv", "dw"):
        return None
    old = user.attributes.get("padding", [0, 0, 0, 0])
    dilations = user.attributes.get("dilations", [1, 1])
    extents = [(k - 1) * d + 1 for k, d in zip(user.attributes["kernel_shape"][:2], dilations, strict=True)]
    new = [o + p for o, p in zip(old, [*before[:2], *after[:2]], strict=True)]
    return new if all(p < e for p, e in zip(new, [*extents, *extents], strict=True)) else None


@dataclass(frozen=True)
class AbsorbPad(Pass):
    """Absorb ``external_pad`` of height and width into every convolution that reads it, when all its readers can."""

    name: ClassVar[str] = "absorb-pad"

    def run(self, network: Network) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        for layer in network.of_kind("external_pad"):
            before, after = layer.attributes["before"], layer.attributes["after"]
            if len(before) != 3 or before[2] or after[2]:
                continue
            users = network.users(layer.name)
            paddings = [_widened(user, before, after) if user.inputs.count(layer.name) == 1 else None for user in users]
            if not users or any(p is None for p in paddings) or any(u.inputs[0] != layer.name for u in users):
                continue
            for user, padding in zip(users, paddings, strict=True):
                user.attributes["padding"] = padding
                user.original_names = [
                    *[n for n in layer.original_names if n not in user.original_names],
                    *user.original_names,
                ]
            records.append({"layers": [u.name for u in users], "absorbed": list(layer.original_names)})
            network.redirect(layer.name, layer.inputs[0])
            network.remove(layer.name)
        return records
