# SPDX-License-Identifier: Apache-2.0
"""Removing many layers at once: users are indexed once, edges and parameters rewritten once, so it stays linear."""

from __future__ import annotations

from headrace.hn import Layer, Network


class Bypasses:
    """Layers with one input that are to be removed, their users reading that input instead.

    The network changes in :meth:`apply`; until then :meth:`source` and :meth:`sole_user` answer as if it had.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._users: dict[str, list[Layer]] = {}
        for layer in network:
            for name in layer.inputs:
                self._users.setdefault(name, []).append(layer)
        self._replaced: dict[str, str] = {}

    def source(self, layer: Layer) -> Layer:
        """The layer whose output ``layer`` reads first."""
        return self._network[self._final(layer.inputs[0])]

    def sole_user(self, name: str) -> Layer | None:
        """The layer that alone reads ``name``, once."""
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 else None

    def bypass(self, layer: Layer) -> None:
        """Mark ``layer`` for removal; its original names go to its source."""
        source = self.source(layer)
        known = set(source.original_names)
        source.original_names += [o for o in layer.original_names if o not in known]
        self._replaced[layer.name] = source.name
        others = [user for user in self._users[source.name] if user is not layer]
        self._users[source.name] = others + self._users.pop(layer.name, [])

    def apply(self) -> None:
        """Remove what was marked."""
        if not self._replaced:
            return
        network = self._network
        for name in reversed(list(network.layers)):  # users come last, so each use moves to its final value at once
            if name in self._replaced:
                network.redirect(name, self._final(name))
        network.remove(*self._replaced)

    def _final(self, name: str) -> str:
        while name in self._replaced:
            name = self._replaced[name]
        return name
