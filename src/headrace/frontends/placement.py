# SPDX-License-Identifier: Apache-2.0
"""Where each node of a file is computed: on the device, when the file was parsed, on the host, or nowhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from headrace.frontends import audio_front
from headrace.frontends.file_model import FileNode
from headrace.frontends.graph import REFUSED, Reason, SourceGraph, label, marks, name_of
from headrace.frontends.host_steps import WholePart
from headrace.frontends.largest_part import Side
from headrace.frontends.named_part import NamedPart
from headrace.frontends.partition import File, Part
from headrace.hn import Network
from headrace.reports.parse import PlacedNode


def layers_of(network: Network) -> dict[str, str]:
    """Node of the file → the layer that it is part of, the first of several."""
    return {o: layer.name for layer in reversed(list(network)) for o in reversed(layer.original_names)}


def listed(source: SourceGraph) -> tuple[tuple[str, str], ...]:
    """Label and operator of every node of the file, as it calls them.

    Args:
        source: as its reader gave it.
    """
    found: list[tuple[str, str]] = []
    told: dict[str, None] = {}
    for node in source.graph:
        called = label(node)
        several = called in source.operators or called in source.expanded
        if (source.operators and called not in source.operators) or (several and called in told):
            continue  # glue behind an input, or another node of the same operator
        told[called] = None
        own = node.op_type if node.domain in ("", REFUSED) else f"{node.domain}::{node.op_type}"
        found.append((called, source.operators.get(called) or source.expanded.get(called) or own))
    return tuple(found)


def makers_of_tensors(source: SourceGraph) -> dict[str, str]:
    """Tensor of the file → the node that makes it, where their names differ."""
    return {
        name_of(value): label(node)
        for node in source.graph
        for value in node.outputs
        if name_of(value) not in ("", label(node)) and "internal" not in marks(value)
    }


def all_placed(nodes: Sequence[tuple[str, str]], network: Network, removed: Collection[str]) -> tuple[PlacedNode, ...]:
    """A record of every node of a file that is all on the device.

    Args:
        nodes: see :func:`listed`.
        network: what is on the device.
        removed: nodes that no output needs.
    """
    layers, unused = layers_of(network), dict.fromkeys(removed)
    placed: list[PlacedNode] = []
    for node, operator in nodes:
        layer = layers.get(node, "")
        place = "device" if layer else "unused" if node in unused else "folded"
        placed.append(PlacedNode(node=node, operator=operator, place=place, layer=layer))
    return tuple(placed)


def placement(part: Part, network: Network, whole: WholePart) -> tuple[PlacedNode, ...]:
    """A record of every node of a file of which a part is on the device, in its order.

    Args:
        part: what was chosen for the device.
        network: the part, translated.
        whole: the steps.
    """
    layers, collateral = layers_of(network), _collateral(part.file, part)
    return tuple(_placed(part, node, layers, whole, collateral) for node in part.file.nodes)


def _placed(
    part: Part, node: FileNode, layers: Mapping[str, str], whole: WholePart, collateral: Mapping[int, Reason]
) -> PlacedNode:
    file, step = part.file, whole.step_of.get(node.index, 0)
    layer = layers.get(node.label, "")
    if file.free[node.index]:
        place = "unused" if file.unused[node.index] else "folded"
        return PlacedNode(node=node.label, operator=node.operator, place=place, layer=layer, part=step)
    if part.sides[node.index] is Side.INSIDE:
        return PlacedNode(node=node.label, operator=node.operator, place="device", layer=layer)
    if node.index in whole.lost.reasons:
        lost = whole.lost.reasons[node.index]
        return PlacedNode(
            node=node.label, operator=node.operator, place="nowhere", reason=lost.reason, rewrite=lost.rewrite
        )
    why = part.reasons.get(node.index) or collateral.get(node.index, Reason(""))
    return PlacedNode(
        node=node.label, operator=node.operator, place="host", part=step, reason=why.reason, rewrite=why.rewrite
    )


def _collateral(file: File, part: Part) -> dict[int, Reason]:
    """Why nodes are on the host that would translate: what they lead to, or depend on, is there."""
    maker = {name: node.index for node in file.nodes for name in node.makes}
    nearest: dict[int, int] = {index: index for index in part.reasons}
    found: dict[int, Reason] = {}
    for node in file.nodes:
        if part.sides[node.index] is Side.BEHIND and node.index not in nearest:
            cause = _first(nearest, [maker[n] for n in node.reads if n in maker])
            if cause is not None:
                nearest[node.index] = cause
                found[node.index] = Reason(f"it depends on {file.nodes[cause].label!r}, which is on the host")
    leads: dict[int, int] = {index: index for index in part.reasons}
    for node in reversed(file.nodes):
        for name in node.reads:
            made = maker.get(name)
            if made is not None and node.index in leads and made not in leads:
                leads[made] = leads[node.index]
    for node in file.nodes:
        cause = leads.get(node.index)
        if part.sides[node.index] is Side.BEFORE and node.index not in part.reasons and cause is not None:
            found[node.index] = Reason(f"{file.nodes[cause].label!r} depends on it, which is on the host")
    return found


def _first(nearest: Mapping[int, int], makers: Sequence[int]) -> int | None:
    return next((nearest[m] for m in makers if m in nearest), None)


def host_warning(placed: Sequence[PlacedNode], whole: WholePart, named: NamedPart | None = None) -> str:
    """A sentence about what runs on the host, for the report; empty where nothing does.

    Args:
        placed: every node.
        whole: the steps.
        named: the part, where the user named it.
    """
    device = next(i for i, step in enumerate(whole.model.steps, 1) if step is whole.model.device)
    here = [node for node in placed if node.place == "host"]
    sides = {"before": [n for n in here if n.part < device], "behind": [n for n in here if n.part > device]}
    told = [f"{_operators(nodes)} {side} the device" for side, nodes in sides.items() if nodes]
    strict = "--device-only refuses that" if named is None else "--device-only leaves them out"
    if any(node.rewrite == audio_front.LEVER for node in here):  # all of the file may be on the device
        strict = "--device-only keeps all on the device"
    again = "" if named is None else _computed_again(named)
    if not here:
        if again or whole.lost.dead:
            return again
        return "the host gives outputs that do not depend on the device; --device-only refuses that"
    count = sum(node.place in ("device", "host") for node in placed)
    runs = "runs" if len(here) == 1 else "run"
    text = f"{len(here)} of {count} nodes {runs} on the host: {', '.join(told)}; {strict}"
    return f"{text}; {again}" if again else text


def _computed_again(named: NamedPart) -> str:
    """What the host computes although the device does; empty where that is nothing."""
    if not named.again:
        return ""
    count = f"{len(named.again)} node{'s' if len(named.again) > 1 else ''}"
    more = ", ".join(map(repr, named.ends[:_SHOWN])) + (" …" if len(named.ends) > _SHOWN else "")
    return f"the host computes {count} of the network again, for outputs need {more}, which no end node gives"


def unkept(why: str) -> str:
    """What is said where the rest of a file is not kept around the part that was named."""
    return f"the rest of the file is left out, and the whole model is the part that was named: {why}"


_SHOWN = 6


def _operators(nodes: Sequence[PlacedNode]) -> str:
    names = list(dict.fromkeys(node.operator for node in nodes))
    more = f" and {len(names) - _SHOWN} more operators" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


__all__ = ["all_placed", "host_warning", "layers_of", "listed", "makers_of_tensors", "placement", "unkept"]
