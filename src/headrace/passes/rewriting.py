# SPDX-License-Identifier: Apache-2.0
"""A pass: a frozen dataclass whose fields are its options, changing a network in place.

The network is valid (:func:`headrace.layers.check_network`) before and after a pass, not during it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from headrace.errors import HeadraceError
from headrace.hn import Layer, Network, check_network
from headrace.layers import Operation
from headrace.passes.verification import Verification
from headrace.passes.verification import is_on as verification_is_on

#: What a pass says of a change: the layer and, by the pass, ``into``, ``becomes``, ``folded`` …
Facts: TypeAlias = dict[str, str | int | Sequence[str] | Sequence[float]]


@dataclass(frozen=True)
class Pass:
    """Base of all passes; ``name`` is kebab-case."""

    name: ClassVar[str]

    def run(self, network: Network) -> list[Facts]:
        """Rewrite ``network``; returns one plain record per change (layers, what was done)."""
        raise NotImplementedError


def run_passes(network: Network, passes: Sequence[Pass], verify: bool = True) -> list[Facts]:
    """Run passes in order; returns their records, each with the pass's name under ``"pass"``.

    Args:
        network: changed in place.
        passes: run in this order.
        verify: check the network after each pass; always done, with more, under :mod:`headrace.passes.verification`.
    """
    records: list[Facts] = []
    for item in passes:
        try:
            verification = Verification(network, item.name) if verification_is_on() else None
            found = item.run(network)
            if verify or verification is not None:
                check_network(network)
            if verification is not None:
                verification.check(network, len(found))
            records += [{"pass": item.name, **record} for record in found]
        except HeadraceError as error:
            error.add_note(f"in pass {item.name}")
            raise
    return records


def fresh_name(network: Network, operation: Operation | type[Operation]) -> str:
    """The next free ``"<net>/<prefix><index>"`` for an operation, counting from 1."""
    prefix = operation.prefix
    index = 1
    while f"{network.name}/{prefix}{index}" in network.layers:
        index += 1
    return f"{network.name}/{prefix}{index}"


def sole_user(network: Network, name: str) -> Layer | None:
    """The layer that alone reads ``name``, once; ``None`` otherwise."""
    users = network.users(name)
    return users[0] if len(users) == 1 and users[0].inputs.count(name) == 1 else None
