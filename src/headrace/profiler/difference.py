# SPDX-License-Identifier: Apache-2.0
"""Two networks beside one another: which layer stands for which, and what changed in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher

from headrace.reports.difference import Change, ComparedSide, DifferenceReport, LayerPair, Match
from headrace.reports.profile import ProfiledLayer, ProfileReport
from headrace.reports.record import Json
from headrace.text import layer_name

#: Unmatched layers of both, multiplied, above which their order is not compared: that takes time with the product.
_MOST_PAIRS = 4_000_000
#: Decibels that differ by less are told apart by no one.
_LEAST_DECIBELS = 0.1

_Facts = Sequence[tuple[str, Callable[[ProfiledLayer], Json]]]


def difference(first: ProfileReport, second: ProfileReport, sources: tuple[str, str]) -> DifferenceReport:
    """What differs between two networks of any state.

    Layers are one where their names (without the network's), kinds and output shapes are; else where they stand for
    the same nodes of the file; else where names and kinds are; else by their place: the longest common run of kinds
    and shapes among those left.

    Args:
        first, second: reports of the networks.
        sources: names of their files.
    """
    pairs = _matched(first.layers, second.layers)
    gone = {id(a) for a, _, _ in pairs}
    there = {id(b) for _, b, _ in pairs}
    listed = [
        LayerPair(first=a.name, second=b.name, matched_by=how, changes=_changes(_LAYER, a, b)) for a, b, how in pairs
    ]
    return DifferenceReport(
        first=_side(first, sources[0]),
        second=_side(second, sources[1]),
        totals=_totals(first, second),
        same=sum(1 for pair in listed if not pair.changes),
        changed=tuple(pair for pair in listed if pair.changes),
        only_first=tuple(layer.name for layer in first.layers if id(layer) not in gone),
        only_second=tuple(layer.name for layer in second.layers if id(layer) not in there),
    )


def _side(report: ProfileReport, source: str) -> ComparedSide:
    return ComparedSide(
        source=source, name=report.name, state=report.state, hw_arch=report.hw_arch, layers=len(report.layers)
    )


# --- which is which ---------------------------------------------------------------------------------------------------

_Pair = tuple[ProfiledLayer, ProfiledLayer, Match]


def _matched(first: Sequence[ProfiledLayer], second: Sequence[ProfiledLayer]) -> list[_Pair]:
    """Pairs in the order of the first."""
    found: dict[int, tuple[ProfiledLayer, Match]] = {}
    left = list(second)

    def pair(key: Callable[[ProfiledLayer], object], how: Match) -> None:
        """Pair what has a key that no other layer of its network has."""
        nonlocal left
        mine = _unique((a for a in first if id(a) not in found), key)
        theirs = _unique(left, key)
        for name, layer in mine.items():
            if name in theirs:
                found[id(layer)] = (theirs[name], how)
        taken = {id(layer) for layer, _ in found.values()}
        left = [layer for layer in left if id(layer) not in taken]

    pair(lambda x: (layer_name(x.name), x.kind, x.output_shape), "name")
    pair(lambda x: (x.original_names, x.kind) if x.original_names else None, "nodes of the file")
    pair(lambda x: (layer_name(x.name), x.kind), "name")
    mine = [layer for layer in first if id(layer) not in found]
    if mine and left and len(mine) * len(left) <= _MOST_PAIRS:
        keys = [[(x.kind, x.output_shape) for x in layers] for layers in (mine, left)]
        for block in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_matching_blocks():
            for step in range(block.size):
                found[id(mine[block.a + step])] = (left[block.b + step], "place in the graph")
    return [(layer, *found[id(layer)]) for layer in first if id(layer) in found]


def _unique(layers: Iterable[ProfiledLayer], key: Callable[[ProfiledLayer], object]) -> dict[object, ProfiledLayer]:
    found: dict[object, list[ProfiledLayer]] = {}
    for layer in layers:
        found.setdefault(key(layer), []).append(layer)
    return {name: those[0] for name, those in found.items() if len(those) == 1 and name is not None}


# --- what changed -----------------------------------------------------------------------------------------------------

_LAYER: _Facts = (
    ("kind", lambda x: x.kind),
    ("input shapes", lambda x: [list(shape) for shape in x.input_shapes]),
    ("output shape", lambda x: list(x.output_shape)),
    ("nodes of the file", lambda x: list(x.original_names)),
    ("multiply-accumulates", lambda x: x.macs),
    ("weights", lambda x: x.weights),
    ("bits", lambda x: None if x.accuracy is None else x.accuracy.scale.bits),
    ("scale", lambda x: None if x.accuracy is None else _numbers(x.accuracy.scale.scale)),
    ("SNR, dB", lambda x: None if x.accuracy is None else x.accuracy.snr_db),
    ("context", lambda x: None if x.schedule is None else x.schedule.context or 0),
    ("cycles", lambda x: None if x.schedule is None else x.schedule.cycles),
    ("sub-clusters", lambda x: None if x.schedule is None else x.schedule.subclusters),
    ("controllers", lambda x: None if x.schedule is None else x.schedule.controllers),
    ("memory units", lambda x: None if x.schedule is None else x.schedule.memory_units),
)


def _numbers(scale: float | tuple[float, ...] | None) -> Json:
    return list(scale) if isinstance(scale, tuple) else scale


def _changes(facts: _Facts, first: ProfiledLayer, second: ProfiledLayer) -> tuple[Change, ...]:
    """Of what both know: a network that is not compiled has no cycles, and that is no change of its layers."""
    values = ((what, of(first), of(second)) for what, of in facts)
    known = ((what, a, b) for what, a, b in values if a is not None and b is not None)
    return tuple(Change(what=what, before=a, after=b) for what, a, b in known if _differ(what, a, b))


def _differ(what: str, before: Json, after: Json) -> bool:
    if what.endswith("dB") and isinstance(before, int | float) and isinstance(after, int | float):
        return abs(before - after) >= _LEAST_DECIBELS
    return before != after


def _totals(first: ProfileReport, second: ProfileReport) -> tuple[Change, ...]:
    rows: dict[str, list[Json]] = {}
    for index, report in enumerate((first, second)):
        for what, value in _figures(report).items():
            rows.setdefault(what, [None, None])[index] = value
    return tuple(Change(what=w, before=a, after=b) for w, (a, b) in rows.items() if _differ(w, a, b))


def _figures(report: ProfileReport) -> dict[str, Json]:
    network, compiled, simulation = report.network, report.compiled, report.simulation
    found: dict[str, Json] = {
        "state": report.state,
        "target": report.hw_arch,
        "layers": network.layers,
        "weights and biases": network.weights,
        "multiply-accumulates": network.macs,
        "operations": network.operations,
    }
    if report.accuracy is not None:
        for name, output in report.accuracy.outputs.items():
            found[f"{layer_name(name)}, SNR, dB"] = output.snr_db
            found[f"{layer_name(name)}, worst part, dB"] = output.worst_snr_db
    if compiled is not None:
        whole = compiled.figures.whole
        found["contexts"] = compiled.figures.contexts
        found["frames per second (closed form)"] = whole.fps
        found["latency, ms (closed form)"] = whole.latency_ms
        found["bottleneck"] = layer_name(whole.bottleneck)
    if simulation is not None:
        found["frames per second (simulated)"] = simulation.timing.fps
        found["latency, ms (simulated)"] = simulation.timing.latency_ms
    return found
