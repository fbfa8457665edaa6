# SPDX-License-Identifier: Apache-2.0
"""Which tensors may have codes of 16 bits: those that nobody multiplies by weights, unless the user asks for it."""

from __future__ import annotations

from headrace.hn import Layer, Network
from headrace.layers import Convolving, Dense, InputLayer

WIDE = 16


def bits_of(layer: Layer) -> int:
    """The bits that a prepared layer's hints ask for."""
    return layer.wish.bits or 8


def reads_wide(layer: Layer) -> bool:
    """Whether a layer can read codes of 16 bits (what reads those it moves is another question)."""
    return layer.operation.reads_wide or layer.operation.passes_codes


def multiplies_wide(layer: Layer) -> bool:
    """Whether a layer can multiply codes of 16 bits by weights: exact sums of 64 bits, which take the device longer."""
    return isinstance(layer.operation, (Convolving, Dense)) and len(layer.inputs) == 1


def cannot_widen(network: Network, names: list[str], asked: bool = False) -> str | None:
    """Why a scale group cannot have 16 bits; ``None`` where it can.

    Args:
        network: prepared network.
        names: of the group's layers.
        asked: the user wants it, whatever it costs.
    """
    members = [network[name] for name in names]
    for layer in members:
        if isinstance(layer.operation, InputLayer):
            return f"its scale is that of the network's input {layer.name!r}"
        for user in network.users(layer.name):
            if not reads_wide(user) and not (asked and multiplies_wide(user)):
                return f"{user.name!r} ({user.kind}) reads it, and reads 8 bits"
    return None


__all__ = ["WIDE", "bits_of", "cannot_widen", "reads_wide"]
