# SPDX-License-Identifier: Apache-2.0
"""What the user asked of single layers, followed through the rewrites to the layers that carry it out."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import Diagnostic, NotBuiltYetError, UsageError
from headrace.hn import Network
from headrace.optimize.options import Clipping, OptimizeOptions, OutputBits
from headrace.optimize.scales import precision
from headrace.optimize.scales.ranges import ScaleGroups

_WILDCARDS = "*?["
_OUTPUTS_ALONE = "quantization_param({output_layer*}, precision_mode=a8_w8_a16) widens the outputs alone"


@dataclass(frozen=True)
class Requests:
    """By layer name, later requests having won over earlier ones.

    Attributes:
        clippings: ranges.
        bits: (number of the request, width of the output and what asked for it).
        left_alone: switch (:attr:`~headrace.optimize.algorithms.algorithm.Algorithm.switch`) → layers that nothing of
            it touches.
    """

    clippings: Mapping[str, Clipping]
    bits: Mapping[str, tuple[int, OutputBits]]
    left_alone: Mapping[str, frozenset[str]]

    @property
    def narrow(self) -> frozenset[str]:
        """Layers whose outputs keep 8 bits."""
        return frozenset(name for name, (_, asked) in self.bits.items() if asked.bits == 8)

    @property
    def not_scaled(self) -> frozenset[str]:
        """Layers that no algorithm rescales: told so, or with a range given in reals."""
        ranges = {name for name, asked in self.clippings.items() if asked.mode == "manual"}
        return self.alone("equalization") | ranges

    def alone(self, switch: str) -> frozenset[str]:
        """Layers that a switch was told to leave alone."""
        return self.left_alone.get(switch, frozenset())

    def moved(self, records: Sequence[Mapping[str, Any]]) -> Requests:
        """The same for the layers that stand for those rewritten.

        Args:
            records: of the preparation passes, in order: ``layer`` went ``into`` another or ``becomes`` several.
        """
        home: dict[str, str] = {}
        for record in records:
            if "into" in record or "becomes" in record:
                # What is split over the inputs of a concatenation is whole behind it.
                new = record.get("concat") or record.get("into") or record["becomes"][-1]
                home = {old: new if place == record["layer"] else place for old, place in home.items()}
                home[record["layer"]] = new

        def place(name: str) -> str:
            return home.get(name, name)

        return Requests(
            {place(name): asked for name, asked in self.clippings.items()},
            {place(name): asked for name, asked in self.bits.items()},
            {key: frozenset(map(place, names)) for key, names in self.left_alone.items()},
        )


def resolve_requests(network: Network, options: OptimizeOptions) -> Requests:
    """Look up every layer that the options name.

    Raises:
        UsageError: a name or a pattern fits no layer.
    """
    clippings = {name: asked for asked in options.clippings for name in layers_named(network, asked.layers)}
    bits = {name: (i, asked) for i, asked in enumerate(options.bits) for name in layers_named(network, asked.layers)}
    alone = {key: frozenset(layers_named(network, names)) for key, names in options.left_alone.items()}
    return Requests(clippings, bits, alone)


def layers_named(network: Network, patterns: Iterable[str]) -> list[str]:
    """The layers that names and patterns fit, each once, in the order they are named.

    Raises:
        UsageError: one fits no layer.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if not any(c in pattern for c in _WILDCARDS):
            found[network.find(pattern).name] = None
            continue
        names = [
            layer.name
            for layer in network
            if fnmatch.fnmatchcase(layer.name, pattern) or fnmatch.fnmatchcase(layer.short_name, pattern)
        ]
        if not names:
            rule, need = "no layer has a name that this pattern fits", "a pattern over the names of layers"
            raise UsageError(Diagnostic("E-HN-UNKNOWN-LAYER", network.name, rule, repr(pattern), need))
        found.update(dict.fromkeys(names))
    return list(found)


def wide_groups(network: Network, groups: ScaleGroups, requests: Requests) -> list[list[str]]:
    """Scale groups that were asked to have 16 bits; the last request that names a member decides.

    Raises:
        NotBuiltYetError: a layer that reads such a tensor, or the tensor's own, works on 8 bits; all of them.
    """
    found: list[list[str]] = []
    problems: list[Diagnostic] = []
    for names in groups.members().values():
        asked = [(*requests.bits[name], name) for name in names if name in requests.bits]
        _, last, name = max(asked, key=lambda item: item[0], default=(0, None, ""))
        if last is None or last.bits == 8:
            continue
        reason = precision.cannot_widen(network, names, asked=True)
        if reason is None:
            found.append(names)
            continue
        rule = f"16 bits for the output of {name!r} are not built yet: {reason}"
        need = (
            "8 bits there; 16 where all that read a tensor move codes, add, multiply or look up single values, "
            "or multiply by weights without a sum beside"
        )
        levers = (_OUTPUTS_ALONE,) if _outputs_can_widen(network, groups) else ()
        problems.append(Diagnostic("E-OPTIMIZE-BITS", last.where, rule, f"{last.bits} bits", need, levers))
    if problems:
        raise NotBuiltYetError(problems)
    return found


def _outputs_can_widen(network: Network, groups: ScaleGroups) -> bool:
    members = groups.members()
    ends = {groups.find(layer.name) for layer in network.output_layers}
    return all(precision.cannot_widen(network, members[root]) is None for root in ends)
