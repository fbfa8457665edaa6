# SPDX-License-Identifier: Apache-2.0
"""The layers a script may name: those of the network, those that earlier lines make, and names of another compiler."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from headrace.errors import did_you_mean
from headrace.hn import Network

_SHOWN = 12
_MOST_PARTS = 64
_WILDCARDS = frozenset("*?[")
#: Kinds of layers that another compiler puts into its graph and this one does not.
_FOREIGN_KINDS = frozenset(
    [
        "precision_change",
        "precision_splitter",
        "format_conversion",
        "external_pad",
        "portal",
        "l4_portal",
        "ddr",
        "shortcut",
        "cache",
        "postprocess",
        "fused_bbox_decoder",
        "bbox_decoder",
        "proposal_generator",
        "nms",
        "const_input",
    ]
)


def is_pattern(text: str) -> bool:
    """Whether a name holds wild cards."""
    return any(character in text for character in _WILDCARDS)


class LayerNames:
    """Names of one network's layers, as a script may write them.

    HN names come first (with or without the network's name), then names of the source model.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._made: dict[str, int] = {}
        self._added: list[str] = []
        self._originals: dict[str, str] = {}
        self._shorts = {layer.short_name for layer in network}
        for layer in network:
            for original in layer.original_names:
                self._originals.setdefault(original, layer.name)

    @property
    def all(self) -> list[str]:
        """Every HN name, in network order; layers that the script made last."""
        return [*self.network.layers, *self._added]

    def full(self, name: str) -> str:
        """A name with its scope."""
        return name if "/" in name else f"{self.network.name}/{name}"

    def find(self, text: str) -> str | None:
        """The HN name of one layer; None when no layer is called so."""
        if self.full(text) in self._added:
            return self.full(text)
        layer = self.network.named(text)
        return None if layer is None else layer.name

    def matching(self, pattern: str) -> list[str]:
        """HN names that a pattern fits, with or without the network's name, in network order."""
        return [
            name
            for name in self.all
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rsplit("/", 1)[-1], pattern)
        ]

    def add(self, name: str) -> None:
        """A layer that the script makes from here on."""
        self._added.append(self.full(name))
        self._shorts.add(name.rsplit("/", 1)[-1])

    def note_made(self, name: str, line: int) -> None:
        """A name that a line without effect gives to a layer of another compiler."""
        self._made.setdefault(name, line)
        self._shorts.add(name.rsplit("/", 1)[-1])

    def made_at(self, name: str) -> int | None:
        """The line without effect that makes this name."""
        return self._made.get(name)

    def foreign(self, text: str) -> bool:
        """Whether another compiler may have made this name: from a line of the script, from a layer that is there, or
        for a kind of layer that is not known here.
        """
        if text in self._made:
            return True
        parts = text.rsplit("/", 1)[-1].split("_")[:_MOST_PARTS]
        spans = {"_".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, min(i + 4, len(parts)) + 1)}
        if any(span in self._shorts for span in spans):
            return True
        return any(re.sub(r"_?\d+$", "", span) in _FOREIGN_KINDS for span in spans)

    def suggestions(self, text: str) -> list[str]:
        """The names most like ``text``: HN names first, then names of the source model."""
        scoped = "/" in text
        own = [name if scoped else name.rsplit("/", 1)[-1] for name in self.all]
        return list(dict.fromkeys([*did_you_mean(text, own), *did_you_mean(text, self._originals)]))[:3]

    def shown(self) -> str:
        """Some of the layers, for an error."""
        return listed(name.rsplit("/", 1)[-1] for name in self.all)


def listed(names: Iterable[str]) -> str:
    """The first names and how many there are."""
    known = list(names)
    more = f", … ({len(known)} in all)" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more
